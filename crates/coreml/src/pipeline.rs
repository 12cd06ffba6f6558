//! Pipelines: models that run one after the other, each on what those before it give.

use std::borrow::Cow;

use anemone_mil::program::Program;

use crate::description::{Description, ModelDescription};
use crate::model::{
    Content, Field, Fields, Model, ModelError, ModelKind, fields_of, put_bytes, without_kind,
};

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
    /// The names of the models, as the message has them; a sound one has them for all, or for none.
    pub names: Vec<String>,
    /// Fields that are not known here, as they were read.
    pub unknown: Vec<u8>,
    /// The same of the pipeline's own message, and of the one around it where the kind has one.
    pub unknown_within: [Vec<u8>; 2],
}

/// A model of a pipeline.
#[derive(Debug, Clone, PartialEq)]
pub struct Stage {
    /// What it is called here: by its name, or `model0`, `model1`, … where the pipeline gives none.
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

/// More models than any pipeline has: a message says there is one in two bytes.
pub(crate) const MOST_MODELS: usize = 1 << 12;
/// The fields of a pipeline's message.
const MODELS: u32 = 1;
const NAMES: u32 = 2;
/// The field with the pipeline, where the model is one that ends in a classifier or regressor.
const WITHIN: u32 = 1;

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
        if fields.specification_version == 0 {
            return Err(ModelError::Incomplete("it has no version of the specification"));
        }
        let mut unknown_within = [Vec::new(), Vec::new()];
        let mut message = Cow::Borrowed(payload);
        if kind != ModelKind::PIPELINE {
            let mut within = Vec::new();
            for field in fields_of(payload) {
                match field? {
                    Field { tag: WITHIN, content: Content::Bytes(content), .. } => {
                        within.extend_from_slice(content)
                    }
                    other => unknown_within[1].extend_from_slice(other.bytes),
                }
            }
            message = Cow::Owned(within);
        }
        let (mut models, mut names) = (Vec::new(), Vec::new());
        for field in fields_of(&message) {
            match field? {
                Field { tag: MODELS, content: Content::Bytes(content), .. } => models.push(content.to_vec()),
                Field { tag: NAMES, content: Content::Bytes(content), .. } => {
                    let name = str::from_utf8(content);
                    let name =
                        name.map_err(|_| ModelError::Incomplete("the name of a model is not UTF-8"))?;
                    names.push(name.to_string());
                }
                other => unknown_within[0].extend_from_slice(other.bytes),
            }
            if models.len().max(names.len()) > MOST_MODELS {
                return Err(ModelError::Incomplete("it is a pipeline of too many models"));
            }
        }
        let stage = |(position, message): (usize, Vec<u8>)| Stage {
            name: names.get(position).cloned().unwrap_or_else(|| unnamed(position)),
            model: Model::from_bytes(&message).map_err(|error| Other { error, message: Some(message) }),
        };
        Ok(Pipeline {
            specification_version: fields.specification_version,
            kind,
            description: Description::from_bytes(fields.description)?,
            is_updatable: fields.is_updatable,
            models: models.into_iter().enumerate().map(stage).collect(),
            names,
            unknown: fields.unknown,
            unknown_within,
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
        let mut pipeline = Vec::new();
        for stage in &self.models {
            let failed = |error| ModelError::Stage { name: stage.name.clone(), error: Box::new(error) };
            put_bytes(MODELS, &message(stage).map_err(failed)?, &mut pipeline);
        }
        self.names.iter().for_each(|name| put_bytes(NAMES, name.as_bytes(), &mut pipeline));
        pipeline.extend_from_slice(&self.unknown_within[0]);
        let mut payload = pipeline;
        if self.kind != ModelKind::PIPELINE {
            let mut around = Vec::new();
            put_bytes(WITHIN, &payload, &mut around);
            around.extend_from_slice(&self.unknown_within[1]);
            payload = around;
        }
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
    Pipeline(Box<Pipeline>),
}

impl From<Model> for AnyModel {
    fn from(model: Model) -> AnyModel {
        AnyModel::Program(Box::new(model))
    }
}

impl From<Pipeline> for AnyModel {
    fn from(pipeline: Pipeline) -> AnyModel {
        AnyModel::Pipeline(Box::new(pipeline))
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
