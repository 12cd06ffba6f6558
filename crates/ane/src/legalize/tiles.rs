//! Values that are too long: what reads joined tiles computes tile by tile.

use anemone_mil::builder::{AnyCall, BuildError, FunctionBuilder, Input};
use anemone_mil::ops::{Operand, ReduceMax, ReduceMin, ReduceSum, Reshape, Softmax, Split, Transpose, call};
use anemone_mil::passes::{PassError, Rewritten, Site, replace_ops};
use anemone_mil::program::{Argument, ValueId};
use anemone_mil::types::Shape;
use anemone_mil::verify::{Verified, count};

use super::build::{Joined, Replacement, axis, combine, cut, dims, join, joined, position, sum};
use super::limits::Longest;
use crate::chips::Chips;

/// Computes with the tiles of a value that is too long where it was joined from such (R1, R2).
pub(super) fn tiles_onward(program: &Verified, chips: Chips) -> Result<Rewritten, PassError> {
    let limits = Longest::of(chips);
    let replace = |site: Site<'_>, build: &mut FunctionBuilder| {
        let Some(tiles) = read_tiles(site, &limits) else { return Ok(None) };
        if let Some(row) = site.bound::<Split>() {
            return Ok(split_again(site, &row, &tiles));
        }
        if let Some(row) = site.bound::<Softmax>() {
            return softmax(site, build, &row, &tiles);
        }
        if let Some((axes, keep)) = reduced(site) {
            return reduction(site, build, &tiles, axes, keep);
        }
        let Some((along, lengths)) = result_tiles(site, &tiles) else { return Ok(None) };
        let parts = each(site, build, &tiles, along, &lengths)?;
        parts.map(|parts| Ok(vec![join(build, site.name(), parts, along)?])).transpose()
    };
    replace_ops(program, replace, |number| format!("{} computed tile by tile (R1, R2)", count(number, "op")))
}

/// The tiles of an operand that is too long.
fn read_tiles(site: Site<'_>, limits: &Longest) -> Option<Joined> {
    site.op().reads().find_map(|value| {
        let ty = site.ty_of(value)?;
        joined(site, value).filter(|joined| limits.exceeded_at(&ty.shape, joined.axis))
    })
}

/// What a `split` gives that cuts in the places where tiles were joined.
fn split_again(site: Site<'_>, row: &Split, tiles: &Joined) -> Option<Vec<ValueId>> {
    let along = position(row.axis, row.x.rank())?;
    let lengths: Option<Vec<i32>> = site
        .op()
        .results
        .iter()
        .map(|&result| i32::try_from(site.ty_of(result)?.shape.0.get(along)?.known()?).ok())
        .collect();
    // An output keeps its name, which a tile has not.
    let yielded = site.op().results.iter().any(|&result| site.is_yielded(result));
    (!yielded && tiles.are(along, &lengths?)).then(|| tiles.values.clone())
}

/// `softmax` along the axis of the tiles, from the largest and the sums of each; along another, of each.
fn softmax(site: Site<'_>, build: &mut FunctionBuilder, row: &Softmax, tiles: &Joined) -> Replacement {
    let name = site.name();
    let Some(along) = position(row.axis, row.x.rank()) else { return Ok(None) };
    if along != tiles.axis {
        let parts =
            tiles.values.iter().enumerate().map(|(part, &tile)| {
                build.bind(&format!("{name}_{part}"), call::softmax(tile).axis(row.axis))
            });
        let parts: Vec<ValueId> = parts.collect::<Result<_, _>>()?;
        return Ok(Some(vec![join(build, name, parts, tiles.axis)?]));
    }
    let over = vec![axis(along)];
    let largest = |build: &mut FunctionBuilder, tile: ValueId| {
        build.bind(&format!("{name}_max"), call::reduce_max(tile).axes(over.clone()).keep_dims(true))
    };
    let most: Vec<ValueId> =
        tiles.values.iter().map(|&tile| largest(build, tile)).collect::<Result<_, _>>()?;
    let most = combine(build, &format!("{name}_largest"), most, |build, name, x, y| {
        build.bind(name, call::maximum(x, y))
    })?;
    let Some(most) = most else { return Ok(None) };
    // A power of two keeps the sum of as many ones within the range of fp16.
    let length: i64 = tiles.lengths.iter().map(|&length| i64::from(length)).sum();
    let scale = (0..).map(|n| 0.5f64.powi(n)).find(|scale| length as f64 * scale < 32768.0).unwrap_or(1.0);
    let (mut exps, mut sums) = (Vec::new(), Vec::new());
    for &tile in &tiles.values {
        let exp = build.bind(&format!("{name}_exp"), call::exp(call::sub(tile, most)))?;
        let sum = call::reduce_sum(exp).axes(over.clone()).keep_dims(true);
        sums.push(build.bind(&format!("{name}_sum"), call::mul(sum, scale))?);
        exps.push(exp);
    }
    let Some(total) = sum(build, &format!("{name}_total"), sums)? else { return Ok(None) };
    let parts = exps.into_iter().enumerate().map(|(part, exp)| {
        build.bind(&format!("{name}_{part}"), call::mul(call::real_div(exp, total), scale))
    });
    let parts: Vec<ValueId> = parts.collect::<Result<_, _>>()?;
    Ok(Some(vec![join(build, name, parts, along)?]))
}

/// The axes of a reduction that can be done tile by tile, and whether it keeps them.
fn reduced(site: Site<'_>) -> Option<(Option<Vec<i32>>, bool)> {
    let sum = site.bound::<ReduceSum>().map(|row| (row.axes, row.keep_dims));
    let max = || site.bound::<ReduceMax>().map(|row| (row.axes, row.keep_dims));
    let min = || site.bound::<ReduceMin>().map(|row| (row.axes, row.keep_dims));
    sum.or_else(max).or_else(min)
}

/// A reduction of each tile, combined where it is along their axis, else joined.
fn reduction(
    site: Site<'_>,
    build: &mut FunctionBuilder,
    tiles: &Joined,
    axes: Option<Vec<i32>>,
    keep: bool,
) -> Replacement {
    let Some(x) = site.values("x").next().and_then(|x| site.ty_of(x)) else { return Ok(None) };
    let (name, rank) = (site.name(), x.shape.rank());
    let all: Vec<i32> = (0..rank).map(axis).collect();
    let Some(axes) =
        axes.unwrap_or(all).into_iter().map(|axis| position(axis, rank)).collect::<Option<Vec<_>>>()
    else {
        return Ok(None);
    };
    let over: Vec<i32> = axes.iter().map(|&position| axis(position)).collect();
    let (is_sum, is_max) = (site.bound::<ReduceSum>().is_some(), site.bound::<ReduceMax>().is_some());
    let mut parts = Vec::with_capacity(tiles.values.len());
    for (part, &tile) in tiles.values.iter().enumerate() {
        let call: AnyCall = match (is_sum, is_max) {
            (true, _) => call::reduce_sum(tile).axes(over.clone()).keep_dims(keep).into(),
            (_, true) => call::reduce_max(tile).axes(over.clone()).keep_dims(keep).into(),
            _ => call::reduce_min(tile).axes(over.clone()).keep_dims(keep).into(),
        };
        parts.push(build.bind(&format!("{name}_{part}"), call)?);
    }
    if !axes.contains(&tiles.axis) {
        let gone = axes.iter().filter(|&&position| !keep && position < tiles.axis).count();
        return Ok(Some(vec![join(build, name, parts, tiles.axis - gone)?]));
    }
    let combined = combine(build, name, parts, |build, name, x, y| match (is_sum, is_max) {
        (true, _) => build.bind(name, call::add(x, y)),
        (_, true) => build.bind(name, call::maximum(x, y)),
        _ => build.bind(name, call::minimum(x, y)),
    })?;
    Ok(combined.map(|combined| vec![combined]))
}

/// The axis of the result of an op along which it computes tile by tile, and the tiles' lengths.
fn result_tiles(site: Site<'_>, tiles: &Joined) -> Option<(usize, Vec<i32>)> {
    let result = site.ty()?;
    let length: i32 = tiles.lengths.iter().sum();
    let whole = |along: usize| result.shape.0.get(along)?.known().filter(|&known| known == length as u64);
    if let Some(row) = site.bound::<Transpose>() {
        let of = |&from: &i32| position(from, row.perm.len()) == Some(tiles.axis);
        return Some((row.perm.iter().position(of)?, tiles.lengths.clone()));
    }
    if let Some(row) = site.bound::<Reshape>() {
        let before = |shape: &Shape, axis: usize| {
            shape.0[..axis].iter().try_fold(1u64, |product, dim| product.checked_mul(dim.known()?))
        };
        let outer = before(row.x.shape(), tiles.axis)?;
        let along = (0..result.shape.rank())
            .find(|&along| before(&result.shape, along) == Some(outer) && whole(along).is_some())?;
        return Some((along, tiles.lengths.clone()));
    }
    if !site.row()?.elementwise || site.op().results.len() != 1 {
        return None;
    }
    let from_end = operand_rank(site, tiles)?.checked_sub(tiles.axis)?;
    let along = result.shape.rank().checked_sub(from_end)?;
    whole(along)?;
    Some((along, tiles.lengths.clone()))
}

/// The rank of the operand that the tiles are of.
fn operand_rank(site: Site<'_>, tiles: &Joined) -> Option<usize> {
    let first = tiles.values.first()?;
    site.ty_of(*first).map(|ty| ty.shape.rank())
}

/// The op once for each tile.
fn each(
    site: Site<'_>,
    build: &mut FunctionBuilder,
    tiles: &Joined,
    along: usize,
    lengths: &[i32],
) -> Result<Option<Vec<ValueId>>, BuildError> {
    let name = |part: usize| format!("{}_{part}", site.name());
    if let Some(row) = site.bound::<Transpose>() {
        let tiles = tiles.values.iter().enumerate();
        let each =
            tiles.map(|(part, &tile)| build.bind(&name(part), call::transpose(tile, row.perm.clone())));
        return each.collect::<Result<_, _>>().map(Some);
    }
    if site.bound::<Reshape>().is_some() {
        let Some(shape) = site.ty().and_then(|ty| dims(&ty)) else { return Ok(None) };
        let tiles = tiles.values.iter().zip(lengths).enumerate();
        let each = tiles.map(|(part, (&tile, &length))| {
            let mut shape = shape.clone();
            shape[along] = length;
            build.bind(&name(part), call::reshape(tile, shape))
        });
        return each.collect::<Result<_, _>>().map(Some);
    }
    let (Some(row), Some(result)) = (site.row(), site.ty()) else { return Ok(None) };
    let from_end = result.shape.rank() - along;
    let mut operands = Vec::new();
    for (parameter, argument) in site.op().arguments.iter() {
        let (Argument::Value(value), Some(parameter)) = (argument, row.parameter(parameter)) else {
            return Ok(None);
        };
        operands.push((parameter.name, tiles_of(site, build, *value, from_end, lengths)?));
    }
    let each = (0..lengths.len()).map(|tile| {
        let inputs = operands
            .iter()
            .map(|(parameter, values)| (*parameter, Input::Value(values[tile.min(values.len() - 1)])));
        build.bind(&name(tile), AnyCall::named(row.name, inputs))
    });
    each.collect::<Result<_, _>>().map(Some)
}

/// An operand of an elementwise op for each tile; only one, where it is the same for all.
fn tiles_of(
    site: Site<'_>,
    build: &mut FunctionBuilder,
    value: ValueId,
    from_end: usize,
    lengths: &[i32],
) -> Result<Vec<ValueId>, BuildError> {
    let Some(operand) = build.operand(value) else { return Ok(vec![value]) };
    let along = operand.rank().checked_sub(from_end);
    match along {
        Some(along) if operand.shape().0[along].known() != Some(1) => {
            let base = site.function().value(value).name.clone();
            cut(site, build, &base, &Operand { id: Some(value), ..operand }, along, lengths)
        }
        _ => Ok(vec![value]),
    }
}
