//! Literals in both forms.

use std::sync::Arc;

use anemone_mil::program::{BlobReference, Dialect, Literal, LiteralValue};
use anemone_mil::types::{Dim, Type};

use super::{MAX_DEPTH, ProgramError, Result, tensors, types};
use crate::proto::mil::{self as proto, ImmediateKind, ValueKind};

/// The literal that a message says.
pub(super) fn decode(value: proto::Value, dialect: Dialect, left_out: &mut Vec<String>) -> Result<Literal> {
    let ty = types::decode(value.ty.as_ref(), dialect)?;
    let ty = match (&value.kind, ty) {
        // Apple's compiler writes the scalars that are in blob files as tensors.
        (Some(ValueKind::BlobFile(_)), Type::Scalar(dtype)) => Type::tensor(dtype, &[]),
        (_, ty) => ty,
    };
    let value = decode_as(value, &ty, dialect, left_out)?;
    Ok(Literal { ty, value })
}

/// The value of type `ty` that a message holds.
fn decode_as(
    value: proto::Value,
    ty: &Type,
    dialect: Dialect,
    left_out: &mut Vec<String>,
) -> Result<LiteralValue> {
    if !value.doc_string.is_empty() {
        left_out.push("the documentation of a value".to_string());
    }
    let kind = match value.kind {
        None => return Err(ProgramError::new(format!("a value of {ty} is missing"))),
        Some(ValueKind::BlobFile(blob)) => {
            if ty.as_tensor().is_none() {
                return Err(ProgramError::new(format!("a blob file cannot hold {ty}")));
            }
            return Ok(LiteralValue::Blob(BlobReference {
                path: blob.file_name,
                offset: blob.offset,
                dialect,
            }));
        }
        Some(ValueKind::Immediate(immediate)) => immediate.kind,
    };
    match (kind, ty) {
        (Some(ImmediateKind::Tensor(tensor)), Type::Scalar(_) | Type::Tensor(_)) => {
            let ty = ty.as_tensor().ok_or_else(|| ProgramError::new("a tensor without its type"))?;
            Ok(LiteralValue::Tensor(Arc::new(tensors::decode(tensor, &ty)?)))
        }
        (Some(ImmediateKind::List(list)), Type::List(item, length)) => {
            if length.known().is_some_and(|length| length != list.values.len() as u64) {
                let count = list.values.len();
                return Err(ProgramError::new(format!(
                    "{ty} does not hold the {count} items that it is given"
                )));
            }
            let items = list.values.into_iter().map(|value| nested(value, item, dialect, left_out));
            Ok(LiteralValue::List(items.collect::<Result<_>>()?))
        }
        (Some(ImmediateKind::Tuple(tuple)), Type::Tuple(types)) if types.len() == tuple.values.len() => {
            let items = tuple.values.into_iter().zip(types);
            let items = items.map(|(value, ty)| nested(value, ty, dialect, left_out));
            Ok(LiteralValue::Tuple(items.collect::<Result<_>>()?))
        }
        (Some(ImmediateKind::Dictionary(pairs)), Type::Dict(key, value)) => {
            let missing = || ProgramError::new("a pair of a dictionary without its key or value");
            let pairs = pairs.values.into_iter().map(|pair| {
                let (found_key, found) = (pair.key.ok_or_else(missing)?, pair.value.ok_or_else(missing)?);
                Ok((nested(found_key, key, dialect, left_out)?, nested(found, value, dialect, left_out)?))
            });
            Ok(LiteralValue::Dict(pairs.collect::<Result<_>>()?))
        }
        (_, ty) => Err(ProgramError::new(format!("a value that is no {ty}"))),
    }
}

/// A value inside one of a composite type, which says `wanted` of it. Where that has a `?`, the value's own type tells.
fn nested(
    value: proto::Value,
    wanted: &Type,
    dialect: Dialect,
    left_out: &mut Vec<String>,
) -> Result<LiteralValue> {
    let found = match &value.ty {
        None => wanted.clone(),
        some => types::decode(some.as_ref(), dialect)?,
    };
    if !allows(wanted, &found) {
        return Err(ProgramError::new(format!(
            "a value of {found} inside one whose type says {wanted} of it"
        )));
    }
    decode_as(value, &found, dialect, left_out)
}

/// Whether a type with `?` in it allows another, which knows more.
fn allows(wanted: &Type, found: &Type) -> bool {
    let dim = |wanted: Dim, found: Dim| wanted == Dim::Unknown || wanted == found;
    match (wanted, found) {
        (Type::Tensor(wanted), Type::Tensor(found)) => {
            wanted.dtype == found.dtype
                && wanted.shape.rank() == found.shape.rank()
                && wanted.shape.0.iter().zip(&found.shape.0).all(|(&wanted, &found)| dim(wanted, found))
        }
        (Type::List(wanted, most), Type::List(found, length)) => dim(*most, *length) && allows(wanted, found),
        (Type::Tuple(wanted), Type::Tuple(found)) => {
            wanted.len() == found.len()
                && wanted.iter().zip(found).all(|(wanted, found)| allows(wanted, found))
        }
        (Type::Dict(key, value), Type::Dict(found_key, found)) => {
            allows(key, found_key) && allows(value, found)
        }
        _ => wanted == found,
    }
}

/// The message for a literal, which is `depth` levels below the program.
pub(super) fn encode(literal: &Literal, depth: usize) -> Result<proto::Value> {
    encode_as(&literal.value, &literal.ty, depth)
}

fn encode_as(value: &LiteralValue, ty: &Type, depth: usize) -> Result<proto::Value> {
    // The deepest message that a value brings itself: immediate value, tensor value, its values.
    if depth + 3 > MAX_DEPTH {
        return Err(types::too_deep());
    }
    // A value in a list is three levels down, one in a dictionary four.
    let inner = |value: &LiteralValue, ty: &Type| encode_as(value, ty, depth + 4);
    let mut written = ty.clone();
    let kind = match (value, ty) {
        (LiteralValue::Blob(blob), _) => {
            let (file_name, offset) = (blob.path.clone(), blob.offset);
            let kind = Some(ValueKind::BlobFile(proto::BlobFileValue { file_name, offset }));
            return Ok(proto::Value { ty: Some(types::encode(ty, depth + 1)?), kind, ..Default::default() });
        }
        (LiteralValue::Tensor(tensor), Type::Scalar(_) | Type::Tensor(_)) => {
            if let Type::Tensor(ty) = ty
                && !tensors::tells_shape(tensor, ty)
            {
                written = Type::Tensor(tensor.ty());
            }
            ImmediateKind::Tensor(tensors::encode(tensor))
        }
        (LiteralValue::List(items), Type::List(item, _)) => {
            let values = items.iter().map(|value| inner(value, item)).collect::<Result<_>>()?;
            ImmediateKind::List(proto::Values { values })
        }
        (LiteralValue::Tuple(items), Type::Tuple(types)) if items.len() == types.len() => {
            let values =
                items.iter().zip(types).map(|(value, ty)| inner(value, ty)).collect::<Result<_>>()?;
            ImmediateKind::Tuple(proto::Values { values })
        }
        (LiteralValue::Dict(pairs), Type::Dict(key, value)) => {
            let pair = |(found_key, found): &(LiteralValue, LiteralValue)| {
                Ok(proto::KeyValuePair {
                    key: Some(inner(found_key, key)?),
                    value: Some(inner(found, value)?),
                })
            };
            let values = pairs.iter().map(pair).collect::<Result<_>>()?;
            ImmediateKind::Dictionary(proto::DictionaryValue { values })
        }
        _ => return Err(ProgramError::new(format!("a value that is no {ty}"))),
    };
    let kind = Some(ValueKind::Immediate(proto::ImmediateValue { kind: Some(kind) }));
    Ok(proto::Value { ty: Some(types::encode(&written, depth + 1)?), kind, ..Default::default() })
}
