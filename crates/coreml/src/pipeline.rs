//! Pipelines: models that run one after the other, each on what those before it give.

use prost::Message;

use crate::description::Description;
use crate::model::{Fields, Model, ModelError};

/// A pipeline that was read.
#[derive(Debug, Clone, PartialEq)]
pub struct Pipeline {
    /// The version of the specification.
    pub specification_version: i32,
    /// What the whole takes and gives.
    pub description: Description,
    /// The models in order, or what they are that are no programs.
    pub models: Vec<Stage>,
}

/// A model of a pipeline.
#[derive(Debug, Clone, PartialEq)]
pub struct Stage {
    /// Its name; `model0`, `model1`, … where the pipeline gives none.
    pub name: String,
    /// The model, or why it is none that is read.
    pub model: Result<Model, ModelError>,
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

impl Pipeline {
    /// Reads a pipeline.
    ///
    /// # Errors
    ///
    /// When the bytes are no model, or one of another kind.
    pub fn from_bytes(bytes: &[u8]) -> Result<Pipeline, ModelError> {
        let fields = Fields::read(bytes)?;
        let models = match &fields.kind {
            Some((kind, payload)) if kind.name() == "pipeline" => Models::decode(payload.as_slice())?,
            Some((kind, payload)) if kind.is_pipeline() => {
                Wrapped::decode(payload.as_slice())?.pipeline.unwrap_or_default()
            }
            Some((kind, _)) => return Err(ModelError::Kind(*kind)),
            None => return Err(ModelError::Incomplete("it does not say what it computes")),
        };
        let mut names = models.names.into_iter();
        let stage = |(position, bytes): (usize, Vec<u8>)| Stage {
            name: names.next().unwrap_or_else(|| format!("model{position}")),
            model: Model::from_bytes(&bytes),
        };
        Ok(Pipeline {
            specification_version: fields.specification_version,
            description: Description::from_bytes(fields.description)?,
            models: models.models.into_iter().enumerate().map(stage).collect(),
        })
    }
}
