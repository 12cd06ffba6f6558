//! `.mlmodelc`: the directory that Core ML loads. The program is text in it, the description in `coremldata.bin`.

use std::path::Path;

use anemone_mil::program::Program;
use anemone_mil::text;

use crate::container::{ContainerError, read_bounded, refuse_link, refuse_linked_weights};
use crate::description::Description;
use crate::model::Model;

mod data;

pub use data::CompiledData;

/// The file with the program.
pub const PROGRAM: &str = "model.mil";
/// The file with the description.
pub const DATA: &str = "coremldata.bin";

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
/// When a file of it is missing, is a link, or does not hold what it should.
pub fn read(directory: &Path) -> Result<Model, ContainerError> {
    let path = directory.join(PROGRAM);
    refuse_link(&path)?;
    let bytes = read_bounded(&path, MAX_PROGRAM_BYTES)?;
    let text = String::from_utf8(bytes).map_err(|error| ContainerError::Compiled {
        path: path.clone(),
        what: format!("it is not UTF-8 text: {error}"),
    })?;
    let parsed = text::parse(&text).map_err(|errors| ContainerError::Text { path, errors })?;
    refuse_linked_weights(&parsed.program, directory)?;
    with_program(directory, parsed.program)
}

/// The model of a program that was read from the text in `directory`.
///
/// # Errors
///
/// When the description is missing, is a link, or is not that of a program.
pub fn with_program(directory: &Path, program: Program) -> Result<Model, ContainerError> {
    let path = directory.join(DATA);
    refuse_link(&path)?;
    let bytes = read_bounded(&path, MAX_DATA_BYTES)?;
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
