//! Text and files of tokens as training data: the split off validation part, batches and evaluation windows.

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
        Self::from_text(stories::built_in().into_bytes(), tokenizer, seq)
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

#[cfg(test)]
mod tests {
    use super::*;

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
        let [train, validation] = [data.train(), data.validation()]
            .map(|tokens| Tokenizer::Bytes.decode(&tokens.to_vec()).unwrap());
        assert_eq!(data.texts(), Some([&train[..], &validation[..]]));
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
        let train = data.train().to_vec();
        for (inputs, targets) in batch.inputs.chunks(32).zip(batch.targets.chunks(32)) {
            let followed = |window: &[u32]| {
                window[..32] == *inputs && window[1..].iter().zip(targets).all(|(&a, &b)| a as i32 == b)
            };
            assert!(train.windows(33).any(followed));
        }
    }

    #[test]
    fn batches_reach_the_first_and_the_last_token() {
        let data = Dataset::from_tokens((0..10).collect::<Vec<u32>>(), vec![1, 2], 3).unwrap();
        let seen: Vec<i32> = (0..200).flat_map(|step| data.batch(0, step, 1).targets).collect();
        let inputs: Vec<u32> = (0..200).flat_map(|step| data.batch(0, step, 1).inputs).collect();
        assert!(seen.contains(&9) && inputs.contains(&0));
        // T + 1 tokens are exactly one possible sequence.
        let data = Dataset::from_tokens(vec![7, 8, 9], vec![1, 2], 2).unwrap();
        assert_eq!(data.batch(0, 0, 1), Batch { inputs: vec![7, 8], targets: vec![8, 9] });
    }

    /// Pearson's χ² of how often each of n places was drawn, less its mean n − 1, in standard deviations √(2(n − 1)).
    fn excess(counts: &[u64]) -> f64 {
        let expected = counts.iter().sum::<u64>() as f64 / counts.len() as f64;
        let squares = counts.iter().map(|&count| (count as f64 - expected).powi(2) / expected);
        let degrees = (counts.len() - 1) as f64;
        (squares.sum::<f64>() - degrees) / (2.0 * degrees).sqrt()
    }

    /// The first and the last place are as likely as any other, also among the sequences of one batch.
    #[test]
    fn every_place_is_as_likely_as_any_other() {
        let (tokens, seq) = (1000, 37);
        let data = Dataset::from_tokens((0..tokens).collect::<Vec<u32>>(), vec![1, 2], seq).unwrap();
        let places = tokens as usize - seq;
        let (mut counts, mut within) = (vec![0u64; places], vec![0u64; places]);
        for step in 0..12_500 {
            let batch = data.batch(3, step, 16);
            for (i, sequence) in batch.inputs.chunks(seq).enumerate() {
                counts[sequence[0] as usize] += 1;
                within[sequence[0] as usize] += u64::from(i == 15);
            }
        }
        for counts in [counts, within] {
            assert!(excess(&counts).abs() < 5.0, "{}", excess(&counts));
        }
    }

    #[test]
    fn files_of_tokens_are_split_at_nine_tenths() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, tokens: std::ops::Range<u16>| {
            let path = directory.path().join(name);
            std::fs::write(&path, tokens.flat_map(u16::to_le_bytes).collect::<Vec<u8>>()).unwrap();
            path
        };
        let files = [write("a.bin", 0..123), write("b.bin", 123..200)];
        let data = Dataset::from_token_files(&files, TokenDtype::U16, 200, 8).unwrap();
        assert_eq!(data.train().to_vec(), (0..180).collect::<Vec<u32>>());
        assert_eq!(data.validation().to_vec(), (180..200).collect::<Vec<u32>>());
        assert_eq!(data.texts(), None);
        // Across the files' border, and the same as from memory.
        let whole = Dataset::from_tokens((0..180).collect::<Vec<u32>>(), vec![1, 2], 8).unwrap();
        assert!((0..50).all(|step| data.batch(1, step, 4) == whole.batch(1, step, 4)));
        let outside = Dataset::from_token_files(&files, TokenDtype::U16, 150, 8).unwrap_err().to_string();
        assert!(outside.contains("b.bin: token 150 at position 27"), "{outside}");
        let none: [&Path; 0] = [];
        assert!(matches!(Dataset::from_token_files(&none, TokenDtype::U16, 9, 1), Err(DataError::NoFiles)));
        let long = Dataset::from_token_files(&files, TokenDtype::U16, 200, 180).unwrap_err().to_string();
        assert!(long.contains("180 tokens, fewer than one sequence needs (181)"), "{long}");
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
        let nats = bigram_cross_entropy(b"abab", b"abc");
        let expected = ((258.0_f64 / 3.0).ln() + 257.0_f64.ln()) / 2.0;
        assert!((nats - expected).abs() < 1e-14);
        assert!(
            (bigram_cross_entropy(b"", b"xyz") - 256.0_f64.ln()).abs() < 1e-14,
            "an uncounted model is uniform"
        );
        assert_eq!(bigram_cross_entropy(b"ab", b"x"), 0.0);
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
