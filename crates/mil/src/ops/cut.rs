//! Which elements of each dimension a slice takes.

use crate::ops::copy::{self, Run};
use crate::ops::rules::strides;
use crate::ops::{OpError, Operand, movement};
use crate::types::Dim;

/// What one dimension of a slice takes of a dimension of `x`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    /// The first element, once it is known.
    pub start: Option<i64>,
    /// From one element to the next.
    pub step: i64,
    /// How many elements.
    pub length: Dim,
    /// Whether the dimension vanishes from the result.
    pub squeezed: bool,
}

/// The elements of a tensor of shape `from` that cuts take; they have the dimensions `dims`.
pub(super) fn window(cuts: &[Cut], from: &[usize], dims: &[usize]) -> impl Iterator<Item = Run> + use<> {
    let (mut start, mut steps) = (0, vec![0; dims.len()]);
    if !dims.contains(&0) {
        let mut kept = 0;
        for (cut, stride) in cuts.iter().zip(strides(from)) {
            start += cut.start.unwrap_or(0) as isize * stride as isize;
            if !cut.squeezed {
                // A step past the dimension is never taken, and might not fit.
                let one = cut.length == Dim::Known(1);
                steps[kept] = if one { 0 } else { cut.step as isize * stride as isize };
                kept += 1;
            }
        }
    }
    copy::window(dims, start, &steps)
}

/// What a slice by indices asks for.
pub(super) struct Slicing<'a> {
    /// What is sliced.
    pub x: &'a Operand,
    /// Where the slice begins in each dimension.
    pub begin: &'a Operand,
    /// Where it ends.
    pub end: &'a Operand,
    /// From one element to the next.
    pub stride: Option<&'a [i32]>,
    /// Where it begins with the dimension.
    pub begin_mask: Option<&'a [bool]>,
    /// Where it ends with the dimension.
    pub end_mask: Option<&'a [bool]>,
    /// Where it is one element, and the dimension vanishes.
    pub squeeze_mask: Option<&'a [bool]>,
}

impl Slicing<'_> {
    /// The dimensions of the slice.
    pub(super) fn dims(&self) -> Result<Vec<Dim>, OpError> {
        Ok(self.cuts()?.into_iter().filter(|cut| !cut.squeezed).map(|cut| cut.length).collect())
    }

    /// What to take along each dimension.
    pub(super) fn cuts(&self) -> Result<Vec<Cut>, OpError> {
        let rank = self.x.rank();
        movement::check_rank("x", rank)?;
        let begin = movement::integers("begin", self.begin, Some(rank))?;
        let end = movement::integers("end", self.end, Some(rank))?;
        check_entries("stride", self.stride.map(<[i32]>::len), rank)?;
        let masks = [
            ("begin_mask", self.begin_mask),
            ("end_mask", self.end_mask),
            ("squeeze_mask", self.squeeze_mask),
        ];
        for (name, mask) in masks {
            check_entries(name, mask.map(<[bool]>::len), rank)?;
        }
        let masked = |mask: Option<&[bool]>, i: usize| mask.is_some_and(|mask| mask[i]);
        let bound = |values: &Option<Vec<i64>>, mask, i: usize| match values {
            _ if masked(mask, i) => Bound::Open,
            Some(values) => Bound::At(values[i]),
            None => Bound::Later,
        };
        let cut = |i| {
            let begin = bound(&begin, self.begin_mask, i);
            if masked(self.squeeze_mask, i) {
                return single_element(i, self.x.shape().0[i], begin);
            }
            let step = self.stride.map_or(1, |stride| i64::from(stride[i]));
            range(i, self.x.shape().0[i], begin, bound(&end, self.end_mask, i), step)
        };
        (0..rank).map(cut).collect()
    }
}

fn check_entries(parameter: &str, found: Option<usize>, rank: usize) -> Result<(), OpError> {
    match found {
        Some(found) if found != rank => Err(movement::wrong_length(parameter, rank, Dim::from(found))),
        _ => Ok(()),
    }
}

/// Where a slice begins or ends.
#[derive(Clone, Copy)]
enum Bound {
    /// With the dimension.
    Open,
    /// At an index; negative ones count from the end.
    At(i64),
    /// At an index that only the run knows.
    Later,
}

/// The cut of a squeezed dimension.
fn single_element(dimension: usize, length: Dim, begin: Bound) -> Result<Cut, OpError> {
    let start = match (begin, length) {
        (Bound::Open, _) => Some(0),
        (Bound::At(at), Dim::Known(length)) => {
            let length = movement::length("x", length)?;
            let start = if at < 0 { at + length } else { at };
            if !(0..length).contains(&start) {
                return Err(OpError::rule("begin", format!("dimension {dimension} has {length} elements"))
                    .found(format!("there is none at {at}")));
            }
            Some(start)
        }
        (Bound::At(_) | Bound::Later, _) => None,
    };
    if length == Dim::Known(0) {
        let message = format!("dimension {dimension} has no element to take");
        return Err(OpError::rule("squeeze_mask", message));
    }
    Ok(Cut { start, step: 1, length: Dim::Known(1), squeezed: true })
}

/// The cut of one dimension.
fn range(dimension: usize, length: Dim, begin: Bound, end: Bound, step: i64) -> Result<Cut, OpError> {
    if step == 0 {
        return Err(OpError::rule("stride", "must not be 0").found(format!("in dimension {dimension}")));
    }
    if let Some(distance) = plain_distance(begin, end, step)
        && distance < 0
    {
        return Err(OpError::rule(
            "end",
            format!("the slice of dimension {dimension} ends before it begins"),
        ));
    }
    let Dim::Known(length) = length else {
        return Ok(Cut { start: None, step, length: length_in_any(begin, end, step), squeezed: false });
    };
    let length = movement::length("x", length)?;
    let resolve = |parameter: &str, bound: Bound, open: i64| match bound {
        Bound::Open => Ok(Some(open)),
        Bound::Later => Ok(None),
        // An index before the first element: coremltools' type rule takes it for the first, NumPy for the
        // place before it, which differ when walking backwards.
        Bound::At(at) if step < 0 && at < -length => {
            Err(OpError::rule(parameter, format!("dimension {dimension} has {length} elements"))
                .found(format!("there is none at {at}"))
                .with_help("to begin or end with the dimension, set the mask"))
        }
        Bound::At(at) => {
            let at = if at < 0 { at + length } else { at };
            Ok(Some(if step > 0 { at.clamp(0, length) } else { at.min(length - 1) }))
        }
    };
    let (first, past) = if step > 0 { (0, length) } else { (length - 1, -1) };
    let (start, stop) = (resolve("begin", begin, first)?, resolve("end", end, past)?);
    let (Some(start), Some(stop)) = (start, stop) else {
        return Ok(Cut { start: None, step, length: Dim::Unknown, squeezed: false });
    };
    let distance = if step > 0 { stop - start } else { start - stop };
    let count = distance.max(0).unsigned_abs().div_ceil(step.unsigned_abs());
    Ok(Cut { start: Some(start), step, length: Dim::Known(count), squeezed: false })
}

/// From `begin` to `end` the way `step` goes, where both count from the end of the dimension that the slice
/// starts from, so that its length plays no part.
fn plain_distance(begin: Bound, end: Bound, step: i64) -> Option<i64> {
    match (begin, end) {
        (Bound::At(begin @ 0..), Bound::At(end @ 0..)) if step > 0 => Some(end - begin),
        (Bound::At(begin @ ..0), Bound::At(end @ ..0)) if step < 0 => Some(begin - end),
        _ => None,
    }
}

/// What a slice takes of a dimension of any length, where that does not depend on the length. As in
/// coremltools, that its one element exists is left to the run.
fn length_in_any(begin: Bound, end: Bound, step: i64) -> Dim {
    match (begin, end) {
        (Bound::At(-1), Bound::Open) if step > 0 => Dim::Known(1),
        (Bound::At(0), Bound::Open) if step < 0 => Dim::Known(1),
        _ => match plain_distance(begin, end, step) {
            Some(0) => Dim::Known(0),
            Some(distance) if distance <= step.abs() => Dim::Known(1),
            _ => Dim::Unknown,
        },
    }
}
