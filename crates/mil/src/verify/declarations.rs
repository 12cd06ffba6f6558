//! Checks of what a program declares, before any op is looked at: ids, names, versions, constants.

use std::collections::HashSet;
use std::sync::Arc;

use crate::error::{Error, ErrorKind, FunctionPart, OpPart, Place};
use crate::program::{
    Argument, BlobReference, Block, Dialect, Function, Literal, LiteralValue, Op, OpId, Program, ValueId,
    Version,
};
use crate::tensor::Tensor;
use crate::types::{DType, Opset, Type};

/// Checks the version and that functions have different names.
pub fn check_program(program: &Program, errors: &mut Vec<Error>) {
    if program.version.major != 1 {
        let message = format!("program({}) is not a version of MIL known here", program.version);
        errors.push(Error::in_place(ErrorKind::Version, Place::Version, message, "expected 1.x"));
    }
    for (index, (_, literal)) in program.attributes.iter().enumerate() {
        check_dialect_of(program.version, literal, Place::ProgramAttribute(index), errors);
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
}

/// Checks that every id lies in the function's arenas, so that later checks may index with it.
pub fn check_ids(index: usize, function: &Function) -> Result<(), Error> {
    let values = function.values.len();
    let value_ok = |id: &ValueId| (id.0 as usize) < values;
    let block_ok = |block: &Block| {
        block.inputs.iter().chain(&block.outputs).all(value_ok)
            && block.ops.iter().all(|id| (id.0 as usize) < function.ops.len())
    };
    let op_ok = |op: &Op| {
        let arguments = op.arguments.iter().flat_map(|(_, argument)| argument.values());
        op.results.iter().all(value_ok)
            && arguments.into_iter().all(|id| value_ok(&id))
            && op.blocks.iter().all(block_ok)
    };
    if block_ok(&function.body) && function.ops.iter().all(op_ok) {
        return Ok(());
    }
    Err(Error::in_place(
        ErrorKind::Malformed,
        Place::Function(index, FunctionPart::Name),
        format!("the function `{}` refers to values or ops that it does not own", function.name),
        "",
    ))
}

/// Checks names, the opset against the version, and every declared type and literal against both.
pub fn check_function(program: &Program, index: usize, function: &Function, errors: &mut Vec<Error>) {
    let place = |part| Place::Function(index, part);
    if function.opset > Opset::IOS17 && program.version < Version::V1_3 {
        let message = format!("{} needs program(1.3)", function.opset);
        let label = format!("this is program({})", program.version);
        errors.push(Error::in_place(ErrorKind::Version, place(FunctionPart::Opset), message, label));
    }
    check_names(index, function, errors);
    for (position, &input) in function.body.inputs.iter().enumerate() {
        let part = place(FunctionPart::Input(position));
        check_type(program.version, function.opset, &function.value(input).ty, part, errors);
    }
    for (position, (_, literal)) in function.attributes.iter().enumerate() {
        check_dialect_of(program.version, literal, place(FunctionPart::Attribute(position)), errors);
    }
    for (op_index, op) in function.ops.iter().enumerate() {
        let part = |part| place(FunctionPart::Op(OpId(op_index as u32), part));
        let opset = op.opset.unwrap_or(function.opset);
        for (position, result) in op.results.iter().enumerate() {
            let ty = &function.value(*result).ty;
            check_type(program.version, opset, ty, part(OpPart::Result(position)), errors);
        }
        for (position, (_, literal)) in op.attributes.iter().enumerate() {
            check_dialect_of(program.version, literal, part(OpPart::Attribute(position)), errors);
        }
        for (position, (_, argument)) in op.arguments.iter().enumerate() {
            let items = match argument {
                Argument::Tuple(items) => items.as_slice(),
                single => std::slice::from_ref(single),
            };
            for item in items {
                if let Argument::Literal(literal) = item {
                    check_dialect_of(program.version, literal, part(OpPart::Argument(position)), errors);
                }
            }
        }
    }
}

fn check_names(index: usize, function: &Function, errors: &mut Vec<Error>) {
    let mut names = HashSet::new();
    for value in &function.values {
        let place = Place::Function(index, FunctionPart::Name);
        if !is_identifier(&value.name) {
            let message = format!("`{}` is not a name that text can write", value.name);
            errors.push(Error::in_place(ErrorKind::Malformed, place, message, ""));
        }
        if !names.insert(value.name.as_str()) {
            let message = format!("two values are named `{}`", value.name);
            errors.push(Error::in_place(ErrorKind::Redefinition, place, message, ""));
        }
    }
}

/// Whether MIL text can write this name: a letter or underscore, then letters, digits, underscores and `@`.
pub fn is_identifier(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'@')
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

fn check_type(version: Version, opset: Opset, ty: &Type, place: Place, errors: &mut Vec<Error>) {
    check_dialect(version, ty, place, errors);
    let mut refuse = |what: String, since: Opset| {
        let message = format!("{what} is not in {opset}");
        let label = format!("available since {since}");
        errors.push(Error::in_place(ErrorKind::Version, place, message, label));
    };
    let inner = match ty {
        Type::State(inner) => {
            if opset < Opset::IOS18 {
                refuse("state".to_string(), Opset::IOS18);
            }
            inner
        }
        other => other,
    };
    if let Some(dtype) = inner.dtype().filter(|&dtype| dtype_since(dtype) > opset) {
        refuse(dtype.to_string(), dtype_since(dtype));
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

fn check_dialect_of(version: Version, literal: &Literal, place: Place, errors: &mut Vec<Error>) {
    check_dialect(version, &literal.ty, place, errors);
    if let LiteralValue::Blob(BlobReference { dialect: Dialect::Scalar, .. }) = &literal.value
        && version.dialect() == Dialect::RankZero
        && !has_bare_scalar(&literal.ty)
    {
        bare_scalar(version, DType::String, place, errors);
    }
}

fn check_dialect(version: Version, ty: &Type, place: Place, errors: &mut Vec<Error>) {
    if version.dialect() == Dialect::RankZero
        && let Some(dtype) = first_bare_scalar(ty)
    {
        bare_scalar(version, dtype, place, errors);
    }
}

fn bare_scalar(version: Version, dtype: DType, place: Place, errors: &mut Vec<Error>) {
    let message = format!("program({version}) has no bare scalars");
    let error = Error::in_place(ErrorKind::Version, place, message, format!("`{dtype}` stands alone"));
    errors.push(error.with_help(format!("write `tensor<{dtype}, []>`, or declare program(1.3)")));
}

fn has_bare_scalar(ty: &Type) -> bool {
    first_bare_scalar(ty).is_some()
}

fn first_bare_scalar(ty: &Type) -> Option<DType> {
    match ty {
        Type::Scalar(dtype) => Some(*dtype),
        Type::Tensor(_) | Type::TensorBuffer { .. } => None,
        Type::List(inner, _) | Type::State(inner) => first_bare_scalar(inner),
        Type::Tuple(items) => items.iter().find_map(first_bare_scalar),
        Type::Dict(key, value) => first_bare_scalar(key).or_else(|| first_bare_scalar(value)),
    }
}

/// A constant's result and value (`None` where a blob file keeps it), or the part at fault, what is wrong
/// with it, and what was found.
pub fn check_constant(
    function: &Function,
    op: &Op,
) -> Result<(ValueId, Option<Arc<Tensor>>), (OpPart, String, String)> {
    let [result] = op.results.as_slice() else {
        return Err((OpPart::Name, "a constant binds one name".to_string(), String::new()));
    };
    if let Some((name, _)) = op.arguments.at(0) {
        let message = format!("a constant takes no argument, not even `{name}`");
        return Err((OpPart::Argument(0), message, "its value is the attribute `val`".to_string()));
    }
    let declared = &function.value(*result).ty;
    let (Some(position), Some(literal)) = (op.attributes.position("val"), op.attributes.get("val")) else {
        let label = format!("expected `val = {declared}(…)` among its attributes");
        return Err((OpPart::Name, "a constant without a value".to_string(), label));
    };
    let part = OpPart::Attribute(position);
    let agrees = match (declared.as_tensor(), literal.ty.as_tensor()) {
        (Some(declared), Some(written)) => {
            declared.dtype == written.dtype && declared.shape.agrees_with(&written.shape)
        }
        _ => *declared == literal.ty,
    };
    if !agrees {
        let message = format!(
            "`{}` is declared as {declared}, its value is another type",
            function.value(*result).name
        );
        return Err((part, message, format!("found {}", literal.ty)));
    }
    match &literal.value {
        LiteralValue::Tensor(tensor) if !tensor.fits(declared) => {
            let message = format!("the value does not fit {declared}");
            Err((part, message, format!("found {}", tensor.ty())))
        }
        LiteralValue::Tensor(tensor) => Ok((*result, Some(tensor.clone()))),
        LiteralValue::Blob(_) => match literal.ty.as_tensor().and_then(|ty| ty.shape.elements()) {
            Some(_) if literal.ty.dtype().is_some_and(|dtype| dtype.blob_code().is_some()) => {
                Ok((*result, None))
            }
            Some(_) => {
                let message = format!("a blob file cannot hold {}", literal.ty);
                Err((part, message, "no blob has this element type".to_string()))
            }
            None => {
                let message = "the shape of a blob must be known".to_string();
                Err((part, message, format!("found {}", literal.ty)))
            }
        },
        _ => Ok((*result, None)),
    }
}
