//! Bounds through ops on single elements.

use std::f64::consts::FRAC_2_SQRT_PI;

use anemone_mil::ops::{Clip, Inverse, Log, Rsqrt};
use anemone_mil::types::DType;

use super::{Interval, Site};

/// The least value of `gelu`, in any of its forms, and of `silu`, with room for rounding.
const LEAST_GELU: f64 = -0.1701;
const LEAST_SILU: f64 = -0.2785;

/// What an elementwise op gives; `None` for other ops.
pub(super) fn range(site: &Site<'_>) -> Option<Interval> {
    let float = site.dtype().is_some_and(DType::is_float);
    one(site, float).or_else(|| two(site, float))
}

/// Ops on one element.
fn one(site: &Site<'_>, float: bool) -> Option<Interval> {
    let x = || site.parameter("x");
    Some(match site.op.name.as_str() {
        "relu" => x()?.rising(|x| x.max(0.0)),
        "tanh" => x()?.rising(f64::tanh),
        "sigmoid" => x()?.rising(|x| 1.0 / (1.0 + (-x).exp())),
        "silu" => gated(x()?, LEAST_SILU),
        "gelu" => gated(x()?, LEAST_GELU),
        "softplus" => x()?.rising(|x| x.max(0.0) + (-x.abs()).exp().ln_1p()),
        "abs" => x()?.magnitude(),
        "sign" => x()?.rising(|x| if x == 0.0 { 0.0 } else { x.signum() }),
        "square" => squared(x()?),
        "sqrt" => x()?.rising(|x| x.max(0.0).sqrt()),
        "rsqrt" => reciprocal_root(x()?, site.bound::<Rsqrt>()?.shift()),
        "inverse" => Interval::point(1.0).over(x()?.plus(Interval::point(site.bound::<Inverse>()?.shift()))),
        "log" => {
            let shift = site.bound::<Log>()?.shift();
            x()?.rising(|x| (x + shift).max(0.0).ln())
        }
        "exp" => x()?.rising(f64::exp),
        "exp2" if float => x()?.rising(f64::exp2),
        "sin" | "cos" => Interval::symmetric(1.0),
        "sinh" => x()?.rising(f64::sinh),
        "cosh" => x()?.magnitude().rising(f64::cosh),
        "erf" => x()?.rising(|x| (x * FRAC_2_SQRT_PI).clamp(-1.0, 1.0)).hull(Interval::ZERO),
        "floor" => x()?.rising(f64::floor),
        "ceil" => x()?.rising(f64::ceil),
        "round" => x()?.rising(f64::round_ties_even),
        "clip" => {
            let Clip { alpha, beta, .. } = site.bound()?;
            x()?.rising(|x| x.max(alpha).min(beta))
        }
        "cast" => cast(site, x()?)?,
        "logical_not" => Interval::UNIT,
        _ => return None,
    })
}

/// Ops on two elements, and `select`.
fn two(site: &Site<'_>, float: bool) -> Option<Interval> {
    let (x, y) = match site.op.name.as_str() {
        "select" => (site.parameter("a")?, site.parameter("b")?),
        "add" | "sub" | "mul" | "real_div" | "floor_div" | "maximum" | "minimum" | "pow" | "equal"
        | "not_equal" | "less" | "less_equal" | "greater" | "greater_equal" | "logical_and"
        | "logical_or" | "logical_xor" => (site.parameter("x")?, site.parameter("y")?),
        _ => return None,
    };
    Some(match site.op.name.as_str() {
        "select" => x.hull(y),
        "add" => x.plus(y),
        "sub" => difference(site, x, y),
        "mul" if site.same("x", "y") => squared(x),
        "mul" => x.times(y),
        // Each term is at most the sum of terms that are not negative.
        "real_div" if float && x.low >= 0.0 && site.reduces("y", "reduce_sum", "x") => Interval::UNIT,
        "real_div" if float => x.over(y),
        "real_div" => x.over(y).rising(f64::trunc),
        "floor_div" if x.is_finite() && y.is_finite() => x.over(y).rising(f64::floor),
        "floor_div" => Interval::ALL,
        "maximum" => Interval::new(x.low.max(y.low), x.high.max(y.high)),
        "minimum" => Interval::new(x.low.min(y.low), x.high.min(y.high)),
        "pow" if float => power(x, y),
        "pow" => return None,
        _ => Interval::UNIT,
    })
}

/// `x²`.
pub(super) fn squared(x: Interval) -> Interval {
    x.magnitude().rising(|x| x * x)
}

/// `x · g(x)` with a gate from 0 to 1 that is at least ½ where `x` is positive: between `x` and 0, and no less than
/// `least`.
fn gated(x: Interval, least: f64) -> Interval {
    Interval::new(x.low.min(0.0).max(least), x.high.max(0.0))
}

/// `1 / √(x + shift)`; `x + shift` is no −0 unless `shift` is.
fn reciprocal_root(x: Interval, shift: f64) -> Interval {
    if shift == 0.0 && shift.is_sign_negative() {
        return Interval::ALL;
    }
    let root = |x: f64| 1.0 / (x + shift).max(0.0).sqrt();
    Interval::new(root(x.high), root(x.low))
}

/// `x − y`, which has a sign where `y` is the largest or least of `x`.
fn difference(site: &Site<'_>, x: Interval, y: Interval) -> Interval {
    if site.same("x", "y") {
        return Interval::ZERO;
    }
    let difference = x.plus(y.negated());
    if site.reduces("y", "reduce_max", "x") || site.reduces("x", "reduce_min", "y") {
        return Interval::new(difference.low, difference.high.min(0.0));
    }
    if site.reduces("y", "reduce_min", "x") || site.reduces("x", "reduce_max", "y") {
        return Interval::new(difference.low.max(0.0), difference.high);
    }
    difference
}

/// `x` to the power `y`.
fn power(x: Interval, y: Interval) -> Interval {
    let exponent = y.low;
    let whole = exponent.fract() == 0.0;
    if y.low == y.high && whole && exponent % 2.0 == 0.0 {
        return x.magnitude().corners(y, f64::powf);
    }
    if y.low == y.high && whole {
        let crosses = exponent < 0.0 && x.has_zero();
        return if crosses { Interval::ALL } else { x.corners(y, f64::powf) };
    }
    if y.low == y.high && exponent.is_finite() {
        // Of a negative number this is NaN, but of −∞ it is 0 or ∞.
        let positive = Interval::new(x.low.max(0.0), x.high.max(0.0)).corners(y, f64::powf);
        return if x.low.is_infinite() { Interval::new(0.0, f64::INFINITY) } else { positive };
    }
    if x.low > 0.0 || (x.low == 0.0 && y.low >= 0.0) {
        return x.corners(y, f64::powf);
    }
    if y.low >= 0.0 {
        let most = Interval::new(0.0, x.largest()).corners(y, f64::powf).high;
        return Interval::symmetric(most);
    }
    Interval::ALL
}

/// A cast: toward zero to integers, where what does not fit may become anything, and NaN does become 0.
fn cast(site: &Site<'_>, x: Interval) -> Option<Interval> {
    let result = site.op.results.first()?;
    let dtype = site.constants.facts.ty(*result).as_tensor()?.dtype;
    Some(if dtype.is_float() || !site.dtype()?.is_float() {
        if dtype == DType::Bool { Interval::UNIT } else { x }
    } else {
        x.rising(f64::trunc).hull(Interval::ZERO)
    })
}
