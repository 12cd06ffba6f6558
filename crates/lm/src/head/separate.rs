//! The classifier as one program per step, with logits and probabilities between them.

use anemone_mil::tensor::Tensor;

use super::{ClassifierRunner, HeadError, Prepared, Runtimes, transpose, values, with_element, zeros};
use crate::config::DeviceDtype;
use crate::loss::{self, Loss};
use crate::programs::head::{EMBED, EMBED_T, Head};

/// The programs of a classifier, prepared, and the loss on the host.
pub(super) struct SeparatePrograms {
    head: Head,
    classifier_forward: Prepared,
    softmax: Prepared,
    classifier_backward: Prepared,
    weight_gradient: Prepared,
    dlogits: Tensor,
    embed_t: Tensor,
}

impl SeparatePrograms {
    /// Prepares the programs, with weights of zero.
    pub fn new(head: Head, runtimes: Runtimes<'_>) -> Result<SeparatePrograms, HeadError> {
        let dtype = head.target.mil_dtype();
        Ok(SeparatePrograms {
            head,
            classifier_forward: Prepared::new(head.classifier_forward()?, runtimes.head)?,
            softmax: Prepared::new(head.softmax()?, runtimes.head)?,
            classifier_backward: Prepared::new(head.classifier_backward()?, runtimes.head)?,
            weight_gradient: Prepared::new(head.classifier_weight_gradient()?, runtimes.products)?,
            dlogits: zeros(dtype, &[1, head.vocab, 1, head.positions])?,
            embed_t: zeros(dtype, &[1, head.dim, head.vocab])?,
        })
    }
}

impl ClassifierRunner for SeparatePrograms {
    fn set_embed(&mut self, embed: &Tensor) -> Result<(), HeadError> {
        with_element!(self.head.target.dtype, E => {
            if let (Some(from), Some(to)) = (embed.as_slice::<E>(), self.embed_t.as_mut_slice::<E>()) {
                transpose(from, to, self.head.vocab, self.head.dim);
            }
        });
        self.classifier_forward.executable.set_constant(EMBED, embed)?;
        self.classifier_backward.executable.set_constant(EMBED_T, &self.embed_t)?;
        Ok(())
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
