//! Why a model cannot be used, and why it gives no prediction.

use anemone_coreml::container::ContainerError;
use anemone_coreml::description::FeatureKind;
use anemone_mil::error::on_one_line;
use anemone_mil::runtime::RuntimeError;
use anemone_mil::tensor::TensorError;
use anemone_mil::types::Type;
use thiserror::Error;

use crate::classifier::ClassifierError;
use crate::mistakes::Mistakes;
use crate::numbers::NumberError;
use crate::source::{SourceError, WeightsError};

/// Why a model does not become a [`Predictor`](super::Predictor).
#[derive(Debug, Error)]
pub enum OpenError {
    /// Its description, or that there is none.
    #[error(transparent)]
    Description(#[from] ContainerError),
    /// Its description is that of another program.
    #[error("the model's description is not that of its program: {0}")]
    Mismatch(String),
    /// A function that it has not.
    #[error("the model has no function `{name}`; its functions are {present}")]
    NoFunction {
        /// The name asked for.
        name: String,
        /// The names there are.
        present: String,
    },
    /// Mistakes in its program.
    #[error(transparent)]
    Mistakes(#[from] Box<Mistakes>),
    /// A classifier whose answer cannot be told.
    #[error(transparent)]
    Classifier(#[from] ClassifierError),
    /// The directory of its weights.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// A pipeline's model that is no program.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// A pipeline whose models do not fit together, or of which a function is asked.
    #[error("the pipeline {0}")]
    Pipeline(String),
    /// A pipeline's model.
    #[error("the pipeline's model `{}`: {error}", on_one_line(name))]
    Stage {
        /// The model's name.
        name: String,
        /// Why it is not ready.
        error: Box<OpenError>,
    },
    /// An input or state that no array is.
    #[error("`{name}` is {ty}, which is no array")]
    NotAnArray {
        /// The input.
        name: String,
        /// Its type.
        ty: Type,
    },
}

/// Why a model gives no prediction.
#[derive(Debug, Error)]
pub enum PredictError {
    /// Names that no inputs have.
    #[error("the model has no input {unknown}; its inputs are {present}")]
    Unknown {
        /// The names given.
        unknown: String,
        /// The names there are.
        present: String,
    },
    /// Inputs that nothing is given for.
    #[error("nothing is given for the input {0}")]
    Missing(String),
    /// An input of a shape that is not described.
    #[error("the input `{name}` is {kind}, and its array has the shape {given:?}")]
    Shape {
        /// The input.
        name: String,
        /// What is described.
        kind: Box<FeatureKind>,
        /// What is given.
        given: Vec<usize>,
    },
    /// An image for an array, or an array for an image.
    #[error("the input `{name}` is {kind}, and {given} is given")]
    Kind {
        /// The input.
        name: String,
        /// What is described.
        kind: Box<FeatureKind>,
        /// What is given.
        given: &'static str,
    },
    /// Values that an input does not have.
    #[error("the array for the input `{name}`, {kind}: {error}")]
    Values {
        /// The input.
        name: String,
        /// What is described.
        kind: Box<FeatureKind>,
        /// What is wrong with the values.
        error: NumberError,
    },
    /// An image that is not as described.
    #[error("the image for the input `{name}` {what}")]
    Image {
        /// The input.
        name: String,
        /// What is wrong.
        what: String,
    },
    /// States that are missing, or another model's.
    #[error("{0}")]
    States(String),
    /// The runtime.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// An output that is not as described.
    #[error("the output `{name}` {what}")]
    Output {
        /// The output.
        name: String,
        /// What is wrong.
        what: String,
    },
    /// A classifier's answer.
    #[error(transparent)]
    Classifier(#[from] ClassifierError),
    /// A pipeline's model.
    #[error("in the pipeline's model `{}`, {error}", on_one_line(name))]
    Stage {
        /// The model's name.
        name: String,
        /// Why it gives no prediction.
        error: Box<PredictError>,
    },
    /// No memory.
    #[error(transparent)]
    Tensor(#[from] TensorError),
}

impl PredictError {
    /// What the runtime said, if that is why.
    pub fn runtime(&self) -> Option<&RuntimeError> {
        match self {
            PredictError::Runtime(error) => Some(error),
            PredictError::Stage { error, .. } => error.runtime(),
            _ => None,
        }
    }
}
