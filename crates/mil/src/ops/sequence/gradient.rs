//! Gradients of running sums, ranges and repeated values.

use super::{CumSum, Fill, FillLike, Range1d};
use crate::grad::{Pullback, lengths};
use crate::ops::{OpError, call};

/// Each element has a part in the sums from itself on: running sums the other way.
pub(super) fn cumsum(row: &CumSum, pullback: &mut Pullback<'_>) -> Result<(), OpError> {
    let dy = pullback.dy()?;
    let sums = call::cumsum(dy).axis(row.axis).exclusive(row.exclusive).reverse(!row.reverse);
    pullback.give(&row.x, sums)
}

/// `yᵢ = start + i · step`; `end` says only how many there are.
pub(super) fn range_1d(row: &Range1d, pullback: &mut Pullback<'_>) -> Result<(), OpError> {
    let dy = pullback.dy()?;
    pullback.give(&row.start, dy)?;
    if !pullback.wants(&row.step) {
        return Ok(());
    }
    let numbers = match pullback.ty(dy)?.shape.to_known().as_deref() {
        Some(&[count]) => pullback.bind(call::range_1d(lengths(&[count])?[0], 0, 1))?,
        _ => pullback.bind(call::range_1d(call::squeeze(call::shape(dy)).axes([0]), 0, 1))?,
    };
    let numbers = pullback.cast(numbers, row.step.dtype())?;
    pullback.give(&row.step, call::mul(dy, numbers))
}

/// The sum over all elements.
pub(super) fn fill(row: &Fill, pullback: &mut Pullback<'_>) -> Result<(), OpError> {
    let dy = pullback.dy()?;
    match &row.value {
        Some(value) => pullback.give(value, dy),
        None => Ok(()),
    }
}

/// As for `fill`; to the tensor whose shape it has, nothing.
pub(super) fn fill_like(row: &FillLike, pullback: &mut Pullback<'_>) -> Result<(), OpError> {
    let dy = pullback.dy()?;
    match &row.value {
        Some(value) => pullback.give(value, dy),
        None => Ok(()),
    }
}
