//! Compiled pipelines: a directory for each model, `model0`, `model1`, …, and beside them what the whole is.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use anemone_mil::error::on_one_line;
use anemone_mil::program::{LiteralValue, Program};
use anemone_mil::weights::{MODEL_PATH, WeightDirectory};

use super::data::{self, PipelineData};
use super::{
    ANALYTICS, Compiled, DATA, METADATA, PROGRAM, metadata, not_kept, read_data, read_program, with_program,
};
use crate::assets::literals_mut;
use crate::container::{
    ContainerError, make_directory, read_bounded, refuse_link, refuse_linked_weights, write_directory_to,
    write_file,
};
use crate::description::Description;
use crate::model::{Model, ModelError, ModelKind};
use crate::pipeline::{MOST_MODELS, Other, Pipeline, Stage, unnamed};

/// The file with the models' names.
const NAMES: &str = "modelNames/coremldata.bin";
/// More than any names have, in bytes.
const MAX_NAMES_BYTES: u64 = 1 << 24;

/// Whether a compiled model is a pipeline, by the kind that it says, which a link in it may say too; [`read_pipeline`]
/// then refuses the link.
pub fn is_pipeline(directory: &Path) -> bool {
    kind_of(&directory.join(DATA)).is_some_and(ModelKind::is_pipeline)
}

/// The kind that a `coremldata.bin` begins with.
fn kind_of(path: &Path) -> Option<ModelKind> {
    let mut tag = [0; 4];
    // Opening a pipe would wait for its writer.
    let mut file = path.is_file().then(|| File::open(path).ok())??;
    file.read_exact(&mut tag).ok()?;
    ModelKind::from_tag(u32::from_le_bytes(tag))
}

/// The files that a compiled pipeline of so many models is read from, but for weights.
pub fn pipeline_files(directory: &Path, models: usize) -> Vec<PathBuf> {
    let mut files = vec![directory.join(DATA), directory.join(NAMES)];
    for position in 0..models {
        let below = directory.join(unnamed(position));
        files.extend([below.join(PROGRAM), below.join(DATA)]);
    }
    files
}

/// Reads a compiled pipeline. The weights are left where they are: `@model_path` stands for the pipeline's directory,
/// not for that of a model in it.
///
/// # Errors
///
/// When a file of it is missing, is a link, or does not hold what it should.
pub fn read_pipeline(directory: &Path) -> Result<Pipeline, ContainerError> {
    let (path, bytes) = read_data(directory)?;
    let damaged = |what: String| ContainerError::Compiled { path: path.clone(), what };
    let data = PipelineData::from_bytes(&bytes).map_err(damaged)?;
    let description =
        Description::from_bytes(data.description).map_err(|error| damaged(error.to_string()))?;
    let names = read_names(&directory.join(NAMES))?;
    if data.models > MOST_MODELS as u64 {
        return Err(damaged("it is a pipeline of too many models".to_string()));
    }
    let mut models = Vec::new();
    // However many it says there are: the first that is not there ends it.
    for position in 0..usize::try_from(data.models).unwrap_or(usize::MAX) {
        let name = names.get(position).cloned().unwrap_or_else(|| unnamed(position));
        models.push(Stage { name, model: read_stage(directory, position)? });
    }
    Ok(Pipeline {
        specification_version: data.specification_version,
        kind: data.kind,
        description,
        is_updatable: false,
        models,
        names,
        unknown: Vec::new(),
        unknown_within: [Vec::new(), Vec::new()],
    })
}

fn read_names(path: &Path) -> Result<Vec<String>, ContainerError> {
    for part in [path.parent().unwrap_or(path), path] {
        refuse_link(part)?;
    }
    if !path.is_file() {
        return Ok(Vec::new());
    }
    let bytes = read_bounded(path, MAX_NAMES_BYTES)?;
    data::read_names(&bytes).map_err(|what| ContainerError::Compiled { path: path.to_owned(), what })
}

/// The model in `model0`, `model1`, …
fn read_stage(directory: &Path, position: usize) -> Result<Result<Model, Other>, ContainerError> {
    let below = directory.join(unnamed(position));
    refuse_link(&below)?;
    if let Some(kind) = kind_of(&below.join(DATA)).filter(|kind| *kind != ModelKind::PROGRAM) {
        return Ok(Err(Other { error: ModelError::Kind(kind), message: None }));
    }
    let mut program = read_program(&below)?;
    rebase(&mut program, &unnamed(position));
    refuse_linked_weights(&program, directory)?;
    with_program(&below, program).map(Ok)
}

/// Has a program whose `@model_path` is a directory of the pipeline refer to its weights from the pipeline's directory.
/// Apple's compiler gives each model its own weights; others have one directory for all of them, `@model_path/../weights`.
fn rebase(program: &mut Program, below: &str) {
    for literal in literals_mut(program) {
        if let LiteralValue::Blob(blob) = &mut literal.value
            && let Some(path) = blob.path.strip_prefix(MODEL_PATH).and_then(|path| path.strip_prefix('/'))
        {
            blob.path = match path.strip_prefix("../") {
                Some(path) => format!("{MODEL_PATH}/{path}"),
                None => format!("{MODEL_PATH}/{below}/{path}"),
            };
        }
    }
}

/// Writes a pipeline compiled; each model has the weights that it refers to, as Apple's compiler gives it all of them.
/// Returns what that does not keep, in words.
pub(super) fn write(
    pipeline: Pipeline,
    weights: &WeightDirectory,
    out: &Path,
) -> Result<Vec<String>, ContainerError> {
    let not_written = |error| ContainerError::NoMessage { path: out.to_owned(), error };
    if pipeline.kind != ModelKind::PIPELINE {
        return Err(not_written(ModelError::Kind(pipeline.kind)));
    }
    let version = u8::try_from(pipeline.specification_version).ok().filter(|&version| version > 0);
    let Some(specification_version) = version else {
        let error = "its version of the specification has no place in a compiled pipeline";
        return Err(not_written(ModelError::Incomplete(error)));
    };
    let mut compiled = Vec::new();
    let mut names = Vec::new();
    for Stage { name, model } in pipeline.models {
        let model = model.map_err(|Other { error, .. }| {
            not_written(ModelError::Stage { name: name.clone(), error: Box::new(error) })
        })?;
        compiled.push(Compiled::new(model, weights, out)?);
        names.push(name);
    }
    let models: Vec<&Model> = compiled.iter().map(|compiled| &compiled.model).collect();
    let metadata =
        metadata::pipeline_json(&pipeline.description, pipeline.specification_version, &models, out);
    let versions: Vec<i32> = models.iter().map(|model| model.specification_version).collect();
    let description = data::with_metadata(&pipeline.description);
    let data = PipelineData::to_bytes(specification_version, &description, &versions);
    let analytics = data::pipeline_analytics(models.len());
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    write_directory_to(out, |new| {
        for (position, compiled) in compiled.iter().enumerate() {
            let below = new.join(unnamed(position));
            make_directory(&below)?;
            compiled.write(&below, compiled.model.description.as_bytes().to_vec())?;
        }
        let mut files = vec![(ANALYTICS, analytics), (METADATA, metadata.into_bytes()), (DATA, data)];
        if !pipeline.names.is_empty() {
            files.push((NAMES, data::names(&names)));
        }
        for (place, bytes) in files {
            let place = new.join(place);
            make_directory(place.parent().unwrap_or(new))?;
            write_file(&place, &bytes)?;
        }
        Ok(())
    })?;
    let unknown = [&pipeline.unknown[..], &pipeline.unknown_within.concat()].concat();
    let mut left_out = not_kept(pipeline.is_updatable, &unknown);
    if !pipeline.names.is_empty() && pipeline.names.len() != names.len() {
        left_out.push("names that are not one for each model".to_string());
    }
    for (Compiled { model, .. }, name) in compiled.iter().zip(&names) {
        let of_model = not_kept(model.is_updatable, &model.unknown).into_iter();
        left_out.extend(of_model.map(|what| format!("of the model `{}`, {what}", on_one_line(name))));
    }
    Ok(left_out)
}
