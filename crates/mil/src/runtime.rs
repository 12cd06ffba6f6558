//! What every backend must be: something that prepares a function, and runs it.

use std::sync::Arc;

use crate::error::ErrorKind;
use crate::linear_cross_entropy::{Classifier, LinearCrossEntropy, LossOptions};
use crate::ops::OpError;
use crate::program::ValueId;
use crate::tensor::Tensor;
use crate::types::TensorType;
use crate::verify::Verified;
use crate::weights::{BlobError, WeightSource};

/// Why a backend could not prepare or run a function.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// The program has no function of this name.
    #[error("no function is named `{name}`; the program has {present}")]
    NoFunction {
        /// The name asked for.
        name: String,
        /// The names there are.
        present: String,
    },
    /// Inputs or outputs that are not the function's.
    #[error("{0}")]
    Interface(String),
    /// An op refuses what it is given.
    #[error("`{value}`, {op}: {error}")]
    Op {
        /// The op's name.
        op: String,
        /// The name of its first result.
        value: String,
        /// What it refuses.
        error: Box<OpError>,
    },
    /// A weight that cannot be read.
    #[error("the weight `{value}` cannot be read: {error}")]
    Weight {
        /// The value that the weight stands for.
        value: String,
        /// Why.
        error: Box<BlobError>,
    },
    /// Something that this backend cannot run, though the program is sound.
    #[error("the runtime {runtime} does not support this: {reason}")]
    Unsupported {
        /// The backend's name.
        runtime: &'static str,
        /// What it lacks.
        reason: String,
    },
    /// A device, or the system's way to it, that fails.
    #[error("the runtime {runtime} fails: {reason}")]
    Failed {
        /// The backend's name.
        runtime: &'static str,
        /// How.
        reason: String,
    },
    /// Something of which a backend gives each process only so much is used up; another process can go on.
    #[error("the runtime {runtime} can do no more in this process: {reason}")]
    Exhausted {
        /// The backend's name.
        runtime: &'static str,
        /// What is used up.
        reason: String,
    },
}

/// An error of an op in a block, as one of the op that has the block.
pub fn within_block(error: RuntimeError) -> OpError {
    OpError::new(ErrorKind::NestedBlock, None, error.to_string())
}

/// An input or output of a prepared function: its name, and its type with every dimension known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// The name in the program.
    pub name: String,
    /// Element type and dimensions.
    pub ty: TensorType,
}

/// A constant of one prepared function, found by name once ([`Executable::constant`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ConstantHandle {
    /// Which prepared function.
    pub(crate) owner: u64,
    /// Which constant.
    pub(crate) value: ValueId,
}

/// A backend.
pub trait Runtime: Send + Sync {
    /// The name that `--runtime` knows it by.
    fn name(&self) -> &'static str;

    /// The name, and whatever else its results depend on: two runtimes of one identity compute the same.
    fn identity(&self) -> String {
        self.name().to_string()
    }

    /// Makes a function ready to run on inputs of these types, one per input that is not a state, in the
    /// function's order; they settle every `?`. Weights are read from `weights` now.
    ///
    /// # Errors
    ///
    /// When there is no such function, a type does not fit its input, a weight cannot be read, an op refuses
    /// the dimensions, or the backend lacks something the function needs.
    fn prepare(
        &self,
        program: &Arc<Verified>,
        function: &str,
        inputs: &[TensorType],
        weights: &dyn WeightSource,
    ) -> Result<Box<dyn Executable>, RuntimeError>;

    /// A classifier with its loss in one, without logits in memory, where the backend offers it.
    ///
    /// # Errors
    ///
    /// When it does not, the options are out of range, or the sizes do not fit in memory.
    fn linear_cross_entropy(
        &self,
        _classifier: Classifier,
        _options: LossOptions,
    ) -> Result<Box<dyn LinearCrossEntropy>, RuntimeError> {
        let reason = "a classifier and its loss in one (the fused head)".to_string();
        Err(RuntimeError::Unsupported { runtime: self.name(), reason })
    }
}

/// A function that is ready to run.
pub trait Executable: Send {
    /// The inputs that [`run`](Executable::run) takes, states left out.
    fn inputs(&self) -> &[Port];

    /// The outputs, in the function's order. Where the program computes a dimension from data, it is `?`.
    fn outputs(&self) -> &[Port];

    /// Runs the function once. `outputs` receives one tensor per output; tensors that already have an
    /// output's type are written in place.
    ///
    /// # Errors
    ///
    /// When inputs or outputs are not those of the function, or an op refuses its values.
    fn run(&mut self, inputs: &[&Tensor], outputs: &mut [Tensor]) -> Result<(), RuntimeError>;

    /// The handle of the constant that `name` binds, for [`Executable::set_constant`].
    ///
    /// # Errors
    ///
    /// When no constant has this name, or the types of the prepared function may have been inferred from its
    /// value (an axis, a shape): only constants of floating point can be replaced.
    fn constant(&self, name: &str) -> Result<ConstantHandle, RuntimeError>;

    /// Replaces a constant by another of the same type, for all runs to come. The tensor is shared, not copied;
    /// the one before is let go.
    ///
    /// # Errors
    ///
    /// When the handle is another executable's, the type is not the constant's, or an op that reads it does not
    /// accept the value; the constant is then what it was.
    fn set_constant(&mut self, constant: ConstantHandle, value: Arc<Tensor>) -> Result<(), RuntimeError>;

    /// The tensor that a state holds now; states begin as zeros.
    fn state(&self, name: &str) -> Option<&Tensor>;

    /// Replaces the tensor that a state holds.
    ///
    /// # Errors
    ///
    /// When no state has this name, or its type is another.
    fn set_state(&mut self, name: &str, value: &Tensor) -> Result<(), RuntimeError>;
}

/// Tensors of zeros for every output of an executable, ready to be written in place.
///
/// # Errors
///
/// When an output has a dimension that only the run settles, or does not fit in memory.
pub fn allocate_outputs(executable: &dyn Executable) -> Result<Vec<Tensor>, RuntimeError> {
    let zeros = |port: &Port| {
        let dims = port.ty.shape.to_known();
        dims.and_then(|dims| Tensor::zeros(port.ty.dtype, &dims)).ok_or_else(|| {
            RuntimeError::Interface(format!(
                "the size of the output `{}`, {}, is not known",
                port.name, port.ty
            ))
        })
    };
    executable.outputs().iter().map(zeros).collect()
}

/// Checks that room is given for as many outputs as an executable has.
///
/// # Errors
///
/// When it is not.
pub fn check_output_count(ports: &[Port], outputs: &[Tensor]) -> Result<(), RuntimeError> {
    let (count, given) = (ports.len(), outputs.len());
    if count != given {
        let message = format!("the function has {count} outputs, room is given for {given}");
        return Err(RuntimeError::Interface(message));
    }
    Ok(())
}

/// Checks that inputs are as many and of the types that an executable takes.
///
/// # Errors
///
/// When they are not; the message names the first that differs.
pub fn check_inputs(ports: &[Port], inputs: &[&Tensor]) -> Result<(), RuntimeError> {
    if ports.len() != inputs.len() {
        let message = format!("the function takes {} inputs, {} were given", ports.len(), inputs.len());
        return Err(RuntimeError::Interface(message));
    }
    for (port, input) in ports.iter().zip(inputs) {
        if !input.has_type(&port.ty) {
            let message = format!("the input `{}` is {}, {} was given", port.name, port.ty, input.ty());
            return Err(RuntimeError::Interface(message));
        }
    }
    Ok(())
}
