//! Why a run cannot begin, go on or end.

use std::path::PathBuf;

use thiserror::Error;

use crate::checkpoint::CheckpointError;
use crate::curve::CurveError;
use crate::data::DataError;
use crate::files::FileError;
use crate::generate::SampleError;
use crate::interchange::InterchangeError;
use crate::log::LogError;
use crate::model::ModelError;
use crate::tokenizer::TokenizerError;
use crate::train::TrainError;

/// Why a run cannot begin, go on or end.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RunError {
    /// Training failed.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// The data cannot be had.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The checkpoint cannot be read or written.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The system has no memory for the whole model.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The model cannot be written for others.
    #[error(transparent)]
    Interchange(#[from] InterchangeError),
    /// The log cannot be read or written.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The curve cannot be drawn or written.
    #[error(transparent)]
    Curve(#[from] CurveError),
    /// The sample cannot be drawn.
    #[error(transparent)]
    Sample(#[from] SampleError),
    /// The sample's tokens cannot be turned into text.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// The directory cannot be made, or a file of it not be read or written, or it is one of the data.
    #[error(transparent)]
    File(#[from] FileError),
    /// The directory has another run's checkpoint.
    #[error(
        "{} holds the checkpoint of a run; resume that run, or choose another directory for this one",
        .0.display()
    )]
    Occupied(PathBuf),
    /// The directory has a model that no run left there.
    #[error("{} holds a model, {}, which the run would replace; choose another directory", .0.display(), .1)]
    HoldsModel(PathBuf, &'static str),
    /// The directory has a file of another origin that a run writes.
    #[error("{} holds a file, {}, which the run would replace; choose another directory", .0.display(), .1)]
    HoldsFile(PathBuf, &'static str),
    /// Another process trains in the directory.
    #[error("another run is training in {}; wait for its end, or choose another directory", .0.display())]
    Busy(PathBuf),
    /// The log that was asked for is another file of the run.
    #[error("{} is a file that the run itself keeps; choose another place for the log", .0.display())]
    OwnFile(PathBuf),
    /// A path that a checkpoint cannot remember.
    #[error("{} is not UTF-8, and checkpoints, which remember the path, hold only that; rename it", .0.display())]
    NotUtf8(PathBuf),
    /// The directory has no checkpoint to go on from.
    #[error("{} holds no checkpoint, so there is no run to resume", .0.display())]
    Nothing(PathBuf),
    /// The directory has no checkpoint to take a model from.
    #[error("{} holds no checkpoint of a run, so there is no model", .0.display())]
    NoModel(PathBuf),
    /// The vocabulary does not hold the tokenizer's tokens.
    #[error(
        "the model's vocabulary has {vocab} tokens, and the tokenizer {tokens}, which do not fit; take a model with more, or another tokenizer"
    )]
    Vocabulary {
        /// The model's V.
        vocab: usize,
        /// The tokenizer's.
        tokens: usize,
    },
    /// The tokenizer in the directory is not the one that the run began with.
    #[error("{} is not the tokenizer that the run began with, so it cannot go on", .0.display())]
    ChangedTokenizer(PathBuf),
    /// The runtime is not the one that the run began on, so its losses would differ.
    #[error(
        "the run began on the runtime {began}, and cannot go on on {given} with the same losses; use {began}"
    )]
    Runtime {
        /// The one it began on.
        began: String,
        /// The one given.
        given: String,
    },
    /// The observer asked for an end. The run is saved.
    #[error("interrupted; the run is saved after step {step}, and can be resumed")]
    Interrupted {
        /// The steps done.
        step: u64,
    },
    /// The runtime can do no more in this process. The run is saved; another process can resume it.
    #[error("{reason}; the run is saved after step {step}, and another process can resume it")]
    Exhausted {
        /// The steps done.
        step: u64,
        /// What is used up.
        reason: String,
    },
    /// The data files are not what they were when the run began.
    #[error("the data have changed since the run began, so it cannot be resumed; begin another run on them")]
    ChangedData,
}
