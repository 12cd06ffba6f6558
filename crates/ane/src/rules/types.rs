//! Element types: what the engine computes in, and what may cross its border.

use anemone_mil::error::{FunctionPart, OpPart};
use anemone_mil::program::ValueId;
use anemone_mil::types::{DType, Type};

use super::{Report, Scene, Site};
use crate::chips::{Chip, Chips};

/// The element type of the data that a value holds.
fn dtype(scene: &Scene<'_>, value: ValueId) -> Option<DType> {
    scene.held(value).map(|ty| ty.dtype)
}

/// R14: int32 in inputs and results; outputs that are not floating point. Constants are parameters.
pub(super) fn integers(scene: &Scene<'_>, report: &mut Report<'_>) {
    let wide = |value: ValueId| dtype(scene, value).filter(|dtype| dtype.is_integer() && dtype.bits() >= 32);
    let name = |value: ValueId| scene.function.value(value).name.as_str();
    for (position, &input) in scene.function.body.inputs.iter().enumerate() {
        if let Some(dtype) = wide(input) {
            report.found(FunctionPart::Input(position), format!("`{}` is {dtype}", name(input)));
        }
    }
    for (id, op) in scene.ops() {
        for (position, &result) in op.results.iter().enumerate() {
            // Indices that come with the values of a `topk`, and nothing uses, are not computed with.
            if scene.facts.is_constant(result) || scene.uses.is_empty(result) {
                continue;
            }
            if let Some(dtype) = wide(result) {
                let part = FunctionPart::Op(id, OpPart::Result(position));
                report.found(part, format!("`{}` is computed in {dtype}", op.name));
            }
        }
    }
    for (position, &output) in scene.function.body.outputs.iter().enumerate() {
        let found = dtype(scene, output).filter(|dtype| !dtype.is_float());
        if let Some(dtype) = found.filter(|_| wide(output).is_none()) {
            let message = format!("the output `{}` is {dtype}, not of floating point", name(output));
            report.found(FunctionPart::Output(position), message);
        }
    }
}

/// Whether a floating-point type is wider than fp16, or has another range.
fn is_wide(dtype: DType) -> bool {
    dtype.is_float() && dtype != DType::Fp16
}

/// R15: what is computed in fp32, but by casts to and from it; on M1 and M2 every cast.
pub(super) fn wide_floats(site: &Site<'_>, report: &mut Report<'_>) {
    if site.name() == "cast" {
        report.found_on(Chips::until(Chip::M2), site.here(), "there is no `cast`");
    } else if let Some(dtype) = site.types_computed().find(|&dtype| is_wide(dtype)) {
        report.found(site.here(), format!("`{}` computes in {dtype}", site.name()));
    }
}

/// R42.
pub(super) fn states(scene: &Scene<'_>, report: &mut Report<'_>) {
    for (position, &input) in scene.function.body.inputs.iter().enumerate() {
        if matches!(scene.facts.ty(input), Type::State(_)) {
            let message = format!("`{}` is a state", scene.function.value(input).name);
            report.found(FunctionPart::Input(position), message);
        }
    }
}

/// R43. States are R42's.
pub(super) fn border(scene: &Scene<'_>, report: &mut Report<'_>) {
    const CROSSING: [DType; 5] = [DType::Fp16, DType::Int8, DType::UInt8, DType::Int16, DType::UInt16];
    let body = &scene.function.body;
    let inputs = body.inputs.iter().enumerate().map(|(at, &id)| (FunctionPart::Input(at), "input", id));
    let outputs = body.outputs.iter().enumerate().map(|(at, &id)| (FunctionPart::Output(at), "output", id));
    for (part, what, value) in inputs.chain(outputs) {
        let dtype = scene.facts.ty(value).dtype().filter(|dtype| !CROSSING.contains(dtype));
        if let Some(dtype) = dtype {
            report.found(part, format!("the {what} `{}` is {dtype}", scene.function.value(value).name));
        }
    }
}
