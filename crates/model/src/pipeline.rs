//! What is at a path: a program, or a pipeline of several.

use std::collections::HashMap;
use std::mem;
use std::path::{Path, PathBuf};

use anemone_coreml::compiled;
use anemone_coreml::container::{self, Container};
use anemone_coreml::description::{ColorSpace, Feature, FeatureKind, ImageFeature, ImageSizes, Shapes};
use anemone_coreml::package;
use anemone_coreml::pipeline::{AnyModel, Pipeline, Stage};
use anemone_mil::error::on_one_line;
use anemone_mil::program::Program;
use anemone_mil::weights::WeightDirectory;

use crate::predictor::inputs::default;
use crate::predictor::stage::chosen;
use crate::source::{Source, SourceError, WeightsError, directory_of, quoted, weights};

/// What is at a path.
#[derive(Debug)]
pub enum Opened {
    /// A program.
    Program(Box<Source>),
    /// A pipeline of models.
    Pipeline(Box<PipelineSource>),
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
                let files = compiled::pipeline_files(path, pipeline.models.len());
                let (path, model_path) = (path.to_owned(), path.to_owned());
                return Ok(PipelineSource { path, pipeline, files, model_path }.into());
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
                PipelineSource { path: path.to_owned(), pipeline: *pipeline, files, model_path }.into()
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

    /// The program, or those of a pipeline's models; an error for each that is none.
    pub fn programs(self) -> Vec<Result<Source, SourceError>> {
        match self {
            Opened::Program(source) => vec![Ok(*source)],
            Opened::Pipeline(pipeline) => pipeline.stages().collect(),
        }
    }

    /// Checks that what is there fits together, as [`PipelineSource::check`] does; in words otherwise.
    ///
    /// # Errors
    ///
    /// When it does not.
    pub fn check(&self) -> Result<(), String> {
        match self {
            Opened::Program(_) => Ok(()),
            Opened::Pipeline(pipeline) => pipeline.check(),
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
    /// When there is none, there are several, or it is no program.
    pub fn stage(self, name: &str) -> Result<Source, SourceError> {
        let models = self.names();
        if models.iter().filter(|model| *model == name).count() > 1 {
            return Err(SourceError::SeveralModels { path: self.path, name: name.to_string() });
        }
        let PipelineSource { path, pipeline, files, model_path } = self;
        match pipeline.models.into_iter().find(|stage| stage.name == name) {
            Some(stage) => source(&path, stage, files, model_path),
            None => Err(SourceError::NoModel { path, name: name.to_string(), models }),
        }
    }

    /// What each model is, in order; an error for each that is no program.
    pub fn stages(self) -> impl Iterator<Item = Result<Source, SourceError>> {
        let PipelineSource { path, pipeline, files, model_path } = self;
        let stages = pipeline.models.into_iter();
        stages.map(move |stage| source(&path, stage, files.clone(), model_path.clone()))
    }

    /// Checks by the descriptions that each model finds what it takes, among the pipeline's inputs and what models before it
    /// give, and that the pipeline's outputs are given as they are described; in words otherwise. A model that is no
    /// program is taken for one that fits.
    ///
    /// # Errors
    ///
    /// When they do not fit together.
    pub fn check(&self) -> Result<(), String> {
        if self.pipeline.models.is_empty() {
            return Err("has no models".to_string());
        }
        let whole = &self.pipeline.description.model().main;
        let mut known: HashMap<&str, &Feature> =
            whole.inputs.iter().map(|feature| (feature.name.as_str(), feature)).collect();
        let mut is_all_known = true;
        for stage in &self.pipeline.models {
            let Ok(model) = &stage.model else {
                // It may give whatever those after it take.
                (is_all_known, known) = (false, HashMap::new());
                continue;
            };
            let description = model.description.model();
            let function = chosen(description, None).ok();
            let Some(signature) = function.and_then(|name| description.function(&name)) else { continue };
            let name = quoted(&stage.name);
            for feature in &signature.inputs {
                let input = quoted(&feature.name);
                match known.get(feature.name.as_str()) {
                    Some(given) if !feeds(given, feature) => {
                        return Err(format!(
                            "gives its model {name} as the input {input} what is {}, where {} is expected",
                            described(given),
                            described(feature)
                        ));
                    }
                    None if is_all_known && default(feature).is_none() => {
                        return Err(format!(
                            "has the model {name}, whose input {input} is neither the pipeline's nor given by a model before it"
                        ));
                    }
                    _ => {}
                }
            }
            known.extend(signature.outputs.iter().map(|feature| (feature.name.as_str(), feature)));
        }
        for feature in &whole.outputs {
            let output = quoted(&feature.name);
            match known.get(feature.name.as_str()) {
                Some(given) if !is_like(given.kind.as_ref(), feature.kind.as_ref()) => {
                    return Err(format!(
                        "has the output {output}, described as {}, which is {}",
                        described(feature),
                        described(given)
                    ));
                }
                None if is_all_known => return Err(format!("has the output {output}, which no model gives")),
                _ => {}
            }
        }
        Ok(())
    }
}

/// Whether what is described so can be given where that is expected; numbers are converted. Of what has several shapes it
/// is seen while running.
fn feeds(given: &Feature, expected: &Feature) -> bool {
    match (&given.kind, &expected.kind) {
        (Some(FeatureKind::Array(given)), Some(FeatureKind::Array(expected))) => {
            let shape: Option<Vec<usize>> =
                given.shape.iter().map(|&length| usize::try_from(length).ok()).collect();
            let is_one = given.shapes == Shapes::Fixed && !given.shape.is_empty();
            !is_one || shape.is_none_or(|shape| expected.takes(&shape))
        }
        (Some(FeatureKind::Image(given)), Some(FeatureKind::Image(expected))) => {
            let size = u64::try_from(given.width).ok().zip(u64::try_from(given.height).ok());
            let is_one = given.sizes == ImageSizes::Fixed;
            let is_float = |image: &ImageFeature| image.color_space == ColorSpace::GrayscaleFloat16;
            given.channels() == expected.channels()
                && is_float(given) == is_float(expected)
                && (!is_one || size.is_none_or(|(width, height)| expected.takes(width, height)))
        }
        (given, expected) => is_like(given.as_ref(), expected.as_ref()),
    }
}

/// Whether what is of one kind can be given as that of another; the numbers of arrays are converted.
fn is_like(given: Option<&FeatureKind>, said: Option<&FeatureKind>) -> bool {
    match (given, said) {
        (Some(FeatureKind::Image(given)), Some(FeatureKind::Image(said))) => {
            given.color_space == said.color_space
        }
        (Some(given), Some(said)) => mem::discriminant(given) == mem::discriminant(said),
        (given, said) => given.is_none() && said.is_none(),
    }
}

fn described(feature: &Feature) -> String {
    feature.kind.as_ref().map_or_else(|| "not described".to_string(), ToString::to_string)
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
            named.push(format!("/{}", on_one_line(&name)));
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
        Opened::Pipeline(Box::new(pipeline))
    }
}
