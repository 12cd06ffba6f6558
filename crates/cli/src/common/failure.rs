//! Why a subcommand fails.

use std::error::Error;
use std::fmt;

use anemone_model::mistakes::Mistakes;
use anemone_model::passes::DraftError;
use anemone_model::source::SourceError;

/// Why a subcommand fails. Any error becomes one by `?`: [`Mistakes`] those in a program, others what they say.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Mistakes in a program, rendered with its text.
    Program(String),
    /// Flags that do not go together.
    Usage(String),
    /// Everything else, said in one paragraph.
    Other(Box<dyn Error + Send + Sync>),
}

impl Failure {
    /// A failure that is told in words.
    pub(crate) fn new(message: impl Into<String>) -> Failure {
        Failure::Other(message.into().into())
    }

    /// The status that the command ends with: 2 for bad usage, else 1.
    pub(crate) fn status(&self) -> u8 {
        match self {
            Failure::Usage(_) => 2,
            Failure::Program(_) | Failure::Other(_) => 1,
        }
    }
}

impl<E: Error + Send + Sync + 'static> From<E> for Failure {
    fn from(error: E) -> Failure {
        let error: Box<dyn Error + Send + Sync> = Box::new(error);
        let mistakes = match (error.downcast_ref::<SourceError>(), error.downcast_ref::<DraftError>()) {
            (Some(SourceError::Mistakes(mistakes)), _) | (_, Some(DraftError::Mistakes(mistakes))) => {
                Some(mistakes)
            }
            _ => error.downcast_ref::<Box<Mistakes>>(),
        };
        match mistakes {
            Some(mistakes) => Failure::Program(mistakes.to_string()),
            None => Failure::Other(error),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Program(text) | Failure::Usage(text) => f.write_str(text),
            Failure::Other(error) => error.fmt(f),
        }
    }
}
