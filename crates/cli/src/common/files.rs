//! Reading and writing files, with errors that name them.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

pub use anemone_lm::files::open;
use anemone_lm::files::read_bounded;
use anemone_mil::weights::write_atomically;

use super::Failure;

/// Reads a text file of at most `max_bytes` bytes.
///
/// # Errors
///
/// As [`read_bounded`]; or the file is not UTF-8.
pub fn read_text(path: &Path, max_bytes: u64) -> Result<String, Failure> {
    String::from_utf8(read_bounded(path, max_bytes)?).map_err(|error| {
        let position = error.utf8_error().valid_up_to();
        let byte = error.as_bytes().get(position).copied().unwrap_or_default();
        Failure::NotUtf8 { path: path.to_owned(), position, byte }
    })
}

/// Replaces a file whole or not at all.
///
/// # Errors
///
/// When it cannot be written; it is then as it was.
pub fn replace(path: &Path, content: &[u8]) -> Result<(), Failure> {
    write_atomically(path, |file| file.write_all(content)).map_err(|source| write_failure(path, source))
}

/// The failure to write a file.
pub fn write_failure(path: &Path, source: io::Error) -> Failure {
    Failure::Write { path: path.to_owned(), source }
}

/// Makes a directory with those above it, unless it is there.
///
/// # Errors
///
/// When it cannot be made, or a file is in its place.
pub fn make_directory(path: &Path) -> Result<(), Failure> {
    fs::create_dir_all(path).map_err(|source| write_failure(path, source))
}
