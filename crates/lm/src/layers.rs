//! A model's layers at work: one prepared forward and one prepared backward serve all of them.
//!
//! Weights are inputs of the programs, so nothing is prepared again when they change. Of each layer the runner keeps
//! what backward needs ([`Keep::Everything`]), or what came out of it alone, from which backward computes the rest again
//! ([`Keep::Outputs`]).

use std::collections::HashMap;

use anemone_mil::error::Errors;
use anemone_mil::program::Program;
use anemone_mil::runtime::{Executable, Port, RuntimeError, allocate_outputs};
use anemone_mil::tensor::Tensor;
use anemone_mil::types::TensorType;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::device::{OutOfMemory, narrow, zeros_for};
use crate::head::Runtimes;
use crate::model::{Model, ModelError};
use crate::prepared::prepare;
use crate::programs::ProgramError;
use crate::programs::layer::{Layer, LayerParameter, layer_parameters};
use crate::rewriting::RewritingError;

/// Why layers cannot be prepared or run.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LayersError {
    /// A program cannot be written.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// A program cannot be brought into the form that the runtime takes.
    #[error(transparent)]
    Rewriting(#[from] RewritingError),
    /// Forward and backward were rewritten so that what one gives is not what the other takes.
    #[error("backward takes `{name}` as {taken}, and it is {given}")]
    Handover {
        /// The tensor's name as an input of backward.
        name: String,
        /// Its type there.
        taken: TensorType,
        /// Its type where it comes from.
        given: TensorType,
    },
    /// The runtime refuses or fails.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// A tensor does not fit in memory.
    #[error(transparent)]
    Memory(#[from] OutOfMemory),
    /// The model has not the parameters that its configuration says.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// Gradients of layers that were prepared without.
    #[error("the layers were not prepared for gradients")]
    NoTraining,
    /// A program that was derived asks for what nothing gives: a fault of this crate.
    #[error("the backward of a layer asks for `{0}`, which forward does not give")]
    Unknown(String),
}

/// What of each layer stays in memory between forward and backward.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Keep {
    /// All that backward needs.
    #[default]
    Everything,
    /// The layer's output; backward runs forward once more.
    Outputs,
}

/// Where an input of the backward program comes from.
#[derive(Clone, Copy, Debug)]
enum From {
    /// The gradient of the layer's output.
    Gradient,
    /// Forward's input x.
    Input,
    /// A parameter, by its place among the layer's.
    Parameter(usize),
    /// A result of forward, the output itself or what it keeps.
    Result(usize),
}

/// One layer's tensors.
struct LayerTensors {
    /// The parameters, in the device's dtype, in the order of the programs' inputs.
    weights: Vec<Tensor>,
    /// What forward gives: y, and, where it stays, what backward needs.
    results: Vec<Tensor>,
}

/// The layers of a model, ready to run on batches of B sequences of T tokens.
pub struct LayersRunner {
    parameters: Vec<LayerParameter>,
    /// Gives y alone; none where there is no layer.
    plain: Option<Box<dyn Executable>>,
    training: Option<Training>,
    layers: Vec<LayerTensors>,
}

/// What only training needs.
struct Training {
    forward: Box<dyn Executable>,
    backward: Box<dyn Executable>,
    /// For each input of backward.
    sources: Vec<From>,
    keep: Keep,
    /// What forward gives when it runs once more, where nothing but outputs stayed.
    again: Vec<Tensor>,
    /// d_x and the parameters' gradients, of the layer that backward ran last.
    gradients: Vec<Tensor>,
    /// The gradient of the layer's output: the one before's d_x.
    d_y: Tensor,
}

impl std::convert::From<Errors> for LayersError {
    fn from(errors: Errors) -> LayersError {
        ProgramError::from(errors).into()
    }
}

impl LayersRunner {
    /// Prepares the layers of a model on the runtime of layers; weights are zero until [`LayersRunner::set_weights`].
    /// Without `keep` they run forward alone.
    ///
    /// # Errors
    ///
    /// A program that cannot be rewritten as the runtimes say, or that the runtime refuses, or tensors that do not fit
    /// in memory.
    pub fn new(
        layer: &Layer<'_>,
        keep: Option<Keep>,
        runtimes: Runtimes<'_>,
    ) -> Result<LayersRunner, LayersError> {
        let parameters = layer_parameters(layer.config);
        if layer.config.layers == 0 {
            return Ok(LayersRunner { plain: None, parameters, training: None, layers: Vec::new() });
        }
        let plain = prepared(layer.forward()?, runtimes)?;
        let training = keep.map(|keep| Training::new(layer, keep, runtimes)).transpose()?;
        let tensors = || -> Result<LayerTensors, LayersError> {
            let weights = plain.inputs().iter().skip(1).map(zeros_for).collect::<Result<_, _>>()?;
            let results = match &training {
                Some(Training { keep: Keep::Everything, forward, .. }) => allocate_outputs(forward.as_ref())?,
                _ => allocate_outputs(plain.as_ref())?,
            };
            Ok(LayerTensors { weights, results })
        };
        let layers = (0..layer.config.layers).map(|_| tensors()).collect::<Result<_, _>>()?;
        Ok(LayersRunner { plain: Some(plain), parameters, training, layers })
    }

    /// What goes into the first layer, x: `[B, D, 1, T]`, or as many elements in the dimensions of a rewriting. None
    /// where there is no layer.
    pub fn input(&self) -> Option<&Port> {
        self.plain.as_ref().and_then(|plain| plain.inputs().first())
    }

    /// Takes over the model's present weights, rounded once to the device's dtype.
    ///
    /// # Errors
    ///
    /// A model that has not these layers.
    pub fn set_weights(&mut self, model: &Model) -> Result<(), LayersError> {
        for (index, layer) in self.layers.iter_mut().enumerate() {
            for (parameter, weight) in model.layer(index, &self.parameters)?.iter().zip(&mut layer.weights) {
                narrow(&parameter.values, weight);
            }
        }
        Ok(())
    }

    /// What comes out of the last layer for x `[B, D, 1, T]`: x itself, where there is no layer.
    ///
    /// # Errors
    ///
    /// An input of another type, or a failing runtime.
    pub fn run<'a>(&'a mut self, x: &'a Tensor) -> Result<&'a Tensor, LayersError> {
        self.forward(x, false)
    }

    /// [`LayersRunner::run`], which also keeps what [`LayersRunner::backward`] needs.
    ///
    /// # Errors
    ///
    /// As [`LayersRunner::run`]; or layers that were prepared for forward alone.
    pub fn run_for_gradients<'a>(&'a mut self, x: &'a Tensor) -> Result<&'a Tensor, LayersError> {
        if self.training.is_none() && !self.layers.is_empty() {
            return Err(LayersError::NoTraining);
        }
        self.forward(x, true)
    }

    fn forward<'a>(&'a mut self, x: &'a Tensor, keeps: bool) -> Result<&'a Tensor, LayersError> {
        for index in 0..self.layers.len() {
            let (before, rest) = self.layers.split_at_mut(index);
            let LayerTensors { weights, results } = &mut rest[0];
            let x = before.last().map_or(x, |layer| &layer.results[0]);
            let inputs: Vec<&Tensor> = std::iter::once(x).chain(weights.iter()).collect();
            match (&mut self.training, &mut self.plain) {
                (Some(Training { forward, keep: Keep::Everything, .. }), _) if keeps => {
                    forward.run(&inputs, results)?
                }
                (_, Some(plain)) => plain.run(&inputs, &mut results[..1])?,
                (_, None) => {}
            }
        }
        Ok(self.layers.last().map_or(x, |layer| &layer.results[0]))
    }

    /// Where [`LayersRunner::backward`] expects the gradient of what came out of the last layer, `[B, D, 1, T]`; none
    /// where there is no layer, or no training.
    pub fn d_output(&mut self) -> Option<&mut Tensor> {
        self.training.as_mut().map(|training| &mut training.d_y)
    }

    /// Goes back through the layers, after [`LayersRunner::run_for_gradients`] of the same x. `take` is given each
    /// layer's number and the gradients of its parameters, in their order, from the last layer to the first; it may keep
    /// them and leave other tensors. Returns the gradient of x.
    ///
    /// # Errors
    ///
    /// A failing runtime.
    pub fn backward(
        &mut self,
        x: &Tensor,
        mut take: impl FnMut(usize, &mut [Tensor]) -> Result<(), LayersError>,
    ) -> Result<Option<&Tensor>, LayersError> {
        let Some(training) = &mut self.training else { return Ok(None) };
        for index in (0..self.layers.len()).rev() {
            let x = if index == 0 { x } else { &self.layers[index - 1].results[0] };
            training.layer_backward(x, &self.layers[index])?;
            take(index, &mut training.gradients[1..])?;
            std::mem::swap(&mut training.d_y, &mut training.gradients[0]);
        }
        Ok(Some(&training.d_y))
    }
}

impl Training {
    fn new(layer: &Layer<'_>, keep: Keep, runtimes: Runtimes<'_>) -> Result<Training, LayersError> {
        let pair = layer.differentiated()?;
        let sources = sources(&pair.forward, &pair.backward)?;
        let forward = prepared(pair.forward, runtimes)?;
        let backward = prepared(pair.backward, runtimes)?;
        check_handover(forward.as_ref(), backward.as_ref(), &sources)?;
        let again = match keep {
            Keep::Everything => Vec::new(),
            Keep::Outputs => allocate_outputs(forward.as_ref())?,
        };
        let gradients = allocate_outputs(backward.as_ref())?;
        Ok(Training {
            // The same as d_x, which it is of the layer before.
            d_y: gradients[0].clone(),
            gradients,
            forward,
            backward,
            sources,
            keep,
            again,
        })
    }

    /// Leaves the gradients of a layer that had x as its input.
    fn layer_backward(&mut self, x: &Tensor, layer: &LayerTensors) -> Result<(), LayersError> {
        let results = match self.keep {
            Keep::Everything => &layer.results,
            Keep::Outputs => {
                let inputs: Vec<&Tensor> = std::iter::once(x).chain(&layer.weights).collect();
                self.forward.run(&inputs, &mut self.again)?;
                &self.again
            }
        };
        let tensor = |source: &From| match *source {
            From::Gradient => &self.d_y,
            From::Input => x,
            From::Parameter(place) => &layer.weights[place],
            From::Result(place) => &results[place],
        };
        let inputs: Vec<&Tensor> = self.sources.iter().map(tensor).collect();
        Ok(self.backward.run(&inputs, &mut self.gradients)?)
    }
}

/// Prepares a layer's program, in the form that the runtime of layers takes.
fn prepared(program: Program, runtimes: Runtimes<'_>) -> Result<Box<dyn Executable>, LayersError> {
    let program = match runtimes.layers_rewriting {
        Some(rewriting) => rewriting.apply(program)?,
        None => program,
    };
    prepare(program, runtimes.layers)
}

/// Checks that backward takes what it is handed over as it is.
fn check_handover(
    forward: &dyn Executable,
    backward: &dyn Executable,
    sources: &[From],
) -> Result<(), LayersError> {
    let (inputs, outputs) = (forward.inputs(), forward.outputs());
    for (port, source) in backward.inputs().iter().zip(sources) {
        let given = match *source {
            From::Gradient => &backward.outputs()[0].ty,
            From::Input => &inputs[0].ty,
            From::Parameter(place) => &inputs[place + 1].ty,
            From::Result(place) => &outputs[place].ty,
        };
        if *given != port.ty {
            let (name, taken, given) = (port.name.clone(), port.ty.clone(), given.clone());
            return Err(LayersError::Handover { name, taken, given });
        }
    }
    Ok(())
}

/// Where backward's inputs come from, by their names.
fn sources(forward: &Program, backward: &Program) -> Result<Vec<From>, LayersError> {
    let (forward, backward) = (&forward.functions[0], &backward.functions[0]);
    let mut known: HashMap<&str, From> = HashMap::new();
    for (place, &id) in forward.body.outputs.iter().enumerate() {
        known.insert(&forward.value(id).name, From::Result(place));
    }
    for (place, &id) in forward.body.inputs.iter().enumerate() {
        let source = if place == 0 { From::Input } else { From::Parameter(place - 1) };
        known.insert(&forward.value(id).name, source);
    }
    known.insert("d_y", From::Gradient);
    let names = backward.body.inputs.iter().map(|&id| backward.value(id).name.as_str());
    names.map(|name| known.get(name).copied().ok_or_else(|| LayersError::Unknown(name.to_string()))).collect()
}
