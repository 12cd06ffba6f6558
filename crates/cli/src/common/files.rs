//! Reading and writing files, with errors that name them.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;

use anemone_mil::weights::write_atomically;

use super::Failure;

fn read_failure(path: &Path, source: io::Error) -> Failure {
    Failure::Read { path: path.to_owned(), source }
}

/// Opens a file; a directory is refused by name.
///
/// # Errors
///
/// When it is a directory or cannot be opened.
pub fn open(path: &Path) -> Result<File, Failure> {
    let file = File::open(path).map_err(|source| read_failure(path, source))?;
    let metadata = file.metadata().map_err(|source| read_failure(path, source))?;
    if metadata.is_dir() { Err(Failure::Directory(path.to_owned())) } else { Ok(file) }
}

/// Reads a file of at most `max_bytes` bytes. Memory grows with what is read, not with a claimed length.
///
/// # Errors
///
/// When it is a directory, larger, or cannot be read.
pub fn read(path: &Path, max_bytes: u64) -> Result<Vec<u8>, Failure> {
    let too_large = || Failure::TooLarge { path: path.to_owned(), max_bytes };
    let file = open(path)?;
    if file.metadata().is_ok_and(|metadata| metadata.len() > max_bytes) {
        return Err(too_large());
    }
    let mut bytes = Vec::new();
    let mut bounded = file.take(max_bytes.saturating_add(1));
    bounded.read_to_end(&mut bytes).map_err(|source| read_failure(path, source))?;
    if bytes.len() as u64 > max_bytes { Err(too_large()) } else { Ok(bytes) }
}

/// Reads a text file of at most `max_bytes` bytes.
///
/// # Errors
///
/// As [`read`]; or the file is not UTF-8.
pub fn read_text(path: &Path, max_bytes: u64) -> Result<String, Failure> {
    String::from_utf8(read(path, max_bytes)?).map_err(|error| {
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
