//! Text to tokens and back.

use std::fmt;
use std::str::FromStr;
use thiserror::Error;

/// The vocabulary of byte tokens: V = 256.
pub const BYTE_VOCAB: usize = 256;

/// What can be wrong with a tokenizer's name or with the text or tokens given to it.
#[derive(Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum TokenizerError {
    /// The name is none of the known tokenizers.
    #[error("unknown tokenizer `{0}`; known: bytes")]
    Unknown(String),
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

/// Turns text into token numbers in `0..V` and back.
///
/// ```
/// use anemone_lm::tokenizer::Tokenizer;
/// let tokenizer: Tokenizer = "bytes".parse()?;
/// let tokens = tokenizer.encode("sea".as_bytes())?;
/// assert_eq!(tokens, [115, 101, 97]);
/// assert_eq!(tokenizer.decode(&tokens)?, b"sea");
/// # Ok::<(), anemone_lm::tokenizer::TokenizerError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Tokenizer {
    /// Every byte is a token, V = 256. Any file is valid text, whatever its encoding.
    #[default]
    Bytes,
}

impl Tokenizer {
    /// The vocabulary size V: every token is below it.
    pub fn vocab(&self) -> usize {
        match self {
            Self::Bytes => BYTE_VOCAB,
        }
    }

    /// The tokens of a text.
    ///
    /// # Errors
    /// None for byte tokens; a tokenizer of text may refuse what is not UTF-8.
    pub fn encode(&self, text: &[u8]) -> Result<Vec<u32>, TokenizerError> {
        match self {
            Self::Bytes => Ok(text.iter().map(|&byte| u32::from(byte)).collect()),
        }
    }

    /// The text of a token sequence, as bytes: a generated sequence may stop inside a UTF-8 character.
    ///
    /// # Errors
    /// [`TokenizerError::TokenOutOfRange`] for a token that is not below [`Tokenizer::vocab`].
    pub fn decode(&self, tokens: &[u32]) -> Result<Vec<u8>, TokenizerError> {
        match self {
            Self::Bytes => tokens
                .iter()
                .enumerate()
                .map(|(index, &token)| {
                    u8::try_from(token).map_err(|_| TokenizerError::TokenOutOfRange {
                        token,
                        index,
                        vocab: BYTE_VOCAB,
                    })
                })
                .collect(),
        }
    }
}

impl fmt::Display for Tokenizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes => f.write_str("bytes"),
        }
    }
}

impl FromStr for Tokenizer {
    type Err = TokenizerError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name {
            "bytes" => Ok(Self::Bytes),
            _ => Err(TokenizerError::Unknown(name.to_owned())),
        }
    }
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
    }

    #[test]
    fn refuses_a_token_outside_and_an_unknown_name() {
        assert_eq!(
            Tokenizer::Bytes.decode(&[1, 256]),
            Err(TokenizerError::TokenOutOfRange { token: 256, index: 1, vocab: 256 })
        );
        assert_eq!("words".parse::<Tokenizer>(), Err(TokenizerError::Unknown("words".into())));
        assert_eq!(Tokenizer::Bytes.to_string().parse(), Ok(Tokenizer::Bytes));
    }
}
