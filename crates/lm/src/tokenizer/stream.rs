//! Text as its tokens come, one by one: only whole characters are given out.

use super::{Tokenizer, TokenizerError};

/// The tokens that may be held back for the sake of a character: its bytes, and some before it.
const MOST_HELD: usize = 16;

/// The text that tokens add to what was there before them.
///
/// ```
/// use anemone_lm::tokenizer::{TextStream, Tokenizer};
/// let mut stream = TextStream::new(&Tokenizer::Bytes, &[]);
/// // The two bytes of é.
/// assert_eq!(stream.add(0xc3)?, "");
/// assert_eq!(stream.add(0xa9)?, "\u{e9}");
/// assert_eq!(stream.add(0xc3)?, "");
/// assert_eq!(stream.finish()?, "\u{fffd}");
/// # Ok::<(), anemone_lm::tokenizer::TokenizerError>(())
/// ```
pub struct TextStream<'a> {
    tokenizer: &'a Tokenizer,
    /// Of byte tokens.
    characters: Characters,
    /// Tokens whose text was given out, as many as the text of the next depends on.
    context: Vec<u32>,
    /// Tokens whose text was not.
    held: Vec<u32>,
}

impl<'a> TextStream<'a> {
    /// What comes after these tokens.
    pub fn new(tokenizer: &'a Tokenizer, before: &[u32]) -> TextStream<'a> {
        let (characters, held) = (Characters::default(), Vec::new());
        TextStream { tokenizer, characters, context: before.to_vec(), held }
    }

    /// What is known of the text with one more token; U+FFFD for one that stands for nothing.
    ///
    /// # Errors
    ///
    /// Those of decoding.
    pub fn add(&mut self, token: u32) -> Result<String, TokenizerError> {
        if token as usize >= self.tokenizer.vocab() {
            return Ok(self.flush()? + "\u{fffd}");
        }
        if matches!(self.tokenizer, Tokenizer::Bytes) {
            return Ok(self.characters.add(&self.tokenizer.decode(&[token])?));
        }
        self.held.push(token);
        let text = self.added()?;
        if text.ends_with(char::REPLACEMENT_CHARACTER) && self.held.len() < MOST_HELD {
            return Ok(String::new());
        }
        self.context = std::mem::take(&mut self.held);
        Ok(text)
    }

    /// What is left at the end.
    ///
    /// # Errors
    ///
    /// Those of decoding.
    pub fn finish(mut self) -> Result<String, TokenizerError> {
        self.flush()
    }

    fn flush(&mut self) -> Result<String, TokenizerError> {
        if self.held.is_empty() {
            return Ok(std::mem::take(&mut self.characters).finish());
        }
        let text = self.added()?;
        self.context = std::mem::take(&mut self.held);
        Ok(text)
    }

    /// The text of the held tokens after the context: decoders treat a text's first token unlike others.
    fn added(&self) -> Result<String, TokenizerError> {
        let text = |tokens: &[u32]| {
            self.tokenizer.decode(tokens).map(|text| String::from_utf8_lossy(&text).into_owned())
        };
        let (before, whole) = (text(&self.context)?, text(&[&self.context[..], &self.held].concat())?);
        match whole.strip_prefix(&before) {
            Some(added) => Ok(added.to_owned()),
            // The context ends within a character, which these tokens complete.
            None => text(&self.held),
        }
    }
}

/// Text that comes in pieces of bytes, of which a character may span several.
#[derive(Debug, Default)]
pub struct Characters {
    /// The beginning of a character.
    begun: Vec<u8>,
}

impl Characters {
    /// What is complete with these bytes.
    pub fn add(&mut self, bytes: &[u8]) -> String {
        self.begun.extend(bytes);
        let mut text = String::new();
        let mut kept = 0;
        for chunk in self.begun.utf8_chunks() {
            text.push_str(chunk.valid());
            kept += chunk.valid().len();
            let invalid = chunk.invalid();
            let at_end = kept + invalid.len() == self.begun.len();
            if at_end && std::str::from_utf8(invalid).is_err_and(|error| error.error_len().is_none()) {
                break;
            }
            if !invalid.is_empty() {
                text.push(char::REPLACEMENT_CHARACTER);
                kept += invalid.len();
            }
        }
        self.begun.drain(..kept);
        text
    }

    /// What is left at the end.
    pub fn finish(self) -> String {
        String::from_utf8_lossy(&self.begun).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_come_whole_however_their_bytes_come() {
        let text = "a\u{e9}\u{20ac}\u{1f600}z".as_bytes();
        for length in 1..=text.len() {
            let mut characters = Characters::default();
            let parts: String = text.chunks(length).map(|part| characters.add(part)).collect();
            assert_eq!(parts + &characters.finish(), "a\u{e9}\u{20ac}\u{1f600}z");
        }
        let mut characters = Characters::default();
        assert_eq!(characters.add(b"\xff\xe2\x82"), "\u{fffd}");
        assert_eq!(characters.add(b"a\xc3"), "\u{fffd}a");
        assert_eq!(characters.finish(), "\u{fffd}");
    }
}
