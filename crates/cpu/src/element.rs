//! Element types that kernels compute with.

use anemone_mil::tensor::round_to_f16;
use anemone_mil::types::DType;
use bytemuck::Pod;
use half::f16;
use half::slice::HalfFloatSliceExt;

/// fp16 or fp32: widened to fp32 without loss, rounded from it once.
pub trait Float: Pod + Send + Sync {
    /// The values in fp32; `to` has the same length.
    fn widen(values: &[Self], to: &mut [f32]);
    /// Each value rounded once, to nearest even; `to` has the same length.
    fn round(values: &[f32], to: &mut [Self]);
    /// A value rounded once, to nearest even.
    fn from_f64(value: f64) -> Self;
}

impl Float for f32 {
    fn widen(values: &[f32], to: &mut [f32]) {
        to.copy_from_slice(values);
    }

    fn round(values: &[f32], to: &mut [f32]) {
        to.copy_from_slice(values);
    }

    fn from_f64(value: f64) -> f32 {
        value as f32
    }
}

impl Float for f16 {
    fn widen(values: &[f16], to: &mut [f32]) {
        values.convert_to_f32_slice(to);
    }

    fn round(values: &[f32], to: &mut [f16]) {
        to.convert_from_f32_slice(values);
    }

    fn from_f64(value: f64) -> f16 {
        round_to_f16(value)
    }
}

/// Whether kernels compute with this type in floating point.
pub fn is_float(dtype: DType) -> bool {
    matches!(dtype, DType::Fp16 | DType::Fp32)
}

/// The larger of two numbers; NaN if either is.
#[inline(always)]
pub fn larger(x: f32, y: f32) -> f32 {
    if x > y || x.is_nan() { x } else { y }
}

/// The smaller of two numbers; NaN if either is.
#[inline(always)]
pub fn smaller(x: f32, y: f32) -> f32 {
    if x < y || x.is_nan() { x } else { y }
}

/// eˣ, in operations that compilers turn into vector instructions.
///
/// x = n·ln 2 + r with |r| ≤ ½ ln 2, n·ln 2 in two parts so that r keeps its bits (Cody and Waite, "Software
/// Manual for the Elementary Functions", 1980); the polynomial for eʳ is that of `expf` in Cephes (Moshier,
/// 1989), whose error is under 2 units in the last place.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    /// 1.5 · 2²³: added to a small number, it leaves the nearest integer in the last bits.
    const INTEGER: f32 = 12_582_912.0;
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    // Beyond these bounds the result is 0 or infinite all the same. NaN passes.
    let x = if x > 89.0 { 89.0 } else { x };
    let x = if x < -104.0 { -104.0 } else { x };
    let shifted = x * std::f32::consts::LOG2_E + INTEGER;
    let n = shifted - INTEGER;
    let r = (x - n * LN_2_HIGH) - n * LN_2_LOW;
    let mut p = 1.987_569_1e-4;
    p = p * r + 1.398_199_9e-3;
    p = p * r + 8.333_452e-3;
    p = p * r + 4.166_579_6e-2;
    p = p * r + 1.666_666_5e-1;
    p = p * r + 0.5;
    let exponential = p * r * r + r + 1.0;
    // 2ⁿ in two factors, since n = −150 and n = 128 are exponents of no normal number.
    let n = (shifted.to_bits() as i32).wrapping_sub(INTEGER.to_bits() as i32);
    let half = n >> 1;
    exponential * power_of_two(half) * power_of_two(n.wrapping_sub(half))
}

/// 2ⁿ for −126 ≤ n ≤ 127.
#[inline(always)]
fn power_of_two(n: i32) -> f32 {
    f32::from_bits((n.wrapping_add(127) as u32) << 23)
}

/// e^(x − y), with the rounding error of the difference made good: far from 0 it is many times that of the
/// result.
#[inline(always)]
pub fn exp_difference(x: f32, y: f32) -> f32 {
    let difference = x - y;
    // Knuth's two-sum: the exact difference is `difference + error`.
    let back = difference - x;
    let error = (x - (difference - back)) + (-y - back);
    let exponential = exp(difference);
    // Where the difference is infinite or NaN, so is its error; the exponential says it all.
    let error = if difference > -104.0 && difference < 104.0 { error } else { 0.0 };
    exponential + exponential * error
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_within_two_units_of_the_last_place() {
        let mut worst = 0.0;
        for bits in (0..u32::MAX - 1009).step_by(1009) {
            let x = f32::from_bits(bits);
            let exact = f64::from(x).exp();
            let value = exp(x);
            if x.is_nan() {
                assert!(value.is_nan());
            } else if exact as f32 == f32::INFINITY {
                assert!(value == f32::INFINITY || value == f32::MAX, "{x}");
            } else {
                let unit = anemone_mil::eval::ulp(DType::Fp32, exact).unwrap();
                worst = f64::max(worst, (f64::from(value) - exact).abs() / unit);
            }
        }
        assert!(worst < 2.0, "{worst}");
    }

    #[test]
    fn exp_keeps_special_values() {
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(f32::INFINITY), f32::INFINITY);
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp_difference(f32::NEG_INFINITY, 3.0), 0.0);
        assert!(exp_difference(f32::INFINITY, f32::INFINITY).is_nan());
    }
}
