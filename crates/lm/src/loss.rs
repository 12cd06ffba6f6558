//! The loss of a language model, as the host computes it from logits, and its gradient.
//!
//! Tensors are channel-first, `[V, S]`: element (v, s) at v·S + s, for V words of the vocabulary and S
//! positions, stored as fp32 or fp16. The loss is that of [`anemone_mil::linear_cross_entropy`], with the same
//! [`LossOptions`]: for the logits z, after the soft cap if there is one, the target t_s and the weight w_s of
//! position s, label smoothing ε and z-loss λ,
//!
//! - lse_s = ln Σ_v exp(z\[v, s\]) and p = exp(z − lse)
//! - loss = Σ_s w_s · (lse_s − (1 − ε)·z\[t_s, s\] − ε/V·Σ_v z\[v, s\] + λ·lse_s²)
//! - ∂loss/∂z\[v, s\] = w_s · ((1 + 2λ·lse_s)·p\[v, s\] − (1 − ε)·\[v = t_s\] − ε/V)
//!
//! and the last times 1 − tanh²(z / c) for logits z before a soft cap c. A batch without a counted position has
//! loss 0 and gradient 0; ignored positions do not matter, whatever they hold, and their gradient is 0.
//!
//! **Loss scale.** The gradient that is stored is the scale times the gradient above: multiplied in fp32 and
//! only then rounded to the storage dtype. An unscaled fp16 gradient is useless: at V = 32000 and S = 256 it is
//! about 10⁻⁷, where fp16 has one significant bit or none. The caller divides what follows from it (dx, dE) by
//! the loss scale, in fp32. Where the scaled gradient is over 65504 in fp16 it becomes infinite, which the
//! caller's check of the gradient norm finds.
//!
//! **Determinism.** Rows are summed in blocks whose size depends on S alone, and blocks in order: the result
//! does not depend on the number of threads.

mod columns;
mod functions;

use anemone_mil::linear_cross_entropy::{LossOptions, LossTotals, OptionsError, Reduction};
use thiserror::Error;

use crate::element::DeviceElement;
use columns::{Columns, cap_row, for_each_row};
use functions::{exp, soft_cap, soft_cap_slope};

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
    /// A target is neither in 0..V nor [`LossOptions::ignore_index`].
    #[error(
        "target {target} at position {position} is not below the vocabulary of {vocab}, nor {ignore_index}"
    )]
    Target {
        /// The target found.
        target: i32,
        /// Where.
        position: usize,
        /// V.
        vocab: usize,
        /// The target of a position that does not count.
        ignore_index: i32,
    },
    /// The loss scale is not a positive finite number.
    #[error("the loss scale is {0}, must be positive and finite")]
    LossScale(f32),
    /// An option is out of its range.
    #[error(transparent)]
    Options(#[from] OptionsError),
}

/// Where the gradient with respect to the logits goes, and what it is made of.
#[derive(Debug)]
pub struct LogitsGradient<'a, E> {
    /// What the gradient is multiplied by before it is rounded.
    pub scale: f32,
    /// p `[V, S]` where it has been computed, taken as it is: the softmax of the logits, after the soft cap.
    pub probabilities: Option<&'a [E]>,
    /// The gradient, `[V, S]`.
    pub to: &'a mut [E],
}

/// The loss, and if wanted its gradient, from logits z `[V, S]` before any soft cap.
///
/// The logarithm of the sum is formed with the greatest logit taken out: finite logits give a finite loss. Logits
/// of −∞ are words that cannot come, as long as not all are and no smoothing wants them to; a counted position with
/// NaN or +∞ gives NaN.
///
/// ```
/// use anemone_lm::loss::{LogitsGradient, cross_entropy};
/// use anemone_mil::linear_cross_entropy::LossOptions;
/// // V = 2, S = 2: the words of position 0 are as likely as each other, position 1 is ignored.
/// let (logits, targets) = ([1000.0_f32, 5.0, 1000.0, 7.0], [0, -100]);
/// let mut to = [0.0; 4];
/// let gradient = LogitsGradient { scale: 1024.0, probabilities: None, to: &mut to };
/// let totals = cross_entropy(&logits, 2, &targets, &LossOptions::default(), Some(gradient))?;
/// assert_eq!((totals.loss, totals.counted), (2f64.ln(), 1));
/// assert_eq!(to, [-512.0, 0.0, 512.0, 0.0]);
/// # Ok::<(), anemone_lm::loss::LossError>(())
/// ```
///
/// # Errors
/// Sizes that do not fit, a target or an option out of range, a loss scale that is not positive and finite.
pub fn cross_entropy<E: DeviceElement>(
    logits: &[E],
    vocab: usize,
    targets: &[i32],
    options: &LossOptions,
    gradient: Option<LogitsGradient<'_, E>>,
) -> Result<LossTotals, LossError> {
    options.validate()?;
    let counted = counted_targets(vocab, targets, options.ignore_index)?;
    check_sizes(logits, vocab, targets.len(), gradient.as_ref())?;
    let positions = Positions {
        vocab,
        count: targets.len(),
        columns: Columns::new(logits, targets.len(), options),
        at_target: counted.iter().map(|&(s, t)| capped(logits[t * targets.len() + s], options)).collect(),
        counted,
        options,
    };
    if let Some(gradient) = gradient {
        positions.gradient(logits, gradient);
    }
    Ok(positions.totals())
}

/// The soft cap of logits, c·tanh(z / c), elementwise in fp32.
///
/// # Panics
/// If the lengths differ.
pub fn cap_logits<E: DeviceElement>(logits: &[E], cap: f32, to: &mut [E]) {
    assert_eq!(logits.len(), to.len());
    columns::cap_all(logits, cap, to);
}

fn capped<E: DeviceElement>(logit: E, options: &LossOptions) -> f32 {
    options.softcap.map_or(logit.to_f32(), |cap| soft_cap(logit.to_f32(), cap))
}

/// The positions that count, each with its target.
fn counted_targets(
    vocab: usize,
    targets: &[i32],
    ignore_index: i32,
) -> Result<Vec<(usize, usize)>, LossError> {
    let mut counted = Vec::with_capacity(targets.len());
    for (position, &target) in targets.iter().enumerate() {
        match usize::try_from(target) {
            _ if target == ignore_index => {}
            Ok(word) if word < vocab => counted.push((position, word)),
            _ => return Err(LossError::Target { target, position, vocab, ignore_index }),
        }
    }
    Ok(counted)
}

fn check_sizes<E>(
    logits: &[E],
    vocab: usize,
    positions: usize,
    gradient: Option<&LogitsGradient<'_, E>>,
) -> Result<(), LossError> {
    let sized = |what, found| match vocab.checked_mul(positions) {
        Some(expected) if expected == found => Ok(()),
        _ => Err(LossError::Size { what, found, vocab, positions }),
    };
    sized("logits", logits.len())?;
    let Some(LogitsGradient { scale, probabilities, to }) = gradient else { return Ok(()) };
    sized("gradient", to.len())?;
    probabilities.map_or(Ok(()), |probabilities| sized("probabilities", probabilities.len()))?;
    if *scale > 0.0 && scale.is_finite() { Ok(()) } else { Err(LossError::LossScale(*scale)) }
}

/// What is known of all positions of a batch.
struct Positions<'a> {
    vocab: usize,
    /// S.
    count: usize,
    columns: Columns,
    /// The positions that count, each with its target.
    counted: Vec<(usize, usize)>,
    /// The logits at their targets, after the soft cap.
    at_target: Vec<f32>,
    options: &'a LossOptions,
}

/// What the gradient is made of: (1 + 2λ·lse)·p, less (1 − ε) at the target and ε/V everywhere, times the weight.
struct Factors {
    /// w_s times the scale; 0 exactly where the target is ignored.
    weight: Vec<f32>,
    /// 1 + 2λ·lse_s.
    growth: Vec<f32>,
    /// The product of both, by which p is multiplied; it, too, is 0 exactly where the target is ignored.
    slope: Vec<f32>,
    /// ε/V times the weight of counted positions.
    even: f32,
}

impl Positions<'_> {
    fn log_sum_exp(&self, s: usize) -> f64 {
        f64::from(self.columns.max[s]) + self.columns.sum[s].ln()
    }

    fn totals(&self) -> LossTotals {
        let (smoothing, z_loss) = (f64::from(self.options.label_smoothing), f64::from(self.options.z_loss));
        let (mut nats, mut squares) = (0.0, 0.0);
        for (&(s, _), &target) in self.counted.iter().zip(&self.at_target) {
            let target = f64::from(target);
            // Large logits go first: they would swallow the logarithm.
            nats += (f64::from(self.columns.max[s]) - target) + self.columns.sum[s].ln();
            if let Some(total) = self.columns.total.get(s) {
                nats += smoothing * (target - total / self.vocab as f64);
            }
            if z_loss > 0.0 {
                squares += z_loss * self.log_sum_exp(s).powi(2);
            }
        }
        let counted = self.counted.len();
        match self.options.reduction {
            Reduction::Sum => LossTotals { loss: nats + squares, z_loss: squares, counted },
            Reduction::Mean => {
                let count = counted.max(1) as f64;
                LossTotals { loss: (nats + squares) / count, z_loss: squares / count, counted }
            }
        }
    }

    fn factors(&self, scale: f32) -> Factors {
        let (count, z_loss) = (self.count, f64::from(self.options.z_loss));
        let weight = match self.options.reduction {
            Reduction::Mean => scale / self.counted.len().max(1) as f32,
            Reduction::Sum => scale,
        };
        let mut factors = Factors {
            weight: vec![0.0; count],
            growth: vec![1.0; count],
            slope: vec![0.0; count],
            even: (f64::from(weight) * f64::from(self.options.label_smoothing) / self.vocab as f64) as f32,
        };
        for &(s, _) in &self.counted {
            if z_loss > 0.0 {
                factors.growth[s] = (1.0 + 2.0 * z_loss * self.log_sum_exp(s)) as f32;
            }
            factors.weight[s] = weight;
            let slope = factors.growth[s] * weight;
            factors.slope[s] = if slope == 0.0 { f32::MIN_POSITIVE } else { slope };
        }
        factors
    }

    fn gradient<E: DeviceElement>(&self, logits: &[E], gradient: LogitsGradient<'_, E>) {
        let LogitsGradient { scale, probabilities, to } = gradient;
        let (count, cap, factors) = (self.count, self.options.softcap, self.factors(scale));
        // p = exp(z − max) / sum keeps more digits than exp(z − lse): lse itself would be rounded.
        let inverse: Vec<f32> = self.columns.sum.iter().map(|sum| (1.0 / sum) as f32).collect();
        for_each_row(to, count, |v, out, scratch| {
            let row = v * count..(v + 1) * count;
            match probabilities {
                Some(probabilities) => E::widen(&probabilities[row.clone()], out),
                None => {
                    E::widen(&logits[row.clone()], out);
                    cap_row(out, cap);
                    let columns = out.iter_mut().zip(&self.columns.max).zip(&inverse);
                    columns.for_each(|((z, max), inverse)| *z = exp(*z - max) * inverse);
                }
            }
            for (out, &slope) in out.iter_mut().zip(&factors.slope) {
                let scaled = *out * slope - factors.even;
                *out = if slope == 0.0 { 0.0 } else { scaled };
            }
            if let Some(cap) = cap {
                E::widen(&logits[row], scratch);
                for ((out, &z), &slope) in out.iter_mut().zip(&*scratch).zip(&factors.slope) {
                    let scaled = *out * soft_cap_slope(z, cap);
                    *out = if slope == 0.0 { 0.0 } else { scaled };
                }
            }
        });
        let certainty = 1.0 - self.options.label_smoothing;
        for (&(s, t), &z) in self.counted.iter().zip(&self.at_target) {
            let at = t * count + s;
            let p = match probabilities {
                Some(probabilities) => probabilities[at].to_f32(),
                None => exp(z - self.columns.max[s]) * inverse[s],
            };
            let scaled = (p * factors.growth[s] - certainty) * factors.weight[s] - factors.even;
            let slope = cap.map_or(1.0, |cap| soft_cap_slope(logits[at].to_f32(), cap));
            to[at] = E::from_f32(scaled * slope);
        }
    }
}
