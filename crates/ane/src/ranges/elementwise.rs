//! Bounds through ops on single elements.

use std::f64::consts::{FRAC_2_SQRT_PI, FRAC_PI_2};

use anemone_mil::ops::{
    ClampedRelu, Clip, Elu, Inverse, LeakyRelu, LinearActivation, Log, Rsqrt, ScaledTanh, SigmoidHard,
    ThresholdedRelu,
};
use anemone_mil::types::DType;

use super::{Interval, Site};

/// The least value of `gelu`, in any of its forms, and of `silu`, with room for rounding.
const LEAST_GELU: f64 = -0.1701;
const LEAST_SILU: f64 = -0.2785;

/// What an elementwise op gives; `None` for other ops.
pub(super) fn range(site: &Site<'_>) -> Option<Interval> {
    let float = site.dtype().is_some_and(DType::is_float);
    one(site, float).or_else(|| rectifier(site)).or_else(|| two(site, float)).or_else(|| quantized(site))
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
        "softplus" => softplus(x()?),
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
        // Its poles are everywhere where x is not known to lie between two.
        "tan" if x()?.largest() < FRAC_PI_2 => x()?.rising(f64::tan),
        "acos" => arc(x()?.negated()).plus(Interval::point(FRAC_PI_2)).widened(1.0),
        "asin" => arc(x()?),
        "atan" => x()?.rising(f64::atan),
        "atanh" => x()?.rising(|x| x.clamp(-1.0, 1.0).atanh()),
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

/// Activations of pieces.
fn rectifier(site: &Site<'_>) -> Option<Interval> {
    let x = || site.parameter("x");
    Some(match site.op.name.as_str() {
        "elu" => two_sided(x()?, Interval::point(site.bound::<Elu>()?.alpha), f64::exp_m1),
        "leaky_relu" => two_sided(x()?, Interval::point(site.bound::<LeakyRelu>()?.alpha), |x| x),
        "prelu" => two_sided(x()?, site.parameter("alpha")?, |x| x),
        "softplus_parametric" => {
            softplus(x()?.times(site.parameter("beta")?)).times(site.parameter("alpha")?)
        }
        "linear_activation" => {
            let LinearActivation { alpha, beta, .. } = site.bound()?;
            straight(x()?, alpha, beta)
        }
        "clamped_relu" => {
            let ClampedRelu { alpha, beta, .. } = site.bound()?;
            two_sided(x()?, Interval::point(alpha), |x| x).rising(|x| x.min(beta))
        }
        "relu6" => x()?.rising(|x| x.clamp(0.0, 6.0)),
        "scaled_tanh" => {
            let ScaledTanh { alpha, beta, .. } = site.bound()?;
            x()?.times(Interval::point(beta)).rising(f64::tanh).times(Interval::point(alpha))
        }
        "sigmoid_hard" => {
            let SigmoidHard { alpha, beta, .. } = site.bound()?;
            straight(x()?, alpha, beta).rising(|x| x.clamp(0.0, 1.0))
        }
        "softsign" => x()?.rising(|x| if x.is_infinite() { x.signum() } else { x / (1.0 + x.abs()) }),
        "threshold" => {
            let (x, alpha) = (x()?, site.parameter("alpha")?);
            Interval::new(x.low.max(alpha.low), x.high.max(alpha.high))
        }
        "thresholded_relu" => {
            let (x, alpha) = (x()?, site.bound::<ThresholdedRelu>()?.alpha);
            if x.low >= alpha { x } else { x.rising(|x| x.max(alpha)).hull(Interval::ZERO) }
        }
        _ => return None,
    })
}

/// `x` where it is positive, elsewhere `alpha · negative(x)`.
fn two_sided(x: Interval, alpha: Interval, negative: impl Fn(f64) -> f64) -> Interval {
    let below = x.rising(|x| negative(x.min(0.0))).times(alpha);
    x.rising(|x| x.max(0.0)).hull(below)
}

/// `log(1 + eˣ)`.
fn softplus(x: Interval) -> Interval {
    x.rising(|x| x.max(0.0) + (-x.abs()).exp().ln_1p())
}

/// `alpha · x + beta`.
fn straight(x: Interval, alpha: f64, beta: f64) -> Interval {
    x.times(Interval::point(alpha)).plus(Interval::point(beta))
}

/// The arc sine, which beyond ±1 is NaN.
fn arc(sine: Interval) -> Interval {
    sine.rising(|sine| sine.clamp(-1.0, 1.0).asin())
}

/// Ops on two elements, and `select`.
fn two(site: &Site<'_>, float: bool) -> Option<Interval> {
    let (x, y) = match site.op.name.as_str() {
        "select" => (site.parameter("a")?, site.parameter("b")?),
        "add" | "sub" | "mul" | "real_div" | "floor_div" | "mod" | "maximum" | "minimum" | "pow"
        | "equal" | "not_equal" | "less" | "less_equal" | "greater" | "greater_equal" | "logical_and"
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
        // Between 0 and y, but where y is infinite.
        "mod" => y.hull(Interval::ZERO),
        "maximum" => Interval::new(x.low.max(y.low), x.high.max(y.high)),
        "minimum" => Interval::new(x.low.min(y.low), x.high.min(y.high)),
        "pow" if float => power(x, y),
        "pow" => return None,
        _ => Interval::UNIT,
    })
}

/// Ops between floating point and integers of eight bits, which the result's type clamps.
fn quantized(site: &Site<'_>) -> Option<Interval> {
    let (input, scale) = (|| site.parameter("input"), || site.parameter("scale"));
    let zero_point = site.parameter("zero_point").unwrap_or(Interval::ZERO);
    Some(match site.op.name.as_str() {
        "quantize" => {
            let dtype = site.constants.facts.ty(*site.op.results.first()?).as_tensor()?.dtype;
            let Interval { low, high } = Interval::of_type(dtype);
            let steps = input()?.over(scale()?).rising(f64::round_ties_even).plus(zero_point);
            // NaN, which the type of floating point may hold, becomes 0.
            steps.rising(|steps| steps.clamp(low, high)).hull(Interval::ZERO)
        }
        "dequantize" => input()?.plus(zero_point.negated()).times(scale()?),
        _ => return None,
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
