//! Tokenizers, of bytes or in files.

use std::path::{Path, PathBuf};

use anemone_lm::config::ModelConfig;
use anemone_lm::run::RunError;
use anemone_lm::tokenizer::Tokenizer;
use thiserror::Error;

use super::Failure;

/// The name of the tokenizer that is in no file.
const BYTES: &str = "bytes";

/// A tokenizer that cannot be had.
#[derive(Debug, Error)]
enum TokenizerFailure {
    /// Neither bytes nor a file.
    #[error("`{}` is neither `{BYTES}` nor a file; `--tokenizer` takes a tokenizer.json, or a directory with one", .0.display())]
    Unknown(PathBuf),
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
