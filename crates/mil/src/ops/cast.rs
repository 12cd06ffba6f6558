//! Ops that change the element type, or nothing at all.

use crate::eval::{Evaluation, Numbers, collect};
use crate::grad::Pullback;
use crate::ops::rules::{free, same_as_first};
use crate::ops::{ANY, ANY_17, Accuracy, OpError, Operand};
use crate::tensor::Tensor;
use crate::types::{DType, Opset, TensorType};

crate::ops! {
    /// `x` itself.
    Identity = identity(x: Operand) since IOS15
        { infer: same_as_first, eval: identity, accuracy: Accuracy::Exact; vjp: identity_vjp; flops: free; [elementwise] }

    /// `x` in another element type: to floating point rounded to nearest even, to integers toward zero, to
    /// bool whether it is not 0. 8- and 16-bit integers come with ios17.
    Cast = cast(x: Operand[T], dtype: String)
        since IOS15 where [T: ANY]
        since IOS17 where [T: ANY_17]
        { infer: cast_type, eval: cast, accuracy: Accuracy::Exact; vjp: cast_vjp; flops: free; [elementwise] }
}

fn identity_vjp(row: &Identity, pullback: &mut Pullback<'_>) -> Result<(), OpError> {
    let dy = pullback.dy()?;
    pullback.give(&row.x, dy)
}

fn identity(row: &Identity, _: &mut Evaluation) -> Result<Vec<Tensor>, OpError> {
    Ok(vec![row.x.tensor()?.as_ref().clone()])
}

/// The element type that a cast names, of those that its signature knows.
fn target(row: &Cast) -> Result<DType, OpError> {
    let domain = if row.since < Opset::IOS17 { ANY } else { ANY_17 };
    DType::from_name(&row.dtype).filter(|dtype| domain.contains(*dtype)).ok_or_else(|| {
        OpError::rule("dtype", format!("must be {domain}")).found(format!("found \"{}\"", row.dtype))
    })
}

fn cast_type(row: &Cast) -> Result<Vec<TensorType>, OpError> {
    Ok(vec![TensorType { dtype: target(row)?, shape: row.x.shape().clone() }])
}

fn cast(row: &Cast, evaluation: &mut Evaluation) -> Result<Vec<Tensor>, OpError> {
    let dtype = target(row)?;
    let numbers = match row.x.numbers()? {
        numbers if dtype.is_float() => Numbers::Float(numbers.into_f64()),
        Numbers::Float(values) => Numbers::Integer(collect(values.iter().map(|&v| to_integer(v, dtype)))?),
        integers => integers,
    };
    Ok(vec![evaluation.tensor(dtype, row.x.dims()?, numbers)?])
}

/// Between floating-point types the derivative is 1; [`Pullback::give`] casts back. What came of or went through
/// integers has none, and is not reached.
fn cast_vjp(row: &Cast, pullback: &mut Pullback<'_>) -> Result<(), OpError> {
    let dy = pullback.dy()?;
    pullback.give(&row.x, dy)
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
