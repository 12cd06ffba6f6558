use anemone_mil::types::DType;
use half::f16;
use pulp::{Scalar256b, Scalar512b};

use super::*;

/// fp32 numbers of all sizes and signs, and special ones.
fn numbers() -> impl Iterator<Item = f32> {
    let special = [0.0, -0.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, 1.0, -1.0, f32::MAX, f32::MIN];
    let near_one = (0x3f7f_f000..0x3f80_1000).map(f32::from_bits);
    // An emulator computes floating point some fifty times slower, and the same.
    let step = if std::env::var_os("ANEMONE_EMULATOR").is_some() { 20_011 } else { 1009 };
    let all = (0..u32::MAX - step).step_by(step as usize).map(f32::from_bits);
    special.into_iter().chain(near_one).chain(all)
}

/// The largest error in units of the last place of a function of fp32 numbers, with products and sums rounded together
/// and not.
fn worst(ours: [impl Fn(f32) -> f32; 2], exact: impl Fn(f64) -> f64) -> f64 {
    let mut worst = 0.0;
    for x in numbers() {
        let exact = exact(f64::from(x));
        for function in &ours {
            let value = function(x);
            if exact.is_nan() || value.is_nan() {
                assert!(exact.is_nan() && value.is_nan(), "{x:e}: {value:e} for {exact:e}");
            } else if (exact as f32).is_infinite() {
                assert!(
                    value.abs() >= f32::MAX && f64::from(value).signum() == exact.signum(),
                    "{x:e}: {value:e}"
                );
            } else {
                let unit = anemone_mil::eval::ulp(DType::Fp32, exact).unwrap();
                worst = f64::max(worst, (f64::from(value) - exact).abs() / unit);
            }
        }
    }
    worst
}

/// The largest error in units of the last place of fp16, over all its numbers, before the result is rounded.
fn worst_of_half(ours: impl Fn(f32) -> f32, exact: impl Fn(f64) -> f64) -> f64 {
    let mut worst = 0.0;
    for x in (0..=u16::MAX).map(f16::from_bits) {
        let (value, exact) = (f64::from(ours(x.to_f32())), exact(x.to_f64()));
        if exact.is_nan() || value.is_nan() {
            assert!(exact.is_nan() && value.is_nan(), "{x:e}: {value:e} for {exact:e}");
        } else if exact.abs() > 65504.0 {
            assert!(
                value.abs() > 65503.0 && value.signum() == exact.signum(),
                "{x:e}: {value:e} for {exact:e}"
            );
        } else {
            let unit = anemone_mil::eval::ulp(DType::Fp16, exact).unwrap();
            worst = f64::max(worst, (value - exact).abs() / unit);
        }
    }
    worst
}

/// Checks a function for fp32 numbers, computed in fp64, and for fp16 numbers, computed in fp32.
macro_rules! check {
    ($function:ident, $exact:expr) => {
        let single = [
            |x: f32| $function::<f64, Scalar>(f64::from(x)) as f32,
            |x: f32| $function::<f64, Scalar512b>(f64::from(x)) as f32,
        ];
        let (single, half) = (worst(single, $exact), worst_of_half($function::<f32, Scalar256b>, $exact));
        println!("{}: {single} and {half} units", stringify!($function));
        assert!(single < 0.52 && half < 0.25, "{single} {half}");
    };
}

#[test]
fn functions_computed_wider_than_their_results_are_all_but_exact() {
    fn logarithm<R: Real, S: Simd>(x: R) -> R {
        x.logarithm::<S>()
    }
    fn exponential<R: Real, S: Simd>(x: R) -> R {
        x.exponential::<S>()
    }
    fn inverse_root<R: Real, S: Simd>(x: R) -> R {
        x.inverse_root::<S>()
    }
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    check!(logarithm, f64::ln);
    check!(exponential, f64::exp);
    check!(inverse_root, |x: f64| 1.0 / x.sqrt());
    check!(exp2, f64::exp2);
    check!(tanh, f64::tanh);
    check!(exp_minus_one, f64::exp_m1);
    check!(logistic, sigmoid);
    check!(erf, libm::erf);
    check!(erfc, libm::erfc);
    check!(softplus, |x: f64| if x < 0.0 { x.exp().ln_1p() } else { x + (-x).exp().ln_1p() });
    check!(gelu, |x: f64| 0.5 * x * libm::erfc(-x * FRAC_1_SQRT_2));
    check!(gelu_by_tanh, |x: f64| { x * sigmoid(FRAC_2_SQRT_PI * SQRT_2 * (x + 0.044715 * x * x * x)) });
}

#[test]
fn fp32_functions_are_within_their_units_of_the_last_place() {
    let exp = worst([|x: f32| x.exponential::<Scalar>(), |x: f32| x.exponential::<Scalar256b>()], f64::exp);
    assert!(exp < 1.5, "{exp}");
    let tanh = worst([tanh::<f32, Scalar>, tanh::<f32, Scalar256b>], f64::tanh);
    assert!(tanh < 6.0, "{tanh}");
    let logistic =
        worst([logistic::<f32, Scalar>, logistic::<f32, Scalar256b>], |x| 1.0 / (1.0 + (-x).exp()));
    assert!(logistic < 3.5, "{logistic}");
}

#[test]
fn decay_is_exp_but_for_the_least_results() {
    for x in numbers().filter(|x| *x <= 0.0 || x.is_nan()) {
        let (good, rough) = (decay::<Scalar256b>(x), rough_decay::<Scalar256b>(x));
        let exact = f64::from(x).exp();
        if x.is_nan() {
            assert!(good.is_nan() && rough.is_nan());
            continue;
        }
        if x < -86.5 {
            assert!(good == 0.0, "{x:e}");
        } else {
            assert!((f64::from(good) - exact).abs() < 2e-7 * exact, "{x:e}");
        }
        if x < -60.0 {
            assert!((0.0..1e-26).contains(&rough), "{x:e}");
        } else {
            assert!((f64::from(rough) - exact).abs() < 1e-5 * exact, "{x:e}");
        }
    }
}

#[test]
fn inverse_roots_of_sums_beyond_fp32() {
    let sum = 2.0 * f64::from(f32::MAX);
    let error = sum.inverse_root::<Scalar512b>() * sum.sqrt() - 1.0;
    assert!(error.abs() < 1e-12, "{error}");
}

#[test]
fn exp_keeps_special_values() {
    assert_eq!(0f32.exponential::<Scalar>(), 1.0);
    assert_eq!(f32::NEG_INFINITY.exponential::<Scalar>(), 0.0);
    assert_eq!(exp_difference::<Scalar>(f32::NEG_INFINITY, 3.0), 0.0);
    assert!(exp_difference::<Scalar>(f32::INFINITY, f32::INFINITY).is_nan());
}
