//! The model's dimensions, by name or one by one.

use serde::{Deserialize, Serialize};

use super::{ConfigError, count, dimension, matrix, number};

/// The largest size of a head times the number of positions a model is meant for: so large are tables that go with it.
const MAX_TABLE: u64 = 1 << 28;
/// The most layers a model may have.
const MAX_LAYERS: u64 = 1 << 10;

/// The model's dimensions: a Llama of L layers, or, where L is 0, embedding and classifier alone. The default is the
/// built-in zero-layer model over bytes; [`ModelConfig::named`] has others.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ModelConfig {
    /// Vocabulary V.
    pub vocab: usize,
    /// Model dimension D.
    pub dim: usize,
    /// Layers L.
    #[serde(skip_serializing_if = "is_default")]
    pub layers: usize,
    /// Heads of queries H, where there are layers.
    #[serde(skip_serializing_if = "is_default")]
    pub heads: usize,
    /// Heads of keys and values K, which divides H.
    #[serde(skip_serializing_if = "is_default")]
    pub kv_heads: usize,
    /// The size of a head Dh, where it is not D/H.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub head_dim: Option<usize>,
    /// Hidden dimension F of the feed-forward network.
    #[serde(skip_serializing_if = "is_default")]
    pub hidden: usize,
    /// The longest sequence the model is meant for, in tokens. Nothing refuses longer ones.
    #[serde(skip_serializing_if = "is_default")]
    pub max_positions: usize,
    /// θ of the rotary embedding: pair i of a head's Dh/2 turns by position·θ^(−2i/Dh).
    #[serde(skip_serializing_if = "is_default_theta")]
    pub rope_theta: f64,
    /// How the rotary embedding's frequencies are changed for long sequences.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rope_scaling: Option<RopeScaling>,
    /// ε of every RMSNorm.
    #[serde(skip_serializing_if = "is_default_eps")]
    pub norm_eps: f64,
    /// Whether queries and keys pass an RMSNorm of their own before they are turned, as in Qwen3.
    #[serde(skip_serializing_if = "is_default")]
    pub qk_norm: bool,
    /// Whether the classifier's matrix is the embedding's.
    #[serde(skip_serializing_if = "is_default")]
    pub tied: bool,
    /// c of the logits' soft cap, c·tanh(z / c); none leaves them as they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub soft_cap: Option<f64>,
}

/// How Llama 3 stretches the rotary embedding: frequencies whose wave is longer than
/// `original_max_positions / low_freq_factor` are divided by `factor`, those whose wave is shorter than
/// `original_max_positions / high_freq_factor` stay, and those in between are mixed linearly
/// (`rope_type: llama3` of Hugging Face).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RopeScaling {
    /// What low frequencies are divided by.
    pub factor: f64,
    /// Waves longer than the original length over this are low frequencies.
    pub low_freq_factor: f64,
    /// Waves shorter than the original length over this are high frequencies.
    pub high_freq_factor: f64,
    /// The length the model was trained for at first.
    pub original_max_positions: usize,
}

/// What a file leaves out.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

const DEFAULT_THETA: f64 = 10_000.0;
const DEFAULT_EPS: f64 = 1e-5;

fn is_default_theta(value: &f64) -> bool {
    *value == DEFAULT_THETA
}

fn is_default_eps(value: &f64) -> bool {
    *value == DEFAULT_EPS
}

impl Default for ModelConfig {
    fn default() -> Self {
        Self {
            vocab: 256,
            dim: 64,
            layers: 0,
            heads: 0,
            kv_heads: 0,
            head_dim: None,
            hidden: 0,
            max_positions: 0,
            rope_theta: DEFAULT_THETA,
            rope_scaling: None,
            norm_eps: DEFAULT_EPS,
            qk_norm: false,
            tied: false,
            soft_cap: None,
        }
    }
}

impl ModelConfig {
    /// The names of the built-in models: what [`ModelConfig::named`] knows.
    pub const NAMES: [&'static str; 6] =
        ["tiny", "small", "stories15m", "stories42m", "stories110m", "qwen3-0.6b"];

    /// A built-in model: `tiny`, a Llama over bytes that trains in a minute or two; `small`, the zero-layer model over
    /// bytes; the shapes of llama2.c's models of TinyStories; and Qwen3's smallest.
    pub fn named(name: &str) -> Option<ModelConfig> {
        let llama = |vocab, [dim, layers, heads, hidden]: [usize; 4], max_positions| ModelConfig {
            vocab,
            dim,
            layers,
            heads,
            kv_heads: heads,
            hidden,
            max_positions,
            tied: true,
            ..ModelConfig::default()
        };
        match name {
            "tiny" => Some(llama(256, [128, 4, 4, 344], 256)),
            "small" => Some(ModelConfig::default()),
            "stories15m" => Some(llama(32_000, [288, 6, 6, 768], 256)),
            "stories42m" => Some(llama(32_000, [512, 8, 8, 1376], 1024)),
            "stories110m" => Some(llama(32_000, [768, 12, 12, 2048], 1024)),
            "qwen3-0.6b" => Some(ModelConfig {
                kv_heads: 8,
                head_dim: Some(128),
                rope_theta: 1e6,
                norm_eps: 1e-6,
                qk_norm: true,
                ..llama(151_936, [1024, 28, 16, 3072], 40_960)
            }),
            _ => None,
        }
    }

    /// The size of a head, Dh.
    pub fn head_size(&self) -> usize {
        self.head_dim.unwrap_or_else(|| self.dim.checked_div(self.heads).unwrap_or(0))
    }

    /// Heads of queries that share one of keys and values, G.
    pub fn group(&self) -> usize {
        self.heads.checked_div(self.kv_heads).unwrap_or(0)
    }

    /// Checks every dimension by itself, that they fit together, and that no matrix gets more than
    /// [`MAX_ELEMENTS`](super::MAX_ELEMENTS) elements.
    ///
    /// # Errors
    ///
    /// The first that is out of its range.
    pub fn validate(&self) -> Result<(), ConfigError> {
        dimension("vocab", self.vocab, 2)?;
        dimension("dim", self.dim, 1)?;
        matrix("V × D", self.vocab, self.dim)?;
        count("layers", self.layers as u64, 0, MAX_LAYERS)?;
        if self.layers > 0 {
            self.validate_layers()?;
        }
        number("rope_theta", self.rope_theta, "above 0", |x| x > 0.0)?;
        number("norm_eps", self.norm_eps, "above 0 and at most 1", |x| x > 0.0 && x <= 1.0)?;
        if let Some(scaling) = self.rope_scaling {
            number("rope_scaling.factor", scaling.factor, "at least 1", |x| x >= 1.0)?;
            let low = scaling.low_freq_factor;
            number("rope_scaling.low_freq_factor", low, "above 0", |x| x > 0.0)?;
            number("rope_scaling.high_freq_factor", scaling.high_freq_factor, "above the low one", |x| {
                x > low
            })?;
            dimension("rope_scaling.original_max_positions", scaling.original_max_positions, 1)?;
        }
        if let Some(cap) = self.soft_cap {
            let fits = |x: f64| x as f32 > 0.0 && (x as f32).is_finite();
            number("soft_cap", cap, "above 0, and finite in fp32", fits)?;
        }
        Ok(())
    }

    fn validate_layers(&self) -> Result<(), ConfigError> {
        dimension("heads", self.heads, 1)?;
        dimension("kv_heads", self.kv_heads, 1)?;
        dimension("hidden", self.hidden, 1)?;
        if !self.heads.is_multiple_of(self.kv_heads) {
            return Err(ConfigError::Divisor {
                what: "heads",
                of: self.heads,
                by: "kv_heads",
                found: self.kv_heads,
            });
        }
        if self.head_dim.is_none() && !self.dim.is_multiple_of(self.heads) {
            return Err(ConfigError::Divisor { what: "dim", of: self.dim, by: "heads", found: self.heads });
        }
        let head = self.head_size();
        dimension("head_dim", head, 2)?;
        if !head.is_multiple_of(2) {
            return Err(ConfigError::Divisor { what: "the size of a head", of: head, by: "pairs", found: 2 });
        }
        dimension("heads · head_dim", self.heads.saturating_mul(head), 1)?;
        dimension("max_positions", self.max_positions, 0)?;
        let angles = (head as u64).saturating_mul(self.max_positions as u64);
        count("head_dim · max_positions", angles, 0, MAX_TABLE)?;
        matrix("H·Dh × D", self.heads * head, self.dim)?;
        matrix("F × D", self.hidden, self.dim)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::*;

    #[test]
    fn tables_that_no_memory_holds_are_refused() {
        let mut config = Config::named("tiny").unwrap();
        (config.model.head_dim, config.model.dim, config.train.seq) = (Some(1 << 20), 4, 1 << 16);
        let message = config.validate().unwrap_err().to_string();
        assert_eq!(message, "`head_dim · seq` is 68719476736, must be in 0..=67108864");
        let mut config = Config::named("tiny").unwrap();
        config.model.max_positions = usize::MAX;
        assert!(config.validate().unwrap_err().to_string().starts_with("`max_positions` is"));
        config.model.max_positions = 1 << 24;
        assert!(config.validate().unwrap_err().to_string().starts_with("`head_dim · max_positions` is"));
    }

    #[test]
    fn built_in_models_are_valid() {
        for name in ModelConfig::NAMES {
            Config::named(name).unwrap().validate().unwrap();
        }
    }
}
