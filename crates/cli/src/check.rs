//! `anemone check`: are these programs sound, and their weights there?

use std::path::{Path, PathBuf};

use anemone_mil::error::{Errors, Spans};
use anemone_mil::weights::WeightDirectory;
use serde::Serialize;

use crate::common::source::{JsonError, Source, SourceError, count, operations};
use crate::common::{Failure, Output};

/// Flags of `check`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Programs to verify
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Also check the weights: the directory that `@model_path` stands for (default: weights are not read)
    #[arg(long, value_name = "DIR")]
    weights: Option<PathBuf>,
}

#[derive(Serialize)]
struct Line<'a> {
    file: &'a Path,
    ok: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    functions: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ops: Option<usize>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<JsonError>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

/// Verifies programs and says which of them are sound.
///
/// # Errors
///
/// When a file cannot be read, or a program or its weights are not sound.
pub fn run(args: &Args, output: &Output) -> Result<(), Failure> {
    let weights = match &args.weights {
        Some(directory) if !directory.is_dir() => {
            let source = std::io::ErrorKind::NotADirectory.into();
            return Err(Failure::Read { path: directory.clone(), source });
        }
        Some(directory) => Some(WeightDirectory::new(directory)),
        None => None,
    };
    let mut failed = 0;
    for path in &args.files {
        let sound = match Source::read(path) {
            Ok(source) => check(&source, weights.as_ref(), output)?,
            Err(SourceError::Text { text, errors }) => {
                report(path, &text, &Spans::default(), &errors, output)?;
                false
            }
            Err(SourceError::File(failure)) => {
                unreadable(path, &failure, output)?;
                false
            }
        };
        failed += usize::from(!sound);
    }
    match (failed, args.files.len()) {
        (0, 1) => Ok(()),
        (0, all) => {
            output.message(format_args!("{all} files are ok"));
            Ok(())
        }
        (_, all) => Err(Failure::Files(format!("{failed} of {} failed", count(all, "file")))),
    }
}

/// Whether a program, and its weights where they are asked for, are sound.
fn check(source: &Source, weights: Option<&WeightDirectory>, output: &Output) -> Result<bool, Failure> {
    let result = source.verify().and_then(|verified| match weights {
        Some(weights) => source.verify_blobs(weights).map(|()| verified),
        None => Ok(verified),
    });
    match result {
        Ok(verified) => {
            let all = &verified.program().functions;
            let (functions, ops) = (all.len(), all.iter().map(operations).sum());
            let text = format!(
                "{}: ok, {}, {}",
                source.path.display(),
                count(functions, "function"),
                count(ops, "op")
            );
            let line = Line { functions: Some(functions), ops: Some(ops), ..Line::new(&source.path, true) };
            output.result(text, &line)?;
            Ok(true)
        }
        Err(errors) => {
            report(&source.path, &source.text, &source.spans, &errors, output)?;
            Ok(false)
        }
    }
}

impl<'a> Line<'a> {
    fn new(file: &'a Path, ok: bool) -> Line<'a> {
        Line { file, ok, functions: None, ops: None, errors: Vec::new(), reason: None }
    }
}

/// Mistakes go to standard error; as JSON they are a result too.
fn report(path: &Path, text: &str, spans: &Spans, errors: &Errors, output: &Output) -> Result<(), Failure> {
    let rendered = errors.render(&path.display().to_string(), text, spans);
    output.failure(&Failure::Program(rendered));
    if output.is_json() {
        let errors = JsonError::all(errors, text, spans);
        output.result("", &Line { errors, ..Line::new(path, false) })?;
    }
    Ok(())
}

fn unreadable(path: &Path, failure: &Failure, output: &Output) -> Result<(), Failure> {
    output.failure(failure);
    if output.is_json() {
        output.result("", &Line { reason: Some(failure.to_string()), ..Line::new(path, false) })?;
    }
    Ok(())
}
