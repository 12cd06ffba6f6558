//! Models that answer: values by name in, values by name out, as the model's description has them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anemone_coreml::description::{Feature, FeatureKind, ModelDescription, Signature};
use anemone_mil::error::Errors;
use anemone_mil::runtime::{Executable, Runtime, RuntimeError};
use anemone_mil::tensor::{Tensor, TensorError};
use anemone_mil::types::TensorType;
use anemone_mil::verify::{Verified, verify};
use anemone_mil::weights::WeightDirectory;

use crate::classifier::{Classifier, Label};
use crate::image::{self, Image};
use crate::mistakes::Mistakes;
use crate::source::{Source, list};

mod error;
mod inputs;
mod states;

pub use error::{OpenError, PredictError};
use inputs::{arrays, default, input};
pub use states::States;

/// A function of a model on a runtime. What is prepared for inputs of some shapes is kept for the next of these.
pub struct Predictor {
    program: Arc<Verified>,
    function: String,
    description: ModelDescription,
    specification_version: i32,
    signature: Signature,
    classifier: Option<Classifier>,
    /// The function's inputs, in its order, states left out.
    inputs: Vec<(String, TensorType)>,
    states: Vec<(String, TensorType)>,
    weights: WeightDirectory,
    runtime: Box<dyn Runtime>,
    /// The last used first.
    prepared: Vec<(Vec<TensorType>, Box<dyn Executable>)>,
}

/// As many shapes of inputs as are kept prepared.
const MAX_PREPARED: usize = 8;

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
    /// A function of a model, or of a program that no model has, on a runtime. Without a name it is the model's default
    /// function. Weights are below `weights`, or where they belong.
    ///
    /// # Errors
    ///
    /// When the model's description cannot be read or is not that of its program, no function has the name, the program
    /// has mistakes, or takes what no array is.
    pub fn new(
        source: Source,
        function: Option<&str>,
        weights: Option<&Path>,
        runtime: Box<dyn Runtime>,
    ) -> Result<Predictor, OpenError> {
        let weights = source.weights(weights)?;
        let mistakes = source.mistakes(Errors::default());
        let mut model = source.into_model()?;
        let description = model.description.model();
        description.check(&model.program).map_err(OpenError::Mismatch)?;
        let name = chosen(description, function)?;
        let signature = description.function(&name).cloned().unwrap_or_default();
        let classifier = Classifier::take(&mut model.program, description, &name)?;
        // Ops that are taken out leave the places of the others as they were.
        let program = verify(model.program).map_err(|errors| Box::new(Mistakes { errors, ..mistakes }))?;
        let found = program.program().function(&name);
        let (_, function) = found.ok_or_else(|| unknown(description, &name))?;
        let (inputs, states) = arrays(function)?;
        Ok(Predictor {
            program: Arc::new(program),
            function: name,
            description: model.description.model().clone(),
            specification_version: model.specification_version,
            signature,
            classifier,
            inputs,
            states,
            weights,
            runtime,
            prepared: Vec::new(),
        })
    }

    /// What the model takes and gives, and who made it.
    pub fn description(&self) -> &ModelDescription {
        &self.description
    }

    /// The version of the specification that the model is written by.
    pub fn specification_version(&self) -> i32 {
        self.specification_version
    }

    /// What the function takes and gives.
    pub fn signature(&self) -> &Signature {
        &self.signature
    }

    /// The function's name.
    pub fn function(&self) -> &str {
        &self.function
    }

    /// The type that the program has for an input, and what the input is described as; `None` where there is none of this
    /// name.
    pub fn input(&self, name: &str) -> Option<(&TensorType, Option<&FeatureKind>)> {
        let (_, ty) = self.inputs.iter().find(|(known, _)| known == name)?;
        let feature = self.signature.inputs.iter().find(|feature| feature.name == name);
        Some((ty, feature.and_then(|feature| feature.kind.as_ref())))
    }

    /// The states' names and types, in the function's order.
    pub fn state_types(&self) -> &[(String, TensorType)] {
        &self.states
    }

    /// The weight files that were opened.
    pub fn opened_weights(&self) -> Vec<PathBuf> {
        self.weights.opened()
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
        Ok(States { values: self.states.iter().map(zeros).collect::<Result<_, TensorError>>()? })
    }

    /// The outputs for these inputs, in the order described. The states, which a function with states needs, hold then
    /// what it left in them; after an error what they held before.
    ///
    /// # Errors
    ///
    /// When an input is missing, not known or not as described, or the runtime fails.
    pub fn predict(
        &mut self,
        mut given: Vec<(String, Given)>,
        states: Option<&mut States>,
    ) -> Result<Vec<(String, Output)>, PredictError> {
        self.check_names(given.iter().map(|(name, _)| name.as_str()))?;
        let mut tensors = Vec::with_capacity(self.inputs.len());
        for (name, ty) in &self.inputs {
            let feature = self.signature.inputs.iter().find(|feature| feature.name == *name);
            let given = given.iter().position(|(known, _)| known == name).map(|at| given.swap_remove(at).1);
            tensors.push(input(name, ty, feature, given)?);
        }
        let types = tensors.iter().map(Tensor::ty).collect();
        let (names, results) = self.run(types, &tensors, states)?;
        self.outputs(names.into_iter().zip(results).collect())
    }

    /// Checks that inputs of these names, and no others, are what a prediction takes.
    ///
    /// # Errors
    ///
    /// When a name is no input's, or an input without a default is missing.
    pub fn check_names<'n>(&self, given: impl Iterator<Item = &'n str>) -> Result<(), PredictError> {
        let given: Vec<&str> = given.collect();
        let known = |name: &str| self.inputs.iter().any(|(known, _)| known == name);
        let unknown: Vec<String> =
            given.iter().filter(|name| !known(name)).map(|name| name.to_string()).collect();
        if !unknown.is_empty() {
            let present: Vec<String> = self.inputs.iter().map(|(name, _)| name.clone()).collect();
            return Err(PredictError::Unknown { unknown: list(&unknown), present: list(&present) });
        }
        let is_given = |name: &str| given.contains(&name);
        let can_be_left_out = |name: &str| {
            let feature = self.signature.inputs.iter().find(|feature| feature.name == name);
            feature.is_some_and(|feature| default(feature).is_some())
        };
        let missing = self.inputs.iter().filter(|(name, _)| !is_given(name) && !can_be_left_out(name));
        let missing: Vec<String> = missing.map(|(name, _)| name.clone()).collect();
        if missing.is_empty() { Ok(()) } else { Err(PredictError::Missing(list(&missing))) }
    }

    /// Runs the function; gives its results with their names.
    fn run(
        &mut self,
        types: Vec<TensorType>,
        tensors: &[Tensor],
        states: Option<&mut States>,
    ) -> Result<(Vec<String>, Vec<Tensor>), PredictError> {
        if states.is_none() && !self.states.is_empty() {
            let names: Vec<String> = self.states.iter().map(|(name, _)| name.clone()).collect();
            let message = format!("the model keeps {}, and no state is given", list(&names));
            return Err(PredictError::States(message));
        }
        if let Some(states) = &states {
            states.check(&self.states)?;
        }
        let executable = self.prepare(types)?;
        for (name, value) in states.iter().flat_map(|states| &states.values) {
            executable.set_state(name, value)?;
        }
        // The run makes them of the sizes that they turn out to have.
        let mut results = vec![Tensor::scalar(false); executable.outputs().len()];
        executable.run(&tensors.iter().collect::<Vec<_>>(), &mut results)?;
        for (name, value) in states.into_iter().flat_map(|states| &mut states.values) {
            if let Some(now) = executable.state(name) {
                value.clone_from(now);
            }
        }
        let names = executable.outputs().iter().map(|port| port.name.clone()).collect();
        Ok((names, results))
    }

    /// The function, ready for inputs of these types.
    fn prepare(&mut self, types: Vec<TensorType>) -> Result<&mut dyn Executable, RuntimeError> {
        let position = self.prepared.iter().position(|(known, _)| *known == types);
        let entry = match position {
            Some(position) => self.prepared.remove(position),
            None => {
                let prepared = self.runtime.prepare(&self.program, &self.function, &types, &self.weights);
                (types, prepared?)
            }
        };
        self.prepared.truncate(MAX_PREPARED - 1);
        self.prepared.insert(0, entry);
        Ok(self.prepared[0].1.as_mut())
    }

    fn outputs(&self, results: Vec<(String, Tensor)>) -> Result<Vec<(String, Output)>, PredictError> {
        let found = |name: &str| {
            let tensor = results.iter().find(|(known, _)| known == name).map(|(_, tensor)| tensor);
            let what = || "is described, and the program does not give it".to_string();
            tensor.ok_or_else(|| PredictError::Output { name: name.to_string(), what: what() })
        };
        let answer = match &self.classifier {
            Some(classifier) => Some(classifier.answer(found(&classifier.probabilities)?)?),
            None => None,
        };
        let mut outputs = Vec::with_capacity(self.signature.outputs.len());
        for Feature { name, kind, .. } in &self.signature.outputs {
            let output = match (&answer, kind) {
                (Some((label, _)), _) if *name == self.signature.predicted_feature => {
                    Output::Label(label.clone())
                }
                (Some((_, all)), Some(FeatureKind::Dictionary(_))) => Output::Probabilities(all.clone()),
                (_, Some(FeatureKind::Image(feature))) => {
                    let image = image::from_tensor(found(name)?, feature);
                    let image = image.map_err(|what| PredictError::Output { name: name.clone(), what });
                    Output::Image(image?)
                }
                _ => Output::Array(found(name)?.clone()),
            };
            outputs.push((name.clone(), output));
        }
        Ok(outputs)
    }
}

/// The function that is asked for: by its name, or the default one.
fn chosen(description: &ModelDescription, name: Option<&str>) -> Result<String, OpenError> {
    let default = match (description.default_function.as_str(), description.functions.as_slice()) {
        ("", [(only, _)]) => only,
        ("", _) => "main",
        (default, _) => default,
    };
    let name = name.unwrap_or(default);
    let is_there = match description.functions.as_slice() {
        [] => name == "main",
        functions => functions.iter().any(|(known, _)| known == name),
    };
    if is_there { Ok(name.to_string()) } else { Err(unknown(description, name)) }
}

fn unknown(description: &ModelDescription, name: &str) -> OpenError {
    let mut present: Vec<String> = description.functions.iter().map(|(name, _)| name.clone()).collect();
    if present.is_empty() {
        present.push("main".to_string());
    }
    OpenError::NoFunction { name: name.to_string(), present: list(&present) }
}
