//! Ops that compute each element of the result from one element of one operand.

use std::sync::Arc;

use anemone_mil::ops::{self, Clip, Gelu, Inverse, Log, OpDef, OpError, Operand, Operands, Row, Rsqrt};
use pulp::Simd;

use super::Choice;
use super::elementwise::{OfOne, One, Plain, StripFunction};
use crate::element::{is_float, larger, smaller};
use crate::functions::{self, Real};

/// Defines functions of one number, with the numbers that they depend on: whether the results for fp32 numbers are
/// computed in fp64, the work, and the expression, in which `R` is the type of the numbers and `S` the vectors.
macro_rules! functions {
    ($($name:ident($($parameter:ident),*), $wide:literal, $work:literal, |$x:ident| $body:expr;)*) => {$(
        #[derive(Clone, Copy)]
        struct $name {
            $($parameter: f64,)*
        }

        impl OfOne for $name {
            const WIDE: bool = $wide;
            const WORK: usize = $work;

            #[inline(always)]
            fn apply<R: Real, S: Simd>(self, $x: R) -> R {
                $(let $parameter = R::of(self.$parameter);)*
                $body
            }
        }
    )*};
}

functions! {
    Exp(), false, 4, |x| x.exponential::<S>();
    Exp2(), true, 8, |x| functions::exp2::<R, S>(x);
    Logarithm(epsilon), true, 8, |x| (x + epsilon).logarithm::<S>();
    Sigmoid(), false, 8, |x| functions::logistic::<R, S>(x);
    // In fp32, where the logistic function is subnormal, its product with x needs more of its bits.
    Silu(), true, 8, |x| x * functions::logistic::<R, S>(x);
    Tanh(), true, 8, |x| functions::tanh::<R, S>(x);
    Erf(), true, 16, |x| functions::erf::<R, S>(x);
    Softplus(), true, 16, |x| functions::softplus::<R, S>(x);
    GeluExact(), true, 16, |x| functions::gelu::<R, S>(x);
    GeluByTanh(), true, 8, |x| functions::gelu_by_tanh::<R, S>(x);
    GeluBySigmoid(), true, 8, |x| x * functions::logistic::<R, S>(R::of(1.702) * x);
    InverseRoot(epsilon), true, 8, |x| (x + epsilon).inverse_root::<S>();
    Reciprocal(epsilon), true, 4, |x| R::of(1.0) / (x + epsilon);
    ScaledTanh(alpha, beta), true, 8, |x| alpha * functions::tanh::<R, S>(beta * x);
    Softsign(), true, 4, |x| x / (R::of(1.0) + x.magnitude());
    ExponentialUnit(alpha), true, 8, |x| {
        let below = alpha * functions::exp_minus_one::<R, S>(x);
        if x > R::of(0.0) { x } else { below }
    };
}

/// The kernel for an op of one floating-point operand.
pub(super) fn unary(row: &OpDef, operands: &Operands<'_>) -> Result<Option<Choice>, OpError> {
    let x: Operand = operands.bind("x", None)?;
    if !is_float(x.dtype()) {
        return Ok(None);
    }
    let function: Arc<dyn StripFunction> = match row.name {
        "abs" => Arc::new(Plain(1, f32::abs)),
        "sign" => Arc::new(Plain(1, |x| {
            if x > 0.0 {
                1.0
            } else if x < 0.0 {
                -1.0
            } else {
                x + 0.0
            }
        })),
        "square" => Arc::new(Plain(1, |x| x * x)),
        "sqrt" => Arc::new(Plain(1, f32::sqrt)),
        "floor" => Arc::new(Plain(1, f32::floor)),
        "ceil" => Arc::new(Plain(1, f32::ceil)),
        "round" => Arc::new(Plain(1, f32::round_ties_even)),
        "relu" => Arc::new(Plain(1, |x| larger(x, 0.0))),
        "sin" => Arc::new(Plain(16, |x| f64::from(x).sin() as f32)),
        "cos" => Arc::new(Plain(16, |x| f64::from(x).cos() as f32)),
        "tan" => Arc::new(Plain(16, |x| f64::from(x).tan() as f32)),
        "acos" => Arc::new(Plain(16, |x| f64::from(x).acos() as f32)),
        "asin" => Arc::new(Plain(16, |x| f64::from(x).asin() as f32)),
        "atan" => Arc::new(Plain(16, |x| f64::from(x).atan() as f32)),
        "atanh" => Arc::new(Plain(16, |x: f32| (f64::from(x.abs()).atanh() as f32).copysign(x))),
        "exp" => Arc::new(One(Exp {})),
        "exp2" => Arc::new(One(Exp2 {})),
        "sigmoid" => Arc::new(One(Sigmoid {})),
        "silu" => Arc::new(One(Silu {})),
        "tanh" => Arc::new(One(Tanh {})),
        "erf" => Arc::new(One(Erf {})),
        "softplus" => Arc::new(One(Softplus {})),
        "gelu" => match Gelu::bind(operands, row.since)?.mode.as_str() {
            "EXACT" => Arc::new(One(GeluExact {})),
            "TANH_APPROXIMATION" => Arc::new(One(GeluByTanh {})),
            "SIGMOID_APPROXIMATION" => Arc::new(One(GeluBySigmoid {})),
            _ => return Ok(None),
        },
        "rsqrt" => Arc::new(One(InverseRoot { epsilon: Rsqrt::bind(operands, row.since)?.shift() })),
        "inverse" => Arc::new(One(Reciprocal { epsilon: Inverse::bind(operands, row.since)?.shift() })),
        "log" => Arc::new(One(Logarithm { epsilon: Log::bind(operands, row.since)?.shift() })),
        "clip" => {
            let Clip { alpha, beta, .. } = Clip::bind(operands, row.since)?;
            // Both have the type of `x`, so they are exact in fp32.
            let (alpha, beta) = (alpha as f32, beta as f32);
            Arc::new(Plain(1, move |x| smaller(larger(x, alpha), beta)))
        }
        _ => match rectifier(row, operands)? {
            Some(function) => function,
            None => return Ok(None),
        },
    };
    Ok(Some(Choice::Elementwise(function, vec![x])))
}

/// `alpha · x + beta`, as exact as fp64 is: in fp32 the terms may cancel.
#[inline(always)]
fn straight(x: f32, alpha: f64, beta: f64) -> f32 {
    (alpha * f64::from(x) + beta) as f32
}

/// The function of an activation of pieces. Its parameters are fp16 or fp32, so they are exact in fp32.
fn rectifier(row: &OpDef, operands: &Operands<'_>) -> Result<Option<Arc<dyn StripFunction>>, OpError> {
    let since = row.since;
    Ok(Some(match row.name {
        "elu" => Arc::new(One(ExponentialUnit { alpha: ops::Elu::bind(operands, since)?.alpha })),
        "leaky_relu" => {
            let alpha = ops::LeakyRelu::bind(operands, since)?.alpha as f32;
            Arc::new(Plain(1, move |x| if x >= 0.0 { x } else { alpha * x }))
        }
        "linear_activation" => {
            let ops::LinearActivation { alpha, beta, .. } = Row::bind(operands, since)?;
            Arc::new(Plain(2, move |x| straight(x, alpha, beta)))
        }
        "clamped_relu" => {
            let ops::ClampedRelu { alpha, beta, .. } = Row::bind(operands, since)?;
            let (alpha, beta) = (alpha as f32, beta as f32);
            Arc::new(Plain(1, move |x| smaller(if x >= 0.0 { x } else { alpha * x }, beta)))
        }
        "relu6" => Arc::new(Plain(1, |x| smaller(larger(x, 0.0), 6.0))),
        "scaled_tanh" => {
            let ops::ScaledTanh { alpha, beta, .. } = Row::bind(operands, since)?;
            Arc::new(One(ScaledTanh { alpha, beta }))
        }
        "sigmoid_hard" => {
            let ops::SigmoidHard { alpha, beta, .. } = Row::bind(operands, since)?;
            Arc::new(Plain(2, move |x| smaller(larger(straight(x, alpha, beta), 0.0), 1.0)))
        }
        "softsign" => Arc::new(One(Softsign {})),
        "thresholded_relu" => {
            let alpha = ops::ThresholdedRelu::bind(operands, since)?.alpha as f32;
            Arc::new(Plain(1, move |x| if x < alpha { 0.0 } else { x }))
        }
        _ => return Ok(None),
    }))
}
