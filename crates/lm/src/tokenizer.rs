//! Text to tokens and back: bytes, or what a `tokenizer.json` of Hugging Face's says.

mod file;
mod learn;
mod stream;

use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde_json::{Map, Value, json};
use thiserror::Error;

use crate::files::{FileError, read_bounded};

pub use file::TokenizerFile;
pub use learn::{MAX_LEARNED_VOCAB, MIN_LEARNED_VOCAB};
pub use stream::{Characters, TextStream};

/// The vocabulary of byte tokens: V = 256.
pub const BYTE_VOCAB: usize = 256;
/// The largest `tokenizer.json` that is read, in bytes.
pub const MAX_TOKENIZER_BYTES: u64 = 256 << 20;

/// What is encoded at a time of a long text, in bytes, at least.
const PIECE: usize = 1 << 16;

/// What can be wrong with a tokenizer or with the text or tokens given to it.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TokenizerError {
    /// The file cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file is not a tokenizer.
    #[error("{} is not a tokenizer.json: {reason}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong, with the place where that is known.
        reason: String,
    },
    /// A text that is not UTF-8, which all tokenizers but that of bytes take.
    #[error("the text is not UTF-8 at byte {at}, as its tokenizer needs it; bytes as tokens take any file")]
    NotUtf8 {
        /// The first byte that is not.
        at: usize,
    },
    /// The tokenizer has no tokens for a text.
    #[error("the tokenizer refuses the text: {0}")]
    Refused(String),
    /// A token to decode is outside the vocabulary.
    #[error("token {token} at index {index} is outside the vocabulary of {vocab}")]
    TokenOutOfRange {
        /// The token found.
        token: u32,
        /// Its place in the sequence.
        index: usize,
        /// The tokenizer's vocabulary V.
        vocab: usize,
    },
}

impl TokenizerError {
    /// The same of a text that begins after so many bytes of another.
    pub(crate) fn after(self, bytes: usize) -> TokenizerError {
        match self {
            TokenizerError::NotUtf8 { at } => TokenizerError::NotUtf8 { at: at + bytes },
            other => other,
        }
    }
}

/// Turns text into token numbers in `0..V` and back.
///
/// ```
/// use anemone_lm::tokenizer::Tokenizer;
/// let tokenizer = Tokenizer::Bytes;
/// let tokens = tokenizer.encode("sea".as_bytes())?;
/// assert_eq!(tokens, [115, 101, 97]);
/// assert_eq!(tokenizer.decode(&tokens)?, b"sea");
/// # Ok::<(), anemone_lm::tokenizer::TokenizerError>(())
/// ```
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub enum Tokenizer {
    /// Every byte is a token, V = 256. Any file is valid text, whatever its encoding.
    #[default]
    Bytes,
    /// What a `tokenizer.json` says.
    File(TokenizerFile),
}

impl Tokenizer {
    /// The tokenizer in a `tokenizer.json`; that of bytes, if the file is the one that [`Tokenizer::json`] gives for it.
    ///
    /// # Errors
    /// A file that cannot be read, or is not a tokenizer.
    pub fn read(path: &Path) -> Result<Tokenizer, TokenizerError> {
        let bytes = read_bounded(path, MAX_TOKENIZER_BYTES)?;
        let refused = |reason| TokenizerError::Format { path: path.to_owned(), reason };
        let json = String::from_utf8(bytes).map_err(|error| refused(error.to_string()))?;
        if json == Tokenizer::Bytes.json() {
            return Ok(Tokenizer::Bytes);
        }
        Ok(Tokenizer::File(TokenizerFile::parse(json).map_err(refused)?))
    }

    /// The vocabulary size V: every token is below it.
    pub fn vocab(&self) -> usize {
        match self {
            Self::Bytes => BYTE_VOCAB,
            Self::File(file) => file.vocab(),
        }
    }

    /// The content of the `tokenizer.json` that says the same.
    pub fn json(&self) -> String {
        match self {
            Self::Bytes => bytes_json(),
            Self::File(file) => file.json().to_owned(),
        }
    }

    /// The tokens of a text. Special tokens stand only where the text has them.
    ///
    /// # Errors
    /// None for byte tokens; others refuse what is not UTF-8.
    pub fn encode(&self, text: &[u8]) -> Result<Vec<u32>, TokenizerError> {
        match self {
            Self::Bytes => Ok(text.iter().map(|&byte| u32::from(byte)).collect()),
            Self::File(file) => file.encode(utf8(text)?),
        }
    }

    /// The tokens of a long text, on all cores: pieces of at least 64 KiB, which are encoded by themselves, as the text's
    /// own would be where the tokenizer's words end with lines. A tokenizer that puts something before a text puts it
    /// before each piece.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn encode_pieces(&self, text: &[u8]) -> Result<Vec<Vec<u32>>, TokenizerError> {
        match self {
            Self::Bytes => Ok(vec![self.encode(text)?]),
            Self::File(file) => pieces(utf8(text)?).par_iter().map(|piece| file.encode(piece)).collect(),
        }
    }

    /// The text of a token sequence, as bytes: a generated sequence may stop inside a UTF-8 character, which only byte
    /// tokens keep; others have U+FFFD for it.
    ///
    /// # Errors
    /// [`TokenizerError::TokenOutOfRange`] for a token that is not below [`Tokenizer::vocab`].
    pub fn decode(&self, tokens: &[u32]) -> Result<Vec<u8>, TokenizerError> {
        let vocab = self.vocab();
        if let Some(index) = tokens.iter().position(|&token| token as usize >= vocab) {
            return Err(TokenizerError::TokenOutOfRange { token: tokens[index], index, vocab });
        }
        match self {
            Self::Bytes => Ok(tokens.iter().map(|&token| token as u8).collect()),
            Self::File(file) => Ok(file.decode(tokens)?.into_bytes()),
        }
    }
}

fn utf8(text: &[u8]) -> Result<&str, TokenizerError> {
    std::str::from_utf8(text).map_err(|error| TokenizerError::NotUtf8 { at: error.valid_up_to() })
}

/// A text in pieces that end with a line, between characters that are no white space, which tokenizers' words do not
/// reach across; with any line, where a piece would be 16 times as long as it need be.
fn pieces(text: &str) -> Vec<&str> {
    let (mut pieces, mut begin) = (Vec::new(), 0);
    for (at, _) in text.match_indices('\n') {
        let end = at + 1;
        let long = end - begin;
        if long < PIECE {
            continue;
        }
        let apart = |side: Option<char>| side.is_some_and(|c| !c.is_whitespace());
        let (before, after) = (text[begin..at].chars().next_back(), text[end..].chars().next());
        if apart(after) && (apart(before) || long >= 16 * PIECE) {
            pieces.push(&text[begin..end]);
            begin = end;
        }
    }
    pieces.push(&text[begin..]);
    pieces
}

/// A tokenizer of bytes as byte-level BPE without merges. Its vocabulary names bytes as GPT-2 does: those that print as
/// Latin-1 by themselves, the others, in order, by the characters from U+0100 on.
fn bytes_json() -> String {
    let mut others = '\u{100}'..;
    let names = (0..=u8::MAX).map(|byte| match byte {
        b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff => char::from(byte),
        _ => others.next().unwrap_or_default(),
    });
    let vocab: Map<String, Value> =
        names.enumerate().map(|(byte, name)| (name.to_string(), Value::from(byte))).collect();
    let byte_level =
        json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false});
    let tokenizer = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": [],
        "normalizer": null,
        "pre_tokenizer": byte_level,
        "post_processor": null,
        "decoder": byte_level,
        "model": {"type": "BPE", "vocab": vocab, "merges": []},
    });
    format!("{tokenizer:#}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_survives_the_round_trip() {
        let all: Vec<u8> = (0..=255).collect();
        let tokens = Tokenizer::Bytes.encode(&all).unwrap();
        assert!(tokens.iter().all(|&token| (token as usize) < Tokenizer::Bytes.vocab()));
        assert_eq!(Tokenizer::Bytes.decode(&tokens).unwrap(), all);
        assert_eq!(
            Tokenizer::Bytes.decode(&[1, 256]).unwrap_err().to_string(),
            "token 256 at index 1 is outside the vocabulary of 256"
        );
    }

    #[test]
    fn bytes_as_a_file_are_the_same_tokens() {
        let file = TokenizerFile::parse(Tokenizer::Bytes.json()).unwrap();
        assert_eq!(file.vocab(), BYTE_VOCAB);
        let text: String =
            (0..0x250).filter_map(char::from_u32).chain("\n  \u{1f600}<s>\n\n".chars()).collect();
        let tokens = file.encode(&text).unwrap();
        assert_eq!(tokens, Tokenizer::Bytes.encode(text.as_bytes()).unwrap());
        assert_eq!(file.decode(&tokens).unwrap(), text);
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tokenizer.json");
        std::fs::write(&path, Tokenizer::Bytes.json()).unwrap();
        assert!(matches!(Tokenizer::read(&path), Ok(Tokenizer::Bytes)));
    }

    #[test]
    fn pieces_are_the_text_and_end_between_lines() {
        let line = "some words, and a line's end\n";
        let count = 3 * PIECE / line.len();
        for (end, expected) in [("", 3), ("\n", 1)] {
            let text = format!("{line}{end}").repeat(count);
            let found = pieces(&text);
            assert_eq!((found.concat() == text, found.len()), (true, expected), "{end:?}");
            assert!(found.iter().all(|piece| piece.ends_with('\n')));
        }
        // Blank lines only are no reason to encode all of it on one core.
        let text = format!("{line}\n").repeat(40 * PIECE / line.len());
        let found = pieces(&text);
        assert_eq!((found.concat() == text, found.len()), (true, 3));
        assert_eq!(pieces(""), [""]);
        let dark = "x".repeat(5 * PIECE);
        assert_eq!(pieces(&dark), [&dark]);
    }
}
