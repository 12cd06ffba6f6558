//! RMSNorm, forward and backward: y = x · r · g with r = (mean(x²) + ε)^-½ over the channels.
//!
//! In fp16 neither x² nor ε fits: x² overflows beyond 256, a sum of D squares sooner, and ε = 1e-5 is a
//! subnormal. So every position is scaled by a power of two p that brings its largest |x| near 2, which loses
//! nothing:
//!
//! | quantity | is | range |
//! |---|---|---|
//! | k | ⌊log2 max(\|x\|, 2^-8.5)⌋, one off at most and only beside a power of two | −9 … 16 |
//! | p | 2^(t−k) | 2^-18 … 2^10 |
//! | v | mean((x·p)²)·2^j + (√ε·p)²·2^j | from 4^(t-1)·2^j/D to 64 |
//! | s | v^-½ · 2^(j/2-5) | r / p · 2^-5 |
//! | q | p·2^5 | 2^-13 … 2^15 |
//! | x·r | (x·q)·s | at most √D |
//!
//! t ≤ 1 keeps the sum of squares below 2^15 for any D; j, even, keeps 2^j/D a normal number. x·q is exact but
//! for elements so small beside the largest that the result is a subnormal too.

use anemone_mil::builder::{BuildError, FunctionBuilder};
use anemone_mil::ops::call;
use anemone_mil::program::ValueId;

use crate::config::DeviceDtype;

pub(super) mod engine;
mod recognize;

pub use recognize::{Recognized, recognize};

/// log2 of the least |x| that still counts: below it ε decides r.
const LEAST_LOG2: f64 = -8.5;
/// log2 of q / p.
const SPREAD: i32 = 5;

/// The parts of RMSNorm that both directions use.
pub(super) struct Normalized {
    /// x · r, `[1, D, 1, S]`.
    pub x_hat: ValueId,
    /// r, `[1, 1, 1, S]`.
    pub reciprocal: Option<ValueId>,
}

/// x · r for x `[1, D, 1, S]`; r itself only where `with_reciprocal`.
pub(super) fn normalize(
    f: &mut FunctionBuilder,
    x: ValueId,
    dim: usize,
    eps: f64,
    dtype: DeviceDtype,
    with_reciprocal: bool,
) -> Result<Normalized, BuildError> {
    match dtype {
        DeviceDtype::Fp16 => normalize_scaled(f, x, dim, eps, with_reciprocal),
        DeviceDtype::Fp32 => normalize_plainly(f, x, dim, eps),
    }
}

/// As the formula stands: fp32 holds the squares.
fn normalize_plainly(
    f: &mut FunctionBuilder,
    x: ValueId,
    dim: usize,
    eps: f64,
) -> Result<Normalized, BuildError> {
    let squares = f.bind("squares", call::mul(x, x))?;
    let sum = f.bind("sum_of_squares", call::reduce_sum(squares).axes([1]).keep_dims(true))?;
    let mean = f.bind("mean_square", call::mul(sum, 1.0 / dim as f64))?;
    let variance = f.bind("mean_square_eps", call::add(mean, eps))?;
    let reciprocal = f.bind("reciprocal_rms", call::pow(variance, -0.5))?;
    let x_hat = f.bind("x_hat", call::mul(x, reciprocal))?;
    Ok(Normalized { x_hat, reciprocal: Some(reciprocal) })
}

/// log2 of the scale that x's largest element is brought to, so that D squares of it add up to at most 2^15.
fn scale_log2(dim: usize) -> i32 {
    let room = (15.0 - (dim as f64).log2()) / 2.0;
    (room.floor() as i32 - 1).min(1)
}

/// The largest even j with 2^j ≤ D / 2^9, at least 0: how far 1/D is scaled up so that the mean remains a normal
/// number.
fn mean_log2(dim: usize) -> i32 {
    let j = (dim as f64).log2().floor() as i32 - 9;
    (j.max(0) / 2) * 2
}

fn normalize_scaled(
    f: &mut FunctionBuilder,
    x: ValueId,
    dim: usize,
    eps: f64,
    with_reciprocal: bool,
) -> Result<Normalized, BuildError> {
    let (t, j) = (scale_log2(dim), mean_log2(dim));
    let two = |exponent: i32| 2f64.powi(exponent);

    let magnitudes = f.bind("magnitudes", call::abs(x))?;
    let largest = f.bind("largest", call::reduce_max(magnitudes).axes([1]).keep_dims(true))?;
    let at_least = f.bind("largest_or_floor", call::maximum(largest, LEAST_LOG2.exp2()))?;
    // The epsilon is far below half a unit of any value that `maximum` lets through.
    let log = f.bind("log_largest", call::log(at_least).epsilon(two(-24)))?;
    let log2 = f.bind("log2_largest", call::mul(log, std::f64::consts::LOG2_E))?;
    let exponent = f.bind("largest_exponent", call::floor(log2))?;
    let shift = f.bind("shift", call::sub(f64::from(t), exponent))?;
    let p = f.bind("scale", call::exp2(shift))?;

    let scaled = f.bind("scaled", call::mul(x, p))?;
    let squares = f.bind("squares", call::mul(scaled, scaled))?;
    let sum = f.bind("sum_of_squares", call::reduce_sum(squares).axes([1]).keep_dims(true))?;
    let mean = f.bind("mean_square", call::mul(sum, two(j) / dim as f64))?;
    let root_eps = f.bind("scaled_root_eps", call::mul(p, (eps * two(j)).sqrt()))?;
    let scaled_eps = f.bind("scaled_eps", call::mul(root_eps, root_eps))?;
    let variance = f.bind("mean_square_eps", call::add(mean, scaled_eps))?;
    let power = f.bind("reciprocal_scaled_rms", call::pow(variance, -0.5))?;
    let s = f.bind("reciprocal_rms_factor", call::mul(power, two(j / 2 - SPREAD)))?;
    let q = f.bind("scale_factor", call::mul(p, two(SPREAD)))?;

    let x_q = f.bind("x_scaled", call::mul(x, q))?;
    let x_hat = f.bind("x_hat", call::mul(x_q, s))?;
    let reciprocal = if with_reciprocal { Some(f.bind("reciprocal_rms", call::mul(q, s))?) } else { None };
    Ok(Normalized { x_hat, reciprocal })
}

/// dx for x̂ = x·r, dx̂ `[1, D, 1, S]`: r·(dx̂ − u·Σ_c dx̂·u) with u = x̂ / √D, a vector of length at most 1, so
/// that the sum stays below the length of dx̂ whatever x is.
pub(super) fn normalize_backward(
    f: &mut FunctionBuilder,
    normalized: &Normalized,
    d_x_hat: ValueId,
    dim: usize,
    name: &str,
) -> Result<ValueId, BuildError> {
    let direction = f.bind("direction", call::mul(normalized.x_hat, 1.0 / (dim as f64).sqrt()))?;
    let along = f.bind("along", call::mul(d_x_hat, direction))?;
    let projection = f.bind("projection", call::reduce_sum(along).axes([1]).keep_dims(true))?;
    let radial = f.bind("radial", call::mul(direction, projection))?;
    let tangential = f.bind("tangential", call::sub(d_x_hat, radial))?;
    match normalized.reciprocal {
        Some(reciprocal) => f.bind(name, call::mul(tangential, reciprocal)),
        None => Ok(tangential),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_of_squares_and_the_mean_stay_in_range_for_any_dimension() {
        for dim in (1..=1 << 16).step_by(61).chain([768, 1 << 12, 1 << 14, 1 << 16]) {
            let (t, j) = (scale_log2(dim), mean_log2(dim));
            // fp16 gives log2 to within 0.01, so the largest element lands in [2^t, 2^(t+1)) to within 1 %.
            let largest_square = 1.02 * 4f64.powi(t + 1);
            assert!(largest_square * dim as f64 <= 1.02 * 32768.0, "D = {dim}");
            assert!(2f64.powi(j) / dim as f64 >= 2f64.powi(-14), "D = {dim}");
            let least_mean = 0.98 * 4f64.powi(t) * 2f64.powi(j) / dim as f64;
            assert!(least_mean >= 0.98 * 2f64.powi(-14), "D = {dim}: {least_mean}");
        }
    }
}
