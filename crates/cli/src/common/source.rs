//! Programs with the text that they were read from.

use std::path::{Path, PathBuf};

use anemone_mil::error::{Error, ErrorKind, Errors, Span, Spans};
use anemone_mil::program::{Function, Program};
use anemone_mil::text::{self, Comments};
use anemone_mil::verify::{CONST, Verified, verify, verify_blobs};
use anemone_mil::weights::WeightSource;
use serde::Serialize;

use super::{Failure, files};

/// The largest program text that is read, in bytes.
pub const MAX_PROGRAM_BYTES: u64 = 1 << 30;

/// A program, and where its parts stand in its text.
#[derive(Debug)]
pub struct Source {
    /// The file.
    pub path: PathBuf,
    /// Its text.
    pub text: String,
    /// The program.
    pub program: Program,
    /// Where its parts stand.
    pub spans: Spans,
    /// Its comments.
    pub comments: Comments,
}

/// Why a file holds no sound program.
#[derive(Debug)]
pub enum SourceError {
    /// It cannot be read.
    File(Failure),
    /// Its text has mistakes.
    Text {
        /// The text.
        text: String,
        /// The mistakes.
        errors: Errors,
    },
}

impl Source {
    /// Reads a program.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, or its text is no program.
    pub fn read(path: &Path) -> Result<Source, SourceError> {
        let text = files::read_text(path, MAX_PROGRAM_BYTES).map_err(SourceError::File)?;
        match text::parse(&text) {
            Ok(parsed) => Ok(Source {
                path: path.to_owned(),
                text,
                program: parsed.program,
                spans: parsed.spans,
                comments: parsed.comments,
            }),
            Err(errors) => Err(SourceError::Text { text, errors }),
        }
    }

    /// Reads a program; mistakes in its text become one failure.
    ///
    /// # Errors
    ///
    /// As [`Source::read`].
    pub fn load(path: &Path) -> Result<Source, Failure> {
        Source::read(path).map_err(|error| match error {
            SourceError::File(failure) => failure,
            SourceError::Text { text, errors } => {
                Failure::Program(errors.render(&path.display().to_string(), &text, &Spans::default()))
            }
        })
    }

    /// The program, verified.
    ///
    /// # Errors
    ///
    /// The mistakes that the verifier finds.
    pub fn verify(&self) -> Result<Verified, Errors> {
        verify(self.program.clone())
    }

    /// Checks the blobs that the program refers to.
    ///
    /// # Errors
    ///
    /// One per blob that is not what the program declares.
    pub fn verify_blobs(&self, weights: &dyn WeightSource) -> Result<(), Errors> {
        verify_blobs(&self.program, weights)
    }

    /// Mistakes, rendered with the lines they stand in.
    pub fn render(&self, errors: &Errors) -> String {
        errors.render(&self.path.display().to_string(), &self.text, &self.spans)
    }
}

/// The number of a function's operations; constants are not counted.
pub fn operations(function: &Function) -> usize {
    function.ops.iter().filter(|op| op.name != CONST).count()
}

/// `1 function`, `2 functions`.
pub fn count(number: usize, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

/// A mistake for programs to read: its place is the line and column of its first character, from 1.
#[derive(Debug, Serialize)]
pub struct JsonError {
    kind: String,
    message: String,
    label: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    help: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    column: Option<usize>,
}

impl JsonError {
    /// Each mistake, with its place in `text` and in its order.
    pub fn all(errors: &Errors, text: &str, spans: &Spans) -> Vec<JsonError> {
        errors.in_order(spans).iter().map(|(span, error)| JsonError::new(error, *span, text)).collect()
    }

    fn new(error: &Error, span: Option<Span>, text: &str) -> JsonError {
        let place = span.map(|span| line_and_column(text, span.start as usize));
        JsonError {
            kind: format!("{:?}", error.kind),
            message: error.message.clone(),
            label: error.label.clone(),
            help: error.help.clone(),
            line: place.map(|(line, _)| line),
            column: place.map(|(_, column)| column),
        }
    }
}

/// The line and the column, in characters, of a byte of the text; both count from 1.
fn line_and_column(text: &str, position: usize) -> (usize, usize) {
    let mut position = position.min(text.len());
    while !text.is_char_boundary(position) {
        position -= 1;
    }
    let before = &text[..position];
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

/// Whether mistakes are only that ops, or versions of them, are not known here.
pub fn only_unknown_ops(errors: &Errors) -> bool {
    errors.0.iter().all(|error| matches!(error.kind, ErrorKind::UnknownOp))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_count_from_one_in_characters() {
        let text = "é = 1\nzwei";
        assert_eq!(line_and_column(text, 0), (1, 1));
        assert_eq!(line_and_column(text, 2), (1, 2));
        assert_eq!(line_and_column(text, 7), (2, 1));
        assert_eq!(line_and_column(text, 999), (2, 5));
    }
}
