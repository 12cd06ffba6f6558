//! The classifier as one program per step, with logits and probabilities between them.

use std::sync::Arc;

use anemone_mil::runtime::ConstantHandle;
use anemone_mil::tensor::Tensor;

use super::{ClassifierRunner, HeadError, Prepared, Runtimes, transpose};
use crate::device::{SharedWeight, values, with_element, zeros};
use crate::loss::{self, Loss};
use crate::programs::head::{EMBED, EMBED_T, Head};

/// The programs of a classifier, prepared, and the loss on the host.
pub(super) struct SeparatePrograms {
    head: Head,
    classifier_forward: Prepared,
    softmax: Prepared,
    classifier_backward: Prepared,
    weight_gradient: Prepared,
    /// E in the program of the logits, and Eᵀ in that of dxn.
    embed_constants: [ConstantHandle; 2],
    dlogits: Tensor,
    embed_t: SharedWeight,
}

impl SeparatePrograms {
    /// Prepares the programs, with weights of zero.
    pub fn new(head: Head, runtimes: Runtimes<'_>) -> Result<SeparatePrograms, HeadError> {
        let dtype = head.target.mil_dtype();
        let classifier_forward = Prepared::new(head.classifier_forward()?, runtimes.head)?;
        let classifier_backward = Prepared::new(head.classifier_backward()?, runtimes.head)?;
        Ok(SeparatePrograms {
            head,
            embed_constants: [classifier_forward.constant(EMBED)?, classifier_backward.constant(EMBED_T)?],
            classifier_forward,
            softmax: Prepared::new(head.softmax()?, runtimes.head)?,
            classifier_backward,
            weight_gradient: Prepared::new(head.classifier_weight_gradient()?, runtimes.products)?,
            dlogits: zeros(dtype, &[1, head.vocab, 1, head.positions])?,
            embed_t: SharedWeight::new(dtype, &[1, head.dim, head.vocab])?,
        })
    }
}

impl ClassifierRunner for SeparatePrograms {
    fn set_embed(&mut self, embed: &Arc<Tensor>) -> Result<(), HeadError> {
        let Head { vocab, dim, target, .. } = self.head;
        let embed_t = self.embed_t.replace(|to| {
            with_element!(target.dtype, E => {
                transpose(values::<E>(embed), to.as_mut_slice().unwrap_or_default(), vocab, dim);
            });
        })?;
        let [forward, backward] = self.embed_constants;
        self.classifier_forward.set_constant(forward, embed)?;
        self.classifier_backward.set_constant(backward, embed_t)
    }

    fn logits(&mut self, xn: &Tensor) -> Result<&Tensor, HeadError> {
        self.classifier_forward.run(&[xn])
    }

    fn loss(&mut self, _: &Tensor, xn: &Tensor, targets: &[i32]) -> Result<Loss, HeadError> {
        let (vocab, dtype) = (self.head.vocab, self.head.target.dtype);
        let logits = self.logits(xn)?;
        with_element!(dtype, E => Ok(loss::from_logits(values::<E>(logits), vocab, targets, 1.0, None)?))
    }

    fn step(&mut self, _: &Tensor, xn: &Tensor, targets: &[i32], loss_scale: f32) -> Result<Loss, HeadError> {
        let vocab = self.head.vocab;
        let logits = self.classifier_forward.run(&[xn])?;
        let probabilities = self.softmax.run(&[logits])?;
        // The loss itself comes from the logits: a probability may underflow, its logarithm must not.
        let loss = with_element!(self.head.target.dtype, E => {
            let gradient = self.dlogits.as_mut_slice::<E>();
            loss::from_probabilities(values::<E>(probabilities), vocab, targets, loss_scale, gradient)?;
            loss::from_logits(values::<E>(logits), vocab, targets, 1.0, None)?
        });
        self.classifier_backward.run(&[&self.dlogits])?;
        self.weight_gradient.run(&[&self.dlogits, xn])?;
        Ok(loss)
    }

    fn gradients(&self) -> (&Tensor, &Tensor) {
        (&self.classifier_backward.outputs[0], &self.weight_gradient.outputs[0])
    }
}
