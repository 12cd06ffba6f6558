//! Results on standard output, messages on standard error.

use std::cell::RefCell;
use std::fmt::Display;
use std::io::{self, Write};

use anemone_model::text::printable;
use serde::Serialize;

use super::Failure;

/// How much a subcommand says besides its results.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verbosity {
    /// Errors only.
    Quiet,
    /// What a user wants to know.
    Normal,
    /// Also what helps to find out why.
    Verbose,
}

/// Where results and messages go.
///
/// Standard output that takes nothing more ends the output, not the work: what comes after is dropped, and
/// [`Output::finish`] says at the end whether that was an error.
#[derive(Debug)]
pub(crate) struct Output {
    json: bool,
    verbosity: Verbosity,
    /// Why standard output took nothing more.
    closed: RefCell<Option<io::Error>>,
}

impl Output {
    /// Results as JSON or as text.
    pub(crate) fn new(json: bool, verbosity: Verbosity) -> Output {
        Output { json, verbosity, closed: RefCell::new(None) }
    }

    /// Whether results are printed as JSON.
    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// Prints a result: `json` as one line, or `text` with a newline.
    pub(crate) fn result(&self, text: impl Display, json: &impl Serialize) {
        if self.json {
            self.json(json);
        } else {
            self.raw(format_args!("{text}\n"));
        }
    }

    /// Prints a result that only programs read, where results are printed as JSON.
    pub(crate) fn json(&self, json: &impl Serialize) {
        if self.json {
            self.write(|stdout| {
                serde_json::to_writer(&mut *stdout, json)?;
                stdout.write_all(b"\n")
            });
        }
    }

    /// Prints text as it is.
    pub(crate) fn raw(&self, text: impl Display) {
        self.write(|stdout| write!(stdout, "{text}"));
    }

    fn write(&self, write: impl FnOnce(&mut io::StdoutLock<'_>) -> io::Result<()>) {
        let mut closed = self.closed.borrow_mut();
        if closed.is_none() {
            let mut stdout = io::stdout().lock();
            *closed = write(&mut stdout).and_then(|()| stdout.flush()).err();
        }
    }

    /// Whether standard output still takes something.
    pub(crate) fn is_open(&self) -> bool {
        self.closed.borrow().is_none()
    }

    /// Ends the output.
    ///
    /// # Errors
    ///
    /// When standard output could not be written to for another reason than that its reader, such as `head`,
    /// had seen enough.
    pub(crate) fn finish(&self) -> Result<(), Failure> {
        match self.closed.take() {
            Some(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                Err(Failure::new(format!("cannot write to standard output: {error}")))
            }
            _ => Ok(()),
        }
    }

    /// The flags that ask for this way of printing.
    pub(crate) fn arguments(&self) -> Vec<&'static str> {
        let verbosity = match self.verbosity {
            Verbosity::Quiet => Some("--quiet"),
            Verbosity::Normal => None,
            Verbosity::Verbose => Some("--verbose"),
        };
        self.json.then_some("--json").into_iter().chain(verbosity).collect()
    }

    /// Whether messages are wanted.
    pub(crate) fn has_messages(&self) -> bool {
        self.verbosity >= Verbosity::Normal
    }

    /// Says something that is no result, unless `-q` is given.
    pub(crate) fn message(&self, text: impl Display) {
        if self.has_messages() {
            say(text);
        }
    }

    /// Says something that only `-v` asks for.
    pub(crate) fn detail(&self, text: impl Display) {
        if self.verbosity >= Verbosity::Verbose {
            say(text);
        }
    }

    /// Says why something failed.
    pub(crate) fn failure(&self, failure: &Failure) {
        match failure {
            Failure::Program(rendered) => say(rendered),
            Failure::Usage(_) | Failure::Other(_) => say(format_args!("error: {failure}")),
        }
    }
}

/// Standard error that cannot be written to leaves nobody to tell.
fn say(text: impl Display) {
    let _ = writeln!(io::stderr().lock(), "{}", printable(&text.to_string()));
}

/// Says, in whatever way results are printed, that they come about otherwise than was asked for.
pub(crate) fn warning(text: &str) {
    say(format_args!("warning: {text}"));
}
