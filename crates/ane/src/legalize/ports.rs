//! Inputs and outputs: those that are too long become several, and fp32 becomes fp16 where it is cast.

use std::collections::HashSet;

use anemone_mil::builder::FunctionBuilder;
use anemone_mil::ops::{Cast, call};
use anemone_mil::passes::{PassError, Rewritten, Site, Sites, forget_inputs, remove_dead_code, rewrite};
use anemone_mil::program::{FreeNames, Function, ValueId};
use anemone_mil::types::{DType, Dim, Type};
use anemone_mil::verify::Verified;

use super::build::{axis, joined_value};
use super::limits::{Longest, tiles};
use crate::chips::{Chip, Chips};

/// Makes several inputs of one that is too long, which are joined to what it was (R2). They are named after it, with
/// numbers, and stand in its place.
pub(super) fn several_inputs(program: &Verified, chips: Chips) -> Result<Rewritten, PassError> {
    let limits = Longest::of(chips);
    let dialect = program.program().version.dialect();
    rewrite(program, |_, function| {
        let mut changes = Vec::new();
        for input in function.body.inputs.clone() {
            let Type::Tensor(ty) = function.value(input).ty.clone() else { continue };
            let Some(along) = limits.exceeded(&ty) else { continue };
            let length = ty.shape.0[along].known().and_then(|length| usize::try_from(length).ok());
            let Some(lengths) = length.map(tiles) else { continue };
            let name = function.value(input).name.clone();
            let (outputs, first) = (function.body.outputs.clone(), function.body.ops.first().copied());
            let mut inputs = function.body.inputs.clone();
            let taken = std::mem::replace(function, Function::new("", function.opset));
            let mut build = FunctionBuilder::resume(taken, program.program().version);
            build.insert_before(first);
            let parts: Vec<ValueId> = lengths
                .iter()
                .enumerate()
                .map(|(part, &length)| {
                    let mut ty = ty.clone();
                    ty.shape.0[along] = Dim::Known(u64::try_from(length).unwrap_or(0));
                    build.input(&format!("{name}_{part}"), ty)
                })
                .collect();
            let joined = call::concat(parts.clone(), axis(along)).interleave(false);
            let joined = build.bind(&name, joined)?;
            *function = build.finish(outputs);
            let at = inputs.iter().position(|&id| id == input).unwrap_or(inputs.len());
            inputs.splice(at..=at, parts);
            function.body.inputs = inputs;
            function.replace_uses(input, joined);
            let giver = function.walk().find(|(_, op)| op.results.contains(&joined)).map(|(id, _)| id);
            if let Some(giver) = giver {
                function.rename_result(giver, joined, name.clone(), dialect);
            }
            forget_inputs(function, &HashSet::from([name.clone()]));
            changes.push(format!("the input `{name}` became {} (R2)", lengths.len()));
        }
        Ok(changes)
    })
}

/// Gives the parts of an output that is too long and was joined from them, named after it, with numbers (R2, R16).
pub(super) fn several_outputs(program: &Verified, chips: Chips) -> Result<Rewritten, PassError> {
    let limits = Longest::of(chips);
    let dialect = program.program().version.dialect();
    rewrite(program, |index, function| {
        let sites = Sites::of(program, index);
        let mut names = FreeNames::of(function);
        let mut changes = Vec::new();
        for output in function.body.outputs.clone() {
            let Some(ty) = function.value(output).ty.as_tensor() else { continue };
            let Some(parts) = joined_value(&sites, output) else { continue };
            let taken = parts.values.iter().any(|part| function.body.outputs.contains(part));
            if !limits.exceeded_at(&ty.shape, parts.axis) || taken {
                continue;
            }
            let name = function.value(output).name.clone();
            for (position, &part) in parts.values.iter().enumerate() {
                let wanted = format!("{name}_{position}");
                let giver = function.walk().find(|(_, op)| op.results.contains(&part)).map(|(id, _)| id);
                if let Some(giver) = giver.filter(|_| function.value(part).name != wanted) {
                    function.rename_result(giver, part, names.free(&wanted), dialect);
                }
            }
            let all = function.body.outputs.iter().flat_map(|&id| match id == output {
                true => parts.values.clone(),
                false => vec![id],
            });
            function.body.outputs = all.collect();
            changes.push(format!("the output `{name}` became {} (R2, R16)", parts.values.len()));
        }
        if !changes.is_empty() {
            remove_dead_code(function);
        }
        Ok(changes)
    })
}

/// Takes and gives fp16 where fp32 is cast to it first thing, or from it last (R15, R43): the host converts.
pub(super) fn half_ports(program: &Verified, chips: Chips) -> Result<Rewritten, PassError> {
    let dialect = program.program().version.dialect();
    // Others take casts at the border.
    let wanted = !chips.and(Chips::of(&[Chip::M1, Chip::M2, Chip::M5])).is_empty();
    rewrite(program, |index, function| {
        if !wanted {
            return Ok(Vec::new());
        }
        let sites = Sites::of(program, index);
        let mut changes = Vec::new();
        for input in function.body.inputs.clone() {
            let Some(casts) = casts_to_half(&sites, input) else { continue };
            let name = function.value(input).name.clone();
            if let Type::Tensor(ty) = &mut function.values[input.index()].ty {
                ty.dtype = DType::Fp16;
            }
            casts.into_iter().for_each(|cast| function.replace_uses(cast, input));
            changes.push(format!("the input `{name}` became fp16 (R15, R43)"));
        }
        for position in 0..function.body.outputs.len() {
            let output = function.body.outputs[position];
            let Some(half) = cast_from_half(&sites, output) else { continue };
            let giver = function.walk().find(|(_, op)| op.results.contains(&half)).map(|(id, _)| id);
            let (Some(giver), false) = (giver, function.body.outputs.contains(&half)) else { continue };
            let name = function.value(output).name.clone();
            function.body.outputs[position] = half;
            remove_dead_code(function);
            function.rename_result(giver, half, name.clone(), dialect);
            changes.push(format!("the output `{name}` became fp16 (R15, R43)"));
        }
        if !changes.is_empty() {
            remove_dead_code(function);
        }
        Ok(changes)
    })
}

/// What an fp32 input is cast to, if all that reads it casts it to fp16.
fn casts_to_half(sites: &Sites<'_>, input: ValueId) -> Option<Vec<ValueId>> {
    let (first, site) = (sites.readers(input).next()?, |site: Site<'_>| {
        let row = site.bound::<Cast>().filter(|row| row.dtype == "fp16" && row.x.dtype() == DType::Fp32)?;
        let result = site.op().results.first().copied()?;
        // An output keeps its name, which the input has not.
        (row.x.id == Some(input) && !site.is_yielded(result)).then_some(result)
    });
    if first.is_yielded(input) {
        return None;
    }
    sites.readers(input).map(site).collect()
}

/// The fp16 value that an fp32 output is cast from, if nothing else reads the output.
fn cast_from_half(sites: &Sites<'_>, output: ValueId) -> Option<ValueId> {
    let site = sites.giver(output)?;
    let row = site.bound::<Cast>().filter(|row| row.dtype == "fp32" && row.x.dtype() == DType::Fp16)?;
    let only_here = site.readers(output).next().is_none();
    row.x.id.filter(|_| only_here)
}
