//! Configurations, built in or in files.

use std::path::{Path, PathBuf};

use anemone_lm::config::{Config, ModelConfig, TrainConfig};
use anemone_lm::interchange;
use anemone_lm::tokenizer::BYTE_VOCAB;
use thiserror::Error;

use super::{Failure, files};

/// The largest configuration file that is read, in bytes.
const MAX_CONFIG_BYTES: u64 = 1 << 20;

/// The name of the built-in configuration that is taken unless told otherwise.
pub(crate) const DEFAULT: &str = "tiny";

/// A configuration that cannot be had.
#[derive(Debug, Error)]
enum ConfigFailure {
    /// Neither built in nor a file.
    #[error("`{}` is neither a file nor a built-in configuration; built in: {}", .0.display(), ModelConfig::NAMES.join(", "))]
    Unknown(PathBuf),
    /// A file that is not a configuration.
    #[error("{}: {reason}", file.display())]
    Toml {
        /// The file.
        file: PathBuf,
        /// What is wrong, with the place.
        reason: String,
    },
}

/// The built-in configuration of this name.
fn built_in(name: &Path) -> Option<Config> {
    name.to_str().and_then(Config::named)
}

/// The file that a configuration is read from, unless it is built in.
pub(crate) fn file(name: &Path) -> Option<&Path> {
    built_in(name).is_none().then_some(name)
}

/// Whether a configuration, the default one if none is named, is built in for bytes, so that its vocabulary is the
/// tokenizer's.
pub(crate) fn is_built_in_for_bytes(name: &Option<PathBuf>) -> bool {
    let config = built_in(name.as_deref().unwrap_or(Path::new(DEFAULT)));
    config.is_some_and(|config| config.model.vocab == BYTE_VOCAB)
}

/// A configuration, and whether it says what the model is, or leaves that to be the default.
pub(crate) struct Loaded {
    /// The configuration.
    pub(crate) config: Config,
    /// Whether the model's dimensions were given.
    pub(crate) gives_model: bool,
    /// Whether a file says how the head is computed.
    pub(crate) gives_head: bool,
}

/// The built-in configuration of this name, else the one in the file of this name: a TOML file, or Hugging Face's
/// `config.json`. What a file leaves out suits its model: one without a model is about the default configuration's.
///
/// # Errors
///
/// When there is neither, or the file is not a configuration.
pub(crate) fn load(path: &Path) -> Result<Config, Failure> {
    Ok(load_parts(path, None)?.config)
}

/// What a file leaves out, for its model, or the one that is known from elsewhere.
fn defaults(given: Option<&ModelConfig>) -> Config {
    match given {
        None => Config::named(DEFAULT).unwrap_or_default(),
        Some(model) if model.layers == 0 => Config { model: model.clone(), ..Config::default() },
        Some(model) => Config { model: model.clone(), train: TrainConfig::of_llamas() },
    }
}

/// As [`load`]; `model` is the one that the configuration is for, where that is known.
///
/// # Errors
///
/// As [`load`].
pub(crate) fn load_parts(path: &Path, model: Option<&ModelConfig>) -> Result<Loaded, Failure> {
    if let Some(config) = built_in(path) {
        return Ok(Loaded { config, gives_model: true, gives_head: false });
    }
    if path.extension().is_some_and(|extension| extension == "json") {
        let config = Config { model: interchange::read_config(path)?, train: TrainConfig::of_llamas() };
        return Ok(Loaded { config, gives_model: true, gives_head: false });
    }
    if !path.exists() && path.extension().is_none() {
        return Err(ConfigFailure::Unknown(path.to_owned()).into());
    }
    let text = files::read_text(path, MAX_CONFIG_BYTES)?;
    let refused = |error: toml::de::Error| {
        let reason = error.to_string().trim_end().to_string();
        ConfigFailure::Toml { file: path.to_owned(), reason }
    };
    let mut config: Config = toml::from_str(&text).map_err(refused)?;
    let table: toml::Table = toml::from_str(&text).map_err(refused)?;
    let gives_model = table.contains_key("model");
    let defaults = defaults(if gives_model { Some(&config.model) } else { model });
    let mut gives_head = false;
    if let Some(toml::Value::Table(given)) = table.get("train") {
        gives_head = given.contains_key("head");
        let mut settings = toml::Table::try_from(&defaults.train)?;
        settings.extend(given.clone());
        config.train = settings.try_into().map_err(refused)?;
    } else {
        config.train = defaults.train;
    }
    if !gives_model {
        config.model = defaults.model;
    }
    Ok(Loaded { config, gives_model, gives_head })
}
