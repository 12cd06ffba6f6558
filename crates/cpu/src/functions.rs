//! Elementary functions in operations that compilers turn into vector instructions, where a loop over them is
//! compiled for a processor that has some, that is under [`pulp::Arch::dispatch`].
//!
//! They are written once for [`Real`] numbers: fp32 is wide enough for functions of fp16 values, fp64 makes the results
//! for fp32 values all but correctly rounded. `functions/coefficients.py` prints the coefficients of the polynomials.
//!
//! Products and sums are rounded together where [`fuses`] says so: each function has the vectors as a parameter.

use std::any::TypeId;
use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI, LN_2, SQRT_2};

use pulp::{Scalar, Scalar128b, Simd};

pub(crate) use real::Real;
use real::{INTEGER, exp_parts, power_of_two};

mod real;
#[cfg(test)]
mod tests;

/// Whether these vectors multiply and add, rounding once, by an instruction, and not by a call for each number.
#[inline(always)]
pub(crate) fn fuses<S: Simd>() -> bool {
    TypeId::of::<S>() != TypeId::of::<Scalar>() && TypeId::of::<S>() != TypeId::of::<Scalar128b>()
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

/// eˣ for x ≤ 0, but 0 from −86.5 on, where that is about 2⁻¹²⁴·⁸: as good as [`Real::exponential`] in a sum to which 1 belongs.
#[inline(always)]
pub(crate) fn decay<S: Simd>(x: f32) -> f32 {
    let (n, exponential) = exp_parts::<S>(x);
    let exponential = exponential * power_of_two(n);
    if x < -86.5 { 0.0 } else { exponential }
}

/// eˣ to within 10⁻⁵ for x ≤ 0, but never less than e⁻⁶⁰, 9·10⁻²⁷, which is nothing in a sum to which 1 belongs, nor in
/// fp16, and which products with the sum's inverse do not make subnormal and slow.
#[inline(always)]
pub(crate) fn rough_decay<S: Simd>(x: f32) -> f32 {
    let x = if x < -60.0 { -60.0 } else { x };
    let shifted = x.multiply_add::<S>(std::f32::consts::LOG2_E, INTEGER);
    let r = (INTEGER - shifted).multiply_add::<S>(std::f32::consts::LN_2, x);
    let exponential =
        polynomial::<f32, S, 5>(r, [4.151_381_45e-2, 0.167_874_97, 0.500_030_149, 0.999_966_824, 1.0]);
    exponential * power_of_two((shifted.to_bits() as i32).wrapping_sub(INTEGER.to_bits() as i32))
}

/// e^(x − y) for x ≤ y, with the rounding error of the difference made good: far from 0 it is many times that of the
/// result.
#[inline(always)]
pub(crate) fn exp_difference<S: Simd>(x: f32, y: f32) -> f32 {
    let difference = x - y;
    // Knuth's two-sum: the exact difference is `difference + error`.
    let back = difference - x;
    let error = (x - (difference - back)) + (-y - back);
    let exponential = difference.exponential::<S>();
    // Where the difference is infinite or NaN, so is its error; the exponential says it all.
    let error = if difference > -104.0 && difference < 104.0 { error } else { 0.0 };
    exponential + exponential * error
}

/// tanh x: the series near 0, where 1 − 2/(e²ˣ + 1) would cancel.
#[inline(always)]
pub(crate) fn tanh<R: Real, S: Simd>(x: R) -> R {
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

/// eˣ − 1: the series near 0, where the difference would cancel.
#[inline(always)]
pub(crate) fn exp_minus_one<R: Real, S: Simd>(x: R) -> R {
    let series = polynomial::<R, S, 8>(
        x,
        [
            1.0 / 362_880.0,
            1.0 / 40_320.0,
            1.0 / 5_040.0,
            1.0 / 720.0,
            1.0 / 120.0,
            1.0 / 24.0,
            1.0 / 6.0,
            0.5,
        ],
    );
    let near = (x * x).multiply_add::<S>(series, x);
    let far = x.exponential::<S>() - R::of(1.0);
    (if x.magnitude() < R::of(0.25) { near } else { far }).signed_like(x)
}

/// 1 / (1 + e⁻ˣ) without the loss of the sum's last bits where e⁻ˣ is large.
#[inline(always)]
pub(crate) fn logistic<R: Real, S: Simd>(x: R) -> R {
    // e^−|x| is at most 1, and the result is one of the two parts of 1 that it divides.
    let small = (-x.magnitude()).exponential::<S>();
    let part = if x < R::of(0.0) { small } else { R::of(1.0) };
    part / (R::of(1.0) + small)
}

/// log(1 + eˣ) without overflow or cancellation.
#[inline(always)]
pub(crate) fn softplus<R: Real, S: Simd>(x: R) -> R {
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
pub(crate) fn erfc<R: Real, S: Simd>(x: R) -> R {
    let value = erfc_of_magnitude::<R, S>(x);
    if x < R::of(0.0) { R::of(2.0) - value } else { value }
}

/// 2/√π · ∫₀ˣ e^(−t²) dt: the Taylor series near 0, where 1 − erfc x would cancel.
#[inline(always)]
pub(crate) fn erf<R: Real, S: Simd>(x: R) -> R {
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
pub(crate) fn gelu<R: Real, S: Simd>(x: R) -> R {
    // 1 + erf(z) = erfc(−z), without the cancellation at negative x.
    R::of(0.5) * x * erfc::<R, S>(-x * R::of(FRAC_1_SQRT_2))
}

/// x·½(1 + tanh(√(2/π)·(x + 0.044715·x³))).
#[inline(always)]
pub(crate) fn gelu_by_tanh<R: Real, S: Simd>(x: R) -> R {
    // ½(1 + tanh(z)) = logistic(2z), without the cancellation at negative x.
    let inner = (R::of(0.044715) * x * x).multiply_add::<S>(x, x);
    x * logistic::<R, S>(R::of(FRAC_2_SQRT_PI * SQRT_2) * inner)
}

/// 2ˣ.
#[inline(always)]
pub(crate) fn exp2<R: Real, S: Simd>(x: R) -> R {
    (x * R::of(LN_2)).exponential::<S>()
}
