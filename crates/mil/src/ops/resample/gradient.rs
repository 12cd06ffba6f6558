//! Gradients of images read at places: to the images, what their elements had of each place; to the coordinates, the
//! slope of the image there.

use super::{Affine, Padding, Resample, Sampling};
use crate::builder::Tuple;
use crate::eval::internal;
use crate::grad::{Pullback, lengths};
use crate::ops::{OpError, Operand, call};
use crate::program::ValueId;
use crate::tensor::Tensor;
use crate::types::DType;

pub(super) fn resample(row: &Resample, pullback: &mut Pullback<'_>) -> Result<(), OpError> {
    let coordinates = &row.coordinates;
    let dims = pullback.dims(coordinates)?;
    let image = Image::of(&row.x, row.sampling()?, dims[1] * dims[2], pullback)?;
    if image.is_empty() {
        return Ok(());
    }
    let places = pullback.cast(coordinates, DType::Fp32)?;
    let places = pullback.reshape(places, &[dims[0], image.count, 2])?;
    let wanted = pullback.wants(coordinates);
    let Some(slopes) = image.give_back(&row.x, places, wanted, pullback)? else { return Ok(()) };
    let slopes = pullback.reshape(slopes, &dims)?;
    pullback.give(coordinates, slopes)
}

/// The coordinates are `G · Mᵀ` with the grid `G [count, 3]` and the matrices `M [B, 2, 3]`, so `dM = dcᵀ · G`.
pub(super) fn affine(row: &Affine, pullback: &mut Pullback<'_>) -> Result<(), OpError> {
    let (matrix, dy) = (&row.transform_matrix, pullback.dy()?);
    let (dims, of) = (pullback.dims_of(dy)?, pullback.dims(matrix)?);
    let image = Image::of(&row.x, row.sampling()?, dims[2] * dims[3], pullback)?;
    if image.is_empty() {
        return Ok(());
    }
    let grid: Vec<f64> = row.grid(dims[2], dims[3]).flatten().collect();
    let grid = pullback.value(Tensor::from_f64(DType::Fp32, &[image.count, 3], &grid).map_err(internal)?)?;
    let matrices = pullback.cast(matrix, DType::Fp32)?;
    let matrices = pullback.reshape(matrices, &[of[0], 2, 3])?;
    let places = pullback.bind(call::matmul(grid, matrices).transpose_y(true))?;
    let places = pullback.broadcast(places, &[dims[0], image.count, 2])?;
    let wanted = pullback.wants(matrix);
    let Some(slopes) = image.give_back(&row.x, places, wanted, pullback)? else { return Ok(()) };
    let turned = pullback.bind(call::matmul(slopes, grid).transpose_x(true))?;
    let turned = pullback.reshape(turned, &[dims[0], 6])?;
    if of[0] == dims[0] {
        return pullback.give(matrix, turned);
    }
    let sum = call::reduce_sum(turned).axes([0]).keep_dims(true);
    pullback.give(matrix, sum)
}

/// Images that are read at so many places each.
struct Image {
    sampling: Sampling,
    /// `[B, C, H, W]`.
    dims: [usize; 4],
    count: usize,
}

/// An element at each place along a dimension; all values are `[B, 1, count]`.
struct Tap {
    /// Which it is, kept within the dimension.
    index: ValueId,
    /// Its weight; `None` for 1.
    weight: Option<ValueId>,
    /// 1 where there is such an element, and 0 elsewhere; `None` where there always is.
    inside: Option<ValueId>,
}

/// What the places are along a dimension.
struct Along {
    taps: Vec<Tap>,
    /// The derivatives of the places by the coordinates, `[B, 1, count]`.
    slope: ValueId,
}

/// 1 where a value is between 0 and `last`, and 0 elsewhere.
fn within(x: ValueId, last: f64, pullback: &mut Pullback<'_>) -> Result<ValueId, OpError> {
    let inside = call::logical_and(call::greater_equal(x, 0.0), call::less_equal(x, last));
    pullback.bind(call::cast(inside, DType::Fp32.name()))
}

/// The product of factors of which some are 1.
fn product(factors: &[Option<ValueId>], pullback: &mut Pullback<'_>) -> Result<Option<ValueId>, OpError> {
    let mut all: Option<ValueId> = None;
    for &factor in factors.iter().flatten() {
        all = Some(match all {
            Some(product) => pullback.bind(call::mul(product, factor))?,
            None => factor,
        });
    }
    Ok(all)
}

impl Image {
    fn of(x: &Operand, sampling: Sampling, count: usize, pullback: &Pullback<'_>) -> Result<Image, OpError> {
        match pullback.dims(x)?[..] {
            [batch, channels, height, width] => {
                Ok(Image { sampling, dims: [batch, channels, height, width], count })
            }
            _ => Err(super::wrong_images(x)),
        }
    }

    fn is_empty(&self) -> bool {
        self.count == 0 || self.dims.contains(&0)
    }

    /// Gives the images `x` their gradient, for `coordinates [B, count, 2]`; the gradient by these, where it is wanted.
    fn give_back(
        &self,
        x: &Operand,
        coordinates: ValueId,
        wanted: bool,
        pullback: &mut Pullback<'_>,
    ) -> Result<Option<ValueId>, OpError> {
        let [batch, channels, height, width] = self.dims;
        let dy = pullback.dy()?;
        let dy = pullback.widen(dy)?;
        let dy = pullback.reshape(dy, &[batch, channels, self.count])?;
        let columns = self.along(coordinates, 0, width, pullback)?;
        let rows = self.along(coordinates, 1, height, pullback)?;
        if pullback.wants(x) {
            let mut dx = pullback.zeros(DType::Fp32, &[batch, channels, height * width])?;
            for row in &rows.taps {
                for column in &columns.taps {
                    let factors = [row.weight, column.weight, row.inside, column.inside];
                    let update = match product(&factors, pullback)? {
                        Some(weight) => pullback.bind(call::mul(dy, weight))?,
                        None => dy,
                    };
                    let at = self.positions(row, column, pullback)?;
                    dx = pullback.bind(call::scatter_along_axis(dx, at, update).axis(2).mode("add"))?;
                }
            }
            let dx = pullback.reshape(dx, &self.dims)?;
            pullback.give(x, dx)?;
        }
        // The nearest element stays the nearest.
        if !wanted || self.sampling.nearest {
            return Ok(None);
        }
        self.slopes(x, dy, &rows, &columns, pullback).map(Some)
    }

    /// Where the coordinates lie along a dimension; `at` says which of the two they are.
    fn along(
        &self,
        coordinates: ValueId,
        at: usize,
        length: usize,
        pullback: &mut Pullback<'_>,
    ) -> Result<Along, OpError> {
        let (batch, count) = (self.dims[0], self.count);
        let own = call::slice_by_size(coordinates, lengths(&[0, 0, at])?, lengths(&[batch, count, 1])?);
        let own = pullback.reshape(own, &[batch, 1, count])?;
        let (place, slope) = self.placed(own, length, pullback)?;
        let low = match self.sampling.nearest {
            true => pullback.bind(call::round(place))?,
            false => pullback.bind(call::floor(place))?,
        };
        let mut taps = Vec::new();
        let parts = match self.sampling.nearest {
            true => vec![(low, None)],
            false => {
                let part = pullback.bind(call::sub(place, low))?;
                let rest = pullback.bind(call::sub(1.0, part))?;
                vec![(low, Some(rest)), (pullback.bind(call::add(low, 1.0))?, Some(part))]
            }
        };
        let last = length as f64 - 1.0;
        for (element, weight) in parts {
            let inside = match self.sampling.padding {
                Padding::Constant(_) => Some(within(element, last, pullback)?),
                _ => None,
            };
            let index = call::cast(call::clip(element, 0.0, last), DType::Int32.name());
            taps.push(Tap { index: pullback.bind(index)?, weight, inside });
        }
        Ok(Along { taps, slope })
    }

    /// The places of coordinates along a dimension, and their derivatives.
    fn placed(
        &self,
        coordinate: ValueId,
        length: usize,
        pullback: &mut Pullback<'_>,
    ) -> Result<(ValueId, ValueId), OpError> {
        let (scale, shift) = self.sampling.linear(length);
        let mut place = pullback.bind(call::add(call::mul(coordinate, scale), shift))?;
        let ones = Tensor::from_f64(DType::Fp32, &[], &[scale]).map_err(internal)?;
        let mut slope = pullback.filled(&[self.dims[0], 1, self.count], ones)?;
        if let Some((distance, first)) = self.sampling.mirrors(length) {
            if distance == 0.0 {
                let nowhere = pullback.bind(call::mul(place, 0.0))?;
                return Ok((nowhere, nowhere));
            }
            let from_first = pullback.bind(call::sub(place, first))?;
            let far = pullback.bind(call::abs(from_first))?;
            let turns = call::floor(call::mul(far, 0.5 / distance));
            let back = call::sub(call::sub(far, call::mul(turns, 2.0 * distance)), distance);
            let back = pullback.bind(back)?;
            place = pullback.bind(call::sub(distance + first, call::abs(back)))?;
            // A place moves with its coordinate, or against it.
            let turned = call::mul(call::sign(from_first), call::sign(back));
            slope = pullback.bind(call::mul(slope, call::mul(turned, -1.0)))?;
        }
        if let Padding::Constant(_) = self.sampling.padding {
            return Ok((place, slope));
        }
        let last = length as f64 - 1.0;
        let inside = within(place, last, pullback)?;
        let slope = pullback.bind(call::mul(slope, inside))?;
        Ok((pullback.bind(call::clip(place, 0.0, last))?, slope))
    }

    /// Where the elements of two taps lie in a channel, for each channel: `[B, C, count]`.
    fn positions(&self, row: &Tap, column: &Tap, pullback: &mut Pullback<'_>) -> Result<ValueId, OpError> {
        let [batch, channels, _, width] = self.dims;
        let row_start = call::mul(row.index, lengths(&[width])?[0]);
        let at = pullback.bind(call::add(row_start, column.index))?;
        pullback.broadcast(at, &[batch, channels, self.count])
    }

    /// What the channels have at two taps, `[B, C, count]`.
    fn elements(
        &self,
        x: ValueId,
        row: &Tap,
        column: &Tap,
        pullback: &mut Pullback<'_>,
    ) -> Result<ValueId, OpError> {
        let at = self.positions(row, column, pullback)?;
        let elements = pullback.bind(call::gather_along_axis(x, at).axis(2))?;
        let (Padding::Constant(outside), Some(inside)) =
            (self.sampling.padding, product(&[row.inside, column.inside], pullback)?)
        else {
            return Ok(elements);
        };
        let elements = pullback.bind(call::mul(elements, inside))?;
        if outside == 0.0 {
            return Ok(elements);
        }
        let added = call::mul(call::sub(1.0, inside), outside);
        pullback.bind(call::add(elements, added))
    }

    /// The gradient by the coordinates, `[B, count, 2]`: along each dimension the difference of the two elements, weighted
    /// as along the other, times the slope of the place.
    fn slopes(
        &self,
        x: &Operand,
        dy: ValueId,
        rows: &Along,
        columns: &Along,
        pullback: &mut Pullback<'_>,
    ) -> Result<ValueId, OpError> {
        let [batch, channels, height, width] = self.dims;
        let x = pullback.cast(x, DType::Fp32)?;
        let x = pullback.reshape(x, &[batch, channels, height * width])?;
        let mut corners = Vec::new();
        for row in &rows.taps {
            for column in &columns.taps {
                corners.push(self.elements(x, row, column, pullback)?);
            }
        }
        let mut slope = |far: [usize; 2], near: [usize; 2], other: &Along, own: &Along| {
            let mut sum: Option<ValueId> = None;
            for ((far, near), tap) in far.into_iter().zip(near).zip(&other.taps) {
                let difference = pullback.bind(call::sub(corners[far], corners[near]))?;
                let part = match tap.weight {
                    Some(weight) => pullback.bind(call::mul(difference, weight))?,
                    None => difference,
                };
                sum = Some(match sum {
                    Some(sum) => pullback.bind(call::add(sum, part))?,
                    None => part,
                });
            }
            let Some(sum) = sum else { return pullback.zeros(DType::Fp32, &[batch, self.count, 1]) };
            let all = call::reduce_sum(call::mul(dy, sum)).axes([1]).keep_dims(true);
            let all = pullback.bind(call::mul(all, own.slope))?;
            pullback.reshape(all, &[batch, self.count, 1])
        };
        let across = slope([1, 3], [0, 2], rows, columns)?;
        let down = slope([2, 3], [0, 1], columns, rows)?;
        pullback.bind(call::concat(Tuple::from(vec![across, down]), 2))
    }
}
