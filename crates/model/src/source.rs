//! Programs with the text that they were read from.

use std::path::{Path, PathBuf};

use anemone_coreml::container::ContainerError;
use anemone_coreml::loose;
use anemone_coreml::model::{Model, ModelError};
use anemone_mil::error::{Errors, Spans, on_one_line};
use anemone_mil::program::{Function, Program};
use anemone_mil::text::{self, Comments};
use anemone_mil::verify::{Verified, count, verify, verify_blobs};
use anemone_mil::weights::{MODEL_PATH, WeightDirectory, WeightSource};
use thiserror::Error;

use crate::foreign;
use crate::mistakes::Mistakes;
use crate::pipeline::Opened;
use crate::text::{TextError, read_text};

/// The largest program text that is read, in bytes.
pub const MAX_PROGRAM_BYTES: u64 = 1 << 30;

/// A program, and where its parts stand in its text.
#[derive(Debug)]
pub struct Source {
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

/// Why a program cannot be opened.
#[derive(Debug, Error)]
pub enum SourceError {
    /// Its file is no text.
    #[error(transparent)]
    Text(#[from] TextError),
    /// Its container.
    #[error(transparent)]
    Container(#[from] ContainerError),
    /// A directory that is no container.
    #[error("cannot read {}: {what}", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What it is, and what to give instead.
        what: String,
    },
    /// A pipeline, where one of its models is to be chosen.
    #[error(
        "cannot read {file}: it is a pipeline of {}, {}, and one program is expected; \
         `anemone convert {file} OUT --model NAME` takes one out",
        count(models.len(), "model"), list(models), file = path.display()
    )]
    Pipeline {
        /// The model.
        path: PathBuf,
        /// The names of its models.
        models: Vec<String>,
    },
    /// A name that none of a pipeline's models has.
    #[error("{} has no model {}; its models are {}", path.display(), quoted(name), list(models))]
    NoModel {
        /// The model.
        path: PathBuf,
        /// The name asked for.
        name: String,
        /// The names of its models.
        models: Vec<String>,
    },
    /// A name that several of a pipeline's models have.
    #[error("{} has several models {}, which only the order tells apart", path.display(), quoted(name))]
    SeveralModels {
        /// The model.
        path: PathBuf,
        /// The name asked for.
        name: String,
    },
    /// One of a pipeline's models.
    #[error("the model {} of {}: {error}", quoted(name), path.display())]
    Model {
        /// The pipeline.
        path: PathBuf,
        /// The model's name.
        name: String,
        /// What is wrong with it.
        error: ModelError,
    },
    /// One of a pipeline's models was asked for, of what is no pipeline.
    #[error("{} is no pipeline, so it has no models to choose from", .0.display())]
    NotAPipeline(PathBuf),
    /// Its text has mistakes.
    #[error(transparent)]
    Mistakes(#[from] Box<Mistakes>),
}

/// A function that a program has not.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum FunctionError {
    /// No function has the name.
    #[error("no function is named `{name}`; the program has {present}")]
    Unknown {
        /// The name asked for.
        name: String,
        /// The names that there are.
        present: String,
    },
    /// Several could be meant.
    #[error("no function is named `main`, so `--function` must say which is meant; the program has {0}")]
    Several(String),
}

/// A directory of weights that is none.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum WeightsError {
    /// There is something else.
    #[error(
        "cannot read weights from {}: it is not a directory; `{MODEL_PATH}` stands for the directory that holds \
         the weight files or their directory",
        .0.display()
    )]
    NotADirectory(PathBuf),
    /// There is nothing.
    #[error("cannot read weights from {}: there is no such directory", .0.display())]
    Missing(PathBuf),
}

impl Source {
    /// Reads a program: text, or the program of a Core ML model in any container.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, its text is no program, or the model is a pipeline.
    pub fn read(path: &Path) -> Result<Source, SourceError> {
        match Opened::read(path)? {
            Opened::Program(source) => Ok(*source),
            Opened::Pipeline(pipeline) => {
                Err(SourceError::Pipeline { path: pipeline.path.clone(), models: pipeline.names() })
            }
        }
    }

    pub(crate) fn read_text(path: &Path) -> Result<Source, SourceError> {
        let text = read(path)?;
        let parsed = match text::parse(&text) {
            Ok(parsed) => parsed,
            Err(errors) => {
                let (path, spans) = (path.to_owned(), Spans::default());
                return Err(Box::new(Mistakes { path, text, spans, errors }).into());
            }
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
    pub(crate) fn of_model(
        path: &Path,
        mut model: Model,
        files: Vec<PathBuf>,
        model_path: PathBuf,
    ) -> Source {
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

    /// The program as text in the style of Apple's compiler, ending in a newline if its own text does.
    pub fn formatted(&self) -> String {
        let mut text = text::write_with_comments(&self.program, &self.comments);
        if !self.text.ends_with('\n') && text.ends_with('\n') {
            text.pop();
        }
        text
    }

    /// The model of this program: the one that it is of, or, of a program that is of none, one with the description
    /// that its types make.
    ///
    /// # Errors
    ///
    /// When the model's description cannot be read, or no model can have this program.
    pub fn into_model(self) -> Result<Model, ContainerError> {
        match self.model {
            Some(model) => Ok(Model { program: self.program, ..model? }),
            None => loose::inferred(self.program),
        }
    }

    /// The weights of the program: those below `directory`, or those that belong to it.
    ///
    /// # Errors
    ///
    /// When `directory` is none.
    pub fn weights(&self, directory: Option<&Path>) -> Result<WeightDirectory, WeightsError> {
        match directory {
            Some(directory) => weights(directory),
            None => Ok(WeightDirectory::new(&self.model_path)),
        }
    }

    /// The function of this name; without one the only function, or `main`.
    ///
    /// # Errors
    ///
    /// When there is none, or several could be meant.
    pub fn function(&self, name: Option<&str>) -> Result<&Function, FunctionError> {
        let functions = &self.program.functions;
        if let (None, [only]) = (name, functions.as_slice()) {
            return Ok(only);
        }
        let wanted = name.unwrap_or("main");
        functions.iter().find(|function| function.name == wanted).ok_or_else(|| {
            let present: Vec<String> = functions.iter().map(|function| function.name.clone()).collect();
            match name {
                Some(name) => FunctionError::Unknown { name: name.to_string(), present: list(&present) },
                None => FunctionError::Several(list(&present)),
            }
        })
    }

    /// The program, verified.
    ///
    /// # Errors
    ///
    /// The mistakes that the verifier finds.
    pub fn verify(&self) -> Result<Verified, Errors> {
        verify(self.program.clone())
    }

    /// The program, verified; its mistakes come with its text.
    ///
    /// # Errors
    ///
    /// As [`Source::verify`].
    pub fn verified(&self) -> Result<Verified, Box<Mistakes>> {
        self.verify().map_err(|errors| Box::new(self.mistakes(errors)))
    }

    /// Mistakes in the program, with its text.
    pub fn mistakes(&self, errors: Errors) -> Mistakes {
        let (path, text, spans) = (self.path.clone(), self.text.clone(), self.spans.clone());
        Mistakes { path, text, spans, errors }
    }

    /// Checks the blobs that the program refers to.
    ///
    /// # Errors
    ///
    /// One per blob that is not what the program declares.
    pub fn verify_blobs(&self, weights: &dyn WeightSource) -> Result<(), Errors> {
        verify_blobs(&self.program, weights)
    }

    /// Mistakes, rendered with the lines they stand in.
    pub fn render(&self, errors: &Errors) -> String {
        errors.render(&self.path.display().to_string(), &self.text, &self.spans)
    }
}

/// The weights under a directory.
///
/// # Errors
///
/// When it is no directory.
pub fn weights(directory: &Path) -> Result<WeightDirectory, WeightsError> {
    match (directory.is_dir(), directory.exists()) {
        (true, _) => Ok(WeightDirectory::new(directory)),
        (false, true) => Err(WeightsError::NotADirectory(directory.to_owned())),
        (false, false) => Err(WeightsError::Missing(directory.to_owned())),
    }
}

pub(crate) fn directory_of(path: &Path) -> PathBuf {
    path.parent().unwrap_or(Path::new("")).to_owned()
}

/// Names in quotes, or `none`. Whatever is in a name, it stays on its line.
pub fn list(names: &[String]) -> String {
    let all: Vec<String> = names.iter().map(|name| quoted(name)).collect();
    if all.is_empty() { "none".to_string() } else { all.join(", ") }
}

/// A name in quotes, in the same way.
pub(crate) fn quoted(name: &str) -> String {
    format!("`{}`", on_one_line(name))
}

/// The text of a program; what is no file of text is said to be what it looks like.
fn read(path: &Path) -> Result<String, SourceError> {
    match path.is_dir() {
        true => Err(SourceError::Directory { path: path.to_owned(), what: foreign::directory(path) }),
        false => Ok(read_text(path, MAX_PROGRAM_BYTES)?),
    }
}
