//! Activation functions.

use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI, SQRT_2};

use crate::eval::Evaluation;
use crate::grad::Pullback;
use crate::ops::elementwise::larger;
use crate::ops::rules::same_as_first;
use crate::ops::unary::map;
use crate::ops::{Accuracy, FLOAT, OpError, Operand, call};
use crate::tensor::Tensor;
use crate::types::TensorType;

crate::ops! {
    /// `max(x, 0)`; NaN stays NaN.
    Relu = relu(x: Operand[T]) since IOS15 where [T: FLOAT]
        { infer: same_as_first, eval: relu, accuracy: Accuracy::Exact; vjp: relu_vjp; [elementwise] }

    /// The hyperbolic tangent of `x`.
    Tanh = tanh(x: Operand[T]) since IOS15 where [T: FLOAT]
        { infer: same_as_first, eval: tanh, accuracy: Accuracy::Ulp(4); vjp: tanh_vjp; [elementwise] }

    /// `1 / (1 + e⁻ˣ)`.
    Sigmoid = sigmoid(x: Operand[T]) since IOS15 where [T: FLOAT]
        { infer: same_as_first, eval: sigmoid, accuracy: Accuracy::Ulp(4); vjp: sigmoid_vjp; [elementwise] }

    /// `x · sigmoid(x)`.
    Silu = silu(x: Operand[T]) since IOS15 where [T: FLOAT]
        { infer: same_as_first, eval: silu, accuracy: Accuracy::Ulp(4); vjp: silu_vjp; [elementwise] }

    /// The Gaussian error linear unit, by the formula that `mode` names:
    ///
    /// * `EXACT`: `½x · (1 + erf(x / √2))`
    /// * `TANH_APPROXIMATION`: `½x · (1 + tanh(√(2/π) · (x + 0.044715x³)))`
    /// * `SIGMOID_APPROXIMATION`: `x · sigmoid(1.702x)`
    Gelu = gelu(x: Operand[T]; mode: String = "EXACT") since IOS15 where [T: FLOAT]
        { infer: gelu_type, eval: gelu, accuracy: Accuracy::Ulp(4); vjp: gelu_vjp; [elementwise] }

    /// `log(1 + eˣ)`.
    Softplus = softplus(x: Operand[T]) since IOS15 where [T: FLOAT]
        { infer: same_as_first, eval: softplus, accuracy: Accuracy::Ulp(4); vjp: softplus_vjp; [elementwise] }
}

fn relu(row: &Relu, evaluation: &mut Evaluation) -> Result<Vec<Tensor>, OpError> {
    map(row, evaluation, |x| larger(x, 0.0))
}

fn tanh(row: &Tanh, evaluation: &mut Evaluation) -> Result<Vec<Tensor>, OpError> {
    map(row, evaluation, f64::tanh)
}

fn logistic(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

fn sigmoid(row: &Sigmoid, evaluation: &mut Evaluation) -> Result<Vec<Tensor>, OpError> {
    map(row, evaluation, logistic)
}

fn silu(row: &Silu, evaluation: &mut Evaluation) -> Result<Vec<Tensor>, OpError> {
    map(row, evaluation, |x| x * logistic(x))
}

/// `2 · √(2/π)`, the slope at 0 of the logistic function's argument in the tanh approximation of `gelu`.
const TANH_SLOPE: f64 = FRAC_2_SQRT_PI * SQRT_2;
/// The weight of `x³` beside `x` in that argument.
const TANH_CUBE: f64 = 0.044715;
/// The slope of the argument in the sigmoid approximation.
const SIGMOID_SLOPE: f64 = 1.702;

/// The function that a mode of `gelu` names.
fn gelu_function(mode: &str) -> Result<fn(f64) -> f64, OpError> {
    match mode {
        // 1 + erf(z) = erfc(−z) and ½(1 + tanh(z)) = sigmoid(2z), without the cancellation at negative x.
        "EXACT" => Ok(|x| 0.5 * x * libm::erfc(-x * FRAC_1_SQRT_2)),
        "TANH_APPROXIMATION" => Ok(|x| x * logistic(TANH_SLOPE * (x + TANH_CUBE * x * x * x))),
        "SIGMOID_APPROXIMATION" => Ok(|x| x * logistic(SIGMOID_SLOPE * x)),
        other => Err(OpError::rule("mode", "must be EXACT, TANH_APPROXIMATION or SIGMOID_APPROXIMATION")
            .found(format!("found \"{other}\""))),
    }
}

fn gelu_type(row: &Gelu) -> Result<Vec<TensorType>, OpError> {
    gelu_function(&row.mode)?;
    same_as_first(row)
}

fn gelu(row: &Gelu, evaluation: &mut Evaluation) -> Result<Vec<Tensor>, OpError> {
    map(row, evaluation, gelu_function(&row.mode)?)
}

/// `log(1 + eˣ)`, as `max(x, 0) + log(1 + e^−|x|)`: no overflow for large `x`, no cancellation for small.
pub(super) fn log_one_plus_exp(x: f64) -> f64 {
    larger(x, 0.0) + (-x.abs()).exp().ln_1p()
}

fn softplus(row: &Softplus, evaluation: &mut Evaluation) -> Result<Vec<Tensor>, OpError> {
    map(row, evaluation, log_one_plus_exp)
}

/// `dx = dy · [y > 0]`.
fn relu_vjp(row: &Relu, pullback: &mut Pullback<'_>) -> Result<(), OpError> {
    let (dy, y) = (pullback.dy()?, pullback.y());
    pullback.give(&row.x, call::select(call::greater(y, 0.0), dy, 0.0))
}

/// `dx = dy · (1 − y)(1 + y)`: near ±1 the difference is exact, where that of `1 − y²` is not.
fn tanh_vjp(row: &Tanh, pullback: &mut Pullback<'_>) -> Result<(), OpError> {
    let (dy, y) = (pullback.dy()?, pullback.y());
    let slope = call::mul(call::sub(1.0, y), call::add(y, 1.0));
    pullback.give(&row.x, call::mul(dy, slope))
}

/// `dx = dy · y(1 − y)`.
fn sigmoid_vjp(row: &Sigmoid, pullback: &mut Pullback<'_>) -> Result<(), OpError> {
    let (dy, y) = (pullback.dy()?, pullback.y());
    pullback.give(&row.x, call::mul(dy, call::mul(y, call::sub(1.0, y))))
}

/// `dx = dy · s(1 + x(1 − s))` with `s = sigmoid(x)`.
fn silu_vjp(row: &Silu, pullback: &mut Pullback<'_>) -> Result<(), OpError> {
    let dy = pullback.dy()?;
    let s = pullback.bind(call::sigmoid(&row.x))?;
    let slope = call::mul(s, call::add(call::mul(&row.x, call::sub(1.0, s)), 1.0));
    pullback.give(&row.x, call::mul(dy, slope))
}

/// `dx = dy · sigmoid(x)`.
fn softplus_vjp(row: &Softplus, pullback: &mut Pullback<'_>) -> Result<(), OpError> {
    let dy = pullback.dy()?;
    pullback.give(&row.x, call::mul(dy, call::sigmoid(&row.x)))
}

/// `dx = dy · slope(x)`, with a slope by mode:
///
/// * `EXACT`: `Φ(x) + x·φ(x)`, with `Φ(x) = ½(1 + erf(x / √2))` and `φ(x) = exp(−½x²) / √(2π)`
/// * the approximations, `x·s(u(x))` with the logistic function `s`: `s + x·u′·s(1 − s)`
fn gelu_vjp(row: &Gelu, pullback: &mut Pullback<'_>) -> Result<(), OpError> {
    let (dy, x) = (pullback.dy()?, &row.x);
    let slope = match row.mode.as_str() {
        "EXACT" => {
            let erf = call::erf(call::mul(x, FRAC_1_SQRT_2));
            let bell = call::exp(call::mul(call::square(x), -0.5));
            let density = call::mul(bell, 0.5 * FRAC_2_SQRT_PI * FRAC_1_SQRT_2);
            call::add(call::mul(call::add(erf, 1.0), 0.5), call::mul(x, density))
        }
        "TANH_APPROXIMATION" => {
            // Beyond ±12, s is 0 or 1 to far more digits than f64 has, and powers of x overflow.
            let x = pullback.bind(call::clip(x, -12.0, 12.0))?;
            let square = pullback.bind(call::square(x))?;
            let factor = call::add(call::mul(square, TANH_SLOPE * TANH_CUBE), TANH_SLOPE);
            let s = pullback.bind(call::sigmoid(call::mul(x, factor)))?;
            let derivative = call::add(call::mul(square, 3.0 * TANH_SLOPE * TANH_CUBE), TANH_SLOPE);
            let change = call::mul(call::mul(s, call::sub(1.0, s)), derivative);
            call::add(s, call::mul(x, change))
        }
        _ => {
            let s = pullback.bind(call::sigmoid(call::mul(x, SIGMOID_SLOPE)))?;
            let change = call::mul(call::mul(s, call::sub(1.0, s)), SIGMOID_SLOPE);
            call::add(s, call::mul(x, change))
        }
    };
    pullback.give(x, call::mul(dy, slope))
}
