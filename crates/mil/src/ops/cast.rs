//! Ops that change the element type, or nothing at all.

use crate::eval::{Evaluation, Numbers};
use crate::ops::rules::{first, same_as_first};
use crate::ops::{ANY, Accuracy, OpError, Operand, Row, SMALL_INTEGER};
use crate::tensor::Tensor;
use crate::types::{DType, TensorType};

crate::ops! {
    /// `x` itself.
    Identity = "identity"(x: Operand) since IOS15
        { infer: same_as_first, eval: identity, accuracy: Accuracy::Exact }

    /// `x` in another element type: to floating point rounded to nearest even, to integers toward zero, to
    /// bool whether it is not 0.
    Cast = "cast"(x: Operand[T], dtype: String) since IOS15 where [T: ANY]
        { infer: cast_type, eval: cast, accuracy: Accuracy::Exact }

    /// As before ios17, and to and from 8- and 16-bit integers.
    Cast17 = "cast"(x: Operand[T], dtype: String) since IOS17 where [T: ANY.and(SMALL_INTEGER)]
        { infer: cast_type_17, eval: cast_17, accuracy: Accuracy::Exact }
}

fn identity(row: &Identity, _: &mut Evaluation) -> Result<Vec<Tensor>, OpError> {
    Ok(vec![row.x.tensor()?.as_ref().clone()])
}

fn target(name: &str, domain: crate::ops::DTypeSet) -> Result<DType, OpError> {
    DType::from_name(name)
        .filter(|dtype| domain.contains(*dtype))
        .ok_or_else(|| OpError::rule("dtype", format!("must be {domain}")).found(format!("found \"{name}\"")))
}

fn cast_type(row: &Cast) -> Result<Vec<TensorType>, OpError> {
    Ok(vec![TensorType { dtype: target(&row.dtype, ANY)?, shape: row.x.shape().clone() }])
}

fn cast_type_17(row: &Cast17) -> Result<Vec<TensorType>, OpError> {
    let dtype = target(&row.dtype, ANY.and(SMALL_INTEGER))?;
    Ok(vec![TensorType { dtype, shape: row.x.shape().clone() }])
}

fn cast(row: &Cast, evaluation: &mut Evaluation) -> Result<Vec<Tensor>, OpError> {
    convert(row, target(&row.dtype, ANY)?, evaluation)
}

fn cast_17(row: &Cast17, evaluation: &mut Evaluation) -> Result<Vec<Tensor>, OpError> {
    convert(row, target(&row.dtype, ANY.and(SMALL_INTEGER))?, evaluation)
}

fn convert<R: Row>(row: &R, dtype: DType, evaluation: &mut Evaluation) -> Result<Vec<Tensor>, OpError> {
    let x = first(row)?;
    let numbers = match x.numbers()? {
        numbers if dtype.is_float() => Numbers::Float(numbers.into_f64()),
        Numbers::Float(values) => Numbers::Integer(values.iter().map(|&v| to_integer(v, dtype)).collect()),
        integers => integers,
    };
    Ok(vec![evaluation.tensor(dtype, x.dims()?, numbers)?])
}

/// Toward zero; what does not fit goes to the nearest value that does, NaN to 0. A bool is whether it is
/// not 0.
fn to_integer(value: f64, dtype: DType) -> i64 {
    if dtype == DType::Bool {
        return i64::from(value != 0.0);
    }
    match dtype.integer_range() {
        Some((least, most)) => (value as i128).clamp(least, most) as i64,
        None => value as i64,
    }
}
