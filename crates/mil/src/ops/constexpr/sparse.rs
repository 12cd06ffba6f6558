//! Tensors of which only the elements that a mask marks are stored.

use super::ConstexprSparseToDense;
use super::palette::{dims_in, packed_length, unpack};
use crate::error::ErrorKind;
use crate::eval::{Evaluation, internal};
use crate::ops::copy::{self, Run};
use crate::ops::{OpError, Operand, movement};
use crate::tensor::{Tensor, TensorError};
use crate::types::{Dim, Opset, TensorType};

/// The positions of the ones in a mask.
pub(super) fn ones(mask: &[i64]) -> impl Iterator<Item = usize> + '_ {
    mask.iter().enumerate().filter(|(_, bit)| **bit != 0).map(|(position, _)| position)
}

/// Refuses data that is no vector with one number for each one in the mask, as far as the mask is known.
pub(super) fn check(name: &str, data: &Operand, mask_name: &str, mask: &Operand) -> Result<(), OpError> {
    check_vector(name, data)?;
    if mask.rank() == 0 {
        return Err(OpError::rule(mask_name, "must have at least one dimension").found("found a scalar"));
    }
    match mask.value {
        Some(_) => check_count(name, data, mask_name, ones(&mask.integers()?).count()),
        None => Ok(()),
    }
}

fn check_vector(name: &str, data: &Operand) -> Result<(), OpError> {
    if data.rank() == 1 {
        return Ok(());
    }
    Err(OpError::rule(name, "must be a vector").found(format!("found {}", data.ty)))
}

fn check_count(name: &str, data: &Operand, mask_name: &str, ones: usize) -> Result<(), OpError> {
    if data.shape().0[0].agrees_with(Dim::from(ones)) {
        return Ok(());
    }
    let message = format!("must hold a number for each of the {ones} ones in `{mask_name}`");
    Err(OpError::rule(name, message).found(format!("found {}", data.ty)))
}

pub(super) fn dense_type(row: &ConstexprSparseToDense) -> Result<Vec<TensorType>, OpError> {
    let (data, mask) = (&row.nonzero_data, &row.mask);
    if row.since >= Opset::IOS18 {
        check("nonzero_data", data, "mask", mask)?;
        return Ok(vec![TensorType { dtype: data.dtype(), shape: mask.shape().clone() }]);
    }
    check_vector("nonzero_data", data)?;
    check_vector("mask", mask)?;
    let types = movement::result("shape", data.dtype(), dims_in(row.shape.as_deref())?)?;
    if let Some(elements) = types[0].shape.elements() {
        let length = packed_length(elements, 1);
        if !mask.shape().0[0].agrees_with(Dim::Known(length)) {
            let message = format!("must hold the {elements} bits of `shape`, packed into {length} bytes");
            return Err(OpError::rule("mask", message).found(format!("found {}", mask.ty)));
        }
        if mask.value.is_some() {
            let bits = unpack(&mask.integers()?, 1, length.saturating_mul(8))?;
            if ones(&bits).any(|position| position as u64 >= elements) {
                return Err(OpError::rule("mask", "bits that are left over in its last byte must be 0"));
            }
            check_count("nonzero_data", data, "mask", ones(&bits).count())?;
        }
    }
    Ok(types)
}

pub(super) fn dense(row: &ConstexprSparseToDense, _: &mut Evaluation) -> Result<Vec<Tensor>, OpError> {
    let dims = movement::dims(dense_type(row))?;
    let mut mask = row.mask.integers()?;
    if row.since < Opset::IOS18 {
        let elements = dims.iter().product::<usize>() as u64;
        mask = unpack(&mask, 1, elements)?;
    }
    let data = row.nonzero_data.tensor()?;
    let zero = Tensor::zeros(data.dtype(), &[1]).ok_or_else(|| internal(TensorError::Memory(data.ty())))?;
    let mut next = 0;
    let runs = mask.iter().map(|&bit| match bit {
        0 => Run { source: 1, ..Run::of(0, 1) },
        _ => {
            next += 1;
            Run::of(next - 1, 1)
        }
    });
    // Without a value, the mask was not held against the data before.
    if ones(&mask).count() != data.len() {
        return Err(OpError::new(ErrorKind::Rule, Some("mask"), "must mark as many elements as there are"));
    }
    Ok(vec![copy::read(&[data, &zero], &dims, runs)?])
}
