//! The activations of recurrent layers.

use crate::builder::BuildError;
use crate::eval::Evaluation;
use crate::ops::elementwise::{larger, smaller};
use crate::ops::{OpError, Writer, call};
use crate::program::ValueId;
use crate::types::DType;

/// An activation by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Activation {
    Linear,
    Relu,
    /// Also the scaled one, whose scales are 1.
    Tanh,
    Sigmoid,
    HardSigmoid,
}

/// The slope of the hard sigmoid, and its value at 0: those of `sigmoid_hard` by default.
const HARD: [f64; 2] = [0.2, 0.5];

impl Activation {
    /// The activation of this name, in letters of either case.
    pub(super) fn of(parameter: &str, name: &str) -> Result<Activation, OpError> {
        match name.to_ascii_lowercase().as_str() {
            "sigmoid_hard" => Ok(Activation::HardSigmoid),
            _ => Activation::of_lstm(parameter, name),
        }
    }

    /// As [`Activation::of`], for an op that knows the hard sigmoid by one name only.
    pub(super) fn of_lstm(parameter: &str, name: &str) -> Result<Activation, OpError> {
        match name.to_ascii_lowercase().as_str() {
            "linear" => Ok(Activation::Linear),
            "relu" => Ok(Activation::Relu),
            "tanh" | "scaled_tanh" => Ok(Activation::Tanh),
            "sigmoid" => Ok(Activation::Sigmoid),
            "hard_sigmoid" => Ok(Activation::HardSigmoid),
            _ => Err(OpError::rule(
                parameter,
                "must be hard_sigmoid, linear, relu, scaled_tanh, sigmoid or tanh",
            )
            .found(super::found(name))),
        }
    }

    /// Its value, as the run's arithmetic has it for an element type.
    pub(super) fn at(self, x: f64, dtype: DType, evaluation: &Evaluation) -> f64 {
        let known = |op: &str| evaluation.arithmetic().function(op, dtype, x);
        match self {
            Activation::Linear => x,
            Activation::Relu => known("relu").unwrap_or_else(|| larger(x, 0.0)),
            Activation::Tanh => known("tanh").unwrap_or_else(|| x.tanh()),
            Activation::Sigmoid => known("sigmoid").unwrap_or_else(|| 1.0 / (1.0 + (-x).exp())),
            Activation::HardSigmoid => smaller(larger(HARD[0] * x + HARD[1], 0.0), 1.0),
        }
    }

    /// The ops that compute it.
    pub(super) fn write_out(
        self,
        what: &str,
        x: ValueId,
        writer: &mut Writer<'_>,
    ) -> Result<ValueId, BuildError> {
        match self {
            Activation::Linear => Ok(x),
            Activation::Relu => writer.bind(what, call::relu(x)),
            Activation::Tanh => writer.bind(what, call::tanh(x)),
            Activation::Sigmoid => writer.bind(what, call::sigmoid(x)),
            Activation::HardSigmoid => {
                writer.bind(what, call::clip(call::add(call::mul(x, HARD[0]), HARD[1]), 0.0, 1.0))
            }
        }
    }
}
