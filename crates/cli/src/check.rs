//! `anemone check`: are these programs sound, their weights there, and would the engine take them?

use std::path::{Path, PathBuf};

use anemone_ane::chips::Chips;
use anemone_ane::ranges::{Assumptions, NamedRange};
use anemone_mil::verify::count;
use anemone_mil::weights::WeightDirectory;
use anemone_model::check::{self, Checked, Checks};
use serde::Serialize;

use crate::common::cost::operations;
use crate::common::files::{self, serialize_path};
use crate::common::pipeline::Opened;
use crate::common::source::{Source, SourceError};
use crate::common::{Failure, Output, findings};

/// Flags of `check`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Programs to verify
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Also check the weights: the directory that `@model_path` stands for (default: those of a model, none of a .mil)
    #[arg(long, value_name = "DIR")]
    weights: Option<PathBuf>,
    /// Also check the engine's rules: of m1, m2, m3, m4, m5 or m6, or of all of them (`anemone rules` lists them)
    #[arg(long, value_name = "CHIP")]
    chip: Option<Chips>,
    /// What an input's elements are among, to bound what is computed from them; again for each input (default: -10..10,
    /// and for integers anything)
    #[arg(long, value_name = "NAME=LO..HI", requires = "chip")]
    range: Vec<NamedRange>,
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
    let assumptions = Assumptions::new(&args.range).map_err(|error| Failure::new(error.to_string()))?;
    let mut failed = 0;
    for path in &args.files {
        let mut sound = true;
        match Opened::read(path) {
            Ok(opened) => {
                if let Err(what) = opened.check() {
                    let failure = Failure::new(format!("{}: the pipeline {what}", path.display()));
                    findings::failure(path, &failure, output);
                    sound = false;
                }
                // Every program is checked, whatever is wrong with one before it.
                for program in opened.programs() {
                    sound &= match program {
                        Ok(source) => check(&source, weights.as_ref(), &assumptions, args, output),
                        Err(error) => not_read(path, error, output),
                    };
                }
            }
            Err(error) => sound = not_read(path, error, output),
        }
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

/// Says why a program is not read.
fn not_read(path: &Path, error: SourceError, output: &Output) -> bool {
    findings::source_error(path, error, output);
    false
}

/// Whether a program, and its weights where they are asked for, are sound.
fn check(
    source: &Source,
    weights: Option<&WeightDirectory>,
    assumptions: &Assumptions,
    args: &Args,
    output: &Output,
) -> bool {
    let checks = Checks { weights, chips: args.chip, assumptions };
    let Checked { warnings, errors } = match check::check(source, &checks) {
        Ok(checked) => checked,
        Err(error) => {
            output.failure(&Failure::new(format!("{}: {error}", source.path.display())));
            return false;
        }
    };
    let sound = findings::all(source, &warnings, &errors, args.warnings_are_errors, output);
    if sound {
        let all = &source.program.functions;
        let (functions, ops) = (all.len(), all.iter().map(operations).sum());
        let text =
            format!("{}: ok, {}, {}", source.path.display(), count(functions, "function"), count(ops, "op"));
        output.result(text, &Line { file: &source.path, ok: true, functions, ops });
    }
    sound
}
