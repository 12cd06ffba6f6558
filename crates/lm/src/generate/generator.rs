//! A model that continues texts.

use anemone_mil::tensor::Tensor;

use super::{Sampler, position_logits};
use crate::config::Config;
use crate::device::{copy_position, values, with_element, zeros};
use crate::embedding;
use crate::head::{HeadKind, HeadRunner, Runtimes};
use crate::layers::LayersRunner;
use crate::model::{EMBEDDING, Model, NORM_GAIN, classifier};
use crate::network::{NetworkError, head_of};
use crate::programs::head::Head;
use crate::programs::layer::Layer;
use crate::random::Random;
use crate::train::TrainError;

/// A model, prepared to continue one text. It sees the last T tokens of the text, T being the sequences' length that
/// its configuration trains with; without layers the last one.
pub struct Generator {
    config: Config,
    layers: LayersRunner,
    head: HeadRunner,
    /// The tokens that the model sees, `[1, D, 1, T]`.
    x: Tensor,
    /// What comes out of the last layer at the last of them, `[1, D, 1, 1]`.
    last: Tensor,
}

impl Generator {
    /// Prepares a model with its present weights.
    ///
    /// # Errors
    ///
    /// A runtime that refuses a program, or tensors that do not fit in memory.
    pub fn new(config: &Config, model: &Model, runtimes: Runtimes<'_>) -> Result<Generator, NetworkError> {
        let seq = if config.model.layers == 0 { 1 } else { config.train.seq };
        let head = Head { positions: 1, ..head_of(config) };
        let (dtype, dim) = (head.target.mil_dtype(), config.model.dim);
        let layer = Layer { config: &config.model, batch: 1, seq, target: head.target };
        let mut layers = LayersRunner::new(&layer, None, runtimes.layers)?;
        layers.set_weights(model)?;
        let mut head = HeadRunner::new(head, HeadKind::Programs, config.loss_options(), runtimes)?;
        let classifier = &model.parameter(classifier(&config.model))?.values;
        head.set_weights(&model.parameter(NORM_GAIN)?.values, classifier)?;
        let (x, last) = (zeros(dtype, &[1, dim, 1, seq])?, zeros(dtype, &[1, dim, 1, 1])?);
        Ok(Generator { config: config.clone(), layers, head, x, last })
    }

    /// `count` tokens, each drawn from the model's distribution after the ones before it. An empty prompt stands for
    /// token 0.
    ///
    /// # Errors
    ///
    /// A prompt token that the model does not have, a failing runtime, or logits that are no numbers.
    pub fn generate(
        &mut self,
        model: &Model,
        prompt: &[u32],
        count: usize,
        sampler: Sampler,
        random: &mut Random,
    ) -> Result<Vec<u32>, TrainError> {
        let mut text = if prompt.is_empty() { vec![0] } else { prompt.to_vec() };
        let begin = text.len();
        for _ in 0..count {
            let logits = self.next(model, &text)?;
            text.push(sampler.sample(&logits, random)?);
        }
        Ok(text.split_off(begin))
    }

    /// The logits of the token after a text.
    fn next(&mut self, model: &Model, text: &[u32]) -> Result<Vec<f32>, NetworkError> {
        let dim = self.config.model.dim;
        let seq = self.x.shape().last().copied().unwrap_or(1);
        let seen = &text[text.len().saturating_sub(seq)..];
        // What comes after a position does not change it.
        let mut tokens = seen.to_vec();
        tokens.resize(seq, 0);
        let embedding = &model.parameter(EMBEDDING)?.values;
        with_element!(self.config.train.dtype, E => {
            let x = self.x.as_mut_slice::<E>().unwrap_or_default();
            embedding::gather(embedding, dim, &tokens, x)?;
        });
        copy_position(self.layers.run(&self.x)?, seen.len() - 1, &mut self.last);
        let logits = self.head.logits(&self.last)?;
        Ok(with_element!(self.config.train.dtype, E => {
            position_logits(values::<E>(logits), 1, 0).unwrap_or_default()
        }))
    }
}
