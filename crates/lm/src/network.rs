//! A whole model at work: tokens → loss, and the gradients of its parameters.
//!
//! The embedding's rows are looked up by the host, the layers and the head are programs. Between them stands what comes
//! out of the last layer, `[B, D, 1, T]`, which the head sees as `[1, D, 1, B·T]`.

use anemone_mil::linear_cross_entropy::LossTotals;
use anemone_mil::runtime::RuntimeError;
use anemone_mil::tensor::Tensor;
use thiserror::Error;

use crate::config::Config;
use crate::data::Batch;
use crate::device::{OutOfMemory, accumulate, exchange_outer, values, with_element, zeros, zeros_for};
use crate::element::DeviceElement;
use crate::embedding::{self, EmbeddingError};
use crate::head::{HeadError, HeadKind, HeadRunner, Runtimes};
use crate::layers::{Keep, LayersError, LayersRunner};
use crate::model::{EMBEDDING, Model, ModelError, NORM_GAIN, classifier};
use crate::programs::Target;
use crate::programs::head::Head;
use crate::programs::layer::{Layer, layer_parameters};

/// Why a model cannot be prepared or run.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum NetworkError {
    /// The head fails.
    #[error(transparent)]
    Head(#[from] HeadError),
    /// The layers fail.
    #[error(transparent)]
    Layers(#[from] LayersError),
    /// A tensor of the device does not fit in memory.
    #[error(transparent)]
    Memory(#[from] OutOfMemory),
    /// The model has not the parameters that its configuration says.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// Tokens that the embedding does not have.
    #[error(transparent)]
    Embedding(#[from] EmbeddingError),
    /// A batch of another size than was prepared.
    #[error("a batch has {found} tokens, not {expected}")]
    Batch {
        /// Its tokens.
        found: usize,
        /// Those of the configuration.
        expected: usize,
    },
}

impl NetworkError {
    /// What the runtime said, if it is the reason.
    pub fn runtime(&self) -> Option<&RuntimeError> {
        match self {
            NetworkError::Head(HeadError::Runtime(error))
            | NetworkError::Layers(LayersError::Runtime(error)) => Some(error),
            _ => None,
        }
    }
}

/// Which gradients a call of [`Network::gradients`] leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gradients {
    /// Those of its batch.
    Replace,
    /// The sums of its batch's and those that were there.
    Add,
}

/// A model, prepared for batches of B sequences of T tokens.
pub struct Network {
    config: Config,
    layers: LayersRunner,
    head: HeadRunner,
    /// The embedded tokens: as layers see them, or as the head does where there are none.
    x: Tensor,
    /// What comes out of the last layer, as the head sees it.
    hidden: Option<Tensor>,
}

impl Network {
    /// Prepares the model of a configuration, with its head of this kind; for gradients, where `trains`. Weights are
    /// zero until [`Network::set_weights`].
    ///
    /// # Errors
    ///
    /// A runtime that refuses a program, or tensors that do not fit in memory.
    pub fn new(
        config: &Config,
        kind: HeadKind,
        trains: bool,
        runtimes: Runtimes<'_>,
    ) -> Result<Network, NetworkError> {
        let (model, train) = (&config.model, &config.train);
        let head = head_of(config);
        let dtype = head.target.mil_dtype();
        let keep = if train.recompute { Keep::Outputs } else { Keep::Everything };
        let layer = Layer { config: model, batch: train.batch, seq: train.seq, target: head.target };
        let layers = LayersRunner::new(&layer, trains.then_some(keep), runtimes)?;
        let as_head = zeros(dtype, &[1, model.dim, 1, train.positions()])?;
        let (x, hidden) = match layers.input() {
            None => (as_head, None),
            Some(input) => (zeros_for(input)?, Some(as_head)),
        };
        Ok(Network {
            layers,
            head: HeadRunner::new(head, kind, config.loss_options(), runtimes)?,
            config: config.clone(),
            x,
            hidden,
        })
    }

    /// Takes over the model's present weights, rounded once to the device's dtype.
    ///
    /// # Errors
    ///
    /// A model that has not these parameters, or a runtime that cannot replace a constant.
    pub fn set_weights(&mut self, model: &Model) -> Result<(), NetworkError> {
        let classifier = &model.parameter(classifier(&model.config))?.values;
        self.head.set_weights(&model.parameter(NORM_GAIN)?.values, classifier)?;
        Ok(self.layers.set_weights(model)?)
    }

    /// The mean loss of a batch as it is validated, see [`HeadRunner::loss`].
    ///
    /// # Errors
    ///
    /// A token out of range, or a failing runtime.
    pub fn loss(&mut self, model: &Model, batch: &Batch) -> Result<LossTotals, NetworkError> {
        self.embed(model, &batch.inputs)?;
        let Network { config, layers, head, x, hidden } = self;
        let y = layers.run(x)?;
        Ok(head.loss(as_head_sees(config, y, hidden), &batch.targets)?)
    }

    /// The mean loss over the positions of batches that have a target, as it is validated.
    ///
    /// # Errors
    ///
    /// As [`Network::loss`].
    pub fn mean_loss(
        &mut self,
        model: &Model,
        batches: impl IntoIterator<Item = Batch>,
    ) -> Result<f64, NetworkError> {
        let (mut nats, mut counted) = (0.0, 0usize);
        for batch in batches {
            let loss = self.loss(model, &batch)?;
            nats += loss.loss * loss.counted as f64;
            counted += loss.counted;
        }
        Ok(nats / counted.max(1) as f64)
    }

    /// What comes out of the last layer for the tokens of a batch, `[1, D, 1, S]`.
    ///
    /// # Errors
    ///
    /// As [`Network::loss`].
    pub fn hidden(&mut self, model: &Model, inputs: &[u32]) -> Result<&Tensor, NetworkError> {
        self.embed(model, inputs)?;
        let Network { config, layers, x, hidden, .. } = self;
        Ok(as_head_sees(config, layers.run(x)?, hidden))
    }

    /// The logits for hidden vectors `[1, D, 1, S]`, see [`HeadRunner::logits`].
    ///
    /// # Errors
    ///
    /// As [`HeadRunner::logits`].
    pub fn logits(&mut self, hidden: &Tensor) -> Result<&Tensor, NetworkError> {
        Ok(self.head.logits(hidden)?)
    }

    /// The loss of a batch, with all that the options say. Its gradients, times `scale`, go to the model's parameters.
    ///
    /// # Errors
    ///
    /// As [`Network::loss`].
    pub fn gradients(
        &mut self,
        model: &mut Model,
        batch: &Batch,
        scale: f32,
        gradients: Gradients,
    ) -> Result<LossTotals, NetworkError> {
        let first = gradients == Gradients::Replace;
        self.embed(model, &batch.inputs)?;
        let Network { config, layers, head, x, hidden } = self;
        let y = layers.run_for_gradients(x)?;
        let (loss, head) = head.step(as_head_sees(config, y, hidden), &batch.targets, scale)?;
        accumulate(head.dgain, model.parameter_mut(NORM_GAIN)?.gradient_sums()?, first);
        accumulate(head.dembed, model.parameter_mut(classifier(&config.model))?.gradient_sums()?, first);
        if first && !config.model.tied {
            model.parameter_mut(EMBEDDING)?.gradient_sums()?.fill(0.0);
        }
        let mut sequence = config.train.positions();
        let mut d_x = head.dx;
        if let Some(d_y) = layers.d_output() {
            exchange_outer(head.dx, d_y, [config.model.dim, config.train.batch]);
            sequence = config.train.seq;
            let parameters = layer_parameters(&config.model);
            let d_first = layers.backward(x, |layer, gradients| {
                for (parameter, gradient) in model.layer_mut(layer, &parameters)?.iter_mut().zip(gradients) {
                    parameter.take_gradient(gradient, first)?;
                }
                Ok(())
            })?;
            d_x = d_first.unwrap_or(d_x);
        }
        let embedding = model.parameter_mut(EMBEDDING)?.gradient_sums()?;
        with_element!(config.train.dtype, E => {
            scatter(values::<E>(d_x), &batch.inputs, sequence, config.model.dim, embedding)?;
        });
        Ok(loss)
    }

    /// Looks up the tokens of a batch.
    fn embed(&mut self, model: &Model, tokens: &[u32]) -> Result<(), NetworkError> {
        let (found, expected) = (tokens.len(), self.config.train.positions());
        if found != expected {
            return Err(NetworkError::Batch { found, expected });
        }
        let (dim, embedding) = (self.config.model.dim, &model.parameter(EMBEDDING)?.values);
        let sequence =
            if self.hidden.is_some() { self.config.train.seq } else { self.config.train.positions() };
        with_element!(self.config.train.dtype, E => {
            let x = self.x.as_mut_slice::<E>().unwrap_or_default();
            for (tokens, x) in tokens.chunks(sequence).zip(x.chunks_mut(dim * sequence)) {
                embedding::gather(embedding, dim, tokens, x)?;
            }
        });
        Ok(())
    }
}

/// Adds the gradients of looked-up tokens, of each sequence.
fn scatter<E: DeviceElement>(
    d_x: &[E],
    tokens: &[u32],
    sequence: usize,
    dim: usize,
    gradient: &mut [f32],
) -> Result<(), EmbeddingError> {
    for (tokens, d_x) in tokens.chunks(sequence).zip(d_x.chunks(dim * sequence)) {
        embedding::scatter_add(d_x, dim, tokens, 1.0, gradient)?;
    }
    Ok(())
}

/// What comes out of the last layer, in the head's layout.
fn as_head_sees<'a>(config: &Config, y: &'a Tensor, hidden: &'a mut Option<Tensor>) -> &'a Tensor {
    match hidden {
        None => y,
        Some(hidden) => {
            exchange_outer(y, hidden, [config.train.batch, config.model.dim]);
            hidden
        }
    }
}

/// The head of a configuration's model over a whole batch.
pub fn head_of(config: &Config) -> Head {
    Head {
        vocab: config.model.vocab,
        dim: config.model.dim,
        positions: config.train.positions(),
        eps: config.model.norm_eps,
        target: Target::new(config.train.dtype),
    }
}
