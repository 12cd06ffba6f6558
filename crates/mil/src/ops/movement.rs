//! What the ops that move data share: results of bounded size, vectors of lengths, indices.

use crate::error::ErrorKind;
use crate::ops::rules::known_dims;
use crate::ops::{OpError, Operand};
use crate::types::{DType, Dim, Shape, TensorType};

/// The largest rank of a result: a bound on what a hostile program can ask the verifier for. Core ML itself
/// stops at 5.
const MOST_DIMENSIONS: usize = 64;

/// The type of a single result.
///
/// # Errors
///
/// When it would be too large for any machine; `parameter` is the one to blame.
pub(super) fn result(parameter: &str, dtype: DType, dims: Vec<Dim>) -> Result<Vec<TensorType>, OpError> {
    check_rank(parameter, dims.len())?;
    let known = Shape(dims.iter().copied().filter(|dim| dim.known().is_some()).collect());
    let shape = Shape(dims);
    match known.elements() {
        Some(_) => Ok(vec![TensorType { dtype, shape }]),
        None => Err(OpError::rule(parameter, format!("the result {shape} is too large"))),
    }
}

/// The type of a single result of which only the rank is known.
///
/// # Errors
///
/// When the rank is too large.
pub(super) fn unknown_result(parameter: &str, dtype: DType, rank: u64) -> Result<Vec<TensorType>, OpError> {
    let rank = usize::try_from(rank).unwrap_or(usize::MAX);
    check_rank(parameter, rank)?;
    Ok(vec![TensorType { dtype, shape: Shape(vec![Dim::Unknown; rank]) }])
}

/// The dimensions of a single result, from its type as inferred while running.
pub(super) fn dims(types: Result<Vec<TensorType>, OpError>) -> Result<Vec<usize>, OpError> {
    known_dims(&types?.remove(0).shape)
}

/// Refuses a rank that is out of the question.
pub(super) fn check_rank(parameter: &str, rank: usize) -> Result<(), OpError> {
    if rank <= MOST_DIMENSIONS {
        return Ok(());
    }
    Err(OpError::rule(parameter, format!("a tensor has at most {MOST_DIMENSIONS} dimensions"))
        .found(format!("these are {rank}")))
}

/// The integers of a vector operand, once they are known; `length` is the number that it must hold.
///
/// # Errors
///
/// When the operand is no vector, or one of another length.
pub(super) fn integers(
    parameter: &str,
    operand: &Operand,
    length: Option<usize>,
) -> Result<Option<Vec<i64>>, OpError> {
    if operand.rank() != 1 {
        return Err(OpError::rule(parameter, "must be a vector").found(format!("found {}", operand.ty)));
    }
    if let Some(length) = length
        && !operand.shape().0[0].agrees_with(Dim::from(length))
    {
        return Err(wrong_length(parameter, length, operand.shape().0[0]));
    }
    let Some(values) = operand.known_integers() else { return Ok(None) };
    match length {
        Some(length) if length != values.len() => {
            Err(wrong_length(parameter, length, Dim::from(values.len())))
        }
        _ => Ok(Some(values)),
    }
}

/// The type of a single result whose dimensions an operand holds.
///
/// # Errors
///
/// When the operand is no vector of a known length, or one of them is negative.
pub(super) fn of_lengths(parameter: &str, shape: &Operand, dtype: DType) -> Result<Vec<TensorType>, OpError> {
    let Some(lengths) = integers(parameter, shape, None)? else {
        return match shape.shape().0[0] {
            Dim::Known(rank) => unknown_result(parameter, dtype, rank),
            Dim::Unknown => Err(OpError::rule(parameter, "must have a known length, the rank of the result")
                .found(format!("found {}", shape.ty))),
        };
    };
    let dims: Option<Vec<Dim>> =
        lengths.iter().map(|&length| u64::try_from(length).ok().map(Dim::Known)).collect();
    match dims {
        Some(dims) => result(parameter, dtype, dims),
        None => Err(OpError::rule(parameter, "must not be negative").found(format!("found {lengths:?}"))),
    }
}

/// The error for a vector that must have one entry per dimension, or another fixed number.
pub(super) fn wrong_length(parameter: &str, wanted: usize, found: Dim) -> OpError {
    OpError::rule(parameter, format!("must hold {wanted} {}", if wanted == 1 { "entry" } else { "entries" }))
        .found(format!("found {found}"))
}

/// A known dimension as a signed number, to compute with offsets from either end.
///
/// # Errors
///
/// When it is beyond any machine's memory.
pub(super) fn length(parameter: &str, dim: u64) -> Result<i64, OpError> {
    i64::try_from(dim).map_err(|_| OpError::rule(parameter, format!("a dimension of {dim} is too large")))
}

/// Refuses an operand that is not a scalar.
pub(super) fn check_scalar(parameter: &str, operand: &Operand) -> Result<(), OpError> {
    if operand.rank() == 0 {
        return Ok(());
    }
    Err(OpError::rule(parameter, "must be a scalar").found(format!("found {}", operand.ty)))
}

/// The value of a constant scalar of integers.
///
/// # Errors
///
/// When the operand is no scalar, or its value is not known.
pub(super) fn constant_scalar(parameter: &str, operand: &Operand) -> Result<i64, OpError> {
    check_scalar(parameter, operand)?;
    operand.known_integers().and_then(|values| values.first().copied()).ok_or_else(|| {
        OpError::new(ErrorKind::NotConstant, Some(parameter), "must be a constant whose value is written")
    })
}

/// The length that a parameter gives a dimension.
///
/// # Errors
///
/// When it is not positive.
pub(super) fn positive(parameter: &str, length: i32) -> Result<Dim, OpError> {
    match u64::try_from(length) {
        Ok(known) if known > 0 => Ok(Dim::Known(known)),
        _ => Err(OpError::rule(parameter, "must be positive").found(format!("found {length}"))),
    }
}

/// The position that an index means along a dimension of `length`; negative ones, where they are allowed,
/// count from the end.
///
/// # Errors
///
/// When there is no such element.
pub(super) fn index(
    parameter: &str,
    index: i64,
    length: usize,
    negative_allowed: bool,
) -> Result<usize, OpError> {
    let least = if negative_allowed { -(length as i64) } else { 0 };
    if index < least || index >= length as i64 {
        let message = format!("the index {index} is out of range for a dimension of {length}");
        let error = OpError::rule(parameter, message);
        return Err(if index < 0 && !negative_allowed {
            error.found("since ios17 an index must not be negative")
        } else {
            error.found(format!("expected {least} to {}", length as i64 - 1))
        });
    }
    Ok(if index < 0 { (index + length as i64) as usize } else { index as usize })
}
