//! Activation functions.

use crate::eval::Evaluation;
use crate::ops::elementwise::larger;
use crate::ops::rules::same_as_first;
use crate::ops::unary::map;
use crate::ops::{Accuracy, FLOAT, OpError, Operand};
use crate::tensor::Tensor;
use crate::types::TensorType;

crate::ops! {
    /// `max(x, 0)`; NaN stays NaN.
    Relu = relu(x: Operand[T]) since IOS15 where [T: FLOAT]
        { infer: same_as_first, eval: relu, accuracy: Accuracy::Exact; [elementwise] }

    /// The hyperbolic tangent of `x`.
    Tanh = tanh(x: Operand[T]) since IOS15 where [T: FLOAT]
        { infer: same_as_first, eval: tanh, accuracy: Accuracy::Ulp(4); [elementwise] }

    /// `1 / (1 + e⁻ˣ)`.
    Sigmoid = sigmoid(x: Operand[T]) since IOS15 where [T: FLOAT]
        { infer: same_as_first, eval: sigmoid, accuracy: Accuracy::Ulp(4); [elementwise] }

    /// `x · sigmoid(x)`.
    Silu = silu(x: Operand[T]) since IOS15 where [T: FLOAT]
        { infer: same_as_first, eval: silu, accuracy: Accuracy::Ulp(4); [elementwise] }

    /// The Gaussian error linear unit, by the formula that `mode` names:
    ///
    /// * `EXACT`: `½x · (1 + erf(x / √2))`
    /// * `TANH_APPROXIMATION`: `½x · (1 + tanh(√(2/π) · (x + 0.044715x³)))`
    /// * `SIGMOID_APPROXIMATION`: `x · sigmoid(1.702x)`
    Gelu = gelu(x: Operand[T]; mode: String = "EXACT") since IOS15 where [T: FLOAT]
        { infer: gelu_type, eval: gelu, accuracy: Accuracy::Ulp(4); [elementwise] }

    /// `log(1 + eˣ)`.
    Softplus = softplus(x: Operand[T]) since IOS15 where [T: FLOAT]
        { infer: same_as_first, eval: softplus, accuracy: Accuracy::Ulp(4); [elementwise] }
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

/// The function that a mode of `gelu` names.
fn gelu_function(mode: &str) -> Result<fn(f64) -> f64, OpError> {
    use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI, SQRT_2};
    match mode {
        // 1 + erf(z) = erfc(−z) and ½(1 + tanh(z)) = sigmoid(2z), without the cancellation at negative x.
        "EXACT" => Ok(|x| 0.5 * x * libm::erfc(-x * FRAC_1_SQRT_2)),
        "TANH_APPROXIMATION" => {
            // √(2/π) = (2/√π) / √2, doubled.
            Ok(|x| x * logistic(FRAC_2_SQRT_PI * SQRT_2 * (x + 0.044715 * x * x * x)))
        }
        "SIGMOID_APPROXIMATION" => Ok(|x| x * logistic(1.702 * x)),
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

fn softplus(row: &Softplus, evaluation: &mut Evaluation) -> Result<Vec<Tensor>, OpError> {
    // No overflow for large x, no cancellation for small: log(1 + eˣ) = max(x, 0) + log(1 + e^−|x|).
    map(row, evaluation, |x| larger(x, 0.0) + (-x.abs()).exp().ln_1p())
}
