//! The steps of a run, its checkpoints, and its end.

use std::path::PathBuf;

use anemone_mil::runtime::RuntimeError;

use super::directory::CURVE;
use super::{Observer, PENDING, Run, RunError, Summary, checkpoint_path};
use crate::baseline::witten_bell;
use crate::curve::Curve;
use crate::generate::Sampler;
use crate::head::Runtimes;
use crate::interchange::{InterchangeError, hugging_face};
use crate::log::{self, Record};
use crate::random::Random;
use crate::tokenizer::Tokenizer;
use crate::train::TrainError;

/// The most tokens that are validated before the end: more than the built-in text has.
const INTERVAL_TOKENS: usize = 1 << 16;
/// Length of the closing sample, in tokens.
const SAMPLE_TOKENS: usize = 240;

impl Run {
    /// Takes the steps that are left, with validation and checkpoints at their intervals and at the end.
    ///
    /// # Errors
    /// Training fails, or a file cannot be written; the last checkpoint is then still whole. A runtime that can do no
    /// more in this process leaves a checkpoint of the last step: [`RunError::Exhausted`], unless this process took no
    /// step at all, so that another would not either. So does an observer that interrupts: [`RunError::Interrupted`].
    pub fn finish(
        &mut self,
        runtimes: Runtimes<'_>,
        observer: &mut dyn Observer,
    ) -> Result<Summary, RunError> {
        let begun = (self.trainer.steps_done(), self.pending.is_some());
        match self.run_to_end(runtimes, observer) {
            // The runtime was interrupted too.
            Err(RunError::Train(TrainError::Network(_))) if observer.interrupts() => {
                self.save(observer)?;
                Err(RunError::Interrupted { step: self.trainer.steps_done() })
            }
            Err(RunError::Train(error)) => match exhausted(&error) {
                Some(reason) if begun != (self.trainer.steps_done(), self.pending.is_some()) => {
                    self.save(observer)?;
                    Err(RunError::Exhausted { step: self.trainer.steps_done(), reason })
                }
                _ => Err(error.into()),
            },
            other => other,
        }
    }

    fn run_to_end(
        &mut self,
        runtimes: Runtimes<'_>,
        observer: &mut dyn Observer,
    ) -> Result<Summary, RunError> {
        let train = self.trainer.config().train.clone();
        let due =
            |interval: u64, step: u64| step == train.steps || interval > 0 && step.is_multiple_of(interval);
        let mut validation_loss = None;
        while self.pending.is_some() || self.trainer.steps_done() < train.steps {
            if self.pending.is_none() {
                self.pending = Some(self.trainer.step()?);
            }
            let step = self.trainer.steps_done();
            let validation = match due(train.validation_interval, step) {
                true if step == train.steps => Some(self.trainer.validation_loss()?),
                true => Some(self.trainer.validation_loss_over(INTERVAL_TOKENS)?),
                false => None,
            };
            validation_loss = validation;
            let Some(record) = self.pending.take() else { continue };
            let record = Record { val_loss: validation, ..record };
            self.log.append(&record)?;
            self.last_loss = record.loss;
            observer.step(&record, train.steps);
            let interrupted = observer.interrupts() && step < train.steps;
            if interrupted || due(train.checkpoint_interval, step) {
                self.save(observer)?;
            }
            if interrupted {
                return Err(RunError::Interrupted { step });
            }
        }
        let validation_loss = match validation_loss {
            Some(loss) => loss,
            // A finished run that was resumed: nothing was left to do, but what a kill after the checkpoint left.
            None => {
                self.write_model()?;
                self.trainer.validation_loss()?
            }
        };
        Ok(Summary {
            steps: self.trainer.steps_done(),
            validation_loss,
            validation_loss_per_byte: self.per_byte(validation_loss),
            bigram_cross_entropy: self.bigram,
            five_gram_cross_entropy: self
                .trainer
                .data()
                .texts()
                .map(|[train, rest]| witten_bell(train, rest)),
            checkpoint: checkpoint_path(self.directory.path()),
            model: self.model_written(),
            log: self.log_path.clone(),
            curve: self.draw_curve()?,
            sample: self.sample(runtimes)?,
        })
    }

    /// A loss over the validation text, given in nats per token, in nats per byte.
    fn per_byte(&self, loss: f64) -> Option<f64> {
        let data = self.trainer.data();
        let nats = loss * (data.validation().len() - 1) as f64;
        data.validation_bytes().map(|bytes| nats / bytes.max(1) as f64)
    }

    fn save(&mut self, observer: &mut dyn Observer) -> Result<(), RunError> {
        let mut checkpoint = self.trainer.checkpoint()?;
        checkpoint.metadata.extend(self.origin.metadata.clone());
        checkpoint.set("last_loss", &self.last_loss)?;
        if let Some(record) = &self.pending {
            checkpoint.set(PENDING, record)?;
        }
        let path = checkpoint_path(self.directory.path());
        self.log.sync()?;
        // A checkpoint is not without the tokenizer that it refers to.
        if let Some(tokenizer) = self.tokenizer.as_ref().filter(|_| !self.has_tokenizer) {
            hugging_face::write_tokenizer(tokenizer, self.directory.path())?;
            self.has_tokenizer = true;
        }
        checkpoint.write(&path)?;
        // It holds all weights once more.
        drop(checkpoint);
        self.write_model()?;
        self.draw_curve()?;
        observer.checkpoint(self.trainer.steps_done(), &path);
        Ok(())
    }

    /// Writes the model for others, where they have such models.
    fn write_model(&self) -> Result<(), RunError> {
        let (model, seq) = (self.trainer.whole_model()?, self.trainer.config().train.seq);
        match hugging_face::write(&model, seq, self.directory.path()) {
            Err(InterchangeError::NotExpressible { .. }) => Ok(()),
            written => Ok(written?),
        }
    }

    fn model_written(&self) -> Option<PathBuf> {
        let directory = self.directory.path();
        directory.join(hugging_face::CONFIG).exists().then(|| directory.to_owned())
    }

    fn draw_curve(&self) -> Result<PathBuf, RunError> {
        let path = self.directory.path().join(CURVE);
        let config = self.trainer.config();
        let title = format!(
            "V = {}, D = {}, {} tokens per step, {}",
            config.model.vocab,
            config.model.dim,
            config.train.positions(),
            config.train.dtype.name()
        );
        // Losses are per token, what bigrams predict per byte.
        let bigram = self.bigram.filter(|_| matches!(self.tokenizer, Some(Tokenizer::Bytes)));
        Curve::from_records(&title, &log::read(&self.log_path)?, bigram).write(&path)?;
        Ok(path)
    }

    /// The sample is the host's: token by token, programs of one position are not worth a device's compilations.
    fn sample(&self, runtimes: Runtimes<'_>) -> Result<Option<String>, RunError> {
        let Some(tokenizer) = &self.tokenizer else { return Ok(None) };
        let runtimes = Runtimes::all(runtimes.products);
        let sampler = Sampler::new(1.0, 1.0)?;
        let mut random = Random::new(self.trainer.config().train.seed);
        let prompt = tokenizer.encode(b"\n")?;
        let mut tokens = self.trainer.generate(&prompt, SAMPLE_TOKENS, sampler, &mut random, runtimes)?;
        // A model wider than its tokenizer may pick a token that stands for nothing.
        tokens.retain(|&token| (token as usize) < tokenizer.vocab());
        Ok(Some(String::from_utf8_lossy(&tokenizer.decode(&tokens)?).into_owned()))
    }
}

/// What a runtime has used up, if that is why training fails.
fn exhausted(error: &TrainError) -> Option<String> {
    match error {
        TrainError::Network(error) => match error.runtime() {
            Some(error @ RuntimeError::Exhausted { .. }) => Some(error.to_string()),
            _ => None,
        },
        _ => None,
    }
}
