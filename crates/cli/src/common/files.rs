//! Files and directories, with errors that name them.

use std::path::Path;

pub(crate) use anemone_lm::files::{
    FileError, atomic_write, make_directory, open, refuse_overwriting, serialize_path,
};
pub(crate) use anemone_model::source::weights;
pub(crate) use anemone_model::text::read_text;

/// Replaces a file whole or not at all.
///
/// # Errors
///
/// When it cannot be written; it is then as it was.
pub(crate) fn replace(path: &Path, content: &[u8]) -> Result<(), FileError> {
    atomic_write(path, |file| file.write_all(content))
}
