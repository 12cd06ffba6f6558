//! Models that answer: values by name in, values by name out, as the model's description has them.

use std::path::{Path, PathBuf};

use anemone_coreml::description::{FeatureKind, ModelDescription, Signature};
use anemone_mil::runtime::Runtime;
use anemone_mil::tensor::{Tensor, TensorError};
use anemone_mil::types::TensorType;

use crate::classifier::Label;
use crate::image::Image;
use crate::pipeline::Opened;

mod error;
pub(crate) mod inputs;
mod pipeline;
pub(crate) mod stage;
mod states;

pub use error::{OpenError, PredictError};
use pipeline::Chain;
use stage::Stage;
pub use states::States;

/// A function of a model, or a pipeline of models, on a runtime.
pub struct Predictor {
    runtime: Box<dyn Runtime>,
    model: Predicting,
}

/// What predicts.
enum Predicting {
    One(Box<Stage>),
    Pipeline(Box<Chain>),
}

/// What is given for an input.
#[derive(Debug, Clone, PartialEq)]
pub enum Given {
    /// An array, of any numbers: they are converted by [`convert`](crate::numbers::convert).
    Array(Tensor),
    /// An image.
    Image(Image),
}

/// What an output is.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// An array of the element type described.
    Array(Tensor),
    /// An image.
    Image(Image),
    /// A classifier's answer.
    Label(Label),
    /// A classifier's probabilities.
    Probabilities(Vec<(Label, f64)>),
}

impl Predictor {
    /// A function of a model, or of a program that no model has, on a runtime; or a pipeline of models. Without a name
    /// it is the model's default function. Weights are below `weights`, or where they belong.
    ///
    /// # Errors
    ///
    /// When the model's description cannot be read or is not that of its program, no function has the name, the program
    /// has mistakes, or takes what no array is. Of a pipeline, when a function is named, a model is no program, or takes
    /// what nothing gives it.
    pub fn new(
        opened: impl Into<Opened>,
        function: Option<&str>,
        weights: Option<&Path>,
        runtime: Box<dyn Runtime>,
    ) -> Result<Predictor, OpenError> {
        let model = match opened.into() {
            Opened::Program(source) => Predicting::One(Box::new(Stage::new(*source, function, weights)?)),
            Opened::Pipeline(pipeline) => {
                Predicting::Pipeline(Box::new(Chain::new(*pipeline, function, weights)?))
            }
        };
        Ok(Predictor { runtime, model })
    }

    /// What the model takes and gives, and who made it.
    pub fn description(&self) -> &ModelDescription {
        match &self.model {
            Predicting::One(stage) => &stage.description,
            Predicting::Pipeline(chain) => &chain.description,
        }
    }

    /// The version of the specification that the model is written by.
    pub fn specification_version(&self) -> i32 {
        match &self.model {
            Predicting::One(stage) => stage.specification_version,
            Predicting::Pipeline(chain) => chain.specification_version,
        }
    }

    /// What the function, or the pipeline, takes and gives.
    pub fn signature(&self) -> &Signature {
        match &self.model {
            Predicting::One(stage) => &stage.signature,
            Predicting::Pipeline(chain) => &chain.description.main,
        }
    }

    /// The function's name; a pipeline has none.
    pub fn function(&self) -> Option<&str> {
        match &self.model {
            Predicting::One(stage) => Some(&stage.function),
            Predicting::Pipeline(_) => None,
        }
    }

    /// The type that the program has for an input, and what the input is described as; `None` where there is none of this
    /// name.
    pub fn input(&self, name: &str) -> Option<(&TensorType, Option<&FeatureKind>)> {
        let ty = match &self.model {
            Predicting::One(stage) => stage.input(name)?,
            Predicting::Pipeline(chain) => chain.input(name)?,
        };
        let feature = self.signature().inputs.iter().find(|feature| feature.name == name);
        Some((ty, feature.and_then(|feature| feature.kind.as_ref())))
    }

    /// The states' names and types, in the function's order.
    pub fn state_types(&self) -> &[(String, TensorType)] {
        match &self.model {
            Predicting::One(stage) => &stage.states,
            Predicting::Pipeline(chain) => &chain.states,
        }
    }

    /// The weight files that were opened.
    pub fn opened_weights(&self) -> Vec<PathBuf> {
        match &self.model {
            Predicting::One(stage) => stage.opened_weights(),
            Predicting::Pipeline(chain) => chain.opened_weights(),
        }
    }

    /// States that hold zeros.
    ///
    /// # Errors
    ///
    /// When there is no memory for them, or their size is not known.
    pub fn states(&self) -> Result<States, TensorError> {
        let zeros = |(name, ty): &(String, TensorType)| {
            let zeros = ty.shape.to_known().and_then(|shape| Tensor::zeros(ty.dtype, &shape));
            Ok((name.clone(), zeros.ok_or_else(|| TensorError::Memory(ty.clone()))?))
        };
        Ok(States { values: self.state_types().iter().map(zeros).collect::<Result<_, TensorError>>()? })
    }

    /// The outputs for these inputs, in the order described. The states, which a function with states needs, hold then
    /// what it left in them; after an error what they held before.
    ///
    /// # Errors
    ///
    /// When an input is missing, not known or not as described, or the runtime fails.
    pub fn predict(
        &mut self,
        given: Vec<(String, Given)>,
        states: Option<&mut States>,
    ) -> Result<Vec<(String, Output)>, PredictError> {
        match &mut self.model {
            Predicting::One(stage) => stage.predict(self.runtime.as_ref(), given, states),
            Predicting::Pipeline(chain) => chain.predict(self.runtime.as_ref(), given, states),
        }
    }

    /// Checks that inputs of these names, and no others, are what a prediction takes.
    ///
    /// # Errors
    ///
    /// When a name is no input's, or an input without a default is missing.
    pub fn check_names<'n>(&self, given: impl Iterator<Item = &'n str>) -> Result<(), PredictError> {
        match &self.model {
            Predicting::One(stage) => stage.check_names(given),
            Predicting::Pipeline(chain) => chain.check_names(given),
        }
    }
}
