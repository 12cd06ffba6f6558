//! The model's weights: token embedding → layers → final RMSNorm → classifier. They are named as Hugging Face's Llama
//! names them, and have its layouts, so that a checkpoint's tensors are everybody's.
//!
//! Without layers the model's best is the bigram distribution.

use std::ops::Range;

use anemone_mil::mapped::room_for;
use anemone_mil::tensor::Tensor;
use anemone_mil::types::{DType, TensorType};
use half::f16;
use thiserror::Error;

use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::config::ModelConfig;
use crate::device::{accumulate, values};
use crate::optimizer::{AdamW, Moments, sum_of_squares};
use crate::programs::layer::{LayerParameter, Role, layer_parameters};
use crate::random::Random;

/// Why a model cannot be had.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ModelError {
    /// The system has no memory for a tensor.
    #[error("the model's {0} does not fit in memory")]
    Memory(TensorType),
    /// A name that no parameter has.
    #[error("the model has no parameter `{0}`")]
    NoParameter(String),
    /// A parameter is given another number of values than its shape has.
    #[error("the model's `{name}` has the shape {shape:?}, {found} values are given for it")]
    Count {
        /// The parameter.
        name: String,
        /// Its dimensions.
        shape: Vec<usize>,
        /// The number of values given.
        found: usize,
    },
    /// The checkpoint's tensors are not the model's.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
}

/// The values of a tensor of this shape, where there is memory for them: all that `values` gives, at most as
/// many as the shape has.
pub(crate) fn allocate(
    shape: &[usize],
    values: impl IntoIterator<Item = f32>,
) -> Result<Vec<f32>, ModelError> {
    let refused = || ModelError::Memory(TensorType::new(DType::Fp32, shape));
    let count = shape.iter().try_fold(1usize, |count, &dim| count.checked_mul(dim)).ok_or_else(refused)?;
    let mut allocated = room_for(count).ok_or_else(refused)?;
    allocated.extend(values.into_iter().take(count));
    Ok(allocated)
}

/// The embedding's matrix: a row per token, `[V, D]`.
pub const EMBEDDING: &str = "model.embed_tokens.weight";
/// The final RMSNorm's gain g, `[D]`.
pub const NORM_GAIN: &str = "model.norm.weight";
/// The classifier's matrix E, `[V, D]`, where it is not the embedding's.
pub const CLASSIFIER: &str = "lm_head.weight";

/// The name of a layer's parameter in the whole model.
pub fn layer_parameter(layer: usize, name: &str) -> String {
    format!("model.layers.{layer}.{name}")
}

/// The name of the classifier's matrix: the embedding's, where they are tied.
pub fn classifier(config: &ModelConfig) -> &'static str {
    if config.tied { EMBEDDING } else { CLASSIFIER }
}

/// What a parameter is, before it has values.
#[derive(Clone, Debug, PartialEq)]
pub struct Description {
    /// Its name, in checkpoints too.
    pub name: String,
    /// Its dimensions.
    pub shape: Vec<usize>,
    /// Whether weight decay applies: to matrices, not to gains.
    pub decay: bool,
    /// What its values are at first.
    pub initial: Initial,
}

/// The values that a parameter begins with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Initial {
    /// All the same.
    Constant(f32),
    /// Drawn from N(0, deviation²), by a stream of the seed's random numbers.
    Normal {
        /// The standard deviation.
        deviation: f64,
        /// The stream; another one for each parameter, apart from those of batches.
        stream: u64,
    },
}

/// The model's parameters, in the order in which their gradients' norms are summed.
///
/// Matrices begin as N(0, 0.02²), those that write to the residual stream by √(2L) smaller, so that its variance does
/// not grow with the depth (Radford et al., GPT-2, 2.3), and gains as 1. Without layers the embedding begins as N(0, 1),
/// whose scale RMSNorm takes away, and the classifier as N(0, 1/D)·0.1, whose first logits are near 0 so that the first
/// loss is near log V.
pub fn parameters(config: &ModelConfig) -> Vec<Description> {
    let (vocab, dim) = (config.vocab, config.dim);
    let (wide, narrow) = match config.layers {
        0 => (1.0, 0.1 / (dim as f64).sqrt()),
        _ => (DEVIATION, DEVIATION),
    };
    let residual = DEVIATION / (2.0 * config.layers.max(1) as f64).sqrt();
    let mut streams = (0..=u64::MAX).rev();
    let mut normal = |deviation| Initial::Normal { deviation, stream: streams.next().unwrap_or_default() };
    let mut parameters = vec![Description::new(EMBEDDING.into(), &[vocab, dim], normal(wide))];
    for layer in 0..config.layers {
        for LayerParameter { name, shape, role, .. } in layer_parameters(config) {
            let initial = match role {
                Role::Gain => Initial::Constant(1.0),
                Role::Inner => normal(DEVIATION),
                Role::Residual => normal(residual),
            };
            parameters.push(Description::new(layer_parameter(layer, name), &shape, initial));
        }
    }
    parameters.push(Description::new(NORM_GAIN.into(), &[dim], Initial::Constant(1.0)));
    if !config.tied {
        parameters.push(Description::new(CLASSIFIER.into(), &[vocab, dim], normal(narrow)));
    }
    parameters
}

/// The standard deviation that matrices begin with.
const DEVIATION: f64 = 0.02;

impl Description {
    /// Matrices are decayed, gains are not.
    fn new(name: String, shape: &[usize], initial: Initial) -> Description {
        Description { name, shape: shape.to_vec(), decay: shape.len() > 1, initial }
    }
}

/// One tensor of fp32 master weights, with its gradient and what the optimizer keeps of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameter {
    /// Its name, in checkpoints too.
    pub name: String,
    /// Its dimensions.
    pub shape: Vec<usize>,
    /// Row-major values.
    pub values: Vec<f32>,
    /// The gradient of the last step, times its loss scale, as fp32 sums or as the device gave it; empty before the first
    /// step, and not part of checkpoints.
    pub gradient: Tensor,
    /// Mean and mean squared gradient.
    pub moments: Moments,
    /// Whether weight decay applies.
    pub decay: bool,
}

impl Parameter {
    fn new(description: Description, seed: u64) -> Result<Parameter, ModelError> {
        let shape = &description.shape;
        let zeros = || allocate(shape, std::iter::repeat(0.0));
        let values = match description.initial {
            Initial::Constant(value) => allocate(shape, std::iter::repeat(value))?,
            Initial::Normal { deviation, stream } => {
                let mut random = Random::stream(seed, stream);
                allocate(shape, std::iter::repeat_with(|| (random.normal() * deviation) as f32))?
            }
        };
        let moments = Moments { first: zeros()?, second: zeros()? };
        let Description { name, decay, .. } = description;
        Ok(Parameter { gradient: no_gradient(), name, shape: description.shape, values, moments, decay })
    }

    /// With these values, which are as many as the shape has, and an optimizer that has seen no step.
    fn with_values(description: Description, values: Vec<f32>) -> Result<Parameter, ModelError> {
        let Description { name, shape, decay, .. } = description;
        let zeros = || allocate(&shape, std::iter::repeat(0.0));
        let moments = Moments { first: zeros()?, second: zeros()? };
        Ok(Parameter { gradient: no_gradient(), name, shape, values, moments, decay })
    }

    fn load(description: Description, checkpoint: &Checkpoint) -> Result<Parameter, ModelError> {
        let Description { name, shape, decay, .. } = description;
        let [first, second] = moment_names(&name);
        let values = |name: &str| allocate(&shape, checkpoint.tensor(name, &shape)?.iter().copied());
        let moments = Moments { first: values(&first)?, second: values(&second)? };
        let values = values(&name)?;
        Ok(Parameter { name, shape, values, gradient: no_gradient(), moments, decay })
    }

    /// The gradient as fp32 numbers that can be added to: zeros where there is none.
    ///
    /// # Errors
    ///
    /// When the system has no memory for them.
    pub fn gradient_sums(&mut self) -> Result<&mut [f32], ModelError> {
        if self.gradient.dtype() != DType::Fp32 || self.gradient.len() != self.values.len() {
            let refused = || ModelError::Memory(TensorType::new(DType::Fp32, &self.shape));
            let mut sums = Tensor::zeros(DType::Fp32, &[self.values.len()]).ok_or_else(refused)?;
            accumulate(&self.gradient, sums.as_mut_slice().unwrap_or_default(), true);
            self.gradient = sums;
        }
        Ok(self.gradient.as_mut_slice().unwrap_or_default())
    }

    /// Takes over a device's gradient: instead of the one that was there, where it is the `first`, or added to it.
    ///
    /// The first is not copied. The tensors are exchanged, so that `gradient` is left with one of its type or, the first
    /// time, an empty one.
    ///
    /// # Errors
    ///
    /// When the system has no memory for fp32 sums.
    pub(crate) fn take_gradient(&mut self, gradient: &mut Tensor, first: bool) -> Result<(), ModelError> {
        if first && (self.gradient.is_empty() || self.gradient.has_type(&gradient.ty())) {
            std::mem::swap(&mut self.gradient, gradient);
        } else {
            accumulate(gradient, self.gradient_sums()?, first);
        }
        Ok(())
    }

    /// The sum of the squares of the gradient's elements.
    pub fn gradient_squares(&self) -> f64 {
        match self.gradient.dtype() {
            DType::Fp16 => sum_of_squares::<f16>(values(&self.gradient)),
            _ => sum_of_squares::<f32>(values(&self.gradient)),
        }
    }

    /// An update of the weights by the gradient, see [`AdamW::update`].
    ///
    /// # Panics
    /// If there is no gradient yet.
    pub fn update(&mut self, adamw: &AdamW, update: u64, lr: f64, factor: f32) {
        let Parameter { values: weights, gradient, moments, .. } = self;
        match gradient.dtype() {
            DType::Fp16 => adamw.update::<f16>(update, lr, factor, values(gradient), weights, moments),
            _ => adamw.update::<f32>(update, lr, factor, values(gradient), weights, moments),
        }
    }
}

/// The gradient of a parameter that has had no step.
pub(crate) fn no_gradient() -> Tensor {
    Tensor::vector(Vec::<f32>::new())
}

/// The names of a parameter's moments in checkpoints.
fn moment_names(name: &str) -> [String; 2] {
    [format!("{name}.first_moment"), format!("{name}.second_moment")]
}

/// The model's weights.
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    /// The dimensions.
    pub config: ModelConfig,
    /// The parameters, as [`parameters`] lists them.
    pub parameters: Vec<Parameter>,
}

impl Model {
    /// The model with its initial weights.
    ///
    /// # Errors
    ///
    /// When the system has no memory for a tensor.
    pub fn new(config: &ModelConfig, seed: u64) -> Result<Model, ModelError> {
        let parameters = parameters(config).into_iter().map(|description| Parameter::new(description, seed));
        Ok(Model { config: config.clone(), parameters: parameters.collect::<Result<_, _>>()? })
    }

    /// The model of these values, which `values` gives for each parameter's name, row-major.
    ///
    /// # Errors
    ///
    /// When `values` fails, or gives another number of values than the parameter has, or the system has no memory.
    pub fn with_values(
        config: &ModelConfig,
        mut values: impl FnMut(&str) -> Result<Vec<f32>, ModelError>,
    ) -> Result<Model, ModelError> {
        let with_values = |description: Description| {
            let values = values(&description.name)?;
            let (shape, found) = (&description.shape, values.len());
            if shape.iter().try_fold(1usize, |count, &dim| count.checked_mul(dim)) != Some(found) {
                return Err(ModelError::Count { name: description.name, shape: shape.clone(), found });
            }
            Parameter::with_values(description, values)
        };
        let parameters = parameters(config).into_iter().map(with_values).collect::<Result<_, _>>()?;
        Ok(Model { config: config.clone(), parameters })
    }

    /// The parameter of this name.
    ///
    /// # Errors
    ///
    /// When the model has none.
    pub fn parameter(&self, name: &str) -> Result<&Parameter, ModelError> {
        let found = self.parameters.iter().find(|parameter| parameter.name == name);
        found.ok_or_else(|| ModelError::NoParameter(name.to_string()))
    }

    /// The parameter of this name, to be changed.
    ///
    /// # Errors
    ///
    /// When the model has none.
    pub fn parameter_mut(&mut self, name: &str) -> Result<&mut Parameter, ModelError> {
        let found = self.parameters.iter_mut().find(|parameter| parameter.name == name);
        found.ok_or_else(|| ModelError::NoParameter(name.to_string()))
    }

    /// A layer's parameters; `parameters` says which a layer has, as [`layer_parameters`] lists them.
    ///
    /// # Errors
    ///
    /// When the model has not this layer, or other parameters of it where [`parameters`] has them.
    pub fn layer(&self, layer: usize, parameters: &[LayerParameter]) -> Result<&[Parameter], ModelError> {
        let range = self.range_of(layer, parameters)?;
        Ok(self.parameters.get(range).unwrap_or_default())
    }

    /// As [`Model::layer`], to be changed.
    ///
    /// # Errors
    ///
    /// As [`Model::layer`].
    pub fn layer_mut(
        &mut self,
        layer: usize,
        parameters: &[LayerParameter],
    ) -> Result<&mut [Parameter], ModelError> {
        let range = self.range_of(layer, parameters)?;
        Ok(self.parameters.get_mut(range).unwrap_or_default())
    }

    /// Where a layer's parameters stand: after the embedding, and those of the layers before.
    fn range_of(&self, layer: usize, parameters: &[LayerParameter]) -> Result<Range<usize>, ModelError> {
        let first = layer.saturating_mul(parameters.len()).saturating_add(1);
        let mut found = self.parameters.iter().skip(first);
        for parameter in parameters {
            let name = layer_parameter(layer, parameter.name);
            if found.next().is_none_or(|found| found.name != name) {
                return Err(ModelError::NoParameter(name));
            }
        }
        Ok(first..first.saturating_add(parameters.len()))
    }

    /// The number of weights.
    pub fn weights(&self) -> usize {
        self.parameters.iter().map(|parameter| parameter.values.len()).sum()
    }

    /// Adds weights and optimizer state to a checkpoint.
    ///
    /// # Errors
    ///
    /// When the checkpoint has tensors of these names.
    pub fn save(&self, checkpoint: &mut Checkpoint) -> Result<(), CheckpointError> {
        for parameter in &self.parameters {
            let (name, shape) = (&parameter.name, &parameter.shape);
            checkpoint.insert(name, shape, parameter.values.clone())?;
            let [first, second] = moment_names(name);
            checkpoint.insert(&first, shape, parameter.moments.first.clone())?;
            checkpoint.insert(&second, shape, parameter.moments.second.clone())?;
        }
        Ok(())
    }

    /// The model that a checkpoint holds. Shapes are compared before anything is allocated: the configuration
    /// may be a file's.
    ///
    /// # Errors
    ///
    /// When a tensor is missing or has another shape, or the system has no memory for it.
    pub fn load(config: &ModelConfig, checkpoint: &Checkpoint) -> Result<Model, ModelError> {
        let load = |description| Parameter::load(description, checkpoint);
        let parameters = parameters(config).into_iter().map(load).collect::<Result<_, _>>()?;
        Ok(Model { config: config.clone(), parameters })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_that_no_memory_holds_is_an_error() {
        for (vocab, dim) in [(usize::MAX, 2), (1 << 40, 1 << 20)] {
            let refused = Model::new(&ModelConfig { vocab, dim, ..ModelConfig::default() }, 0);
            assert!(matches!(refused, Err(ModelError::Memory(_))), "{vocab} {dim}");
        }
    }

    #[test]
    fn a_layers_parameters_are_those_of_its_names() {
        let config = ModelConfig {
            vocab: 3,
            dim: 4,
            hidden: 5,
            layers: 2,
            heads: 2,
            kv_heads: 1,
            ..ModelConfig::default()
        };
        let (mut model, parameters) = (Model::new(&config, 0).unwrap(), layer_parameters(&config));
        for layer in 0..2 {
            let found = model.layer(layer, &parameters).unwrap();
            assert_eq!(found.len(), parameters.len());
            for (found, parameter) in found.iter().zip(&parameters) {
                assert_eq!(found, model.parameter(&layer_parameter(layer, parameter.name)).unwrap());
            }
        }
        for layer in [2, usize::MAX] {
            let missing = model.layer(layer, &parameters).unwrap_err().to_string();
            assert!(missing.contains(&format!("model.layers.{layer}.{}", parameters[0].name)), "{missing}");
        }
        model.parameters.swap(1, 2);
        assert!(matches!(model.layer_mut(0, &parameters), Err(ModelError::NoParameter(_))));
        assert!(model.layer_mut(1, &parameters).is_ok());
    }

    /// A checkpoint's configuration may name dimensions that its tensors do not have, and no machine could.
    #[test]
    fn shapes_are_compared_before_memory_is_asked_for() {
        let mut checkpoint = Checkpoint::default();
        Model::new(&ModelConfig { vocab: 3, dim: 2, ..ModelConfig::default() }, 0)
            .unwrap()
            .save(&mut checkpoint)
            .unwrap();
        let config = ModelConfig { vocab: 1 << 40, dim: 1 << 20, ..ModelConfig::default() };
        let refused = Model::load(&config, &checkpoint).unwrap_err();
        assert!(matches!(refused, ModelError::Checkpoint(CheckpointError::Shape { .. })), "{refused}");
    }
}
