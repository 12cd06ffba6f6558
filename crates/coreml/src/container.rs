//! What the containers have in common: bounded reading, links refused, and errors that name the file.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use anemone_mil::error::Errors;
use anemone_mil::files::{LFS_POINTER, is_lfs_pointer, write_atomically, write_directory};
use anemone_mil::program::Program;
use anemone_mil::text;
use anemone_mil::weights::{BlobError, WeightDirectory};
use thiserror::Error;

use crate::assets::Assets;
use crate::model::{Model, ModelError};
use crate::package::{self, ManifestError};
use crate::pipeline::AnyModel;
use crate::{assets, compiled, flexible};

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
    /// A weight file that a program refers to.
    #[error("the weight file `{path}` cannot be used: {error}")]
    Weights {
        /// The path, as the program has it.
        path: String,
        /// Why not.
        error: BlobError,
    },
    /// Weight files that would be one.
    #[error("{} and {} would both be `{}` of the model", first.display(), second.display(), place.display())]
    SameWeights {
        /// A file.
        first: PathBuf,
        /// Another.
        second: PathBuf,
        /// Their place.
        place: PathBuf,
    },
    /// A model that does not fit into one message.
    #[error(
        "a model in one file has at most 2 GiB, which these weights are not: a package (.mlpackage) keeps them beside it"
    )]
    LargeMessage,
    /// Something else where a model is to be written.
    #[error("{} is there and is no such model; it is not replaced", .0.display())]
    InTheWay(PathBuf),
    /// A directory to be replaced that holds what is read.
    #[error("cannot write {}: that would replace {}, which is read; choose another place", out.display(), path.display())]
    Within {
        /// The directory.
        out: PathBuf,
        /// The file.
        path: PathBuf,
    },
    /// A description that is not that of the program.
    #[error("{} does not fit the program: {what}; mend it, or remove it, and a description is inferred", path.display())]
    Mismatch {
        /// The file with the description.
        path: PathBuf,
        /// What does not fit.
        what: String,
    },
    /// Weights where others are.
    #[error("{} is there and holds other weights; choose another directory", .0.display())]
    OtherWeights(PathBuf),
    /// A program of which no description can be inferred.
    #[error("no model can have this program: {0}")]
    NoDescription(String),
    /// A text that is no program, or a program that has no text.
    #[error("no program can be in {}: {errors}", path.display())]
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

/// Reads the model in a file, `.mlmodel`: a program, or a pipeline of models.
///
/// # Errors
///
/// When the file cannot be read, or holds no such model.
pub fn read_any(path: &Path) -> Result<AnyModel, ContainerError> {
    let bytes = read_bounded(path, MAX_MODEL_BYTES)?;
    AnyModel::from_bytes(&bytes).map_err(|error| ContainerError::Model { path: path.to_owned(), error })
}

/// Reads the program in a file, `.mlmodel`.
///
/// # Errors
///
/// When the file cannot be read, or holds no model that is a program.
pub fn read_model(path: &Path) -> Result<Model, ContainerError> {
    match read_any(path)? {
        AnyModel::Program(model) => Ok(*model),
        AnyModel::Pipeline(pipeline) => {
            Err(ContainerError::Model { path: path.to_owned(), error: ModelError::Kind(pipeline.kind) })
        }
    }
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

/// A program as text, which reads as the same program.
pub(crate) fn text_of(program: &Program, path: &Path) -> Result<String, ContainerError> {
    let text = text::write(program);
    match text::parse(&text) {
        Ok(_) => Ok(text),
        Err(errors) => Err(ContainerError::Text { path: path.to_owned(), errors }),
    }
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

/// Writes a model into a container, in the place of one of its kind that is there. Returns what that does not keep, in
/// words.
///
/// # Errors
///
/// When a weight file is missing or cannot be read, the program cannot be written in this form, something else is at
/// `out`, or a file cannot be written.
pub fn write(
    container: Container,
    model: impl Into<AnyModel>,
    weights: &WeightDirectory,
    out: &Path,
) -> Result<Vec<String>, ContainerError> {
    let mut model = model.into();
    match container {
        Container::Package => package::write(model, weights, out).map(|()| Vec::new()),
        Container::Compiled => compiled::write(model, weights, out),
        Container::Model => {
            let mut bytes = 0;
            for (program, description) in model.programs_mut() {
                flexible::remove(program, description);
                let read = Assets::as_named(program, weights)?;
                refuse_within(out, read.iter().map(|(_, source)| source))?;
                assets::inline(program, weights, &mut bytes)?;
            }
            let message = message_of(&model, out)?;
            let written = write_atomically(out, |file| io::Write::write_all(file, &message));
            written.map_err(|source| ContainerError::Write { path: out.to_owned(), source })?;
            Ok(Vec::new())
        }
    }
}

/// A model's message, if protocol buffers can be so long.
pub(crate) fn message_of(model: &AnyModel, path: &Path) -> Result<Vec<u8>, ContainerError> {
    let message = model.to_bytes();
    let message = message.map_err(|error| ContainerError::NoMessage { path: path.to_owned(), error })?;
    if message.len() as u64 > MAX_MODEL_BYTES { Err(ContainerError::LargeMessage) } else { Ok(message) }
}

/// Refuses to replace what is no container of this kind, but for an empty directory.
pub(crate) fn refuse_others(out: &Path, container: Container) -> Result<(), ContainerError> {
    let failed = |source| ContainerError::Write { path: out.to_owned(), source };
    let holds = match container {
        Container::Package => package::MANIFEST,
        Container::Compiled => compiled::DATA,
        Container::Model => return Ok(()),
    };
    if !out.try_exists().map_err(failed)? || out.join(holds).is_file() {
        return Ok(());
    }
    match fs::read_dir(out).map_err(failed)?.next() {
        None => Ok(()),
        Some(_) => Err(ContainerError::InTheWay(out.to_owned())),
    }
}

/// Refuses to replace a directory that holds a file which is read.
///
/// # Errors
///
/// [`ContainerError::Within`] for the first such file.
pub fn refuse_within<'a>(out: &Path, read: impl IntoIterator<Item = &'a Path>) -> Result<(), ContainerError> {
    // What is not there yet holds nothing.
    let Ok(out) = fs::canonicalize(out) else { return Ok(()) };
    let within = |path: &&Path| fs::canonicalize(path).is_ok_and(|path| path.starts_with(&out));
    match read.into_iter().find(within) {
        Some(path) => Err(ContainerError::Within { out, path: path.to_owned() }),
        None => Ok(()),
    }
}

/// Writes a directory whole, with errors that name it.
pub(crate) fn write_directory_to(
    out: &Path,
    write: impl FnOnce(&Path) -> Result<(), ContainerError>,
) -> Result<(), ContainerError> {
    /// Why it could not be written: the system, or `write`.
    enum Failed {
        System(io::Error),
        Content(ContainerError),
    }
    impl From<io::Error> for Failed {
        fn from(error: io::Error) -> Failed {
            Failed::System(error)
        }
    }
    let written = write_directory(out, |new| write(new).map_err(Failed::Content));
    written.map_err(|failed| match failed {
        Failed::System(source) => ContainerError::Write { path: out.to_owned(), source },
        Failed::Content(error) => error,
    })
}

pub(crate) fn make_directory(path: &Path) -> Result<(), ContainerError> {
    fs::create_dir_all(path).map_err(|source| ContainerError::Write { path: path.to_owned(), source })
}

pub(crate) fn write_file(path: &Path, bytes: &[u8]) -> Result<(), ContainerError> {
    fs::write(path, bytes).map_err(|source| ContainerError::Write { path: path.to_owned(), source })
}
