//! What is said of a file that fails: to people on standard error, to programs as a line of JSON.

use std::path::Path;

use anemone_mil::error::{Error, Errors, Lines, Span, Spans};
use serde::Serialize;

use super::source::SourceError;
use super::{Failure, Output};

/// The line of a file that fails.
#[derive(Serialize)]
struct FailedFile<'a> {
    file: &'a Path,
    ok: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<JsonError>,
    /// Errors that are not listed.
    #[serde(skip_serializing_if = "Option::is_none")]
    more_errors: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

/// A mistake for programs to read: its place is the line and column of its first character, from 1.
#[derive(Serialize)]
struct JsonError {
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
    fn new(error: &Error, span: Option<Span>, spans: &Spans, lines: &Lines<'_>) -> JsonError {
        let place = span.map(|span| lines.line_and_column(span.start as usize));
        JsonError {
            kind: format!("{:?}", error.kind),
            message: error.message.clone(),
            label: error.label_in(spans, lines),
            help: error.help.clone(),
            line: place.map(|(line, _)| line),
            column: place.map(|(_, column)| column),
        }
    }
}

/// Reports the mistakes in a program with this text.
///
/// # Errors
///
/// When standard output cannot be written to.
pub fn mistakes(
    path: &Path,
    text: &str,
    spans: &Spans,
    errors: &Errors,
    output: &Output,
) -> Result<(), Failure> {
    let rendered = errors.render(&path.display().to_string(), text, spans);
    output.failure(&Failure::Program(rendered));
    if output.is_json() {
        let (lines, more) = (Lines::new(text), errors.unlisted());
        let listed = errors.in_order(spans);
        let errors = listed.iter().map(|(span, error)| JsonError::new(error, *span, spans, &lines)).collect();
        let more_errors = (more > 0).then_some(more);
        output.result("", &FailedFile { file: path, ok: false, errors, more_errors, reason: None })?;
    }
    Ok(())
}

/// Reports that a file cannot be dealt with, whatever is in it.
///
/// # Errors
///
/// When standard output cannot be written to.
pub fn failure(path: &Path, failure: &Failure, output: &Output) -> Result<(), Failure> {
    output.failure(failure);
    if output.is_json() {
        let reason = Some(failure.to_string());
        output.result(
            "",
            &FailedFile { file: path, ok: false, errors: Vec::new(), more_errors: None, reason },
        )?;
    }
    Ok(())
}

/// Reports why a file holds no program.
///
/// # Errors
///
/// When standard output cannot be written to.
pub fn source_error(path: &Path, error: &SourceError, output: &Output) -> Result<(), Failure> {
    match error {
        SourceError::Text { text, errors } => mistakes(path, text, &Spans::default(), errors, output),
        SourceError::File(reason) => failure(path, reason, output),
    }
}
