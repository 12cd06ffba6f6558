//! What the subcommands share: files, programs, output, and the reasons why a subcommand fails.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use anemone_lm::config::ConfigError;
use anemone_lm::files::FileError;
use anemone_lm::head::HeadError;
use anemone_lm::run::RunError;
use anemone_mil::runtime::RuntimeError;
use thiserror::Error;

pub mod config;
pub mod cost;
pub mod files;
pub mod memory;
pub mod npy;
pub mod output;
pub mod random;
pub mod report;
pub mod runtime;
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
    /// A file cannot be opened, or nothing this command reads can be as large as it.
    #[error(transparent)]
    File(#[from] FileError),
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
    /// An array that is not what it is to be.
    #[error(transparent)]
    Array(#[from] npy::ArrayError),
    /// A runtime refuses or fails.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// `run` is given the wrong things.
    #[error(transparent)]
    Run(#[from] crate::run::RunError),
    /// A configuration that cannot be had.
    #[error(transparent)]
    ConfigFile(#[from] config::ConfigFailure),
    /// The output directory holds a run already.
    #[error(
        "{dir} holds a run already; go on with it by `--resume {dir}`, or choose another directory with `--out`",
        dir = .0.display()
    )]
    Occupied(PathBuf),
    /// A runtime that does not compute the classifier and its loss in one.
    #[error("the runtime {} does not offer `--head fused`; those that do: {}", .0.name(), runtime::RuntimeName::with_fused_head())]
    NoFusedHead(runtime::RuntimeName),
    /// Training fails, or cannot begin or go on.
    #[error(transparent)]
    Training(#[from] RunError),
    /// The head fails.
    #[error(transparent)]
    Head(#[from] HeadError),
    /// Threads cannot be started.
    #[error("threads cannot be started: {0}")]
    Threads(#[from] rayon::ThreadPoolBuildError),
    /// A setting out of its range.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Programs or weights that cannot be written.
    #[error(transparent)]
    Emit(#[from] crate::emit::EmitError),
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
