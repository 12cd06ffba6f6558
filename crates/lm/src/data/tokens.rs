//! Token sequences: in memory, as narrow as their numbers allow, or in files that are mapped, not read.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anemone_mil::files::is_lfs_pointer;
use anemone_mil::mapped::MappedFile;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::files::{FileError, open};

/// Tokens that are looked at in one go where all of them are.
const CHUNK: usize = 1 << 16;

/// How a file holds its tokens: little-endian numbers, one after the other, and nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TokenDtype {
    /// 16 bits, the form of llama2.c's TinyStories.
    U16,
    /// 32 bits, for vocabularies that 16 do not hold.
    U32,
}

impl TokenDtype {
    /// What files of tokens of a vocabulary usually have: 16 bits where they suffice.
    pub fn of_vocab(vocab: usize) -> TokenDtype {
        if vocab <= 1 << 16 { TokenDtype::U16 } else { TokenDtype::U32 }
    }

    /// The name in flags and files: `u16` or `u32`.
    pub fn name(self) -> &'static str {
        match self {
            TokenDtype::U16 => "u16",
            TokenDtype::U32 => "u32",
        }
    }

    /// Bytes of a token.
    pub fn bytes(self) -> usize {
        match self {
            TokenDtype::U16 => 2,
            TokenDtype::U32 => 4,
        }
    }
}

/// What makes a file unusable as tokens.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TokenFileError {
    /// The file cannot be opened or mapped.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file has no bytes.
    #[error("{} is empty", .0.display())]
    Empty(PathBuf),
    /// The file ends within a token.
    #[error("{} has {bytes} bytes, which are no whole number of tokens of {} ({})", path.display(), dtype.name(), dtype.bytes())]
    PartOfAToken {
        /// The file.
        path: PathBuf,
        /// Its length.
        bytes: usize,
        /// How it was read.
        dtype: TokenDtype,
    },
    /// A token that the model does not have.
    #[error(
        "{}: token {token} at position {position} is not below the model's vocabulary of {vocab}; the file was read as {}",
        path.display(), dtype.name()
    )]
    OutOfRange {
        /// The file.
        path: PathBuf,
        /// The first such token.
        token: u32,
        /// Its index in the file.
        position: usize,
        /// The model's V.
        vocab: usize,
        /// How the file was read.
        dtype: TokenDtype,
    },
    /// Numbers of 32 bits that were read as of 16.
    #[error("{}: every second token is 0, so these are tokens of u32, and the file was read as u16", .0.display())]
    Wider(PathBuf),
}

/// A sequence of tokens. Copies, and parts of it, share its memory or its mapped files.
#[derive(Clone, Debug)]
pub struct Tokens {
    parts: Vec<Part>,
    len: usize,
}

/// A stretch of one source.
#[derive(Clone, Debug)]
struct Part {
    source: Source,
    /// The stretch's first token, in the source.
    start: usize,
    len: usize,
}

#[derive(Clone, Debug)]
enum Source {
    U8(Arc<[u8]>),
    U16(Arc<[u16]>),
    U32(Arc<[u32]>),
    Mapped(Arc<MappedFile>, TokenDtype),
}

impl Part {
    /// Copies the tokens from `start` on, which the part has.
    fn read(&self, start: usize, target: &mut [u32]) {
        let range = self.start + start..self.start + start + target.len();
        match &self.source {
            Source::U8(tokens) => copy(&tokens[range], target),
            Source::U16(tokens) => copy(&tokens[range], target),
            Source::U32(tokens) => target.copy_from_slice(&tokens[range]),
            Source::Mapped(file, dtype) => {
                let mut bytes = vec![0; target.len() * dtype.bytes()];
                // A part lies within its file.
                let _ = file.copy_to(range.start * dtype.bytes(), &mut bytes);
                match dtype {
                    TokenDtype::U16 => {
                        let tokens = bytes.as_chunks::<2>().0.iter().map(|&bytes| u16::from_le_bytes(bytes));
                        target.iter_mut().zip(tokens).for_each(|(to, token)| *to = u32::from(token));
                    }
                    TokenDtype::U32 => {
                        let tokens = bytes.as_chunks::<4>().0.iter().map(|&bytes| u32::from_le_bytes(bytes));
                        target.iter_mut().zip(tokens).for_each(|(to, token)| *to = token);
                    }
                }
            }
        }
    }
}

fn copy<T: Copy + Into<u32>>(tokens: &[T], target: &mut [u32]) {
    target.iter_mut().zip(tokens).for_each(|(to, &token)| *to = token.into());
}

impl Tokens {
    fn of(source: Source, len: usize) -> Tokens {
        Tokens { parts: vec![Part { source, start: 0, len }], len }
    }

    /// The bytes of a text, each a token.
    pub fn bytes(text: Arc<[u8]>) -> Tokens {
        let len = text.len();
        Tokens::of(Source::U8(text), len)
    }

    /// Parts of a sequence, one after the other, all below `vocab`, which says how narrow they are kept.
    pub fn from_parts(parts: &[Vec<u32>], vocab: usize) -> Tokens {
        let len = parts.iter().map(Vec::len).sum();
        let all = || parts.iter().flatten();
        let source = match TokenDtype::of_vocab(vocab) {
            TokenDtype::U16 => Source::U16(all().map(|&token| token as u16).collect()),
            TokenDtype::U32 => Source::U32(all().copied().collect()),
        };
        Tokens::of(source, len)
    }

    /// The tokens of files, one after the other, which stay where they are. Every token is looked at once, here.
    ///
    /// # Errors
    ///
    /// A file that cannot be mapped, is empty or ends within a token; a token that is not below `vocab`.
    pub fn map(
        paths: &[impl AsRef<Path>],
        dtype: TokenDtype,
        vocab: usize,
    ) -> Result<Tokens, TokenFileError> {
        let mut tokens = Tokens { parts: Vec::new(), len: 0 };
        for path in paths {
            let file = map_file(path.as_ref(), dtype, vocab)?;
            tokens.len += file.len;
            tokens.parts.extend(file.parts);
        }
        Ok(tokens)
    }

    /// Number of tokens.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no token.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Copies the tokens from position `start` on into `target`, which they fill.
    ///
    /// # Panics
    ///
    /// When the sequence does not have them all, as with a slice.
    pub fn read(&self, start: usize, target: &mut [u32]) {
        assert!(start <= self.len && target.len() <= self.len - start, "tokens beyond the end");
        let (mut skipped, mut rest) = (start, target);
        for part in &self.parts {
            if rest.is_empty() {
                break;
            }
            if skipped >= part.len {
                skipped -= part.len;
                continue;
            }
            let (now, later) = rest.split_at_mut(rest.len().min(part.len - skipped));
            part.read(skipped, now);
            (skipped, rest) = (0, later);
        }
    }

    /// The tokens of a range, copied.
    ///
    /// # Panics
    ///
    /// As [`Tokens::read`].
    pub fn window(&self, range: Range<usize>) -> Vec<u32> {
        let mut tokens = vec![0; range.len()];
        self.read(range.start, &mut tokens);
        tokens
    }

    /// The whole sequence, copied.
    pub fn to_vec(&self) -> Vec<u32> {
        self.window(0..self.len)
    }

    /// All tokens in order.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.chunks(CHUNK).flatten()
    }

    /// All tokens in order, `size` at a time, the last time what is left.
    pub fn chunks(&self, size: usize) -> impl Iterator<Item = Vec<u32>> + '_ {
        let size = size.max(1);
        (0..self.len.div_ceil(size)).map(move |i| self.window(i * size..self.len.min((i + 1) * size)))
    }

    /// The sequence before `at` and the one from there on.
    ///
    /// # Panics
    ///
    /// When `at` is beyond the end.
    pub fn split_at(&self, at: usize) -> (Tokens, Tokens) {
        assert!(at <= self.len, "tokens beyond the end");
        (self.part(0..at), self.part(at..self.len))
    }

    /// A range that the sequence has.
    fn part(&self, range: Range<usize>) -> Tokens {
        let (mut parts, mut begin) = (Vec::new(), 0);
        for part in &self.parts {
            let (from, to) = (range.start.max(begin), range.end.min(begin + part.len));
            if from < to {
                parts.push(Part { start: part.start + from - begin, len: to - from, ..part.clone() });
            }
            begin += part.len;
        }
        Tokens { parts, len: range.len() }
    }

    /// The first token that is not below `vocab`, with its position.
    pub fn out_of_range(&self, vocab: usize) -> Option<(usize, u32)> {
        (0..self.len.div_ceil(CHUNK)).into_par_iter().find_map_first(|i| {
            let tokens = self.window(i * CHUNK..self.len.min((i + 1) * CHUNK));
            let position = tokens.iter().position(|&token| token as usize >= vocab)?;
            Some((i * CHUNK + position, tokens[position]))
        })
    }

    /// Whether every second token is 0, and not all are.
    fn alternates_with_zeros(&self) -> bool {
        let mut others = false;
        self.len >= 4
            && self.chunks(CHUNK).all(|tokens| {
                others |= tokens.iter().step_by(2).any(|&token| token != 0);
                tokens.iter().skip(1).step_by(2).all(|&token| token == 0)
            })
            && others
    }
}

impl From<Vec<u32>> for Tokens {
    fn from(tokens: Vec<u32>) -> Tokens {
        let len = tokens.len();
        Tokens::of(Source::U32(tokens.into()), len)
    }
}

fn map_file(path: &Path, dtype: TokenDtype, vocab: usize) -> Result<Tokens, TokenFileError> {
    let path_buf = || path.to_owned();
    let file = MappedFile::new(&open(path)?).map_err(|source| FileError::read(path, source))?;
    if file.is_empty() {
        return Err(TokenFileError::Empty(path_buf()));
    }
    let mut start = vec![0; file.len().min(64)];
    if file.copy_to(0, &mut start) && is_lfs_pointer(&start) {
        return Err(FileError::LfsPointer(path_buf()).into());
    }
    let bytes = file.len();
    if !bytes.is_multiple_of(dtype.bytes()) {
        return Err(TokenFileError::PartOfAToken { path: path_buf(), bytes, dtype });
    }
    let tokens = Tokens::of(Source::Mapped(Arc::new(file), dtype), bytes / dtype.bytes());
    if let Some((position, token)) = tokens.out_of_range(vocab) {
        return Err(TokenFileError::OutOfRange { path: path_buf(), token, position, vocab, dtype });
    }
    if dtype == TokenDtype::U16 && tokens.alternates_with_zeros() {
        return Err(TokenFileError::Wider(path_buf()));
    }
    Ok(tokens)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn file(directory: &Path, name: &str, tokens: &[u32], dtype: TokenDtype) -> PathBuf {
        let bytes: Vec<u8> =
            tokens.iter().flat_map(|token| token.to_le_bytes()[..dtype.bytes()].to_vec()).collect();
        let path = directory.join(name);
        fs::write(&path, bytes).unwrap();
        path
    }

    #[test]
    fn every_form_reads_alike() {
        let directory = tempfile::tempdir().unwrap();
        let expected: Vec<u32> = (0..1000).map(|i| i * i % 251).collect();
        let [u16, u32] = [TokenDtype::U16, TokenDtype::U32].map(|dtype| {
            let parts = [(0..1, "a"), (1..400, "b"), (400..1000, "c")];
            let files = parts.map(|(range, name)| {
                let name = format!("{name}.{}", dtype.name());
                file(directory.path(), &name, &expected[range], dtype)
            });
            Tokens::map(&files, dtype, 251).unwrap()
        });
        let bytes = Tokens::bytes(expected.iter().map(|&token| token as u8).collect());
        let narrow = Tokens::from_parts(&[expected[..7].to_vec(), expected[7..].to_vec()], 251);
        let wide = Tokens::from_parts(std::slice::from_ref(&expected), 70_000);
        for tokens in [u16, u32, bytes, narrow, wide, expected.clone().into()] {
            assert_eq!(tokens.to_vec(), expected);
            assert_eq!(tokens.iter().collect::<Vec<_>>(), expected);
            assert_eq!(tokens.window(399..402), expected[399..402]);
            assert!(tokens.window(1000..1000).is_empty());
            let chunks: Vec<Vec<u32>> = tokens.chunks(7).collect();
            assert_eq!(chunks, expected.chunks(7).map(<[u32]>::to_vec).collect::<Vec<_>>());
            for at in [0, 1, 399, 400, 401, 1000] {
                let (before, after) = tokens.split_at(at);
                assert_eq!((before.to_vec(), after.to_vec()), (expected[..at].into(), expected[at..].into()));
                assert_eq!(after.split_at(after.len() / 2).1.to_vec(), expected[at + (1000 - at) / 2..]);
            }
            assert_eq!((tokens.out_of_range(251), tokens.out_of_range(250)), (None, first(&expected, 250)));
        }
    }

    fn first(tokens: &[u32], vocab: u32) -> Option<(usize, u32)> {
        tokens.iter().copied().enumerate().find(|&(_, token)| token >= vocab)
    }

    #[test]
    fn the_first_token_out_of_range_is_found_however_far() {
        let mut tokens = vec![5; 3 * CHUNK + 9];
        assert_eq!(Tokens::from(tokens.clone()).out_of_range(6), None);
        tokens[3 * CHUNK + 8] = 8;
        assert_eq!(Tokens::from(tokens.clone()).out_of_range(6), Some((3 * CHUNK + 8, 8)));
        tokens[CHUNK + 1] = 6;
        assert_eq!(Tokens::from(tokens).out_of_range(6), Some((CHUNK + 1, 6)));
    }

    #[test]
    fn what_is_wrong_with_a_file_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let refused = |path: &Path, dtype| Tokens::map(&[path], dtype, 100).unwrap_err().to_string();
        fs::write(path("empty"), b"").unwrap();
        fs::write(path("odd"), [0; 7]).unwrap();
        fs::write(path("pointer"), b"version https://git-lfs.github.com/spec/v1\n").unwrap();
        assert!(refused(&path("none"), TokenDtype::U16).contains("cannot read"));
        assert!(refused(directory.path(), TokenDtype::U16).contains("it is a directory"));
        assert!(refused(&path("empty"), TokenDtype::U16).ends_with("is empty"));
        assert!(refused(&path("odd"), TokenDtype::U16).ends_with("no whole number of tokens of u16 (2)"));
        assert!(refused(&path("odd"), TokenDtype::U32).ends_with("no whole number of tokens of u32 (4)"));
        assert!(refused(&path("pointer"), TokenDtype::U16).contains("git lfs pull"));
        let outside = file(directory.path(), "outside", &[7, 99, 100, 101], TokenDtype::U16);
        let message = refused(&outside, TokenDtype::U16);
        assert!(message.contains("outside: token 100 at position 2 is not below"), "{message}");
        let wide = file(directory.path(), "wide", &[7, 99, 5], TokenDtype::U32);
        assert!(refused(&wide, TokenDtype::U16).contains("every second token is 0"));
        let zeros = file(directory.path(), "zeros", &[0; 8], TokenDtype::U16);
        assert_eq!(Tokens::map(&[zeros], TokenDtype::U16, 100).unwrap().len(), 8);
    }
}
