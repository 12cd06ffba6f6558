//! Element types that kernels compute with.

use std::any::TypeId;

use anemone_mil::tensor::round_to_f16;
use anemone_mil::types::DType;
use bytemuck::Pod;
use half::f16;
use pulp::{Scalar, Scalar128b, Simd};

use crate::simd;

/// fp16 or fp32: widened to fp32 without loss, rounded from it once.
///
/// The conversions are branch-free arithmetic that compilers turn into vector instructions where a loop over
/// them is compiled for a processor that has some, that is under [`pulp::Arch::dispatch`].
pub trait Float: Pod + Send + Sync {
    /// Whether this is fp16, next to whose last place errors of a few places of fp32 are nothing.
    const HALF: bool;
    /// The value in fp32.
    fn wide(self) -> f32;
    /// A value rounded once, to nearest even.
    fn narrow(value: f32) -> Self;
    /// A value rounded once, to nearest even.
    fn from_f64(value: f64) -> Self;
    /// The values in fp32; `to` has the same length.
    fn widen(values: &[Self], to: &mut [f32]);
    /// Each value rounded once, to nearest even; `to` has the same length.
    fn round(values: &[f32], to: &mut [Self]);
}

impl Float for f32 {
    const HALF: bool = false;

    #[inline(always)]
    fn widen(values: &[f32], to: &mut [f32]) {
        to.iter_mut().zip(values).for_each(|(to, value)| *to = *value);
    }

    #[inline(always)]
    fn round(values: &[f32], to: &mut [f32]) {
        to.iter_mut().zip(values).for_each(|(to, value)| *to = *value);
    }

    #[inline(always)]
    fn wide(self) -> f32 {
        self
    }

    #[inline(always)]
    fn narrow(value: f32) -> f32 {
        value
    }

    #[inline(always)]
    fn from_f64(value: f64) -> f32 {
        value as f32
    }
}

/// Exponent bits of an fp32 infinity.
const INFINITE: u32 = 0x7f80_0000;
/// The difference between the exponent biases of fp32 and fp16, 127 − 15, in the place of fp32's exponent.
const REBIAS: u32 = 112 << 23;

impl Float for f16 {
    const HALF: bool = true;

    #[inline(always)]
    fn widen(values: &[f16], to: &mut [f32]) {
        simd::widen(values, to);
    }

    #[inline(always)]
    fn round(values: &[f32], to: &mut [f16]) {
        simd::narrow(values, to);
    }

    #[inline(always)]
    fn wide(self) -> f32 {
        let bits = u32::from(self.to_bits());
        let sign = (bits & 0x8000) << 16;
        let magnitude = (bits & 0x7fff) << 13;
        // 2⁻²⁴ times an integer: a multiplication of subnormal fp32 values would be very slow.
        let subnormal = ((bits & 0x3ff) as i32 as f32 * 5.960_464_5e-8).to_bits();
        let exponent = bits & 0x7c00;
        let normal = if exponent == 0x7c00 { magnitude | INFINITE } else { magnitude.wrapping_add(REBIAS) };
        f32::from_bits(sign | if exponent == 0 { subnormal } else { normal })
    }

    #[inline(always)]
    fn narrow(value: f32) -> f16 {
        /// 2⁻¹⁴, the least normal fp16 value.
        const LEAST_NORMAL: u32 = 113 << 23;
        /// 2¹⁶: from there on, all that rounds to infinity and would overflow the exponent's place.
        const TOO_LARGE: u32 = 143 << 23;
        let bits = value.to_bits();
        let sign = (bits >> 16) & 0x8000;
        let magnitude = bits & 0x7fff_ffff;
        // Half a unit less one, and one more where the last bit kept is odd.
        let rounding = 0xfff + ((magnitude >> 13) & 1);
        let normal = magnitude.wrapping_sub(REBIAS).wrapping_add(rounding) >> 13;
        // The last bits of 0.5 + x count units of 2⁻²⁴, and the sum is rounded to one.
        let subnormal = (f32::from_bits(magnitude) + 0.5).to_bits().wrapping_sub(0.5f32.to_bits());
        let finite = if magnitude < LEAST_NORMAL { subnormal } else { normal };
        let large = if magnitude > INFINITE { 0x7e00 } else { 0x7c00 };
        f16::from_bits((sign | if magnitude < TOO_LARGE { finite } else { large }) as u16)
    }

    #[inline(always)]
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

/// Whether these vectors multiply and add, rounding once, by an instruction, and not by a call for each number.
#[inline(always)]
pub fn fuses<S: Simd>() -> bool {
    TypeId::of::<S>() != TypeId::of::<Scalar>() && TypeId::of::<S>() != TypeId::of::<Scalar128b>()
}

/// eˣ, in operations that compilers turn into vector instructions; see [`exp_with`].
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    exp_with::<Scalar>(x)
}

/// eˣ, in operations that compilers turn into vector instructions, with products and sums rounded together where
/// [`fuses`] says so.
///
/// x = n·ln 2 + r with |r| ≤ ½ ln 2, n·ln 2 in two parts so that r keeps its bits (Cody and Waite, "Software
/// Manual for the Elementary Functions", 1980); the polynomial for eʳ is that of `expf` in Cephes (Moshier,
/// 1989), whose error is under 2 units in the last place.
#[inline(always)]
pub fn exp_with<S: Simd>(x: f32) -> f32 {
    /// 1.5 · 2²³: added to a small number, it leaves the nearest integer in the last bits.
    const INTEGER: f32 = 12_582_912.0;
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    let multiply_add = |x: f32, y: f32, z: f32| if fuses::<S>() { x.mul_add(y, z) } else { x * y + z };
    // Beyond these bounds the result is 0 or infinite all the same. NaN passes.
    let x = if x > 89.0 { 89.0 } else { x };
    let x = if x < -104.0 { -104.0 } else { x };
    let shifted = multiply_add(x, std::f32::consts::LOG2_E, INTEGER);
    let n = shifted - INTEGER;
    let r = multiply_add(-n, LN_2_LOW, multiply_add(-n, LN_2_HIGH, x));
    let mut p = 1.987_569_1e-4;
    p = multiply_add(p, r, 1.398_199_9e-3);
    p = multiply_add(p, r, 8.333_452e-3);
    p = multiply_add(p, r, 4.166_579_6e-2);
    p = multiply_add(p, r, 1.666_666_5e-1);
    p = multiply_add(p, r, 0.5);
    let exponential = multiply_add(p * r, r, r) + 1.0;
    // 2ⁿ in two factors, since n = −150 and n = 128 are exponents of no normal number.
    let n = (shifted.to_bits() as i32).wrapping_sub(INTEGER.to_bits() as i32);
    let half = n >> 1;
    exponential * power_of_two(half) * power_of_two(n.wrapping_sub(half))
}

/// tanh x, within 6 units in the last place, in operations that compilers turn into vector instructions: the
/// Taylor series near 0, where 1 − 2/(e²ˣ + 1) would cancel.
#[inline(always)]
pub fn tanh(x: f32) -> f32 {
    let square = x * x;
    let mut p = -1_382.0 / 155_925.0;
    p = p * square + 62.0 / 2_835.0;
    p = p * square - 17.0 / 315.0;
    p = p * square + 2.0 / 15.0;
    p = p * square - 1.0 / 3.0;
    let near = x + x * square * p;
    let magnitude = x.abs();
    let far = 1.0 - 2.0 / (exp(2.0 * magnitude) + 1.0);
    if magnitude < 0.25 { near } else { far.copysign(x) }
}

/// 2ⁿ for −126 ≤ n ≤ 127.
#[inline(always)]
fn power_of_two(n: i32) -> f32 {
    f32::from_bits((n.wrapping_add(127) as u32) << 23)
}

/// e^(x − y), with the rounding error of the difference made good: far from 0 it is many times that of the
/// result.
#[inline(always)]
pub fn exp_difference<S: Simd>(x: f32, y: f32) -> f32 {
    let difference = x - y;
    // Knuth's two-sum: the exact difference is `difference + error`.
    let back = difference - x;
    let error = (x - (difference - back)) + (-y - back);
    let exponential = exp_with::<S>(difference);
    // Where the difference is infinite or NaN, so is its error; the exponential says it all.
    let error = if difference > -104.0 && difference < 104.0 { error } else { 0.0 };
    exponential + exponential * error
}

#[cfg(test)]
mod tests {
    use pulp::Scalar256b;

    use super::*;

    #[test]
    fn every_fp16_value_widens_and_returns() {
        for bits in 0..=u16::MAX {
            let value = f16::from_bits(bits);
            if value.is_nan() {
                assert!(value.wide().is_nan() && f16::narrow(value.wide()).is_nan());
            } else {
                assert_eq!(value.wide().to_bits(), value.to_f32().to_bits());
                assert_eq!(f16::narrow(value.wide()).to_bits(), bits);
            }
        }
    }

    #[test]
    fn values_round_to_the_nearest_fp16_or_the_even_one() {
        // Around every fp16 value and every midpoint between two, and all over fp32.
        let near = (0u16..0x7c00).flat_map(|bits| {
            let (low, high) = (f16::from_bits(bits).to_f32(), f16::from_bits(bits + 1).to_f32());
            let middle = if high.is_finite() { (low + high) / 2.0 } else { 65520.0 };
            [low, low.next_up(), middle.next_down(), middle, middle.next_up()]
        });
        let all = (0..u32::MAX - 4099).step_by(4099).map(f32::from_bits);
        for value in near.chain(all) {
            for value in [value, -value] {
                let (ours, expected) = (f16::narrow(value), round_to_f16(f64::from(value)));
                let same = ours.to_bits() == expected.to_bits();
                assert!(same || ours.is_nan() && expected.is_nan(), "{value:e}: {ours} for {expected}");
            }
        }
    }

    #[test]
    fn exp_is_within_two_units_of_the_last_place() {
        let mut worst = 0.0;
        for bits in (0..u32::MAX - 1009).step_by(1009) {
            let x = f32::from_bits(bits);
            let exact = f64::from(x).exp();
            for value in [exp(x), exp_with::<Scalar256b>(x)] {
                if x.is_nan() {
                    assert!(value.is_nan());
                } else if exact as f32 == f32::INFINITY {
                    assert!(value == f32::INFINITY || value == f32::MAX, "{x}");
                } else {
                    let unit = anemone_mil::eval::ulp(DType::Fp32, exact).unwrap();
                    worst = f64::max(worst, (f64::from(value) - exact).abs() / unit);
                }
            }
        }
        assert!(worst < 2.0, "{worst}");
    }

    #[test]
    fn tanh_is_within_six_units_of_the_last_place() {
        let mut worst = 0.0;
        for bits in (0..u32::MAX - 1009).step_by(1009) {
            let x = f32::from_bits(bits);
            let (exact, value) = (f64::from(x).tanh(), tanh(x));
            if x.is_nan() {
                assert!(value.is_nan());
            } else {
                let unit = anemone_mil::eval::ulp(DType::Fp32, exact).unwrap();
                worst = f64::max(worst, (f64::from(value) - exact).abs() / unit);
            }
        }
        assert!(worst < 6.0, "{worst}");
    }

    #[test]
    fn exp_keeps_special_values() {
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(f32::INFINITY), f32::INFINITY);
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp_difference::<Scalar>(f32::NEG_INFINITY, 3.0), 0.0);
        assert!(exp_difference::<Scalar>(f32::INFINITY, f32::INFINITY).is_nan());
    }
}
