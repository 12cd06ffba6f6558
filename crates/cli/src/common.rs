//! What the subcommands share: files, programs, output, and the reasons why a subcommand fails.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use thiserror::Error;

pub mod cost;
pub mod files;
pub mod output;
pub mod source;

pub use output::{Output, Verbosity};

/// Why a subcommand fails.
#[derive(Debug, Error)]
pub enum Failure {
    /// A file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A directory where a file belongs.
    #[error("{} is a directory; a file is expected here", .0.display())]
    Directory(PathBuf),
    /// A file that nothing this command reads can be as large as.
    #[error("{} is too large: at most {max_bytes} bytes are read", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The limit.
        max_bytes: u64,
    },
    /// A file that is not text.
    #[error("{} is not UTF-8 text: the byte {byte:#04x} at position {position} does not belong", path.display())]
    NotUtf8 {
        /// The file.
        path: PathBuf,
        /// The first byte that is not UTF-8, counted from 0.
        position: usize,
        /// Its value.
        byte: u8,
    },
    /// A file or directory cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file or directory.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// Standard output cannot be written to.
    #[error("cannot write to standard output: {0}")]
    Stdout(io::Error),
    /// Mistakes in a program, rendered with its text.
    #[error("{0}")]
    Program(String),
    /// Some of several files failed, and each has said why.
    #[error("{0}")]
    Files(String),
}

impl Failure {
    /// The exit status.
    pub fn status(&self) -> ExitCode {
        if self.is_closed_pipe() { ExitCode::SUCCESS } else { ExitCode::from(1) }
    }

    /// Whether whoever read standard output has seen enough, as `head` does: no reason to complain.
    pub fn is_closed_pipe(&self) -> bool {
        matches!(self, Failure::Stdout(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}
