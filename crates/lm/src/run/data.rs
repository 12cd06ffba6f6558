//! What a run trains on, and what its checkpoints remember of that.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::RunError;
use crate::checkpoint::Checkpoint;
use crate::config::Config;
use crate::data::{DataError, Dataset, TokenDtype, Tokens, bigram_cross_entropy};
use crate::interchange::hugging_face;
use crate::tokenizer::Tokenizer;

/// The checkpoint's key of the tokenizer.
pub(super) const TOKENIZER_KEY: &str = "tokenizer";

/// Where a run's data come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DataSource {
    /// The built-in stories.
    BuiltIn,
    /// Text files, one after the other.
    Files(Vec<PathBuf>),
    /// Files of tokens, one after the other.
    Tokens {
        /// The files.
        files: Vec<PathBuf>,
        /// How they hold their tokens.
        dtype: TokenDtype,
    },
}

impl DataSource {
    /// The files, if it is not built in.
    pub fn files(&self) -> &[PathBuf] {
        match self {
            DataSource::BuiltIn => &[],
            DataSource::Files(files) | DataSource::Tokens { files, .. } => files,
        }
    }

    /// Reads the text, as tokens of `tokenizer`, or maps the tokens, all below V = `vocab`; for windows of T = `seq`.
    ///
    /// # Errors
    /// A file that cannot be read, data that are too short, or a token that is not below V.
    pub fn load(&self, tokenizer: &Tokenizer, vocab: usize, seq: usize) -> Result<Dataset, DataError> {
        match self {
            DataSource::BuiltIn => Dataset::built_in(tokenizer, seq),
            DataSource::Files(paths) => Dataset::from_files(paths, tokenizer, seq),
            DataSource::Tokens { files, dtype } => Dataset::from_token_files(files, *dtype, vocab, seq),
        }
    }
}

/// What a run trains on.
#[derive(Clone, Debug)]
pub struct RunData {
    /// Where the data come from.
    pub source: DataSource,
    /// How text becomes tokens; none for data that are tokens of no known text.
    pub tokenizer: Option<Tokenizer>,
}

/// Bytes as tokens of what is text.
impl From<DataSource> for RunData {
    fn from(source: DataSource) -> RunData {
        let tokenizer = match source {
            DataSource::BuiltIn | DataSource::Files(_) => Some(Tokenizer::Bytes),
            DataSource::Tokens { .. } => None,
        };
        RunData { source, tokenizer }
    }
}

/// What a checkpoint remembers of the tokenizer, which is in a file of the directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Remembered {
    Unknown,
    Bytes,
    File {
        /// Of its file.
        fingerprint: u64,
    },
}

impl Remembered {
    pub(super) fn of(tokenizer: Option<&Tokenizer>) -> Remembered {
        match tokenizer {
            None => Remembered::Unknown,
            Some(Tokenizer::Bytes) => Remembered::Bytes,
            Some(Tokenizer::File(file)) => Remembered::File { fingerprint: fnv(file.json().bytes()) },
        }
    }
}

/// The tokenizer of the run in a directory, as its checkpoint remembers it. Older checkpoints are of bytes.
pub(super) fn recall_tokenizer(
    directory: &Path,
    checkpoint: &Checkpoint,
) -> Result<Option<Tokenizer>, RunError> {
    let remembered = match checkpoint.metadata.contains_key(TOKENIZER_KEY) {
        true => checkpoint.get(TOKENIZER_KEY)?,
        false => Remembered::Bytes,
    };
    let tokenizer = match remembered {
        Remembered::Unknown => None,
        Remembered::Bytes => Some(Tokenizer::Bytes),
        Remembered::File { .. } => Some(Tokenizer::read(&directory.join(hugging_face::TOKENIZER))?),
    };
    if Remembered::of(tokenizer.as_ref()) != remembered {
        return Err(RunError::ChangedTokenizer(directory.join(hugging_face::TOKENIZER)));
    }
    Ok(tokenizer)
}

/// Loads data, and checks that they fit the model.
pub(super) fn load(RunData { source, tokenizer }: &RunData, config: &Config) -> Result<Dataset, RunError> {
    let (vocab, tokens) = (config.model.vocab, tokenizer.as_ref().map_or(0, Tokenizer::vocab));
    if vocab < tokens {
        return Err(RunError::Vocabulary { vocab, tokens });
    }
    let bytes = Tokenizer::Bytes;
    Ok(source.load(tokenizer.as_ref().unwrap_or(&bytes), vocab, config.train.seq)?)
}

/// A fingerprint of bytes (FNV-1a, 64 bits): enough to notice that a file was edited.
fn fnv(bytes: impl Iterator<Item = u8>) -> u64 {
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

fn fingerprint(tokens: &Tokens) -> u64 {
    fnv(tokens.iter().flat_map(u32::to_le_bytes))
}

/// A fingerprint of the tokens of each part: training and validation.
pub(super) fn data_fingerprint(data: &Dataset) -> [u64; 2] {
    [fingerprint(data.train()), fingerprint(data.validation())]
}

/// Cross entropy of the byte-bigram model, for data that are of a text.
pub(super) fn bigram(data: &Dataset) -> Option<f64> {
    data.texts().map(|[train, validation]| bigram_cross_entropy(train, validation))
}
