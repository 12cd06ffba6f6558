//! Slices of the last axis.

use anemone_mil::builder::FunctionBuilder;
use anemone_mil::ops::{Operand, SliceByIndex, SliceBySize, call};
use anemone_mil::passes::{PassError, Rewritten, Site, replace_ops};
use anemone_mil::verify::{Verified, count};

use super::build::{Replacement, axis};
use crate::chips::Chips;

/// Slices along another axis, between two transposes, where a slice does not begin at 0 of the last one (R29).
pub(super) fn slices(program: &Verified, _: Chips) -> Result<Rewritten, PassError> {
    let replace = |site: Site<'_>, build: &mut FunctionBuilder| {
        if let Some(row) = site.bound::<SliceByIndex>() {
            return by_index(site, build, &row);
        }
        match site.bound::<SliceBySize>() {
            Some(row) => by_size(site, build, &row),
            None => Ok(None),
        }
    };
    replace_ops(program, replace, |number| {
        format!("{} of the last axis made along another (R29)", count(number, "slice"))
    })
}

/// The highest rank that `transpose` takes on every chip (R45).
const HIGHEST_RANK: usize = 4;

/// The order of the axes in which another one, of which the slice begins at 0, stands last; `None` where the slice of the
/// last axis begins at 0, or no other does. It is its own inverse.
fn order(x: &Operand, begins: &[i64]) -> Option<Vec<usize>> {
    let last = x.rank().checked_sub(1)?;
    if x.rank() > HIGHEST_RANK || begins.len() != x.rank() || begins[last] == 0 {
        return None;
    }
    let other = begins.iter().rposition(|&begin| begin == 0)?;
    let mut order: Vec<usize> = (0..=last).collect();
    order.swap(other, last);
    Some(order)
}

/// Items in an order of axes.
fn ordered<T: Copy>(items: &[T], order: &[usize]) -> Vec<T> {
    order.iter().filter_map(|&axis| items.get(axis).copied()).collect()
}

fn integers(operand: &Operand) -> Option<Vec<i64>> {
    operand.known_integers().filter(|values| values.iter().all(|&value| i32::try_from(value).is_ok()))
}

fn narrow(values: &[i64], order: &[usize]) -> Vec<i32> {
    ordered(values, order).into_iter().map(|value| value as i32).collect()
}

fn by_index(site: Site<'_>, build: &mut FunctionBuilder, row: &SliceByIndex) -> Replacement {
    let (Some(begin), Some(end)) = (integers(&row.begin), integers(&row.end)) else { return Ok(None) };
    let squeezes = row.squeeze_mask.iter().flatten().any(|&squeezed| squeezed);
    let backwards = row.stride.iter().flatten().any(|&stride| stride < 1);
    let masked = |axis: usize| row.begin_mask.as_ref().and_then(|mask| mask.get(axis)) == Some(&true);
    let begins: Vec<i64> =
        begin.iter().enumerate().map(|(axis, &begin)| if masked(axis) { 0 } else { begin }).collect();
    let Some(order) = order(&row.x, &begins).filter(|_| !squeezes && !backwards) else { return Ok(None) };
    let perm: Vec<i32> = order.iter().map(|&position| axis(position)).collect();
    let name = site.name();
    let turned = build.bind(&format!("{name}_turned"), call::transpose(&row.x, perm.clone()))?;
    let mut slice = call::slice_by_index(turned, narrow(&begin, &order), narrow(&end, &order));
    if let Some(stride) = &row.stride {
        slice = slice.stride(ordered(stride, &order));
    }
    if let Some(mask) = &row.begin_mask {
        slice = slice.begin_mask(ordered(mask, &order));
    }
    if let Some(mask) = &row.end_mask {
        slice = slice.end_mask(ordered(mask, &order));
    }
    let slice = build.bind(&format!("{name}_slice"), slice)?;
    Ok(Some(vec![build.bind(name, call::transpose(slice, perm))?]))
}

fn by_size(site: Site<'_>, build: &mut FunctionBuilder, row: &SliceBySize) -> Replacement {
    let (Some(begin), Some(size)) = (integers(&row.begin), integers(&row.size)) else { return Ok(None) };
    let Some(order) = order(&row.x, &begin) else { return Ok(None) };
    let perm: Vec<i32> = order.iter().map(|&position| axis(position)).collect();
    let name = site.name();
    let turned = build.bind(&format!("{name}_turned"), call::transpose(&row.x, perm.clone()))?;
    let slice = call::slice_by_size(turned, narrow(&begin, &order), narrow(&size, &order));
    let slice = build.bind(&format!("{name}_slice"), slice)?;
    Ok(Some(vec![build.bind(name, call::transpose(slice, perm))?]))
}
