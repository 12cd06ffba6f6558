//! The two dtypes in which device tensors are stored, fp16 and fp32, converted a row at a time.

use half::f16;
use half::slice::HalfFloatSliceExt;

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
        from.convert_to_f32_slice(to);
    }

    fn narrow(from: &[f32], to: &mut [Self]) {
        to.convert_from_f32_slice(from);
    }
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
