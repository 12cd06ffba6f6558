//! How the elements that a window meets become one number.

use pulp::Simd;

use crate::gemm::multiply_add;

/// How a window's elements become one number.
pub(in crate::kernels) trait Fold: Copy + Send + Sync {
    /// The number of nothing, and what padding holds.
    const NOTHING: f32;
    /// With one more element, and the weight of its tap.
    fn step<S: Simd>(self, simd: S, result: S::f32s, x: S::f32s, weight: S::f32s) -> S::f32s;
}

/// `Σ x·weight`.
#[derive(Debug, Clone, Copy)]
pub(in crate::kernels) struct Products;

impl Fold for Products {
    const NOTHING: f32 = 0.0;

    #[inline(always)]
    fn step<S: Simd>(self, simd: S, result: S::f32s, x: S::f32s, weight: S::f32s) -> S::f32s {
        multiply_add(simd, x, weight, result)
    }
}

/// `Σ x`.
#[derive(Debug, Clone, Copy)]
pub(in crate::kernels) struct Total;

impl Fold for Total {
    const NOTHING: f32 = 0.0;

    #[inline(always)]
    fn step<S: Simd>(self, simd: S, result: S::f32s, x: S::f32s, _: S::f32s) -> S::f32s {
        simd.add_f32s(result, x)
    }
}

/// The largest; NaN if any is.
#[derive(Debug, Clone, Copy)]
pub(in crate::kernels) struct Largest;

impl Fold for Largest {
    const NOTHING: f32 = f32::NEG_INFINITY;

    #[inline(always)]
    fn step<S: Simd>(self, simd: S, result: S::f32s, x: S::f32s, _: S::f32s) -> S::f32s {
        let number = simd.equal_f32s(x, x);
        let smaller = simd.less_than_or_equal_f32s(x, result);
        // What is not smaller is larger, or there is a NaN, which stays.
        let is_result = simd.equal_f32s(result, result);
        let kept = simd.select_f32s(is_result, simd.select_f32s(smaller, result, x), result);
        simd.select_f32s(number, kept, x)
    }
}
