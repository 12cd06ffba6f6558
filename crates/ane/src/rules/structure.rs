//! What a program is as a whole: its version, its inputs and outputs, what it leaves unused.

use std::collections::HashSet;

use anemone_mil::error::{FunctionPart, OpPart, Place};
use anemone_mil::program::{Function, ValueId, Version};
use anemone_mil::verify::CONST;

use super::{Report, Scene};

/// R11: a tensor without axes has no last one.
pub(super) fn last_axis(scene: &Scene<'_>, report: &mut Report<'_>) {
    const MULTIPLE: u64 = 16;
    let body = &scene.function.body;
    let inputs = body.inputs.iter().enumerate().map(|(at, &id)| (FunctionPart::Input(at), id));
    let outputs = body.outputs.iter().enumerate().map(|(at, &id)| (FunctionPart::Output(at), id));
    for (part, value) in inputs.chain(outputs) {
        let last = scene.held(value).and_then(|ty| ty.shape.0.last().and_then(|dim| dim.known()));
        if let Some(length) = last.filter(|length| length % MULTIPLE != 0) {
            let name = &scene.function.value(value).name;
            report.found(part, format!("the last axis of `{name}` is {length}, no multiple of {MULTIPLE}"));
        }
    }
}

/// R24.
pub(super) fn unused(scene: &Scene<'_>, report: &mut Report<'_>) {
    let live = scene.function.live(|op| {
        let row = anemone_mil::ops::lookup(&op.name, scene.function.opset_of(op));
        row.is_some_and(|row| row.stateful)
    });
    for (id, op) in scene.function.walk() {
        if !live[id.index()] {
            let result = op.results.first().map_or(&op.name, |&result| &scene.function.value(result).name);
            report.found(FunctionPart::Op(id, OpPart::Name), format!("nothing needs `{result}`"));
            continue;
        }
        for (position, &result) in op.results.iter().enumerate().filter(|(_, id)| scene.uses.is_empty(**id)) {
            let name = &scene.function.value(result).name;
            report.found(FunctionPart::Op(id, OpPart::Result(position)), format!("nothing uses `{name}`"));
        }
    }
}

/// Whether a function has ops, and all of them only move what they are given, as R26 says.
pub(crate) fn does_nothing_but_move(function: &Function) -> bool {
    const MOVING: [&str; 4] = ["reshape", "slice_by_index", "slice_by_size", "tile"];
    let mut ops = function.walk().filter(|(_, op)| op.name != CONST).peekable();
    ops.peek().is_some() && ops.all(|(_, op)| MOVING.contains(&op.name.as_str()))
}

/// R26.
pub(super) fn only_movement(scene: &Scene<'_>, report: &mut Report<'_>) {
    let first = scene.ops().next();
    if let Some((first, op)) = first.filter(|_| does_nothing_but_move(scene.function)) {
        let message = format!("this program does nothing but `{}` and the like", op.name);
        report.found(FunctionPart::Op(first, OpPart::Name), message);
    }
}

/// R30.
pub(super) fn dialect(scene: &Scene<'_>, report: &mut Report<'_>) {
    let version = scene.program.version;
    if scene.index == 0 && version >= Version::V1_3 {
        report.found_in_program(Place::Version, format!("this is `program({version})`"));
    }
}

/// R47.
pub(super) fn passed_through(scene: &Scene<'_>, report: &mut Report<'_>) {
    let body = &scene.function.body;
    let inputs: HashSet<ValueId> = body.inputs.iter().copied().collect();
    for (position, output) in body.outputs.iter().enumerate().filter(|(_, id)| inputs.contains(id)) {
        let message = format!("the output `{}` is an input", scene.function.value(*output).name);
        report.found(FunctionPart::Output(position), message);
    }
}
