//! The tangent, and the inverses of trigonometric and hyperbolic functions.

use crate::eval::Evaluation;
use crate::grad::Pullback;
use crate::ops::rules::same_as_first;
use crate::ops::unary::map;
use crate::ops::{Accuracy, FLOAT, OpError, Operand, call};
use crate::program::ValueId;
use crate::tensor::Tensor;

crate::ops! {
    /// The tangent of `x` in radians.
    Tan = tan(x: Operand[T]) since IOS15 where [T: FLOAT]
        { infer: same_as_first, eval: tan, accuracy: Accuracy::Ulp(2); vjp: tan_vjp; [elementwise] }

    /// The angle from 0 to π whose cosine is `x`; NaN beyond ±1.
    Acos = acos(x: Operand[T]) since IOS15 where [T: FLOAT]
        { infer: same_as_first, eval: acos, accuracy: Accuracy::Ulp(2); vjp: acos_vjp; [elementwise] }

    /// The angle from −π/2 to π/2 whose sine is `x`; NaN beyond ±1.
    Asin = asin(x: Operand[T]) since IOS15 where [T: FLOAT]
        { infer: same_as_first, eval: asin, accuracy: Accuracy::Ulp(2); vjp: asin_vjp; [elementwise] }

    /// The angle from −π/2 to π/2 whose tangent is `x`.
    Atan = atan(x: Operand[T]) since IOS15 where [T: FLOAT]
        { infer: same_as_first, eval: atan, accuracy: Accuracy::Ulp(2); vjp: atan_vjp; [elementwise] }

    /// The number whose hyperbolic tangent is `x`: infinite at ±1, NaN beyond.
    Atanh = atanh(x: Operand[T]) since IOS15 where [T: FLOAT]
        { infer: same_as_first, eval: atanh, accuracy: Accuracy::Ulp(2); vjp: atanh_vjp; [elementwise] }
}

fn tan(row: &Tan, evaluation: &mut Evaluation) -> Result<Vec<Tensor>, OpError> {
    map(row, evaluation, f64::tan)
}

/// `dx = dy · (1 + y²)`, factor by factor: the square may be too large.
fn tan_vjp(row: &Tan, pullback: &mut Pullback<'_>) -> Result<(), OpError> {
    let (dy, y) = (pullback.dy()?, pullback.y());
    pullback.give(&row.x, call::add(dy, call::mul(call::mul(dy, y), y)))
}

fn acos(row: &Acos, evaluation: &mut Evaluation) -> Result<Vec<Tensor>, OpError> {
    map(row, evaluation, f64::acos)
}

/// `1 − x²`, without the loss near ±1.
fn rest_of_square(x: &Operand, pullback: &mut Pullback<'_>) -> Result<ValueId, OpError> {
    pullback.bind(call::mul(call::sub(1.0, x), call::add(x, 1.0)))
}

/// `dx = −dy / √(1 − x²)`.
fn acos_vjp(row: &Acos, pullback: &mut Pullback<'_>) -> Result<(), OpError> {
    let dy = pullback.dy()?;
    let sine = call::sqrt(rest_of_square(&row.x, pullback)?);
    pullback.give(&row.x, call::real_div(call::mul(dy, -1.0), sine))
}

fn asin(row: &Asin, evaluation: &mut Evaluation) -> Result<Vec<Tensor>, OpError> {
    map(row, evaluation, f64::asin)
}

/// `dx = dy / √(1 − x²)`.
fn asin_vjp(row: &Asin, pullback: &mut Pullback<'_>) -> Result<(), OpError> {
    let dy = pullback.dy()?;
    let cosine = call::sqrt(rest_of_square(&row.x, pullback)?);
    pullback.give(&row.x, call::real_div(dy, cosine))
}

fn atan(row: &Atan, evaluation: &mut Evaluation) -> Result<Vec<Tensor>, OpError> {
    map(row, evaluation, f64::atan)
}

/// `dx = dy / (1 + x²)`, of which the square may be too large for fp16.
fn atan_vjp(row: &Atan, pullback: &mut Pullback<'_>) -> Result<(), OpError> {
    let dy = pullback.dy()?;
    let (dy, x) = (pullback.widen(dy)?, pullback.widen(&row.x)?);
    pullback.give(&row.x, call::real_div(dy, call::add(call::square(x), 1.0)))
}

fn atanh(row: &Atanh, evaluation: &mut Evaluation) -> Result<Vec<Tensor>, OpError> {
    // Of |x| the logarithm's argument is large near 1, and loses nothing.
    map(row, evaluation, |x| x.abs().atanh().copysign(x))
}

/// `dx = dy / (1 − x²)`.
fn atanh_vjp(row: &Atanh, pullback: &mut Pullback<'_>) -> Result<(), OpError> {
    let dy = pullback.dy()?;
    let rest = rest_of_square(&row.x, pullback)?;
    pullback.give(&row.x, call::real_div(dy, rest))
}
