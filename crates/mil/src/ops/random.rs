//! Ops that draw random numbers.
//!
//! Which numbers a seed gives is not Apple's to promise nor ours to match: those that are drawn here have the
//! distributions that are asked for, and are other numbers than Core ML draws. They are the same on every runtime, machine
//! and version, in every run, and do not depend on each other's order ([`Generator`]). Without a seed, and with −1, Core
//! ML draws others each time; here those are drawn that −1 gives. Passes treat these ops as if they had a state, so that
//! what Core ML makes of a program stays: none is computed in advance, shared or moved.

use std::f64::consts::TAU;

use crate::error::ErrorKind;
use crate::eval::{Evaluation, Numbers, collect, room};
use crate::ops::{Accuracy, Constant, FLOAT, INT32, OpError, Operand, movement};
use crate::tensor::{Tensor, round_to_f16};
use crate::types::{DType, Dim, TensorType};

crate::ops! {
    /// A tensor of this `shape` of normally distributed numbers, with the mean `mean` (0) and the standard deviation
    /// `stddev` (1). They have the element type of both, fp32 without them; one alone must be of fp32, as the default of
    /// the other is. Numbers `2i` and `2i + 1` are `mean + stddev · √(−2 log(1 − u)) · (cos 2πv, sin 2πv)`, with draws
    /// `2i` and `2i + 1` as `u` and `v` (Box and Muller, 1958).
    RandomNormal = random_normal(shape: Operand[U]; mean: Option<Constant>[T], stddev: Option<Constant>[T], seed: i32 = -1)
        since IOS15 where [T: FLOAT, U: INT32]
        { infer: normal_type, eval: random_normal, accuracy: Accuracy::Ulp(1);
          no_vjp: "its numbers are drawn, and its parameters are constants"; [stateful] }

    /// A tensor of this `shape` of numbers that are uniformly distributed from `low` (0) to below `high` (1):
    /// `low + u · (high − low)` with a draw `u`, but no more than the largest number below `high`. Where that is less than
    /// `low`, which the sources leave open, the formula holds alone. Element types are as those of `random_normal`.
    RandomUniform = random_uniform(shape: Operand[U]; low: Option<Constant>[T], high: Option<Constant>[T], seed: i32 = -1)
        since IOS15 where [T: FLOAT, U: INT32]
        { infer: uniform_type, eval: random_uniform, accuracy: Accuracy::Ulp(1);
          no_vjp: "its numbers are drawn, and its parameters are constants"; [stateful] }

    /// A tensor of this `shape` of numbers that are 1 with the probability `prob` (0.5), else 0: 1 where a draw is less
    /// than it. They have the element type of `prob`, fp32 without it.
    RandomBernoulli = random_bernoulli(shape: Operand[U]; prob: Option<Constant>[T], seed: i32 = -1)
        since IOS15 where [T: FLOAT, U: INT32]
        { infer: bernoulli_type, eval: random_bernoulli, accuracy: Accuracy::Exact;
          no_vjp: "its numbers are drawn, and its parameters are constants"; [stateful] }

    /// `size` draws, with replacement, from each of the distributions along the last dimension of `x [*D, n]`, as
    /// `[*D, size]`: positions along that dimension, in the element type of `x`. With the `mode` `probs` the entries are
    /// probabilities, up to a common factor; with `logits` their logarithms. The first position is taken to which the
    /// probabilities add up to more than a draw. Where they are no distribution, being negative, NaN or all 0, NaN.
    RandomCategorical = random_categorical(x: Operand[T]; mode: String = "logits", size: i32 = 1, seed: i32 = -1)
        since IOS15 where [T: FLOAT]
        { infer: categorical_type, eval: random_categorical, accuracy: Accuracy::Exact;
          no_vjp: "positions that are drawn change in steps, at random"; [stateful] }
}

/// Numbers drawn from a seed, each by its position: output `i` of SplitMix64 (Steele, Lea and Flood, "Fast splittable
/// pseudorandom number generators", 2014), whose state begins with the seed, extended to 64 bits by its sign and mixed
/// once, so that neighbouring seeds have nothing in common.
struct Generator {
    start: u64,
}

impl Generator {
    fn new(seed: i32) -> Generator {
        Generator { start: mix(i64::from(seed) as u64) }
    }

    /// The draw at a position: a multiple of 2⁻⁵³ from 0 to below 1.
    fn draw(&self, position: u64) -> f64 {
        const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;
        let bits = mix(self.start.wrapping_add(GAMMA.wrapping_mul(position.wrapping_add(1))));
        (bits >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// The finalizer of SplitMix64.
fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// The element type of parameters that share one, and are fp32 where they are left out.
fn shared_dtype(parameters: [(&str, Option<&Constant>); 2]) -> Result<DType, OpError> {
    let given = |parameter: Option<&Constant>| parameter.map(|parameter| parameter.dtype());
    for (name, parameter) in parameters {
        parameter.map_or(Ok(()), |parameter| movement::check_scalar(name, parameter))?;
    }
    match parameters {
        [(name, Some(one)), (other, None)] | [(other, None), (name, Some(one))]
            if one.dtype() != DType::Fp32 =>
        {
            let message = format!("must be fp32 without `{other}`, whose default is of that type");
            let error = OpError::new(ErrorKind::ElementType, Some(name), message);
            Err(error.found(format!("found {}", one.dtype())))
        }
        [(_, one), (_, other)] => Ok(given(one).or_else(|| given(other)).unwrap_or(DType::Fp32)),
    }
}

/// The number that a parameter holds.
fn number(parameter: Option<&Constant>, default: f64) -> Result<f64, OpError> {
    match parameter {
        Some(parameter) => Ok(parameter.floats()?.first().copied().unwrap_or(default)),
        None => Ok(default),
    }
}

/// A tensor of one number for each position.
fn drawn(
    types: Vec<TensorType>,
    evaluation: &Evaluation,
    number: impl Fn(u64) -> f64,
) -> Result<Vec<Tensor>, OpError> {
    let dtype = types.first().map_or(DType::Fp32, |ty| ty.dtype);
    let dims = movement::dims(Ok(types))?;
    let numbers = collect((0..dims.iter().product::<usize>()).map(|position| number(position as u64)))?;
    Ok(vec![evaluation.tensor(dtype, &dims, Numbers::Float(numbers))?])
}

fn normal_type(row: &RandomNormal) -> Result<Vec<TensorType>, OpError> {
    let dtype = shared_dtype([("mean", row.mean.as_ref()), ("stddev", row.stddev.as_ref())])?;
    movement::of_lengths("shape", &row.shape, dtype)
}

fn random_normal(row: &RandomNormal, evaluation: &mut Evaluation) -> Result<Vec<Tensor>, OpError> {
    let (mean, stddev) = (number(row.mean.as_ref(), 0.0)?, number(row.stddev.as_ref(), 1.0)?);
    let generator = Generator::new(row.seed);
    drawn(normal_type(row)?, evaluation, |position| {
        let first = position & !1;
        // The functions of `libm` are the same on every machine.
        let radius = (-2.0 * libm::log(1.0 - generator.draw(first))).sqrt();
        let angle = TAU * generator.draw(first + 1);
        mean + stddev * (radius * if position == first { libm::cos(angle) } else { libm::sin(angle) })
    })
}

fn uniform_type(row: &RandomUniform) -> Result<Vec<TensorType>, OpError> {
    let dtype = shared_dtype([("low", row.low.as_ref()), ("high", row.high.as_ref())])?;
    movement::of_lengths("shape", &row.shape, dtype)
}

/// The largest number of an element type that is less than a number of that type.
fn below(dtype: DType, number: f64) -> f64 {
    match dtype {
        DType::Fp16 => {
            let half = round_to_f16(number);
            let bits = half.to_bits();
            let below = match bits {
                0 | 0x8000 => 0x8001,
                bits if half.is_sign_negative() => bits.wrapping_add(1),
                bits => bits - 1,
            };
            half::f16::from_bits(below).to_f64()
        }
        _ => f64::from((number as f32).next_down()),
    }
}

fn random_uniform(row: &RandomUniform, evaluation: &mut Evaluation) -> Result<Vec<Tensor>, OpError> {
    let types = uniform_type(row)?;
    let (low, high) = (number(row.low.as_ref(), 0.0)?, number(row.high.as_ref(), 1.0)?);
    let most = below(types.first().map_or(DType::Fp32, |ty| ty.dtype), high);
    let generator = Generator::new(row.seed);
    drawn(types, evaluation, |position| {
        let number = low + generator.draw(position) * (high - low);
        if most >= low && number > most { most } else { number }
    })
}

fn bernoulli_type(row: &RandomBernoulli) -> Result<Vec<TensorType>, OpError> {
    let prob = row.prob.as_ref();
    prob.map_or(Ok(()), |prob| movement::check_scalar("prob", prob))?;
    movement::of_lengths("shape", &row.shape, prob.map_or(DType::Fp32, |prob| prob.dtype()))
}

fn random_bernoulli(row: &RandomBernoulli, evaluation: &mut Evaluation) -> Result<Vec<Tensor>, OpError> {
    let prob = number(row.prob.as_ref(), 0.5)?;
    let generator = Generator::new(row.seed);
    let drawn_one = |position| f64::from(u8::from(generator.draw(position) < prob));
    drawn(bernoulli_type(row)?, evaluation, drawn_one)
}

fn categorical_type(row: &RandomCategorical) -> Result<Vec<TensorType>, OpError> {
    if !matches!(row.mode.as_str(), "logits" | "probs") {
        let error = OpError::rule("mode", "must be logits or probs");
        return Err(error.found(format!("found \"{}\"", row.mode)));
    }
    let size = u64::try_from(row.size).ok().filter(|&size| size > 0);
    let size =
        size.ok_or_else(|| OpError::rule("size", "must be at least 1").found(format!("found {}", row.size)))?;
    let Some((_, rows)) = row.x.shape().0.split_last() else {
        return Err(OpError::rule("x", "must have at least rank 1").found("found a scalar"));
    };
    movement::result("size", row.x.dtype(), rows.iter().copied().chain([Dim::Known(size)]).collect())
}

fn random_categorical(row: &RandomCategorical, evaluation: &mut Evaluation) -> Result<Vec<Tensor>, OpError> {
    let dims = movement::dims(categorical_type(row))?;
    let size = dims.last().copied().unwrap_or(1);
    let classes = row.x.dims()?.last().copied().unwrap_or(0);
    let generator = Generator::new(row.seed);
    let mut weights = row.x.floats()?;
    let mut positions = room(dims.iter().product())?;
    if classes == 0 {
        positions.resize(dims.iter().product(), f64::NAN);
    }
    for (line, weights) in weights.chunks_exact_mut(classes.max(1)).enumerate() {
        if row.mode == "logits" {
            let most = weights.iter().fold(f64::NEG_INFINITY, |most, &logit| most.max(logit));
            weights.iter_mut().for_each(|logit| *logit = libm::exp(*logit - most));
        }
        let total = add_up(weights);
        for draw in line * size..(line + 1) * size {
            let wanted = generator.draw(draw as u64) * total.unwrap_or(0.0);
            let position = weights.partition_point(|&sum| sum <= wanted);
            positions.push(if total.is_some() { position as f64 } else { f64::NAN });
        }
    }
    Ok(vec![evaluation.tensor(row.x.dtype(), &dims, Numbers::Float(positions))?])
}

/// Replaces weights by their running sums, and gives the last, unless they are those of no distribution.
fn add_up(weights: &mut [f64]) -> Option<f64> {
    let valid = weights.iter().all(|&weight| weight >= 0.0);
    let mut sum = 0.0;
    for weight in weights {
        sum += *weight;
        *weight = sum;
    }
    (valid && sum > 0.0 && sum < f64::INFINITY).then_some(sum)
}

#[cfg(test)]
mod tests;
