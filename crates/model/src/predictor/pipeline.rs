//! Pipelines that answer: each model takes by name what is given, and what the models before it gave.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anemone_coreml::description::{Feature, FeatureKind, ModelDescription, Shapes};
use anemone_mil::runtime::Runtime;
use anemone_mil::types::{DType, Dim, Shape, TensorType};

use super::inputs::{default, filled};
use super::stage::{Stage, check_names};
use super::{Given, OpenError, Output, PredictError, States};
use crate::numbers::{NumberError, convert};
use crate::pipeline::PipelineSource;
use crate::source::quoted;

/// The models of a pipeline, ready to run one after the other.
pub(super) struct Chain {
    pub(super) description: ModelDescription,
    pub(super) specification_version: i32,
    /// Each with its name.
    stages: Vec<(String, Stage)>,
    /// The states of all models.
    pub(super) states: Vec<(String, TensorType)>,
    /// The type of each input, as the first model has it that takes it, or as it is described.
    inputs: Vec<(String, TensorType)>,
}

impl Chain {
    /// The models of a pipeline.
    pub(super) fn new(
        source: PipelineSource,
        function: Option<&str>,
        weights: Option<&Path>,
    ) -> Result<Chain, OpenError> {
        if let Some(function) = function {
            return Err(OpenError::Pipeline(format!(
                "has no functions to choose from, such as `{function}`"
            )));
        }
        source.check().map_err(OpenError::Pipeline)?;
        let (description, specification_version) =
            (source.pipeline.description.model().clone(), source.pipeline.specification_version);
        let names = source.names();
        let mut stages = Vec::new();
        for (name, source) in names.into_iter().zip(source.stages()) {
            match Stage::new(source?, None, weights) {
                Ok(stage) => stages.push((name, stage)),
                // What it says has the place.
                Err(error @ OpenError::Mistakes(_)) => return Err(error),
                Err(error) => return Err(OpenError::Stage { name, error: Box::new(error) }),
            }
        }
        let mut states: Vec<(String, TensorType)> = Vec::new();
        for state in stages.iter().flat_map(|(_, stage)| &stage.states) {
            if states.iter().any(|(known, _)| *known == state.0) {
                let name = quoted(&state.0);
                return Err(OpenError::Pipeline(format!("has two models that keep a state {name}")));
            }
            states.push(state.clone());
        }
        let input = |feature: &Feature| {
            let taken = stages.iter().find_map(|(_, stage)| stage.input(&feature.name));
            (feature.name.clone(), taken.cloned().unwrap_or_else(|| described(feature)))
        };
        let inputs = description.main.inputs.iter().map(input).collect();
        Ok(Chain { description, specification_version, stages, states, inputs })
    }

    /// The type of an input.
    pub(super) fn input(&self, name: &str) -> Option<&TensorType> {
        self.inputs.iter().find(|(known, _)| known == name).map(|(_, ty)| ty)
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

    /// Refuses an array of a shape that the pipeline is not described to take, whatever its models take.
    fn check_shape(&self, name: &str, given: &Given) -> Result<(), PredictError> {
        let feature = self.description.main.inputs.iter().find(|feature| feature.name == name);
        match (given, feature.and_then(|feature| feature.kind.as_ref())) {
            (Given::Array(tensor), Some(kind @ FeatureKind::Array(array)))
                if !array.takes(tensor.shape()) =>
            {
                let (name, kind) = (name.to_string(), Box::new(kind.clone()));
                Err(PredictError::Shape { name, kind, given: tensor.shape().to_vec() })
            }
            _ => Ok(()),
        }
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
        let mut values: HashMap<String, Output> = HashMap::new();
        for (name, given) in given {
            self.check_shape(&name, &given)?;
            values.insert(name, given.into());
        }
        for feature in &self.description.main.inputs {
            if let (false, Some((array, value))) = (values.contains_key(&feature.name), default(feature))
                && let Some(ty) = self.input(&feature.name)
            {
                values.insert(feature.name.clone(), Output::Array(filled(&feature.name, array, value, ty)?));
            }
        }
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
            let value = values.get(name).cloned().ok_or_else(missing)?;
            Ok((name.clone(), of_kind(name, value, feature.kind.as_ref())?))
        });
        outputs.collect()
    }
}

/// The type that an array is described to have; of anything else one that stands for it.
fn described(feature: &Feature) -> TensorType {
    let Some(FeatureKind::Array(array)) = &feature.kind else { return TensorType::new(DType::Fp32, &[]) };
    let is_one = array.shapes == Shapes::Fixed;
    let dim = |&length: &i64| match u64::try_from(length) {
        Ok(length) if is_one => Dim::Known(length),
        _ => Dim::Unknown,
    };
    let dtype = array.elements.dtype().unwrap_or(DType::Fp32);
    TensorType { dtype, shape: Shape(array.shape.iter().map(dim).collect()) }
}

/// A value as it is described: its numbers are converted.
fn of_kind(name: &str, value: Output, kind: Option<&FeatureKind>) -> Result<Output, PredictError> {
    match (value, kind) {
        (Output::Array(tensor), Some(kind @ FeatureKind::Array(array))) => {
            let dtype = array.elements.dtype().unwrap_or(tensor.dtype());
            let failed = |error: NumberError| {
                let what = format!("is {kind}, and is not given so: {error}");
                PredictError::Output { name: name.to_string(), what }
            };
            Ok(Output::Array(convert(tensor, dtype).map_err(failed)?))
        }
        (value, _) => Ok(value),
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
