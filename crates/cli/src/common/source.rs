//! Programs with the text that they were read from.

use std::path::{Path, PathBuf};

use anemone_coreml::compiled;
use anemone_coreml::container::{self, Container, ContainerError};
use anemone_coreml::model::{Model, ModelError};
use anemone_coreml::pipeline::{Pipeline, Stage};
use anemone_coreml::{loose, package};
use anemone_mil::error::{Errors, Spans};
use anemone_mil::program::{Function, Program};
use anemone_mil::text::{self, Comments};
use anemone_mil::verify::{Verified, count, verify, verify_blobs};
use anemone_mil::weights::{WeightDirectory, WeightSource};

use super::{Failure, files, foreign};

/// The largest program text that is read, in bytes.
pub(crate) const MAX_PROGRAM_BYTES: u64 = 1 << 30;

/// A program, and where its parts stand in its text.
#[derive(Debug)]
pub(crate) struct Source {
    /// The file that is named in messages: the program's text, or the model that holds it.
    pub path: PathBuf,
    /// Its text; of a program that has none, what it is as text.
    pub text: String,
    /// The program.
    pub program: Program,
    /// Where its parts stand.
    pub spans: Spans,
    /// Its comments.
    pub comments: Comments,
    /// What its text may mean otherwise than it is read.
    pub warnings: Errors,
    /// The model that it is of, where it is of one; or why that cannot be read. The program in it is not this one,
    /// which [`Source::into_model`] puts there.
    pub model: Option<Result<Model, ContainerError>>,
    /// The files that it was read from.
    pub files: Vec<PathBuf>,
    /// The directory that `@model_path` stands for.
    pub model_path: PathBuf,
}

/// Why a file holds no sound program.
#[derive(Debug)]
pub(crate) enum SourceError {
    /// It cannot be read.
    File(Failure),
    /// Its text has mistakes.
    Text {
        /// The text.
        text: String,
        /// The mistakes.
        errors: Errors,
    },
}

impl Source {
    /// Reads a program: text, or the program of a Core ML model in any container.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, or its text is no program.
    pub(crate) fn read(path: &Path) -> Result<Source, SourceError> {
        Source::read_stage(path, None)
    }

    /// Reads a program as [`Source::read`] does; of a pipeline, that of one of its models.
    ///
    /// # Errors
    ///
    /// As [`Source::read`]; when the model is a pipeline and `stage` names none of its models, or the other way round.
    pub(crate) fn read_stage(path: &Path, stage: Option<&str>) -> Result<Source, SourceError> {
        let failed = |error: ContainerError| SourceError::File(error.into());
        let not_a_pipeline = || {
            let message = format!("{} is no pipeline, so it has no models to choose from", path.display());
            Err(SourceError::File(Failure::new(message)))
        };
        let (file, mut files) = match Container::of(path) {
            Some(Container::Package) => {
                (package::model_file(path).map_err(failed)?, vec![path.join(package::MANIFEST)])
            }
            Some(Container::Model) => (path.to_owned(), Vec::new()),
            _ if stage.is_some() => return not_a_pipeline(),
            Some(Container::Compiled) if path.join(compiled::PROGRAM).is_file() => {
                let mut source = Source::read_text(&path.join(compiled::PROGRAM))?;
                container::refuse_linked_weights(&source.program, path).map_err(failed)?;
                source.model = Some(compiled::with_program(path, Program::new(source.program.version)));
                source.files.push(path.join(compiled::DATA));
                return Ok(source);
            }
            Some(Container::Compiled) | None => return Source::read_text(path),
        };
        let model = match (container::read_model(&file), stage) {
            (Err(ContainerError::Model { error: ModelError::Kind(kind), .. }), stage)
                if kind.is_pipeline() =>
            {
                let pipeline = container::read_pipeline(&file).map_err(failed)?;
                one_of(path, pipeline.map(|pipeline| pipeline.models).unwrap_or_default(), stage)
                    .map_err(SourceError::File)?
            }
            (Ok(_), Some(_)) => return not_a_pipeline(),
            (model, _) => model.map_err(failed)?,
        };
        let model_path = directory_of(&file);
        container::refuse_linked_weights(&model.program, &model_path).map_err(failed)?;
        files.push(file);
        Ok(Source::of_model(path, model, files, model_path))
    }

    fn read_text(path: &Path) -> Result<Source, SourceError> {
        let text = read(path).map_err(SourceError::File)?;
        let parsed = match text::parse(&text) {
            Ok(parsed) => parsed,
            Err(errors) => return Err(SourceError::Text { text, errors }),
        };
        let (mut model, mut files) = (None, vec![path.to_owned()]);
        let description = loose::description_path(path);
        if description.is_file() {
            model = loose::described(path, parsed.program.clone()).map(Result::ok).transpose();
            files.push(description);
        }
        Ok(Source {
            path: path.to_owned(),
            text,
            program: parsed.program,
            spans: parsed.spans,
            comments: parsed.comments,
            warnings: parsed.warnings,
            model,
            files,
            model_path: directory_of(path),
        })
    }

    /// The program of a model. Messages point into the text that it is printed as, unless it has names that no text
    /// has.
    fn of_model(path: &Path, mut model: Model, files: Vec<PathBuf>, model_path: PathBuf) -> Source {
        let version = model.program.version;
        let program = std::mem::replace(&mut model.program, Program::new(version));
        let text = text::write(&program);
        let spans = text::parse(&text).map(|parsed| parsed.spans).unwrap_or_default();
        Source {
            path: path.to_owned(),
            text,
            program,
            spans,
            comments: Comments::default(),
            warnings: Errors::default(),
            model: Some(Ok(model)),
            files,
            model_path,
        }
    }

    /// The model of this program: the one that it is of, or, of a program that is of none, one with the description
    /// that its types make.
    ///
    /// # Errors
    ///
    /// When the model's description cannot be read, or no model can have this program.
    pub(crate) fn into_model(self) -> Result<Model, Failure> {
        match self.model {
            Some(model) => Ok(Model { program: self.program, ..model? }),
            None => Ok(loose::inferred(self.program)?),
        }
    }

    /// The weights of the program: those below `directory`, or those that belong to it.
    ///
    /// # Errors
    ///
    /// When `directory` is none.
    pub(crate) fn weights(&self, directory: Option<&Path>) -> Result<WeightDirectory, Failure> {
        match directory {
            Some(directory) => files::weights(directory),
            None => Ok(WeightDirectory::new(&self.model_path)),
        }
    }

    /// Reads a program; mistakes in its text become one failure.
    ///
    /// # Errors
    ///
    /// As [`Source::read`].
    pub(crate) fn load(path: &Path) -> Result<Source, Failure> {
        Source::load_stage(path, None)
    }

    /// Reads a program, of a pipeline that of one of its models; mistakes in its text become one failure.
    ///
    /// # Errors
    ///
    /// As [`Source::read_stage`].
    pub(crate) fn load_stage(path: &Path, stage: Option<&str>) -> Result<Source, Failure> {
        Source::read_stage(path, stage).map_err(|error| match error {
            SourceError::File(failure) => failure,
            SourceError::Text { text, errors } => {
                Failure::Program(errors.render(&path.display().to_string(), &text, &Spans::default()))
            }
        })
    }

    /// The function of this name; without one the only function, or `main`.
    ///
    /// # Errors
    ///
    /// When there is none, or several could be meant.
    pub(crate) fn function(&self, name: Option<&str>) -> Result<&Function, Failure> {
        let functions = &self.program.functions;
        if let (None, [only]) = (name, functions.as_slice()) {
            return Ok(only);
        }
        let wanted = name.unwrap_or("main");
        functions.iter().find(|function| function.name == wanted).ok_or_else(|| {
            let what = match name {
                Some(name) => format!("no function is named `{name}`"),
                None => "no function is named `main`, so `--function` must say which is meant".to_string(),
            };
            let present: Vec<String> = functions.iter().map(|function| function.name.clone()).collect();
            Failure::new(format!("{what}; the program has {}", list(&present)))
        })
    }

    /// The program, verified.
    ///
    /// # Errors
    ///
    /// The mistakes that the verifier finds.
    pub(crate) fn verify(&self) -> Result<Verified, Errors> {
        verify(self.program.clone())
    }

    /// The program, verified; its mistakes become one failure.
    ///
    /// # Errors
    ///
    /// As [`Source::verify`].
    pub(crate) fn verified(&self) -> Result<Verified, Failure> {
        self.verify().map_err(|errors| Failure::Program(self.render(&errors)))
    }

    /// Checks the blobs that the program refers to.
    ///
    /// # Errors
    ///
    /// One per blob that is not what the program declares.
    pub(crate) fn verify_blobs(&self, weights: &dyn WeightSource) -> Result<(), Errors> {
        verify_blobs(&self.program, weights)
    }

    /// Mistakes, rendered with the lines they stand in.
    pub(crate) fn render(&self, errors: &Errors) -> String {
        errors.render(&self.path.display().to_string(), &self.text, &self.spans)
    }
}

/// The pipeline that a path holds; `None` where it holds anything else.
///
/// # Errors
///
/// When its model is there and is none.
pub(crate) fn pipeline(path: &Path) -> Result<Option<Pipeline>, Failure> {
    let file = match Container::of(path) {
        Some(Container::Package) => package::model_file(path)?,
        Some(Container::Model) => path.to_owned(),
        Some(Container::Compiled) | None => return Ok(None),
    };
    Ok(container::read_pipeline(&file)?)
}

/// The model of this name among those of a pipeline.
fn one_of(path: &Path, models: Vec<Stage>, name: Option<&str>) -> Result<Model, Failure> {
    let names: Vec<String> = models.iter().map(|stage| stage.name.clone()).collect();
    let (file, all) = (path.display(), list(&names));
    let Some(name) = name else {
        return Err(Failure::new(format!(
            "cannot read {file}: it is a pipeline of {}, {all}; `anemone convert {file} OUT --model NAME` takes one out",
            count(names.len(), "model")
        )));
    };
    match models.into_iter().find(|stage| stage.name == name) {
        Some(stage) => {
            Ok(stage.model.map_err(|error| Failure::new(format!("the model `{name}` of {file}: {error}")))?)
        }
        None => Err(Failure::new(format!("{file} has no model `{name}`; its models are {all}"))),
    }
}

fn directory_of(path: &Path) -> PathBuf {
    path.parent().unwrap_or(Path::new("")).to_owned()
}

/// Names in quotes, or `none`.
pub(crate) fn list(names: &[String]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    if quoted.is_empty() { "none".to_string() } else { quoted.join(", ") }
}

/// The text of a program; what is no file of text is said to be what it looks like.
fn read(path: &Path) -> Result<String, Failure> {
    match path.is_dir() {
        true => Err(Failure::new(format!("cannot read {}: {}", path.display(), foreign::directory(path)))),
        false => files::read_text(path, MAX_PROGRAM_BYTES),
    }
}
