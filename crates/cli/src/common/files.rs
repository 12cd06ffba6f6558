//! Files and directories, with errors that name them.

use std::path::{Path, PathBuf};

pub(crate) use anemone_lm::files::{
    FileError, atomic_write, make_directory, open, read_bounded, refuse_overwriting, serialize_path,
};
use anemone_mil::weights::{MODEL_PATH, WeightDirectory};
use thiserror::Error;

use super::{Failure, foreign};

/// A file that is not text.
#[derive(Debug, Error)]
enum NotText {
    /// One of a known format.
    #[error("cannot read {} as text: {what}", path.display())]
    Foreign { path: PathBuf, what: &'static str },
    /// One of an unknown format.
    #[error("{} is not UTF-8 text: the byte {byte:#04x} at position {position} does not belong", path.display())]
    NotUtf8 { path: PathBuf, byte: u8, position: usize },
}

/// Reads a text file of at most `max_bytes` bytes.
///
/// # Errors
///
/// As [`read_bounded`]; or the file is not text, and the error says what it looks like.
pub(crate) fn read_text(path: &Path, max_bytes: u64) -> Result<String, Failure> {
    let bytes = read_bounded(path, max_bytes)?;
    if let Some(what) = foreign::format(&bytes) {
        return Err(NotText::Foreign { path: path.to_owned(), what }.into());
    }
    String::from_utf8(bytes).map_err(|error| {
        let position = error.utf8_error().valid_up_to();
        let byte = error.as_bytes().get(position).copied().unwrap_or_default();
        NotText::NotUtf8 { path: path.to_owned(), byte, position }.into()
    })
}

/// Replaces a file whole or not at all.
///
/// # Errors
///
/// When it cannot be written; it is then as it was.
pub(crate) fn replace(path: &Path, content: &[u8]) -> Result<(), FileError> {
    atomic_write(path, |file| file.write_all(content))
}

/// The weights under a directory.
///
/// # Errors
///
/// When it is no directory.
pub(crate) fn weights(directory: &Path) -> Result<WeightDirectory, Failure> {
    let path = directory.display();
    match (directory.is_dir(), directory.exists()) {
        (true, _) => Ok(WeightDirectory::new(directory)),
        (false, true) => Err(Failure::new(format!(
            "cannot read weights from {path}: it is not a directory; `{MODEL_PATH}` stands for the directory that \
             holds the weight files or their directory"
        ))),
        (false, false) => {
            Err(Failure::new(format!("cannot read weights from {path}: there is no such directory")))
        }
    }
}
