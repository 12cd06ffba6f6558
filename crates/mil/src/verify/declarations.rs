//! Checks of what a program declares, before any op is looked at: ids, names, versions, constants.

use std::collections::HashSet;
use std::sync::Arc;

use crate::bind;
use crate::error::{BlockPart, Error, ErrorKind, Errors, FunctionPart, OpPart, Place, Repeated};
use crate::program::{Block, Function, LiteralValue, Op, Program, Value, ValueId};
use crate::suggest::nearest;
use crate::tensor::Tensor;
use crate::types::{DType, Opset, Type};

use super::dialect;

/// Checks the version, that functions have different names, and what the whole program declares.
pub(super) fn check_program(program: &Program, errors: &mut Errors) {
    if program.version.major != 1 {
        let message = format!("program({}) is not a version of MIL known here", program.version);
        let error = Error::in_place(ErrorKind::Version, Place::Version, message, "expected 1.x");
        errors.push(error.with_help("declare program(1.3), or program(1.0) for opsets up to ios17"));
    }
    let mut names = HashSet::new();
    for (index, function) in program.functions.iter().enumerate() {
        if !names.insert(function.name.as_str()) {
            errors.push(Error::in_place(
                ErrorKind::Redefinition,
                Place::Function(index, FunctionPart::Name),
                format!("a second function `{}`", function.name),
                "this name is taken",
            ));
        }
    }
    if program.version.major == 1 {
        dialect::check(program, errors);
    }
}

/// The error if an id lies outside the function's arenas, or an op stands in two places: later checks index with ids
/// and walk the blocks.
pub(super) fn check_ids(index: usize, function: &Function) -> Option<Error> {
    let fail = |part, message| {
        Some(Error::in_place(ErrorKind::Malformed, Place::Function(index, part), message, ""))
    };
    let values = function.values.len();
    let value_ok = |id: &ValueId| id.index() < values;
    let block_ok = |block: &Block| {
        block.inputs.iter().chain(&block.outputs).all(value_ok)
            && block.ops.iter().all(|id| id.index() < function.ops.len())
    };
    let op_ok = |op: &Op| {
        op.results.iter().all(value_ok)
            && op.reads().all(|id| value_ok(&id))
            && op.blocks.iter().all(block_ok)
    };
    if !block_ok(&function.body) || !function.ops.iter().all(op_ok) {
        let message =
            format!("the function `{}` refers to values or ops that it does not own", function.name);
        return fail(FunctionPart::Name, message);
    }
    let mut placed = vec![false; function.ops.len()];
    let nested = function.ops.iter().flat_map(|op| &op.blocks);
    for &id in std::iter::once(&function.body).chain(nested).flat_map(|block| &block.ops) {
        if std::mem::replace(&mut placed[id.index()], true) {
            let message = format!("the op `{}` stands in two places of the function", function.op(id).name);
            return fail(FunctionPart::Op(id, OpPart::Name), message);
        }
    }
    None
}

/// Checks the opset, and every declared type against it.
pub(super) fn check_function(index: usize, function: &Function, errors: &mut Errors) {
    let place = |part| Place::Function(index, part);
    let mut unknown_opsets = Repeated::default();
    check_opset(function.opset, place(FunctionPart::Opset), &mut unknown_opsets, errors);
    let mut newer = Repeated::default();
    for (position, &input) in function.body.inputs.iter().enumerate() {
        let part = place(FunctionPart::Input(position));
        check_type(function.opset, &function.value(input).ty, part, &mut newer, errors);
    }
    for (id, op) in function.walk() {
        let part = |part| place(FunctionPart::Op(id, part));
        if let Some(opset) = op.opset {
            check_opset(opset, part(OpPart::Name), &mut unknown_opsets, errors);
        }
        let opset = op.opset.unwrap_or(function.opset);
        for (position, result) in op.results.iter().enumerate() {
            let ty = &function.value(*result).ty;
            check_type(opset, ty, part(OpPart::Result(position)), &mut newer, errors);
        }
        for (block_index, block) in op.blocks.iter().enumerate() {
            for (position, input) in block.inputs.iter().enumerate() {
                let part = part(OpPart::Block(block_index, BlockPart::Input(position)));
                check_type(opset, &function.value(*input).ty, part, &mut newer, errors);
            }
        }
    }
    newer.finish(errors);
    unknown_opsets.finish(errors);
}

/// Checks that an opset is one that there is. Any other is reported once.
fn check_opset(opset: Opset, place: Place, unknown: &mut Repeated<Opset>, errors: &mut Errors) {
    if Opset::KNOWN.contains(&opset) {
        return;
    }
    unknown.report(opset, ErrorKind::Version, errors, |kind| {
        if opset < Opset::IOS15 {
            let label = format!("the oldest opset is {}", Opset::IOS15);
            return Error::in_place(kind, place, format!("no op is in {opset}"), label);
        }
        let known = Opset::KNOWN.map(|known| known.to_string());
        let label = format!("expected one of {}", known.join(", "));
        let error = Error::in_place(kind, place, format!("{opset} is no opset known here"), label);
        match nearest(&opset.to_string(), known.iter().map(String::as_str)) {
            Some(near) => error.with_help(format!("the nearest opset is `{near}`")),
            None => error,
        }
    });
}

/// The first opset in which values of an element type may appear.
fn dtype_since(dtype: DType) -> Opset {
    match dtype {
        DType::Int8 | DType::UInt8 | DType::Int16 | DType::UInt16 => Opset::IOS16,
        DType::Int4
        | DType::UInt1
        | DType::UInt2
        | DType::UInt3
        | DType::UInt4
        | DType::UInt6
        | DType::Bf16
        | DType::Fp8E4M3FN
        | DType::Fp8E5M2 => Opset::IOS18,
        _ => Opset::IOS15,
    }
}

/// Checks that a type is in an opset. A type that is not is reported once, by its name.
fn check_type(
    opset: Opset,
    ty: &Type,
    place: Place,
    newer: &mut Repeated<(String, Opset)>,
    errors: &mut Errors,
) {
    // An opset that is too old for anything is reported where it is declared.
    let opset = opset.max(Opset::IOS15);
    let mut refuse = |what: String, since: Opset| {
        let message = format!("{what} is not in {opset}");
        newer.report((what, opset), ErrorKind::Version, errors, |kind| {
            Error::in_place(kind, place, message, format!("available since {since}"))
        });
    };
    let inner = match ty {
        Type::State(inner) => {
            if opset < Opset::IOS18 {
                refuse("the type state".to_string(), Opset::IOS18);
            }
            inner
        }
        other => other,
    };
    if let Some(dtype) = inner.dtype().filter(|&dtype| dtype_since(dtype) > opset) {
        refuse(format!("the element type {dtype}"), dtype_since(dtype));
    }
    if let Type::State(inner) = ty
        && inner.as_tensor().is_none()
    {
        errors.push(Error::in_place(
            ErrorKind::OperandKind,
            place,
            "a state holds a tensor",
            format!("found {inner}"),
        ));
    }
}

/// What is wrong with a constant.
pub(super) struct ConstantFault {
    /// The part of the op at fault.
    pub part: OpPart,
    /// What is wrong.
    pub message: String,
    /// What was found.
    pub label: String,
}

fn fault<T>(part: OpPart, message: String, label: String) -> Result<T, ConstantFault> {
    Err(ConstantFault { part, message, label })
}

/// A constant's result and value; `None` where a blob file keeps it.
///
/// # Errors
///
/// When the op is not a well-formed `const`.
pub(super) fn check_constant(
    function: &Function,
    op: &Op,
) -> Result<(ValueId, Option<Arc<Tensor>>), ConstantFault> {
    let [result] = op.results.as_slice() else {
        let label = format!("bound to {}", super::count(op.results.len(), "name"));
        return fault(OpPart::Name, "a constant has one result".to_string(), label);
    };
    if !op.blocks.is_empty() {
        let part = OpPart::Block(0, BlockPart::Parameters);
        return fault(part, "a constant with a nested block".to_string(), "it takes no blocks".to_string());
    }
    if let Some((name, _)) = op.arguments.at(0) {
        let message = format!("a constant takes no argument, not even `{name}`");
        return fault(OpPart::Argument(0), message, "its value is the attribute `val`".to_string());
    }
    let Value { name, ty: declared } = function.value(*result);
    let (Some(position), Some(literal)) = (op.attributes.position("val"), op.attributes.get("val")) else {
        let label = format!("expected `val = {declared}(…)` among its attributes");
        return fault(OpPart::Name, "a constant without a value".to_string(), label);
    };
    let part = OpPart::Attribute(position);
    let agrees = match (declared.as_tensor(), literal.ty.as_tensor()) {
        (Some(declared), Some(written)) => {
            declared.dtype == written.dtype && declared.shape.agrees_with(&written.shape)
        }
        _ => *declared == literal.ty,
    };
    if !agrees {
        let message = format!("`{name}` is declared as {declared}");
        return fault(part, message, format!("its value has the type {}", literal.ty));
    }
    match &literal.value {
        LiteralValue::Tensor(tensor) if !tensor.fits(declared) => {
            fault(part, format!("the value does not fit {declared}"), format!("found {}", tensor.ty()))
        }
        LiteralValue::Tensor(tensor) => Ok((*result, Some(tensor.clone()))),
        LiteralValue::Blob(_) => check_blob_type(&literal.ty, part).map(|()| (*result, None)),
        _ => Ok((*result, bind::held(literal))),
    }
}

/// Checks that a blob file can hold values of this type.
fn check_blob_type(ty: &Type, part: OpPart) -> Result<(), ConstantFault> {
    if ty.as_tensor().and_then(|ty| ty.shape.elements()).is_none() {
        return fault(part, "the shape of a blob must be known".to_string(), format!("found {ty}"));
    }
    if ty.dtype().is_none_or(|dtype| dtype.blob_code().is_none()) {
        let label = "no blob has this element type".to_string();
        return fault(part, format!("a blob file cannot hold {ty}"), label);
    }
    Ok(())
}
