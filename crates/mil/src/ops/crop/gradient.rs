//! The gradient of patches that are cut out and resized.

use super::{CropResize, Images};
use crate::error::ErrorKind;
use crate::eval::internal;
use crate::grad::{Pullback, lengths};
use crate::ops::taps::SamplingMode;
use crate::ops::{OpError, call};
use crate::program::ValueId;
use crate::tensor::Tensor;
use crate::types::DType;

/// `dx = Σ Aᵀ · dy · B` over the boxes of an image, with the weights `A` of rows and `B` of columns.
///
/// A place weighs the element `p` by `max(0, 1 − |place − p|)`, and none if it lies outside the image.
pub(super) fn crop_resize(row: &CropResize, pullback: &mut Pullback<'_>) -> Result<(), OpError> {
    let (boxes, of) = row.given_boxes()?;
    if pullback.wants(boxes) {
        let message = "no gradient goes to the boxes of a `crop_resize`";
        return Err(OpError::new(ErrorKind::Rule, None, message)
            .with_help("give the boxes as values that do not depend on what is differentiated by"));
    }
    let (dy, dims) = (pullback.dy()?, pullback.dims(&row.x)?);
    let result = pullback.dims_of(dy)?;
    if !pullback.wants(&row.x) || dims.contains(&0) || result.contains(&0) {
        return Ok(());
    }
    let &[images, channels, height, width] = &dims[..] else { return Err(row.wrong_images()) };
    let count = result[0];
    let target = [result[result.len() - 2], result[result.len() - 1]];
    let [rows, columns] = ends(row, [height, width], count, pullback)?;
    let rows = weights(row, rows, target[0], height, pullback)?;
    let columns = weights(row, columns, target[1], width, pullback)?;
    let planes = result[1..result.len() - 2].iter().product();
    let dy = pullback.widen(dy)?;
    let dy = pullback.reshape(dy, &[count, planes, target[0], target[1]])?;
    let rows = pullback.reshape(rows, &[count, 1, target[0], height])?;
    let columns = pullback.reshape(columns, &[count, 1, target[1], width])?;
    let across = pullback.bind(call::matmul(dy, columns))?;
    let patches = pullback.bind(call::matmul(rows, across).transpose_x(true))?;
    let dx = match of {
        Images::Each => pullback.bind(call::reduce_sum(patches).axes([0]))?,
        Images::One | Images::OneOfRoi => {
            let patches = pullback.reshape(patches, &[count, channels * height * width])?;
            let owners = owners(row, of, images, count, pullback)?;
            pullback.bind(call::matmul(owners, patches).transpose_x(true))?
        }
    };
    let dx = pullback.reshape(dx, &dims)?;
    pullback.give(&row.x, dx)
}

/// The numbers of all boxes, one after the other, `[N, 4]` or `[N, 5]` in fp32.
fn numbers(row: &CropResize, count: usize, pullback: &mut Pullback<'_>) -> Result<ValueId, OpError> {
    let (boxes, of) = row.given_boxes()?;
    let per_box = if let Images::OneOfRoi = of { 5 } else { 4 };
    let boxes = pullback.cast(boxes, DType::Fp32)?;
    pullback.reshape(boxes, &[count, per_box])
}

/// Number `at` of each box, `[N, 1]`.
fn column(of: ValueId, at: usize, count: usize, pullback: &mut Pullback<'_>) -> Result<ValueId, OpError> {
    pullback.bind(call::slice_by_size(of, lengths(&[0, at])?, lengths(&[count, 1])?))
}

/// The first and the last row of each box, and the first and last column, `[N, 1]` each, in elements.
fn ends(
    row: &CropResize,
    lengths: [usize; 2],
    count: usize,
    pullback: &mut Pullback<'_>,
) -> Result<[[ValueId; 2]; 2], OpError> {
    let mode = row.box_mode()?;
    let numbers_of = numbers(row, count, pullback)?;
    let first = pullback.dims_of(numbers_of)?[1] - 4;
    let mut end = |at: usize, scale: f64| -> Result<[ValueId; 2], OpError> {
        let mut scaled = |at: usize| -> Result<ValueId, OpError> {
            let number = column(numbers_of, first + at, count, pullback)?;
            if scale == 1.0 { Ok(number) } else { pullback.bind(call::mul(number, scale)) }
        };
        let (a, b) = (scaled(at)?, scaled(at + 2)?);
        if !mode.centered {
            return Ok([a, b]);
        }
        let half = pullback.bind(call::mul(b, 0.5))?;
        Ok([pullback.bind(call::sub(a, half))?, pullback.bind(call::add(a, half))?])
    };
    let [down, across] = row.scales(lengths[0], lengths[1]);
    Ok([end(usize::from(mode.width_first), down)?, end(usize::from(!mode.width_first), across)?])
}

/// How much each of `length` elements has of each of `count` places between the ends, `[N, count, length]`.
fn weights(
    row: &CropResize,
    [start, end]: [ValueId; 2],
    count: usize,
    length: usize,
    pullback: &mut Pullback<'_>,
) -> Result<ValueId, OpError> {
    let mode = SamplingMode::named(&row.sampling_mode)?;
    let shares: Vec<_> = (0..count).map(|i| mode.share(i, count)).collect();
    let constant =
        |dims: &[usize], values: Vec<f64>| Tensor::from_f64(DType::Fp32, dims, &values).map_err(internal);
    let each = |number: fn(&crate::ops::taps::Share) -> f64| {
        constant(&[1, count], shares.iter().map(number).collect())
    };
    let mut span = pullback.bind(call::sub(end, start))?;
    if mode.least_span() {
        span = pullback.bind(call::maximum(span, 1.0))?;
    }
    let part = call::add(call::mul(span, each(|share| share.part)?), each(|share| share.add)?);
    let part = call::sub(call::real_div(part, each(|share| share.of)?), each(|share| share.shift)?);
    let low = pullback.bind(call::minimum(start, end))?;
    let high = pullback.bind(call::maximum(start, end))?;
    let place = call::minimum(call::maximum(call::add(start, part), low), high);
    let place = pullback.bind(place)?;
    let batch = pullback.dims_of(place)?[0];
    let place = pullback.reshape(place, &[batch, count, 1])?;
    let elements = constant(&[1, 1, length], (0..length).map(|p| p as f64).collect())?;
    let near = call::relu(call::sub(1.0, call::abs(call::sub(place, elements))));
    let inside =
        call::logical_and(call::greater_equal(place, 0.0), call::less_equal(place, length as f64 - 1.0));
    pullback.bind(call::mul(near, call::cast(inside, DType::Fp32.name())))
}

/// Which box is of which image: 1 there, and 0 elsewhere, `[N, B]`.
fn owners(
    row: &CropResize,
    of: Images,
    images: usize,
    count: usize,
    pullback: &mut Pullback<'_>,
) -> Result<ValueId, OpError> {
    let indices = match (&row.box_indices, of) {
        (Some(indices), Images::One) => pullback.cast(indices, DType::Fp32)?,
        (_, Images::OneOfRoi) => {
            let numbers = numbers(row, count, pullback)?;
            column(numbers, 0, count, pullback)?
        }
        _ => {
            let own: Vec<f64> = (0..count).map(|n| n as f64).collect();
            pullback.value(Tensor::from_f64(DType::Fp32, &[count, 1], &own).map_err(internal)?)?
        }
    };
    let indices = pullback.reshape(indices, &[count, 1])?;
    let all: Vec<f64> = (0..images).map(|image| image as f64).collect();
    let all = Tensor::from_f64(DType::Fp32, &[1, images], &all).map_err(internal)?;
    let same = call::equal(indices, all);
    pullback.bind(call::cast(same, DType::Fp32.name()))
}
