//! Gradients of the ops on pairs of elements.

use super::{Add, Maximum, Minimum, Mod, Mul, Pow, RealDiv, Select, Sub};
use crate::builder::AnyCall;
use crate::grad::Pullback;
use crate::ops::{OpError, Operand, call};

/// `dx = dy = d`.
pub(super) fn add(row: &Add, pullback: &mut Pullback<'_>) -> Result<(), OpError> {
    let d = pullback.dy()?;
    pullback.give(&row.x, d)?;
    pullback.give(&row.y, d)
}

/// `dx = d`, `dy = −d`.
pub(super) fn sub(row: &Sub, pullback: &mut Pullback<'_>) -> Result<(), OpError> {
    let d = pullback.dy()?;
    pullback.give(&row.x, d)?;
    pullback.give(&row.y, call::mul(d, -1.0))
}

/// `dx = d · y`, `dy = d · x`.
pub(super) fn mul(row: &Mul, pullback: &mut Pullback<'_>) -> Result<(), OpError> {
    let d = pullback.dy()?;
    pullback.give(&row.x, call::mul(d, &row.y))?;
    pullback.give(&row.y, call::mul(d, &row.x))
}

/// `dx = d / y`, `dy = −(d / y) · q` with the quotient `q`, whose divisor is not squared.
pub(super) fn real_div(row: &RealDiv, pullback: &mut Pullback<'_>) -> Result<(), OpError> {
    let (d, q) = (pullback.dy()?, pullback.y());
    let dx = pullback.bind(call::real_div(d, &row.y))?;
    pullback.give(&row.x, dx)?;
    pullback.give(&row.y, call::mul(call::mul(dx, q), -1.0))
}

/// `dx = d`, `dy = −d · ⌊x / y⌋`.
pub(super) fn modulo(row: &Mod, pullback: &mut Pullback<'_>) -> Result<(), OpError> {
    let d = pullback.dy()?;
    pullback.give(&row.x, d)?;
    pullback.give(&row.y, call::mul(call::mul(d, -1.0), call::floor_div(&row.x, &row.y)))
}

/// `d` goes to the one of `x` and `y` that `first` holds for; where they are equal, half of it to each.
fn extremum(
    (x, y): (&Operand, &Operand),
    [first, second]: [AnyCall; 2],
    pullback: &mut Pullback<'_>,
) -> Result<(), OpError> {
    let d = pullback.dy()?;
    let half = pullback.bind(call::mul(d, 0.5))?;
    let tied = pullback.bind(call::equal(x, y))?;
    pullback.give(x, call::select(tied, half, call::select(first, d, 0.0)))?;
    pullback.give(y, call::select(tied, half, call::select(second, d, 0.0)))
}

/// `dx = d · [x > y]`, `dy = d · [x < y]`; where they are equal, half of it each.
pub(super) fn maximum(row: &Maximum, pullback: &mut Pullback<'_>) -> Result<(), OpError> {
    let (x, y) = (&row.x, &row.y);
    extremum((x, y), [call::greater(x, y).into(), call::less(x, y).into()], pullback)
}

/// `dx = d · [x < y]`, `dy = d · [x > y]`; where they are equal, half of it each.
pub(super) fn minimum(row: &Minimum, pullback: &mut Pullback<'_>) -> Result<(), OpError> {
    let (x, y) = (&row.x, &row.y);
    extremum((x, y), [call::less(x, y).into(), call::greater(x, y).into()], pullback)
}

/// `dx = d · y · x^(y − 1)`, which is 0 where `y` is; `dy = d · xʸ · log x`, which is 0 where `x = 0` and `y ≥ 0`.
pub(super) fn pow(row: &Pow, pullback: &mut Pullback<'_>) -> Result<(), OpError> {
    let (d, power) = (pullback.dy()?, pullback.y());
    let (x, y) = (&row.x, &row.y);
    if pullback.wants(x) {
        // x^(0 − 1) may be infinite, and 0 times infinity is not 0.
        let exponent = call::select(call::equal(y, 0.0), 0.0, call::sub(y, 1.0));
        pullback.give(x, call::mul(d, call::mul(y, call::pow(x, exponent))))?;
    }
    if pullback.wants(y) {
        let vanishes = call::logical_and(call::equal(x, 0.0), call::greater_equal(y, 0.0));
        let logarithm = call::log(call::select(vanishes, 1.0, x)).epsilon(0.0);
        pullback.give(y, call::mul(d, call::mul(power, logarithm)))?;
    }
    Ok(())
}

/// `da = d` where `cond` is true, `db = d` where it is false.
pub(super) fn select(row: &Select, pullback: &mut Pullback<'_>) -> Result<(), OpError> {
    let d = pullback.dy()?;
    pullback.give(&row.a, call::select(&row.cond, d, 0.0))?;
    pullback.give(&row.b, call::select(&row.cond, 0.0, d))
}
