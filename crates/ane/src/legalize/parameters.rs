//! Parameters: which are written, and how.

use std::collections::HashMap;

use anemone_mil::bind;
use anemone_mil::builder::FunctionBuilder;
use anemone_mil::ops;
use anemone_mil::passes::{PassError, Rewritten, bind_literals_if, rewrite};
use anemone_mil::program::{Argument, Function, OpId, ValueId};
use anemone_mil::verify::{Verified, count, omitted};

use crate::chips::Chips;

/// Gives every op the parameters that it leaves to their defaults, and binds what is written in place, all as constants
/// with names (R16, R21, R50).
pub(crate) fn named_parameters(program: &Verified, _: Chips) -> Result<Rewritten, PassError> {
    let version = program.program().version;
    rewrite(program, |index, function| {
        let opset = function.opset;
        let bound = bind_literals_if(function, version.dialect(), |op, _| {
            ops::lookup(&op.name, op.opset.unwrap_or(opset)).is_none_or(|row| !row.constexpr)
        });
        let before = &program.program().functions[index];
        let added = add_omitted(program, index, before, function);
        let mut changes = Vec::new();
        if bound > 0 {
            changes.push(format!("{} bound by names (R21)", count(bound, "literal")));
        }
        if added > 0 {
            changes.push(format!("{} written out (R21, R50)", count(added, "default")));
        }
        Ok(changes)
    })
}

/// Writes the defaults that the ops of `before` rely on into those of `function`, which have the same ids. Gives their
/// number.
fn add_omitted(program: &Verified, index: usize, before: &Function, function: &mut Function) -> usize {
    let outputs = function.body.outputs.clone();
    let taken = std::mem::replace(function, Function::new("", before.opset));
    let mut build = FunctionBuilder::resume(taken, program.program().version);
    let mut added: HashMap<OpId, Vec<(&'static str, ValueId)>> = HashMap::new();
    for (id, op) in before.walk() {
        let Some(row) = program.row(index, id).filter(|row| !row.constexpr) else { continue };
        let Ok(operands) = bind::operands(op, row, program.facts(index)) else { continue };
        let name = op.results.first().map_or(op.name.as_str(), |&result| &before.value(result).name);
        build.insert_before(Some(id));
        for (parameter, default) in omitted(row, &operands) {
            if let Some(tensor) = default.tensor() {
                let value = build.constant(&format!("{name}_{parameter}_0"), tensor);
                added.entry(id).or_default().push((parameter, value));
            }
        }
    }
    *function = build.finish(outputs);
    let number = added.values().map(Vec::len).sum();
    for (id, parameters) in added {
        let arguments = &mut function.ops[id.index()].arguments;
        for (parameter, value) in parameters {
            arguments.insert(parameter, Argument::Value(value));
        }
        arguments.sort();
    }
    number
}
