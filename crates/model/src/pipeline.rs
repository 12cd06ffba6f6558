//! What is at a path: a program, or a pipeline of several.

use std::path::{Path, PathBuf};

use anemone_coreml::compiled;
use anemone_coreml::container::{self, Container};
use anemone_coreml::package;
use anemone_coreml::pipeline::{AnyModel, Pipeline, Stage};
use anemone_mil::program::Program;
use anemone_mil::weights::WeightDirectory;

use crate::source::{Source, SourceError, WeightsError, directory_of, weights};
use crate::text::printable;

/// What is at a path.
#[derive(Debug)]
pub enum Opened {
    /// A program.
    Program(Box<Source>),
    /// A pipeline of models.
    Pipeline(PipelineSource),
}

/// A pipeline, and the files that it was read from.
#[derive(Debug)]
pub struct PipelineSource {
    /// The file that is named in messages.
    pub path: PathBuf,
    /// The pipeline.
    pub pipeline: Pipeline,
    /// The files that it was read from.
    pub files: Vec<PathBuf>,
    /// The directory that `@model_path` stands for.
    pub model_path: PathBuf,
}

impl Opened {
    /// Reads a program, text or that of a Core ML model in any container, or a pipeline of such models.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, or its text is no program.
    pub fn read(path: &Path) -> Result<Opened, SourceError> {
        let (file, mut files) = match Container::of(path) {
            Some(Container::Package) => (package::model_file(path)?, vec![path.join(package::MANIFEST)]),
            Some(Container::Model) => (path.to_owned(), Vec::new()),
            Some(Container::Compiled) if path.join(compiled::PROGRAM).is_file() => {
                let mut source = Source::read_text(&path.join(compiled::PROGRAM))?;
                container::refuse_linked_weights(&source.program, path)?;
                source.model = Some(compiled::with_program(path, Program::new(source.program.version)));
                source.files.push(path.join(compiled::DATA));
                return Ok(Opened::Program(Box::new(source)));
            }
            Some(Container::Compiled) if compiled::is_pipeline(path) => {
                let pipeline = compiled::read_pipeline(path)?;
                let files = vec![path.join(compiled::DATA)];
                let (path, model_path) = (path.to_owned(), path.to_owned());
                return Ok(Opened::Pipeline(PipelineSource { path, pipeline, files, model_path }));
            }
            Some(Container::Compiled) | None => {
                return Ok(Opened::Program(Box::new(Source::read_text(path)?)));
            }
        };
        let model = container::read_any(&file)?;
        let model_path = directory_of(&file);
        for program in model.programs() {
            container::refuse_linked_weights(program, &model_path)?;
        }
        files.push(file);
        Ok(match model {
            AnyModel::Program(model) => {
                Opened::Program(Box::new(Source::of_model(path, *model, files, model_path)))
            }
            AnyModel::Pipeline(pipeline) => {
                Opened::Pipeline(PipelineSource { path: path.to_owned(), pipeline, files, model_path })
            }
        })
    }

    /// The files that it was read from.
    pub fn files(&self) -> &[PathBuf] {
        match self {
            Opened::Program(source) => &source.files,
            Opened::Pipeline(pipeline) => &pipeline.files,
        }
    }

    /// The weights that belong to it, or those below `directory`.
    ///
    /// # Errors
    ///
    /// When `directory` is none.
    pub fn weights(&self, directory: Option<&Path>) -> Result<WeightDirectory, WeightsError> {
        match self {
            Opened::Program(source) => source.weights(directory),
            Opened::Pipeline(pipeline) => pipeline.weights(directory),
        }
    }

    /// The program, or those of a pipeline's models.
    ///
    /// # Errors
    ///
    /// When a pipeline's model is no program.
    pub fn programs(self) -> Result<Vec<Source>, SourceError> {
        match self {
            Opened::Program(source) => Ok(vec![*source]),
            Opened::Pipeline(pipeline) => pipeline.stages(),
        }
    }

    /// The model of this name of a pipeline; without a name, what was opened.
    ///
    /// # Errors
    ///
    /// When there is no model of the name, or it is no program.
    pub fn stage(self, name: Option<&str>) -> Result<Opened, SourceError> {
        match (self, name) {
            (opened, None) => Ok(opened),
            (Opened::Pipeline(pipeline), Some(name)) => Ok(Opened::Program(Box::new(pipeline.stage(name)?))),
            (Opened::Program(source), Some(_)) => Err(SourceError::NotAPipeline(source.path)),
        }
    }
}

impl PipelineSource {
    /// The models' names.
    pub fn names(&self) -> Vec<String> {
        self.pipeline.models.iter().map(|stage| stage.name.clone()).collect()
    }

    /// The weights of its programs: those below `directory`, or those that belong to it.
    ///
    /// # Errors
    ///
    /// When `directory` is none.
    pub fn weights(&self, directory: Option<&Path>) -> Result<WeightDirectory, WeightsError> {
        directory.map_or_else(|| Ok(WeightDirectory::new(&self.model_path)), weights)
    }

    /// The model of this name.
    ///
    /// # Errors
    ///
    /// When there is none, or it is no program.
    pub fn stage(self, name: &str) -> Result<Source, SourceError> {
        let models = self.names();
        let PipelineSource { path, pipeline, files, model_path } = self;
        match pipeline.models.into_iter().find(|stage| stage.name == name) {
            Some(stage) => source(&path, stage, files, model_path),
            None => Err(SourceError::NoModel { path, name: name.to_string(), models }),
        }
    }

    /// What each model is, in order.
    ///
    /// # Errors
    ///
    /// When one is no program.
    pub fn stages(&self) -> Result<Vec<Source>, SourceError> {
        let stages = self.pipeline.models.iter().cloned();
        stages.map(|stage| source(&self.path, stage, self.files.clone(), self.model_path.clone())).collect()
    }
}

/// A model of the pipeline at `path`, in messages `path/NAME`.
fn source(
    path: &Path,
    Stage { name, model }: Stage,
    files: Vec<PathBuf>,
    model_path: PathBuf,
) -> Result<Source, SourceError> {
    match model {
        Ok(model) => {
            // Not joined: the name is no path, and may look like one from the root.
            let mut named = path.as_os_str().to_owned();
            named.push(format!("/{}", printable(&name)));
            Ok(Source::of_model(Path::new(&named), model, files, model_path))
        }
        Err(other) => Err(SourceError::Model { path: path.to_owned(), name, error: other.error }),
    }
}

impl From<Source> for Opened {
    fn from(source: Source) -> Opened {
        Opened::Program(Box::new(source))
    }
}

impl From<PipelineSource> for Opened {
    fn from(pipeline: PipelineSource) -> Opened {
        Opened::Pipeline(pipeline)
    }
}
