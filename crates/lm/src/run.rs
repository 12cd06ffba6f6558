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

mod data;
mod directory;
mod error;
mod steps;
mod trained;

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::config::Config;
use crate::files::{FileError, make_directory, refuse_overwriting, serialize_optional_path, serialize_path};
use crate::head::Runtimes;
use crate::interchange::hugging_face;
use crate::log::{Log, Record};
use crate::model::Model;
use crate::tokenizer::Tokenizer;
use crate::train::{TrainError, Trainer};
use data::{Remembered, TOKENIZER_KEY, bigram, data_fingerprint, load, recall_tokenizer};
use directory::{CHECKPOINT, CURVE, LOG, RunDirectory};

pub use data::{DataSource, RunData};
pub use error::RunError;
pub use trained::Trained;

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
        Ok(Run::new(trainer, directory, log, log_path, origin, given.tokenizer, bigram))
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
        let run = Run::new(trainer, directory, log, log_path, origin, given.tokenizer, bigram);
        Ok(Run { has_tokenizer: true, pending, last_loss, ..run })
    }

    /// A run whose log has no step yet, and whose directory no tokenizer.
    fn new(
        trainer: Trainer,
        directory: RunDirectory,
        log: Log,
        log_path: PathBuf,
        origin: Checkpoint,
        tokenizer: Option<Tokenizer>,
        bigram: Option<f64>,
    ) -> Run {
        Run {
            trainer,
            directory,
            log,
            log_path,
            origin,
            tokenizer,
            has_tokenizer: false,
            bigram,
            pending: None,
            last_loss: f64::NAN,
        }
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
