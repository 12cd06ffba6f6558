//! `.mlmodelc`: the directory that Core ML loads. The program is text in it, the description in `coremldata.bin`.

use std::path::{Path, PathBuf};

use anemone_mil::program::Program;
use anemone_mil::text;
use anemone_mil::weights::WeightDirectory;

use crate::assets::Assets;
use crate::container::{Container, ContainerError, make_directory, read_bounded, refuse_link};
use crate::container::{
    refuse_linked_weights, refuse_others, refuse_within, text_of, write_directory_to, write_file,
};
use crate::description::Description;
use crate::flexible;
use crate::model::Model;
use crate::pipeline::AnyModel;

mod data;
mod metadata;
mod pipeline;

pub use data::{CompiledData, PipelineData, read_names};
pub use pipeline::{is_pipeline, pipeline_files, read_pipeline};

/// The file with the program.
pub const PROGRAM: &str = "model.mil";
/// The file with the description.
pub const DATA: &str = "coremldata.bin";

/// The file for those who look at models without loading them.
pub const METADATA: &str = "metadata.json";
/// The file with what Core ML counts.
const ANALYTICS: &str = "analytics/coremldata.bin";

/// More than any description has, in bytes.
const MAX_DATA_BYTES: u64 = 1 << 28;
/// The longest program that is read, in bytes.
const MAX_PROGRAM_BYTES: u64 = 1 << 30;

/// Whether a directory is a compiled model: by its ending, or by what it holds.
pub fn is_compiled(path: &Path) -> bool {
    let ending = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("mlmodelc"));
    path.is_dir() && (ending || path.join(DATA).is_file())
}

/// Reads a compiled model. The weights are left where they are: `@model_path` stands for the directory.
///
/// # Errors
///
/// When a file of it is missing, is a link, or does not hold what it should; when it is a pipeline, see
/// [`read_pipeline`].
pub fn read(directory: &Path) -> Result<Model, ContainerError> {
    let program = read_program(directory)?;
    refuse_linked_weights(&program, directory)?;
    with_program(directory, program)
}

/// The program of a compiled model, of which nothing else is looked at.
fn read_program(directory: &Path) -> Result<Program, ContainerError> {
    let path = directory.join(PROGRAM);
    refuse_link(&path)?;
    let bytes = read_bounded(&path, MAX_PROGRAM_BYTES)?;
    let text = String::from_utf8(bytes).map_err(|error| ContainerError::Compiled {
        path: path.clone(),
        what: format!("it is not UTF-8 text: {error}"),
    })?;
    let parsed = text::parse(&text).map_err(|errors| ContainerError::Text { path, errors })?;
    Ok(parsed.program)
}

/// The model of a program that was read from the text in `directory`.
///
/// # Errors
///
/// When the description is missing, is a link, or is not that of a program.
pub fn with_program(directory: &Path, program: Program) -> Result<Model, ContainerError> {
    let (path, bytes) = read_data(directory)?;
    let damaged = |what: String| ContainerError::Compiled { path: path.clone(), what };
    let data = CompiledData::from_bytes(&bytes).map_err(damaged)?;
    let description =
        Description::from_bytes(data.description).map_err(|error| damaged(error.to_string()))?;
    Ok(Model {
        specification_version: data.specification_version,
        description,
        is_updatable: false,
        program,
        unknown: Vec::new(),
        left_out: Vec::new(),
    })
}

/// The file with the description in a directory, and what it holds.
fn read_data(directory: &Path) -> Result<(PathBuf, Vec<u8>), ContainerError> {
    let path = directory.join(DATA);
    refuse_link(&path)?;
    let bytes = read_bounded(&path, MAX_DATA_BYTES)?;
    Ok((path, bytes))
}

/// Writes a model compiled, in the place of one that is there. Returns what a compiled model does not keep, in words.
///
/// The text has what Core ML's compiler adds of a description: which shapes an input may have. A program of an opset
/// before iOS 18 is written in dialect 1.0, as that compiler did when it was new.
///
/// # Errors
///
/// When a weight file is missing, the program has names that no text has, `out` is there and is no compiled model, or a
/// file cannot be written.
pub fn write(
    model: impl Into<AnyModel>,
    weights: &WeightDirectory,
    out: &Path,
) -> Result<Vec<String>, ContainerError> {
    refuse_others(out, Container::Compiled)?;
    match model.into() {
        AnyModel::Program(model) => {
            let compiled = Compiled::new(*model, weights, out)?;
            let metadata = metadata::json(&compiled.model, out);
            write_directory_to(out, |new| {
                compiled.write(new, data::with_metadata(&compiled.model.description))?;
                write_file(&new.join(METADATA), metadata.as_bytes())
            })?;
            Ok(not_kept(compiled.model.is_updatable, &compiled.model.unknown))
        }
        AnyModel::Pipeline(pipeline) => pipeline::write(*pipeline, weights, out),
    }
}

/// A model's program on its way into a directory.
struct Compiled {
    model: Model,
    assets: Assets,
    text: String,
}

impl Compiled {
    /// A model that is to be written below `out`.
    fn new(mut model: Model, weights: &WeightDirectory, out: &Path) -> Result<Compiled, ContainerError> {
        flexible::add(&mut model.program, model.description.model());
        let mut assets = Assets::default();
        assets.gather(&mut model.program, weights)?;
        refuse_within(out, assets.iter().map(|(_, source)| source))?;
        let text = text_of(&model.program, out)?;
        Ok(Compiled { model, assets, text })
    }

    /// Writes what Core ML loads into a directory, with the bytes of the description: that of a pipeline's model gets no
    /// empty metadata.
    fn write(&self, new: &Path, description: Vec<u8>) -> Result<(), ContainerError> {
        let Compiled { model, assets, text } = self;
        let data = CompiledData {
            specification_version: model.specification_version,
            description,
            functions: model.program.functions.len(),
        };
        assets.copy_to(new)?;
        make_directory(&new.join("analytics"))?;
        write_file(&new.join(ANALYTICS), &data::analytics())?;
        write_file(&new.join(DATA), &data.to_bytes())?;
        write_file(&new.join(PROGRAM), text.as_bytes())
    }
}

/// What a compiled model does not keep, in words.
fn not_kept(is_updatable: bool, unknown: &[u8]) -> Vec<String> {
    let mut left_out = Vec::new();
    if is_updatable {
        left_out.push("that the model can be trained".to_string());
    }
    if !unknown.is_empty() {
        left_out.push("fields of the model that are not known here".to_string());
    }
    left_out
}
