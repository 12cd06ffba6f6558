//! Configurations, built in or in files, and flags that name parts of one.

use std::path::Path;

use anemone_lm::config::{Config, DeviceDtype};
use anemone_lm::head::HeadKind;
use clap::ValueEnum;
use thiserror::Error;

use super::{Failure, files};

/// The largest configuration file that is read, in bytes.
const MAX_CONFIG_BYTES: u64 = 1 << 20;

/// Names of built-in configurations.
pub const BUILT_IN: &[&str] = &["small"];

/// A configuration that cannot be had.
#[derive(Debug, Error)]
pub enum ConfigFailure {
    /// Neither built in nor a file.
    #[error("`{0}` is neither a file nor a built-in configuration; built in: {names}", names = BUILT_IN.join(", "))]
    Unknown(String),
    /// A file that is not a configuration.
    #[error("{file}: {reason}")]
    Toml {
        /// The file.
        file: String,
        /// What is wrong, with the place.
        reason: String,
    },
}

/// The built-in configuration of this name, else the one in the file of this name.
///
/// # Errors
///
/// When there is neither, or the file is not a configuration.
pub fn load(name: &str) -> Result<Config, Failure> {
    if name == "small" {
        return Ok(Config::default());
    }
    let path = Path::new(name);
    if !path.exists() && path.extension().is_none() {
        return Err(ConfigFailure::Unknown(name.to_string()).into());
    }
    let text = files::read_text(path, MAX_CONFIG_BYTES)?;
    toml::from_str(&text).map_err(|error| {
        ConfigFailure::Toml { file: name.to_string(), reason: error.to_string().trim_end().to_string() }
            .into()
    })
}

/// `--dtype`. No doc comments on variants: those would spread over `--help`, one line per value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DtypeName {
    Fp16,
    Fp32,
}

impl From<DtypeName> for DeviceDtype {
    fn from(name: DtypeName) -> DeviceDtype {
        match name {
            DtypeName::Fp16 => DeviceDtype::Fp16,
            DtypeName::Fp32 => DeviceDtype::Fp32,
        }
    }
}

/// `--head`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum HeadName {
    Programs,
    Fused,
}

impl From<HeadName> for HeadKind {
    fn from(name: HeadName) -> HeadKind {
        match name {
            HeadName::Programs => HeadKind::Programs,
            HeadName::Fused => HeadKind::Fused,
        }
    }
}

/// The dimensions of a head, as flags.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct HeadDimensions {
    /// Vocabulary V, in tokens
    #[arg(long, value_name = "V")]
    pub vocab: usize,
    /// Model dimension D, in channels
    #[arg(long, value_name = "D")]
    pub dim: usize,
    /// Positions S, in tokens
    #[arg(long, value_name = "S")]
    pub seq: usize,
}

impl HeadDimensions {
    /// Checks that the head's tensors have sizes that a machine can hold.
    ///
    /// # Errors
    ///
    /// The first dimension, or product of two, that is out of range.
    pub fn validate(&self) -> Result<(), Failure> {
        let mut config = Config::default();
        (config.model.vocab, config.model.dim) = (self.vocab, self.dim);
        (config.train.batch, config.train.seq) = (1, self.seq);
        Ok(config.validate()?)
    }
}
