//! Pipelines that answer: each model takes by name what is given, and what the models before it gave.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use anemone_coreml::description::ModelDescription;
use anemone_mil::runtime::Runtime;
use anemone_mil::types::TensorType;

use super::stage::{Stage, check_names};
use super::{Given, OpenError, Output, PredictError, States};
use crate::pipeline::PipelineSource;

/// The models of a pipeline, ready to run one after the other.
pub(super) struct Chain {
    pub(super) description: ModelDescription,
    pub(super) specification_version: i32,
    /// Each with its name.
    stages: Vec<(String, Stage)>,
    /// The states of all models.
    pub(super) states: Vec<(String, TensorType)>,
}

impl Chain {
    /// The models of a pipeline.
    pub(super) fn new(
        source: &PipelineSource,
        function: Option<&str>,
        weights: Option<&Path>,
    ) -> Result<Chain, OpenError> {
        if let Some(function) = function {
            return Err(OpenError::Pipeline(format!(
                "has no functions to choose from, such as `{function}`"
            )));
        }
        let mut stages = Vec::new();
        for (name, source) in source.names().into_iter().zip(source.stages()?) {
            match Stage::new(source, None, weights) {
                Ok(stage) => stages.push((name, stage)),
                // What it says has the place.
                Err(error @ OpenError::Mistakes(_)) => return Err(error),
                Err(error) => return Err(OpenError::Stage { name, error: Box::new(error) }),
            }
        }
        let mut states: Vec<(String, TensorType)> = Vec::new();
        for state in stages.iter().flat_map(|(_, stage)| &stage.states) {
            if states.iter().any(|(known, _)| *known == state.0) {
                return Err(OpenError::Pipeline(format!("has two models that keep a state `{}`", state.0)));
            }
            states.push(state.clone());
        }
        let chain = Chain {
            description: source.pipeline.description.model().clone(),
            specification_version: source.pipeline.specification_version,
            stages,
            states,
        };
        chain.check().map_err(OpenError::Pipeline)?;
        Ok(chain)
    }

    /// Checks that every model finds what it takes, and that every output is given; in words otherwise.
    fn check(&self) -> Result<(), String> {
        let signature = &self.description.main;
        let mut known: HashSet<&str> = signature.inputs.iter().map(|feature| feature.name.as_str()).collect();
        for (name, stage) in &self.stages {
            let failed = |missing: String| {
                format!(
                    "has the model `{name}`: {missing}, neither by the pipeline's inputs nor by a model before it"
                )
            };
            let taken =
                stage.inputs.iter().map(|(name, _)| name.as_str()).filter(|name| known.contains(name));
            stage.check_names(taken).map_err(|error| failed(error.to_string()))?;
            known.extend(stage.signature.outputs.iter().map(|feature| feature.name.as_str()));
        }
        match signature.outputs.iter().find(|feature| !known.contains(feature.name.as_str())) {
            Some(feature) => Err(format!("has the output `{}`, which no model gives", feature.name)),
            None => Ok(()),
        }
    }

    /// The type of an input, as the first model has it that takes it.
    pub(super) fn input(&self, name: &str) -> Option<&TensorType> {
        self.description.main.inputs.iter().find(|feature| feature.name == name)?;
        self.stages.iter().find_map(|(_, stage)| stage.input(name))
    }

    /// The weight files that were opened.
    pub(super) fn opened_weights(&self) -> Vec<PathBuf> {
        self.stages.iter().flat_map(|(_, stage)| stage.opened_weights()).collect()
    }

    /// Checks that inputs of these names, and no others, are what the pipeline takes.
    pub(super) fn check_names<'n>(&self, given: impl Iterator<Item = &'n str>) -> Result<(), PredictError> {
        let signature = &self.description.main;
        check_names(given, signature.inputs.iter().map(|feature| feature.name.as_str()), signature)
    }

    /// The outputs for these inputs, in the order described.
    pub(super) fn predict(
        &mut self,
        runtime: &dyn Runtime,
        given: Vec<(String, Given)>,
        states: Option<&mut States>,
    ) -> Result<Vec<(String, Output)>, PredictError> {
        self.check_names(given.iter().map(|(name, _)| name.as_str()))?;
        if let Some(states) = &states {
            states.check(&self.states)?;
        }
        // Kept apart until all have run, so that after an error nothing has changed.
        let mut kept = states.as_deref().cloned();
        let mut values: HashMap<String, Output> =
            given.into_iter().map(|(name, given)| (name, given.into())).collect();
        for (name, stage) in &mut self.stages {
            let taken = stage.inputs.iter().filter_map(|(name, _)| Some((name.clone(), values.get(name)?)));
            let given = taken.map(|(name, value)| given_of(&name, value).map(|given| (name, given)));
            let failed = |error| PredictError::Stage { name: name.clone(), error: Box::new(error) };
            let given = given.collect::<Result<_, _>>().map_err(failed)?;
            let mut own = kept.as_ref().map(|kept| kept.of(&stage.states));
            values.extend(stage.predict(runtime, given, own.as_mut()).map_err(failed)?);
            if let (Some(kept), Some(own)) = (&mut kept, own) {
                kept.replace(own);
            }
        }
        if let (Some(states), Some(kept)) = (states, kept) {
            *states = kept;
        }
        let outputs = self.description.main.outputs.iter().map(|feature| {
            let name = &feature.name;
            let missing = || PredictError::Output { name: name.clone(), what: "is not given".to_string() };
            Ok((name.clone(), values.get(name).cloned().ok_or_else(missing)?))
        });
        outputs.collect()
    }
}

impl From<Given> for Output {
    fn from(given: Given) -> Output {
        match given {
            Given::Array(tensor) => Output::Array(tensor),
            Given::Image(image) => Output::Image(image),
        }
    }
}

/// What one model gave, for the next.
fn given_of(name: &str, value: &Output) -> Result<Given, PredictError> {
    match value {
        Output::Array(tensor) => Ok(Given::Array(tensor.clone())),
        Output::Image(image) => Ok(Given::Image(image.clone())),
        Output::Label(_) | Output::Probabilities(_) => {
            let what = "is a classifier's answer, which no program takes".to_string();
            Err(PredictError::Output { name: name.to_string(), what })
        }
    }
}
