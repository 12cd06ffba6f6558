//! Outputs that a chip takes only where something computes them.

use std::collections::HashSet;

use anemone_mil::builder::{AnyCall, BuildError, FunctionBuilder};
use anemone_mil::ops::call;
use anemone_mil::passes::{PassError, Rewritten, rewrite};
use anemone_mil::program::{FreeNames, Function, ValueId, Version};
use anemone_mil::types::Type;
use anemone_mil::verify::{CONST, Verified};

use crate::chips::{Chip, Chips};
use crate::rules::does_nothing_but_move;

/// Multiplies by 1 what is returned without having been computed: inputs (R47), and what a function gives that does
/// nothing but move (R26). An input that is returned has another name then, as the output is another value.
pub(super) fn computed_outputs(program: &Verified, chips: Chips) -> Result<Rewritten, PassError> {
    let on = |chip: Chip| !chips.and(chip.into()).is_empty();
    let version = program.program().version;
    rewrite(program, |_, function| {
        let mut changes = Vec::new();
        if on(Chip::M5) {
            let inputs: HashSet<ValueId> = function.body.inputs.iter().copied().collect();
            for position in 0..function.body.outputs.len() {
                let output = function.body.outputs[position];
                if !inputs.contains(&output) || !is_float(function, output) {
                    continue;
                }
                let name = function.value(output).name.clone();
                let copy = append(function, &format!("{name}_out"), call::mul(output, 1.0).into(), version)?;
                function.body.outputs[position] = copy;
                let copy = &function.value(copy).name;
                changes.push(format!("the output `{name}`, which is an input, became `{copy}` (R47)"));
            }
        }
        // Neither an input nor a constant, of which a product would be folded again.
        let moves = |output: &ValueId| {
            let ops = function.body.ops.iter().map(|&id| function.op(id));
            ops.filter(|op| op.name != CONST).any(|op| op.results.contains(output))
        };
        let moved =
            function.body.outputs.iter().position(|output| is_float(function, *output) && moves(output));
        if let Some(position) = moved.filter(|_| on(Chip::M3) && does_nothing_but_move(function)) {
            let name = end_with(function, position, "moved", version, |value| call::mul(value, 1.0).into())?;
            changes.push(format!("`{name}`, which was only moved, is multiplied by 1 (R26)"));
        }
        Ok(changes)
    })
}

fn is_float(function: &Function, value: ValueId) -> bool {
    matches!(&function.value(value).ty, Type::Tensor(ty) if ty.dtype.is_float())
}

/// Adds an op after all others.
fn append(
    function: &mut Function,
    name: &str,
    call: AnyCall,
    version: Version,
) -> Result<ValueId, BuildError> {
    let outputs = function.body.outputs.clone();
    let taken = std::mem::replace(function, Function::new("", function.opset));
    let mut build = FunctionBuilder::resume(taken, version);
    build.insert_before(None);
    let result = build.bind(name, call);
    *function = build.finish(outputs);
    result
}

/// Makes an output what an op makes of it. The output keeps its name, which is given; what it was is named after it.
pub(super) fn end_with(
    function: &mut Function,
    position: usize,
    suffix: &str,
    version: Version,
    call: impl FnOnce(ValueId) -> AnyCall,
) -> Result<String, BuildError> {
    let output = function.body.outputs[position];
    let name = function.value(output).name.clone();
    let result = append(function, &format!("{name}_{suffix}"), call(output), version)?;
    let was = function.value(result).name.clone();
    let giver = |function: &Function, value| {
        function.walk().find(|(_, op)| op.results.contains(&value)).map(|(id, _)| id)
    };
    // Their names are changed one after the other, so that none is there twice.
    let free = FreeNames::of(function).free(&was);
    let renames = [(output, free), (result, name.clone()), (output, was)];
    for (value, name) in renames {
        if let Some(giver) = giver(function, value) {
            function.rename_result(giver, value, name, version.dialect());
        }
    }
    function.body.outputs[position] = result;
    Ok(name)
}
