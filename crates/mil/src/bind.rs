//! From an op as written to the operands that its row sees.

use std::sync::Arc;

use crate::error::ErrorKind;
use crate::ops::{Given, OpDef, OpError, Operand, Operands};
use crate::program::{Argument, BlobReference, Literal, LiteralValue, Op, ValueId};
use crate::tensor::Tensor;
use crate::types::TensorType;

/// Where operands come from: what is known of values, and of constants kept in blob files.
pub trait Scope {
    /// What is known of a value; `None` where it is neither tensor nor state.
    fn value(&self, id: ValueId) -> Option<Operand>;
    /// A constant kept in a blob file, where those are at hand.
    fn blob(&self, reference: &BlobReference, ty: &TensorType) -> Option<Arc<Tensor>>;
}

/// The name of the attribute that names an op; every op may have it.
pub const NAME_ATTRIBUTE: &str = "name";

/// The operands of `op` as its row sees them: its arguments, and the attributes of an op that decompresses
/// a constant.
///
/// # Errors
///
/// When an operand is a list or a dictionary, which no row takes.
pub fn operands<'a>(op: &'a Op, row: &OpDef, scope: &dyn Scope) -> Result<Operands<'a>, OpError> {
    let mut given = Vec::with_capacity(op.arguments.len());
    for (name, argument) in op.arguments.iter() {
        given.push((name, argument_given(argument, scope).map_err(|error| at(error, name))?));
    }
    if row.constexpr {
        for (name, literal) in op.attributes.iter().filter(|(name, _)| *name != NAME_ATTRIBUTE) {
            let operand = literal_operand(literal, scope).map_err(|error| at(error, name))?;
            given.push((name, Given::One(operand)));
        }
    }
    Ok(Operands(given))
}

fn at(mut error: OpError, parameter: &str) -> OpError {
    error.parameter = Some(parameter.to_string());
    error
}

fn argument_given(argument: &Argument, scope: &dyn Scope) -> Result<Given, OpError> {
    match argument {
        Argument::Tuple(items) => {
            items.iter().map(|item| operand(item, scope)).collect::<Result<_, _>>().map(Given::Tuple)
        }
        single => operand(single, scope).map(Given::One),
    }
}

fn operand(argument: &Argument, scope: &dyn Scope) -> Result<Operand, OpError> {
    match argument {
        Argument::Value(id) => scope.value(*id).ok_or_else(not_a_tensor),
        Argument::Literal(literal) => literal_operand(literal, scope),
        Argument::Tuple(_) => Err(OpError::new(ErrorKind::OperandKind, None, "tuples do not nest")),
    }
}

fn not_a_tensor() -> OpError {
    OpError::new(ErrorKind::OperandKind, None, "ops take tensors, scalars and states")
        .found("this is neither a tensor nor a state")
}

/// What is known of a literal.
///
/// # Errors
///
/// When it is a list, a tuple or a dictionary.
pub fn literal_operand(literal: &Literal, scope: &dyn Scope) -> Result<Operand, OpError> {
    match &literal.value {
        LiteralValue::Tensor(tensor) => Ok(Operand::constant(tensor.clone())),
        LiteralValue::Blob(reference) => {
            let ty = literal.ty.as_tensor().ok_or_else(not_a_tensor)?;
            let value = scope.blob(reference, &ty);
            Ok(Operand { ty, constant: true, value, id: None, is_state: false })
        }
        _ => Err(not_a_tensor()),
    }
}
