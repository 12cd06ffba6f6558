//! Numbers that functions are written for, with eˣ and ln x.

use std::f64::consts::{FRAC_1_SQRT_2, LN_2, LOG2_E};
use std::ops::{Add, Div, Mul, Neg, Sub};

use pulp::Simd;

use super::{fuses, polynomial};

/// fp32 or fp64.
pub(crate) trait Real:
    Copy
    + PartialOrd
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
{
    /// A number, rounded to this type.
    fn of(value: f64) -> Self;
    /// `self · y + z`.
    fn multiply_add<S: Simd>(self, y: Self, z: Self) -> Self;
    /// |x|.
    fn magnitude(self) -> Self;
    /// |x| with another number's sign.
    fn signed_like(self, sign: Self) -> Self;
    /// 1 / √x, within 2 units in the last place in fp32. In fp64 of numbers that are sums of two fp32 numbers, within
    /// 2⁻⁴⁰ of the result.
    fn inverse_root<S: Simd>(self) -> Self;
    /// eˣ, within 2 units in the last place in fp32, within 2⁻⁴⁵ of the result in fp64, where it is 0 below e⁻⁷⁰⁰.
    fn exponential<S: Simd>(self) -> Self;
    /// ln x; of numbers that are subnormal in fp64 there is none.
    fn logarithm<S: Simd>(self) -> Self;
}

/// 1.5 · 2²³: added to a small fp32 number, it leaves the nearest integer in the last bits.
pub(super) const INTEGER: f32 = 12_582_912.0;
/// ln 2 in two parts, the first of so few bits that its products with small integers are exact (Cody and Waite,
/// "Software Manual for the Elementary Functions", 1980).
const LN_2_HIGH: f32 = 0.693_359_4;
const LN_2_LOW: f32 = -2.121_944_4e-4;

/// 2ⁿ for −126 ≤ n ≤ 127.
#[inline(always)]
pub(super) fn power_of_two(n: i32) -> f32 {
    f32::from_bits((n.wrapping_add(127) as u32) << 23)
}

/// n and eʳ, where x = n·ln 2 + r and |r| ≤ ½ ln 2.
#[inline(always)]
pub(super) fn exp_parts<S: Simd>(x: f32) -> (i32, f32) {
    let shifted = x.multiply_add::<S>(std::f32::consts::LOG2_E, INTEGER);
    let n = shifted - INTEGER;
    let r = (-n).multiply_add::<S>(LN_2_LOW, (-n).multiply_add::<S>(LN_2_HIGH, x));
    let tail = polynomial::<f32, S, 5>(
        r,
        [1.381_459_86e-3, 8.368_716_88e-3, 4.166_838_8e-2, 0.166_665_206, 0.499_999_934],
    );
    let exponential = (tail * r).multiply_add::<S>(r, r) + 1.0;
    ((shifted.to_bits() as i32).wrapping_sub(INTEGER.to_bits() as i32), exponential)
}

impl Real for f32 {
    #[inline(always)]
    fn of(value: f64) -> f32 {
        value as f32
    }

    #[inline(always)]
    fn multiply_add<S: Simd>(self, y: f32, z: f32) -> f32 {
        if fuses::<S>() { self.mul_add(y, z) } else { self * y + z }
    }

    #[inline(always)]
    fn magnitude(self) -> f32 {
        self.abs()
    }

    #[inline(always)]
    fn signed_like(self, sign: f32) -> f32 {
        self.copysign(sign)
    }

    #[inline(always)]
    fn inverse_root<S: Simd>(self) -> f32 {
        1.0 / self.sqrt()
    }

    #[inline(always)]
    fn exponential<S: Simd>(self) -> f32 {
        // Beyond these bounds the result is 0 or infinite all the same. NaN passes.
        let x = if self > 89.0 { 89.0 } else { self };
        let x = if x < -104.0 { -104.0 } else { x };
        let (n, exponential) = exp_parts::<S>(x);
        // 2ⁿ in two factors, since n = −150 and n = 128 are exponents of no normal number.
        let half = n >> 1;
        exponential * power_of_two(half) * power_of_two(n.wrapping_sub(half))
    }

    #[inline(always)]
    fn logarithm<S: Simd>(self) -> f32 {
        const ROOT_OF_HALF: u32 = std::f32::consts::FRAC_1_SQRT_2.to_bits();
        // A subnormal number times 2²⁴ is none.
        let small = self < f32::MIN_POSITIVE;
        let x = if small { self * 16_777_216.0 } else { self };
        let bits = x.to_bits().wrapping_sub(ROOT_OF_HALF).wrapping_add(127 << 23);
        let exponent = bits >> 23;
        // An integer in the last bits of this number becomes one by subtraction.
        let e = f32::from_bits(INTEGER.to_bits().wrapping_add(exponent)) - (INTEGER + 127.0);
        let e = if small { e - 24.0 } else { e };
        let mantissa = f32::from_bits(x.to_bits().wrapping_sub(exponent.wrapping_sub(127) << 23));
        ln_of_parts::<f32, S>(self, mantissa, e)
    }
}

impl Real for f64 {
    #[inline(always)]
    fn of(value: f64) -> f64 {
        value
    }

    #[inline(always)]
    fn multiply_add<S: Simd>(self, y: f64, z: f64) -> f64 {
        if fuses::<S>() { self.mul_add(y, z) } else { self * y + z }
    }

    #[inline(always)]
    fn magnitude(self) -> f64 {
        self.abs()
    }

    #[inline(always)]
    fn signed_like(self, sign: f64) -> f64 {
        self.copysign(sign)
    }

    /// With long vectors, whose fp64 roots and quotients are slow, a step of Newton's method from the result in fp32.
    #[inline(always)]
    fn inverse_root<S: Simd>(self) -> f64 {
        if size_of::<S::f32s>() < 64 {
            return 1.0 / self.sqrt();
        }
        // The sum of two fp32 numbers may be beyond the largest.
        let large = self > 1e38;
        let x = if large { 0.25 * self } else { self };
        let near = f64::from(1.0 / (x as f32).sqrt());
        let near = if large { 0.5 * near } else { near };
        let error = (-0.5 * self * near).multiply_add::<S>(near, 0.5);
        let nearer = near.multiply_add::<S>(error, near);
        // 0, infinity, what is negative, and NaN.
        if near > 0.0 && near < f64::INFINITY { nearer } else { near }
    }

    /// By the Taylor series; |r|¹²/12! is below 2⁻⁴⁷.
    #[inline(always)]
    fn exponential<S: Simd>(self) -> f64 {
        /// 1.5 · 2⁵².
        const INTEGER: f64 = 6_755_399_441_055_744.0;
        const LN_2_HIGH: f64 = 0.693_147_180_369_123_8;
        const LN_2_LOW: f64 = 1.908_214_929_270_587_7e-10;
        let x = if self > 709.0 { 709.0 } else { self };
        let x = if x < -700.0 { -700.0 } else { x };
        let shifted = x.multiply_add::<S>(LOG2_E, INTEGER);
        let n = shifted - INTEGER;
        let r = (-n).multiply_add::<S>(LN_2_LOW, (-n).multiply_add::<S>(LN_2_HIGH, x));
        let exponential = polynomial::<f64, S, 12>(
            r,
            [
                1.0 / 39_916_800.0,
                1.0 / 3_628_800.0,
                1.0 / 362_880.0,
                1.0 / 40_320.0,
                1.0 / 5_040.0,
                1.0 / 720.0,
                1.0 / 120.0,
                1.0 / 24.0,
                1.0 / 6.0,
                0.5,
                1.0,
                1.0,
            ],
        );
        let n = shifted.to_bits().wrapping_sub(INTEGER.to_bits());
        let power = f64::from_bits(n.wrapping_add(1023) << 52);
        let finite = if self < -700.0 { 0.0 } else { exponential * power };
        if self > 709.0 { f64::INFINITY } else { finite }
    }

    #[inline(always)]
    fn logarithm<S: Simd>(self) -> f64 {
        const INTEGER: f64 = 6_755_399_441_055_744.0;
        const ROOT_OF_HALF: u64 = FRAC_1_SQRT_2.to_bits();
        let bits = self.to_bits().wrapping_sub(ROOT_OF_HALF).wrapping_add(1023 << 52);
        let exponent = bits >> 52;
        let e = f64::from_bits(INTEGER.to_bits().wrapping_add(exponent)) - (INTEGER + 1023.0);
        let mantissa = f64::from_bits(self.to_bits().wrapping_sub(exponent.wrapping_sub(1023) << 52));
        ln_of_parts::<f64, S>(self, mantissa, e)
    }
}

/// ln x for x = m·2ᵉ and √½ ≤ m < √2: e·ln 2 + 2·artanh s with s = (m − 1) / (m + 1), by its series, of which
/// s²⁰/21 is below 2⁻⁵⁴.
#[inline(always)]
fn ln_of_parts<R: Real, S: Simd>(x: R, m: R, e: R) -> R {
    let s = (m - R::of(1.0)) / (m + R::of(1.0));
    let square = s * s;
    let series = polynomial::<R, S, 9>(
        square,
        [
            2.0 / 19.0,
            2.0 / 17.0,
            2.0 / 15.0,
            2.0 / 13.0,
            2.0 / 11.0,
            2.0 / 9.0,
            2.0 / 7.0,
            2.0 / 5.0,
            2.0 / 3.0,
        ],
    );
    let finite = e.multiply_add::<S>(R::of(LN_2), (series * square).multiply_add::<S>(s, s + s));
    let value = if x == R::of(f64::INFINITY) { x } else { finite };
    let value = if x == R::of(0.0) { R::of(f64::NEG_INFINITY) } else { value };
    // Of a negative number, and of NaN, there is none.
    if x >= R::of(0.0) { value } else { R::of(f64::NAN) }
}
