//! What a run is made of: the model's dimensions and the training's settings.
//!
//! # Dimension letters
//!
//! Used with these meanings everywhere in the crate:
//!
//! | letter | is | from |
//! |---|---|---|
//! | V | vocabulary: tokens are `0..V` | [`ModelConfig::vocab`] |
//! | D | model dimension | [`ModelConfig::dim`] |
//! | L | layers | [`ModelConfig::layers`] |
//! | H | heads of queries | [`ModelConfig::heads`] |
//! | K | heads of keys and values, K divides H | [`ModelConfig::kv_heads`] |
//! | G | heads of queries that share one of keys and values, G = H/K | [`ModelConfig::group`] |
//! | Dh | size of a head | [`ModelConfig::head_size`] |
//! | F | hidden dimension of the feed-forward network | [`ModelConfig::hidden`] |
//! | B | batch: sequences per step | [`TrainConfig::batch`] |
//! | T | tokens per sequence | [`TrainConfig::seq`] |
//! | S | positions: all tokens of a batch, S = B·T | [`TrainConfig::positions`] |
//!
//! Device tensors are channel-first. The head sees `[1, C, 1, S]`: element (c, s) stands at index c·S + s, and position
//! s = b·T + i is token i of sequence b. Layers see `[B, C, 1, T]`.

use anemone_mil::linear_cross_entropy::LossOptions;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::head::HeadKind;

mod model;

pub use model::{ModelConfig, RopeScaling};

/// The largest vocabulary, dimension or number of positions a configuration may name: 2²⁴.
pub const MAX_DIMENSION: usize = 1 << 24;
/// The largest number of elements of one matrix (V·D, V·S or D·S) a configuration may lead to: 2³².
pub const MAX_ELEMENTS: u64 = 1 << 32;
/// The largest size of a head times the length of a sequence: 2²⁶. So many cosines and sines are computed for it.
pub const MAX_ANGLES: u64 = 1 << 26;
/// The most steps a run may have, 2⁵³: so far f64, in which the schedule is computed, counts every one.
pub const MAX_STEPS: u64 = 1 << 53;

/// A configuration that no run can have.
#[derive(Debug, Error, PartialEq)]
#[non_exhaustive]
pub enum ConfigError {
    /// A count is zero or absurdly large.
    #[error("`{field}` is {value}, must be in {min}..={max}")]
    Count {
        /// The setting's name.
        field: &'static str,
        /// What it was set to.
        value: u64,
        /// The smallest possible value.
        min: u64,
        /// The largest possible value.
        max: u64,
    },
    /// A real number is outside its range or not finite.
    #[error("`{field}` is {value}, must be {range}")]
    Number {
        /// The setting's name.
        field: &'static str,
        /// What it was set to.
        value: f64,
        /// The possible values in words.
        range: &'static str,
    },
    /// What only one of the heads does.
    #[error("`filter` leaves out work of the fused head alone; `head` must be \"fused\" with it")]
    FilterWithoutFusedHead,
    /// A dimension that another one must divide.
    #[error("{what} is {of}, which {by}, {found}, does not divide")]
    Divisor {
        /// What is to be divided.
        what: &'static str,
        /// Its value.
        of: usize,
        /// By what.
        by: &'static str,
        /// Its value.
        found: usize,
    },
    /// Two dimensions give a matrix that is too large.
    #[error("{rows} × {columns} elements ({what}) are more than {MAX_ELEMENTS}")]
    Matrix {
        /// What the matrix is, as "V × D".
        what: &'static str,
        /// Its number of rows.
        rows: usize,
        /// Its number of columns.
        columns: usize,
    },
}

/// The dtype of device tensors: what programs compute in. Weights, their gradients and the optimizer's state
/// are fp32 on the host, whichever is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceDtype {
    /// IEEE 754 half precision, what the Neural Engine computes in.
    #[default]
    Fp16,
    /// IEEE 754 single precision.
    Fp32,
}

impl DeviceDtype {
    /// The name in flags, files and MIL text: `fp16` or `fp32`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fp16 => "fp16",
            Self::Fp32 => "fp32",
        }
    }
}

/// The training's settings. The defaults suit the built-in model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainConfig {
    /// Sequences per step, B.
    pub batch: usize,
    /// Tokens per sequence, T.
    pub seq: usize,
    /// Batches per step, whose gradients are summed before the weights change.
    #[serde(skip_serializing_if = "is_one")]
    pub accumulate: u64,
    /// Whether backward computes a layer's values once more, so that fewer stay in memory.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub recompute: bool,
    /// Whether only the tokens that the data have are trained, see [`crate::compact`].
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub compact_vocab: bool,
    /// Number of steps of the whole run; the learning-rate schedule ends there.
    pub steps: u64,
    /// Peak learning rate, reached after the warmup.
    pub lr: f64,
    /// Learning rate at the end of the run, as a fraction of the peak.
    pub lr_floor: f64,
    /// Steps of linear warmup.
    pub warmup: u64,
    /// Decoupled weight decay of matrices; gains are not decayed.
    pub weight_decay: f64,
    /// Largest global gradient norm; a larger gradient is scaled down to it. 0 turns clipping off.
    pub grad_clip: f64,
    /// ε of label smoothing: this part of a target's weight is spread evenly over the vocabulary, in training.
    #[serde(skip_serializing_if = "is_zero")]
    pub label_smoothing: f64,
    /// λ of the z-loss λ·(ln Σ exp z)², which training adds to each position's loss.
    #[serde(skip_serializing_if = "is_zero")]
    pub z_loss: f64,
    /// F of the fused head's filter: tokens whose probability is below F at every position add nothing to gradients
    /// ([`LossOptions::filter`]).
    #[serde(skip_serializing_if = "is_zero")]
    pub filter: f64,
    /// Seed of initial weights and batches.
    pub seed: u64,
    /// Dtype of device tensors.
    pub dtype: DeviceDtype,
    /// How the classifier and its loss are computed.
    pub head: HeadKind,
    /// Steps between evaluations of the validation loss, over its first 65 536 tokens, but at the end over all; 0 for
    /// only that one.
    pub validation_interval: u64,
    /// Steps between checkpoints; 0 for only one at the end.
    pub checkpoint_interval: u64,
}

impl Default for TrainConfig {
    fn default() -> Self {
        Self {
            batch: 16,
            seq: 128,
            accumulate: 1,
            recompute: false,
            compact_vocab: false,
            steps: 600,
            lr: 1e-2,
            lr_floor: 0.05,
            warmup: 40,
            weight_decay: 0.01,
            grad_clip: 1.0,
            label_smoothing: 0.0,
            z_loss: 0.0,
            filter: 0.0,
            seed: 0,
            dtype: DeviceDtype::Fp16,
            head: HeadKind::Programs,
            validation_interval: 100,
            checkpoint_interval: 200,
        }
    }
}

/// Whether a setting is off: it is left out of files then, which versions without the setting read as well.
fn is_zero(value: &f64) -> bool {
    *value == 0.0
}

fn is_one(value: &u64) -> bool {
    *value == 1
}

impl TrainConfig {
    /// Settings that suit Llamas of some millions of weights and more, and do no harm to those that have been trained. Their
    /// vocabularies are large: the head is the fused one, which not every runtime offers.
    pub fn of_llamas() -> TrainConfig {
        TrainConfig {
            batch: 4,
            seq: 256,
            steps: 2000,
            lr: 5e-4,
            warmup: 100,
            weight_decay: 0.1,
            lr_floor: 0.1,
            head: HeadKind::Fused,
            ..TrainConfig::default()
        }
    }

    /// Positions of a batch, S = B·T.
    pub fn positions(&self) -> usize {
        self.batch.saturating_mul(self.seq)
    }
}

/// A whole configuration, as a file holds it: tables `model` and `train`, every setting optional.
///
/// ```
/// use anemone_lm::config::Config;
/// let config: Config = serde_json::from_str(r#"{"model": {"dim": 96}, "train": {"dtype": "fp32"}}"#)?;
/// config.validate()?;
/// assert_eq!(config.model.vocab, 256);
/// assert!(serde_json::from_str::<Config>(r#"{"model": {"dims": 64}}"#).is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The model's dimensions.
    pub model: ModelConfig,
    /// The training's settings.
    pub train: TrainConfig,
}

impl Config {
    /// A built-in configuration: a model of [`ModelConfig::named`], with settings that suit it.
    pub fn named(name: &str) -> Option<Config> {
        let model = ModelConfig::named(name)?;
        let plain = TrainConfig::default();
        let train = match name {
            "tiny" => TrainConfig {
                batch: 8,
                steps: 800,
                lr: 4e-3,
                warmup: 60,
                weight_decay: 0.1,
                validation_interval: 200,
                ..plain
            },
            "small" => plain,
            _ => TrainConfig::of_llamas(),
        };
        Some(Config { model, train })
    }

    /// Checks every setting by itself, and that no matrix gets more than [`MAX_ELEMENTS`] elements.
    ///
    /// # Errors
    /// The first setting that is out of its range.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let (model, train) = (&self.model, &self.train);
        model.validate()?;
        dimension("batch", train.batch, 1)?;
        dimension("seq", train.seq, 1)?;
        dimension("batch · seq", train.positions(), 1)?;
        count("accumulate", train.accumulate, 1, MAX_DIMENSION as u64)?;
        count("steps", train.steps, 1, MAX_STEPS)?;
        matrix("V × S", model.vocab, train.positions())?;
        matrix("D × S", model.dim, train.positions())?;
        let angles = (model.head_size() as u64).saturating_mul(train.seq as u64);
        count("head_dim · seq", angles, 0, MAX_ANGLES)?;

        let positive = |x: f64| x > 0.0;
        let not_negative = |x: f64| x >= 0.0;
        number("lr", train.lr, "above 0", positive)?;
        number("lr_floor", train.lr_floor, "from 0 to 1", |x| (0.0..=1.0).contains(&x))?;
        number("weight_decay", train.weight_decay, "0 or more", not_negative)?;
        number("grad_clip", train.grad_clip, "0 or more", not_negative)?;
        // Losses are computed in fp32.
        let single = |x: f64| (x as f32).is_finite();
        number("label_smoothing", train.label_smoothing, "0 or more and below 1", |x| {
            (0.0..1.0).contains(&x)
        })?;
        number("z_loss", train.z_loss, "0 or more, and finite in fp32", |x| x >= 0.0 && single(x))?;
        number("filter", train.filter, "0 or more and below 1", |x| (0.0..1.0).contains(&x))?;
        if train.filter > 0.0 && train.head != HeadKind::Fused {
            return Err(ConfigError::FilterWithoutFusedHead);
        }
        Ok(())
    }

    /// What training minimises. Validation leaves the regularisation out
    /// ([`LossOptions::without_regularization`]).
    pub fn loss_options(&self) -> LossOptions {
        LossOptions {
            label_smoothing: self.train.label_smoothing as f32,
            z_loss: self.train.z_loss as f32,
            softcap: self.model.soft_cap.map(|cap| cap as f32),
            filter: self.train.filter as f32,
            ..LossOptions::default()
        }
    }
}

fn dimension(field: &'static str, value: usize, min: u64) -> Result<(), ConfigError> {
    count(field, value as u64, min, MAX_DIMENSION as u64)
}

fn count(field: &'static str, value: u64, min: u64, max: u64) -> Result<(), ConfigError> {
    if (min..=max).contains(&value) { Ok(()) } else { Err(ConfigError::Count { field, value, min, max }) }
}

fn matrix(what: &'static str, rows: usize, columns: usize) -> Result<(), ConfigError> {
    match (rows as u64).checked_mul(columns as u64) {
        Some(elements) if elements <= MAX_ELEMENTS => Ok(()),
        _ => Err(ConfigError::Matrix { what, rows, columns }),
    }
}

fn number(
    field: &'static str,
    value: f64,
    range: &'static str,
    fits: impl Fn(f64) -> bool,
) -> Result<(), ConfigError> {
    if value.is_finite() && fits(value) { Ok(()) } else { Err(ConfigError::Number { field, value, range }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_valid_and_survives_json() {
        let config = Config::default();
        config.validate().unwrap();
        let json = serde_json::to_string(&config).unwrap();
        assert_eq!(serde_json::from_str::<Config>(&json).unwrap(), config);
        assert!(json.contains(r#""dtype":"fp16""#), "{json}");
    }

    /// So that versions without these settings read the files of runs that do not use them.
    #[test]
    fn what_the_loss_adds_is_written_only_where_it_is_used() {
        let mut config = Config::default();
        let settings = ["soft_cap", "label_smoothing", "z_loss", "filter"];
        let json = serde_json::to_string(&config).unwrap();
        assert!(settings.iter().all(|setting| !json.contains(setting)), "{json}");
        config.model.soft_cap = Some(30.0);
        (config.train.label_smoothing, config.train.z_loss, config.train.filter) = (0.1, 1e-4, 1e-3);
        let json = serde_json::to_string(&config).unwrap();
        assert!(settings.iter().all(|setting| json.contains(setting)), "{json}");
        assert_eq!(serde_json::from_str::<Config>(&json).unwrap(), config);
    }

    #[test]
    fn every_unusable_setting_is_named() {
        let message = |change: fn(&mut Config)| {
            let mut config = Config::default();
            change(&mut config);
            config.validate().unwrap_err().to_string()
        };
        assert_eq!(message(|c| c.model.vocab = 1), "`vocab` is 1, must be in 2..=16777216");
        assert_eq!(message(|c| c.train.seq = 0), "`seq` is 0, must be in 1..=16777216");
        assert_eq!(message(|c| c.train.steps = 0), "`steps` is 0, must be in 1..=9007199254740992");
        assert!(message(|c| c.train.steps = u64::MAX).starts_with("`steps` is"));
        assert!(message(|c| c.train.batch = usize::MAX).starts_with("`batch` is"));
        assert!(message(|c| c.train.seq = MAX_DIMENSION).starts_with("`batch · seq` is"));
        assert!(message(|c| (c.model.vocab, c.model.dim) = (1 << 20, 1 << 13)).starts_with("1048576 × 8192"));
        assert_eq!(message(|c| c.train.lr = f64::NAN), "`lr` is NaN, must be above 0");
        assert_eq!(message(|c| c.train.lr_floor = 1.5), "`lr_floor` is 1.5, must be from 0 to 1");
        assert_eq!(message(|c| c.train.weight_decay = -1.0), "`weight_decay` is -1, must be 0 or more");
        assert_eq!(message(|c| c.train.grad_clip = f64::INFINITY), "`grad_clip` is inf, must be 0 or more");
        for wrong in [1.0, -0.1, f64::NAN] {
            let mut config = Config::default();
            config.train.label_smoothing = wrong;
            let message = config.validate().unwrap_err().to_string();
            assert_eq!(message, format!("`label_smoothing` is {wrong}, must be 0 or more and below 1"));
        }
        for wrong in [1.0, -0.1, f64::NAN] {
            let mut config = Config::default();
            (config.train.head, config.train.filter) = (HeadKind::Fused, wrong);
            let message = config.validate().unwrap_err().to_string();
            assert_eq!(message, format!("`filter` is {wrong}, must be 0 or more and below 1"));
        }
        assert!(message(|c| c.train.filter = 0.1).contains("the fused head alone"));
        for wrong in [-1e-4, 1e39, f64::NAN] {
            let mut config = Config::default();
            config.train.z_loss = wrong;
            let message = config.validate().unwrap_err().to_string();
            assert_eq!(message, format!("`z_loss` is {wrong}, must be 0 or more, and finite in fp32"));
        }
        for wrong in [0.0, -30.0, 1e-60, 1e39, f64::INFINITY] {
            let mut config = Config::default();
            config.model.soft_cap = Some(wrong);
            let message = config.validate().unwrap_err().to_string();
            assert_eq!(message, format!("`soft_cap` is {wrong}, must be above 0, and finite in fp32"));
        }
    }
}
