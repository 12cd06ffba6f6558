//! The classifier and its loss as one piece of work of the runtime's.

use std::sync::Arc;

use anemone_mil::linear_cross_entropy::{
    Classifier, LOGITS_BYTES, LinearCrossEntropy, LossGradients, LossInputs, LossOptions, LossTotals,
};
use anemone_mil::runtime::Runtime;
use anemone_mil::tensor::Tensor;

use super::{ClassifierRunner, HeadError};
use crate::device::zeros;
use crate::programs::head::Head;

/// A runtime's fused head, and room for its gradients.
pub(super) struct Fused {
    training: Box<dyn LinearCrossEntropy>,
    /// The loss of validation, where it is another one.
    validation: Option<Box<dyn LinearCrossEntropy>>,
    dxn: Tensor,
    dembed: Tensor,
}

impl Fused {
    /// The fused head of `runtime`.
    pub(super) fn new(head: Head, options: LossOptions, runtime: &dyn Runtime) -> Result<Fused, HeadError> {
        let dtype = head.target.mil_dtype();
        let Head { vocab, dim, positions, .. } = head;
        let classifier = Classifier { vocab, dim, positions, dtype, logits_bytes: LOGITS_BYTES };
        let plain = options.without_regularization();
        let validation = (plain != options).then(|| runtime.linear_cross_entropy(classifier, plain));
        Ok(Fused {
            training: runtime.linear_cross_entropy(classifier, options)?,
            validation: validation.transpose()?,
            dxn: zeros(dtype, &[1, dim, 1, positions])?,
            dembed: zeros(dtype, &[vocab, dim])?,
        })
    }
}

impl ClassifierRunner for Fused {
    fn set_embed(&mut self, _: &Arc<Tensor>) -> Result<(), HeadError> {
        // Every run is given it.
        Ok(())
    }

    fn logits(&mut self, _: &Tensor) -> Result<&Tensor, HeadError> {
        Err(HeadError::NoLogits)
    }

    fn loss(&mut self, embed: &Tensor, xn: &Tensor, targets: &[i32]) -> Result<LossTotals, HeadError> {
        let inputs = LossInputs { x: xn, embed, bias: None, targets };
        let head = self.validation.as_mut().unwrap_or(&mut self.training);
        Ok(head.run(inputs, None, None)?)
    }

    fn step(
        &mut self,
        embed: &Tensor,
        xn: &Tensor,
        targets: &[i32],
        loss_scale: f32,
    ) -> Result<LossTotals, HeadError> {
        let inputs = LossInputs { x: xn, embed, bias: None, targets };
        let Fused { training, dxn, dembed, .. } = self;
        let gradients = LossGradients { scale: loss_scale, dx: dxn, dembed, dbias: None };
        Ok(training.run(inputs, None, Some(gradients))?)
    }

    fn gradients(&self) -> (&Tensor, &Tensor) {
        (&self.dxn, &self.dembed)
    }
}
