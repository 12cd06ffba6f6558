//! What can be wrong with a model in another's form.

use std::path::PathBuf;

use thiserror::Error;

use crate::checkpoint::CheckpointError;
use crate::config::ConfigError;
use crate::files::FileError;
use crate::model::ModelError;

/// Why a model cannot be taken over or handed on.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum InterchangeError {
    /// A file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// A file of tensors is damaged, or cannot be written.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The model does not fit in memory.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A file is not the JSON that is expected there.
    #[error("{} is not a JSON object: {reason}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// What is wrong, with the place.
        reason: String,
    },
    /// A field that a model cannot be known without.
    #[error("{}: there is no `{field}`, {expected}", path.display())]
    NoField {
        /// The file.
        path: PathBuf,
        /// The field.
        field: String,
        /// What is expected.
        expected: &'static str,
    },
    /// A field has a value that means nothing, or a model that the programs do not compute.
    #[error("{}: `{field}` is {found}, {expected}", path.display())]
    Field {
        /// The file.
        path: PathBuf,
        /// The field.
        field: String,
        /// Its value.
        found: String,
        /// What is expected.
        expected: &'static str,
    },
    /// Dimensions that no model has.
    #[error("{}: {source}", path.display())]
    Dimensions {
        /// The file.
        path: PathBuf,
        /// What is wrong with them.
        source: ConfigError,
    },
    /// A directory without weights.
    #[error("{} holds neither `model.safetensors` nor `model.safetensors.index.json`, so there are no weights to read", .0.display())]
    NoWeights(PathBuf),
    /// A tensor that the model has is not there.
    #[error("{} has no tensor `{name}`, which a model of these dimensions has", path.display())]
    MissingTensor {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
    },
    /// A tensor that the model does not have.
    #[error("{} has a tensor `{name}`, which no model of these dimensions has", path.display())]
    ExtraTensor {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
    },
    /// A tensor has another shape than the model's.
    #[error("{}: tensor `{name}` has the shape {found:?}, {expected:?} is expected", path.display())]
    Shape {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// Its shape in the file.
        found: Vec<usize>,
        /// The model's.
        expected: Vec<usize>,
    },
    /// A tensor's elements are of a type that weights are not read from.
    #[error("{}: tensor `{name}` is of {found}; F32, F16 and BF16 are read", path.display())]
    Dtype {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// Its type.
        found: String,
    },
    /// A classifier that is said to be the embedding, and is not.
    #[error("{}: tensor `{name}` is not the embedding's, though `tie_word_embeddings` says so", path.display())]
    NotTied {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
    },
    /// An index says that a tensor is where it is not, or cannot be.
    #[error("{}: tensor `{name}` is said to be in `{shard}`, {reason}", path.display())]
    Index {
        /// The index.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// The shard.
        shard: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// A file that is not of llama2.c's version 0.
    #[error("{} is not a model of llama2.c's version 0: {reason}", path.display())]
    Llama2c {
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// The form has no word for what the model is.
    #[error("{form} cannot hold this model: {what}")]
    NotExpressible {
        /// The form.
        form: &'static str,
        /// What it cannot say.
        what: &'static str,
    },
    /// What would be written is there already.
    #[error("{} is there already; choose another place", .0.display())]
    Occupied(PathBuf),
}
