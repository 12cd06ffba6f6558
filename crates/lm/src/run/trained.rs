//! A model that a run left.

use std::path::Path;

use super::data::recall_tokenizer;
use super::{RunError, checkpoint_path};
use crate::checkpoint::Checkpoint;
use crate::config::Config;
use crate::model::Model;
use crate::tokenizer::Tokenizer;
use crate::train::TrainError;

/// A model as the last checkpoint of a run has it, with what goes with it.
#[derive(Clone, Debug)]
pub struct Trained {
    /// The configuration of the run.
    pub config: Config,
    /// The weights.
    pub model: Model,
    /// How its text becomes tokens; none for a model that was trained on tokens of no known text.
    pub tokenizer: Option<Tokenizer>,
}

impl Trained {
    /// The model in the directory of a run, which may go on training there.
    ///
    /// # Errors
    ///
    /// There is no checkpoint, it is damaged, or the tokenizer beside it is another than the run's.
    pub fn load(directory: &Path) -> Result<Trained, RunError> {
        let path = checkpoint_path(directory);
        if !path.exists() {
            return Err(RunError::NoModel(directory.to_owned()));
        }
        let checkpoint = Checkpoint::read(&path)?;
        let config: Config = checkpoint.get("config")?;
        config.validate().map_err(TrainError::from)?;
        let model = Model::load(&config.model, &checkpoint).map_err(TrainError::from)?;
        let tokenizer = recall_tokenizer(directory, &checkpoint)?;
        Ok(Trained { config, model, tokenizer })
    }
}
