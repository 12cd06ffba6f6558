//! Ops on single elements: absolute value, powers, exponentials, rounding, clipping.

use crate::eval::{Evaluation, Numbers, collect};
use crate::grad::Pullback;
use crate::ops::elementwise::{larger, smaller};
use crate::ops::rules::{first, flat, same_as_first};
use crate::ops::{Accuracy, BOOL, FLOAT, NUMBER, OpError, Operand, Row, call};
use crate::tensor::Tensor;
use crate::types::{DType, Opset, TensorType};

mod gradient;

crate::ops! {
    /// `|x|`. That of the least int32 wraps to itself.
    Abs = abs(x: Operand[T]) since IOS15 where [T: NUMBER]
        { infer: same_as_first, eval: abs, accuracy: Accuracy::Exact; vjp: gradient::abs; [elementwise] }

    /// −1, 0 or 1, as `x` is negative, zero or positive; NaN stays NaN.
    Sign = sign(x: Operand[T]) since IOS15 where [T: NUMBER]
        { infer: same_as_first, eval: sign, accuracy: Accuracy::Exact; vjp: flat; [elementwise] }

    /// `x²`. Integers wrap.
    Square = square(x: Operand[T]) since IOS15 where [T: NUMBER]
        { infer: same_as_first, eval: square, accuracy: Accuracy::Exact; vjp: gradient::square; [elementwise] }

    /// `√x`.
    Sqrt = sqrt(x: Operand[T]) since IOS15 where [T: FLOAT]
        { infer: same_as_first, eval: sqrt, accuracy: Accuracy::Exact; vjp: gradient::sqrt; [elementwise] }

    /// `1 / √(x + epsilon)`; by default `epsilon` is 1e-12, rounded to the type of `x` (in fp16: 0).
    Rsqrt = rsqrt(x: Operand[T]; epsilon: Option<f64>[U])
        since IOS15 where [T: FLOAT, U = T]
        since IOS17 where [T: FLOAT, U: FLOAT]
        { infer: same_as_first, eval: rsqrt, accuracy: Accuracy::Ulp(2); vjp: gradient::rsqrt; [elementwise] }

    /// `1 / (x + epsilon)`; by default `epsilon` is 1e-4, rounded to the type of `x`.
    Inverse = inverse(x: Operand[T]; epsilon: Option<f64>[U])
        since IOS15 where [T: FLOAT, U = T]
        since IOS17 where [T: FLOAT, U: FLOAT]
        { infer: same_as_first, eval: inverse, accuracy: Accuracy::Ulp(1); vjp: gradient::inverse; [elementwise] }

    /// `log(x + epsilon)`, the natural logarithm; by default `epsilon` is 1e-45, rounded to the type of `x`
    /// (in fp16: 0).
    Log = log(x: Operand[T]; epsilon: Option<f64>[U])
        since IOS15 where [T: FLOAT, U = T]
        since IOS17 where [T: FLOAT, U: FLOAT]
        { infer: same_as_first, eval: log, accuracy: Accuracy::Ulp(2); vjp: gradient::log; [elementwise] }

    /// `eˣ`.
    Exp = exp(x: Operand[T]) since IOS15 where [T: FLOAT]
        { infer: same_as_first, eval: exp, accuracy: Accuracy::Ulp(2); vjp: gradient::exp; [elementwise] }

    /// `2ˣ`. Integers wrap, and negative exponents give 0.
    Exp2 = exp2(x: Operand[T]) since IOS15 where [T: NUMBER]
        { infer: same_as_first, eval: exp2, accuracy: Accuracy::Ulp(2); vjp: gradient::exp2; [elementwise] }

    /// The sine of `x` in radians.
    Sin = sin(x: Operand[T]) since IOS15 where [T: FLOAT]
        { infer: same_as_first, eval: sin, accuracy: Accuracy::Ulp(2); vjp: gradient::sin; [elementwise] }

    /// The cosine of `x` in radians.
    Cos = cos(x: Operand[T]) since IOS15 where [T: FLOAT]
        { infer: same_as_first, eval: cos, accuracy: Accuracy::Ulp(2); vjp: gradient::cos; [elementwise] }

    /// The hyperbolic sine of `x`.
    Sinh = sinh(x: Operand[T]) since IOS15 where [T: FLOAT]
        { infer: same_as_first, eval: sinh, accuracy: Accuracy::Ulp(4); vjp: sinh_vjp; [elementwise] }

    /// The hyperbolic cosine of `x`.
    Cosh = cosh(x: Operand[T]) since IOS15 where [T: FLOAT]
        { infer: same_as_first, eval: cosh, accuracy: Accuracy::Ulp(4); vjp: cosh_vjp; [elementwise] }

    /// The error function `2/√π · ∫₀ˣ e^(−t²) dt`.
    Erf = erf(x: Operand[T]) since IOS15 where [T: FLOAT]
        { infer: same_as_first, eval: erf, accuracy: Accuracy::Ulp(4); vjp: gradient::erf; [elementwise] }

    /// The largest integer that is not greater than `x`.
    Floor = floor(x: Operand[T]) since IOS15 where [T: FLOAT]
        { infer: same_as_first, eval: floor, accuracy: Accuracy::Exact; vjp: flat; [elementwise] }

    /// The smallest integer that is not less than `x`.
    Ceil = ceil(x: Operand[T]) since IOS15 where [T: FLOAT]
        { infer: same_as_first, eval: ceil, accuracy: Accuracy::Exact; vjp: flat; [elementwise] }

    /// The integer nearest to `x`, of two equally near the even one.
    Round = round(x: Operand[T]) since IOS15 where [T: FLOAT]
        { infer: same_as_first, eval: round, accuracy: Accuracy::Exact; vjp: flat; [elementwise] }

    /// `min(max(x, alpha), beta)`; NaN stays NaN. From ios17 on `alpha` must be less than `beta`.
    Clip = clip(x: Operand[T], alpha: f64[T], beta: f64[T])
        since IOS15 where [T: FLOAT]
        since IOS17 where [T: FLOAT]
        { infer: clip_type, eval: clip, accuracy: Accuracy::Exact; vjp: gradient::clip; [elementwise, by_opset] }

    /// Whether `x` is false.
    LogicalNot = logical_not(x: Operand[T]) since IOS15 where [T: BOOL]
        { infer: same_as_first, eval: logical_not, accuracy: Accuracy::Exact; [elementwise] }
}

/// Applies a function to each element.
pub(super) fn map<R: Row>(
    row: &R,
    evaluation: &Evaluation,
    function: impl Fn(f64) -> f64,
) -> Result<Vec<Tensor>, OpError> {
    map_sum(row, evaluation, None, function)
}

/// Applies a function to each element, or to the sum of each and a number: with 0, -0 becomes 0.
fn map_sum<R: Row>(
    row: &R,
    evaluation: &Evaluation,
    shift: Option<f64>,
    function: impl Fn(f64) -> f64,
) -> Result<Vec<Tensor>, OpError> {
    let x = first(row)?;
    let mut values = x.floats()?;
    let (arithmetic, dtype) = (evaluation.arithmetic(), x.dtype());
    if let Some(shift) = shift {
        values.iter_mut().for_each(|value| *value += shift);
    }
    for value in &mut values {
        *value = arithmetic.function(R::BASE.name, dtype, *value).unwrap_or_else(|| function(*value));
    }
    Ok(vec![evaluation.tensor(x.dtype(), x.dims()?, Numbers::Float(values))?])
}

/// Applies the function for the operand's kind of number to each element.
pub(super) fn map_number<R: Row>(
    row: &R,
    evaluation: &Evaluation,
    float: impl Fn(f64) -> f64,
    integer: impl Fn(i64) -> i64,
) -> Result<Vec<Tensor>, OpError> {
    let x = first(row)?;
    let Numbers::Integer(mut values) = x.numbers()? else { return map(row, evaluation, float) };
    values.iter_mut().for_each(|value| *value = integer(*value));
    Ok(vec![evaluation.tensor(x.dtype(), x.dims()?, Numbers::Integer(values))?])
}

fn abs(row: &Abs, evaluation: &mut Evaluation) -> Result<Vec<Tensor>, OpError> {
    map_number(row, evaluation, f64::abs, i64::wrapping_abs)
}

fn sign(row: &Sign, evaluation: &mut Evaluation) -> Result<Vec<Tensor>, OpError> {
    let float = |x: f64| match x.partial_cmp(&0.0) {
        Some(order) => f64::from(order as i8),
        None => x,
    };
    map_number(row, evaluation, float, i64::signum)
}

fn square(row: &Square, evaluation: &mut Evaluation) -> Result<Vec<Tensor>, OpError> {
    map_number(row, evaluation, |x| x * x, |x| x.wrapping_mul(x))
}

fn sqrt(row: &Sqrt, evaluation: &mut Evaluation) -> Result<Vec<Tensor>, OpError> {
    map(row, evaluation, f64::sqrt)
}

/// An epsilon that is added to `x` first: the given one, or the default rounded to the type of `x`.
fn shift(given: Option<f64>, default: f64, x: &Operand) -> f64 {
    let rounded = || Tensor::from_f64(x.dtype(), &[], &[default]).ok()?.to_f64()?.first().copied();
    given.or_else(rounded).unwrap_or(default)
}

impl Rsqrt {
    /// What is added to `x`.
    pub fn shift(&self) -> f64 {
        shift(self.epsilon, 1e-12, &self.x)
    }
}

impl Inverse {
    /// What is added to `x`.
    pub fn shift(&self) -> f64 {
        shift(self.epsilon, 1e-4, &self.x)
    }
}

impl Log {
    /// What is added to `x`.
    pub fn shift(&self) -> f64 {
        shift(self.epsilon, 1e-45, &self.x)
    }
}

fn rsqrt(row: &Rsqrt, evaluation: &mut Evaluation) -> Result<Vec<Tensor>, OpError> {
    map_sum(row, evaluation, Some(row.shift()), |x| 1.0 / x.sqrt())
}

fn inverse(row: &Inverse, evaluation: &mut Evaluation) -> Result<Vec<Tensor>, OpError> {
    map_sum(row, evaluation, Some(row.shift()), f64::recip)
}

fn log(row: &Log, evaluation: &mut Evaluation) -> Result<Vec<Tensor>, OpError> {
    map_sum(row, evaluation, Some(row.shift()), f64::ln)
}

fn exp(row: &Exp, evaluation: &mut Evaluation) -> Result<Vec<Tensor>, OpError> {
    map(row, evaluation, f64::exp)
}

fn exp2(row: &Exp2, evaluation: &mut Evaluation) -> Result<Vec<Tensor>, OpError> {
    let integer = |x: i64| u32::try_from(x).ok().and_then(|x| 1i64.checked_shl(x)).unwrap_or(0);
    map_number(row, evaluation, f64::exp2, integer)
}

fn sin(row: &Sin, evaluation: &mut Evaluation) -> Result<Vec<Tensor>, OpError> {
    map(row, evaluation, f64::sin)
}

fn cos(row: &Cos, evaluation: &mut Evaluation) -> Result<Vec<Tensor>, OpError> {
    map(row, evaluation, f64::cos)
}

fn sinh(row: &Sinh, evaluation: &mut Evaluation) -> Result<Vec<Tensor>, OpError> {
    map(row, evaluation, f64::sinh)
}

fn sinh_vjp(row: &Sinh, pullback: &mut Pullback<'_>) -> Result<(), OpError> {
    let dy = pullback.dy()?;
    pullback.give(&row.x, call::mul(dy, call::cosh(&row.x)))
}

fn cosh(row: &Cosh, evaluation: &mut Evaluation) -> Result<Vec<Tensor>, OpError> {
    map(row, evaluation, f64::cosh)
}

fn cosh_vjp(row: &Cosh, pullback: &mut Pullback<'_>) -> Result<(), OpError> {
    let dy = pullback.dy()?;
    pullback.give(&row.x, call::mul(dy, call::sinh(&row.x)))
}

fn erf(row: &Erf, evaluation: &mut Evaluation) -> Result<Vec<Tensor>, OpError> {
    map(row, evaluation, libm::erf)
}

fn floor(row: &Floor, evaluation: &mut Evaluation) -> Result<Vec<Tensor>, OpError> {
    map(row, evaluation, f64::floor)
}

fn ceil(row: &Ceil, evaluation: &mut Evaluation) -> Result<Vec<Tensor>, OpError> {
    map(row, evaluation, f64::ceil)
}

fn round(row: &Round, evaluation: &mut Evaluation) -> Result<Vec<Tensor>, OpError> {
    map(row, evaluation, f64::round_ties_even)
}

fn clip(row: &Clip, evaluation: &mut Evaluation) -> Result<Vec<Tensor>, OpError> {
    map(row, evaluation, |x| smaller(larger(x, row.alpha), row.beta))
}

fn clip_type(row: &Clip) -> Result<Vec<TensorType>, OpError> {
    if row.since < Opset::IOS17 || row.alpha < row.beta {
        return same_as_first(row);
    }
    Err(OpError::rule("alpha", "must be less than `beta`")
        .found(format!("found {} and a `beta` of {}", row.alpha, row.beta)))
}

fn logical_not(row: &LogicalNot, evaluation: &mut Evaluation) -> Result<Vec<Tensor>, OpError> {
    let negated = collect(row.x.integers()?.into_iter().map(|x| i64::from(x == 0)))?;
    Ok(vec![evaluation.tensor(DType::Bool, row.x.dims()?, Numbers::Integer(negated))?])
}
