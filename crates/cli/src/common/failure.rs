//! Why a subcommand fails.

use std::error::Error;
use std::fmt;

/// Why a subcommand fails. Any error becomes one by `?`.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Mistakes in a program, rendered with its text.
    Program(String),
    /// Everything else, said in one paragraph.
    Other(Box<dyn Error + Send + Sync>),
}

impl Failure {
    /// A failure that is told in words.
    pub(crate) fn new(message: impl Into<String>) -> Failure {
        Failure::Other(message.into().into())
    }
}

impl<E: Error + Send + Sync + 'static> From<E> for Failure {
    fn from(error: E) -> Failure {
        Failure::Other(Box::new(error))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Program(rendered) => f.write_str(rendered),
            Failure::Other(error) => error.fmt(f),
        }
    }
}
