//! What is found in a file: shown to people on standard error, printed for programs as lines of JSON.

use std::path::Path;

use anemone_mil::error::{Error, Errors, Lines, Severity, Span, Spans};
use serde::Serialize;

use super::files::serialize_path;
use super::source::{Source, SourceError};
use super::{Failure, Output};

/// One finding, as a line of JSON. Its place is the line and column of its first character, from 1, where it
/// has one.
#[derive(Serialize)]
struct Finding<'a> {
    #[serde(serialize_with = "serialize_path")]
    file: &'a Path,
    line: Option<usize>,
    column: Option<usize>,
    severity: String,
    code: String,
    message: &'a str,
    /// What is at the place, in a few words.
    label: String,
    help: Option<&'a str>,
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
    fn new(
        file: &'a Path,
        error: &'a Error,
        span: Option<Span>,
        spans: &Spans,
        lines: &Lines<'_>,
    ) -> Finding<'a> {
        let place = span.map(|span| lines.line_and_column(span.start as usize));
        Finding {
            file,
            line: place.map(|(line, _)| line),
            column: place.map(|(_, column)| column),
            severity: error.severity.to_string(),
            code: error.kind.code(),
            message: &error.message,
            label: error.label_in(spans, lines),
            help: error.help.as_deref(),
        }
    }
}

/// Reports the mistakes in a program with this text.
pub(crate) fn mistakes(path: &Path, text: &str, spans: &Spans, errors: &Errors, output: &Output) {
    let rendered = errors.render(&path.display().to_string(), text, spans);
    output.failure(&Failure::Program(rendered));
    list(path, text, spans, errors, output);
    output.json(&Failed { file: path, ok: false, errors: errors.len() });
}

/// Reports what was found in a program; gives whether it is sound, which it is in spite of warnings unless these are
/// errors.
pub(crate) fn all(
    source: &Source,
    warnings: &Errors,
    errors: &Errors,
    warnings_are_errors: bool,
    output: &Output,
) -> bool {
    for (found, fatal) in [(warnings, warnings_are_errors), (errors, true)] {
        if found.is_empty() {
            continue;
        }
        let rendered = source.render(found);
        match fatal {
            true => output.failure(&Failure::Program(rendered)),
            false => output.message(rendered),
        }
        list(&source.path, &source.text, &source.spans, found, output);
    }
    let errors = errors.len() + if warnings_are_errors { warnings.len() } else { 0 };
    if errors > 0 {
        output.json(&Failed { file: &source.path, ok: false, errors });
    }
    errors == 0
}

/// A line of JSON for each.
fn list(path: &Path, text: &str, spans: &Spans, findings: &Errors, output: &Output) {
    if output.is_json() {
        let lines = Lines::new(text);
        for (span, error) in findings.in_order(spans) {
            output.json(&Finding::new(path, error, span, spans, &lines));
        }
    }
}

/// Reports that a file cannot be dealt with, whatever is in it.
pub(crate) fn failure(path: &Path, failure: &Failure, output: &Output) {
    output.failure(failure);
    let message = failure.to_string();
    let (line, column, help) = (None, None, None);
    let (severity, code) = (Severity::Error.to_string(), FILE.to_string());
    output.json(&Finding {
        file: path,
        line,
        column,
        severity,
        code,
        message: &message,
        label: String::new(),
        help,
    });
    output.json(&Failed { file: path, ok: false, errors: 1 });
}

/// Reports why a file holds no program.
pub(crate) fn source_error(path: &Path, error: &SourceError, output: &Output) {
    match error {
        SourceError::Text { text, errors } => mistakes(path, text, &Spans::default(), errors, output),
        SourceError::File(reason) => failure(path, reason, output),
    }
}
