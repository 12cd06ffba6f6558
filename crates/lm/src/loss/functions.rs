//! Elementary functions in fp32, as arithmetic without branches that compilers vectorise.

/// e^x for x ≤ 0 to 2 ulp, in arithmetic without branches that compilers vectorise; 0 below −87, NaN for NaN.
///
/// x = n·ln 2 + r with |r| ≤ ln 2 / 2, the polynomial for e^r is that of Cephes' `expf`, and 2ⁿ is built from
/// its bits: adding 1.5·2²³ rounds to an integer and leaves it in the lowest bits.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0;
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    let rounded = x * std::f32::consts::LOG2_E + ROUND;
    let n = rounded - ROUND;
    let r = (x - n * LN_2_HIGH) - n * LN_2_LOW;
    let mut p = 1.987_569_1e-4;
    for coefficient in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
        p = p * r + coefficient;
    }
    let power = f32::from_bits(rounded.to_bits().wrapping_add(127) << 23);
    let result = (p * r * r + r + 1.0) * power;
    if x < -87.0 { 0.0 } else { result }
}

/// The soft cap c·tanh(z / c), within 3 ulp of c·tanh of the rounded quotient.
#[inline(always)]
pub(super) fn soft_cap(z: f32, cap: f32) -> f32 {
    cap * tanh(z / cap)
}

/// The derivative of the soft cap, 1 − tanh²(z / c), without the loss of its digits where tanh is nearly 1.
#[inline(always)]
pub(super) fn soft_cap_slope(z: f32, cap: f32) -> f32 {
    // With e = e^(−2|x|), 1 − tanh² x = 4e / (1 + e)².
    let e = exp(-2.0 * (z / cap).abs());
    4.0 * e / ((1.0 + e) * (1.0 + e))
}

/// tanh x within 3 ulp; the polynomial near 0 is that of Cephes' `tanhf`.
#[inline(always)]
fn tanh(x: f32) -> f32 {
    let (magnitude, square) = (x.abs(), x * x);
    let mut p = -5.704_988_7e-3;
    for coefficient in [2.063_909e-2, -5.373_971_6e-2, 1.333_144_2e-1, -3.333_328_3e-1] {
        p = p * square + coefficient;
    }
    let near = p * square * magnitude + magnitude;
    let e = exp(-2.0 * magnitude);
    let far = (1.0 - e) / (1.0 + e);
    (if magnitude < 0.625 { near } else { far }).copysign(x)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_right_to_two_ulp() {
        let steps = 300_000;
        for i in 0..=steps {
            let x = -87.0 * (i as f32 / steps as f32);
            let (ours, exact) = (f64::from(exp(x)), f64::from(x).exp());
            assert!(
                (ours - exact).abs() <= 2.0 * exact * f64::from(f32::EPSILON),
                "exp({x}) = {ours}, not {exact}"
            );
        }
        assert_eq!(exp(0.0), 1.0);
        assert_eq!([exp(-87.1), exp(-1e30), exp(f32::MIN), exp(f32::NEG_INFINITY)], [0.0; 4]);
        assert!(exp(f32::NAN).is_nan());
    }

    #[test]
    fn tanh_is_right_to_three_ulp() {
        for i in 1..=400_000 {
            // From 2⁻²⁰ to 2⁴, as many in each octave.
            let x = 2f32.powf(-20.0 + 24.0 * i as f32 / 400_000.0);
            let (ours, exact) = (f64::from(tanh(x)), f64::from(x).tanh());
            let allowed = 3.0 * exact * f64::from(f32::EPSILON);
            assert!((ours - exact).abs() <= allowed, "tanh({x}) = {ours}, not {exact}");
            assert_eq!(tanh(-x), -tanh(x));
        }
        assert_eq!([tanh(0.0), tanh(100.0), tanh(f32::INFINITY)], [0.0, 1.0, 1.0]);
        assert_eq!([tanh(f32::NEG_INFINITY), tanh(1e-40)], [-1.0, 1e-40]);
        assert!(tanh(f32::NAN).is_nan());
    }

    #[test]
    fn the_slope_of_the_soft_cap_keeps_its_digits() {
        for i in 0..=20_000 {
            let z = -200.0 + 400.0 * (i as f32 / 20_000.0);
            let exact = f64::from(z / 5.0).cosh().powi(-2);
            let ours = f64::from(soft_cap_slope(z, 5.0));
            assert!(
                (ours - exact).abs() <= 8.0 * exact * f64::from(f32::EPSILON),
                "{z}: {ours}, not {exact}"
            );
        }
        assert_eq!([soft_cap_slope(f32::INFINITY, 5.0), soft_cap_slope(0.0, 5.0)], [0.0, 1.0]);
        assert!(soft_cap_slope(f32::NAN, 5.0).is_nan());
    }
}
