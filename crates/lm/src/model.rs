//! The zero-layer model: token embedding → final RMSNorm → classifier. Its best is the bigram distribution.

use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::config::ModelConfig;
use crate::optimizer::Moments;
use crate::random::Random;

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
    fn new(name: &'static str, shape: &[usize], decayed: bool, value: impl FnMut() -> f32) -> Parameter {
        let count = shape.iter().product();
        let values: Vec<f32> = std::iter::repeat_with(value).take(count).collect();
        Parameter { name, shape: shape.to_vec(), values, moments: Moments::new(count), decayed }
    }
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
    pub fn new(config: &ModelConfig, seed: u64) -> Model {
        let (vocab, dim) = (config.vocab, config.dim);
        let normal = |stream: u64, scale: f64| {
            let mut random = Random::stream(seed, stream);
            move || (random.normal() * scale) as f32
        };
        let small = 0.1 / (dim as f64).sqrt();
        Model {
            config: config.clone(),
            embedding: Parameter::new("embedding", &[vocab, dim], true, normal(EMBEDDING_STREAM, 1.0)),
            gain: Parameter::new("gain", &[dim], false, || 1.0),
            classifier: Parameter::new("classifier", &[vocab, dim], true, normal(CLASSIFIER_STREAM, small)),
        }
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
            checkpoint.insert(&format!("{name}.first_moment"), shape, parameter.moments.first.clone())?;
            checkpoint.insert(&format!("{name}.second_moment"), shape, parameter.moments.second.clone())?;
        }
        Ok(())
    }

    /// The model that a checkpoint holds.
    ///
    /// # Errors
    ///
    /// When a tensor is missing or has another shape.
    pub fn load(config: &ModelConfig, checkpoint: &Checkpoint) -> Result<Model, CheckpointError> {
        let mut model = Model::new(config, 0);
        for parameter in model.parameters_mut() {
            let (name, shape) = (parameter.name, &parameter.shape);
            parameter.values = checkpoint.tensor(name, shape)?.to_vec();
            parameter.moments.first = checkpoint.tensor(&format!("{name}.first_moment"), shape)?.to_vec();
            parameter.moments.second = checkpoint.tensor(&format!("{name}.second_moment"), shape)?.to_vec();
        }
        Ok(model)
    }
}
