//! Configurations, built in or in files.

use std::path::{Path, PathBuf};

use anemone_lm::config::{Config, ModelConfig};
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

/// The built-in configuration of this name, else the one in the file of this name.
///
/// # Errors
///
/// When there is neither, or the file is not a configuration.
pub(crate) fn load(path: &Path) -> Result<Config, Failure> {
    if let Some(config) = built_in(path) {
        return Ok(config);
    }
    if !path.exists() && path.extension().is_none() {
        return Err(ConfigFailure::Unknown(path.to_owned()).into());
    }
    let text = files::read_text(path, MAX_CONFIG_BYTES)?;
    toml::from_str(&text).map_err(|error| {
        let reason = error.to_string().trim_end().to_string();
        ConfigFailure::Toml { file: path.to_owned(), reason }.into()
    })
}
