//! What is found in a file: shown to people on standard error, printed for programs as lines of JSON.

use std::path::Path;

use anemone_mil::error::{Errors, Severity, Spans};
use anemone_model::findings::{Finding, findings};
use serde::Serialize;

use super::files::serialize_path;
use super::source::{Source, SourceError};
use super::{Failure, Output};

/// One finding, as a line of JSON.
#[derive(Serialize)]
struct Line<'a> {
    #[serde(serialize_with = "serialize_path")]
    file: &'a Path,
    #[serde(flatten)]
    finding: Finding,
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
fn list(path: &Path, text: &str, spans: &Spans, errors: &Errors, output: &Output) {
    if output.is_json() {
        for finding in findings(errors, text, spans) {
            output.json(&Line { file: path, finding });
        }
    }
}

/// Reports that a file cannot be dealt with, whatever is in it.
pub(crate) fn failure(path: &Path, failure: &Failure, output: &Output) {
    output.failure(failure);
    let finding = Finding {
        line: None,
        column: None,
        severity: Severity::Error.to_string(),
        code: FILE.to_string(),
        message: failure.to_string(),
        label: String::new(),
        help: None,
    };
    output.json(&Line { file: path, finding });
    output.json(&Failed { file: path, ok: false, errors: 1 });
}

/// Reports why a file holds no program.
pub(crate) fn source_error(path: &Path, error: SourceError, output: &Output) {
    let SourceError::Mistakes(mistakes) = error else {
        return failure(path, &error.into(), output);
    };
    output.failure(&Failure::Program(mistakes.to_string()));
    list(&mistakes.path, &mistakes.text, &mistakes.spans, &mistakes.errors, output);
    output.json(&Failed { file: &mistakes.path, ok: false, errors: mistakes.errors.len() });
}
