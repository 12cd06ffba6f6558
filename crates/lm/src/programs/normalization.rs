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

use anemone_mil::builder::{BuildError, FunctionBuilder, Input};
use anemone_mil::program::ValueId;
use anemone_mil::tensor::Tensor;
use anemone_mil::types::DType;

use crate::config::DeviceDtype;

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

/// A function builder that rounds numbers to one element type.
pub(super) struct Writer<'a> {
    pub f: &'a mut FunctionBuilder,
    pub dtype: DType,
}

impl Writer<'_> {
    /// The constant nearest to `value`.
    fn number(&self, value: f64) -> Input {
        // fp16 and fp32 are floating-point types, which is all that rounding asks for.
        Input::Constant(Tensor::from_f64(self.dtype, &[], &[value]).unwrap_or_else(|_| Tensor::scalar(value)))
    }

    fn unary(&mut self, op: &str, name: &str, x: ValueId) -> Result<ValueId, BuildError> {
        self.f.op(op, name, [("x", x.into())])
    }

    pub fn binary(
        &mut self,
        op: &str,
        name: &str,
        x: impl Into<Input>,
        y: impl Into<Input>,
    ) -> Result<ValueId, BuildError> {
        self.f.op(op, name, [("x", x.into()), ("y", y.into())])
    }

    pub fn with_number(&mut self, op: &str, name: &str, x: ValueId, y: f64) -> Result<ValueId, BuildError> {
        let y = self.number(y);
        self.binary(op, name, x, y)
    }

    /// A reduction over one axis, which stays as a dimension of length 1.
    pub fn reduce(&mut self, op: &str, name: &str, x: ValueId, axis: i32) -> Result<ValueId, BuildError> {
        self.f.op(op, name, [("x", x.into()), ("axes", [axis].into()), ("keep_dims", true.into())])
    }
}

/// x · r for x `[1, D, 1, S]`; r itself only where `with_reciprocal`.
pub(super) fn normalize(
    w: &mut Writer<'_>,
    x: ValueId,
    dim: usize,
    eps: f64,
    dtype: DeviceDtype,
    with_reciprocal: bool,
) -> Result<Normalized, BuildError> {
    match dtype {
        DeviceDtype::Fp16 => normalize_scaled(w, x, dim, eps, with_reciprocal),
        DeviceDtype::Fp32 => normalize_plainly(w, x, dim, eps),
    }
}

/// As the formula stands: fp32 holds the squares.
fn normalize_plainly(w: &mut Writer<'_>, x: ValueId, dim: usize, eps: f64) -> Result<Normalized, BuildError> {
    let squares = w.binary("mul", "squares", x, x)?;
    let sum = w.reduce("reduce_sum", "sum_of_squares", squares, 1)?;
    let mean = w.with_number("mul", "mean_square", sum, 1.0 / dim as f64)?;
    let variance = w.with_number("add", "mean_square_eps", mean, eps)?;
    let reciprocal = w.with_number("pow", "reciprocal_rms", variance, -0.5)?;
    let x_hat = w.binary("mul", "x_hat", x, reciprocal)?;
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
    w: &mut Writer<'_>,
    x: ValueId,
    dim: usize,
    eps: f64,
    with_reciprocal: bool,
) -> Result<Normalized, BuildError> {
    let (t, j) = (scale_log2(dim), mean_log2(dim));
    let two = |exponent: i32| 2f64.powi(exponent);

    let magnitudes = w.unary("abs", "magnitudes", x)?;
    let largest = w.reduce("reduce_max", "largest", magnitudes, 1)?;
    let at_least = w.with_number("maximum", "largest_or_floor", largest, LEAST_LOG2.exp2())?;
    // The epsilon is far below half a unit of any value that `maximum` lets through.
    let epsilon = w.number(two(-24));
    let log = w.f.op("log", "log_largest", [("x", at_least.into()), ("epsilon", epsilon)])?;
    let log2 = w.with_number("mul", "log2_largest", log, std::f64::consts::LOG2_E)?;
    let exponent = w.unary("floor", "largest_exponent", log2)?;
    let minus = w.number(f64::from(t));
    let shift = w.binary("sub", "shift", minus, exponent)?;
    let p = w.unary("exp2", "scale", shift)?;

    let scaled = w.binary("mul", "scaled", x, p)?;
    let squares = w.binary("mul", "squares", scaled, scaled)?;
    let sum = w.reduce("reduce_sum", "sum_of_squares", squares, 1)?;
    let mean = w.with_number("mul", "mean_square", sum, two(j) / dim as f64)?;
    let root_eps = w.with_number("mul", "scaled_root_eps", p, (eps * two(j)).sqrt())?;
    let scaled_eps = w.binary("mul", "scaled_eps", root_eps, root_eps)?;
    let variance = w.binary("add", "mean_square_eps", mean, scaled_eps)?;
    let power = w.with_number("pow", "reciprocal_scaled_rms", variance, -0.5)?;
    let s = w.with_number("mul", "reciprocal_rms_factor", power, two(j / 2 - SPREAD))?;
    let q = w.with_number("mul", "scale_factor", p, two(SPREAD))?;

    let x_q = w.binary("mul", "x_scaled", x, q)?;
    let x_hat = w.binary("mul", "x_hat", x_q, s)?;
    let reciprocal = if with_reciprocal { Some(w.binary("mul", "reciprocal_rms", q, s)?) } else { None };
    Ok(Normalized { x_hat, reciprocal })
}

/// dx for x̂ = x·r, dx̂ `[1, D, 1, S]`: r·(dx̂ − u·Σ_c dx̂·u) with u = x̂ / √D, a vector of length at most 1, so
/// that the sum stays below the length of dx̂ whatever x is.
pub(super) fn normalize_backward(
    w: &mut Writer<'_>,
    normalized: &Normalized,
    d_x_hat: ValueId,
    dim: usize,
    name: &str,
) -> Result<ValueId, BuildError> {
    let direction = w.with_number("mul", "direction", normalized.x_hat, 1.0 / (dim as f64).sqrt())?;
    let along = w.binary("mul", "along", d_x_hat, direction)?;
    let projection = w.reduce("reduce_sum", "projection", along, 1)?;
    let radial = w.binary("mul", "radial", direction, projection)?;
    let tangential = w.binary("sub", "tangential", d_x_hat, radial)?;
    match normalized.reciprocal {
        Some(reciprocal) => w.binary("mul", name, tangential, reciprocal),
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
