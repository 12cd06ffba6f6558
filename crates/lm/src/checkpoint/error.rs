//! What can be wrong with a checkpoint.

use std::path::PathBuf;

use safetensors::SafeTensorError;
use thiserror::Error;

use super::MAX_RANK;
use crate::files::FileError;

/// What is wrong with a checkpoint.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// The file could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file is not a whole safetensors file.
    #[error("{} is not a whole safetensors file: {source}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What the safetensors library found.
        source: SafeTensorError,
    },
    /// The header's offsets lie outside the file.
    #[error("{} is not a whole safetensors file: its header describes {claimed_bytes} bytes of data, it has {found_bytes}", path.display())]
    Truncated {
        /// The file.
        path: PathBuf,
        /// The end of the last tensor, as the header has it.
        claimed_bytes: u64,
        /// The bytes after the header.
        found_bytes: u64,
    },
    /// A tensor is not fp32 or has too many dimensions.
    #[error("{}: tensor `{name}` is {found}, at most {MAX_RANK} dimensions of F32 are expected", path.display())]
    Kind {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// Its dtype and shape.
        found: String,
    },
    /// The checkpoint has no tensor of that name.
    #[error("the checkpoint has no tensor `{0}`")]
    MissingTensor(String),
    /// A tensor has another shape than the model.
    #[error("the checkpoint's tensor `{name}` has the shape {found:?}, {expected:?} is expected")]
    Shape {
        /// The tensor.
        name: String,
        /// Its shape in the file.
        found: Vec<usize>,
        /// The model's shape.
        expected: Vec<usize>,
    },
    /// A tensor given to [`Checkpoint::insert`](super::Checkpoint::insert) has not the number of elements of its shape, or its name is
    /// taken or reserved.
    #[error("tensor `{name}` of shape {shape:?} and {elements} elements cannot be stored")]
    Insert {
        /// The tensor.
        name: String,
        /// The shape given.
        shape: Vec<usize>,
        /// The number of values given.
        elements: usize,
    },
    /// The metadata have no such entry.
    #[error("the checkpoint's metadata have no `{0}`")]
    MissingMetadata(String),
    /// An entry of the metadata is not what is expected there.
    #[error("the checkpoint's metadata `{key}`: {source}")]
    Metadata {
        /// The entry.
        key: String,
        /// What serde found.
        source: serde_json::Error,
    },
    /// The header would be longer than a reader accepts.
    #[error("the checkpoint's header would have {0} bytes")]
    HeaderTooLong(usize),
}
