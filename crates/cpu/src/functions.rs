//! Elementary functions in operations that compilers turn into vector instructions, where a loop over them is
//! compiled for a processor that has some, that is under [`pulp::Arch::dispatch`].
//!
//! They are written once for [`Real`] numbers: fp32 is wide enough for functions of fp16 values, fp64 makes the results
//! for fp32 values all but correctly rounded. `functions/coefficients.py` prints the coefficients of the polynomials.
//!
//! Products and sums are rounded together where [`fuses`] says so: each function has the vectors as a parameter.

use std::any::TypeId;
use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI, LN_2, LOG2_E, SQRT_2};
use std::ops::{Add, Div, Mul, Neg, Sub};

use pulp::{Scalar, Scalar128b, Simd};

#[cfg(test)]
mod tests;

/// Whether these vectors multiply and add, rounding once, by an instruction, and not by a call for each number.
#[inline(always)]
pub fn fuses<S: Simd>() -> bool {
    TypeId::of::<S>() != TypeId::of::<Scalar>() && TypeId::of::<S>() != TypeId::of::<Scalar128b>()
}

/// fp32 or fp64.
pub trait Real:
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

/// A polynomial, its coefficients from the highest degree on, by Horner's rule.
#[inline(always)]
fn polynomial<R: Real, S: Simd, const N: usize>(x: R, coefficients: [f64; N]) -> R {
    let mut value = R::of(coefficients[0]);
    for &coefficient in &coefficients[1..] {
        value = value.multiply_add::<S>(x, R::of(coefficient));
    }
    value
}

/// 1.5 · 2²³: added to a small fp32 number, it leaves the nearest integer in the last bits.
const INTEGER: f32 = 12_582_912.0;
/// ln 2 in two parts, the first of so few bits that its products with small integers are exact (Cody and Waite,
/// "Software Manual for the Elementary Functions", 1980).
const LN_2_HIGH: f32 = 0.693_359_4;
const LN_2_LOW: f32 = -2.121_944_4e-4;

/// 2ⁿ for −126 ≤ n ≤ 127.
#[inline(always)]
fn power_of_two(n: i32) -> f32 {
    f32::from_bits((n.wrapping_add(127) as u32) << 23)
}

/// n and eʳ, where x = n·ln 2 + r and |r| ≤ ½ ln 2.
#[inline(always)]
fn exp_parts<S: Simd>(x: f32) -> (i32, f32) {
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

/// eˣ for x ≤ 0, but 0 where that is below 2⁻¹²⁵: as good as [`Real::exponential`] in a sum to which 1 belongs.
#[inline(always)]
pub fn decay<S: Simd>(x: f32) -> f32 {
    let (n, exponential) = exp_parts::<S>(x);
    let exponential = exponential * power_of_two(n);
    if x < -86.5 { 0.0 } else { exponential }
}

/// [`decay`] to within 10⁻⁵, for results that become fp16.
#[inline(always)]
pub fn rough_decay<S: Simd>(x: f32) -> f32 {
    let shifted = x.multiply_add::<S>(std::f32::consts::LOG2_E, INTEGER);
    let r = (INTEGER - shifted).multiply_add::<S>(std::f32::consts::LN_2, x);
    let exponential =
        polynomial::<f32, S, 6>(r, [8.312_519_7e-3, 4.189_015_7e-2, 0.166_671_147, 0.499_992_315, 1.0, 1.0]);
    let exponential =
        exponential * power_of_two((shifted.to_bits() as i32).wrapping_sub(INTEGER.to_bits() as i32));
    if x < -86.5 { 0.0 } else { exponential }
}

/// e^(x − y) for x ≤ y, with the rounding error of the difference made good: far from 0 it is many times that of the
/// result.
#[inline(always)]
pub fn exp_difference<S: Simd>(x: f32, y: f32) -> f32 {
    let difference = x - y;
    // Knuth's two-sum: the exact difference is `difference + error`.
    let back = difference - x;
    let error = (x - (difference - back)) + (-y - back);
    let exponential = difference.exponential::<S>();
    // Where the difference is infinite or NaN, so is its error; the exponential says it all.
    let error = if difference > -104.0 && difference < 104.0 { error } else { 0.0 };
    exponential + exponential * error
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

/// tanh x: the series near 0, where 1 − 2/(e²ˣ + 1) would cancel.
#[inline(always)]
pub fn tanh<R: Real, S: Simd>(x: R) -> R {
    let square = x * x;
    let series = polynomial::<R, S, 7>(
        square,
        [
            -929_569.0 / 638_512_875.0,
            21_844.0 / 6_081_075.0,
            -1_382.0 / 155_925.0,
            62.0 / 2_835.0,
            -17.0 / 315.0,
            2.0 / 15.0,
            -1.0 / 3.0,
        ],
    );
    let near = (x * square).multiply_add::<S>(series, x);
    let magnitude = x.magnitude();
    let far = R::of(1.0) - R::of(2.0) / ((magnitude + magnitude).exponential::<S>() + R::of(1.0));
    (if magnitude < R::of(0.25) { near } else { far }).signed_like(x)
}

/// 1 / (1 + e⁻ˣ) without the loss of the sum's last bits where e⁻ˣ is large.
#[inline(always)]
pub fn logistic<R: Real, S: Simd>(x: R) -> R {
    // e^−|x| is at most 1, and the result is one of the two parts of 1 that it divides.
    let small = (-x.magnitude()).exponential::<S>();
    let part = if x < R::of(0.0) { small } else { R::of(1.0) };
    part / (R::of(1.0) + small)
}

/// log(1 + eˣ) without overflow or cancellation.
#[inline(always)]
pub fn softplus<R: Real, S: Simd>(x: R) -> R {
    // max(x, 0) + log(1 + u) with u = e^−|x|, of which 1 + u would lose what is small.
    let u = (-x.magnitude()).exponential::<S>();
    let one = R::of(1.0);
    let near = u * polynomial::<R, S, 3>(u, [1.0 / 3.0, -0.5, 1.0]);
    let logarithm = if u < R::of(1e-3) { near } else { (one + u).logarithm::<S>() };
    let positive = if x < R::of(0.0) { R::of(0.0) } else { x };
    positive + logarithm
}

/// e^(a²)·erfc(a)·(a + 5/2) as a polynomial in y = (a − 5/2) / (a + 5/2), within 3·10⁻¹⁰ for a ≥ 0.
const SCALED_ERFC: [f64; 14] = [
    2.438_970_409_713_999_6e-6,
    1.103_229_345_379_901_8e-5,
    -1.458_662_934_346_000_6e-5,
    -0.000_103_257_004_714_272_72,
    5.523_041_963_237_342_4e-5,
    0.000_696_524_790_470_233_1,
    -0.000_438_184_998_096_852_1,
    -0.004_816_667_674_021_472,
    0.008_392_878_680_486_406,
    0.028_361_201_146_273_232,
    -0.171_251_135_046_516_23,
    0.453_914_138_333_416_3,
    -0.804_651_849_542_924_1,
    1.054_031_820_084_691,
];

/// erfc |x|.
#[inline(always)]
fn erfc_of_magnitude<R: Real, S: Simd>(x: R) -> R {
    let a = x.magnitude();
    let inverse = R::of(1.0) / (a + R::of(2.5));
    // Where a is infinite, y is 1.
    let y = R::of(1.0) - R::of(5.0) * inverse;
    polynomial::<R, S, 14>(y, SCALED_ERFC) * inverse * (-a * a).exponential::<S>()
}

/// 1 − erf x.
#[inline(always)]
pub fn erfc<R: Real, S: Simd>(x: R) -> R {
    let value = erfc_of_magnitude::<R, S>(x);
    if x < R::of(0.0) { R::of(2.0) - value } else { value }
}

/// 2/√π · ∫₀ˣ e^(−t²) dt: the Taylor series near 0, where 1 − erfc x would cancel.
#[inline(always)]
pub fn erf<R: Real, S: Simd>(x: R) -> R {
    let series = polynomial::<R, S, 9>(
        x * x,
        [
            1.0 / 685_440.0,
            -1.0 / 75_600.0,
            1.0 / 9_360.0,
            -1.0 / 1_320.0,
            1.0 / 216.0,
            -1.0 / 42.0,
            1.0 / 10.0,
            -1.0 / 3.0,
            1.0,
        ]
        .map(|coefficient| coefficient * FRAC_2_SQRT_PI),
    );
    let far = R::of(1.0) - erfc_of_magnitude::<R, S>(x);
    if x.magnitude() < R::of(0.5) { x * series } else { far.signed_like(x) }
}

/// x·Φ(x), Φ being the distribution function of the normal distribution.
#[inline(always)]
pub fn gelu<R: Real, S: Simd>(x: R) -> R {
    // 1 + erf(z) = erfc(−z), without the cancellation at negative x.
    R::of(0.5) * x * erfc::<R, S>(-x * R::of(FRAC_1_SQRT_2))
}

/// x·½(1 + tanh(√(2/π)·(x + 0.044715·x³))).
#[inline(always)]
pub fn gelu_by_tanh<R: Real, S: Simd>(x: R) -> R {
    // ½(1 + tanh(z)) = logistic(2z), without the cancellation at negative x.
    let inner = (R::of(0.044715) * x * x).multiply_add::<S>(x, x);
    x * logistic::<R, S>(R::of(FRAC_2_SQRT_PI * SQRT_2) * inner)
}

/// 2ˣ.
#[inline(always)]
pub fn exp2<R: Real, S: Simd>(x: R) -> R {
    (x * R::of(LN_2)).exponential::<S>()
}
