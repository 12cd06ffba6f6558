//! What is found in a file: shown to people on standard error, printed for programs as lines of JSON.

use std::path::Path;

use anemone_mil::error::{Error, ErrorKind, Errors, Lines, Span, Spans};
use serde::Serialize;

use super::files::serialize_path;
use super::source::SourceError;
use super::{Failure, Output};

/// One finding, as a line of JSON. Its place is the line and column of its first character, from 1, where it
/// has one.
#[derive(Serialize)]
struct Finding<'a> {
    #[serde(serialize_with = "serialize_path")]
    file: &'a Path,
    line: Option<usize>,
    column: Option<usize>,
    severity: Severity,
    code: String,
    message: &'a str,
    /// What is at the place, in a few words.
    label: &'a str,
    help: Option<&'a str>,
}

/// How bad a finding is.
#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum Severity {
    Error,
}

/// The code of what keeps a file from being read or written at all.
const FILE: &str = "file";

/// The last line of a file that fails.
#[derive(Serialize)]
struct Failed<'a> {
    #[serde(serialize_with = "serialize_path")]
    file: &'a Path,
    ok: bool,
    /// All errors: those that have lines of their own, and those beyond.
    errors: usize,
}

impl<'a> Finding<'a> {
    fn new(file: &'a Path, error: &'a Error, span: Option<Span>, lines: &Lines<'_>) -> Finding<'a> {
        let place = span.map(|span| lines.line_and_column(span.start as usize));
        Finding {
            file,
            line: place.map(|(line, _)| line),
            column: place.map(|(_, column)| column),
            severity: Severity::Error,
            code: code(error.kind),
            message: &error.message,
            label: &error.label,
            help: error.help.as_deref(),
        }
    }
}

/// A kind's name in lower case with hyphens: `unknown-parameter`.
fn code(kind: ErrorKind) -> String {
    let mut code = String::new();
    for c in format!("{kind:?}").chars() {
        if c.is_ascii_uppercase() && !code.is_empty() {
            code.push('-');
        }
        code.push(c.to_ascii_lowercase());
    }
    code
}

/// Reports the mistakes in a program with this text.
pub fn mistakes(path: &Path, text: &str, spans: &Spans, errors: &Errors, output: &Output) {
    let rendered = errors.render(&path.display().to_string(), text, spans);
    output.failure(&Failure::Program(rendered));
    if output.is_json() {
        let lines = Lines::new(text);
        for (span, error) in errors.in_order(spans) {
            output.json(&Finding::new(path, error, span, &lines));
        }
        output.json(&Failed { file: path, ok: false, errors: errors.len() });
    }
}

/// Reports that a file cannot be dealt with, whatever is in it.
pub fn failure(path: &Path, failure: &Failure, output: &Output) {
    output.failure(failure);
    let message = failure.to_string();
    let (line, column, help) = (None, None, None);
    let (severity, code) = (Severity::Error, FILE.to_string());
    output.json(&Finding { file: path, line, column, severity, code, message: &message, label: "", help });
    output.json(&Failed { file: path, ok: false, errors: 1 });
}

/// Reports why a file holds no program.
pub fn source_error(path: &Path, error: &SourceError, output: &Output) {
    match error {
        SourceError::Text { text, errors } => mistakes(path, text, &Spans::default(), errors, output),
        SourceError::File(reason) => failure(path, reason, output),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_the_kinds_names() {
        assert_eq!(code(ErrorKind::Syntax), "syntax");
        assert_eq!(code(ErrorKind::UseBeforeDefinition), "use-before-definition");
    }
}
