//! Blocks of neighbours that share a parameter, and the ops that shift and scale by blocks.

use super::sparse::{self, ones};
use super::{ConstexprBlockwiseShiftScale, ConstexprSparseBlockwiseShiftScale};
use crate::error::ErrorKind;
use crate::eval::{Evaluation, Numbers, room};
use crate::ops::{OpError, Operand, copy};
use crate::tensor::Tensor;
use crate::types::{DType, Dim, Shape, TensorType};

/// Refuses parameters that do not belong to whole blocks of a tensor: their dimensions are as many as the tensor's, and
/// each divides the tensor's.
pub(super) fn check(name: &str, parameters: &Shape, of: &str, tensor: &Shape) -> Result<(), OpError> {
    let divides = |(&blocks, &length)| match (blocks, length) {
        (Dim::Known(blocks), Dim::Known(length)) => blocks > 0 && length % blocks == 0,
        _ => true,
    };
    if tensor.rank() == 0 {
        return Err(OpError::rule(of, "must have at least one dimension").found("found a scalar"));
    }
    if parameters.rank() == tensor.rank() && parameters.0.iter().zip(&tensor.0).all(divides) {
        return Ok(());
    }
    let message = format!("must have as many dimensions as `{of}`, each a divisor of it");
    Err(OpError::rule(name, message).found(format!("found {parameters} for {tensor}")))
}

/// For an element at a position of a row-major tensor of these dimensions, the position of its block among `counts`
/// blocks, a row-major tensor of them: neighbours share a block. Each count divides its dimension.
pub fn block_of(position: usize, dims: &[usize], counts: &[usize]) -> usize {
    let (mut rest, mut block, mut step) = (position, 0, 1);
    for (&length, &count) in dims.iter().zip(counts).rev() {
        block += rest % length / (length / count) * step;
        rest /= length;
        step *= count;
    }
    block
}

/// Checks scales and offsets for data of a shape and an element type.
fn check_parameters(
    (name, data, dtype): (&str, &Shape, DType),
    scale: &Operand,
    offset: Option<&Operand>,
) -> Result<(), OpError> {
    check("scale", scale.shape(), name, data)?;
    let Some(offset) = offset else { return Ok(()) };
    if !offset.shape().agrees_with(scale.shape()) {
        let message = format!("must have the shape of `scale`, {}", scale.shape());
        return Err(OpError::rule("offset", message).found(format!("found {}", offset.shape())));
    }
    if !offset.dtype().is_float() && offset.dtype() != dtype {
        let message = format!("must be of floating point, or have the element type of the data, {dtype}");
        let error = OpError::new(ErrorKind::ElementType, Some("offset"), message);
        return Err(error.found(format!("found {}", offset.dtype())));
    }
    Ok(())
}

/// Shifts and scales values; `block` gives the position of the block of the value at a position.
fn shift_and_scale(
    values: &mut [f64],
    scale: &Operand,
    offset: Option<&Operand>,
    block: impl Fn(usize) -> usize,
) -> Result<(), OpError> {
    let scales = scale.floats()?;
    let offsets = offset.map(|offset| offset.floats()).transpose()?;
    for (i, value) in values.iter_mut().enumerate() {
        let block = block(i);
        let offset = offsets.as_ref().map_or(0.0, |offsets| offsets[block]);
        *value = scales[block] * (*value - offset);
    }
    Ok(())
}

pub(super) fn dense_type(row: &ConstexprBlockwiseShiftScale) -> Result<Vec<TensorType>, OpError> {
    let data = &row.data;
    check_parameters(("data", data.shape(), data.dtype()), &row.scale, row.offset.as_deref())?;
    Ok(vec![TensorType { dtype: row.scale.dtype(), shape: data.shape().clone() }])
}

pub(super) fn dense(
    row: &ConstexprBlockwiseShiftScale,
    evaluation: &mut Evaluation,
) -> Result<Vec<Tensor>, OpError> {
    let (dims, counts) = (row.data.dims()?, row.scale.dims()?);
    let mut values = row.data.floats()?;
    shift_and_scale(&mut values, &row.scale, row.offset.as_deref(), |i| block_of(i, dims, counts))?;
    Ok(vec![evaluation.tensor(row.scale.dtype(), dims, Numbers::Float(values))?])
}

pub(super) fn sparse_type(row: &ConstexprSparseBlockwiseShiftScale) -> Result<Vec<TensorType>, OpError> {
    let (mask, data) = (&row.data_mask, &row.nonzero_data);
    sparse::check("nonzero_data", data, "data_mask", mask)?;
    check_parameters(("data_mask", mask.shape(), data.dtype()), &row.scale, row.offset.as_deref())?;
    let data = TensorType { dtype: row.scale.dtype(), shape: data.shape().clone() };
    Ok(vec![mask.ty.clone(), data])
}

pub(super) fn sparse(
    row: &ConstexprSparseBlockwiseShiftScale,
    evaluation: &mut Evaluation,
) -> Result<Vec<Tensor>, OpError> {
    let (dims, counts) = (row.data_mask.dims()?, row.scale.dims()?);
    let mut values = row.nonzero_data.floats()?;
    let mut places = room(values.len())?;
    places.extend(ones(&row.data_mask.integers()?));
    shift_and_scale(&mut values, &row.scale, row.offset.as_deref(), |i| block_of(places[i], dims, counts))?;
    let mask = copy::whole(row.data_mask.tensor()?, dims)?;
    let data = evaluation.tensor(row.scale.dtype(), row.nonzero_data.dims()?, Numbers::Float(values))?;
    Ok(vec![mask, data])
}
