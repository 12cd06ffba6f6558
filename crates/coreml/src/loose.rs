//! Programs as text, `.mil`, with what a model has beside: its weights, below the file's directory, and, as
//! `NAME.description.pb` beside `NAME.mil`, the rest of the model's message, to the byte.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anemone_mil::files::write_atomically;
use anemone_mil::program::Program;
use anemone_mil::weights::WeightDirectory;

use crate::assets::{Assets, same_contents};
use crate::container::{ContainerError, read_bounded, text_of};
use crate::description::infer;
use crate::model::Model;

/// More than any description has, in bytes.
const MAX_DESCRIPTION_BYTES: u64 = 1 << 28;

/// Where the description of a program in text is.
pub fn description_path(program: &Path) -> PathBuf {
    program.with_extension("description.pb")
}

/// The model of a program in text: what is described beside it, or else what its types say.
///
/// # Errors
///
/// When the description cannot be read or is not that of the program; when there is none, and none can be inferred.
pub fn model(path: &Path, program: Program) -> Result<Model, ContainerError> {
    match described(path, program)? {
        Ok(model) => Ok(model),
        Err(program) => inferred(program),
    }
}

/// The model that is described beside a program in text, or the program again.
///
/// # Errors
///
/// When the description cannot be read or is not that of the program.
pub fn described(path: &Path, program: Program) -> Result<Result<Model, Program>, ContainerError> {
    let path = description_path(path);
    if !path.is_file() {
        return Ok(Err(program));
    }
    let bytes = read_bounded(&path, MAX_DESCRIPTION_BYTES)?;
    let model = Model::with_program(&bytes, program)
        .map_err(|error| ContainerError::Model { path: path.clone(), error })?;
    let checked = model.description.model().check(&model.program);
    checked.map_err(|what| ContainerError::Mismatch { path, what })?;
    Ok(Ok(model))
}

/// The model of a program of which nothing but its types is known.
///
/// # Errors
///
/// When no model can have it.
pub fn inferred(program: Program) -> Result<Model, ContainerError> {
    let (specification_version, description) = infer(&program).map_err(ContainerError::NoDescription)?;
    Ok(Model {
        specification_version,
        description,
        is_updatable: false,
        program,
        unknown: Vec::new(),
        left_out: Vec::new(),
    })
}

/// What is written for a program in text, in order: its weights, its description, itself.
#[derive(Debug)]
pub struct Files {
    weights: Assets,
    /// Where each weight file comes from and goes.
    pub copies: Vec<(PathBuf, PathBuf)>,
    /// Where the description goes.
    pub description: PathBuf,
}

/// Finds the files that a program in text at `out` needs.
///
/// # Errors
///
/// When a weight file is missing, another is in its place, or that is the program's or the description's.
pub fn files(model: &Model, weights: &WeightDirectory, out: &Path) -> Result<Files, ContainerError> {
    let weights = Assets::as_named(&model.program, weights)?;
    let directory = out.parent().unwrap_or(Path::new(""));
    let description = description_path(out);
    let mut copies = Vec::new();
    for (place, source) in weights.iter() {
        let target = directory.join(place);
        // Some file systems do not tell cases apart.
        let is_place =
            |path: &Path| path.file_name().is_some_and(|name| place.as_os_str().eq_ignore_ascii_case(name));
        if let Some(own) = [out, &description].into_iter().find(|own| is_place(own)) {
            let (first, second, place) = (source.to_owned(), own.to_owned(), place.to_owned());
            return Err(ContainerError::SameWeights { first, second, place });
        }
        let failed = |source| ContainerError::Read { path: target.clone(), source };
        if !target.exists() {
            copies.push((source.to_owned(), target));
        } else if !same_contents(source, &target).map_err(failed)? {
            return Err(ContainerError::OtherWeights(target));
        }
    }
    Ok(Files { weights, copies, description })
}

impl Files {
    /// The files that are read.
    pub fn sources(&self) -> impl Iterator<Item = &Path> {
        self.weights.iter().map(|(_, source)| source)
    }

    /// Writes a model's program as text, with all that belongs to it.
    ///
    /// # Errors
    ///
    /// When a file cannot be written, or the program has names that no text has.
    pub fn write(&self, model: &Model, out: &Path) -> Result<(), ContainerError> {
        let text = text_of(&model.program, out)?;
        for (source, target) in &self.copies {
            let failed = |source| ContainerError::Write { path: target.clone(), source };
            if let Some(parent) = target.parent() {
                fs::create_dir_all(parent).map_err(failed)?;
            }
            let mut source = fs::File::open(source).map_err(failed)?;
            write_atomically(target, |file| io::copy(&mut source, file)).map_err(failed)?;
        }
        // The program last: one that is there finds what it refers to.
        for (path, bytes) in
            [(self.description.as_path(), model.to_bytes_without_program()), (out, text.into_bytes())]
        {
            let written = write_atomically(path, |file| io::Write::write_all(file, &bytes));
            written.map_err(|source| ContainerError::Write { path: path.to_owned(), source })?;
        }
        Ok(())
    }
}
