//! Element types that kernels compute with.

use anemone_mil::tensor::round_to_f16;
use anemone_mil::types::DType;
use bytemuck::Pod;
use half::f16;
use pulp::{Arch, Simd, WithSimd};

use crate::simd;

/// fp16 or fp32: widened to fp32 without loss, rounded from it once.
///
/// The conversions are branch-free arithmetic that compilers turn into vector instructions where a loop over
/// them is compiled for a processor that has some, that is under [`pulp::Arch::dispatch`].
pub(crate) trait Float: Pod + Send + Sync {
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
    /// Each value rounded once, to nearest even, where it is.
    fn hold(values: &mut [f32]);
    /// The values in fp32, in the buffer, which is as long, unless they are in fp32 where they are.
    fn as_wide<'a>(values: &'a [Self], buffer: &'a mut [f32]) -> &'a [f32];
    /// [`simd::dots`], if there are instructions for values of this type; those of fp32 need no others than vectors have.
    fn dots(arch: Arch, rows: &[Self], vector: &[f32], sums: &mut [f32]) -> bool;
    /// [`simd::combine`], in the same way.
    fn combine(arch: Arch, rows: &[Self], factors: &[f32], sums: &mut [f32]) -> bool;
}

/// Rounds values, with the processor's vectors.
pub(crate) struct Round<'a, T> {
    /// The values.
    pub results: &'a [f32],
    /// Where they go; it has the same length.
    pub to: &'a mut [T],
}

impl<T: Float> WithSimd for Round<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        T::round(self.results, self.to);
    }
}

impl Float for f32 {
    const HALF: bool = false;

    #[inline(always)]
    fn hold(_: &mut [f32]) {}

    #[inline(always)]
    fn as_wide<'a>(values: &'a [f32], _: &'a mut [f32]) -> &'a [f32] {
        values
    }

    fn dots(_: Arch, _: &[f32], _: &[f32], _: &mut [f32]) -> bool {
        false
    }

    fn combine(_: Arch, _: &[f32], _: &[f32], _: &mut [f32]) -> bool {
        false
    }

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
    fn hold(values: &mut [f32]) {
        simd::round_to_half(values);
    }

    #[inline(always)]
    fn as_wide<'a>(values: &'a [f16], buffer: &'a mut [f32]) -> &'a [f32] {
        f16::widen(values, buffer);
        buffer
    }

    fn dots(arch: Arch, rows: &[f16], vector: &[f32], sums: &mut [f32]) -> bool {
        simd::dots(arch, rows, vector, sums)
    }

    fn combine(arch: Arch, rows: &[f16], factors: &[f32], sums: &mut [f32]) -> bool {
        simd::combine(arch, rows, factors, sums)
    }

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
pub(crate) fn is_float(dtype: DType) -> bool {
    matches!(dtype, DType::Fp16 | DType::Fp32)
}

/// The larger of two numbers; NaN if either is.
#[inline(always)]
pub(crate) fn larger(x: f32, y: f32) -> f32 {
    if x > y || x.is_nan() { x } else { y }
}

/// The smaller of two numbers; NaN if either is.
#[inline(always)]
pub(crate) fn smaller(x: f32, y: f32) -> f32 {
    if x < y || x.is_nan() { x } else { y }
}

/// Whether two runs of numbers are not the same bits, without a branch for each number.
#[inline(always)]
pub(crate) fn differ(x: &[f32], y: &[f32]) -> bool {
    x.iter().zip(y).fold(0, |bits, (x, y)| bits | (x.to_bits() ^ y.to_bits())) != 0
}

#[cfg(test)]
mod tests {
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
}
