//! Tokenizers, of bytes or in files.

use std::path::{Path, PathBuf};

use anemone_lm::config::ModelConfig;
use anemone_lm::run::RunError;
use anemone_lm::tokenizer::{MAX_LEARNED_VOCAB, MIN_LEARNED_VOCAB, Tokenizer};
use thiserror::Error;

use super::Failure;

/// The name of the tokenizer that is in no file.
const BYTES: &str = "bytes";

/// The name of the tokenizer that is learned from the data; a number of tokens may follow.
const LEARNED: &str = "bpe";
/// The tokens that are learned unless said otherwise.
const LEARNED_VOCAB: usize = 2048;

/// A tokenizer that cannot be had.
#[derive(Debug, Error)]
enum TokenizerFailure {
    /// Neither bytes nor a file.
    #[error("`{}` is neither `{BYTES}` nor a file; `--tokenizer` takes a tokenizer.json, or a directory with one", .0.display())]
    Unknown(PathBuf),
    /// A number of tokens that is none, or out of range.
    #[error(
        "`{0}` is no number of tokens to learn; `--tokenizer {LEARNED}:N` takes {MIN_LEARNED_VOCAB} to {MAX_LEARNED_VOCAB}"
    )]
    Count(String),
    /// Text for a model that was trained on tokens.
    #[error(
        "the model was trained on tokens, so how text becomes its tokens is not known; `--tokenizer FILE` says it"
    )]
    NotKnown,
}

/// The file that a tokenizer is read from: a directory stands for its `tokenizer.json`.
pub(crate) fn file(name: &Path) -> Option<PathBuf> {
    let of_directory = || name.join(anemone_lm::interchange::hugging_face::TOKENIZER);
    (name != Path::new(BYTES)).then(|| if name.is_dir() { of_directory() } else { name.to_owned() })
}

/// How many tokens to learn from the data, if that is what the name says: `bpe`, or `bpe:N`.
///
/// # Errors
///
/// When N is no number, or out of range.
pub(crate) fn learned(name: &Path) -> Result<Option<usize>, Failure> {
    let Some(rest) = name.to_str().and_then(|name| name.strip_prefix(LEARNED)) else { return Ok(None) };
    let count = match rest.strip_prefix(':') {
        Some(count) => count,
        None if rest.is_empty() => return Ok(Some(LEARNED_VOCAB)),
        None => return Ok(None),
    };
    match count.parse() {
        Ok(vocab) if (MIN_LEARNED_VOCAB..=MAX_LEARNED_VOCAB).contains(&vocab) => Ok(Some(vocab)),
        _ => Err(TokenizerFailure::Count(count.to_string()).into()),
    }
}

/// The tokenizer of this name: of bytes, or in a file.
///
/// # Errors
///
/// When there is no such file, or it is not a tokenizer.
pub(crate) fn load(name: &Path) -> Result<Tokenizer, Failure> {
    match file(name) {
        None => Ok(Tokenizer::Bytes),
        Some(_) if !name.exists() => Err(TokenizerFailure::Unknown(name.to_owned()).into()),
        Some(file) => Ok(Tokenizer::read(&file)?),
    }
}

/// The tokenizer that was given, or else the model's own, which fits the model.
///
/// # Errors
///
/// As [`load`]; when there is none, or it has tokens that the model does not.
pub(crate) fn known(
    own: Option<Tokenizer>,
    given: Option<&Path>,
    model: &ModelConfig,
) -> Result<Tokenizer, Failure> {
    let tokenizer = match given {
        Some(name) => load(name)?,
        None => own.ok_or(TokenizerFailure::NotKnown)?,
    };
    let (vocab, tokens) = (model.vocab, tokenizer.vocab());
    if tokens > vocab {
        return Err(RunError::Vocabulary { vocab, tokens }.into());
    }
    Ok(tokenizer)
}
