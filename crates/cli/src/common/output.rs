//! Results on standard output, messages on standard error.

use std::fmt::Display;
use std::io::{self, Write};

use serde::Serialize;

use super::Failure;

/// How much a subcommand says besides its results.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verbosity {
    /// Errors only.
    Quiet,
    /// What a user wants to know.
    Normal,
    /// Also what helps to find out why.
    Verbose,
}

/// Where results and messages go.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    json: bool,
    verbosity: Verbosity,
}

impl Output {
    /// Results as JSON or as text.
    pub fn new(json: bool, verbosity: Verbosity) -> Output {
        Output { json, verbosity }
    }

    /// Whether results are printed as JSON.
    pub fn is_json(&self) -> bool {
        self.json
    }

    /// Prints a result: `json` as one line, or `text` with a newline.
    ///
    /// # Errors
    ///
    /// When standard output cannot be written to.
    pub fn result(&self, text: impl Display, json: &impl Serialize) -> Result<(), Failure> {
        if self.json {
            let line = serde_json::to_string(json).map_err(|error| Failure::Stdout(error.into()))?;
            self.raw(format_args!("{line}\n"))
        } else {
            self.raw(format_args!("{text}\n"))
        }
    }

    /// Prints text as it is.
    ///
    /// # Errors
    ///
    /// When standard output cannot be written to.
    pub fn raw(&self, text: impl Display) -> Result<(), Failure> {
        let mut stdout = io::stdout().lock();
        write!(stdout, "{text}").and_then(|()| stdout.flush()).map_err(Failure::Stdout)
    }

    /// Whether messages are wanted.
    pub fn has_messages(&self) -> bool {
        self.verbosity >= Verbosity::Normal
    }

    /// Says something that is no result, unless `-q` is given.
    pub fn message(&self, text: impl Display) {
        if self.has_messages() {
            say(text);
        }
    }

    /// Says something that only `-v` asks for.
    pub fn detail(&self, text: impl Display) {
        if self.verbosity >= Verbosity::Verbose {
            say(text);
        }
    }

    /// Says why something failed.
    pub fn failure(&self, failure: &Failure) {
        match failure {
            Failure::Program(rendered) => say(rendered),
            failure if failure.is_closed_pipe() => {}
            failure => say(format_args!("error: {failure}")),
        }
    }
}

/// Standard error that cannot be written to leaves nobody to tell.
fn say(text: impl Display) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}
