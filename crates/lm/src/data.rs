//! Text and files of tokens as training data: the split off validation part, batches and evaluation windows.

#[cfg(test)]
mod tests;
mod tokens;

use crate::files::{FileError, read_bounded};
use crate::random::Random;
use crate::stories;
use crate::tokenizer::{Tokenizer, TokenizerError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use thiserror::Error;

pub use tokens::{TokenDtype, TokenFileError, Tokens};

/// The target of a position that does not count, as in PyTorch's `ignore_index`.
pub use anemone_mil::linear_cross_entropy::IGNORE_INDEX;

/// The most text that is read into memory, over all files: 4 GiB.
pub const MAX_TEXT_BYTES: u64 = 4 << 30;
/// The most tokens of files of tokens that are kept for validation, where their last tenth is more: 2²⁰.
pub const MAX_VALIDATION_TOKENS: usize = 1 << 20;

/// What makes a text unusable as training data.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DataError {
    /// A file could not be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// No file was named.
    #[error("no data file was given")]
    NoFiles,
    /// The files together are larger than what is read into memory.
    #[error("the data files up to {} have more than {max_bytes} bytes together", path.display())]
    TooLarge {
        /// The file that is too much.
        path: PathBuf,
        /// The limit for all files.
        max_bytes: u64,
    },
    /// A file has no bytes.
    #[error("{} is empty", .0.display())]
    Empty(PathBuf),
    /// The text cannot be tokenized.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// A file of tokens cannot be used.
    #[error(transparent)]
    TokenFile(#[from] TokenFileError),
    /// The training part has no sequence of the asked length.
    #[error(
        "the training data have {tokens} tokens, fewer than one sequence needs ({needed}); use more data or a shorter sequence"
    )]
    TrainingTooShort {
        /// Tokens of the training part.
        tokens: usize,
        /// T + 1: a sequence and the target of its last token.
        needed: usize,
    },
    /// What comes after the split has no token to predict.
    #[error("the validation data (the last tenth) have {tokens} tokens, at least 2 are needed")]
    ValidationTooShort {
        /// Tokens of the validation part.
        tokens: usize,
    },
}

/// Inputs and targets of B sequences of T tokens, sequence after sequence: S = B·T of each.
///
/// As device positions, s = b·T + i.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// The token at each position, in 0..V. Padding has token 0.
    pub inputs: Vec<u32>,
    /// The token that follows each position, or [`IGNORE_INDEX`].
    pub targets: Vec<i32>,
}

impl Batch {
    /// Number of positions with a target: what a mean loss over the batch is a mean of.
    pub fn counted(&self) -> usize {
        self.targets.iter().filter(|&&target| target != IGNORE_INDEX).count()
    }
}

/// What tokens are of.
#[derive(Clone, Debug)]
struct Text {
    text: Arc<[u8]>,
    /// Where its validation part begins.
    split: usize,
    /// The bytes of the validation part that its first token does not stand for.
    predicted: usize,
}

/// Tokens in two parts: nine tenths for training, the last tenth for validation; with the text, if they are of one.
#[derive(Clone, Debug)]
pub struct Dataset {
    train: Tokens,
    validation: Tokens,
    text: Option<Text>,
    seq: usize,
}

impl Dataset {
    /// Tokenizes and splits a text, for sequences of `seq` tokens (T).
    ///
    /// The split is at a boundary: the first end of a paragraph (blank line) after 90 % of the bytes, if it
    /// comes before 95 %; else of a line, else of a word, else exactly at 90 %.
    ///
    /// # Errors
    /// A text that the tokenizer refuses, or whose parts are too short.
    pub fn from_text(
        text: impl Into<Arc<[u8]>>,
        tokenizer: &Tokenizer,
        seq: usize,
    ) -> Result<Self, DataError> {
        let text = text.into();
        let split = split_point(&text);
        let (train, validation) = match tokenizer {
            Tokenizer::Bytes => Tokens::bytes(text.clone()).split_at(split),
            Tokenizer::File(_) => {
                let tokens = |part: &[u8], begin: usize| {
                    let pieces = tokenizer.encode_pieces(part).map_err(|error| error.after(begin))?;
                    Ok::<Tokens, TokenizerError>(Tokens::from_parts(&pieces, tokenizer.vocab()))
                };
                (tokens(&text[..split], 0)?, tokens(&text[split..], split)?)
            }
        };
        let data = Self::from_tokens(train, validation, seq)?;
        let first = tokenizer.decode(&data.validation.window(0..1))?.len();
        let predicted = (text.len() - split).saturating_sub(first);
        Ok(Self { text: Some(Text { text, split, predicted }), ..data })
    }

    /// A dataset of two given token sequences.
    ///
    /// # Errors
    /// [`DataError::TrainingTooShort`] for fewer than T + 1 training tokens, [`DataError::ValidationTooShort`]
    /// for fewer than two of validation.
    pub fn from_tokens(
        train: impl Into<Tokens>,
        validation: impl Into<Tokens>,
        seq: usize,
    ) -> Result<Self, DataError> {
        let (train, validation) = (train.into(), validation.into());
        let needed = seq.saturating_add(1).max(2);
        if train.len() < needed {
            return Err(DataError::TrainingTooShort { tokens: train.len(), needed });
        }
        if validation.len() < 2 {
            return Err(DataError::ValidationTooShort { tokens: validation.len() });
        }
        Ok(Self { train, validation, text: None, seq: seq.max(1) })
    }

    /// The tokens of files, one after the other, which are mapped: see [`Tokens::map`]. The last tenth is for
    /// validation, but at most [`MAX_VALIDATION_TOKENS`].
    ///
    /// # Errors
    /// As [`Tokens::map`] and [`Dataset::from_tokens`]; no file at all.
    pub fn from_token_files(
        paths: &[impl AsRef<Path>],
        dtype: TokenDtype,
        vocab: usize,
        seq: usize,
    ) -> Result<Self, DataError> {
        if paths.is_empty() {
            return Err(DataError::NoFiles);
        }
        let tokens = Tokens::map(paths, dtype, vocab)?;
        let validation = (tokens.len() / 10).min(MAX_VALIDATION_TOKENS);
        let (train, validation) = tokens.split_at(tokens.len() - validation);
        Self::from_tokens(train, validation, seq)
    }

    /// The built-in stories.
    ///
    /// # Errors
    /// As [`Dataset::from_text`]: for a T longer than the text.
    pub fn built_in(tokenizer: &Tokenizer, seq: usize) -> Result<Self, DataError> {
        Self::from_text(built_in_text(), tokenizer, seq)
    }

    /// The text of files, one after the other with nothing between.
    ///
    /// # Errors
    /// A file that cannot be read, is empty, or brings the whole over [`MAX_TEXT_BYTES`]; and as
    /// [`Dataset::from_text`].
    pub fn from_files(
        paths: &[impl AsRef<Path>],
        tokenizer: &Tokenizer,
        seq: usize,
    ) -> Result<Self, DataError> {
        Self::from_text(read_text(paths)?, tokenizer, seq)
    }

    /// The training tokens.
    pub fn train(&self) -> &Tokens {
        &self.train
    }

    /// The validation tokens.
    pub fn validation(&self) -> &Tokens {
        &self.validation
    }

    /// The texts that the training and the validation tokens are of, if they are of a text.
    pub fn texts(&self) -> Option<[&[u8]; 2]> {
        self.text.as_ref().map(|Text { text, split, .. }| text.split_at(*split).into())
    }

    /// The bytes that the validation tokens but the first stand for, if they are of a text: those that a model
    /// predicts.
    pub fn validation_bytes(&self) -> Option<usize> {
        self.text.as_ref().map(|text| text.predicted)
    }

    /// The batch of one step: `batch` (B) sequences at random places of the training tokens, each place as likely as
    /// any other.
    ///
    /// A function of its arguments alone, so a resumed run sees the batches that the interrupted one would
    /// have seen. `step` counts the steps done before.
    pub fn batch(&self, seed: u64, step: u64, batch: usize) -> Batch {
        let mut random = Random::stream(seed, step);
        let mut result = Batch { inputs: Vec::new(), targets: Vec::new() };
        for _ in 0..batch {
            let start = random.below(self.train.len() - self.seq);
            let sequence = self.train.window(start..start + self.seq + 1);
            result.inputs.extend_from_slice(&sequence[..self.seq]);
            result.targets.extend(sequence[1..].iter().map(|&token| target(token)));
        }
        result
    }

    /// The whole validation text as batches of B sequences of T tokens, in order and without overlap.
    ///
    /// Every token but the first is a target exactly once. What is missing to fill the last batch is padding
    /// with ignored targets, so all batches have the same shape; the mean loss over the text is
    /// Σ loss·[`Batch::counted`] / Σ `counted`.
    pub fn validation_batches(&self, batch: usize) -> impl Iterator<Item = Batch> + '_ {
        evaluation_batches(&self.validation, batch, self.seq)
    }
}

/// A whole sequence as batches of B sequences of T tokens; see [`Dataset::validation_batches`].
pub fn evaluation_batches(tokens: &Tokens, batch: usize, seq: usize) -> impl Iterator<Item = Batch> + '_ {
    let positions = batch.max(1).saturating_mul(seq.max(1));
    let predicted = tokens.len().saturating_sub(1);
    (0..predicted.div_ceil(positions)).map(move |i| {
        let start = i * positions;
        let mut inputs = tokens.window(start..tokens.len().min(start.saturating_add(positions) + 1));
        let mut targets: Vec<i32> = inputs[1..].iter().map(|&token| target(token)).collect();
        inputs.pop();
        inputs.resize(positions, 0);
        targets.resize(positions, IGNORE_INDEX);
        Batch { inputs, targets }
    })
}

/// A token as a target. Vocabularies are far below 2³¹; a larger number would be refused as out of range by
/// whoever indexes with it, never taken for an ignored one.
fn target(token: u32) -> i32 {
    i32::try_from(token).unwrap_or(i32::MAX)
}

/// Reads and joins text files; see [`Dataset::from_files`].
///
/// # Errors
/// A file that cannot be read, is empty, or brings the whole over [`MAX_TEXT_BYTES`]; no file at all.
pub fn read_text(paths: &[impl AsRef<Path>]) -> Result<Vec<u8>, DataError> {
    read_text_bounded(paths, MAX_TEXT_BYTES)
}

fn read_text_bounded(paths: &[impl AsRef<Path>], max_bytes: u64) -> Result<Vec<u8>, DataError> {
    let mut text = Vec::new();
    for path in paths {
        let path = path.as_ref();
        let part = read_bounded(path, max_bytes - text.len() as u64).map_err(|error| match error {
            FileError::TooLarge { path, .. } => DataError::TooLarge { path, max_bytes },
            error => error.into(),
        })?;
        if part.is_empty() {
            return Err(DataError::Empty(path.to_owned()));
        }
        if text.is_empty() {
            text = part;
        } else {
            text.extend_from_slice(&part);
        }
    }
    if text.is_empty() { Err(DataError::NoFiles) } else { Ok(text) }
}

/// The built-in stories as a text.
pub fn built_in_text() -> Vec<u8> {
    stories::built_in().into_bytes()
}

/// The part of a text that is trained on; see [`Dataset::from_text`].
pub fn training_part(text: &[u8]) -> &[u8] {
    &text[..split_point(text)]
}

/// Where the validation text begins; see [`Dataset::from_text`].
fn split_point(text: &[u8]) -> usize {
    let from = text.len() - text.len() / 10;
    let window = &text[from..text.len() - text.len() / 20];
    let after = |end: Option<usize>, length: usize| end.map(|at| from + at + length);
    after(window.windows(2).position(|pair| pair == b"\n\n"), 2)
        .or_else(|| after(window.iter().position(|&byte| byte == b'\n'), 1))
        .or_else(|| after(window.iter().position(|byte| byte.is_ascii_whitespace()), 1))
        .unwrap_or(from)
}

/// Cross entropy, in nats per byte, of the byte-bigram model on a validation text: what a model that sees one
/// byte of context can reach, and the mark that the zero-layer model is measured against.
///
/// The model is counted on `train` with add-one smoothing, p(b | a) = (n(a, b) + 1) / (Σ_b n(a, b) + 256), and
/// scored on every pair of neighbours in `validation`: the positions that [`Dataset::validation_batches`]
/// counts. 0 for a validation text without a pair.
pub fn bigram_cross_entropy(train: &[u8], validation: &[u8]) -> f64 {
    const BYTES: usize = 256;
    let mut pairs = vec![0u64; BYTES * BYTES];
    let index = |pair: &[u8]| usize::from(pair[0]) * BYTES + usize::from(pair[1]);
    for pair in train.windows(2) {
        pairs[index(pair)] += 1;
    }
    let totals: Vec<u64> = pairs.chunks(BYTES).map(|row| row.iter().sum()).collect();

    let mut nats = 0.0;
    for pair in validation.windows(2) {
        let total = totals[usize::from(pair[0])];
        let probability = (pairs[index(pair)] + 1) as f64 / (total + BYTES as u64) as f64;
        nats -= probability.ln();
    }
    nats / validation.len().saturating_sub(1).max(1) as f64
}
