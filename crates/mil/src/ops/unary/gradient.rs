//! Gradients of the ops on single elements.

use super::{Abs, Clip, Cos, Erf, Exp, Exp2, Inverse, Log, Rsqrt, Sin, Sqrt, Square};
use crate::grad::Pullback;
use crate::ops::{OpError, call};

/// `dx = dy · sign(x)`, 0 at 0.
pub(super) fn abs(row: &Abs, pullback: &mut Pullback<'_>) -> Result<(), OpError> {
    let dy = pullback.dy()?;
    pullback.give(&row.x, call::mul(dy, call::sign(&row.x)))
}

/// `dx = 2x · dy`.
pub(super) fn square(row: &Square, pullback: &mut Pullback<'_>) -> Result<(), OpError> {
    let dy = pullback.dy()?;
    pullback.give(&row.x, call::mul(call::mul(dy, &row.x), 2.0))
}

/// `dx = ½ dy / y`.
pub(super) fn sqrt(row: &Sqrt, pullback: &mut Pullback<'_>) -> Result<(), OpError> {
    let (dy, y) = (pullback.dy()?, pullback.y());
    pullback.give(&row.x, call::real_div(call::mul(dy, 0.5), y))
}

/// `dx = −½ dy · y³`, factor by factor: what lies between is no larger than the larger of `dy` and the result.
pub(super) fn rsqrt(row: &Rsqrt, pullback: &mut Pullback<'_>) -> Result<(), OpError> {
    let (dy, y) = (pullback.dy()?, pullback.y());
    pullback.give(&row.x, call::mul(call::mul(call::mul(call::mul(dy, -0.5), y), y), y))
}

/// `dx = −dy · y²`.
pub(super) fn inverse(row: &Inverse, pullback: &mut Pullback<'_>) -> Result<(), OpError> {
    let (dy, y) = (pullback.dy()?, pullback.y());
    pullback.give(&row.x, call::mul(call::mul(call::mul(dy, -1.0), y), y))
}

/// `dx = dy / (x + ε)`.
pub(super) fn log(row: &Log, pullback: &mut Pullback<'_>) -> Result<(), OpError> {
    let dy = pullback.dy()?;
    match row.shift() {
        0.0 => pullback.give(&row.x, call::real_div(dy, &row.x)),
        epsilon => pullback.give(&row.x, call::real_div(dy, call::add(&row.x, epsilon))),
    }
}

/// `dx = dy · y`.
pub(super) fn exp(row: &Exp, pullback: &mut Pullback<'_>) -> Result<(), OpError> {
    let (dy, y) = (pullback.dy()?, pullback.y());
    pullback.give(&row.x, call::mul(dy, y))
}

/// `dx = dy · y · log 2`.
pub(super) fn exp2(row: &Exp2, pullback: &mut Pullback<'_>) -> Result<(), OpError> {
    let (dy, y) = (pullback.dy()?, pullback.y());
    pullback.give(&row.x, call::mul(dy, call::mul(y, std::f64::consts::LN_2)))
}

/// `dx = dy · cos x`.
pub(super) fn sin(row: &Sin, pullback: &mut Pullback<'_>) -> Result<(), OpError> {
    let dy = pullback.dy()?;
    pullback.give(&row.x, call::mul(dy, call::cos(&row.x)))
}

/// `dx = −dy · sin x`.
pub(super) fn cos(row: &Cos, pullback: &mut Pullback<'_>) -> Result<(), OpError> {
    let dy = pullback.dy()?;
    pullback.give(&row.x, call::mul(call::mul(dy, -1.0), call::sin(&row.x)))
}

/// `dx = dy · 2/√π · exp(−x²)`.
pub(super) fn erf(row: &Erf, pullback: &mut Pullback<'_>) -> Result<(), OpError> {
    let dy = pullback.dy()?;
    let bell = call::exp(call::mul(call::square(&row.x), -1.0));
    pullback.give(&row.x, call::mul(dy, call::mul(bell, std::f64::consts::FRAC_2_SQRT_PI)))
}

/// `dx = dy` where `alpha ≤ x ≤ beta`, 0 elsewhere.
pub(super) fn clip(row: &Clip, pullback: &mut Pullback<'_>) -> Result<(), OpError> {
    let dy = pullback.dy()?;
    let (above, below) = (call::greater_equal(&row.x, row.alpha), call::less_equal(&row.x, row.beta));
    pullback.give(&row.x, call::select(call::logical_and(above, below), dy, 0.0))
}
