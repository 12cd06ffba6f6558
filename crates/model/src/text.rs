//! Files of text.

use std::path::{Path, PathBuf};

use anemone_lm::files::{FileError, read_bounded};
use thiserror::Error;

use crate::foreign;

/// Why a file is not read as text.
#[derive(Debug, Error)]
pub enum TextError {
    /// It cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// It has another format, which is known.
    #[error("cannot read {} as text: {what}", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// It has another format, which is not.
    #[error("{} is not UTF-8 text: the byte {byte:#04x} at position {position} does not belong", path.display())]
    NotUtf8 {
        /// The file.
        path: PathBuf,
        /// The first byte that no text has there.
        byte: u8,
        /// Where it is.
        position: usize,
    },
}

/// Reads a text file of at most `max_bytes` bytes.
///
/// # Errors
///
/// As [`read_bounded`]; or the file is not text, and the error says what it looks like.
pub fn read_text(path: &Path, max_bytes: u64) -> Result<String, TextError> {
    let bytes = read_bounded(path, max_bytes)?;
    if let Some(what) = foreign::format(&bytes) {
        return Err(TextError::Foreign { path: path.to_owned(), what });
    }
    String::from_utf8(bytes).map_err(|error| {
        let position = error.utf8_error().valid_up_to();
        let byte = error.as_bytes().get(position).copied().unwrap_or_default();
        TextError::NotUtf8 { path: path.to_owned(), byte, position }
    })
}

/// Text for a terminal, which is not to take orders from a model; its lines stay lines.
pub fn printable(text: &str) -> String {
    let is_order = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
    text.chars().map(|c| if is_order(c) { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_gives_no_orders() {
        assert_eq!(printable("a\u{1b}[2J\n\tb"), "a\u{fffd}[2J\n\tb");
    }
}
