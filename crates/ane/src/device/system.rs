//! What the system's libraries are called, and what is handed to them.

use std::env;
use std::ffi::{CString, OsString};
use std::path::{Path, PathBuf};

use super::DeviceError;

/// The library to load: that at `path`; without one, that which the environment's `variable` names, or on a Mac the
/// system's, `framework`.
pub(super) fn library(path: Option<&Path>, framework: &str, variable: &str) -> Result<PathBuf, DeviceError> {
    let named = path.map_or_else(|| env::var_os(variable), |path| Some(OsString::from(path)));
    match named.filter(|name| !name.is_empty()) {
        Some(name) => Ok(PathBuf::from(name)),
        None if cfg!(target_os = "macos") => Ok(PathBuf::from(framework)),
        None => Err(DeviceError::NeedsMac),
    }
}

/// Why a library does not load, in the system's own words, which stand in the error's source.
pub(super) fn load_reason(error: &libloading::Error) -> String {
    std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string)
}

/// What a call returned, of which nothing is known but that it is not 0.
pub(super) fn status(error: &DeviceError) -> String {
    match error {
        DeviceError::Call { call, status } => format!("`{call}` returns {status}"),
        other => other.to_string(),
    }
}

pub(super) fn text(text: &str) -> Result<CString, DeviceError> {
    let error = || DeviceError::Unsupported(format!("{text:?} holds a character that C strings cannot"));
    CString::new(text).map_err(|_| error())
}

pub(super) fn path_text(path: &Path) -> Result<CString, DeviceError> {
    let error = || DeviceError::Files(format!("{} is not UTF-8", path.display()));
    text(path.to_str().ok_or_else(error)?)
}
