//! The classifier as one program per step, with logits and probabilities between them.

use std::sync::Arc;

use anemone_mil::linear_cross_entropy::{LossOptions, LossTotals};
use anemone_mil::runtime::ConstantHandle;
use anemone_mil::tensor::Tensor;

use super::{ClassifierRunner, HeadError, Runtimes, transpose};
use crate::config::DeviceDtype;
use crate::device::{SharedWeight, values, with_element, zeros};
use crate::loss::{self, LogitsGradient};
use crate::prepared::Prepared;
use crate::programs::head::{EMBED, EMBED_T, Head};

/// The programs of a classifier, prepared, and the loss on the host.
pub(super) struct SeparatePrograms {
    head: Head,
    options: LossOptions,
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
    pub(super) fn new(
        head: Head,
        options: LossOptions,
        runtimes: Runtimes<'_>,
    ) -> Result<SeparatePrograms, HeadError> {
        let dtype = head.target.mil_dtype();
        let prepared = Prepared::new::<HeadError>;
        let classifier_forward = prepared(head.classifier_forward()?, runtimes.head)?;
        let classifier_backward = prepared(head.classifier_backward()?, runtimes.head)?;
        Ok(SeparatePrograms {
            head,
            options,
            embed_constants: [classifier_forward.constant(EMBED)?, classifier_backward.constant(EMBED_T)?],
            classifier_forward,
            softmax: prepared(head.softmax()?, runtimes.head)?,
            classifier_backward,
            weight_gradient: prepared(head.classifier_weight_gradient()?, runtimes.products)?,
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
        Ok(self.classifier_backward.set_constant(backward, embed_t)?)
    }

    fn logits(&mut self, xn: &Tensor) -> Result<&Tensor, HeadError> {
        let logits = self.classifier_forward.run(&[xn])?;
        let Some(cap) = self.options.softcap else { return Ok(logits) };
        cap_to(self.head.target.dtype, logits, cap, &mut self.dlogits);
        Ok(&self.dlogits)
    }

    fn loss(&mut self, _: &Tensor, xn: &Tensor, targets: &[i32]) -> Result<LossTotals, HeadError> {
        let (vocab, options) = (self.head.vocab, self.options.without_regularization());
        let logits = self.classifier_forward.run(&[xn])?;
        with_element!(self.head.target.dtype, E => {
            Ok(loss::cross_entropy(values::<E>(logits), vocab, targets, &options, None)?)
        })
    }

    fn step(
        &mut self,
        _: &Tensor,
        xn: &Tensor,
        targets: &[i32],
        loss_scale: f32,
    ) -> Result<LossTotals, HeadError> {
        let Head { vocab, target, .. } = self.head;
        let logits = self.classifier_forward.run(&[xn])?;
        let capped = match self.options.softcap {
            None => logits,
            Some(cap) => {
                // The gradient comes to the same place later.
                cap_to(target.dtype, logits, cap, &mut self.dlogits);
                &self.dlogits
            }
        };
        let probabilities = self.softmax.run(&[capped])?;
        // The loss itself comes from the logits: a probability may underflow, its logarithm must not.
        let totals = with_element!(target.dtype, E => {
            let to = self.dlogits.as_mut_slice::<E>().unwrap_or_default();
            let probabilities = Some(values::<E>(probabilities));
            let gradient = LogitsGradient { scale: loss_scale, probabilities, to };
            loss::cross_entropy(values::<E>(logits), vocab, targets, &self.options, Some(gradient))?
        });
        self.classifier_backward.run(&[&self.dlogits])?;
        self.weight_gradient.run(&[&self.dlogits, xn])?;
        Ok(totals)
    }

    fn gradients(&self) -> (&Tensor, &Tensor) {
        (&self.classifier_backward.outputs[0], &self.weight_gradient.outputs[0])
    }
}

/// The soft cap of logits, in a tensor like theirs.
fn cap_to(dtype: DeviceDtype, logits: &Tensor, cap: f32, to: &mut Tensor) {
    with_element!(dtype, E => {
        loss::cap_logits(values::<E>(logits), cap, to.as_mut_slice().unwrap_or_default());
    });
}
