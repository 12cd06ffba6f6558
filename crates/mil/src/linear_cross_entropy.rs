//! The classifier and its loss in one piece of work: loss and gradients, without the logits ever being whole.
//!
//! With E `[V, D]`, x `[D, S]`, a bias b `[V]` and the target t_s of position s, by f64's rules:
//!
//! - z[v, s] = Σ_d E[v, d]·x[d, s] + b\[v\]; with a soft cap c, z becomes c·tanh(z / c)
//! - lse_s = ln Σ_v exp z[v, s] and p = exp(z − lse)
//! - loss_s = lse_s − (1 − ε)·z[t_s, s] − ε/V·Σ_v z[v, s] + λ·lse_s², for label smoothing ε and z-loss λ
//! - loss = Σ_s w_s·loss_s
//!
//! where w_s is 1 / (number of counted positions) for [`Reduction::Mean`] and 1 otherwise, and 0 where the target
//! is [`LossOptions::ignore_index`]. Ignored positions are never looked at, whatever they hold. A batch without a
//! counted position has loss 0 and gradients 0.
//!
//! The options mean what `torch.nn.functional.cross_entropy`, Cut Cross-Entropy's `linear_cross_entropy` (arXiv
//! 2411.09009) and Liger's `LigerFusedLinearCrossEntropyLoss` mean by them.

use crate::runtime::RuntimeError;
use crate::tensor::Tensor;
use crate::types::DType;

/// The target of a position that does not count, unless the options name another.
pub const IGNORE_INDEX: i32 = -100;

/// Memory that the tile logits may take, in bytes, unless the caller says otherwise: enough for V = 32000 and
/// S = 1024.
pub const LOGITS_BYTES: usize = 128 << 20;

/// The sizes of a classifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Classifier {
    /// Vocabulary V.
    pub vocab: usize,
    /// Model dimension D.
    pub dim: usize,
    /// Positions S.
    pub positions: usize,
    /// Element type of x, E and b: fp16 or fp32.
    pub dtype: DType,
    /// Logits that fit in so many bytes are kept between the loss and its gradients; of others, each tile is
    /// computed twice.
    pub logits_bytes: usize,
}

/// What the loss is, beyond the mean negative log-likelihood.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LossOptions {
    /// The target of a position that does not count.
    pub ignore_index: i32,
    /// ε in 0..=1: this part of the target's weight is spread evenly over the vocabulary.
    pub label_smoothing: f32,
    /// λ, at least 0, of the term λ·lse² (Liger's `lse_square_scale`).
    pub z_loss: f32,
    /// c > 0 of z = c·tanh(z / c); none leaves the logits as they are.
    pub softcap: Option<f32>,
    /// How the positions' losses make one.
    pub reduction: Reduction,
    /// F in 0..1: a token whose logit's derivative is below F at every position, in units of the positions' weight, and
    /// which is no position's target, may add nothing to dx and dE, as in Cut Cross-Entropy (arXiv 2411.09009). What that
    /// leaves out of dx is below F·Σ|E| of the tokens left out, in the same units; of a token's row of dE it is the whole,
    /// which is below F·Σ|x|. 0 leaves nothing out.
    pub filter: f32,
}

impl Default for LossOptions {
    fn default() -> LossOptions {
        LossOptions {
            ignore_index: IGNORE_INDEX,
            label_smoothing: 0.0,
            z_loss: 0.0,
            softcap: None,
            reduction: Reduction::Mean,
            filter: 0.0,
        }
    }
}

/// How the losses of positions make one loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Reduction {
    /// Their mean over the positions that count.
    #[default]
    Mean,
    /// Their sum.
    Sum,
}

/// Options that no loss can have.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum OptionsError {
    /// Label smoothing outside 0..=1.
    #[error("label smoothing is {0}, must be in 0..=1")]
    LabelSmoothing(f32),
    /// A z-loss that is negative or not finite.
    #[error("the z-loss is {0}, must be finite and at least 0")]
    ZLoss(f32),
    /// A soft cap that is not positive, or not finite.
    #[error("the soft cap is {0}, must be positive and finite")]
    SoftCap(f32),
    /// A filter outside 0..1.
    #[error("the filter is {0}, must be at least 0 and below 1")]
    Filter(f32),
}

impl LossOptions {
    /// The same loss without what only training adds: label smoothing and z-loss. The soft cap is the model's.
    #[must_use]
    pub fn without_regularization(self) -> LossOptions {
        LossOptions { label_smoothing: 0.0, z_loss: 0.0, ..self }
    }

    /// Checks that every option is in its range.
    ///
    /// # Errors
    ///
    /// Names the first that is not.
    pub fn validate(&self) -> Result<(), OptionsError> {
        if !(0.0..=1.0).contains(&self.label_smoothing) {
            return Err(OptionsError::LabelSmoothing(self.label_smoothing));
        }
        if !(self.z_loss >= 0.0 && self.z_loss.is_finite()) {
            return Err(OptionsError::ZLoss(self.z_loss));
        }
        if !(0.0..1.0).contains(&self.filter) {
            return Err(OptionsError::Filter(self.filter));
        }
        match self.softcap {
            Some(cap) if !(cap > 0.0 && cap.is_finite()) => Err(OptionsError::SoftCap(cap)),
            _ => Ok(()),
        }
    }
}

/// A loss and what it is made of.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct LossTotals {
    /// The loss, z-loss included.
    pub loss: f64,
    /// The z-loss alone.
    pub z_loss: f64,
    /// The number of positions whose target is not ignored.
    pub counted: usize,
}

/// Where gradients go. Each is [`LossGradients::scale`] times the loss's, computed in fp32 and rounded once to
/// its tensor's element type, fp16 or fp32, which need not be the classifier's.
#[derive(Debug)]
pub struct LossGradients<'a> {
    /// What gradients are multiplied by before they are rounded, so that small ones survive fp16.
    pub scale: f32,
    /// ∂loss/∂x, D·S elements in the order of x.
    pub dx: &'a mut Tensor,
    /// ∂loss/∂E, V·D elements.
    pub dembed: &'a mut Tensor,
    /// ∂loss/∂b, V elements.
    pub dbias: Option<&'a mut Tensor>,
}

/// What the loss is computed from.
#[derive(Debug, Clone, Copy)]
pub struct LossInputs<'a> {
    /// x, channel-first: `[1, D, 1, S]`, or any other shape of as many elements in that order.
    pub x: &'a Tensor,
    /// E, V·D elements, row-major.
    pub embed: &'a Tensor,
    /// b, V elements.
    pub bias: Option<&'a Tensor>,
    /// One target per position, below V or [`LossOptions::ignore_index`].
    pub targets: &'a [i32],
}

/// A classifier with its loss, ready to run on a backend that offers it
/// ([`Runtime::linear_cross_entropy`](crate::runtime::Runtime::linear_cross_entropy)).
pub trait LinearCrossEntropy: Send {
    /// Computes the loss, and if wanted each position's own (0 where ignored, not weighted) and the gradients.
    ///
    /// # Errors
    ///
    /// Tensors or targets of another size or type, or a target that is neither below V nor ignored.
    fn run(
        &mut self,
        inputs: LossInputs<'_>,
        losses: Option<&mut [f32]>,
        gradients: Option<LossGradients<'_>>,
    ) -> Result<LossTotals, RuntimeError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_out_of_range_are_named() {
        let options = LossOptions::default();
        assert_eq!(options.validate(), Ok(()));
        let smoothing = LossOptions { label_smoothing: f32::NAN, ..options };
        assert!(matches!(smoothing.validate(), Err(OptionsError::LabelSmoothing(_))));
        let z_loss = LossOptions { z_loss: -1.0, ..options };
        assert_eq!(z_loss.validate(), Err(OptionsError::ZLoss(-1.0)));
        let softcap = LossOptions { softcap: Some(0.0), ..options };
        assert_eq!(softcap.validate(), Err(OptionsError::SoftCap(0.0)));
    }
}
