//! A model that continues texts.

use anemone_mil::tensor::Tensor;

use super::decoder::Decoder;
use super::{Sampler, position_logits};
use crate::config::Config;
use crate::device::{copy_position, values, with_element, zeros};
use crate::embedding;
use crate::head::{HeadKind, HeadRunner, Runtimes};
use crate::model::{EMBEDDING, Model, NORM_GAIN, classifier};
use crate::network::{NetworkError, head_of};
use crate::programs::head::Head;
use crate::random::Random;
use crate::train::TrainError;

/// A model, prepared to continue one text.
///
/// Keys and values of the tokens before are kept, so that each token is computed once. There are as many of them as
/// tokens in a sequence that the configuration trains with, T; when they are full, the text's last T/2 tokens are begun
/// with anew. Without layers the last token is all that the model sees.
pub struct Generator<'a> {
    config: Config,
    decoder: Option<Decoder<'a>>,
    head: HeadRunner,
    /// What of the text the model sees.
    seen: Vec<u32>,
    /// What goes into the head, or the first layer, at one position, `[1, D, 1, 1]`.
    last: Tensor,
}

impl<'a> Generator<'a> {
    /// Prepares a model with its present weights. Its layers, position by position, are the host's.
    ///
    /// # Errors
    ///
    /// A runtime that refuses a program, or tensors that do not fit in memory.
    pub fn new(
        config: &Config,
        model: &Model,
        runtimes: Runtimes<'a>,
    ) -> Result<Generator<'a>, NetworkError> {
        let head = Head { positions: 1, ..head_of(config) };
        let decoder = match config.model.layers {
            0 => None,
            _ => Some(Decoder::new(model, config.train.seq.max(1), head.target, runtimes.products)?),
        };
        let last = zeros(head.target.mil_dtype(), &[1, config.model.dim, 1, 1])?;
        let mut head = HeadRunner::new(head, HeadKind::Programs, config.loss_options(), runtimes)?;
        let classifier = &model.parameter(classifier(&config.model))?.values;
        head.set_weights(&model.parameter(NORM_GAIN)?.values, classifier)?;
        Ok(Generator { config: config.clone(), decoder, head, seen: Vec::new(), last })
    }

    /// Continues a text by `count` tokens, each drawn from the model's distribution after the ones before it, and given to
    /// `each` as soon as it is drawn; it says whether another is wanted. An empty prompt stands for token 0.
    ///
    /// # Errors
    ///
    /// A prompt token that the model does not have, a failing runtime, or logits that are no numbers.
    pub fn generate(
        &mut self,
        model: &Model,
        prompt: &[u32],
        count: usize,
        (sampler, random): (Sampler, &mut Random),
        mut each: impl FnMut(u32) -> bool,
    ) -> Result<(), TrainError> {
        self.forget();
        let mut next = if prompt.is_empty() { vec![0] } else { prompt.to_vec() };
        for _ in 0..count {
            let logits = self.logits(model, &next)?;
            let token = sampler.sample(&logits, random)?;
            if !each(token) {
                break;
            }
            next = vec![token];
        }
        Ok(())
    }

    /// Begins another text.
    pub fn forget(&mut self) {
        self.seen.clear();
    }

    /// The logits `[V]` of what comes after the text so far and these tokens, of which there must be one, and which are part
    /// of the text from then on.
    ///
    /// # Errors
    ///
    /// No token, one that the model does not have, or a failing runtime.
    pub fn logits(&mut self, model: &Model, tokens: &[u32]) -> Result<Vec<f32>, NetworkError> {
        with_element!(self.config.train.dtype, E => {
            if let Err(error) = self.see::<E>(model, tokens) {
                // What is in the cache is not known any more.
                self.forget();
                return Err(error);
            }
            let logits = self.head.logits(&self.last)?;
            Ok(position_logits(values::<E>(logits), 1, 0).unwrap_or_default())
        })
    }

    /// Leaves what comes out of the last layer after these tokens in `last`.
    fn see<E>(&mut self, model: &Model, tokens: &[u32]) -> Result<(), NetworkError>
    where
        E: crate::element::DeviceElement + anemone_mil::tensor::Element,
    {
        let Generator { config, decoder, seen, last, .. } = self;
        let (dim, table) = (config.model.dim, &model.parameter(EMBEDDING)?.values);
        let embed = |tokens: &[u32], x: &mut Tensor| {
            embedding::gather(table, dim, tokens, x.as_mut_slice::<E>().unwrap_or_default())
        };
        let Some(decoder) = decoder.as_mut().filter(|_| !tokens.is_empty()) else {
            embed(&tokens[tokens.len().saturating_sub(1)..], last)?;
            return Ok(());
        };
        let known = seen.len();
        seen.extend(tokens);
        if known > 0 && seen.len() <= decoder.positions() {
            for &token in tokens {
                embed(&[token], last)?;
                let y = decoder.go_on::<E>(last)?;
                last.clone_from(y);
            }
            return Ok(());
        }
        if seen.len() > decoder.positions() {
            let kept = (decoder.positions() / 2).max(1);
            seen.drain(..seen.len() - kept);
        }
        let mut padded = seen.clone();
        // What comes after a position does not change it.
        padded.resize(decoder.padded(seen.len()), 0);
        let mut x = zeros(last.dtype(), &[1, dim, 1, padded.len()])?;
        embed(&padded, &mut x)?;
        copy_position(decoder.begin::<E>(x, seen.len())?, seen.len() - 1, last);
        Ok(())
    }
}
