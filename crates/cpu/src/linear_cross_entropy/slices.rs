//! What the fused head reads and writes, as slices and as tensors.

use anemone_mil::linear_cross_entropy::{
    Classifier, LinearCrossEntropy, LossGradients, LossInputs, LossTotals,
};
use anemone_mil::runtime::RuntimeError;
use anemone_mil::tensor::{Data, Tensor};
use half::f16;

use super::{FusedHead, interface};
use crate::memory::{Floats, FloatsMut};

/// What a loss is computed from, as slices: x `[D, S]`, E `[V, D]`, b `[V]`, row-major.
#[derive(Debug, Clone, Copy)]
pub struct SliceInputs<'a> {
    /// x `[D, S]`.
    pub x: Floats<'a>,
    /// E `[V, D]`.
    pub embed: Floats<'a>,
    /// b `[V]`.
    pub bias: Option<Floats<'a>>,
    /// One target per position.
    pub targets: &'a [i32],
}

/// Where gradients go, as slices; each times `scale`.
#[derive(Debug)]
pub struct SliceGradients<'a> {
    /// What gradients are multiplied by before they are rounded.
    pub scale: f32,
    /// ∂loss/∂x `[D, S]`.
    pub dx: FloatsMut<'a>,
    /// ∂loss/∂E `[V, D]`.
    pub dembed: FloatsMut<'a>,
    /// ∂loss/∂b `[V]`.
    pub dbias: Option<FloatsMut<'a>>,
}

impl SliceGradients<'_> {
    /// Makes every gradient 0.
    pub(super) fn clear(mut self) {
        for output in [Some(&mut self.dx), Some(&mut self.dembed), self.dbias.as_mut()].into_iter().flatten()
        {
            match output {
                FloatsMut::F16(values) => values.fill(f16::ZERO),
                FloatsMut::F32(values) => values.fill(0.0),
            }
        }
    }
}

/// Refuses a slice of another size.
fn check_size(what: &str, found: usize, expected: usize) -> Result<(), RuntimeError> {
    if found == expected {
        return Ok(());
    }
    Err(interface(format!("{what} has {found} elements, {expected} are expected")))
}

/// Refuses slices whose sizes are not the classifier's, and a scale that gradients cannot have.
pub(super) fn check(
    classifier: Classifier,
    inputs: &SliceInputs<'_>,
    losses: Option<&[f32]>,
    gradients: Option<&SliceGradients<'_>>,
) -> Result<(), RuntimeError> {
    let Classifier { vocab, dim, positions, .. } = classifier;
    check_size("x", inputs.x.len(), dim * positions)?;
    check_size("E", inputs.embed.len(), vocab.saturating_mul(dim))?;
    inputs.bias.map_or(Ok(()), |bias| check_size("the bias", bias.len(), vocab))?;
    losses.map_or(Ok(()), |losses| check_size("the losses", losses.len(), positions))?;
    if let Some(gradients) = gradients {
        check_size("dx", gradients.dx.len(), dim * positions)?;
        check_size("dE", gradients.dembed.len(), vocab.saturating_mul(dim))?;
        gradients
            .dbias
            .as_ref()
            .map_or(Ok(()), |dbias| check_size("the bias's gradient", dbias.len(), vocab))?;
        if !(gradients.scale > 0.0 && gradients.scale.is_finite()) {
            let scale = gradients.scale;
            return Err(interface(format!("the gradients' scale is {scale}, must be positive and finite")));
        }
    }
    Ok(())
}

fn floats<'a>(what: &str, tensor: &'a Tensor) -> Result<Floats<'a>, RuntimeError> {
    match tensor.data() {
        Data::F16(values) => Ok(Floats::F16(values)),
        Data::F32(values) => Ok(Floats::F32(values)),
        _ => Err(interface(format!("{what} is {}, must be fp16 or fp32", tensor.ty()))),
    }
}

fn floats_mut<'a>(what: &str, tensor: &'a mut Tensor) -> Result<FloatsMut<'a>, RuntimeError> {
    let ty = tensor.ty();
    match tensor.data_mut() {
        Data::F16(values) => Ok(FloatsMut::F16(values)),
        Data::F32(values) => Ok(FloatsMut::F32(values)),
        _ => Err(interface(format!("{what} is {ty}, must be fp16 or fp32"))),
    }
}

impl LinearCrossEntropy for FusedHead {
    fn run(
        &mut self,
        inputs: LossInputs<'_>,
        losses: Option<&mut [f32]>,
        gradients: Option<LossGradients<'_>>,
    ) -> Result<LossTotals, RuntimeError> {
        let inputs = SliceInputs {
            x: floats("x", inputs.x)?,
            embed: floats("E", inputs.embed)?,
            bias: inputs.bias.map(|bias| floats("the bias", bias)).transpose()?,
            targets: inputs.targets,
        };
        let gradients = match gradients {
            None => None,
            Some(LossGradients { scale, dx, dembed, dbias }) => Some(SliceGradients {
                scale,
                dx: floats_mut("dx", dx)?,
                dembed: floats_mut("dE", dembed)?,
                dbias: dbias.map(|dbias| floats_mut("the bias's gradient", dbias)).transpose()?,
            }),
        };
        self.run_slices(inputs, losses, gradients)
    }
}
