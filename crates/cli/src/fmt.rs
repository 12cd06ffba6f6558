//! `anemone fmt`: programs in the style of Apple's compiler.

use std::path::{Path, PathBuf};

use anemone_mil::verify::count;
use serde::Serialize;

use crate::common::files::{self, serialize_path};
use crate::common::source::Source;
use crate::common::{Failure, Output, findings};

/// Flags of `fmt`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Programs to print, one after the other; their comments are kept
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Print nothing but the names of files that would change; exit status 1 if there are any
    #[arg(long, conflicts_with = "write")]
    check: bool,
    /// Change the files instead of printing them
    #[arg(long)]
    write: bool,
}

#[derive(Serialize)]
struct Line<'a> {
    #[serde(serialize_with = "serialize_path")]
    file: &'a Path,
    ok: bool,
    changed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
}

/// Prints, checks or changes programs. A file that fails does not keep the others from their turn.
///
/// # Errors
///
/// When a file cannot be read or written or is no program; with `--check`, when one would change.
pub(crate) fn run(args: &Args, output: &Output) -> Result<(), Failure> {
    let (mut failed, mut changed) = (0, 0);
    for path in &args.files {
        let source = match Source::read(path) {
            Ok(source) => source,
            Err(error) => {
                findings::source_error(path, error, output);
                failed += 1;
                continue;
            }
        };
        match one(path, &source, args, output) {
            Ok(differs) => changed += usize::from(differs),
            Err(failure) => {
                findings::failure(path, &failure, output);
                failed += 1;
            }
        }
    }
    let all = count(args.files.len(), "file");
    let would_change = || format!("{changed} of {all} would change; `anemone fmt --write` changes them");
    match (failed, args.check && changed > 0) {
        (0, false) => Ok(()),
        (0, true) => Err(Failure::new(would_change())),
        (_, false) => Err(Failure::new(format!("{failed} of {all} failed"))),
        (_, true) => Err(Failure::new(format!("{failed} of {all} failed; {}", would_change()))),
    }
}

/// Whether the file differs from what `fmt` prints.
fn one(path: &Path, source: &Source, args: &Args, output: &Output) -> Result<bool, Failure> {
    let formatted = source.formatted();
    let changed = formatted != source.text;
    let json = |text| Line { file: path, ok: true, changed, text };
    if args.write {
        if changed {
            files::replace(&source.path, formatted.as_bytes())?;
        }
        output.message(format_args!("{}: {}", path.display(), if changed { "changed" } else { "unchanged" }));
    }
    match (args.check || args.write, output.is_json()) {
        (true, true) => output.json(&json(None)),
        (true, false) if args.check && changed => {
            output.raw(format_args!("{}: would change\n", path.display()));
        }
        (true, false) => {}
        (false, true) => output.json(&json(Some(&formatted))),
        (false, false) => output.raw(&formatted),
    }
    Ok(changed)
}
