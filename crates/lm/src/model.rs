//! The zero-layer model: token embedding → final RMSNorm → classifier. Its best is the bigram distribution.

use anemone_mil::mapped::room_for;
use anemone_mil::types::{DType, TensorType};
use thiserror::Error;

use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::config::ModelConfig;
use crate::optimizer::Moments;
use crate::random::Random;

/// Why a model cannot be had.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ModelError {
    /// The system has no memory for a tensor.
    #[error("the model's {0} does not fit in memory")]
    Memory(TensorType),
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

/// One tensor of fp32 master weights, with what the optimizer keeps of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameter {
    /// Its name in checkpoints.
    pub name: &'static str,
    /// Its dimensions.
    pub shape: Vec<usize>,
    /// Row-major values.
    pub values: Vec<f32>,
    /// Mean and mean squared gradient.
    pub moments: Moments,
    /// Whether weight decay applies: to matrices, not to gains.
    pub decayed: bool,
}

impl Parameter {
    fn new(
        name: &'static str,
        shape: &[usize],
        decayed: bool,
        value: impl FnMut() -> f32,
    ) -> Result<Parameter, ModelError> {
        let zeros = || allocate(shape, std::iter::repeat(0.0));
        let moments = Moments { first: zeros()?, second: zeros()? };
        let values = allocate(shape, std::iter::repeat_with(value))?;
        Ok(Parameter { name, shape: shape.to_vec(), values, moments, decayed })
    }

    fn load(
        name: &'static str,
        shape: &[usize],
        decayed: bool,
        checkpoint: &Checkpoint,
    ) -> Result<Parameter, ModelError> {
        let [first, second] = moment_names(name);
        let values = |name: &str| allocate(shape, checkpoint.tensor(name, shape)?.iter().copied());
        let moments = Moments { first: values(&first)?, second: values(&second)? };
        Ok(Parameter { name, shape: shape.to_vec(), values: values(name)?, moments, decayed })
    }
}

/// The names of a parameter's moments in checkpoints.
fn moment_names(name: &str) -> [String; 2] {
    [format!("{name}.first_moment"), format!("{name}.second_moment")]
}

/// The model's weights. The classifier has a matrix of its own, not tied to the embedding.
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    /// The dimensions.
    pub config: ModelConfig,
    /// Row per token, `[V, D]`.
    pub embedding: Parameter,
    /// RMSNorm's gain g, `[D]`.
    pub gain: Parameter,
    /// The classifier's matrix E, `[V, D]`.
    pub classifier: Parameter,
}

/// Streams of the seed's random numbers, one per tensor, apart from those of batches.
const EMBEDDING_STREAM: u64 = u64::MAX;
const CLASSIFIER_STREAM: u64 = u64::MAX - 1;

impl Model {
    /// Initial weights: embedding N(0, 1), whose scale RMSNorm takes away, gain 1, and a classifier
    /// N(0, 1/D)·0.1, whose first logits are near 0 so that the first loss is near log V.
    ///
    /// # Errors
    ///
    /// When the system has no memory for a tensor.
    pub fn new(config: &ModelConfig, seed: u64) -> Result<Model, ModelError> {
        let (vocab, dim) = (config.vocab, config.dim);
        let normal = |stream: u64, scale: f64| {
            let mut random = Random::stream(seed, stream);
            move || (random.normal() * scale) as f32
        };
        let small = 0.1 / (dim as f64).sqrt();
        Ok(Model {
            config: config.clone(),
            embedding: Parameter::new("embedding", &[vocab, dim], true, normal(EMBEDDING_STREAM, 1.0))?,
            gain: Parameter::new("gain", &[dim], false, || 1.0)?,
            classifier: Parameter::new("classifier", &[vocab, dim], true, normal(CLASSIFIER_STREAM, small))?,
        })
    }

    /// The tensors, in the order that gradients are kept in.
    pub fn parameters(&self) -> [&Parameter; 3] {
        [&self.embedding, &self.gain, &self.classifier]
    }

    /// The tensors, in the same order.
    pub fn parameters_mut(&mut self) -> [&mut Parameter; 3] {
        [&mut self.embedding, &mut self.gain, &mut self.classifier]
    }

    /// The number of weights.
    pub fn weights(&self) -> usize {
        self.parameters().iter().map(|parameter| parameter.values.len()).sum()
    }

    /// Adds weights and optimizer state to a checkpoint.
    ///
    /// # Errors
    ///
    /// When the checkpoint has tensors of these names.
    pub fn save(&self, checkpoint: &mut Checkpoint) -> Result<(), CheckpointError> {
        for parameter in self.parameters() {
            let (name, shape) = (parameter.name, &parameter.shape);
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
        let (vocab, dim) = (config.vocab, config.dim);
        Ok(Model {
            config: config.clone(),
            embedding: Parameter::load("embedding", &[vocab, dim], true, checkpoint)?,
            gain: Parameter::load("gain", &[dim], false, checkpoint)?,
            classifier: Parameter::load("classifier", &[vocab, dim], true, checkpoint)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_that_no_memory_holds_is_an_error() {
        for (vocab, dim) in [(usize::MAX, 2), (1 << 40, 1 << 20)] {
            let refused = Model::new(&ModelConfig { vocab, dim }, 0);
            assert!(matches!(refused, Err(ModelError::Memory(_))), "{vocab} {dim}");
        }
    }

    /// A checkpoint's configuration may name dimensions that its tensors do not have, and no machine could.
    #[test]
    fn shapes_are_compared_before_memory_is_asked_for() {
        let mut checkpoint = Checkpoint::default();
        Model::new(&ModelConfig { vocab: 3, dim: 2 }, 0).unwrap().save(&mut checkpoint).unwrap();
        let config = ModelConfig { vocab: 1 << 40, dim: 1 << 20 };
        let refused = Model::load(&config, &checkpoint).unwrap_err();
        assert!(matches!(refused, ModelError::Checkpoint(CheckpointError::Shape { .. })), "{refused}");
    }
}
