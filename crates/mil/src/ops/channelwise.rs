//! Activations with parameters for each channel of `x [n, C, *D]`.
//!
//! From ios17 on the parameters may have another floating-point type than `x`.

use crate::eval::{Evaluation, Numbers};
use crate::grad::{Pullback, lengths};
use crate::ops::activation::log_one_plus_exp;
use crate::ops::reduce::Grouping;
use crate::ops::{Accuracy, Constant, FLOAT, OpError, Operand, call};
use crate::program::ValueId;
use crate::tensor::Tensor;
use crate::types::{Shape, TensorType};

crate::ops! {
    /// `x` where `x > 0`, elsewhere `alpha · x`, with the `alpha [C]` of its channel, for `x` of rank 3 to 5. Unless the
    /// rank is 4, all of `alpha` must be the same, to within 1e-5.
    Prelu = prelu(x: Operand[T], alpha: Constant[U])
        since IOS15 where [T: FLOAT, U = T]
        since IOS17 where [T: FLOAT, U: FLOAT]
        { infer: prelu_type, eval: prelu, accuracy: Accuracy::Ulp(1); vjp: prelu_vjp }

    /// `alpha · log(1 + e^(beta · x))` with the `alpha [C]` and `beta [C]` of its channel, for `x` of rank 3 or more.
    SoftplusParametric = softplus_parametric(x: Operand[T], alpha: Constant[U], beta: Constant[U])
        since IOS15 where [T: FLOAT, U = T]
        since IOS17 where [T: FLOAT, U: FLOAT]
        { infer: softplus_type, eval: softplus_parametric, accuracy: Accuracy::Ulp(4); vjp: softplus_vjp }
}

/// Refuses a parameter that has not one value for each channel of `x`, which has them.
fn check(name: &str, parameter: &Operand, x: &Operand) -> Result<(), OpError> {
    let wanted = Shape(vec![x.shape().0[1]]);
    if parameter.shape().agrees_with(&wanted) {
        return Ok(());
    }
    let message = format!("must have the shape {wanted}, one value for each channel of `x`");
    Err(OpError::rule(name, message).found(format!("found {}", parameter.shape())))
}

/// How the elements of `x` fall to its channels.
fn channels(dims: &[usize]) -> Grouping {
    Grouping::new(dims, &others(dims.len()))
}

/// The axes that are not the channels'.
fn others(rank: usize) -> Vec<usize> {
    (0..rank).filter(|&axis| axis != 1).collect()
}

fn prelu_type(row: &Prelu) -> Result<Vec<TensorType>, OpError> {
    let x = &row.x;
    if !(3..=5).contains(&x.rank()) {
        let error = OpError::rule("x", "must have rank 3 to 5: [n, C, *D]");
        return Err(error.found(format!("found {}", x.ty)));
    }
    check("alpha", &row.alpha, x)?;
    if x.rank() != 4
        && let Some(alpha) = row.alpha.value.as_ref().and_then(|value| value.to_f64())
        && let Some(other) = alpha.iter().find(|&&other| (other - alpha[0]).abs() > 1e-5)
    {
        let message = format!("must hold one value everywhere for an `x` of rank {}", x.rank());
        return Err(OpError::rule("alpha", message).found(format!("found {} and {other}", alpha[0])));
    }
    Ok(vec![x.ty.clone()])
}

fn prelu(row: &Prelu, evaluation: &mut Evaluation) -> Result<Vec<Tensor>, OpError> {
    prelu_type(row)?;
    let dims = row.x.dims()?;
    let (mut values, alpha) = (row.x.floats()?, row.alpha.floats()?);
    channels(dims).for_each(|element, channel| {
        let x = values[element];
        values[element] = if x > 0.0 { x } else { alpha[channel] * x };
    });
    Ok(vec![evaluation.tensor(row.x.dtype(), dims, Numbers::Float(values))?])
}

/// The sum over all axes but the channels'.
fn give_by_channel(
    pullback: &mut Pullback<'_>,
    parameter: &Operand,
    gradient: ValueId,
) -> Result<(), OpError> {
    let rank = pullback.dims_of(gradient)?.len();
    pullback.give(parameter, call::reduce_sum(gradient).axes(lengths(&others(rank))?))
}

/// `dx = dy` where `x > 0`, elsewhere `dy · alpha`; `dalpha = Σ dy · x` over those elsewhere.
fn prelu_vjp(row: &Prelu, pullback: &mut Pullback<'_>) -> Result<(), OpError> {
    let dy = pullback.dy()?;
    let rank = row.x.rank();
    let alpha = pullback.along(&row.alpha, &[1], rank)?;
    let alpha = pullback.cast(alpha, row.x.dtype())?;
    let rises = pullback.bind(call::greater(&row.x, 0.0))?;
    pullback.give(&row.x, call::select(rises, dy, call::mul(dy, alpha)))?;
    if pullback.wants(&row.alpha) {
        let below = pullback.bind(call::select(rises, 0.0, call::mul(dy, &row.x)))?;
        give_by_channel(pullback, &row.alpha, below)?;
    }
    Ok(())
}

fn softplus_type(row: &SoftplusParametric) -> Result<Vec<TensorType>, OpError> {
    let x = &row.x;
    if x.rank() < 3 {
        let error = OpError::rule("x", "must have at least rank 3: [n, C, *D]");
        return Err(error.found(format!("found {}", x.ty)));
    }
    check("alpha", &row.alpha, x)?;
    check("beta", &row.beta, x)?;
    Ok(vec![x.ty.clone()])
}

fn softplus_parametric(
    row: &SoftplusParametric,
    evaluation: &mut Evaluation,
) -> Result<Vec<Tensor>, OpError> {
    softplus_type(row)?;
    let dims = row.x.dims()?;
    let (mut values, alpha, beta) = (row.x.floats()?, row.alpha.floats()?, row.beta.floats()?);
    channels(dims).for_each(|element, channel| {
        values[element] = alpha[channel] * log_one_plus_exp(beta[channel] * values[element]);
    });
    Ok(vec![evaluation.tensor(row.x.dtype(), dims, Numbers::Float(values))?])
}

/// With `u = beta · x` and `s = sigmoid(u)`: `dx = dy · alpha · beta · s`, `dalpha = Σ dy · softplus(u)` and
/// `dbeta = Σ dy · alpha · x · s`, sums over all but the channels.
fn softplus_vjp(row: &SoftplusParametric, pullback: &mut Pullback<'_>) -> Result<(), OpError> {
    let (rank, dtype) = (row.x.rank(), row.x.dtype());
    let dy = pullback.dy()?;
    let alpha = pullback.along(&row.alpha, &[1], rank)?;
    let alpha = pullback.cast(alpha, dtype)?;
    let beta = pullback.along(&row.beta, &[1], rank)?;
    let beta = pullback.cast(beta, dtype)?;
    let u = pullback.bind(call::mul(&row.x, beta))?;
    let slope = pullback.bind(call::mul(call::mul(dy, alpha), call::sigmoid(u)))?;
    pullback.give(&row.x, call::mul(slope, beta))?;
    if pullback.wants(&row.alpha) {
        let part = pullback.bind(call::mul(dy, call::softplus(u)))?;
        give_by_channel(pullback, &row.alpha, part)?;
    }
    if pullback.wants(&row.beta) {
        let part = pullback.bind(call::mul(slope, &row.x))?;
        give_by_channel(pullback, &row.beta, part)?;
    }
    Ok(())
}
