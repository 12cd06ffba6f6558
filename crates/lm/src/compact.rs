//! Training over the tokens that the data have, of a model with more.
//!
//! A token that the data lack is never looked up and never a target: what it changes is the sum over the vocabulary,
//! which its logits are part of. Left out of embedding and classifier, it costs nothing, and what is trained is, to the
//! bit, a model of the smaller vocabulary whose tokens are the data's in ascending order. The whole model has its rows
//! as they were at first, untouched by weight decay, with moments of zero, which is what they are for rows that no
//! gradient has reached. So a checkpoint needs nothing more than the data to go on from.
//!
//! The probabilities of the whole model are over all tokens again: there, those that were left out have a part, of which
//! training knows nothing.

use rayon::prelude::*;

use crate::config::ModelConfig;
use crate::data::{Batch, Dataset, IGNORE_INDEX, Tokens};
use crate::model::{CLASSIFIER, EMBEDDING, Model, ModelError, Parameter, allocate, no_gradient};
use crate::optimizer::Moments;

/// Tokens that are looked at in one go by one thread.
const CHUNK: usize = 1 << 20;
/// What stands for a token that the data lack, which no model has.
const ABSENT: u32 = u32::MAX;

/// Which of a model's tokens are trained, and the others' rows.
#[derive(Debug)]
pub struct CompactVocab {
    /// By token of the whole model, that of the compact one, or [`ABSENT`].
    compact: Vec<u32>,
    /// By token of the compact model, that of the whole one, ascending.
    whole: Vec<u32>,
    /// The rows of the tokens that the data lack, ascending, by parameter: the embedding's, the classifier's.
    absent: Vec<(String, Vec<f32>)>,
}

impl CompactVocab {
    /// Takes a whole model apart: leaves the one over the tokens of `data`, all below V.
    ///
    /// # Errors
    ///
    /// When the system has no memory for a tensor.
    pub fn new(data: &Dataset, model: Model) -> Result<(CompactVocab, Model), ModelError> {
        let vocab = model.config.vocab;
        let mut present = present(data.train(), vocab);
        let also = self::present(data.validation(), vocab);
        present.iter_mut().zip(also).for_each(|(present, also)| *present |= also);
        // A model has two tokens at least.
        for token in 0..vocab.min(2) {
            present[token] |= present.iter().filter(|&&present| present).count() < 2;
        }
        let whole: Vec<u32> = (0..).zip(&present).filter(|(_, present)| **present).map(|(i, _)| i).collect();
        let mut compact = vec![ABSENT; vocab];
        (0..).zip(&whole).for_each(|(i, &token)| compact[token as usize] = i);
        let mut this = CompactVocab { compact, whole, absent: Vec::new() };

        let config = ModelConfig { vocab: this.whole.len(), ..model.config };
        let (dim, mut parameters) = (config.dim, Vec::new());
        for parameter in model.parameters {
            parameters.push(if this.has_rows(&parameter) { this.take(parameter, dim)? } else { parameter });
        }
        Ok((this, Model { config, parameters }))
    }

    /// The number of tokens that are trained.
    pub fn len(&self) -> usize {
        self.whole.len()
    }

    /// Whether there are none, which is never so.
    pub fn is_empty(&self) -> bool {
        self.whole.is_empty()
    }

    /// The compact model's number for a token, if the data have it.
    pub fn compact(&self, token: u32) -> Option<u32> {
        self.compact.get(token as usize).copied().filter(|&token| token != ABSENT)
    }

    /// The whole model's number for a token of the compact one.
    pub fn whole(&self, token: u32) -> u32 {
        self.whole.get(token as usize).copied().unwrap_or(ABSENT)
    }

    /// A batch of the data in the compact model's numbers. A token that the data did not have becomes one that no model
    /// has.
    pub fn batch(&self, batch: Batch) -> Batch {
        let compact = |token| self.compact(token).unwrap_or(ABSENT);
        let target = |target: i32| match u32::try_from(target) {
            Ok(token) => i32::try_from(compact(token)).unwrap_or(i32::MAX),
            Err(_) => IGNORE_INDEX,
        };
        // Padding is token 0, which the data may lack, and changes nothing.
        let input = |(&token, &target): (&u32, &i32)| match target {
            IGNORE_INDEX => self.compact(token).unwrap_or(0),
            _ => compact(token),
        };
        Batch {
            inputs: batch.inputs.iter().zip(&batch.targets).map(input).collect(),
            targets: batch.targets.into_iter().map(target).collect(),
        }
    }

    /// The whole model again, without gradients.
    ///
    /// # Errors
    ///
    /// When the system has no memory for a tensor.
    pub fn whole_model(&self, model: &Model) -> Result<Model, ModelError> {
        let config = ModelConfig { vocab: self.compact.len(), ..model.config.clone() };
        let parameters = model.parameters.iter().map(|parameter| {
            let Parameter { name, shape, values, moments, decay, .. } = parameter;
            let mut whole = Parameter {
                name: name.clone(),
                shape: shape.clone(),
                values: Vec::new(),
                gradient: no_gradient(),
                moments: Moments { first: Vec::new(), second: Vec::new() },
                decay: *decay,
            };
            let absent = self.absent.iter().find(|(of, _)| of == name);
            let Some((_, absent)) = absent else {
                whole.values = allocate(shape, values.iter().copied())?;
                whole.moments.first = allocate(shape, moments.first.iter().copied())?;
                whole.moments.second = allocate(shape, moments.second.iter().copied())?;
                return Ok(whole);
            };
            whole.shape[0] = self.compact.len();
            whole.values = self.merge(&whole.shape, values, Some(absent))?;
            whole.moments.first = self.merge(&whole.shape, &moments.first, None)?;
            whole.moments.second = self.merge(&whole.shape, &moments.second, None)?;
            Ok(whole)
        });
        let parameters = parameters.collect::<Result<_, ModelError>>()?;
        Ok(Model { config, parameters })
    }

    /// Whether a parameter has a row for each token.
    fn has_rows(&self, parameter: &Parameter) -> bool {
        [EMBEDDING, CLASSIFIER].contains(&parameter.name.as_str())
    }

    /// The compact model's parameter; keeps the values of the rows that it has not.
    fn take(&mut self, parameter: Parameter, dim: usize) -> Result<Parameter, ModelError> {
        let shape = vec![self.whole.len(), dim];
        let rows = |values: &[f32]| {
            let row = |&token: &u32| &values[token as usize * dim..][..dim];
            allocate(&shape, self.whole.iter().flat_map(row).copied())
        };
        let moments =
            Moments { first: rows(&parameter.moments.first)?, second: rows(&parameter.moments.second)? };
        let values = rows(&parameter.values)?;
        let absent =
            parameter.values.chunks(dim).zip(&self.compact).filter(|(_, compact)| **compact == ABSENT);
        let absent_shape = [self.compact.len() - self.whole.len(), dim];
        let absent = allocate(&absent_shape, absent.flat_map(|(row, _)| row).copied())?;
        self.absent.push((parameter.name.clone(), absent));
        Ok(Parameter { shape, values, gradient: no_gradient(), moments, ..parameter })
    }

    /// Rows of the compact model and rows of absent tokens in the whole model's order; zeros where there are none.
    fn merge(&self, shape: &[usize], rows: &[f32], absent: Option<&[f32]>) -> Result<Vec<f32>, ModelError> {
        let dim = shape[1];
        let mut merged = allocate(shape, std::iter::repeat(0.0))?;
        let (mut rows, mut absent) = (rows.chunks(dim), absent.map(|absent| absent.chunks(dim)));
        for (to, &compact) in merged.chunks_mut(dim).zip(&self.compact) {
            let row = if compact == ABSENT { absent.as_mut().and_then(Iterator::next) } else { rows.next() };
            if let Some(row) = row {
                to.copy_from_slice(row);
            }
        }
        Ok(merged)
    }
}

/// Which tokens there are among these.
fn present(tokens: &Tokens, vocab: usize) -> Vec<bool> {
    let none = || vec![false; vocab];
    let chunks = (0..tokens.len().div_ceil(CHUNK)).into_par_iter();
    let found = chunks.fold(none, |mut found, i| {
        for token in tokens.window(i * CHUNK..tokens.len().min((i + 1) * CHUNK)) {
            if let Some(found) = found.get_mut(token as usize) {
                *found = true;
            }
        }
        found
    });
    found.reduce(none, |mut one, other| {
        one.iter_mut().zip(other).for_each(|(one, other)| *one |= other);
        one
    })
}
