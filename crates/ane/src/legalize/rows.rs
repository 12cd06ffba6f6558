//! Inputs and outputs whose last axis is no multiple of what a surface's row holds.

use std::collections::HashSet;

use anemone_mil::builder::FunctionBuilder;
use anemone_mil::ops::{self, Reshape, call};
use anemone_mil::passes::{PassError, Rewritten, Site, forget_inputs, replace_ops, rewrite};
use anemone_mil::program::{Argument, Function, ValueId};
use anemone_mil::types::{Shape, TensorType, Type};
use anemone_mil::verify::{Verified, count};

use super::build::dims;
use super::endings::end_with;
use super::limits::Longest;
use crate::chips::Chips;

/// What the last axis is a multiple of (R11).
const MULTIPLE: i32 = 16;

/// Folds the last axes of inputs and outputs into one that is a multiple of 16, with as many axes of length 1 in front
/// (R11): `[64, 32, 1, 1]` goes in as `[1, 1, 64, 32]`. The elements stay in their order, so that whoever runs the
/// program hands over the same bytes.
pub(super) fn full_rows(program: &Verified, chips: Chips) -> Result<Rewritten, PassError> {
    let limits = Longest::of(chips);
    let version = program.program().version;
    rewrite(program, |_, function| {
        let mut changes = Vec::new();
        for input in function.body.inputs.clone() {
            let Some((before, after)) = shapes(function, input, &limits) else { continue };
            let name = function.value(input).name.clone();
            if function.body.outputs.contains(&input) {
                continue;
            }
            let (outputs, first) = (function.body.outputs.clone(), function.body.ops.first().copied());
            if let Type::Tensor(ty) = &mut function.values[input.index()].ty {
                ty.shape = shape(&after);
            }
            let taken = std::mem::replace(function, Function::new("", function.opset));
            let mut build = FunctionBuilder::resume(taken, version);
            build.insert_before(first);
            let whole = build.bind(&format!("{name}_whole"), call::reshape(input, before))?;
            *function = build.finish(outputs);
            let reshape = function.walk().find(|(_, op)| op.results.contains(&whole)).map(|(id, _)| id);
            function.replace_uses(input, whole);
            if let Some(op) = reshape.and_then(|id| function.ops.get_mut(id.index())) {
                op.arguments.insert("x", Argument::Value(input));
            }
            forget_inputs(function, &HashSet::from([name.clone()]));
            changes.push(format!("the input `{name}` became {after:?} (R11)"));
        }
        for position in 0..function.body.outputs.len() {
            let output = function.body.outputs[position];
            let Some((_, after)) = shapes(function, output, &limits) else { continue };
            if function.body.inputs.contains(&output) {
                continue;
            }
            let said = format!("{after:?}");
            let name =
                end_with(function, position, "whole", version, |value| call::reshape(value, after).into())?;
            changes.push(format!("the output `{name}` became {said} (R11)"));
        }
        Ok(changes)
    })
}

fn shape(dims: &[i32]) -> Shape {
    let dims: Vec<usize> = dims.iter().map(|&dim| usize::try_from(dim).unwrap_or(0)).collect();
    Shape::known(&dims)
}

/// The dimensions of a value whose last axis is no multiple, and those that it has with axes folded; `None` for a value
/// that no `reshape` of the function's opset takes.
fn shapes(function: &Function, value: ValueId, limits: &Longest) -> Option<(Vec<i32>, Vec<i32>)> {
    let Type::Tensor(ty) = &function.value(value).ty else { return None };
    let reshape = ops::lookup("reshape", function.opset)?;
    if !reshape.parameter("x").and_then(|x| reshape.domain(x))?.contains(ty.dtype) {
        return None;
    }
    let before = dims(ty)?;
    let after = folded(&before, limits.spatial)?;
    let exceeds = limits.exceeded(&TensorType { dtype: ty.dtype, shape: shape(&after) }).is_some();
    (!exceeds).then_some((before, after))
}

/// The dimensions with the fewest last ones folded that make a multiple; `None` where the last one is, or none does. What
/// is longer than `most` is cut into rows.
fn folded(dims: &[i32], most: u64) -> Option<Vec<i32>> {
    if dims.last()? % MULTIPLE == 0 || dims.contains(&0) {
        return None;
    }
    let mut product = 1i32;
    for (count, &dim) in dims.iter().rev().enumerate() {
        product = product.checked_mul(dim)?;
        if product % MULTIPLE == 0 {
            let rest = dims[..dims.len() - count - 1].to_vec();
            let row = row(product, most)?;
            return Some(match product / row {
                1 => [vec![1; count], rest, vec![row]].concat(),
                // The last dimension was no multiple, so there is one more.
                rows => [vec![1; count - 1], rest, vec![rows, row]].concat(),
            });
        }
    }
    None
}

/// The longest row of at most `most` elements that this many are cut into, a multiple of 16.
fn row(elements: i32, most: u64) -> Option<i32> {
    let fits = |rows: &i32| {
        elements % (rows * MULTIPLE) == 0 && u64::try_from(elements / rows).is_ok_and(|row| row <= most)
    };
    (1..=elements / MULTIPLE).find(fits).map(|rows| elements / rows)
}

/// Makes a reshape of a reshape at once, as of an input whose axes are folded (R11), or of a value of too many (R6).
pub(super) fn reshapes(program: &Verified, _: Chips) -> Result<Rewritten, PassError> {
    let replace = |site: Site<'_>, build: &mut FunctionBuilder| {
        let row = site.bound::<Reshape>();
        let before = row.and_then(|row| site.giver(row.x.id?)?.bound::<Reshape>());
        match (before, site.ty().and_then(|ty| dims(&ty))) {
            (Some(before), Some(shape)) => {
                Ok(Some(vec![build.bind(site.name(), call::reshape(&before.x, shape))?]))
            }
            _ => Ok(None),
        }
    };
    replace_ops(program, replace, |number| {
        format!("{} of what was reshaped made at once (R6, R11)", count(number, "reshape"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fewest_axes_are_folded() {
        let folded = |dims: &[i32]| folded(dims, 16384);
        assert_eq!(folded(&[64, 32, 1, 1]), Some(vec![1, 1, 64, 32]));
        assert_eq!(folded(&[3, 4, 4]), Some(vec![1, 3, 16]));
        assert_eq!(folded(&[16, 3]), Some(vec![1, 48]));
        assert_eq!(folded(&[3, 32]), None);
        assert_eq!(folded(&[3, 5]), None);
        assert_eq!(folded(&[]), None);
        assert_eq!(folded(&[0, 16, 1]), None);
        // 344 is no multiple of 16, and 128 · 344 too long for a row.
        assert_eq!(folded(&[128, 344, 1, 1]), Some(vec![1, 1, 4, 11008]));
        assert_eq!(folded(&[16, 1, 16411]), Some(vec![1, 16411, 16]));
    }
}
