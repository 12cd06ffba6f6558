//! RMSNorm as the engine computes it best: few ops, means by convolutions, nothing that leaves the range of fp16.
//!
//! The engine drops products below 2^-17, its sums of products end at 32768, and its `reduce_sum` adds up in fp16. So x is
//! scaled by i = 128 / max |x| at each position, and means over the channels are convolutions with the weights 1/D, which
//! the engine adds up in fixed point:
//!
//! | quantity | is | range |
//! |---|---|---|
//! | i | 128 / max(\|x\|, 2^-8.5) | 2^-9 … 2^15.5 |
//! | z | x·i | at most 128 |
//! | v | mean(z²) + (i·√ε)² | 2^14/D … 2^15.3 |
//! | x̂ | z·v^-½ | at most √D |
//!
//! i cancels in x̂, and with it whatever the division is off by: the power is the only function on whose exactness that
//! of x̂ rests. For D from 2^(k-1) to 2^k the mean drops squares below 2^(k-30) of the largest. All of them together change
//! x̂ by 2^(2k-31) at most: half a unit in the last place for D up to 1024.

use anemone_mil::builder::{BuildError, FunctionBuilder};
use anemone_mil::ops::call;
use anemone_mil::program::ValueId;
use anemone_mil::tensor::Tensor;
use anemone_mil::types::DType;

use super::LEAST_LOG2;
use crate::programs::ProgramError;

/// What the largest magnitude is brought to: no square, and no mean of squares, reaches 32768.
const LARGEST_SCALED: f64 = 128.0;

/// The parts of an RMSNorm for the engine that its backward reads.
pub(crate) struct NormalizedOnEngine {
    /// x · r, `[1, D, 1, S]`.
    pub(crate) x_hat: ValueId,
    /// v^-½ and i, whose product is r, each `[1, 1, 1, S]`. r itself is a subnormal where x is large.
    factors: [ValueId; 2],
    /// 1/D for every channel, `[1, D, 1, 1]`.
    channel_weights: ValueId,
}

/// x · r for x `[1, D, 1, S]`.
pub(crate) fn normalize_on_engine(
    f: &mut FunctionBuilder,
    x: ValueId,
    dtype: DType,
    dim: usize,
    eps: f64,
) -> Result<NormalizedOnEngine, ProgramError> {
    let weights = Tensor::from_f64(dtype, &[1, dim, 1, 1], &vec![1.0 / dim as f64; dim])?;
    let channel_weights = f.constant("channel_weights", weights);
    let magnitudes = f.bind("magnitudes", call::abs(x))?;
    let largest = f.bind("largest", call::reduce_max(magnitudes).axes([1]).keep_dims(true))?;
    let largest = f.bind("largest_or_floor", call::maximum(largest, LEAST_LOG2.exp2()))?;
    let scale = f.bind("scale", call::real_div(LARGEST_SCALED, largest))?;
    let scaled = f.bind("scaled", call::mul(x, scale))?;
    let squares = f.bind("squares", call::mul(scaled, scaled))?;
    let mean = mean_over_channels(f, "mean_square", squares, channel_weights)?;
    let root_eps = f.bind("scaled_root_eps", call::mul(scale, eps.sqrt()))?;
    let scaled_eps = f.bind("scaled_eps", call::mul(root_eps, root_eps))?;
    let variance = f.bind("mean_square_eps", call::add(mean, scaled_eps))?;
    let reciprocal = f.bind("reciprocal_scaled_rms", call::pow(variance, -0.5))?;
    let x_hat = f.bind("x_hat", call::mul(scaled, reciprocal))?;
    Ok(NormalizedOnEngine { x_hat, factors: [reciprocal, scale], channel_weights })
}

/// dx for x̂ = x·r, dx̂ `[1, D, 1, S]`: r·(dx̂ − x̂·mean_c(dx̂·x̂)).
///
/// For |dx̂| of at most 64 no step overflows but the last, and that only where dx does; for a largest |dx̂| of at least 1
/// the sum drops nothing that counts.
pub(crate) fn normalize_backward_on_engine(
    f: &mut FunctionBuilder,
    normalized: &NormalizedOnEngine,
    d_x_hat: ValueId,
    name: &str,
) -> Result<ValueId, BuildError> {
    let along = f.bind("along", call::mul(d_x_hat, normalized.x_hat))?;
    let projection = mean_over_channels(f, "projection", along, normalized.channel_weights)?;
    let radial = f.bind("radial", call::mul(normalized.x_hat, projection))?;
    let tangential = f.bind("tangential", call::sub(d_x_hat, radial))?;
    let [reciprocal, scale] = normalized.factors;
    let d_scaled = f.bind("dscaled", call::mul(tangential, reciprocal))?;
    f.bind(name, call::mul(d_scaled, scale))
}

/// The mean over the channels of y `[1, D, 1, S]`, `[1, 1, 1, S]`, from the weights 1/D.
fn mean_over_channels(
    f: &mut FunctionBuilder,
    name: &str,
    y: ValueId,
    weights: ValueId,
) -> Result<ValueId, BuildError> {
    let conv = call::conv(y, weights).strides([1, 1]).pad_type("valid").pad([0, 0, 0, 0]);
    f.bind(name, conv.dilations([1, 1]).groups(1))
}
