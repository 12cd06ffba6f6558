//! Text as training data: tokens, the split off validation text, batches and evaluation windows.

use crate::files::{FileError, read_bounded};
use crate::random::Random;
use crate::stories;
use crate::tokenizer::{BYTE_VOCAB, Tokenizer, TokenizerError};
use std::path::{Path, PathBuf};
use thiserror::Error;

/// The target of a position that does not count, as in PyTorch's `ignore_index`.
pub use anemone_mil::linear_cross_entropy::IGNORE_INDEX;

/// The most text that is read into memory, over all files: 4 GiB.
pub const MAX_TEXT_BYTES: u64 = 4 << 30;

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
    /// The training part has no sequence of the asked length.
    #[error(
        "the training text has {tokens} tokens, fewer than one sequence needs ({needed}); use more text or a shorter sequence"
    )]
    TrainingTooShort {
        /// Tokens of the training text.
        tokens: usize,
        /// T + 1: a sequence and the target of its last token.
        needed: usize,
    },
    /// The text after the split has no token to predict.
    #[error("the validation text (the last tenth) has {tokens} tokens, at least 2 are needed")]
    ValidationTooShort {
        /// Tokens of the validation text.
        tokens: usize,
    },
    /// A token that is no byte was given to the byte-bigram model.
    #[error("token {0} is not a byte")]
    NotAByte(u32),
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

/// A tokenized text in two parts: nine tenths for training, the last tenth for validation.
#[derive(Clone, Debug)]
pub struct Dataset {
    train: Vec<u32>,
    validation: Vec<u32>,
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
    pub fn from_text(text: &[u8], tokenizer: &Tokenizer, seq: usize) -> Result<Self, DataError> {
        let (train, validation) = text.split_at(split_point(text));
        Self::from_tokens(tokenizer.encode(train)?, tokenizer.encode(validation)?, seq)
    }

    /// A dataset of two given token sequences.
    ///
    /// # Errors
    /// [`DataError::TrainingTooShort`] for fewer than T + 1 training tokens, [`DataError::ValidationTooShort`]
    /// for fewer than two of validation.
    pub fn from_tokens(train: Vec<u32>, validation: Vec<u32>, seq: usize) -> Result<Self, DataError> {
        let needed = seq.saturating_add(1).max(2);
        if train.len() < needed {
            return Err(DataError::TrainingTooShort { tokens: train.len(), needed });
        }
        if validation.len() < 2 {
            return Err(DataError::ValidationTooShort { tokens: validation.len() });
        }
        Ok(Self { train, validation, seq: seq.max(1) })
    }

    /// The built-in stories.
    ///
    /// # Errors
    /// As [`Dataset::from_text`]: for a T longer than the text.
    pub fn built_in(tokenizer: &Tokenizer, seq: usize) -> Result<Self, DataError> {
        Self::from_text(stories::built_in().as_bytes(), tokenizer, seq)
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
        Self::from_text(&read_text(paths)?, tokenizer, seq)
    }

    /// The training tokens.
    pub fn train(&self) -> &[u32] {
        &self.train
    }

    /// The validation tokens.
    pub fn validation(&self) -> &[u32] {
        &self.validation
    }

    /// The batch of one step: `batch` (B) sequences at random places of the training text.
    ///
    /// A function of its arguments alone, so a resumed run sees the batches that the interrupted one would
    /// have seen. `step` counts the steps done before.
    pub fn batch(&self, seed: u64, step: u64, batch: usize) -> Batch {
        let mut random = Random::stream(seed, step);
        let mut result = Batch { inputs: Vec::new(), targets: Vec::new() };
        for _ in 0..batch {
            let start = random.below(self.train.len() - self.seq);
            result.inputs.extend_from_slice(&self.train[start..start + self.seq]);
            let targets = &self.train[start + 1..start + 1 + self.seq];
            result.targets.extend(targets.iter().map(|&token| target(token)));
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

/// A whole text as batches of B sequences of T tokens; see [`Dataset::validation_batches`].
pub fn evaluation_batches(tokens: &[u32], batch: usize, seq: usize) -> impl Iterator<Item = Batch> + '_ {
    let positions = batch.max(1).saturating_mul(seq.max(1));
    let inputs = &tokens[..tokens.len().saturating_sub(1)];
    let targets = tokens.get(1..).unwrap_or_default();
    inputs.chunks(positions).zip(targets.chunks(positions)).map(move |(inputs, targets)| {
        let mut batch =
            Batch { inputs: inputs.to_vec(), targets: targets.iter().map(|&token| target(token)).collect() };
        batch.inputs.resize(positions, 0);
        batch.targets.resize(positions, IGNORE_INDEX);
        batch
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
///
/// # Errors
/// [`DataError::NotAByte`] for a token over 255.
pub fn bigram_cross_entropy(train: &[u32], validation: &[u32]) -> Result<f64, DataError> {
    let byte = |token: u32| match token as usize {
        byte if byte < BYTE_VOCAB => Ok(byte),
        _ => Err(DataError::NotAByte(token)),
    };
    let mut pairs = vec![0u64; BYTE_VOCAB * BYTE_VOCAB];
    for pair in train.windows(2) {
        pairs[byte(pair[0])? * BYTE_VOCAB + byte(pair[1])?] += 1;
    }
    let totals: Vec<u64> = pairs.chunks(BYTE_VOCAB).map(|row| row.iter().sum()).collect();

    let mut nats = 0.0;
    for pair in validation.windows(2) {
        let (a, b) = (byte(pair[0])?, byte(pair[1])?);
        let probability = (pairs[a * BYTE_VOCAB + b] + 1) as f64 / (totals[a] + BYTE_VOCAB as u64) as f64;
        nats -= probability.ln();
    }
    Ok(nats / validation.len().saturating_sub(1).max(1) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(text: &[u8]) -> Vec<u32> {
        Tokenizer::Bytes.encode(text).unwrap()
    }

    /// 1 000 bytes, none of them white space.
    fn solid() -> Vec<u8> {
        (0..1000).map(|i| b'!' + (i % 90) as u8).collect()
    }

    #[test]
    fn splits_at_the_best_boundary_after_nine_tenths() {
        let mut text = solid();
        assert_eq!(split_point(&text), 900);
        text[940] = b' ';
        assert_eq!(split_point(&text), 941);
        text[942] = b'\n';
        assert_eq!(split_point(&text), 943);
        text[945..947].copy_from_slice(b"\n\n");
        assert_eq!(split_point(&text), 947);
        // Too late, and too early.
        let mut text = solid();
        text[955..957].copy_from_slice(b"\n\n");
        text[890..892].copy_from_slice(b"\n\n");
        assert_eq!(split_point(&text), 900);
        for len in 0..40 {
            assert!(split_point(&text[..len]) <= len);
        }
    }

    #[test]
    fn the_built_in_text_splits_between_stories() {
        let data = Dataset::built_in(&Tokenizer::Bytes, 128).unwrap();
        let train = Tokenizer::Bytes.decode(data.train()).unwrap();
        let validation = Tokenizer::Bytes.decode(data.validation()).unwrap();
        assert!(train.ends_with(b"\n\n") && validation[0].is_ascii_uppercase());
        assert!((0.05..=0.1).contains(&(validation.len() as f64 / (train.len() + validation.len()) as f64)));
        assert_eq!([train, validation].concat(), stories::built_in().into_bytes());
    }

    #[test]
    fn a_batch_is_a_function_of_seed_and_step() {
        let data = Dataset::built_in(&Tokenizer::Bytes, 32).unwrap();
        let batch = data.batch(5, 17, 4);
        assert_eq!((batch.inputs.len(), batch.targets.len(), batch.counted()), (128, 128, 128));
        assert_eq!(batch, data.batch(5, 17, 4));
        assert_ne!(batch, data.batch(5, 18, 4));
        assert_ne!(batch, data.batch(6, 17, 4));
        for (inputs, targets) in batch.inputs.chunks(32).zip(batch.targets.chunks(32)) {
            let followed = |window: &[u32]| {
                window[..32] == *inputs && window[1..].iter().zip(targets).all(|(&a, &b)| a as i32 == b)
            };
            assert!(data.train().windows(33).any(followed));
        }
    }

    #[test]
    fn batches_reach_the_first_and_the_last_token() {
        let data = Dataset::from_tokens((0..10).collect(), vec![1, 2], 3).unwrap();
        let seen: Vec<i32> = (0..200).flat_map(|step| data.batch(0, step, 1).targets).collect();
        let inputs: Vec<u32> = (0..200).flat_map(|step| data.batch(0, step, 1).inputs).collect();
        assert!(seen.contains(&9) && inputs.contains(&0));
        // T + 1 tokens are exactly one possible sequence.
        let data = Dataset::from_tokens(vec![7, 8, 9], vec![1, 2], 2).unwrap();
        assert_eq!(data.batch(0, 0, 1), Batch { inputs: vec![7, 8], targets: vec![8, 9] });
    }

    #[test]
    fn validation_covers_every_pair_once() {
        for len in [2, 7, 12, 13, 14, 25] {
            let validation: Vec<u32> = (100..100 + len).collect();
            let data = Dataset::from_tokens(vec![0; 9], validation, 4).unwrap();
            let batches: Vec<Batch> = data.validation_batches(3).collect();
            assert!(batches.iter().all(|b| b.inputs.len() == 12 && b.targets.len() == 12));
            let pairs: Vec<(u32, i32)> = batches
                .iter()
                .flat_map(|b| b.inputs.iter().copied().zip(b.targets.iter().copied()))
                .filter(|&(_, target)| target != IGNORE_INDEX)
                .collect();
            let expected: Vec<(u32, i32)> = (100..99 + len).map(|t| (t, t as i32 + 1)).collect();
            assert_eq!(pairs, expected);
            assert_eq!(batches.iter().map(Batch::counted).sum::<usize>(), len as usize - 1);
        }
    }

    /// By hand: training pairs ab, ba, ab; p(b|a) = 3/258, p(a|b) = 2/257, p(c|b) = 1/257.
    #[test]
    fn bigram_cross_entropy_by_hand() {
        let nats = bigram_cross_entropy(&bytes(b"abab"), &bytes(b"abc")).unwrap();
        let expected = ((258.0_f64 / 3.0).ln() + 257.0_f64.ln()) / 2.0;
        assert!((nats - expected).abs() < 1e-14);
        assert!(
            (bigram_cross_entropy(&[], &bytes(b"xyz")).unwrap() - 256.0_f64.ln()).abs() < 1e-14,
            "an uncounted model is uniform"
        );
        assert_eq!(bigram_cross_entropy(&bytes(b"ab"), &bytes(b"x")).unwrap(), 0.0);
        assert!(matches!(bigram_cross_entropy(&[1, 256], &[0]), Err(DataError::NotAByte(256))));
    }

    #[test]
    fn files_are_joined_and_checked() {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str, content: &[u8]| {
            let path = directory.path().join(name);
            std::fs::write(&path, content).unwrap();
            path
        };
        let (one, two, empty) = (file("one", b"one "), file("two", b"two\xff"), file("empty", b""));
        assert_eq!(read_text(&[&one, &two]).unwrap(), b"one two\xff");
        assert_eq!(read_text_bounded(&[&one, &two], 8).unwrap().len(), 8);
        let too_large = read_text_bounded(&[&one, &two], 7).unwrap_err().to_string();
        assert!(too_large.ends_with("two have more than 7 bytes together"), "{too_large}");
        assert!(matches!(read_text(&[&one, &empty]), Err(DataError::Empty(path)) if path == empty));
        assert!(matches!(read_text(&[] as &[PathBuf]), Err(DataError::NoFiles)));
        let missing = directory.path().join("missing");
        assert!(read_text(&[&missing]).unwrap_err().to_string().contains("missing: "));

        let load = |path: &PathBuf, seq| Dataset::from_files(&[path], &Tokenizer::Bytes, seq);
        let text = file("text", &solid());
        assert_eq!(load(&text, 899).unwrap().train().len(), 900);
        assert!(matches!(load(&text, 900), Err(DataError::TrainingTooShort { tokens: 900, needed: 901 })));
        assert!(matches!(load(&text, usize::MAX), Err(DataError::TrainingTooShort { .. })));
        assert!(matches!(load(&one, 2), Err(DataError::ValidationTooShort { tokens: 0 })));
    }
}
