//! A function of a model: all there is, or one of a pipeline's models.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anemone_coreml::description::{Feature, FeatureKind, ModelDescription, Signature};
use anemone_mil::error::Errors;
use anemone_mil::runtime::{Executable, Runtime, RuntimeError};
use anemone_mil::tensor::Tensor;
use anemone_mil::types::TensorType;
use anemone_mil::verify::{Verified, verify};
use anemone_mil::weights::WeightDirectory;

use super::inputs::{arrays, default, input};
use super::{Given, OpenError, Output, PredictError, States};
use crate::classifier::Classifier;
use crate::image;
use crate::mistakes::Mistakes;
use crate::source::{Source, list};

/// A function of a model. What is prepared for inputs of some shapes is kept for the next of these.
pub(super) struct Stage {
    program: Arc<Verified>,
    pub(super) function: String,
    pub(super) description: ModelDescription,
    pub(super) specification_version: i32,
    pub(super) signature: Signature,
    classifier: Option<Classifier>,
    /// The function's inputs, in its order, states left out.
    pub(super) inputs: Vec<(String, TensorType)>,
    pub(super) states: Vec<(String, TensorType)>,
    weights: WeightDirectory,
    /// The last used first.
    prepared: Vec<(Vec<TensorType>, Box<dyn Executable>)>,
}

/// As many shapes of inputs as are kept prepared.
const MAX_PREPARED: usize = 8;

impl Stage {
    /// A function of a model, as [`Predictor::new`](super::Predictor::new) has it.
    pub(super) fn new(
        source: Source,
        function: Option<&str>,
        weights: Option<&Path>,
    ) -> Result<Stage, OpenError> {
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
        Ok(Stage {
            program: Arc::new(program),
            function: name,
            description: model.description.model().clone(),
            specification_version: model.specification_version,
            signature,
            classifier,
            inputs,
            states,
            weights,
            prepared: Vec::new(),
        })
    }

    /// The type that the program has for an input.
    pub(super) fn input(&self, name: &str) -> Option<&TensorType> {
        self.inputs.iter().find(|(known, _)| known == name).map(|(_, ty)| ty)
    }

    /// The weight files that were opened.
    pub(super) fn opened_weights(&self) -> Vec<PathBuf> {
        self.weights.opened()
    }

    /// The outputs for these inputs, in the order described. The states hold then what the function left in them; after
    /// an error what they held before.
    pub(super) fn predict(
        &mut self,
        runtime: &dyn Runtime,
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
        let (names, results) = self.run(runtime, types, &tensors, states)?;
        self.outputs(names.into_iter().zip(results).collect())
    }

    /// Checks that inputs of these names, and no others, are what the function takes.
    pub(super) fn check_names<'n>(&self, given: impl Iterator<Item = &'n str>) -> Result<(), PredictError> {
        let inputs = self.inputs.iter().map(|(name, _)| name.as_str());
        check_names(given, inputs, &self.signature)
    }

    /// Runs the function; gives its results with their names.
    fn run(
        &mut self,
        runtime: &dyn Runtime,
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
        let executable = self.prepare(runtime, types)?;
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
    fn prepare(
        &mut self,
        runtime: &dyn Runtime,
        types: Vec<TensorType>,
    ) -> Result<&mut dyn Executable, RuntimeError> {
        let position = self.prepared.iter().position(|(known, _)| *known == types);
        let entry = match position {
            Some(position) => self.prepared.remove(position),
            None => {
                let prepared = runtime.prepare(&self.program, &self.function, &types, &self.weights);
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
pub(crate) fn chosen(description: &ModelDescription, name: Option<&str>) -> Result<String, OpenError> {
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

/// Checks that inputs of these names, and no others, are what is taken.
pub(super) fn check_names<'a, 'g>(
    given: impl Iterator<Item = &'g str>,
    inputs: impl Iterator<Item = &'a str>,
    signature: &'a Signature,
) -> Result<(), PredictError> {
    let (given, inputs): (HashSet<&str>, Vec<&str>) = (given.collect(), inputs.collect());
    let known: HashSet<&str> = inputs.iter().copied().collect();
    let unknown = given.iter().filter(|name| !known.contains(*name));
    let mut unknown: Vec<String> = unknown.map(|name| name.to_string()).collect();
    if !unknown.is_empty() {
        unknown.sort_unstable();
        let present: Vec<String> = inputs.iter().map(|name| name.to_string()).collect();
        return Err(PredictError::Unknown { unknown: list(&unknown), present: list(&present) });
    }
    let features = signature.inputs.iter();
    let can_be_left_out: HashSet<&str> =
        features.filter(|feature| default(feature).is_some()).map(|feature| feature.name.as_str()).collect();
    let missing = inputs.iter().filter(|name| !given.contains(*name) && !can_be_left_out.contains(*name));
    let missing: Vec<String> = missing.map(|name| name.to_string()).collect();
    if missing.is_empty() { Ok(()) } else { Err(PredictError::Missing(list(&missing))) }
}
