//! Gradients of slices: what was cut out goes back into zeros.

use super::{SliceByIndex, SliceBySize, SliceUpdate, sized_cuts};
use crate::error::ErrorKind;
use crate::grad::{Pullback, lengths};
use crate::ops::cut::Cut;
use crate::ops::{OpError, Operand, call};
use crate::program::ValueId;

pub(super) fn by_index(row: &SliceByIndex, pullback: &mut Pullback<'_>) -> Result<(), OpError> {
    give_back(&row.x, &row.begin, &row.slicing().cuts()?, pullback)
}

pub(super) fn by_size(row: &SliceBySize, pullback: &mut Pullback<'_>) -> Result<(), OpError> {
    give_back(&row.x, &row.begin, &sized_cuts(&row.x, &row.begin, &row.size)?, pullback)
}

/// What is replaced has no part in the result, and the update has that of the slice.
pub(super) fn update(row: &SliceUpdate, pullback: &mut Pullback<'_>) -> Result<(), OpError> {
    let dy = pullback.dy()?;
    let (begin, end) = (pullback.int32(&row.begin)?, pullback.int32(&row.end)?);
    if pullback.wants(&row.update) {
        let mut slice = call::slice_by_index(dy, begin.clone(), end.clone());
        if let Some(stride) = &row.stride {
            slice = slice.stride(stride.clone());
        }
        if let Some(mask) = &row.begin_mask {
            slice = slice.begin_mask(mask.clone());
        }
        if let Some(mask) = &row.end_mask {
            slice = slice.end_mask(mask.clone());
        }
        if let Some(mask) = &row.squeeze_mask {
            slice = slice.squeeze_mask(mask.clone());
        }
        pullback.give(&row.update, slice)?;
    }
    if pullback.wants(&row.x) {
        let dims = pullback.dims(&row.update)?;
        let zeros = pullback.zeros(row.x.dtype(), &dims)?;
        let mut cleared = call::slice_update(dy, zeros, begin, end);
        if let Some(stride) = &row.stride {
            cleared = cleared.stride(stride.clone());
        }
        if let Some(mask) = &row.begin_mask {
            cleared = cleared.begin_mask(mask.clone());
        }
        if let Some(mask) = &row.end_mask {
            cleared = cleared.end_mask(mask.clone());
        }
        if let Some(mask) = &row.squeeze_mask {
            cleared = cleared.squeeze_mask(mask.clone());
        }
        pullback.give(&row.x, cleared)?;
    }
    Ok(())
}

/// Gives `x` zeros that hold the gradient where the cuts took elements.
fn give_back(x: &Operand, begin: &Operand, cuts: &[Cut], pullback: &mut Pullback<'_>) -> Result<(), OpError> {
    if !pullback.wants(x) {
        return Ok(());
    }
    let (dy, mut dims) = (pullback.dy()?, pullback.dims(x)?);
    let taken: Option<Vec<usize>> =
        cuts.iter().map(|cut| usize::try_from(cut.length.known()?).ok()).collect();
    let taken = taken.ok_or_else(|| {
        let message = "the lengths of the slice must be known";
        OpError::new(ErrorKind::NotConstant, None, message).with_help("settle the types of the inputs first")
    })?;
    if taken.contains(&0) {
        return Ok(());
    }
    let whole = std::mem::replace(&mut dims, taken.clone());
    let mut dx = pullback.reshape(dy, &taken)?;
    let backwards = |cut: &&(usize, &Cut)| cut.1.step < 0 && dims[cut.0] > 1;
    let reversed: Vec<usize> =
        cuts.iter().enumerate().filter(|cut| backwards(&cut)).map(|cut| cut.0).collect();
    if !reversed.is_empty() {
        dx = pullback.bind(call::reverse(dx).axes(lengths(&reversed)?))?;
    }
    // Neighbours are padded, all dimensions at once; others are scattered.
    let mut pads = Vec::with_capacity(2 * dims.len());
    let mut scattered = Vec::new();
    for (axis, cut) in cuts.iter().enumerate() {
        let (length, step) = (dims[axis], cut.step.unsigned_abs() as usize);
        let first = cut.start.map(|start| match cut.step < 0 {
            true => start as usize - (length - 1) * step,
            false => start as usize,
        });
        match first {
            Some(first) if length == 1 || step == 1 => {
                pads.extend([first, whole[axis] - first - length]);
                continue;
            }
            Some(first) => {
                let places: Vec<usize> = (0..length).map(|i| first + i * step).collect();
                scattered.push((axis, pullback.value(lengths(&places)?)?));
            }
            None => scattered.push((axis, places(begin, axis, whole[axis], length, pullback)?)),
        }
        pads.extend([0, 0]);
    }
    for (axis, places) in scattered {
        dims[axis] = whole[axis];
        let zeros = pullback.zeros(x.dtype(), &dims)?;
        dx = pullback.bind(call::scatter(zeros, places, dx).axis(axis as i32).mode("add"))?;
    }
    if pads.iter().any(|&pad| pad > 0) {
        dx = pullback.bind(call::pad(dx, lengths(&pads)?).mode("constant").constant_val(0.0))?;
    }
    pullback.give(x, dx)
}

/// The places along an axis of `whole` elements that a slice takes whose begin only the run knows.
fn places(
    begin: &Operand,
    axis: usize,
    whole: usize,
    length: usize,
    pullback: &mut Pullback<'_>,
) -> Result<ValueId, OpError> {
    let begin = pullback.int32(begin)?;
    let first = pullback.bind(call::slice_by_size(begin, lengths(&[axis])?, [1]))?;
    let first = pullback.wrapped(first, whole)?;
    let steps = lengths(&(0..length).collect::<Vec<_>>())?;
    pullback.bind(call::add(first, steps))
}
