//! What turns gradients into better weights: AdamW, gradient clipping, the learning-rate schedule and the loss
//! scale. All of it on fp32 master weights, whatever dtype the device computes in.

use pulp::Arch;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::element::DeviceElement;

/// Elements handled as one piece of parallel work. Sums are formed per piece and then in order, so results do
/// not depend on the number of threads.
const CHUNK: usize = 1 << 14;

/// AdamW: Adam with decoupled weight decay (Loshchilov and Hutter, arXiv 1711.05101, algorithm 2).
///
/// For the gradient g of update number n = 1, 2, … and a weight w, with learning rate lr:
///
/// - m ← β₁·m + (1 − β₁)·g, v ← β₂·v + (1 − β₂)·g²
/// - w ← w − lr·λ·w − lr · m̂ / (√v̂ + ε), where m̂ = m / (1 − β₁ⁿ) and v̂ = v / (1 − β₂ⁿ)
///
/// which is `torch.optim.AdamW`.
///
/// ```
/// use anemone_lm::optimizer::{AdamW, Moments};
/// let adamw = AdamW::default();
/// let (mut weights, mut moments) = ([1.0], Moments::new(1));
/// adamw.update(1, 0.1, 1.0, &[0.5_f32], &mut weights, &mut moments);
/// // The first update moves by the learning rate against the gradient's sign, plus lr·λ of the weight.
/// assert!((weights[0] - (1.0 - 0.1 * 0.01 - 0.1)).abs() < 1e-6);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdamW {
    /// β₁, the decay of the mean gradient.
    pub beta1: f64,
    /// β₂, the decay of the mean squared gradient.
    pub beta2: f64,
    /// ε, added to the root of the mean squared gradient.
    pub eps: f64,
    /// λ, the decoupled weight decay. Use a copy with 0 for gains and biases.
    pub weight_decay: f64,
}

impl Default for AdamW {
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.95, eps: 1e-8, weight_decay: 0.01 }
    }
}

/// AdamW's running means for one tensor of weights.
#[derive(Clone, Debug, PartialEq)]
pub struct Moments {
    /// Mean gradient m.
    pub first: Vec<f32>,
    /// Mean squared gradient v.
    pub second: Vec<f32>,
}

impl Moments {
    /// Zero means for `len` weights.
    pub fn new(len: usize) -> Self {
        Self { first: vec![0.0; len], second: vec![0.0; len] }
    }
}

impl AdamW {
    /// Applies update number `update` (the first is 1) to one tensor of weights.
    ///
    /// The gradient is as the device gave it, or fp32 sums; `gradient_factor` multiplies it first: 1 / loss scale times
    /// the clip factor, in one pass.
    /// A skipped step is not an update and does not count in `update`.
    ///
    /// # Panics
    /// If the four slices differ in length: their sizes come from one model.
    pub fn update<E: DeviceElement>(
        &self,
        update: u64,
        lr: f64,
        gradient_factor: f32,
        gradient: &[E],
        weights: &mut [f32],
        moments: &mut Moments,
    ) {
        assert_eq!(weights.len(), gradient.len());
        assert_eq!(weights.len(), moments.first.len());
        assert_eq!(weights.len(), moments.second.len());
        let step = Step::new(self, update, lr, gradient_factor);
        let pieces = weights
            .par_chunks_mut(CHUNK)
            .zip(gradient.par_chunks(CHUNK))
            .zip(moments.first.par_chunks_mut(CHUNK))
            .zip(moments.second.par_chunks_mut(CHUNK));
        pieces.for_each(|(((weights, gradient), first), second)| {
            let strips = weights.chunks_mut(STRIP).zip(gradient.chunks(STRIP));
            for ((weights, gradient), (first, second)) in
                strips.zip(first.chunks_mut(STRIP).zip(second.chunks_mut(STRIP)))
            {
                let mut wide = [0.0; STRIP];
                let wide = &mut wide[..gradient.len()];
                E::widen(gradient, wide);
                Arch::new().dispatch(
                    #[inline(always)]
                    || step.apply(wide, weights, first, second),
                );
            }
        });
    }
}

/// Elements that are converted to fp32 at a time, in the first cache.
const STRIP: usize = 1024;

/// The numbers of one update, which are the same for all weights.
struct Step {
    gradient_factor: f32,
    beta: [f32; 2],
    fresh: [f32; 2],
    eps: f32,
    keep: f32,
    step_size: f32,
    root_factor: f32,
}

impl Step {
    fn new(adamw: &AdamW, update: u64, lr: f64, gradient_factor: f32) -> Step {
        let n = update.max(1) as f64;
        Step {
            gradient_factor,
            beta: [adamw.beta1 as f32, adamw.beta2 as f32],
            fresh: [(1.0 - adamw.beta1) as f32, (1.0 - adamw.beta2) as f32],
            eps: adamw.eps as f32,
            keep: (1.0 - lr * adamw.weight_decay) as f32,
            // v̂ and m̂ are never formed: √v̂ + ε = √v · root_factor + ε.
            step_size: (lr / (1.0 - adamw.beta1.powf(n))) as f32,
            root_factor: (1.0 / (1.0 - adamw.beta2.powf(n)).sqrt()) as f32,
        }
    }

    #[inline(always)]
    fn apply(&self, gradient: &[f32], weights: &mut [f32], first: &mut [f32], second: &mut [f32]) {
        let elements = weights.iter_mut().zip(gradient).zip(first).zip(second);
        for (((weight, gradient), first), second) in elements {
            let g = gradient * self.gradient_factor;
            *first = self.beta[0] * *first + self.fresh[0] * g;
            *second = self.beta[1] * *second + self.fresh[1] * (g * g);
            *weight =
                self.keep * *weight - self.step_size * *first / (second.sqrt() * self.root_factor + self.eps);
        }
    }
}

/// The Euclidean norm of all gradients as one vector, summed in f64 and independent of the number of threads.
///
/// Squares of finite fp32 numbers cannot overflow in f64, so the norm is finite exactly when every element is:
/// it is also the check that the loss scale wants.
pub fn global_norm<'a, E: DeviceElement>(gradients: impl IntoIterator<Item = &'a [E]>) -> f64 {
    gradients.into_iter().map(sum_of_squares).sum::<f64>().sqrt()
}

/// The sum of the squares of a gradient's elements, as [`global_norm`] takes the root of it for all gradients.
pub fn sum_of_squares<E: DeviceElement>(gradient: &[E]) -> f64 {
    let piece = |values: &[E]| -> f64 {
        let mut sums = [0.0f64; LANES];
        for values in values.chunks(STRIP) {
            let mut wide = [0.0; STRIP];
            let wide = &mut wide[..values.len()];
            E::widen(values, wide);
            Arch::new().dispatch(
                #[inline(always)]
                || add_squares(wide, &mut sums),
            );
        }
        sums.iter().sum()
    };
    let pieces: Vec<f64> = gradient.par_chunks(CHUNK).map(piece).collect();
    pieces.iter().sum()
}

/// Sums side by side, so that one addition need not wait for the last.
const LANES: usize = 32;

#[inline(always)]
fn add_squares(values: &[f32], sums: &mut [f64; LANES]) {
    let (blocks, rest) = values.as_chunks::<LANES>();
    for values in blocks {
        for (sum, &x) in sums.iter_mut().zip(values) {
            *sum += f64::from(x) * f64::from(x);
        }
    }
    for (sum, &x) in sums.iter_mut().zip(rest) {
        *sum += f64::from(x) * f64::from(x);
    }
}

/// What to multiply gradients of a global norm by so that it is at most `max_norm`: as
/// `torch.nn.utils.clip_grad_norm_`, min(1, max_norm / (norm + 10⁻⁶)). A `max_norm` of 0 turns clipping off.
pub fn clip_factor(norm: f64, max_norm: f64) -> f64 {
    if max_norm > 0.0 { (max_norm / (norm + 1e-6)).min(1.0) } else { 1.0 }
}

/// The learning rate over a run: linear warmup, then half a cosine from the peak to a floor (Loshchilov and
/// Hutter, arXiv 1608.03983, without restarts).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Schedule {
    /// The largest learning rate, reached after the warmup.
    pub peak: f64,
    /// The learning rate at the end and beyond.
    pub floor: f64,
    /// Steps of warmup.
    pub warmup: u64,
    /// Steps of the whole run.
    pub steps: u64,
}

impl Schedule {
    /// The learning rate of the step that comes after `done` steps.
    ///
    /// Warmup: peak·((done + 1)/(warmup + 1)), which is never 0. Then
    /// floor + (peak − floor)·(1 + cos(π·(done − warmup)/(steps − warmup)))/2.
    pub fn at(&self, done: u64) -> f64 {
        if done < self.warmup {
            return self.peak * ((done as f64 + 1.0) / (self.warmup as f64 + 1.0));
        }
        if done >= self.steps {
            return self.floor;
        }
        let progress = (done - self.warmup) as f64 / (self.steps - self.warmup) as f64;
        self.floor + (self.peak - self.floor) * 0.5 * (1.0 + (std::f64::consts::PI * progress).cos())
    }
}

/// A loss scale that follows what fp16 can hold (Micikevicius et al., arXiv 1710.03740).
///
/// Gradients are multiplied by the scale before they are rounded to the device's dtype and divided by it in
/// fp32 afterwards. It is a power of two, so both are exact. A gradient that is not finite halves it, and the
/// step is skipped; a run of good steps doubles it.
///
/// ```
/// use anemone_lm::optimizer::LossScale;
/// let mut loss_scale = LossScale::dynamic();
/// let before = loss_scale.scale();
/// assert!(!loss_scale.update(f64::INFINITY)); // skip this step
/// assert_eq!(loss_scale.scale(), before / 2.0);
/// assert!(loss_scale.update(0.3)); // the norm of a finite gradient
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LossScale {
    scale: f32,
    good_steps: u32,
    growth_interval: u32,
}

impl LossScale {
    /// The smallest scale: halving stops here.
    pub const MIN: f32 = 1.0;
    /// The largest scale: doubling stops here.
    pub const MAX: f32 = 16_777_216.0;
    /// The scale that a run in fp16 begins with.
    pub const INITIAL: f32 = 65_536.0;
    /// Good steps before the scale is doubled.
    pub const GROWTH_INTERVAL: u32 = 500;

    /// For fp16: begins with [`LossScale::INITIAL`].
    pub fn dynamic() -> Self {
        Self { scale: Self::INITIAL, good_steps: 0, growth_interval: Self::GROWTH_INTERVAL }
    }

    /// For fp32: 1, and never changed.
    pub fn none() -> Self {
        Self { scale: 1.0, good_steps: 0, growth_interval: 0 }
    }

    /// The present scale.
    pub fn scale(&self) -> f32 {
        self.scale
    }

    /// Whether no gradient can be kept finite by a smaller scale: it is the smallest, or never changed.
    pub fn is_least(&self) -> bool {
        self.scale <= Self::MIN
    }

    /// Takes note of a step's gradient norm and says whether the step shall be applied: not when the norm is
    /// infinite or NaN.
    pub fn update(&mut self, norm: f64) -> bool {
        let finite = norm.is_finite();
        if self.growth_interval == 0 {
            return finite;
        }
        if !finite {
            self.scale = (self.scale * 0.5).max(Self::MIN);
            self.good_steps = 0;
            return false;
        }
        self.good_steps += 1;
        if self.good_steps >= self.growth_interval {
            self.scale = (self.scale * 2.0).min(Self::MAX);
            self.good_steps = 0;
        }
        true
    }

    /// Whether a scale read from a file is one that [`LossScale::update`] can have produced.
    pub fn is_valid(&self) -> bool {
        let power_of_two = self.scale.to_bits() & 0x007f_ffff == 0;
        power_of_two
            && (Self::MIN..=Self::MAX).contains(&self.scale)
            && (self.growth_interval == 0 && self.scale == 1.0 || self.good_steps < self.growth_interval)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn global_norm_is_exact_where_it_can_be_and_finds_what_is_not_finite() {
        let ones = vec![1.0f32; 5 * CHUNK + 3];
        assert_eq!(global_norm([&ones[..], &[]]), ((5 * CHUNK + 3) as f64).sqrt());
        assert_eq!(global_norm([&[3.0f32][..], &[4.0]]), 5.0);
        assert!(global_norm([&[f32::MAX; 1000][..]]).is_finite());
        assert!(!global_norm([&[0.0, f32::INFINITY][..]]).is_finite());
        assert!(!global_norm([&[f32::NAN][..], &[1.0]]).is_finite());
    }

    #[test]
    fn clipping_only_ever_shrinks() {
        assert_eq!(clip_factor(0.5, 1.0), 1.0);
        assert_eq!(clip_factor(0.0, 1.0), 1.0);
        assert_eq!(clip_factor(4.0, 1.0), 1.0 / 4.000001);
        assert_eq!(clip_factor(4.0, 0.0), 1.0);
    }

    #[test]
    fn the_schedule_rises_peaks_and_falls_to_its_floor() {
        let schedule = Schedule { peak: 1.0, floor: 0.1, warmup: 4, steps: 104 };
        let expected = [(0, 0.2), (3, 0.8), (4, 1.0), (54, 0.55), (104, 0.1), (u64::MAX, 0.1)];
        for (done, lr) in expected {
            assert!((schedule.at(done) - lr).abs() < 1e-12, "{done}: {}", schedule.at(done));
        }
        assert!((4..104).all(|done| schedule.at(done + 1) < schedule.at(done)));
        // A run shorter than its warmup never leaves it; without a warmup the first step has the peak.
        assert_eq!(Schedule { warmup: 9, steps: 5, ..schedule }.at(4), 0.5);
        assert_eq!(Schedule { warmup: 0, ..schedule }.at(0), 1.0);
        // No setting overflows.
        let longest = Schedule { peak: f64::MAX, warmup: u64::MAX, ..schedule };
        assert_eq!(longest.at(0), f64::MAX / 2f64.powi(64));
        assert_eq!(longest.at(u64::MAX - 1), f64::MAX);
        assert_eq!(Schedule { warmup: 0, steps: 0, ..schedule }.at(0), 0.1);
    }

    #[test]
    fn the_loss_scale_halves_doubles_and_stays_in_bounds() {
        let mut loss_scale = LossScale::dynamic();
        for _ in 0..LossScale::GROWTH_INTERVAL - 1 {
            assert!(loss_scale.update(1.0));
        }
        assert_eq!(loss_scale.scale(), LossScale::INITIAL);
        assert!(loss_scale.update(1.0));
        assert_eq!(loss_scale.scale(), 2.0 * LossScale::INITIAL);
        for _ in 0..100 {
            assert!(!loss_scale.update(f64::NAN));
            assert!(loss_scale.is_valid());
        }
        assert_eq!((loss_scale.scale(), loss_scale.is_least()), (LossScale::MIN, true));
        for _ in 0..40 * LossScale::GROWTH_INTERVAL {
            loss_scale.update(1.0);
        }
        assert_eq!(loss_scale.scale(), LossScale::MAX);

        let mut none = LossScale::none();
        assert!((0..2000).all(|_| none.update(1.0)) && !none.update(f64::NAN));
        assert_eq!(none, LossScale::none());
        assert!(none.is_least() && !LossScale::dynamic().is_least());
    }

    #[test]
    fn an_impossible_loss_scale_is_recognised() {
        let read = |json: &str| serde_json::from_str::<LossScale>(json).unwrap();
        assert!(LossScale::none().is_valid() && LossScale::dynamic().is_valid());
        assert!(!read(r#"{"scale": 3.0, "good_steps": 0, "growth_interval": 500}"#).is_valid());
        assert!(!read(r#"{"scale": 0.0, "good_steps": 0, "growth_interval": 500}"#).is_valid());
        assert!(!read(r#"{"scale": 2.0, "good_steps": 500, "growth_interval": 500}"#).is_valid());
        assert!(!read(r#"{"scale": 2.0, "good_steps": 0, "growth_interval": 0}"#).is_valid());
    }
}
