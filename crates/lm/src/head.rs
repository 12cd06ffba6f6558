//! The head at work: its programs prepared on runtimes, with weights that follow the optimizer.

mod fused;
pub mod merge;
mod separate;

use std::sync::Arc;

use anemone_mil::error::Errors;
use anemone_mil::linear_cross_entropy::{LossOptions, LossTotals};
use anemone_mil::runtime::{ConstantHandle, Runtime, RuntimeError};
use anemone_mil::tensor::Tensor;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::device::{OutOfMemory, SharedWeight, narrow};
use crate::loss::LossError;
use crate::prepared::Prepared;
use crate::programs::ProgramError;
use crate::programs::head::{GAIN, Head};
use crate::rewriting::Rewriting;
use fused::Fused;
use separate::SeparatePrograms;

/// Why the head cannot be prepared or run.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum HeadError {
    /// A program cannot be written.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// A program that was written does not verify: a fault of this crate.
    #[error("a program of the head is refused: {0}")]
    Verify(#[from] Errors),
    /// A runtime refuses or fails.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// Targets or options that the loss refuses.
    #[error(transparent)]
    Loss(#[from] LossError),
    /// Logits of a head that has none.
    #[error("the fused head never has the logits as a whole")]
    NoLogits,
    /// Weights of another size than the head's.
    #[error("`{what}` has {found} values, not {expected}")]
    Size {
        /// Which weights.
        what: &'static str,
        /// Their number.
        found: usize,
        /// The head's.
        expected: usize,
    },
    /// A tensor does not fit in memory.
    #[error(transparent)]
    Memory(#[from] OutOfMemory),
}

/// How the classifier, its loss and their gradients are computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HeadKind {
    /// One program per step, logits and probabilities between them.
    #[default]
    Programs,
    /// By the runtime in one, by vocabulary tiles, where it offers that: memory does not grow with the vocabulary.
    Fused,
}

/// Which runtime does what.
#[derive(Clone, Copy)]
pub struct Runtimes<'a> {
    /// Runs the head's programs.
    pub head: &'a dyn Runtime,
    /// Runs the layers' programs.
    pub layers: &'a dyn Runtime,
    /// The form in which it takes them, if not as they are written.
    pub layers_rewriting: Option<Rewriting<'a>>,
    /// Runs products that belong to the host, as dE.
    pub products: &'a dyn Runtime,
}

impl<'a> Runtimes<'a> {
    /// One runtime for everything.
    pub fn all(runtime: &'a dyn Runtime) -> Runtimes<'a> {
        Runtimes { head: runtime, layers: runtime, layers_rewriting: None, products: runtime }
    }

    /// What the results of layers depend on: the runtime's [identity](Runtime::identity), and how their programs are
    /// rewritten.
    pub fn layers_identity(&self) -> String {
        let rewriting = self.layers_rewriting.map(|rewriting| format!(", layers {}", rewriting.name));
        format!("{}{}", self.layers.identity(), rewriting.unwrap_or_default())
    }
}

/// The head of a model, ready to compute losses and gradients.
///
/// The RMSNorm's steps are [programs](crate::programs::head), and by [`HeadKind`] the classifier's are too, or one
/// piece of work of the runtime's. Weights stay with the runtime until [`HeadRunner::set_weights`] replaces them.
pub struct HeadRunner {
    head: Head,
    final_rmsnorm: Prepared,
    rmsnorm_backward: Prepared,
    /// The gain in the two programs.
    gain_constants: [ConstantHandle; 2],
    classifier: Box<dyn ClassifierRunner>,
    gain: SharedWeight,
    embed: SharedWeight,
}

/// The gradients of a step, each times the loss scale.
pub struct HeadGradients<'a> {
    /// `[1, D, 1, S]`.
    pub dx: &'a Tensor,
    /// `[1, D, 1, 1]`.
    pub dgain: &'a Tensor,
    /// `[V, D]`.
    pub dembed: &'a Tensor,
}

impl HeadRunner {
    /// Prepares `head` for a loss with these options. All weights are zero until they are set.
    ///
    /// # Errors
    ///
    /// A dimension is 0, an option is out of range, a tensor does not fit in memory, or a runtime refuses a program
    /// or this kind of head.
    pub fn new(
        head: Head,
        kind: HeadKind,
        options: LossOptions,
        runtimes: Runtimes<'_>,
    ) -> Result<HeadRunner, HeadError> {
        options.validate().map_err(LossError::from)?;
        let dtype = head.target.mil_dtype();
        let classifier: Box<dyn ClassifierRunner> = match kind {
            HeadKind::Programs => Box::new(SeparatePrograms::new(head, options, runtimes)?),
            HeadKind::Fused => Box::new(Fused::new(head, options, runtimes.head)?),
        };
        let prepared = Prepared::new::<HeadError>;
        let final_rmsnorm = prepared(head.final_rmsnorm()?, runtimes.head)?;
        let rmsnorm_backward = prepared(head.rmsnorm_backward()?, runtimes.head)?;
        Ok(HeadRunner {
            head,
            gain_constants: [final_rmsnorm.constant(GAIN)?, rmsnorm_backward.constant(GAIN)?],
            final_rmsnorm,
            rmsnorm_backward,
            classifier,
            gain: SharedWeight::new(dtype, &[1, head.dim, 1, 1])?,
            embed: SharedWeight::new(dtype, &[head.vocab, head.dim, 1, 1])?,
        })
    }

    /// The dimensions and the way the programs are written.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// Takes over fp32 weights, rounded once to the device's dtype: g `[D]` and E `[V, D]`.
    ///
    /// # Errors
    ///
    /// Sizes that are not the head's, or a runtime that cannot replace a constant.
    pub fn set_weights(&mut self, gain: &[f32], embed: &[f32]) -> Result<(), HeadError> {
        let (vocab, dim) = (self.head.vocab, self.head.dim);
        check_size("gain", gain.len(), dim)?;
        check_size("embed", embed.len(), vocab * dim)?;
        let gain = self.gain.replace(|to| narrow(gain, to))?;
        let [forward, backward] = self.gain_constants;
        self.final_rmsnorm.set_constant(forward, gain)?;
        self.rmsnorm_backward.set_constant(backward, gain)?;
        self.classifier.set_embed(self.embed.replace(|to| narrow(embed, to))?)
    }

    /// The logits `[1, V, 1, S]` for x `[1, D, 1, S]`, after the soft cap if there is one.
    ///
    /// # Errors
    ///
    /// An input of another type, a failing runtime, or the fused head, which has none.
    pub fn logits(&mut self, x: &Tensor) -> Result<&Tensor, HeadError> {
        let xn = self.final_rmsnorm.run(&[x])?;
        self.classifier.logits(xn)
    }

    /// The loss of x `[1, D, 1, S]` against one target per position, as it is validated: without label smoothing and
    /// z-loss ([`LossOptions::without_regularization`]).
    ///
    /// # Errors
    ///
    /// An input of another type, a target out of range, or a failing runtime.
    pub fn loss(&mut self, x: &Tensor, targets: &[i32]) -> Result<LossTotals, HeadError> {
        let xn = self.final_rmsnorm.run(&[x])?;
        self.classifier.loss(self.embed.get(), xn, targets)
    }

    /// The loss, with all that the options say, and its gradients, which carry `loss_scale`.
    ///
    /// # Errors
    ///
    /// As [`HeadRunner::loss`].
    pub fn step(
        &mut self,
        x: &Tensor,
        targets: &[i32],
        loss_scale: f32,
    ) -> Result<(LossTotals, HeadGradients<'_>), HeadError> {
        let xn = self.final_rmsnorm.run(&[x])?;
        let loss = self.classifier.step(self.embed.get(), xn, targets, loss_scale)?;
        let (dxn, dembed) = self.classifier.gradients();
        self.rmsnorm_backward.run(&[dxn, x])?;
        let [dx, dgain] = self.rmsnorm_backward.outputs.as_slice() else {
            unreachable!("RMSNorm backward has two outputs");
        };
        Ok((loss, HeadGradients { dx, dgain, dembed }))
    }
}

/// A classifier with its loss, at work. Activations are `[1, C, 1, S]`.
trait ClassifierRunner: Send {
    /// Shares another E `[V, D, 1, 1]`.
    fn set_embed(&mut self, embed: &Arc<Tensor>) -> Result<(), HeadError>;

    /// The logits for xn, after the soft cap.
    fn logits(&mut self, xn: &Tensor) -> Result<&Tensor, HeadError>;

    /// The loss as it is validated; `embed` is what was last set.
    fn loss(&mut self, embed: &Tensor, xn: &Tensor, targets: &[i32]) -> Result<LossTotals, HeadError>;

    /// The loss; leaves gradients, which carry `loss_scale`.
    fn step(
        &mut self,
        embed: &Tensor,
        xn: &Tensor,
        targets: &[i32],
        loss_scale: f32,
    ) -> Result<LossTotals, HeadError>;

    /// dxn and dE, as the last step left them.
    fn gradients(&self) -> (&Tensor, &Tensor);
}

fn check_size(what: &'static str, found: usize, expected: usize) -> Result<(), HeadError> {
    if found == expected { Ok(()) } else { Err(HeadError::Size { what, found, expected }) }
}

/// `to[d, v] = from[v, d]` for E `[V, D]`, in blocks that stay in the cache.
///
/// # Panics
///
/// When one of the slices is shorter than V·D.
pub fn transpose<E: Copy>(from: &[E], to: &mut [E], vocab: usize, dim: usize) {
    const BLOCK: usize = 32;
    for v0 in (0..vocab).step_by(BLOCK) {
        for d0 in (0..dim).step_by(BLOCK) {
            for v in v0..(v0 + BLOCK).min(vocab) {
                for d in d0..(d0 + BLOCK).min(dim) {
                    to[d * vocab + v] = from[v * dim + d];
                }
            }
        }
    }
}
