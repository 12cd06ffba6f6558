//! `anemone convert`: a program from one of its forms into another.

use std::path::{Path, PathBuf};

use anemone_coreml::container::{self, Container};
use anemone_coreml::loose;
use anemone_coreml::model::Model;
use anemone_coreml::pipeline::AnyModel;
use anemone_mil::program::Function;
use anemone_mil::verify::count;
use anemone_mil::weights::WeightDirectory;
use serde::Serialize;

use crate::common::cost::operations;
use crate::common::files::{refuse_overwriting, serialize_path};
use crate::common::pipeline::Opened;
use crate::common::source::SourceError;
use crate::common::{Failure, Output};

/// Flags of `convert`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Program to convert: .mil, .mlpackage, .mlmodelc or .mlmodel
    #[arg(value_name = "IN")]
    file: PathBuf,
    /// Where it goes, in the form that the ending says: .mil (with its weights, and NAME.description.pb, the model's description, beside it), .mlpackage, .mlmodelc, or .mlmodel (one file with everything)
    out: PathBuf,
    /// Directory that `@model_path` stands for (default: the program's)
    #[arg(long, value_name = "DIR")]
    weights: Option<PathBuf>,
    /// Of a pipeline: the model of it to convert (default: all of it, but into .mil)
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
}

#[derive(Serialize)]
struct Line<'a> {
    #[serde(serialize_with = "serialize_path")]
    file: &'a Path,
    functions: usize,
    ops: usize,
    not_kept: &'a [String],
}

/// Writes a program in another form.
///
/// # Errors
///
/// When the program cannot be read or has no such form, a weight file is missing, or a file cannot be written or would
/// replace one that is read.
pub(crate) fn run(args: &Args, output: &Output) -> Result<(), Failure> {
    let out = args.out.as_path();
    let is_text = out.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("mil"));
    let container = Container::from_ending(out);
    if container.is_none() && !is_text {
        return Err(Failure::Usage(format!(
            "{} has none of the endings that say the form: .mil, .mlpackage, .mlmodelc, .mlmodel",
            out.display()
        )));
    }
    let opened = Opened::read(&args.file)?.stage(args.model.as_deref())?;
    let weights = opened.weights(args.weights.as_deref())?;
    let read = opened.files().to_vec();
    refuse_overwriting([out], &read)?;
    container::refuse_within(out, read.iter().map(PathBuf::as_path))?;
    let model: AnyModel = match opened {
        Opened::Program(source) => source.into_model()?.into(),
        Opened::Pipeline(source) => source.pipeline.into(),
    };
    let functions: Vec<&Function> =
        model.programs().into_iter().flat_map(|program| &program.functions).collect();
    let (functions, ops) = (functions.len(), functions.into_iter().map(operations).sum());
    let mut not_kept = model.left_out();
    match (container, model) {
        (Some(container), model) => not_kept.extend(container::write(container, model, &weights, out)?),
        (None, AnyModel::Program(model)) => write_text(&model, &weights, out, &read)?,
        (None, AnyModel::Pipeline(pipeline)) => {
            let models = pipeline.models.into_iter().map(|stage| stage.name).collect();
            return Err(SourceError::Pipeline { path: args.file.clone(), models }.into());
        }
    }
    if !not_kept.is_empty() {
        output.message(format_args!("not kept in {}: {}", out.display(), not_kept.join("; ")));
    }
    let text = format!("{}: {}, {}", out.display(), count(functions, "function"), count(ops, "op"));
    output.result(text, &Line { file: out, functions, ops, not_kept: &not_kept });
    Ok(())
}

/// Writes a model's program as text, and what belongs to it beside it.
fn write_text(model: &Model, weights: &WeightDirectory, out: &Path, read: &[PathBuf]) -> Result<(), Failure> {
    let files = loose::files(model, weights, out)?;
    let written = files.copies.iter().map(|(_, target)| target.as_path()).chain([out, &files.description]);
    refuse_overwriting(written, files.sources().chain(read.iter().map(PathBuf::as_path)))?;
    files.write(model, out)?;
    Ok(())
}
