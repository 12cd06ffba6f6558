//! A training run in a directory: what it writes there, and how it goes on after a stop.
//!
//! | file | is |
//! |---|---|
//! | `checkpoint.safetensors` | weights, optimizer state and everything else that resuming needs |
//! | `log.jsonl` | one line per step, see [`crate::log`] |
//! | `curve.svg` | the loss curve, drawn at every checkpoint |
//! | `config.json`, `model.safetensors` | the checkpoint's model as Hugging Face has it, see [`hugging_face`] |
//! | `tokenizer.json` | how text becomes tokens, where that is known |
//! | `lock` | empty, locked by the process that trains there |
//!
//! A checkpoint replaces the one before it atomically, so a run that is killed at any moment leaves a whole one.
//! The model beside it is written after it, for others to read; a run goes on from the checkpoint alone. It remembers where the log is, and the loss of its last step, by which the log is known to be the run's own.

mod directory;
mod steps;
mod trained;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::config::Config;
use crate::curve::CurveError;
use crate::data::{DataError, Dataset, TokenDtype, Tokens, bigram_cross_entropy};
use crate::files::{FileError, make_directory, refuse_overwriting, serialize_optional_path, serialize_path};
use crate::generate::SampleError;
use crate::head::Runtimes;
use crate::interchange::{InterchangeError, hugging_face};
use crate::log::{Log, LogError, Record};
use crate::model::{Model, ModelError};
use crate::tokenizer::{Tokenizer, TokenizerError};
use crate::train::{TrainError, Trainer};
use directory::{CHECKPOINT, CURVE, LOG, RunDirectory};

pub use trained::Trained;

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

/// Where a run's data come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DataSource {
    /// The built-in stories.
    BuiltIn,
    /// Text files, one after the other.
    Files(Vec<PathBuf>),
    /// Files of tokens, one after the other.
    Tokens {
        /// The files.
        files: Vec<PathBuf>,
        /// How they hold their tokens.
        dtype: TokenDtype,
    },
}

impl DataSource {
    /// The files, if it is not built in.
    pub fn files(&self) -> &[PathBuf] {
        match self {
            DataSource::BuiltIn => &[],
            DataSource::Files(files) | DataSource::Tokens { files, .. } => files,
        }
    }

    /// Reads the text, as tokens of `tokenizer`, or maps the tokens, all below V = `vocab`; for windows of T = `seq`.
    ///
    /// # Errors
    /// A file that cannot be read, data that are too short, or a token that is not below V.
    pub fn load(&self, tokenizer: &Tokenizer, vocab: usize, seq: usize) -> Result<Dataset, DataError> {
        match self {
            DataSource::BuiltIn => Dataset::built_in(tokenizer, seq),
            DataSource::Files(paths) => Dataset::from_files(paths, tokenizer, seq),
            DataSource::Tokens { files, dtype } => Dataset::from_token_files(files, *dtype, vocab, seq),
        }
    }
}

/// What a run trains on.
#[derive(Clone, Debug)]
pub struct RunData {
    /// Where the data come from.
    pub source: DataSource,
    /// How text becomes tokens; none for data that are tokens of no known text.
    pub tokenizer: Option<Tokenizer>,
}

/// Bytes as tokens of what is text.
impl From<DataSource> for RunData {
    fn from(source: DataSource) -> RunData {
        let tokenizer = match source {
            DataSource::BuiltIn | DataSource::Files(_) => Some(Tokenizer::Bytes),
            DataSource::Tokens { .. } => None,
        };
        RunData { source, tokenizer }
    }
}

/// What a checkpoint remembers of the tokenizer, which is in a file of the directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Remembered {
    Unknown,
    Bytes,
    File {
        /// Of its file.
        fingerprint: u64,
    },
}

impl Remembered {
    fn of(tokenizer: Option<&Tokenizer>) -> Remembered {
        match tokenizer {
            None => Remembered::Unknown,
            Some(Tokenizer::Bytes) => Remembered::Bytes,
            Some(Tokenizer::File(file)) => Remembered::File { fingerprint: fnv(file.json().bytes()) },
        }
    }
}

/// The tokenizer of the run in a directory, as its checkpoint remembers it. Older checkpoints are of bytes.
fn recall_tokenizer(directory: &Path, checkpoint: &Checkpoint) -> Result<Option<Tokenizer>, RunError> {
    let remembered = match checkpoint.metadata.contains_key(TOKENIZER_KEY) {
        true => checkpoint.get(TOKENIZER_KEY)?,
        false => Remembered::Bytes,
    };
    let tokenizer = match remembered {
        Remembered::Unknown => None,
        Remembered::Bytes => Some(Tokenizer::Bytes),
        Remembered::File { .. } => Some(Tokenizer::read(&directory.join(hugging_face::TOKENIZER))?),
    };
    if Remembered::of(tokenizer.as_ref()) != remembered {
        return Err(RunError::ChangedTokenizer(directory.join(hugging_face::TOKENIZER)));
    }
    Ok(tokenizer)
}

/// Who is told how a run goes.
pub trait Observer {
    /// A step is done, of `steps` in all; its record has the validation loss where that was computed.
    fn step(&mut self, record: &Record, steps: u64);
    /// A checkpoint was written after `step` steps.
    fn checkpoint(&mut self, step: u64, path: &Path);
    /// Whether the run is to be saved and end after the present step.
    fn interrupts(&self) -> bool {
        false
    }
}

/// An observer that looks away.
impl Observer for () {
    fn step(&mut self, _: &Record, _: u64) {}
    fn checkpoint(&mut self, _: u64, _: &Path) {}
}

/// What a finished run leaves.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// Steps of the whole run.
    pub steps: u64,
    /// Loss over the whole validation text, in nats per token.
    pub validation_loss: f64,
    /// The same in nats per byte of the text; none for data that are tokens of no text.
    pub validation_loss_per_byte: Option<f64>,
    /// Cross entropy of the byte-bigram model, counted on the training text with add-one smoothing, over the
    /// same validation text, in nats per byte; none for data that are tokens of no text.
    pub bigram_cross_entropy: Option<f64>,
    /// Cross entropy of the interpolated Witten–Bell byte 5-gram model, likewise, in nats per byte.
    pub five_gram_cross_entropy: Option<f64>,
    /// The checkpoint.
    #[serde(serialize_with = "serialize_path")]
    pub checkpoint: PathBuf,
    /// The directory that transformers loads the model from; none for a model that it does not have, one with a soft
    /// cap.
    #[serde(serialize_with = "serialize_optional_path")]
    pub model: Option<PathBuf>,
    /// The log.
    #[serde(serialize_with = "serialize_path")]
    pub log: PathBuf,
    /// The loss curve.
    #[serde(serialize_with = "serialize_path")]
    pub curve: PathBuf,
    /// A text that the model continued from a line break; none where its tokens are of no known text.
    pub sample: Option<String>,
}

/// The checkpoint's key of the runtime of the host's products.
const PRODUCTS_KEY: &str = "products_runtime";
/// The checkpoint's key of the tokenizer.
const TOKENIZER_KEY: &str = "tokenizer";
/// The checkpoint's key of a step that is done, but not in the log yet.
const PENDING: &str = "pending";

/// A run, ready to take its next step.
pub struct Run {
    trainer: Trainer,
    directory: RunDirectory,
    log: Log,
    log_path: PathBuf,
    /// What every checkpoint says of the run beside the trainer's state, in the form of its metadata.
    origin: Checkpoint,
    /// How its text becomes tokens; none for data that were tokens already.
    tokenizer: Option<Tokenizer>,
    /// Whether the directory has its file.
    has_tokenizer: bool,
    bigram: Option<f64>,
    /// A step that is done, but not validated yet, nor in the log: the process before could do no more.
    pending: Option<Record>,
    /// The loss of the last step in the log.
    last_loss: f64,
}

/// The checkpoint's path in a run's directory.
pub fn checkpoint_path(directory: &Path) -> PathBuf {
    directory.join(CHECKPOINT)
}

/// The files that a run in this directory writes, its log at `log` if not in its usual place.
pub fn written_files(directory: &Path, log: Option<&Path>) -> [PathBuf; 6] {
    let log = log.map_or_else(|| directory.join(LOG), Path::to_owned);
    let [config, weights, tokenizer] = MODEL_FILES.map(|name| directory.join(name));
    [directory.join(CHECKPOINT), log, directory.join(CURVE), config, weights, tokenizer]
}

/// The files of a directory that are for others.
const MODEL_FILES: [&str; 3] = [hugging_face::CONFIG, hugging_face::WEIGHTS, hugging_face::TOKENIZER];

/// Refuses data that the run would write over.
fn spare_data(source: &DataSource, directory: &Path, log: &Path) -> Result<(), FileError> {
    refuse_overwriting(written_files(directory, Some(log)), source.files())
}

/// Refuses a directory with files that a new run would replace.
fn not_occupied(directory: &Path) -> Result<(), RunError> {
    if checkpoint_path(directory).exists() {
        return Err(RunError::Occupied(directory.to_owned()));
    }
    let has = |name: &&str| directory.join(name).exists();
    match (MODEL_FILES.into_iter().find(has), Some(CURVE).filter(has)) {
        (Some(name), _) => Err(RunError::HoldsModel(directory.to_owned(), name)),
        (None, Some(name)) => Err(RunError::HoldsFile(directory.to_owned(), name)),
        (None, None) => Ok(()),
    }
}

/// A fingerprint of bytes (FNV-1a, 64 bits): enough to notice that a file was edited.
fn fnv(bytes: impl Iterator<Item = u8>) -> u64 {
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

fn fingerprint(tokens: &Tokens) -> u64 {
    fnv(tokens.iter().flat_map(u32::to_le_bytes))
}

fn data_fingerprint(data: &Dataset) -> [u64; 2] {
    [fingerprint(data.train()), fingerprint(data.validation())]
}

/// Whether a checkpoint can remember a path.
fn utf8(path: &Path) -> Result<(), RunError> {
    path.to_str().map_or_else(|| Err(RunError::NotUtf8(path.to_owned())), |_| Ok(()))
}

fn origin(
    runtimes: Runtimes<'_>,
    data: &RunData,
    fingerprint: [u64; 2],
    log: &Path,
) -> Result<Checkpoint, CheckpointError> {
    let mut origin = Checkpoint::default();
    origin.set("runtime", &runtimes.head.identity())?;
    origin.set("layers_runtime", &runtimes.layers_identity())?;
    origin.set(PRODUCTS_KEY, &runtimes.products.identity())?;
    origin.set("data", &data.source)?;
    origin.set(TOKENIZER_KEY, &Remembered::of(data.tokenizer.as_ref()))?;
    origin.set("data_fingerprint", &fingerprint)?;
    origin.set("log", &log)?;
    Ok(origin)
}

/// Loads data, and checks that they fit the model.
fn load(RunData { source, tokenizer }: &RunData, config: &Config) -> Result<Dataset, RunError> {
    let (vocab, tokens) = (config.model.vocab, tokenizer.as_ref().map_or(0, Tokenizer::vocab));
    if vocab < tokens {
        return Err(RunError::Vocabulary { vocab, tokens });
    }
    let bytes = Tokenizer::Bytes;
    Ok(source.load(tokenizer.as_ref().unwrap_or(&bytes), vocab, config.train.seq)?)
}

/// Cross entropy of the byte-bigram model, for data that are of a text.
fn bigram(data: &Dataset) -> Option<f64> {
    data.texts().map(|[train, validation]| bigram_cross_entropy(train, validation))
}

impl Run {
    /// A new run in `directory`, which is made where it is missing; its log is `log`, or `log.jsonl` there.
    ///
    /// # Errors
    /// The directory has a run's checkpoint already, or a process that trains in it; the log exists; the data
    /// cannot be had; or a setting is out of range.
    pub fn create(
        config: Config,
        data: impl Into<RunData>,
        directory: &Path,
        log: Option<&Path>,
        runtimes: Runtimes<'_>,
    ) -> Result<Run, RunError> {
        Run::create_from(None, config, data, directory, log, runtimes)
    }

    /// As [`Run::create`], from the weights of `model`, if there is one, whose dimensions are the configuration's.
    ///
    /// # Errors
    /// As [`Run::create`]; or a model of another configuration.
    pub fn create_from(
        model: Option<Model>,
        config: Config,
        data: impl Into<RunData>,
        directory: &Path,
        log: Option<&Path>,
        runtimes: Runtimes<'_>,
    ) -> Result<Run, RunError> {
        let given = data.into();
        let source = &given.source;
        let occupied = || not_occupied(directory);
        occupied()?;
        config.validate().map_err(TrainError::from)?;
        source.files().iter().try_for_each(|path| utf8(path))?;
        let log_path = log.map_or_else(|| directory.join(LOG), Path::to_owned);
        spare_data(source, directory, &log_path)?;
        let data = load(&given, &config)?;
        let fingerprint = data_fingerprint(&data);
        let bigram = bigram(&data);
        let trainer = match model {
            Some(model) => Trainer::with_model(config, data, runtimes, model)?,
            None => Trainer::new(config, data, runtimes)?,
        };
        make_directory(directory)?;
        let directory = RunDirectory::lock(directory)?;
        // Another process may have been at work until the lock was had.
        occupied()?;
        let remembered = directory.log_to_remember(&log_path)?;
        let origin = origin(runtimes, &given, fingerprint, &remembered)?;
        let log = Log::create(&log_path)?;
        let (pending, last_loss) = (None, f64::NAN);
        let (tokenizer, has_tokenizer) = (given.tokenizer, false);
        Ok(Run {
            trainer,
            directory,
            log,
            log_path,
            origin,
            tokenizer,
            has_tokenizer,
            bigram,
            pending,
            last_loss,
        })
    }

    /// The run whose checkpoint `directory` holds, ready for its next step. Its configuration and data are the
    /// checkpoint's, and `runtimes` must be those that it began on. Its log is the one that the
    /// checkpoint remembers, unless `log` says where that is now.
    ///
    /// # Errors
    /// There is no checkpoint, it is damaged, a process trains in the directory, the data have changed, or the
    /// log is not there or not this run's. Nothing was changed then but for leftovers of killed processes.
    pub fn resume(directory: &Path, log: Option<&Path>, runtimes: Runtimes<'_>) -> Result<Run, RunError> {
        let path = checkpoint_path(directory);
        if !path.exists() {
            return Err(RunError::Nothing(directory.to_owned()));
        }
        let directory = RunDirectory::lock(directory)?;
        let checkpoint = Checkpoint::read(&path)?;
        let config: Config = checkpoint.get("config")?;
        config.validate().map_err(TrainError::from)?;
        for (key, given) in [
            ("runtime", runtimes.head.identity()),
            ("layers_runtime", runtimes.layers_identity()),
            (PRODUCTS_KEY, runtimes.products.identity()),
        ] {
            // Older checkpoints do not have this one.
            if key == PRODUCTS_KEY && !checkpoint.metadata.contains_key(key) {
                continue;
            }
            let began: String = checkpoint.get(key)?;
            if began != given {
                return Err(RunError::Runtime { began, given });
            }
        }
        let source: DataSource = checkpoint.get("data")?;
        let log_path = match log {
            Some(log) => log.to_owned(),
            None => directory.path().join(checkpoint.get::<PathBuf>("log")?),
        };
        spare_data(&source, directory.path(), &log_path)?;
        let tokenizer = recall_tokenizer(directory.path(), &checkpoint)?;
        let given = RunData { source, tokenizer };
        let data = load(&given, &config)?;
        let fingerprint = data_fingerprint(&data);
        if checkpoint.get::<[u64; 2]>("data_fingerprint")? != fingerprint {
            return Err(RunError::ChangedData);
        }
        let bigram = bigram(&data);
        let trainer = Trainer::resume(config, data, runtimes, &checkpoint)?;
        let remembered = directory.log_to_remember(&log_path)?;
        let origin = origin(runtimes, &given, fingerprint, &remembered)?;
        let pending: Option<Record> = match checkpoint.metadata.contains_key(PENDING) {
            true => Some(checkpoint.get(PENDING)?),
            false => None,
        };
        if pending.as_ref().is_some_and(|record| record.step != trainer.steps_done()) {
            return Err(TrainError::State("its pending step is not the last").into());
        }
        let logged = trainer.steps_done() - u64::from(pending.is_some());
        let last_loss = if logged == 0 { f64::NAN } else { checkpoint.get("last_loss")? };
        let log = Log::resume(&log_path, logged, last_loss)?;
        let (tokenizer, has_tokenizer) = (given.tokenizer, true);
        Ok(Run {
            trainer,
            directory,
            log,
            log_path,
            origin,
            tokenizer,
            has_tokenizer,
            bigram,
            pending,
            last_loss,
        })
    }

    /// The trainer.
    pub fn trainer(&self) -> &Trainer {
        &self.trainer
    }

    /// Cross entropy of the byte-bigram model on the validation text, in nats per byte, where there is a text.
    pub fn bigram_cross_entropy(&self) -> Option<f64> {
        self.bigram
    }
}
