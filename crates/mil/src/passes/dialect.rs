//! A program in the other dialect.

use std::collections::HashSet;

use super::bind_literals::bind_literals_if;
use super::{PassError, Rewritten, finish};
use crate::ops;
use crate::program::{Argument, Attributes, Dialect, Function, Literal, LiteralValue, Op, OpId, Version};
use crate::types::{Opset, Type};
use crate::verify::{CONST, Verified};

/// The newest opset of programs in which scalars are tensors of rank 0.
const NEWEST_WITHOUT_SCALARS: Opset = Opset::IOS17;
/// The first opset of programs with bare scalars.
const FIRST_WITH_SCALARS: Opset = Opset::IOS18;

/// Writes a program as another version does: 1.0 types scalars as tensors of rank 0, binds every literal in an argument
/// by a `const`, and has the opsets up to ios17; 1.3 has bare scalars, and the opsets from ios18 on. Functions in other
/// opsets move to the nearest; an op that would mean something else there keeps its own.
///
/// # Errors
///
/// When the older opset lacks an op, a parameter or a type: [`PassError::Unsound`] has the places.
pub fn dialect(program: &Verified, version: Version) -> Result<Rewritten, PassError> {
    let mut changed = program.program().clone();
    let before = std::mem::replace(&mut changed.version, version);
    let dialect = version.dialect();
    translate_attributes(&mut changed.attributes, dialect);
    for function in &mut changed.functions {
        if dialect == Dialect::RankZero {
            let opset = function.opset;
            operands_to_attributes(function);
            bind_literals_if(function, dialect, |op, _| !is_constexpr(op, opset));
        }
        move_opsets(function, dialect);
        translate(function, dialect);
    }
    let changes = match before == version {
        true => Vec::new(),
        false => vec![format!("program({before}) became program({version})")],
    };
    finish(changed, changes)
}

fn is_constexpr(op: &Op, opset: Opset) -> bool {
    ops::lookup(&op.name, op.opset.unwrap_or(opset)).is_some_and(|row| row.constexpr)
}

/// Moves the literals in the arguments of ops that decompress constants to the attributes, where older opsets have them.
fn operands_to_attributes(function: &mut Function) {
    let opset = function.opset;
    let ids: Vec<OpId> =
        function.walk().filter(|(_, op)| is_constexpr(op, opset)).map(|(id, _)| id).collect();
    for id in ids {
        let op = &mut function.ops[id.index()];
        for (name, argument) in std::mem::take(&mut op.arguments) {
            match argument {
                Argument::Literal(literal) => drop(op.attributes.insert(name, literal)),
                argument => drop(op.arguments.insert(name, argument)),
            }
        }
        op.attributes.sort();
    }
}

/// Moves a function and its ops to opsets of the dialect.
fn move_opsets(function: &mut Function, dialect: Dialect) {
    let newest = match dialect {
        Dialect::RankZero => NEWEST_WITHOUT_SCALARS,
        Dialect::Scalar => Opset(u16::MAX),
    };
    let before = function.opset;
    function.opset = match dialect {
        Dialect::RankZero => function.opset.min(newest),
        Dialect::Scalar => function.opset.max(FIRST_WITH_SCALARS),
    };
    let opset = function.opset;
    let ids: Vec<OpId> = function.walk().map(|(id, _)| id).collect();
    for id in ids {
        let op = &mut function.ops[id.index()];
        let own = op.opset.unwrap_or(before);
        // Where the meaning would change the op keeps its opset; otherwise only one of its own that there is.
        let kept = if means_another(&op.name, own, opset) { Some(own) } else { op.opset };
        op.opset = kept.map(|own| own.min(newest)).filter(|own| *own != opset);
    }
}

/// Whether an op means something else in another opset.
fn means_another(op: &str, own: Opset, other: Opset) -> bool {
    match (ops::lookup(op, own), ops::lookup(op, other)) {
        (Some(own), Some(other)) => own.by_opset && own.since != other.since,
        _ => false,
    }
}

/// Types and literals of a function.
fn translate(function: &mut Function, dialect: Dialect) {
    translate_attributes(&mut function.attributes, dialect);
    // A scalar that a blob file keeps is a tensor of rank 0 in either dialect.
    let mut blobs = HashSet::new();
    let ids: Vec<OpId> = function.walk().map(|(id, _)| id).collect();
    for id in ids {
        let op = &mut function.ops[id.index()];
        op.literals_mut().for_each(|literal| translate_literal(literal, dialect));
        let is_blob = |literal: &Literal| matches!(literal.value, LiteralValue::Blob(_));
        if op.name == CONST && op.attributes.get("val").is_some_and(is_blob) {
            blobs.extend(op.results.iter().map(|id| id.index()));
        }
    }
    for (index, value) in function.values.iter_mut().enumerate() {
        if dialect == Dialect::RankZero || !blobs.contains(&index) {
            translate_type(&mut value.ty, dialect);
        }
    }
}

fn translate_attributes(attributes: &mut Attributes, dialect: Dialect) {
    attributes.iter_mut().for_each(|(_, literal)| translate_literal(literal, dialect));
}

fn translate_literal(literal: &mut Literal, dialect: Dialect) {
    match &mut literal.value {
        LiteralValue::Blob(reference) => {
            reference.dialect = dialect;
            if dialect == Dialect::RankZero {
                translate_type(&mut literal.ty, dialect);
            }
        }
        _ => translate_type(&mut literal.ty, dialect),
    }
}

/// Types a single value as the dialect does. States are in one dialect only.
fn translate_type(ty: &mut Type, dialect: Dialect) {
    match ty {
        Type::Scalar(dtype) => *ty = dialect.scalar_type(*dtype),
        Type::Tensor(tensor) if tensor.shape.rank() == 0 => *ty = dialect.scalar_type(tensor.dtype),
        Type::Tensor(_) | Type::TensorBuffer { .. } | Type::State(_) => {}
        Type::List(element, _) => translate_type(element, dialect),
        Type::Tuple(items) => items.iter_mut().for_each(|item| translate_type(item, dialect)),
        Type::Dict(key, value) => {
            translate_type(key, dialect);
            translate_type(value, dialect);
        }
    }
}
