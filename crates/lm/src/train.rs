//! Training: batches in, weights out.
//!
//! A step is a function of the state (weights, moments, loss scale, step number) and the configuration alone:
//! batches come from the seed and the step number. So a run resumed from a checkpoint repeats the losses that
//! the interrupted one would have had, to the bit, on the same machine with the same number of threads.

use std::borrow::Cow;
use std::time::Instant;

use thiserror::Error;

use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::compact::CompactVocab;
use crate::config::{Config, ConfigError, DeviceDtype, TrainConfig};
use crate::data::{Batch, Dataset, evaluation_batches};
use crate::generate::{Generator, SampleError, Sampler};
use crate::head::Runtimes;
use crate::log::Record;
use crate::model::{Model, ModelError, Parameter};
use crate::network::{Gradients, Network, NetworkError};
use crate::optimizer::{AdamW, LossScale, Schedule, clip_factor};
use crate::random::Random;

/// Why training cannot go on.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TrainError {
    /// A setting is unusable.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The model cannot be prepared or run.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// The model cannot be had.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A checkpoint that is damaged or of another run.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// Logits that nothing can be drawn from.
    #[error(transparent)]
    Sample(#[from] SampleError),
    /// A checkpoint whose numbers no run writes.
    #[error("the checkpoint is not one that training wrote: {0}")]
    State(&'static str),
    /// Gradients that no loss scale makes finite.
    #[error(
        "the gradients at step {step} are not finite, whatever the loss scale, and the loss is {loss}: the training has \
         diverged; a lower learning rate than {lr} may help"
    )]
    NoGradients {
        /// The loss.
        loss: f64,
        /// The step at which it was seen.
        step: u64,
        /// The peak learning rate.
        lr: f64,
    },
    /// The loss is no longer a number.
    #[error(
        "the loss is {loss} at step {step}: the training has diverged; a lower learning rate than {lr} may help"
    )]
    Diverged {
        /// The loss.
        loss: f64,
        /// The step at which it was seen.
        step: u64,
        /// The peak learning rate.
        lr: f64,
    },
}

/// Where a run is: what a checkpoint holds.
struct State {
    model: Model,
    loss_scale: LossScale,
    step: u64,
    updates: u64,
}

/// A model in training.
pub struct Trainer {
    config: Config,
    data: Dataset,
    /// Where only the tokens of the data are trained: which they are.
    compact: Option<CompactVocab>,
    /// What is trained: the configuration's model, or the compact one.
    model: Model,
    network: Network,
    loss_scale: LossScale,
    /// Steps done, skipped ones included: numbers batches and the schedule.
    step: u64,
    /// Updates applied: AdamW's bias correction counts these.
    updates: u64,
}

impl Trainer {
    /// A new model on `data`, which has the configuration's T.
    ///
    /// # Errors
    ///
    /// A setting out of range, a tensor that does not fit in memory, or a runtime that refuses the head's
    /// programs.
    pub fn new(config: Config, data: Dataset, runtimes: Runtimes<'_>) -> Result<Trainer, TrainError> {
        config.validate()?;
        let model = Model::new(&config.model, config.train.seed)?;
        Trainer::with_model(config, data, runtimes, model)
    }

    /// As [`Trainer::new`], from the weights of `model`, whose dimensions are the configuration's.
    ///
    /// # Errors
    ///
    /// As [`Trainer::new`]; or a model of another configuration.
    pub fn with_model(
        config: Config,
        data: Dataset,
        runtimes: Runtimes<'_>,
        model: Model,
    ) -> Result<Trainer, TrainError> {
        config.validate()?;
        if model.config != config.model {
            return Err(TrainError::State("its model has other dimensions"));
        }
        let loss_scale = match config.train.dtype {
            DeviceDtype::Fp16 => LossScale::dynamic(),
            DeviceDtype::Fp32 => LossScale::none(),
        };
        Trainer::with_state(config, data, runtimes, State { model, loss_scale, step: 0, updates: 0 })
    }

    /// The run that `checkpoint` was taken of, ready for its next step.
    ///
    /// # Errors
    ///
    /// As [`Trainer::new`]; or a checkpoint of a model with other dimensions, or with numbers that no run
    /// writes.
    pub fn resume(
        config: Config,
        data: Dataset,
        runtimes: Runtimes<'_>,
        checkpoint: &Checkpoint,
    ) -> Result<Trainer, TrainError> {
        config.validate()?;
        let (step, updates): (u64, u64) = (checkpoint.get("step")?, checkpoint.get("updates")?);
        let loss_scale: LossScale = checkpoint.get("loss_scale")?;
        if !loss_scale.is_valid() {
            return Err(TrainError::State("its loss scale is none that training uses"));
        }
        if updates > step {
            return Err(TrainError::State("it has more updates than steps"));
        }
        if step > config.train.steps {
            return Err(TrainError::State("it has done more steps than its run has"));
        }
        let model = Model::load(&config.model, checkpoint)?;
        Trainer::with_state(config, data, runtimes, State { model, loss_scale, step, updates })
    }

    fn with_state(
        config: Config,
        data: Dataset,
        runtimes: Runtimes<'_>,
        state: State,
    ) -> Result<Trainer, TrainError> {
        let State { mut model, loss_scale, step, updates } = state;
        let mut compact = None;
        if config.train.compact_vocab {
            let (vocab, compact_model) = CompactVocab::new(&data, model)?;
            (compact, model) = (Some(vocab), compact_model);
        }
        let trained = Config { model: model.config.clone(), train: config.train.clone() };
        let mut network = Network::new(&trained, config.train.head, true, runtimes)?;
        network.set_weights(&model)?;
        Ok(Trainer { config, data, compact, model, network, loss_scale, step, updates })
    }

    /// Everything that [`Trainer::resume`] needs.
    ///
    /// # Errors
    ///
    /// When the system has no memory for a tensor.
    pub fn checkpoint(&self) -> Result<Checkpoint, TrainError> {
        let mut checkpoint = Checkpoint::default();
        self.whole_model()?.save(&mut checkpoint)?;
        checkpoint.set("config", &self.config)?;
        checkpoint.set("loss_scale", &self.loss_scale)?;
        checkpoint.set("step", &self.step)?;
        checkpoint.set("updates", &self.updates)?;
        Ok(checkpoint)
    }

    /// The configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The model that is trained: with a compact vocabulary, the one over the tokens of the data.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The configuration's model, for others to read: with a compact vocabulary it has no gradients.
    ///
    /// # Errors
    ///
    /// When the system has no memory for a tensor.
    pub fn whole_model(&self) -> Result<Cow<'_, Model>, ModelError> {
        match &self.compact {
            None => Ok(Cow::Borrowed(&self.model)),
            Some(compact) => Ok(Cow::Owned(compact.whole_model(&self.model)?)),
        }
    }

    /// The data.
    pub fn data(&self) -> &Dataset {
        &self.data
    }

    /// Steps done.
    pub fn steps_done(&self) -> u64 {
        self.step
    }

    /// One step: its batches, their gradients, an update. A step whose gradients overflow is skipped, and the loss
    /// scale halved.
    ///
    /// # Errors
    ///
    /// A failing runtime, a loss that is no longer finite, or gradients that are not, whatever the loss scale.
    pub fn step(&mut self) -> Result<Record, TrainError> {
        let start = Instant::now();
        let train = self.config.train.clone();
        let scale = self.loss_scale.scale();
        let loss = self.gradients(scale)?;
        if !loss.is_finite() {
            return Err(TrainError::Diverged { loss, step: self.step + 1, lr: train.lr });
        }
        // The gradients are sums over the batches of a step, of the means of each.
        let scaled = f64::from(scale) * train.accumulate as f64;
        let squares: f64 = self.model.parameters.iter().map(Parameter::gradient_squares).sum();
        let norm = squares.sqrt() / scaled;
        if !norm.is_finite() && self.loss_scale.is_least() {
            return Err(TrainError::NoGradients { loss, step: self.step + 1, lr: train.lr });
        }
        let lr = schedule(&train).at(self.step);
        let updates = self.loss_scale.update(norm);
        if updates {
            self.updates += 1;
            self.apply(lr, (clip_factor(norm, train.grad_clip) / scaled) as f32);
        }
        // From here on the step is done, whatever fails.
        self.step += 1;
        if updates {
            self.network.set_weights(&self.model)?;
        }
        let seconds = start.elapsed().as_secs_f64();
        let tokens = train.positions() as f64 * train.accumulate as f64;
        Ok(Record {
            step: self.step,
            loss,
            lr,
            grad_norm: norm,
            loss_scale: scale,
            ms: seconds * 1e3,
            tokens_per_s: tokens / seconds,
            val_loss: None,
        })
    }

    /// The mean loss of the batches of a step; leaves the sums of their gradients, times `scale`.
    fn gradients(&mut self, scale: f32) -> Result<f64, TrainError> {
        let Trainer { config, data, compact, model, network, step, .. } = self;
        let train = &config.train;
        let mut loss = 0.0;
        for part in 0..train.accumulate {
            // Other configurations see the same batches, in the same order, one per step.
            let batch =
                data.batch(train.seed, step.wrapping_mul(train.accumulate).wrapping_add(part), train.batch);
            let gradients = if part == 0 { Gradients::Replace } else { Gradients::Add };
            let batch = compacted(compact.as_ref(), batch);
            loss += network.gradients(model, &batch, scale, gradients)?.loss;
        }
        Ok(loss / train.accumulate as f64)
    }

    /// The mean loss over the whole validation text, in nats per token: the negative log-likelihood alone, without
    /// label smoothing and z-loss.
    ///
    /// # Errors
    ///
    /// A failing runtime.
    pub fn validation_loss(&mut self) -> Result<f64, TrainError> {
        self.validation_loss_over(usize::MAX)
    }

    /// As [`Trainer::validation_loss`], over at most the first `most` tokens.
    ///
    /// # Errors
    ///
    /// As [`Trainer::validation_loss`].
    pub fn validation_loss_over(&mut self, most: usize) -> Result<f64, TrainError> {
        let all = self.data.validation();
        let (tokens, _) = all.split_at(all.len().min(most));
        let batches = evaluation_batches(&tokens, self.config.train.batch, self.config.train.seq);
        let batches = batches.map(|batch| compacted(self.compact.as_ref(), batch));
        Ok(self.network.mean_loss(&self.model, batches)?)
    }

    /// Continues a text: `count` tokens, each drawn from the model's distribution after the ones before it. An
    /// empty prompt stands for the first token. With a compact vocabulary there are only the tokens of the data: others
    /// in the prompt are passed over.
    ///
    /// # Errors
    ///
    /// A prompt token that the model does not have, a failing runtime, or logits that are no numbers.
    pub fn generate(
        &self,
        prompt: &[u32],
        count: usize,
        sampler: Sampler,
        random: &mut Random,
        runtimes: Runtimes<'_>,
    ) -> Result<Vec<u32>, TrainError> {
        let trained = Config { model: self.model.config.clone(), train: self.config.train.clone() };
        let mut generator = Generator::new(&trained, &self.model, runtimes)?;
        let compact = self.compact.as_ref();
        let known = |&token: &u32| compact.map_or(Some(token), |compact| compact.compact(token));
        let prompt: Vec<u32> = prompt.iter().filter_map(known).collect();
        let mut tokens = Vec::new();
        generator.generate(&self.model, &prompt, count, (sampler, random), |token| {
            tokens.push(compact.map_or(token, |compact| compact.whole(token)));
            true
        })?;
        Ok(tokens)
    }

    fn apply(&mut self, lr: f64, factor: f32) {
        let decay = self.config.train.weight_decay;
        for parameter in &mut self.model.parameters {
            let weight_decay = if parameter.decay { decay } else { 0.0 };
            let adamw = AdamW { weight_decay, ..AdamW::default() };
            parameter.update(&adamw, self.updates, lr, factor);
        }
    }
}

/// A batch in the numbers of the model that is trained.
fn compacted(compact: Option<&CompactVocab>, batch: Batch) -> Batch {
    match compact {
        None => batch,
        Some(compact) => compact.batch(batch),
    }
}

/// The learning rate over a configuration's run.
pub fn schedule(train: &TrainConfig) -> Schedule {
    Schedule { peak: train.lr, floor: train.lr * train.lr_floor, warmup: train.warmup, steps: train.steps }
}
