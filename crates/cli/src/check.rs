//! `anemone check`: are these programs sound, and their weights there?

use std::path::{Path, PathBuf};

use anemone_mil::verify::count;
use anemone_mil::weights::WeightDirectory;
use serde::Serialize;

use crate::common::cost::operations;
use crate::common::files::{self, serialize_path};
use crate::common::source::Source;
use crate::common::{Failure, Output, findings};

/// Flags of `check`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Programs to verify
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Also check the weights: the directory that `@model_path` stands for (default: weights are not read)
    #[arg(long, value_name = "DIR")]
    weights: Option<PathBuf>,
    /// Fail for warnings as for errors
    #[arg(long)]
    warnings_are_errors: bool,
}

#[derive(Serialize)]
struct Line<'a> {
    #[serde(serialize_with = "serialize_path")]
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
pub(crate) fn run(args: &Args, output: &Output) -> Result<(), Failure> {
    let weights = args.weights.as_deref().map(files::weights).transpose()?;
    let mut failed = 0;
    for path in &args.files {
        let sound = match Source::read(path) {
            Ok(source) => check(&source, weights.as_ref(), args.warnings_are_errors, output),
            Err(error) => {
                findings::source_error(path, &error, output);
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
        (_, all) => Err(Failure::new(format!("{failed} of {} failed", count(all, "file")))),
    }
}

/// Whether a program, and its weights where they are asked for, are sound.
fn check(
    source: &Source,
    weights: Option<&WeightDirectory>,
    warnings_are_errors: bool,
    output: &Output,
) -> bool {
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
            let sound = warnings.is_empty() || !warnings_are_errors;
            findings::warnings(source, &warnings, sound, output);
            if sound {
                output.result(text, &Line { file: &source.path, ok: true, functions, ops });
            }
            sound
        }
        Err(errors) => {
            findings::mistakes(&source.path, &source.text, &source.spans, &errors, output);
            false
        }
    }
}
