//! Checkpoints: named fp32 tensors and what is needed to go on, in one safetensors file.
//!
//! The file is [safetensors](https://github.com/huggingface/safetensors): the length of a JSON header as a
//! little-endian u64, the header, then the tensors' bytes. Any reader of that format reads it. Metadata (the
//! step, the configuration, the loss scale) are strings in the header's `__metadata__`, which is a map from
//! strings to strings; [`Checkpoint::set`] and [`Checkpoint::get`] put any serde value there as JSON.

mod error;
mod format;

use std::collections::BTreeMap;
use std::path::Path;

use safetensors::{Dtype, SafeTensorError, SafeTensors};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::files::{atomic_write, read_bounded};
use format::{Header, check_extent, write_values};

pub use error::CheckpointError;

/// The largest checkpoint that is read: 64 GiB.
pub const MAX_CHECKPOINT_BYTES: u64 = 64 << 30;
/// The longest header: what the safetensors library reads.
const MAX_HEADER_BYTES: usize = 100_000_000;
/// The most dimensions a tensor may have.
const MAX_RANK: usize = 8;

/// A named tensor: shape and row-major values.
#[derive(Clone, Debug, PartialEq)]
pub struct NamedTensor {
    /// Its dimensions; their product is the number of values.
    pub shape: Vec<usize>,
    /// Row-major.
    pub values: Vec<f32>,
}

/// The content of a checkpoint.
///
/// ```
/// use anemone_lm::checkpoint::Checkpoint;
/// let path = std::env::temp_dir().join("anemone_lm_checkpoint_example.safetensors");
/// let mut checkpoint = Checkpoint::default();
/// checkpoint.insert("embedding", &[2, 3], vec![0.5; 6])?;
/// checkpoint.set("step", &100u64)?;
/// checkpoint.write(&path)?;
///
/// let again = Checkpoint::read(&path)?;
/// assert_eq!(again.tensor("embedding", &[2, 3])?, [0.5; 6]);
/// assert_eq!(again.get::<u64>("step")?, 100);
/// # std::fs::remove_file(&path)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Checkpoint {
    /// Strings beside the tensors; [`Checkpoint::set`] writes JSON here.
    pub metadata: BTreeMap<String, String>,
    tensors: BTreeMap<String, NamedTensor>,
}

impl Checkpoint {
    /// Adds a tensor.
    ///
    /// # Errors
    /// [`CheckpointError::Insert`] if `values` has not the shape's number of elements, there are more than 8
    /// dimensions, the name is taken, or it is `__metadata__`.
    pub fn insert(&mut self, name: &str, shape: &[usize], values: Vec<f32>) -> Result<(), CheckpointError> {
        let elements = shape.iter().try_fold(1usize, |product, &dim| product.checked_mul(dim));
        let taken = name == METADATA || self.tensors.contains_key(name);
        if taken || elements != Some(values.len()) || shape.len() > MAX_RANK {
            let (name, shape, elements) = (name.to_owned(), shape.to_vec(), values.len());
            return Err(CheckpointError::Insert { name, shape, elements });
        }
        self.tensors.insert(name.to_owned(), NamedTensor { shape: shape.to_vec(), values });
        Ok(())
    }

    /// The values of a tensor of a known shape.
    ///
    /// # Errors
    /// The tensor is missing or has another shape.
    pub fn tensor(&self, name: &str, shape: &[usize]) -> Result<&[f32], CheckpointError> {
        let tensor = self.tensors.get(name).ok_or_else(|| CheckpointError::MissingTensor(name.to_owned()))?;
        if tensor.shape != shape {
            let (found, expected) = (tensor.shape.clone(), shape.to_vec());
            return Err(CheckpointError::Shape { name: name.to_owned(), found, expected });
        }
        Ok(&tensor.values)
    }

    /// All tensors in the order of their names.
    pub fn tensors(&self) -> impl Iterator<Item = (&str, &NamedTensor)> {
        self.tensors.iter().map(|(name, tensor)| (name.as_str(), tensor))
    }

    /// Puts a value into the metadata, as JSON.
    ///
    /// # Errors
    /// A value that JSON cannot hold, as a map whose keys are not strings.
    pub fn set(&mut self, key: &str, value: &impl Serialize) -> Result<(), CheckpointError> {
        let json = serde_json::to_string(value).map_err(|source| metadata_error(key, source))?;
        self.metadata.insert(key.to_owned(), json);
        Ok(())
    }

    /// Reads a value that [`Checkpoint::set`] put into the metadata.
    ///
    /// # Errors
    /// The entry is missing, or not a value of this type.
    pub fn get<T: DeserializeOwned>(&self, key: &str) -> Result<T, CheckpointError> {
        let json = self.metadata.get(key).ok_or_else(|| CheckpointError::MissingMetadata(key.to_owned()))?;
        serde_json::from_str(json).map_err(|source| metadata_error(key, source))
    }

    /// Writes the file, replacing an older one atomically ([`atomic_write`]). The same content gives the same
    /// bytes.
    ///
    /// # Errors
    /// The file cannot be written, or the header is too long to be read again; an older file is then as it was.
    pub fn write(&self, path: &Path) -> Result<(), CheckpointError> {
        let mut header = serde_json::to_vec(&Header(self)).map_err(|source| metadata_error("", source))?;
        // Tensors begin at a multiple of 8; the format allows spaces after the header.
        header.resize(header.len().next_multiple_of(8), b' ');
        if header.len() > MAX_HEADER_BYTES {
            return Err(CheckpointError::HeaderTooLong(header.len()));
        }
        atomic_write(path, |writer| {
            writer.write_all(&(header.len() as u64).to_le_bytes())?;
            writer.write_all(&header)?;
            self.tensors.values().try_for_each(|tensor| write_values(writer, &tensor.values))
        })?;
        Ok(())
    }

    /// Reads and checks a file. A damaged one gives an error, never a panic, and memory is asked for only as
    /// far as the file really goes. The format has no checksum: changed values are not noticed.
    ///
    /// # Errors
    /// The file cannot be read, has more than [`MAX_CHECKPOINT_BYTES`], is not whole, or holds tensors other
    /// than fp32.
    pub fn read(path: &Path) -> Result<Self, CheckpointError> {
        Self::parse(path, &read_bounded(path, MAX_CHECKPOINT_BYTES)?)
    }

    /// The content of a file's bytes; `path` is for the messages.
    fn parse(path: &Path, bytes: &[u8]) -> Result<Self, CheckpointError> {
        let file = deserialize(path, bytes)?;
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(|source| format_error(path, source))?;
        let mut checkpoint = Self::default();
        if let Some(metadata) = header.metadata() {
            checkpoint.metadata = metadata.clone().into_iter().collect();
        }
        for (name, view) in file.iter() {
            if view.dtype() != Dtype::F32 || view.shape().len() > MAX_RANK {
                let found = format!("{:?} of shape {:?}", view.dtype(), view.shape());
                return Err(CheckpointError::Kind { path: path.to_owned(), name: name.to_owned(), found });
            }
            let (elements, _) = view.data().as_chunks::<4>();
            let values = elements.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect();
            checkpoint.insert(name, view.shape(), values)?;
        }
        Ok(checkpoint)
    }
}

/// The tensors of any safetensors file's bytes, each within them; `path` is for the messages.
pub(crate) fn deserialize<'a>(path: &Path, bytes: &'a [u8]) -> Result<SafeTensors<'a>, CheckpointError> {
    check_extent(path, bytes)?;
    SafeTensors::deserialize(bytes).map_err(|source| format_error(path, source))
}

const METADATA: &str = "__metadata__";

fn format_error(path: &Path, source: SafeTensorError) -> CheckpointError {
    CheckpointError::Format { path: path.to_owned(), source }
}

fn metadata_error(key: &str, source: serde_json::Error) -> CheckpointError {
    CheckpointError::Metadata { key: key.to_owned(), source }
}

#[cfg(test)]
mod tests;
