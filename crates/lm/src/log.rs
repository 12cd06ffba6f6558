//! The training log: one JSON object per line and step.
//!
//! ```text
//! {"step":100,"loss":2.51,"lr":0.009,"grad_norm":0.31,"loss_scale":65536.0,"ms":41.2,"tokens_per_s":49700.0,"val_loss":2.48}
//! ```
//!
//! `val_loss` is there only on steps after which the validation loss was evaluated. A number that is not finite,
//! as the gradient norm of a step skipped for overflow, is `null`.

use crate::files::{FileError, atomic_write, read_bounded};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use thiserror::Error;

/// The largest log that is read: 1 GiB.
pub const MAX_LOG_BYTES: u64 = 1 << 30;

/// What is wrong with a log.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LogError {
    /// The file could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// A new log would take the place of a file.
    #[error(
        "{} exists already, and a new run does not write over it; remove it, or choose another place for the log",
        .0.display()
    )]
    Exists(PathBuf),
    /// The log of a run that goes on is not there.
    #[error("the run's log {} does not exist; if it was moved, say where it is", .0.display())]
    Missing(PathBuf),
    /// The file is not the log of the run that goes on.
    #[error("{} is not the log of this run: {reason}; it is left as it was", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// How it shows.
        reason: String,
    },
    /// A line is not a record.
    #[error("{}:{line}: not a line of a training log: {source}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line's number, from 1.
        line: usize,
        /// What serde found.
        source: serde_json::Error,
    },
}

/// What is known after one training step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Number of steps done, this one included: the first record has 1.
    pub step: u64,
    /// Mean loss of the step's batch before its update, in nats per token.
    #[serde(serialize_with = "finite", deserialize_with = "or_nan")]
    pub loss: f64,
    /// Learning rate of the step.
    pub lr: f64,
    /// Global norm of the gradient, loss scale removed, before clipping.
    #[serde(serialize_with = "finite", deserialize_with = "or_nan")]
    pub grad_norm: f64,
    /// Loss scale of the step.
    pub loss_scale: f32,
    /// Time of the step without validation, in milliseconds.
    pub ms: f64,
    /// Tokens trained on per second: S / time.
    pub tokens_per_s: f64,
    /// Mean loss of the validation text after the step's update, in nats per token.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "some_or_nan")]
    pub val_loss: Option<f64>,
}

fn finite<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    value.is_finite().then_some(*value).serialize(serializer)
}

fn or_nan<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or(f64::NAN))
}

fn some_or_nan<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
    or_nan(deserializer).map(Some)
}

/// A log that is being written. Every record is a whole line in the file as soon as [`Log::append`] returns.
#[derive(Debug)]
pub struct Log {
    path: PathBuf,
    file: File,
}

impl Log {
    /// Begins a new log.
    ///
    /// # Errors
    /// There is such a file, or it cannot be created.
    pub fn create(path: &Path) -> Result<Self, LogError> {
        match OpenOptions::new().append(true).create_new(true).open(path) {
            Ok(file) => Ok(Self { path: path.to_owned(), file }),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Err(LogError::Exists(path.to_owned())),
            Err(source) => Err(FileError::write(path, source).into()),
        }
    }

    /// Goes on with the log of a run resumed after `step` steps, the last of which had this loss.
    ///
    /// Lines of later steps, which the interrupted run did and the resumed one will do again, are dropped (step
    /// `step` itself is kept), as is a last line that was cut off; so the log stays that of one run. Lines kept
    /// are kept to the byte. Before the first step (`loss` is not looked at then), a log that does not exist is
    /// begun.
    ///
    /// # Errors
    /// The file cannot be read or written; a line other than a cut-off last one is not a record; or the records
    /// are not those of steps 1, 2, … up to `step` at least, with this loss, so that the file is another run's
    /// or no log at all. The file is then as it was.
    pub fn resume(path: &Path, step: u64, loss: f64) -> Result<Self, LogError> {
        let bytes = match read_bounded(path, MAX_LOG_BYTES) {
            Err(FileError::Read { source, .. }) if source.kind() == ErrorKind::NotFound => {
                return if step == 0 { Self::create(path) } else { Err(LogError::Missing(path.to_owned())) };
            }
            read => read?,
        };
        let records = lines(path, &bytes)?;
        let foreign = |reason| LogError::Foreign { path: path.to_owned(), reason };
        check_records(&records, step, loss).map_err(foreign)?;
        if step == 0 && !bytes.is_empty() {
            return Err(foreign("it is not empty, and the run has done no step".to_owned()));
        }
        let kept = records.iter().filter(|(_, record)| record.step <= step).map(|(text, _)| *text);
        if kept.clone().map(<[u8]>::len).sum::<usize>() != bytes.len() {
            atomic_write(path, |writer| kept.clone().try_for_each(|line| writer.write_all(line)))?;
        }
        let file =
            OpenOptions::new().append(true).open(path).map_err(|source| FileError::write(path, source))?;
        Ok(Self { path: path.to_owned(), file })
    }

    /// Returns when the records are on the disk: a checkpoint is not to outlive those of the steps before it.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn sync(&self) -> Result<(), LogError> {
        self.file.sync_data().map_err(|source| FileError::write(&self.path, source).into())
    }

    /// Adds a record.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn append(&mut self, record: &Record) -> Result<(), LogError> {
        // A record is plain numbers: JSON can hold it, and it is written in one call.
        let line = serde_json::to_string(record).map_err(std::io::Error::from).map(|json| json + "\n");
        line.and_then(|line| self.file.write_all(line.as_bytes()))
            .map_err(|source| FileError::write(&self.path, source).into())
    }
}

/// Checks that records are of steps 1, 2, … up to `step` at least, which had this loss; else says how not.
fn check_records(records: &[(&[u8], Record)], step: u64, loss: f64) -> Result<(), String> {
    for ((_, record), expected) in records.iter().zip(1..) {
        if record.step != expected {
            return Err(format!("its record {expected} is of step {}", record.step));
        }
        if record.step == step && record.loss.to_bits() != loss.to_bits() {
            let found = record.loss;
            return Err(format!("the loss of step {step} is {found} there and {loss} in the checkpoint"));
        }
    }
    if (records.len() as u64) < step {
        return Err(format!("its records end at step {}, the checkpoint is of step {step}", records.len()));
    }
    Ok(())
}

/// The records of a log, in order. A last line that was cut off by a kill is left out.
///
/// # Errors
/// The file cannot be read or has more than [`MAX_LOG_BYTES`], or a line is not a record.
pub fn read(path: &Path) -> Result<Vec<Record>, LogError> {
    let bytes = read_bounded(path, MAX_LOG_BYTES)?;
    Ok(lines(path, &bytes)?.into_iter().map(|(_, record)| record).collect())
}

/// The whole lines of a log, each with its line end, and what they say. Empty lines are left out.
fn lines<'a>(path: &Path, bytes: &'a [u8]) -> Result<Vec<(&'a [u8], Record)>, LogError> {
    let mut records = Vec::new();
    for (i, text) in bytes.split_inclusive(|&byte| byte == b'\n').enumerate() {
        if text.trim_ascii().is_empty() || !text.ends_with(b"\n") {
            continue;
        }
        let record = serde_json::from_slice(text).map_err(|source| LogError::Line {
            path: path.to_owned(),
            line: i + 1,
            source,
        })?;
        records.push((text, record));
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use tempfile::TempDir;

    fn record(step: u64) -> Record {
        Record {
            step,
            loss: 2.5 + 1.0 / step as f64,
            lr: 1e-3,
            grad_norm: 0.5,
            loss_scale: 65536.0,
            ms: 12.25,
            tokens_per_s: 163_840.0,
            val_loss: step.is_multiple_of(5).then_some(2.25),
        }
    }

    fn log_of(steps: std::ops::RangeInclusive<u64>) -> (TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log.jsonl");
        let mut log = Log::create(&path).unwrap();
        steps.for_each(|step| log.append(&record(step)).unwrap());
        (directory, path)
    }

    #[test]
    fn lines_have_the_promised_fields() {
        let (_directory, path) = log_of(4..=5);
        let text = fs::read_to_string(&path).unwrap();
        let expected = concat!(
            r#"{"step":4,"loss":2.75,"lr":0.001,"grad_norm":0.5,"loss_scale":65536.0,"ms":12.25,"tokens_per_s":163840.0}"#,
            "\n",
            r#"{"step":5,"loss":2.7,"lr":0.001,"grad_norm":0.5,"loss_scale":65536.0,"ms":12.25,"tokens_per_s":163840.0,"val_loss":2.25}"#,
            "\n",
        );
        assert_eq!(text, expected);
        assert_eq!(read(&path).unwrap(), [record(4), record(5)]);
    }

    #[test]
    fn a_resumed_log_is_that_of_one_run() {
        let (_directory, path) = log_of(1..=9);
        let whole = fs::read(&path).unwrap();
        let mut log = Log::resume(&path, 6, record(6).loss).unwrap();
        (7..=9).for_each(|step| log.append(&record(step)).unwrap());
        assert_eq!(fs::read(&path).unwrap(), whole);
        Log::resume(&path, 9, record(9).loss).unwrap();
        assert_eq!(fs::read(&path).unwrap(), whole);
        for (step, loss) in [(100, record(100).loss), (6, record(7).loss), (6, f64::NAN), (0, 0.0)] {
            let refused = Log::resume(&path, step, loss).unwrap_err();
            assert!(matches!(refused, LogError::Foreign { .. }), "{refused}");
            assert_eq!(fs::read(&path).unwrap(), whole);
        }
        let refused = Log::create(&path).unwrap_err();
        assert!(matches!(refused, LogError::Exists(_)), "{refused}");
        assert_eq!(fs::read(&path).unwrap(), whole);
    }

    #[test]
    fn a_cut_off_last_line_is_dropped_and_another_bad_line_is_an_error() {
        let (_directory, path) = log_of(1..=3);
        let whole = fs::read(&path).unwrap();
        fs::write(&path, &whole[..whole.len() - 1]).unwrap();
        assert_eq!(read(&path).unwrap().len(), 2);
        assert!(matches!(Log::resume(&path, 3, record(3).loss), Err(LogError::Foreign { .. })));
        let mut log = Log::resume(&path, 2, record(2).loss).unwrap();
        log.append(&record(3)).unwrap();
        assert_eq!(fs::read(&path).unwrap(), whole);

        let bad = [b"{\"step\":1}\n", &whole[..]].concat();
        fs::write(&path, &bad).unwrap();
        let message = Log::resume(&path, 3, record(3).loss).unwrap_err().to_string();
        assert!(message.contains("log.jsonl:1: not a line of a training log: missing field"), "{message}");
        assert_eq!(fs::read(&path).unwrap(), bad);
    }

    #[test]
    fn a_log_is_missing_only_before_the_first_step() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("new.jsonl");
        assert!(matches!(Log::resume(&path, 5, record(5).loss), Err(LogError::Missing(_))));
        assert!(!path.exists());
        Log::resume(&path, 0, 0.0).unwrap().append(&record(1)).unwrap();
        assert_eq!(read(&path).unwrap(), [record(1)]);
        assert!(matches!(Log::create(&directory.path().join("no/log")), Err(LogError::File(_))));
    }

    #[test]
    fn what_is_not_finite_is_null() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log.jsonl");
        let mut log = Log::create(&path).unwrap();
        let overflow = Record { loss: f64::NAN, grad_norm: f64::INFINITY, ..record(1) };
        log.append(&overflow).unwrap();
        assert!(fs::read_to_string(&path).unwrap().contains(r#""loss":null,"#));
        let again = &read(&path).unwrap()[0];
        assert!(again.loss.is_nan() && again.grad_norm.is_nan() && again.val_loss.is_none());
    }
}
