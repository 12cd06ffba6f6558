//! `anemone check`: are these programs sound, and their weights there?

use std::path::{Path, PathBuf};

use anemone_mil::verify::count;
use anemone_mil::weights::WeightDirectory;
use serde::Serialize;

use crate::common::source::{Source, operations};
use crate::common::{Failure, Output, report};

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
    functions: usize,
    ops: usize,
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
            Err(error) => {
                report::source_error(path, &error, output)?;
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
            let mut warnings = source.warnings.clone();
            warnings.extend(verified.warnings());
            if !warnings.is_empty() {
                output.message(source.render(&warnings));
            }
            output.result(text, &Line { file: &source.path, ok: true, functions, ops })?;
            Ok(true)
        }
        Err(errors) => {
            report::mistakes(&source.path, &source.text, &source.spans, &errors, output)?;
            Ok(false)
        }
    }
}
