//! Programs that read no weight files, prepared on a runtime.

use std::sync::Arc;

use anemone_mil::error::Errors;
use anemone_mil::program::Program;
use anemone_mil::runtime::{ConstantHandle, Executable, Runtime, RuntimeError, allocate_outputs};
use anemone_mil::tensor::Tensor;
use anemone_mil::types::TensorType;
use anemone_mil::verify::verify;

use crate::device::NoWeights;

/// Prepares a program's one function for the inputs that it declares. Its constants are zero where they are no literals.
///
/// # Errors
///
/// A program that does not verify, or that the runtime refuses.
pub(crate) fn prepare<E>(program: Program, runtime: &dyn Runtime) -> Result<Box<dyn Executable>, E>
where
    E: From<Errors> + From<RuntimeError>,
{
    let verified = Arc::new(verify(program)?);
    let function = &verified.program().functions[0];
    let inputs: Vec<TensorType> =
        function.body.inputs.iter().filter_map(|&id| function.value(id).ty.as_tensor()).collect();
    Ok(runtime.prepare(&verified, &function.name, &inputs, &NoWeights)?)
}

/// One program, prepared, with room for its outputs.
pub(crate) struct Prepared {
    executable: Box<dyn Executable>,
    /// What the last run gave.
    pub(crate) outputs: Vec<Tensor>,
}

impl Prepared {
    /// As [`prepare`].
    ///
    /// # Errors
    ///
    /// As [`prepare`]; or outputs that do not fit in memory.
    pub(crate) fn new<E>(program: Program, runtime: &dyn Runtime) -> Result<Prepared, E>
    where
        E: From<Errors> + From<RuntimeError>,
    {
        let executable = prepare::<E>(program, runtime)?;
        let outputs = allocate_outputs(executable.as_ref())?;
        Ok(Prepared { executable, outputs })
    }

    /// The handle of a constant of the program.
    ///
    /// # Errors
    ///
    /// A constant that the program does not have.
    pub(crate) fn constant(&self, name: &str) -> Result<ConstantHandle, RuntimeError> {
        self.executable.constant(name)
    }

    /// Shares another value of a constant with the program.
    ///
    /// # Errors
    ///
    /// A value of another type, or a runtime that cannot replace it.
    pub(crate) fn set_constant(
        &mut self,
        constant: ConstantHandle,
        value: &Arc<Tensor>,
    ) -> Result<(), RuntimeError> {
        self.executable.set_constant(constant, value.clone())
    }

    /// Runs the program, and gives its first output.
    ///
    /// # Errors
    ///
    /// Inputs of other types, or a failing runtime.
    pub(crate) fn run(&mut self, inputs: &[&Tensor]) -> Result<&Tensor, RuntimeError> {
        self.executable.run(inputs, &mut self.outputs)?;
        Ok(&self.outputs[0])
    }
}
