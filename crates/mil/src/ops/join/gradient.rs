//! Gradients of joining and parting, which are each other's.

use super::{Concat, Split, Stack};
use crate::builder::Tuple;
use crate::grad::{Pullback, lengths};
use crate::ops::{OpError, Operand, call};
use crate::program::ValueId;

/// Gives each value its part of the gradient, under the value's own shape.
fn give_parts(values: &[Operand], parts: &[ValueId], pullback: &mut Pullback<'_>) -> Result<(), OpError> {
    for (value, &part) in values.iter().zip(parts) {
        if pullback.wants(value) {
            let dims = pullback.dims(value)?;
            let part = pullback.reshape(part, &dims)?;
            pullback.give(value, part)?;
        }
    }
    Ok(())
}

pub(super) fn concat(row: &Concat, pullback: &mut Pullback<'_>) -> Result<(), OpError> {
    let (dy, axis) = (pullback.dy()?, row.position()?);
    if row.values.len() == 1 {
        return give_parts(&row.values, &[dy], pullback);
    }
    if row.interleave {
        return interleaved(row, dy, axis, pullback);
    }
    let along = |value: &Operand| Ok(pullback.dims(value)?.get(axis).copied().unwrap_or(1));
    let sizes = row.values.iter().map(along).collect::<Result<Vec<usize>, OpError>>()?;
    let split = call::split(dy, axis as i32).split_sizes(lengths(&sizes)?);
    let parts = pullback.bind_all(sizes.len(), split)?;
    give_parts(&row.values, &parts, pullback)
}

/// Of each value, every so-many-th element along the axis.
fn interleaved(row: &Concat, dy: ValueId, axis: usize, pullback: &mut Pullback<'_>) -> Result<(), OpError> {
    let rank = pullback.ty(dy)?.shape.rank();
    let mut stride = vec![1; rank];
    stride[axis] = row.values.len();
    for (number, value) in
        row.values.iter().enumerate().filter(|(_, value)| pullback.wants(value)).collect::<Vec<_>>()
    {
        let mut begin = vec![0; rank];
        begin[axis] = number;
        let part = call::slice_by_index(dy, lengths(&begin)?, vec![0; rank]);
        let part = pullback.bind(part.stride(lengths(&stride)?).end_mask(vec![true; rank]))?;
        give_parts(std::slice::from_ref(value), &[part], pullback)?;
    }
    Ok(())
}

pub(super) fn split(row: &Split, pullback: &mut Pullback<'_>) -> Result<(), OpError> {
    let parts = (0..pullback.results()).map(|number| pullback.d(number)).collect::<Result<Vec<_>, _>>()?;
    pullback.give(&row.x, call::concat(Tuple::from(parts), row.axis))
}

pub(super) fn stack(row: &Stack, pullback: &mut Pullback<'_>) -> Result<(), OpError> {
    let dy = pullback.dy()?;
    if row.values.len() == 1 {
        return give_parts(&row.values, &[dy], pullback);
    }
    let count = row.values.len();
    let parts = pullback.bind_all(count, call::split(dy, row.axis).num_splits(lengths(&[count])?[0]))?;
    give_parts(&row.values, &parts, pullback)
}
