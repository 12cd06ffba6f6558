//! Rectifiers and their kin: activations of pieces, most of them straight, with constant parameters.
//!
//! From ios17 on the parameters may have another floating-point type than `x`; what they hold is never rounded.

use crate::eval::{Evaluation, Numbers};
use crate::grad::Pullback;
use crate::ops::elementwise::{larger, smaller};
use crate::ops::movement::check_scalar;
use crate::ops::rules::same_as_first;
use crate::ops::unary::{map, map_number};
use crate::ops::{Accuracy, Constant, FLOAT, NUMBER, OpError, Operand, call};
use crate::tensor::Tensor;
use crate::types::TensorType;

crate::ops! {
    /// `x` where `x > 0`, elsewhere `alpha · (eˣ − 1)`.
    Elu = elu(x: Operand[T], alpha: f64[U])
        since IOS15 where [T: FLOAT, U = T]
        since IOS17 where [T: FLOAT, U: FLOAT]
        { infer: same_as_first, eval: elu, accuracy: Accuracy::Ulp(4); vjp: elu_vjp; [elementwise] }

    /// `x` where `x ≥ 0`, elsewhere `alpha · x`.
    LeakyRelu = leaky_relu(x: Operand[T], alpha: f64[U])
        since IOS15 where [T: FLOAT, U = T]
        since IOS17 where [T: FLOAT, U: FLOAT]
        { infer: same_as_first, eval: leaky_relu, accuracy: Accuracy::Ulp(1); vjp: leaky_relu_vjp; [elementwise] }

    /// `alpha · x + beta`.
    LinearActivation = linear_activation(x: Operand[T], alpha: f64[U], beta: f64[U])
        since IOS15 where [T: FLOAT, U = T]
        since IOS17 where [T: FLOAT, U: FLOAT]
        { infer: same_as_first, eval: linear_activation, accuracy: Accuracy::Ulp(1);
          vjp: linear_activation_vjp; [elementwise] }

    /// `min(x, beta)` where `x ≥ 0`, elsewhere `min(alpha · x, beta)`. For a negative `beta` the sources disagree: so
    /// says the text of coremltools, while its code adds `min(0, beta)` once more.
    ClampedRelu = clamped_relu(x: Operand[T], alpha: f64[U], beta: f64[U])
        since IOS15 where [T: FLOAT, U = T]
        since IOS17 where [T: FLOAT, U: FLOAT]
        { infer: same_as_first, eval: clamped_relu, accuracy: Accuracy::Ulp(1);
          vjp: clamped_relu_vjp; [elementwise] }

    /// `min(max(x, 0), 6)`; NaN stays NaN.
    Relu6 = relu6(x: Operand[T]) since IOS15 where [T: FLOAT]
        { infer: same_as_first, eval: relu6, accuracy: Accuracy::Exact; vjp: relu6_vjp; [elementwise] }

    /// `alpha · tanh(beta · x)`.
    ScaledTanh = scaled_tanh(x: Operand[T], alpha: f64[U], beta: f64[U])
        since IOS15 where [T: FLOAT, U = T]
        since IOS17 where [T: FLOAT, U: FLOAT]
        { infer: same_as_first, eval: scaled_tanh, accuracy: Accuracy::Ulp(4); vjp: scaled_tanh_vjp; [elementwise] }

    /// `min(max(alpha · x + beta, 0), 1)`.
    SigmoidHard = sigmoid_hard(x: Operand[T], alpha: f64[U], beta: f64[U])
        since IOS15 where [T: FLOAT, U = T]
        since IOS17 where [T: FLOAT, U: FLOAT]
        { infer: same_as_first, eval: sigmoid_hard, accuracy: Accuracy::Ulp(1);
          vjp: sigmoid_hard_vjp; [elementwise] }

    /// `x / (1 + |x|)`; of infinities, by that formula, NaN.
    Softsign = softsign(x: Operand[T]) since IOS15 where [T: FLOAT]
        { infer: same_as_first, eval: softsign, accuracy: Accuracy::Ulp(1); vjp: softsign_vjp; [elementwise] }

    /// `max(x, alpha)`; NaN stays NaN.
    Threshold = threshold(x: Operand[T], alpha: Constant[T]) since IOS15 where [T: NUMBER]
        { infer: threshold_type, eval: threshold, accuracy: Accuracy::Exact; vjp: threshold_vjp; [elementwise] }

    /// 0 where `x < alpha`, elsewhere `x`; NaN stays NaN, as in the code of coremltools, whose text leaves it open.
    ThresholdedRelu = thresholded_relu(x: Operand[T], alpha: f64[U])
        since IOS15 where [T: FLOAT, U = T]
        since IOS17 where [T: FLOAT, U: FLOAT]
        { infer: same_as_first, eval: thresholded_relu, accuracy: Accuracy::Exact;
          vjp: thresholded_relu_vjp; [elementwise] }
}

fn elu(row: &Elu, evaluation: &mut Evaluation) -> Result<Vec<Tensor>, OpError> {
    map(row, evaluation, |x| if x > 0.0 { x } else { row.alpha * x.exp_m1() })
}

/// `dx = dy` where `x > 0`, elsewhere `dy · alpha · eˣ`: where `y` is near `−alpha`, the sum of both would lose it.
fn elu_vjp(row: &Elu, pullback: &mut Pullback<'_>) -> Result<(), OpError> {
    let dy = pullback.dy()?;
    let falling = call::mul(dy, call::mul(call::exp(&row.x), row.alpha));
    pullback.give(&row.x, call::select(call::greater(&row.x, 0.0), dy, falling))
}

fn leaky_relu(row: &LeakyRelu, evaluation: &mut Evaluation) -> Result<Vec<Tensor>, OpError> {
    map(row, evaluation, |x| if x >= 0.0 { x } else { row.alpha * x })
}

/// `dx = dy` where `x ≥ 0`, elsewhere `dy · alpha`.
fn leaky_relu_vjp(row: &LeakyRelu, pullback: &mut Pullback<'_>) -> Result<(), OpError> {
    let dy = pullback.dy()?;
    let rises = call::greater_equal(&row.x, 0.0);
    pullback.give(&row.x, call::select(rises, dy, call::mul(dy, row.alpha)))
}

fn linear_activation(row: &LinearActivation, evaluation: &mut Evaluation) -> Result<Vec<Tensor>, OpError> {
    map(row, evaluation, |x| row.alpha * x + row.beta)
}

/// `dx = dy · alpha`.
fn linear_activation_vjp(row: &LinearActivation, pullback: &mut Pullback<'_>) -> Result<(), OpError> {
    let dy = pullback.dy()?;
    pullback.give(&row.x, call::mul(dy, row.alpha))
}

fn clamped_relu(row: &ClampedRelu, evaluation: &mut Evaluation) -> Result<Vec<Tensor>, OpError> {
    map(row, evaluation, |x| smaller(if x >= 0.0 { x } else { row.alpha * x }, row.beta))
}

/// `dx = 0` where `y = beta`; elsewhere `dy` where `x ≥ 0`, and `dy · alpha` where it is not.
fn clamped_relu_vjp(row: &ClampedRelu, pullback: &mut Pullback<'_>) -> Result<(), OpError> {
    let (dy, y) = (pullback.dy()?, pullback.y());
    let rises = call::greater_equal(&row.x, 0.0);
    let free = call::select(rises, dy, call::mul(dy, row.alpha));
    pullback.give(&row.x, call::select(call::less(y, row.beta), free, 0.0))
}

fn relu6(row: &Relu6, evaluation: &mut Evaluation) -> Result<Vec<Tensor>, OpError> {
    map(row, evaluation, |x| smaller(larger(x, 0.0), 6.0))
}

/// `dx = dy` where `0 < y < 6`, elsewhere 0.
fn relu6_vjp(row: &Relu6, pullback: &mut Pullback<'_>) -> Result<(), OpError> {
    let (dy, y) = (pullback.dy()?, pullback.y());
    let free = call::logical_and(call::greater(y, 0.0), call::less(y, 6.0));
    pullback.give(&row.x, call::select(free, dy, 0.0))
}

fn scaled_tanh(row: &ScaledTanh, evaluation: &mut Evaluation) -> Result<Vec<Tensor>, OpError> {
    map(row, evaluation, |x| row.alpha * (row.beta * x).tanh())
}

/// `dx = dy · alpha · beta · (1 − t)(1 + t)` with `t = tanh(beta · x)`.
fn scaled_tanh_vjp(row: &ScaledTanh, pullback: &mut Pullback<'_>) -> Result<(), OpError> {
    let dy = pullback.dy()?;
    let t = pullback.bind(call::tanh(call::mul(&row.x, row.beta)))?;
    let slope = call::mul(call::sub(1.0, t), call::add(t, 1.0));
    let scaled = call::mul(call::mul(dy, row.alpha), row.beta);
    pullback.give(&row.x, call::mul(scaled, slope))
}

fn sigmoid_hard(row: &SigmoidHard, evaluation: &mut Evaluation) -> Result<Vec<Tensor>, OpError> {
    map(row, evaluation, |x| smaller(larger(row.alpha * x + row.beta, 0.0), 1.0))
}

/// `dx = dy · alpha` where `0 < y < 1`, elsewhere 0.
fn sigmoid_hard_vjp(row: &SigmoidHard, pullback: &mut Pullback<'_>) -> Result<(), OpError> {
    let (dy, y) = (pullback.dy()?, pullback.y());
    let free = call::logical_and(call::greater(y, 0.0), call::less(y, 1.0));
    pullback.give(&row.x, call::select(free, call::mul(dy, row.alpha), 0.0))
}

fn softsign(row: &Softsign, evaluation: &mut Evaluation) -> Result<Vec<Tensor>, OpError> {
    map(row, evaluation, |x| x / (1.0 + x.abs()))
}

/// `dx = dy / (1 + |x|)²`, one factor after the other: the square may be too large.
fn softsign_vjp(row: &Softsign, pullback: &mut Pullback<'_>) -> Result<(), OpError> {
    let dy = pullback.dy()?;
    let divisor = pullback.bind(call::add(call::abs(&row.x), 1.0))?;
    pullback.give(&row.x, call::real_div(call::real_div(dy, divisor), divisor))
}

fn threshold_type(row: &Threshold) -> Result<Vec<TensorType>, OpError> {
    check_scalar("alpha", &row.alpha)?;
    same_as_first(row)
}

fn threshold(row: &Threshold, evaluation: &mut Evaluation) -> Result<Vec<Tensor>, OpError> {
    threshold_type(row)?;
    match row.alpha.numbers()? {
        Numbers::Float(alpha) => {
            let least = alpha.first().copied().unwrap_or(f64::NAN);
            map(row, evaluation, |x| larger(x, least))
        }
        Numbers::Integer(alpha) => {
            let least = alpha.first().copied().unwrap_or(i64::MIN);
            map_number(row, evaluation, |x| x, |x| x.max(least))
        }
    }
}

/// `dx = dy` where `x ≥ alpha`; elsewhere it goes to `alpha`.
fn threshold_vjp(row: &Threshold, pullback: &mut Pullback<'_>) -> Result<(), OpError> {
    let dy = pullback.dy()?;
    let above = pullback.bind(call::greater_equal(&row.x, &row.alpha.0))?;
    pullback.give(&row.x, call::select(above, dy, 0.0))?;
    pullback.give(&row.alpha, call::select(above, 0.0, dy))
}

fn thresholded_relu(row: &ThresholdedRelu, evaluation: &mut Evaluation) -> Result<Vec<Tensor>, OpError> {
    map(row, evaluation, |x| if x < row.alpha { 0.0 } else { x })
}

/// `dx = 0` where `x < alpha`, elsewhere `dy`.
fn thresholded_relu_vjp(row: &ThresholdedRelu, pullback: &mut Pullback<'_>) -> Result<(), OpError> {
    let dy = pullback.dy()?;
    pullback.give(&row.x, call::select(call::less(&row.x, row.alpha), 0.0, dy))
}
