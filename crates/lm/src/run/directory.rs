//! The directory of a run, which one process has at a time.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};

use anemone_mil::files::remove_leftovers;

use super::RunError;
use crate::files::FileError;
use crate::interchange::hugging_face::{CONFIG, TOKENIZER, WEIGHTS};

pub(super) const CHECKPOINT: &str = "checkpoint.safetensors";
pub(super) const LOG: &str = "log.jsonl";
pub(super) const CURVE: &str = "curve.svg";
const LOCK: &str = "lock";

/// A run's directory, locked: the system lets go of the lock when the file is closed, however the process ends.
/// The file itself stays, since another process may have it open already.
pub(super) struct RunDirectory {
    path: PathBuf,
    canonical: PathBuf,
    _lock: File,
}

impl RunDirectory {
    /// Takes a directory that exists, and removes what a killed process left of its files.
    pub(super) fn lock(path: &Path) -> Result<RunDirectory, RunError> {
        let lock_path = path.join(LOCK);
        let failed = |source| FileError::write(&lock_path, source);
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(&lock_path);
        let lock = lock.map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(RunError::Busy(path.to_owned())),
            Err(TryLockError::Error(source)) => return Err(failed(source).into()),
        }
        for name in [CHECKPOINT, LOG, CURVE, CONFIG, WEIGHTS, TOKENIZER] {
            let file = path.join(name);
            remove_leftovers(&file).map_err(|source| FileError::write(&file, source))?;
        }
        let canonical = fs::canonicalize(path).map_err(|source| FileError::read(path, source))?;
        Ok(RunDirectory { path: path.to_owned(), canonical, _lock: lock })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// What a checkpoint remembers of the log's path: the name alone where it lies in this directory, which may
    /// be moved, else what it is from any directory. The run's other files are refused.
    pub(super) fn log_to_remember(&self, log: &Path) -> Result<PathBuf, RunError> {
        let absolute = std::path::absolute(log).map_err(|source| FileError::write(log, source))?;
        let parent = absolute.parent().and_then(|parent| fs::canonicalize(parent).ok());
        let remembered = match absolute.file_name() {
            Some(name) if parent.as_ref() == Some(&self.canonical) => {
                // Some file systems do not tell cases apart.
                let own = [CHECKPOINT, CURVE, LOCK, CONFIG, WEIGHTS, TOKENIZER];
                if own.iter().any(|own| name.eq_ignore_ascii_case(own)) {
                    return Err(RunError::OwnFile(log.to_owned()));
                }
                PathBuf::from(name)
            }
            _ => absolute,
        };
        super::utf8(&remembered)?;
        Ok(remembered)
    }
}
