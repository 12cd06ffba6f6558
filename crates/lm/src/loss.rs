//! The loss of a language model, mean negative log-likelihood, and its gradient.
//!
//! Tensors are channel-first, `[V, S]`: element (v, s) at v·S + s, for V words of the vocabulary and S
//! positions, stored as fp32 or fp16. With the target t_s of position s and the weight
//! w_s = 1 / (number of counted positions), 0 for a position whose target is [`IGNORE_INDEX`]:
//!
//! - loss = Σ_s w_s · (−ln p[t_s, s]) = Σ_s w_s · (ln Σ_v exp(z[v, s]) − z[t_s, s])
//! - ∂loss/∂z[v, s] = w_s · (p[v, s] − \[v = t_s\])
//!
//! as `torch.nn.functional.cross_entropy` with its default reduction, except that a batch without a counted
//! position has loss 0 and gradient 0, not NaN.
//!
//! **Loss scale.** The gradient that is stored is loss_scale times the gradient above: multiplied in fp32 and
//! only then rounded to the storage dtype. An unscaled fp16 gradient is useless: at V = 32000 and S = 256 it is
//! about 10⁻⁷, where fp16 has one significant bit or none. The caller divides what follows from it (dx, dE) by
//! the loss scale, in fp32. Where the scaled gradient is over 65504 in fp16 it becomes infinite, which the
//! caller's check of the gradient norm finds.
//!
//! **Determinism.** Rows are summed in blocks whose size depends on S alone, and blocks in order: the result
//! does not depend on the number of threads.

use crate::data::IGNORE_INDEX;
use crate::element::Element;
use rayon::prelude::*;
use thiserror::Error;

/// Elements per block of rows: one block's logits stay in a core's cache between the two looks at them.
const BLOCK_ELEMENTS: usize = 1 << 16;

/// Arguments that do not fit together.
#[derive(Debug, Error, PartialEq)]
#[non_exhaustive]
pub enum LossError {
    /// A tensor has not V·S elements.
    #[error("{what} has {found} elements, {vocab} × {positions} are expected")]
    Size {
        /// Which tensor.
        what: &'static str,
        /// Its number of elements.
        found: usize,
        /// V.
        vocab: usize,
        /// S, the number of targets.
        positions: usize,
    },
    /// A target is neither in 0..V nor [`IGNORE_INDEX`].
    #[error(
        "target {target} at position {position} is not below the vocabulary of {vocab}, nor {IGNORE_INDEX}"
    )]
    Target {
        /// The target found.
        target: i32,
        /// Where.
        position: usize,
        /// V.
        vocab: usize,
    },
    /// The loss scale is not a positive finite number.
    #[error("the loss scale is {0}, must be positive and finite")]
    LossScale(f32),
}

/// A mean loss and what it is a mean of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Loss {
    /// Mean negative log-likelihood of the counted positions, in nats; 0 if there is none.
    pub mean: f64,
    /// Number of positions whose target is not [`IGNORE_INDEX`].
    pub counted: usize,
}

/// The loss, and if wanted its gradient with respect to the logits, from probabilities p `[V, S]`.
///
/// `gradient` `[V, S]` receives loss_scale · w_s · (p − onehot). The probabilities are taken as they are: a
/// counted p\[t_s, s\] = 0, which softmax in fp16 gives below 3·10⁻⁸, makes the loss infinite (and the gradient
/// still finite), NaN makes it NaN. Ignored positions are never looked at; their gradient is 0.
///
/// ```
/// use anemone_lm::loss::from_probabilities;
/// // V = 2, S = 2: position 0 gives its target 1/4, position 1 is ignored.
/// let probabilities = [0.25_f32, 0.5, 0.75, 0.5];
/// let mut gradient = [0.0; 4];
/// let loss = from_probabilities(&probabilities, 2, &[0, -100], 1024.0, Some(&mut gradient))?;
/// assert_eq!((loss.mean, loss.counted), (4f64.ln(), 1));
/// assert_eq!(gradient, [-768.0, 0.0, 768.0, 0.0]);
/// # Ok::<(), anemone_lm::loss::LossError>(())
/// ```
///
/// # Errors
/// Sizes that do not fit, a target out of range, a loss scale that is not positive and finite.
pub fn from_probabilities<E: Element>(
    probabilities: &[E],
    vocab: usize,
    targets: &[i32],
    loss_scale: f32,
    gradient: Option<&mut [E]>,
) -> Result<Loss, LossError> {
    let counted = check("probabilities", probabilities, vocab, targets, loss_scale, gradient.as_deref())?;
    let positions = targets.len();
    let at_target: Vec<f32> = at_targets(probabilities, targets);
    let nats: f64 = counted_positions(targets).map(|(s, _)| -f64::from(at_target[s]).ln()).sum();

    if let Some(gradient) = gradient {
        let factors = position_factors(targets, loss_scale, counted);
        for_each_block(probabilities, gradient, positions, |row, out| {
            for ((p, &factor), out) in row.iter().zip(&factors).zip(out) {
                let scaled = p * factor;
                *out = if factor == 0.0 { 0.0 } else { scaled };
            }
        });
        for (s, t) in counted_positions(targets) {
            gradient[t * positions + s] = E::from_f32((at_target[s] - 1.0) * factors[s]);
        }
    }
    Ok(Loss { mean: nats / counted.max(1) as f64, counted })
}

/// The loss, and if wanted its gradient with respect to the logits, from logits z `[V, S]`.
///
/// `gradient` `[V, S]` receives loss_scale · w_s · (softmax(z) − onehot). The logarithm of the sum is formed
/// with the greatest logit taken out: finite logits give a finite loss. Logits of −∞ are words that cannot
/// come, as long as not all are; a counted position with NaN or +∞ gives NaN. Ignored positions do not
/// matter, whatever they hold; their gradient is 0.
///
/// ```
/// use anemone_lm::loss::from_logits;
/// let loss = from_logits(&[1000.0_f32, 1000.0, -1000.0, 1000.0], 2, &[0, 0], 1.0, None)?;
/// assert_eq!(loss.mean, 2f64.ln() / 2.0);
/// # Ok::<(), anemone_lm::loss::LossError>(())
/// ```
///
/// # Errors
/// Sizes that do not fit, a target out of range, a loss scale that is not positive and finite.
pub fn from_logits<E: Element>(
    logits: &[E],
    vocab: usize,
    targets: &[i32],
    loss_scale: f32,
    gradient: Option<&mut [E]>,
) -> Result<Loss, LossError> {
    let counted = check("logits", logits, vocab, targets, loss_scale, gradient.as_deref())?;
    let positions = targets.len();
    let (max, sum) = exponential_sums(logits, positions);
    let at_target: Vec<f32> = at_targets(logits, targets);
    let nats_at = |s: usize| (f64::from(max[s]) - f64::from(at_target[s])) + sum[s].ln();
    let nats: f64 = counted_positions(targets).map(|(s, _)| nats_at(s)).sum();

    if let Some(gradient) = gradient {
        let factors = position_factors(targets, loss_scale, counted);
        // p = exp(z − max) / sum keeps more digits than exp(z − lse): lse itself would be rounded.
        let inverse: Vec<f32> = sum.iter().map(|sum| (1.0 / sum) as f32).collect();
        for_each_block(logits, gradient, positions, |row, out| {
            let columns = row.iter().zip(&max).zip(&inverse).zip(&factors).zip(out);
            for ((((z, max), inverse), &factor), out) in columns {
                let scaled = exp(z - max) * inverse * factor;
                *out = if factor == 0.0 { 0.0 } else { scaled };
            }
        });
        for (s, t) in counted_positions(targets) {
            let p = exp(at_target[s] - max[s]) * inverse[s];
            gradient[t * positions + s] = E::from_f32((p - 1.0) * factors[s]);
        }
    }
    Ok(Loss { mean: nats / counted.max(1) as f64, counted })
}

/// Checks what both forms are given, and counts the positions that count.
fn check<E>(
    what: &'static str,
    values: &[E],
    vocab: usize,
    targets: &[i32],
    loss_scale: f32,
    gradient: Option<&[E]>,
) -> Result<usize, LossError> {
    let positions = targets.len();
    let sized = |what, found| match vocab.checked_mul(positions) {
        Some(expected) if expected == found => Ok(()),
        _ => Err(LossError::Size { what, found, vocab, positions }),
    };
    sized(what, values.len())?;
    gradient.map_or(Ok(()), |gradient| sized("gradient", gradient.len()))?;
    if !(loss_scale > 0.0 && loss_scale.is_finite()) {
        return Err(LossError::LossScale(loss_scale));
    }
    let mut counted = 0;
    for (position, &target) in targets.iter().enumerate() {
        match usize::try_from(target) {
            Ok(word) if word < vocab => counted += 1,
            _ if target == IGNORE_INDEX => {}
            _ => return Err(LossError::Target { target, position, vocab }),
        }
    }
    Ok(counted)
}

/// The positions that count, each with its target.
fn counted_positions(targets: &[i32]) -> impl Iterator<Item = (usize, usize)> + '_ {
    targets.iter().enumerate().filter_map(|(s, &target)| Some((s, usize::try_from(target).ok()?)))
}

/// The value at each position's target; 0 where it is ignored.
fn at_targets<E: Element>(values: &[E], targets: &[i32]) -> Vec<f32> {
    let mut at_target = vec![0.0; targets.len()];
    for (s, t) in counted_positions(targets) {
        at_target[s] = values[t * targets.len() + s].to_f32();
    }
    at_target
}

/// w_s · loss_scale for every position: 0 exactly where the target is ignored.
fn position_factors(targets: &[i32], loss_scale: f32, counted: usize) -> Vec<f32> {
    let factor = loss_scale / counted.max(1) as f32;
    targets.iter().map(|&target| if target == IGNORE_INDEX { 0.0 } else { factor }).collect()
}

fn rows_per_block(positions: usize) -> usize {
    (BLOCK_ELEMENTS / positions.max(1)).max(1)
}

/// Applies `apply(row, out)` to every row of S elements in f32, and stores what it put into `out`.
fn for_each_block<E: Element>(
    values: &[E],
    gradient: &mut [E],
    positions: usize,
    apply: impl Fn(&[f32], &mut [f32]) + Sync,
) {
    let block = (rows_per_block(positions) * positions).max(1);
    gradient.par_chunks_mut(block).zip(values.par_chunks(block)).for_each(|(gradient, values)| {
        let mut row = vec![0.0; positions];
        let mut out = vec![0.0; positions];
        for (values, gradient) in values.chunks(positions).zip(gradient.chunks_mut(positions)) {
            E::widen(values, &mut row);
            apply(&row, &mut out);
            E::narrow(&out, gradient);
        }
    });
}

/// For each position the greatest logit m and Σ_v exp(z − m).
///
/// Each block of rows finds its own greatest logit and sums in fp32; the blocks are joined in order in f64.
fn exponential_sums<E: Element>(logits: &[E], positions: usize) -> (Vec<f32>, Vec<f64>) {
    let block = (rows_per_block(positions) * positions).max(1);
    let parts: Vec<(Vec<f32>, Vec<f32>)> = logits
        .par_chunks(block)
        .map(|block| {
            let mut row = vec![0.0; positions];
            let mut max = vec![f32::NEG_INFINITY; positions];
            for logits in block.chunks(positions) {
                E::widen(logits, &mut row);
                max.iter_mut().zip(&row).for_each(|(max, &z)| *max = if z > *max { z } else { *max });
            }
            let shift: Vec<f32> = max.iter().map(|&max| finite_shift(max)).collect();
            let mut sum = vec![0.0f32; positions];
            for logits in block.chunks(positions) {
                E::widen(logits, &mut row);
                for ((sum, z), shift) in sum.iter_mut().zip(&row).zip(&shift) {
                    *sum += exp(z - shift);
                }
            }
            (max, sum)
        })
        .collect();

    let mut max = vec![f32::NEG_INFINITY; positions];
    for (part, _) in &parts {
        max.iter_mut().zip(part).for_each(|(max, &z)| *max = max.max(z));
    }
    max.iter_mut().for_each(|max| *max = finite_shift(*max));
    let mut sum = vec![0.0f64; positions];
    for (part_max, part_sum) in &parts {
        for s in 0..positions {
            // exp(−∞) for a part in which nothing can come; the exponent is never above 0.
            let shift = f64::from(part_max[s]) - f64::from(max[s]);
            sum[s] += f64::from(part_sum[s]) * shift.exp();
        }
    }
    (max, sum)
}

/// What to take out of exponents whose greatest is `max`: itself, or 0 where nothing is above −∞.
fn finite_shift(max: f32) -> f32 {
    if max == f32::NEG_INFINITY { 0.0 } else { max }
}

/// e^x for x ≤ 0 to 2 ulp, in arithmetic without branches that compilers vectorise; 0 below −87, NaN for NaN.
///
/// x = n·ln 2 + r with |r| ≤ ln 2 / 2, the polynomial for e^r is that of Cephes' `expf`, and 2ⁿ is built from
/// its bits: adding 1.5·2²³ rounds to an integer and leaves it in the lowest bits.
#[inline(always)]
fn exp(x: f32) -> f32 {
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

#[cfg(test)]
mod tests {
    use super::exp;

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
}
