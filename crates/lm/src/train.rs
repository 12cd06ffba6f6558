//! Training: batches in, weights out.
//!
//! A step is a function of the state (weights, moments, loss scale, step number) and the configuration alone:
//! batches come from the seed and the step number. So a run resumed from a checkpoint repeats the losses that
//! the interrupted one would have had, to the bit, on the same machine with the same number of threads.

use std::time::Instant;

use anemone_mil::tensor::Tensor;
use thiserror::Error;

use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::config::{Config, ConfigError, DeviceDtype, TrainConfig};
use crate::data::{Batch, Dataset};
use crate::device::{OutOfMemory, values, with_element, zeros};
use crate::element::DeviceElement;
use crate::embedding::{self, EmbeddingError};
use crate::generate::{SampleError, Sampler, position_logits};
use crate::head::{HeadError, HeadKind, HeadRunner, Runtimes};
use crate::log::Record;
use crate::model::{CLASSIFIER, EMBEDDING, Model, ModelError, NORM_GAIN, Parameter};
use crate::optimizer::{AdamW, LossScale, Schedule, clip_factor, global_norm};
use crate::programs::Target;
use crate::programs::head::{EPS, Head};
use crate::random::Random;

/// Why training cannot go on.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TrainError {
    /// A setting is unusable.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The head fails.
    #[error(transparent)]
    Head(#[from] HeadError),
    /// A tensor of the device does not fit in memory.
    #[error(transparent)]
    Memory(#[from] OutOfMemory),
    /// The model cannot be had.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// Tokens that the embedding does not have.
    #[error(transparent)]
    Embedding(#[from] EmbeddingError),
    /// A checkpoint that is damaged or of another run.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// Logits that nothing can be drawn from.
    #[error(transparent)]
    Sample(#[from] SampleError),
    /// A checkpoint whose numbers no run writes.
    #[error("the checkpoint is not one that training wrote: {0}")]
    State(&'static str),
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
    model: Model,
    head: HeadRunner,
    loss_scale: LossScale,
    /// Steps done, skipped ones included: numbers batches and the schedule.
    step: u64,
    /// Updates applied: AdamW's bias correction counts these.
    updates: u64,
    x: Tensor,
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
        let State { model, loss_scale, step, updates } = state;
        let head = prepared_head(&config, head_of(&config), config.train.head, &model, runtimes)?;
        let x = zeros(head.head().target.mil_dtype(), &[1, config.model.dim, 1, config.train.positions()])?;
        Ok(Trainer { config, data, model, head, loss_scale, step, updates, x })
    }

    /// Everything that [`Trainer::resume`] needs.
    ///
    /// # Errors
    ///
    /// When a value cannot be written as JSON, which none of these is.
    pub fn checkpoint(&self) -> Result<Checkpoint, TrainError> {
        let mut checkpoint = Checkpoint::default();
        self.model.save(&mut checkpoint)?;
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

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The data.
    pub fn data(&self) -> &Dataset {
        &self.data
    }

    /// Steps done.
    pub fn steps_done(&self) -> u64 {
        self.step
    }

    /// One step: a batch, its gradients, an update. A step whose gradients overflow is skipped, and the loss
    /// scale halved.
    ///
    /// # Errors
    ///
    /// A failing runtime, or a loss that is no longer finite.
    pub fn step(&mut self) -> Result<Record, TrainError> {
        let start = Instant::now();
        let train = self.config.train.clone();
        let batch = self.data.batch(train.seed, self.step, train.batch);
        let scale = self.loss_scale.scale();
        let loss = self.gradients(&batch, scale)?;
        if !loss.is_finite() {
            return Err(TrainError::Diverged { loss, step: self.step + 1, lr: train.lr });
        }
        let norm = global_norm(self.model.parameters.iter().map(|parameter| &*parameter.gradient))
            / f64::from(scale);
        let lr = schedule(&train).at(self.step);
        if self.loss_scale.update(norm) {
            self.updates += 1;
            self.apply(lr, (clip_factor(norm, train.grad_clip) / f64::from(scale)) as f32);
            share_weights(&self.model, &mut self.head)?;
        }
        self.step += 1;
        let seconds = start.elapsed().as_secs_f64();
        Ok(Record {
            step: self.step,
            loss,
            lr,
            grad_norm: norm,
            loss_scale: scale,
            ms: seconds * 1e3,
            tokens_per_s: train.positions() as f64 / seconds,
            val_loss: None,
        })
    }

    /// The mean loss over the whole validation text, in nats per token: the negative log-likelihood alone, without
    /// label smoothing and z-loss.
    ///
    /// # Errors
    ///
    /// A failing runtime.
    pub fn validation_loss(&mut self) -> Result<f64, TrainError> {
        let (mut nats, mut counted) = (0.0, 0usize);
        let batches: Vec<Batch> = self.data.validation_batches(self.config.train.batch).collect();
        for batch in batches {
            self.embed(&batch.inputs)?;
            let loss = self.head.loss(&self.x, &batch.targets)?;
            nats += loss.loss * loss.counted as f64;
            counted += loss.counted;
        }
        Ok(nats / counted.max(1) as f64)
    }

    /// Continues a text: `count` tokens, each drawn from the model's distribution after the one before it. An
    /// empty prompt stands for token 0.
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
        let head = Head { positions: 1, ..head_of(&self.config) };
        let mut runner = prepared_head(&self.config, head, HeadKind::Programs, &self.model, runtimes)?;
        let embedding = &self.model.parameter(EMBEDDING)?.values;
        let dims = [1, self.config.model.dim, 1, 1];
        let mut x = zeros(head.target.mil_dtype(), &dims)?;
        let mut token = prompt.last().copied().unwrap_or(0);
        let mut tokens = Vec::with_capacity(count.min(1 << 20));
        for _ in 0..count {
            with_element!(self.config.train.dtype, E => {
                let x = x.as_mut_slice::<E>().unwrap_or_default();
                embedding::gather(embedding, self.config.model.dim, &[token], x)?;
            });
            let logits = runner.logits(&x)?;
            let logits = with_element!(self.config.train.dtype, E => {
                position_logits(values::<E>(logits), 1, 0).unwrap_or_default()
            });
            token = sampler.sample(&logits, random)?;
            tokens.push(token);
        }
        Ok(tokens)
    }

    fn embed(&mut self, tokens: &[u32]) -> Result<(), TrainError> {
        let (dim, embedding) = (self.config.model.dim, &self.model.parameter(EMBEDDING)?.values);
        with_element!(self.config.train.dtype, E => {
            let x = self.x.as_mut_slice::<E>().unwrap_or_default();
            embedding::gather(embedding, dim, tokens, x)?;
        });
        Ok(())
    }

    /// Computes the batch's loss, and its gradients times `scale` into the parameters'.
    fn gradients(&mut self, batch: &Batch, scale: f32) -> Result<f64, TrainError> {
        self.embed(&batch.inputs)?;
        let dim = self.config.model.dim;
        let (loss, head) = self.head.step(&self.x, &batch.targets, scale)?;
        let model = &mut self.model;
        with_element!(self.config.train.dtype, E => {
            E::widen(values::<E>(head.dgain), &mut model.parameter_mut(NORM_GAIN)?.gradient);
            E::widen(values::<E>(head.dembed), &mut model.parameter_mut(CLASSIFIER)?.gradient);
            let embedding = &mut model.parameter_mut(EMBEDDING)?.gradient;
            embedding.fill(0.0);
            embedding::scatter_add(values::<E>(head.dx), dim, &batch.inputs, 1.0, embedding)?;
        });
        Ok(loss.loss)
    }

    fn apply(&mut self, lr: f64, factor: f32) {
        let decay = self.config.train.weight_decay;
        for Parameter { values, gradient, moments, decay: decays, .. } in &mut self.model.parameters {
            let adamw = AdamW { weight_decay: if *decays { decay } else { 0.0 }, ..AdamW::default() };
            adamw.update(self.updates, lr, factor, gradient, values, moments);
        }
    }
}

/// A head of a model, with the model's weights.
fn prepared_head(
    config: &Config,
    head: Head,
    kind: HeadKind,
    model: &Model,
    runtimes: Runtimes<'_>,
) -> Result<HeadRunner, TrainError> {
    let mut runner = HeadRunner::new(head, kind, config.loss_options(), runtimes)?;
    share_weights(model, &mut runner)?;
    Ok(runner)
}

/// Lets a head compute with a model's present weights.
fn share_weights(model: &Model, head: &mut HeadRunner) -> Result<(), TrainError> {
    Ok(head.set_weights(&model.parameter(NORM_GAIN)?.values, &model.parameter(CLASSIFIER)?.values)?)
}

/// The head of a configuration's model over a whole batch.
pub fn head_of(config: &Config) -> Head {
    Head {
        vocab: config.model.vocab,
        dim: config.model.dim,
        positions: config.train.positions(),
        eps: EPS,
        target: Target::new(config.train.dtype),
    }
}

/// The learning rate over a configuration's run.
pub fn schedule(train: &TrainConfig) -> Schedule {
    Schedule { peak: train.lr, floor: train.lr * train.lr_floor, warmup: train.warmup, steps: train.steps }
}
