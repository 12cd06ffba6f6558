//! Pipelines: models that run one after the other, each on what those before it give.

use anemone_mil::program::Program;
use prost::Message;

use crate::description::{Description, ModelDescription};
use crate::model::{Fields, Model, ModelError, ModelKind, put_bytes, without_kind};

/// A pipeline.
#[derive(Debug, Clone, PartialEq)]
pub struct Pipeline {
    /// The version of the specification.
    pub specification_version: i32,
    /// Which of the pipelines it is: by what its last model gives.
    pub kind: ModelKind,
    /// What the whole takes and gives.
    pub description: Description,
    /// Whether it can be trained on a device.
    pub is_updatable: bool,
    /// The models in order.
    pub models: Vec<Stage>,
    /// Whether its message names the models.
    pub is_named: bool,
    /// Fields that are not known here, as they were read.
    pub unknown: Vec<u8>,
}

/// A model of a pipeline.
#[derive(Debug, Clone, PartialEq)]
pub struct Stage {
    /// Its name; `model0`, `model1`, … where the pipeline gives none.
    pub name: String,
    /// The model, or what is no program.
    pub model: Result<Model, Other>,
}

/// A pipeline's model that is no program, or none that can be read.
#[derive(Debug, Clone, PartialEq)]
pub struct Other {
    /// What it is, or what is wrong with it.
    pub error: ModelError,
    /// Its message; a compiled model has none.
    pub(crate) message: Option<Vec<u8>>,
}

impl Other {
    /// The message, if it can be written elsewhere as it is: it refers to no files.
    fn to_bytes(&self) -> Result<Vec<u8>, ModelError> {
        match (&self.error, &self.message) {
            (ModelError::Kind(kind), Some(message)) if !kind.refers_to_files() => Ok(message.clone()),
            (error, _) => Err(error.clone()),
        }
    }
}

/// The message; its models stay bytes.
#[derive(Clone, PartialEq, Message)]
struct Models {
    #[prost(bytes = "vec", repeated, tag = "1")]
    models: Vec<Vec<u8>>,
    #[prost(string, repeated, tag = "2")]
    names: Vec<String>,
}

/// The field with the pipeline, where the model is one that ends in a classifier or regressor.
#[derive(Clone, PartialEq, Message)]
struct Wrapped {
    #[prost(message, optional, tag = "1")]
    pipeline: Option<Models>,
}

/// The name of a model that the pipeline gives none.
pub(crate) fn unnamed(position: usize) -> String {
    format!("model{position}")
}

impl Pipeline {
    /// Reads a pipeline.
    ///
    /// # Errors
    ///
    /// When the bytes are no model, or one of another kind.
    pub fn from_bytes(bytes: &[u8]) -> Result<Pipeline, ModelError> {
        match Fields::read(bytes)?.with_kind()? {
            (fields, kind, payload) if kind.is_pipeline() => Pipeline::of_fields(fields, kind, &payload),
            (_, kind, _) => Err(ModelError::Kind(kind)),
        }
    }

    /// The pipeline of a message's fields, and the message of its kind.
    fn of_fields(fields: Fields, kind: ModelKind, payload: &[u8]) -> Result<Pipeline, ModelError> {
        let Models { models, names } = match kind {
            ModelKind::PIPELINE => Models::decode(payload)?,
            _ => Wrapped::decode(payload)?.pipeline.unwrap_or_default(),
        };
        let is_named = !names.is_empty();
        let mut names = names.into_iter();
        let stage = |(position, message): (usize, Vec<u8>)| Stage {
            name: names.next().unwrap_or_else(|| unnamed(position)),
            model: Model::from_bytes(&message).map_err(|error| Other { error, message: Some(message) }),
        };
        Ok(Pipeline {
            specification_version: fields.specification_version,
            kind,
            description: Description::from_bytes(fields.description)?,
            is_updatable: fields.is_updatable,
            models: models.into_iter().enumerate().map(stage).collect(),
            is_named,
            unknown: fields.unknown,
        })
    }

    /// The pipeline's message.
    ///
    /// # Errors
    ///
    /// When a program of it has no protobuf form; when a model that is no program refers to files, or could not be
    /// read.
    pub fn to_bytes(&self) -> Result<Vec<u8>, ModelError> {
        let message = |stage: &Stage| match &stage.model {
            Ok(model) => model.to_bytes(),
            Err(other) => other.to_bytes(),
        };
        let models = self.models.iter().map(|stage| {
            let failed = |error| ModelError::Stage { name: stage.name.clone(), error: Box::new(error) };
            message(stage).map_err(failed)
        });
        let names = self.models.iter().filter(|_| self.is_named).map(|stage| stage.name.clone());
        let pipeline = Models { models: models.collect::<Result<_, _>>()?, names: names.collect() };
        let payload = match self.kind {
            ModelKind::PIPELINE => pipeline.encode_to_vec(),
            _ => Wrapped { pipeline: Some(pipeline) }.encode_to_vec(),
        };
        let mut bytes =
            without_kind(self.specification_version, &self.description, self.is_updatable, &self.unknown);
        put_bytes(self.kind.tag(), &payload, &mut bytes);
        Ok(bytes)
    }
}

/// A model that is read and written here: a program, or a pipeline of models.
#[derive(Debug, Clone, PartialEq)]
pub enum AnyModel {
    /// A program.
    Program(Box<Model>),
    /// A pipeline.
    Pipeline(Pipeline),
}

impl From<Model> for AnyModel {
    fn from(model: Model) -> AnyModel {
        AnyModel::Program(Box::new(model))
    }
}

impl From<Pipeline> for AnyModel {
    fn from(pipeline: Pipeline) -> AnyModel {
        AnyModel::Pipeline(pipeline)
    }
}

impl AnyModel {
    /// Reads a model.
    ///
    /// # Errors
    ///
    /// As [`Model::from_bytes`].
    pub fn from_bytes(bytes: &[u8]) -> Result<AnyModel, ModelError> {
        match Fields::read(bytes)?.with_kind()? {
            (fields, ModelKind::PROGRAM, payload) => Ok(Model::of_fields(fields, &payload)?.into()),
            (fields, kind, payload) if kind.is_pipeline() => {
                Ok(Pipeline::of_fields(fields, kind, &payload)?.into())
            }
            (_, kind, _) => Err(ModelError::Kind(kind)),
        }
    }

    /// The model's message.
    ///
    /// # Errors
    ///
    /// As [`Model::to_bytes`] and [`Pipeline::to_bytes`].
    pub fn to_bytes(&self) -> Result<Vec<u8>, ModelError> {
        match self {
            AnyModel::Program(model) => model.to_bytes(),
            AnyModel::Pipeline(pipeline) => pipeline.to_bytes(),
        }
    }

    /// The programs.
    pub fn programs(&self) -> Vec<&Program> {
        match self {
            AnyModel::Program(model) => vec![&model.program],
            AnyModel::Pipeline(pipeline) => {
                pipeline.models.iter().flat_map(|stage| &stage.model).map(|model| &model.program).collect()
            }
        }
    }

    /// The programs, each with what its model takes and gives.
    pub(crate) fn programs_mut(&mut self) -> Vec<(&mut Program, &ModelDescription)> {
        fn parts(model: &mut Model) -> (&mut Program, &ModelDescription) {
            (&mut model.program, model.description.model())
        }
        match self {
            AnyModel::Program(model) => vec![parts(model)],
            AnyModel::Pipeline(pipeline) => {
                pipeline.models.iter_mut().flat_map(|stage| &mut stage.model).map(parts).collect()
            }
        }
    }

    /// What of the models' messages has no place here.
    pub fn left_out(&self) -> Vec<String> {
        match self {
            AnyModel::Program(model) => model.left_out.clone(),
            AnyModel::Pipeline(pipeline) => pipeline
                .models
                .iter()
                .flat_map(|stage| &stage.model)
                .flat_map(|model| model.left_out.clone())
                .collect(),
        }
    }
}
