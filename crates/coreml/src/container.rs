//! What the containers have in common: bounded reading, links refused, and errors that name the file.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use anemone_mil::error::Errors;
use anemone_mil::files::{LFS_POINTER, is_lfs_pointer};
use anemone_mil::program::Program;
use anemone_mil::weights::WeightDirectory;
use thiserror::Error;

use crate::compiled;
use crate::model::{Model, ModelError};
use crate::package::{self, ManifestError};

/// The longest message that protocol buffers can be, in bytes.
pub const MAX_MODEL_BYTES: u64 = (1 << 31) - 1;

/// Why a model cannot be read or written.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ContainerError {
    /// A file that cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A file or directory that cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A file that is larger than what it should be.
    #[error("{} is too large: at most {max_bytes} bytes are read", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The limit.
        max_bytes: u64,
    },
    /// A pointer of Git LFS in the place of the file.
    #[error("cannot read {}: {LFS_POINTER}", .0.display())]
    LfsPointer(PathBuf),
    /// A link in a container.
    #[error("{} is a link: a model's files are its own", .0.display())]
    Link(PathBuf),
    /// A package's manifest.
    #[error("{}: {error}", path.display())]
    Manifest {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        error: ManifestError,
    },
    /// A model's message.
    #[error("cannot read {}: {error}", path.display())]
    Model {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        error: ModelError,
    },
    /// A model that has no message.
    #[error("cannot write {}: {error}", path.display())]
    NoMessage {
        /// The file.
        path: PathBuf,
        /// Why not.
        error: ModelError,
    },
    /// A compiled model's description.
    #[error("cannot read {}: {what}", path.display())]
    Compiled {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The text of a compiled model's program.
    #[error("cannot read {}: {errors}", path.display())]
    Text {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        errors: Errors,
    },
}

/// Reads a whole file of at most `max_bytes` bytes. Memory grows with what is read, not with what is claimed.
pub(crate) fn read_bounded(path: &Path, max_bytes: u64) -> Result<Vec<u8>, ContainerError> {
    let failed = |source| ContainerError::Read { path: path.to_owned(), source };
    // Opening a pipe would wait for its writer.
    let metadata = fs::metadata(path).map_err(failed)?;
    if !metadata.is_file() {
        return Err(failed(io::Error::other("it is no file")));
    }
    let mut bytes = Vec::new();
    if metadata.len() <= max_bytes {
        let file = File::open(path).map_err(failed)?;
        file.take(max_bytes.saturating_add(1)).read_to_end(&mut bytes).map_err(failed)?;
    }
    if metadata.len().max(bytes.len() as u64) > max_bytes {
        return Err(ContainerError::TooLarge { path: path.to_owned(), max_bytes });
    }
    if is_lfs_pointer(&bytes) {
        return Err(ContainerError::LfsPointer(path.to_owned()));
    }
    Ok(bytes)
}

/// Reads the model in a file, `.mlmodel`.
///
/// # Errors
///
/// When the file cannot be read, or holds no model that is a program.
pub fn read_model(path: &Path) -> Result<Model, ContainerError> {
    let bytes = read_bounded(path, MAX_MODEL_BYTES)?;
    Model::from_bytes(&bytes).map_err(|error| ContainerError::Model { path: path.to_owned(), error })
}

/// Refuses a path that is a link; one that does not exist is none.
pub(crate) fn refuse_link(path: &Path) -> Result<(), ContainerError> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.file_type().is_symlink() => Err(ContainerError::Link(path.to_owned())),
        _ => Ok(()),
    }
}

/// Refuses weight files of a program in `directory` that are links, or behind one. What else is wrong with their
/// paths is found where the weights are read.
///
/// # Errors
///
/// [`ContainerError::Link`] for the first.
pub fn refuse_linked_weights(program: &Program, directory: &Path) -> Result<(), ContainerError> {
    let weights = WeightDirectory::new(directory);
    let paths: BTreeSet<&str> = program.blobs().map(|blob| blob.path.as_str()).collect();
    for path in paths.into_iter().filter_map(|path| weights.path(path).ok()) {
        let parts: Vec<&Path> = path.ancestors().take_while(|part| *part != directory).collect();
        parts.into_iter().rev().try_for_each(refuse_link)?;
    }
    Ok(())
}

/// What a path holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Container {
    /// A package, `.mlpackage`.
    Package,
    /// A compiled model, `.mlmodelc`.
    Compiled,
    /// A model's message alone, `.mlmodel`.
    Model,
}

impl Container {
    /// The container that a path's ending says.
    pub fn from_ending(path: &Path) -> Option<Container> {
        let endings = [
            ("mlpackage", Container::Package),
            ("mlmodelc", Container::Compiled),
            ("mlmodel", Container::Model),
        ];
        let extension = path.extension()?;
        endings
            .iter()
            .find(|(ending, _)| extension.eq_ignore_ascii_case(ending))
            .map(|(_, container)| *container)
    }

    /// The container that is there, by its ending, or, of a directory, by what it holds; `None` for anything else.
    pub fn of(path: &Path) -> Option<Container> {
        let container = Container::from_ending(path);
        match path.is_dir() {
            true if package::is_package(path) => Some(Container::Package),
            true if compiled::is_compiled(path) => Some(Container::Compiled),
            true => None,
            false => container.filter(|container| *container == Container::Model),
        }
    }
}
