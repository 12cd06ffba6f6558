//! The two dtypes in which device tensors are stored, fp16 and fp32, converted a row at a time.

use half::f16;
use pulp::Arch;

/// An element of a device tensor: `f32` or [`half::f16`]. The host computes in f32 and rounds once, to nearest
/// even, where it stores.
pub trait DeviceElement: Copy + Default + Send + Sync + sealed::Sealed + 'static {
    /// The value, exactly.
    fn to_f32(self) -> f32;
    /// The nearest element; beyond the largest finite one, infinity.
    fn from_f32(value: f32) -> Self;
    /// [`DeviceElement::to_f32`] of a slice, vectorised.
    ///
    /// # Panics
    /// If the lengths differ.
    fn widen(from: &[Self], to: &mut [f32]);
    /// [`DeviceElement::from_f32`] of a slice, vectorised.
    ///
    /// # Panics
    /// If the lengths differ.
    fn narrow(from: &[f32], to: &mut [Self]);
}

impl DeviceElement for f32 {
    fn to_f32(self) -> f32 {
        self
    }

    fn from_f32(value: f32) -> Self {
        value
    }

    fn widen(from: &[Self], to: &mut [f32]) {
        to.copy_from_slice(from);
    }

    fn narrow(from: &[f32], to: &mut [Self]) {
        to.copy_from_slice(from);
    }
}

impl DeviceElement for f16 {
    fn to_f32(self) -> f32 {
        self.to_f32()
    }

    fn from_f32(value: f32) -> Self {
        Self::from_f32(value)
    }

    fn widen(from: &[Self], to: &mut [f32]) {
        assert_eq!(from.len(), to.len());
        Arch::new().dispatch(
            #[inline(always)]
            || to.iter_mut().zip(from).for_each(|(to, from)| *to = widened(from.to_bits())),
        );
    }

    fn narrow(from: &[f32], to: &mut [Self]) {
        assert_eq!(from.len(), to.len());
        Arch::new().dispatch(
            #[inline(always)]
            || to.iter_mut().zip(from).for_each(|(to, from)| *to = f16::from_bits(narrowed(*from))),
        );
    }
}

/// The value of an fp16 number by its bits, without a branch, so that loops over it become vector instructions.
#[inline(always)]
fn widened(half: u16) -> f32 {
    let magnitude = u32::from(half & 0x7fff) << 13;
    // Exponents differ in their bias, 127 and 15; infinity and NaN have the largest exponent of both.
    let bias = if magnitude >= 0x0f80_0000 { 224 } else { 112 } << 23;
    let normal = magnitude + bias;
    // Below 2⁻¹⁴ numbers are multiples of 2⁻²⁴: (2⁻¹⁴ + m·2⁻²⁴) − 2⁻¹⁴.
    let subnormal = (f32::from_bits(0x3880_0000 + magnitude) - f32::from_bits(0x3880_0000)).to_bits();
    let bits = if magnitude < 0x0080_0000 { subnormal } else { normal };
    f32::from_bits(bits | u32::from(half & 0x8000) << 16)
}

/// The bits of the nearest fp16 number, ties to even, without a branch; NaN stays one.
#[inline(always)]
fn narrowed(single: f32) -> u16 {
    let bits = single.to_bits();
    let magnitude = bits & 0x7fff_ffff;
    // Half of the last place that is left, less where that is even already, carries into it.
    let rounding = 0xfff + (magnitude >> 13 & 1);
    let normal = magnitude.wrapping_sub(112 << 23).wrapping_add(rounding) >> 13;
    // Beside 0.5 the last place of an fp32 number is 2⁻²⁴, as that of fp16 numbers below 2⁻¹⁴ is.
    let subnormal = (f32::from_bits(magnitude) + 0.5).to_bits().wrapping_sub(0.5f32.to_bits());
    let finite = if magnitude < 0x3880_0000 { subnormal } else { normal };
    // From 65520 on the nearest is infinity.
    let rounded = if magnitude >= 0x477f_f000 { 0x7c00 } else { finite };
    let value = if magnitude > 0x7f80_0000 { 0x7e00 } else { rounded };
    (value | bits >> 16 & 0x8000) as u16
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for half::f16 {}
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vectorised conversions against the scalar ones, for every fp16 value and for all lengths' tails.
    #[test]
    fn slices_convert_as_their_elements() {
        let all: Vec<f16> = (0..=u16::MAX).map(f16::from_bits).collect();
        let mut wide = vec![0.0; all.len()];
        f16::widen(&all, &mut wide);
        let mut back = vec![f16::ZERO; all.len()];
        f16::narrow(&wide, &mut back);
        for ((&half, &single), &again) in all.iter().zip(&wide).zip(&back) {
            assert!(single == DeviceElement::to_f32(half) || half.is_nan() && single.is_nan());
            assert!(half == again || half.is_nan() && again.is_nan());
        }
        // Every upper half of an fp32 number with lower halves on and beside what rounding turns on.
        let lower =
            [0u32, 1, 0x0fff, 0x1000, 0x1001, 0x1fff, 0x2000, 0x7fff, 0x8000, 0xefff, 0xf000, 0xf001, 0xffff];
        for upper in 0..=u16::MAX {
            let singles = lower.map(|lower| f32::from_bits(u32::from(upper) << 16 | lower));
            let mut halves = [f16::ZERO; 13];
            f16::narrow(&singles, &mut halves);
            for (&single, &half) in singles.iter().zip(&halves) {
                let expected = f16::from_f32(single);
                assert!(
                    half.to_bits() == expected.to_bits() || half.is_nan() && expected.is_nan(),
                    "{single:e}"
                );
            }
        }
        for len in 0..20 {
            let mut some = vec![f16::ZERO; len];
            f16::narrow(&wide[15000..15000 + len], &mut some);
            assert_eq!(some, all[15000..15000 + len]);
        }
    }

    #[test]
    fn narrowing_rounds_to_nearest_even() {
        // 2049 and 2051 lie between fp16 neighbours; 65520 is the first value that rounds to infinity.
        let cases = [2049.0f32, 2051.0, 65519.0, 65520.0, 2f32.powi(-25), 2f32.powi(-25) * 1.001, -0.0, 0.1];
        let expected = [2048.0f32, 2052.0, 65504.0, f32::INFINITY, 0.0, 2f32.powi(-24), -0.0, 0.099_975_586];
        let mut narrow = [f16::ZERO; 8];
        f16::narrow(&cases, &mut narrow);
        assert_eq!(narrow.map(DeviceElement::to_f32), expected);
        assert!(narrow[6].is_sign_negative());
    }
}
