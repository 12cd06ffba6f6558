//! Ops that compute each element of the result from one element of one operand.

use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI, SQRT_2};

use anemone_mil::ops::{
    Clip, Clip17, Gelu, Inverse, Inverse17, Log, Log17, OpDef, OpError, Operand, Operands, Row, Rsqrt,
    Rsqrt17,
};
use anemone_mil::tensor::Tensor;
use anemone_mil::types::DType;
use half::f16;
use pulp::{Simd, WithSimd};

use super::elementwise::CHUNK;
use super::{Choice, Kernel};
use crate::element::{self, Float, is_float, larger, smaller};
use crate::memory::Sources;
use crate::threads::Threads;

/// The kernel for an op of one floating-point operand.
pub fn choose(row: &OpDef, operands: &Operands<'_>) -> Result<Option<Choice>, OpError> {
    let x: Operand = operands.bind("x", None)?;
    if !is_float(x.dtype()) {
        return Ok(None);
    }
    let newer = row.since >= Rsqrt17::DEF.since;
    let dtype = x.dtype();
    Ok(Some(match row.name {
        "abs" => map(x, 1, f32::abs),
        "sign" => map(x, 1, |x| {
            if x > 0.0 {
                1.0
            } else if x < 0.0 {
                -1.0
            } else {
                x + 0.0
            }
        }),
        "square" => map(x, 1, |x| x * x),
        "sqrt" => map(x, 1, f32::sqrt),
        "exp" => map(x, 8, element::exp),
        "floor" => map(x, 1, f32::floor),
        "ceil" => map(x, 1, f32::ceil),
        "round" => map(x, 1, f32::round_ties_even),
        "relu" => map(x, 1, |x| larger(x, 0.0)),
        "sigmoid" => map(x, 8, logistic),
        "silu" if dtype == DType::Fp16 => map(x, 8, |x| x * logistic(x)),
        // Where the logistic function is subnormal in fp32, its product with `x` needs more of its bits.
        "silu" => map_wide(x, |x| x / (1.0 + (-x).exp())),
        "exp2" => map_wide(x, f64::exp2),
        "sin" => map_wide(x, f64::sin),
        "cos" => map_wide(x, f64::cos),
        "tanh" => map_wide(x, f64::tanh),
        "erf" => map_wide(x, libm::erf),
        // log(1 + eˣ) without overflow or cancellation.
        "softplus" => map_wide(x, |x| {
            let positive = if x > 0.0 || x.is_nan() { x } else { 0.0 };
            positive + (-x.abs()).exp().ln_1p()
        }),
        "gelu" => return Ok(gelu(x, &Gelu::bind(operands)?.mode)),
        "rsqrt" => {
            let given = if newer { Rsqrt17::bind(operands)?.epsilon } else { Rsqrt::bind(operands)?.epsilon };
            let epsilon = given_or_default(given, 1e-12, dtype);
            map_wide(x, move |x| 1.0 / (x + epsilon).sqrt())
        }
        "inverse" => {
            let given =
                if newer { Inverse17::bind(operands)?.epsilon } else { Inverse::bind(operands)?.epsilon };
            let epsilon = given_or_default(given, 1e-4, dtype);
            map_wide(x, move |x| 1.0 / (x + epsilon))
        }
        "log" => {
            let given = if newer { Log17::bind(operands)?.epsilon } else { Log::bind(operands)?.epsilon };
            let epsilon = given_or_default(given, 1e-45, dtype);
            map_wide(x, move |x| (x + epsilon).ln())
        }
        "clip" => {
            let (alpha, beta) = if row.since >= Clip17::DEF.since {
                let row = Clip17::bind(operands)?;
                (row.alpha, row.beta)
            } else {
                let row = Clip::bind(operands)?;
                (row.alpha, row.beta)
            };
            // Both have the type of `x`, so they are exact in fp32.
            let (alpha, beta) = (alpha as f32, beta as f32);
            map(x, 1, move |x| smaller(larger(x, alpha), beta))
        }
        _ => return Ok(None),
    }))
}

/// An epsilon, or its default rounded to the type of `x`.
fn given_or_default(given: Option<f64>, default: f64, dtype: DType) -> f64 {
    let rounded = || Tensor::from_f64(dtype, &[], &[default]).ok()?.to_f64()?.first().copied();
    given.or_else(rounded).unwrap_or(default)
}

/// 1 / (1 + e⁻ˣ) without the loss of the sum's last bits where e⁻ˣ is large.
#[inline(always)]
fn logistic(x: f32) -> f32 {
    // e^−|x| is at most 1, and the result is one of the two parts of 1 that it divides.
    let small = element::exp(-x.abs());
    let part = if x < 0.0 { small } else { 1.0 };
    part / (1.0 + small)
}

fn gelu(x: Operand, mode: &str) -> Option<Choice> {
    fn logistic(x: f64) -> f64 {
        1.0 / (1.0 + (-x).exp())
    }
    // 1 + erf(z) = erfc(−z) and ½(1 + tanh(z)) = logistic(2z), without the cancellation at negative x.
    Some(match mode {
        "EXACT" => map_wide(x, |x| 0.5 * x * libm::erfc(-x * FRAC_1_SQRT_2)),
        "TANH_APPROXIMATION" => {
            map_wide(x, |x| x * logistic(FRAC_2_SQRT_PI * SQRT_2 * (x + 0.044715 * x * x * x)))
        }
        "SIGMOID_APPROXIMATION" => map_wide(x, |x| x * logistic(1.702 * x)),
        _ => return None,
    })
}

/// A function computed in fp32.
fn map(x: Operand, work: usize, function: impl Fn(f32) -> f32 + Copy + Send + Sync + 'static) -> Choice {
    Choice::kernel(Map { dtype: x.dtype(), work, function }, vec![x])
}

/// A function computed in fp64.
fn map_wide(x: Operand, function: impl Fn(f64) -> f64 + Copy + Send + Sync + 'static) -> Choice {
    Choice::kernel(MapWide { dtype: x.dtype(), function }, vec![x])
}

struct Map<F> {
    dtype: DType,
    /// Work of one element, in simple arithmetic steps.
    work: usize,
    function: F,
}

/// Writes the function of each value, with the processor's vectors.
struct Apply<'a, T, F> {
    x: &'a [T],
    result: &'a mut [T],
    function: F,
}

impl<T: Float, F: Fn(f32) -> f32> WithSimd for Apply<'_, T, F> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        for (result, x) in self.result.iter_mut().zip(self.x) {
            *result = T::narrow((self.function)(x.wide()));
        }
    }
}

impl<F: Fn(f32) -> f32 + Copy + Send + Sync> Map<F> {
    fn compute<T: Float>(&self, operands: Sources<'_>, result: &mut [T], threads: &Threads) {
        let x = operands.values::<T>(0);
        threads.each_chunk(result, CHUNK, self.work, |index, result| {
            let x = &x[index * CHUNK..][..result.len()];
            threads.arch().dispatch(Apply { x, result, function: self.function });
        });
    }
}

impl<F: Fn(f32) -> f32 + Copy + Send + Sync> Kernel for Map<F> {
    fn run(&self, operands: Sources<'_>, result: &mut [u8], _: &mut [f64], threads: &Threads) {
        match self.dtype {
            DType::Fp16 => self.compute::<f16>(operands, bytemuck::cast_slice_mut(result), threads),
            _ => self.compute::<f32>(operands, bytemuck::cast_slice_mut(result), threads),
        }
    }
}

struct MapWide<F> {
    dtype: DType,
    function: F,
}

impl<F: Fn(f64) -> f64 + Copy + Send + Sync> MapWide<F> {
    fn compute<T: Float>(&self, operands: Sources<'_>, result: &mut [T], threads: &Threads) {
        let x = operands.values::<T>(0);
        threads.each_chunk(result, CHUNK, 32, |index, result| {
            for (result, x) in result.iter_mut().zip(&x[index * CHUNK..]) {
                *result = T::from_f64((self.function)(f64::from(x.wide())));
            }
        });
    }
}

impl<F: Fn(f64) -> f64 + Copy + Send + Sync> Kernel for MapWide<F> {
    fn run(&self, operands: Sources<'_>, result: &mut [u8], _: &mut [f64], threads: &Threads) {
        match self.dtype {
            DType::Fp16 => self.compute::<f16>(operands, bytemuck::cast_slice_mut(result), threads),
            _ => self.compute::<f32>(operands, bytemuck::cast_slice_mut(result), threads),
        }
    }
}
