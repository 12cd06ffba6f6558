//! Gradients of `tile` and `pad`: what was repeated adds.

use super::{Pad, Padding, Tile, amounts};
use crate::error::ErrorKind;
use crate::grad::{Pullback, lengths};
use crate::ops::{OpError, call};
use crate::program::ValueId;

pub(super) fn tile(row: &Tile, pullback: &mut Pullback<'_>) -> Result<(), OpError> {
    if !pullback.wants(&row.x) {
        return Ok(());
    }
    let (dims, dy) = (pullback.dims(&row.x)?, pullback.dy()?);
    let repeated = pullback.dims_of(dy)?;
    if dims.contains(&0) {
        return Ok(());
    }
    // A dimension that is repeated is two: how often, and what is repeated.
    let (mut parts, mut axes) = (Vec::new(), Vec::new());
    for (&length, &repeated) in dims.iter().zip(&repeated) {
        if repeated > length {
            axes.push(parts.len());
            parts.push(repeated / length);
        }
        parts.push(length);
    }
    if axes.is_empty() {
        return pullback.give(&row.x, dy);
    }
    let parts = pullback.reshape(dy, &parts)?;
    pullback.give(&row.x, call::reduce_sum(parts).axes(lengths(&axes)?).keep_dims(false))
}

/// Cuts the padding off; of a constant, it is summed for the constant; of `reflect` and `replicate`, it is added to what it
/// repeats, dimension by dimension.
pub(super) fn pad(row: &Pad, pullback: &mut Pullback<'_>) -> Result<(), OpError> {
    let amounts = amounts(row)?
        .ok_or_else(|| OpError::new(ErrorKind::NotConstant, Some("pad"), "must be known for the gradient"))?;
    let (dims, mut dx) = (pullback.dims(&row.x)?, pullback.dy()?);
    let padding = Padding::named(&row.mode)?;
    if padding == Padding::Constant {
        return constant(row, &amounts, &dims, pullback);
    }
    if dims.contains(&0) {
        return Ok(());
    }
    let mut left = pullback.dims_of(dx)?;
    for (axis, &(before, after)) in amounts.iter().enumerate() {
        let edges = Edges { axis, before: before as usize, length: dims[axis], after: after as usize };
        dx = edges.folded(dx, &left, padding, pullback)?;
        left[axis] = dims[axis];
    }
    pullback.give(&row.x, dx)
}

fn constant(
    row: &Pad,
    amounts: &[(u64, u64)],
    dims: &[usize],
    pullback: &mut Pullback<'_>,
) -> Result<(), OpError> {
    let dy = pullback.dy()?;
    let begin: Vec<usize> = amounts.iter().map(|&(before, _)| before as usize).collect();
    let inside = match dims {
        [] => dy,
        _ => pullback.bind(call::slice_by_size(dy, lengths(&begin)?, lengths(dims)?))?,
    };
    pullback.give(&row.x, inside)?;
    if let Some(value) = row.constant_val.as_ref().filter(|value| pullback.wants(value))
        && amounts.iter().any(|&amount| amount != (0, 0))
    {
        let pads: Vec<usize> =
            amounts.iter().flat_map(|&(before, after)| [before as usize, after as usize]).collect();
        let inside = pullback.bind(call::pad(inside, lengths(&pads)?).mode("constant").constant_val(0.0))?;
        pullback.give(value, call::sub(dy, inside))?;
    }
    Ok(())
}

/// The padding of one dimension.
struct Edges {
    axis: usize,
    before: usize,
    length: usize,
    after: usize,
}

impl Edges {
    /// A gradient of the dimensions `dims` without the padding of this one, which is added to what it repeats.
    fn folded(
        &self,
        dy: ValueId,
        dims: &[usize],
        padding: Padding,
        pullback: &mut Pullback<'_>,
    ) -> Result<ValueId, OpError> {
        let mut dx = self.part(dy, dims, self.before, self.length, pullback)?;
        for (count, from, before) in [(self.before, 0, true), (self.after, self.before + self.length, false)]
        {
            if count == 0 {
                continue;
            }
            let mut edge = self.part(dy, dims, from, count, pullback)?;
            let axis = lengths(&[self.axis])?;
            // Where the elements that the padding repeats begin, and how many they are.
            let (start, repeated) = match padding {
                Padding::Reflect if before => (1, count),
                Padding::Reflect => (self.length - 1 - count, count),
                _ if before => (0, 1),
                _ => (self.length - 1, 1),
            };
            edge = match padding {
                Padding::Reflect => pullback.bind(call::reverse(edge).axes(axis))?,
                _ => pullback.bind(call::reduce_sum(edge).axes(axis).keep_dims(true))?,
            };
            let mut pads = vec![0; 2 * dims.len()];
            pads[2 * self.axis] = start;
            pads[2 * self.axis + 1] = self.length - start - repeated;
            if repeated < self.length {
                edge = pullback.bind(call::pad(edge, lengths(&pads)?).mode("constant").constant_val(0.0))?;
            }
            dx = pullback.bind(call::add(dx, edge))?;
        }
        Ok(dx)
    }

    /// So many elements from a place on along the dimension.
    fn part(
        &self,
        dy: ValueId,
        dims: &[usize],
        from: usize,
        count: usize,
        pullback: &mut Pullback<'_>,
    ) -> Result<ValueId, OpError> {
        if count == dims[self.axis] {
            return Ok(dy);
        }
        let (mut begin, mut size) = (vec![0; dims.len()], dims.to_vec());
        (begin[self.axis], size[self.axis]) = (from, count);
        pullback.bind(call::slice_by_size(dy, lengths(&begin)?, lengths(&size)?))
    }
}
