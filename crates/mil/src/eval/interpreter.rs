//! The interpreter as a runtime.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::bind::{self, Scope};
use crate::eval::{Budget, Evaluation, widen};
use crate::ops::{Given, Operand, Operands};
use crate::program::{BlobReference, ValueId};
use crate::runtime::{Executable, Port, Runtime, RuntimeError, check_inputs};
use crate::specialize::{Specialized, op_error};
use crate::tensor::Tensor;
use crate::types::{DType, TensorType};
use crate::verify::Verified;
use crate::weights::{BlobError, BlobFile, WeightSource};

/// The reference interpreter.
#[derive(Debug, Clone, Copy)]
pub struct Interpreter {
    /// Whether floating-point values stay in f64, unrounded; outputs are then fp64 tensors, and inputs may be.
    pub exact: bool,
    /// What one run may use.
    pub budget: Budget,
}

impl Default for Interpreter {
    fn default() -> Self {
        Interpreter { exact: false, budget: Budget::ORDINARY }
    }
}

impl Runtime for Interpreter {
    fn name(&self) -> &'static str {
        "eval"
    }

    fn prepare(
        &self,
        program: &Arc<Verified>,
        function: &str,
        inputs: &[TensorType],
        weights: &dyn WeightSource,
    ) -> Result<Box<dyn Executable>, RuntimeError> {
        let weights = Metered { weights, left: AtomicU64::new(self.budget.elements) };
        let mut specialized = Specialized::new(program, function, inputs, &weights)?;
        let mut evaluation = Evaluation::new(self.exact, self.budget);
        for (id, port) in &specialized.states {
            let dims = evaluation.allocate(&port.ty.shape);
            let dtype = if self.exact && port.ty.dtype.is_float() { DType::Fp64 } else { port.ty.dtype };
            let zeros = dims.ok().and_then(|dims| Tensor::zeros(dtype, &dims));
            let zeros = zeros.ok_or_else(|| {
                RuntimeError::Interface(format!("the state `{}` does not fit in memory", port.name))
            })?;
            evaluation.states_mut().insert(*id, zeros);
        }
        if self.exact {
            for port in specialized.outputs.iter_mut().filter(|port| port.ty.dtype.is_float()) {
                port.ty.dtype = DType::Fp64;
            }
        }
        let budget = self.budget;
        Ok(Box::new(Interpretation { specialized, evaluation, budget }))
    }
}

/// Weights of which no more elements are read than a budget holds: a program may name one blob with many
/// types, and each is a tensor of its own.
struct Metered<'a> {
    weights: &'a dyn WeightSource,
    left: AtomicU64,
}

impl WeightSource for Metered<'_> {
    fn file(&self, path: &str) -> Result<Arc<BlobFile>, BlobError> {
        self.weights.file(path)
    }

    fn load(&self, reference: &BlobReference, ty: &TensorType) -> Result<Tensor, BlobError> {
        let elements = ty.shape.elements().unwrap_or(u64::MAX);
        let take = |left: u64| left.checked_sub(elements);
        match self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take) {
            Ok(_) => self.weights.load(reference, ty),
            Err(_) => Err(BlobError::OverBudget { elements }),
        }
    }
}

/// A function that the interpreter is ready to run.
struct Interpretation {
    specialized: Specialized,
    evaluation: Evaluation,
    budget: Budget,
}

/// The values computed so far, over what is known of the function.
struct Frame<'a> {
    specialized: &'a Specialized,
    values: HashMap<ValueId, Arc<Tensor>>,
}

impl Scope for Frame<'_> {
    fn value(&self, id: ValueId) -> Option<Operand> {
        let known = self.specialized.value(id)?;
        match self.values.get(&id) {
            // The declared element type stays: without rounding, the value's own is fp64.
            Some(value) => Some(Operand {
                ty: TensorType { dtype: known.ty.dtype, shape: value.ty().shape },
                value: Some(value.clone()),
                ..known
            }),
            None => Some(known),
        }
    }

    fn blob(&self, reference: &BlobReference, ty: &TensorType) -> Option<Arc<Tensor>> {
        self.specialized.blob(reference, ty)
    }
}

impl Interpretation {
    fn execute(&mut self, inputs: &[&Tensor]) -> Result<Vec<Arc<Tensor>>, RuntimeError> {
        let specialized = &self.specialized;
        let function = specialized.function();
        let mut frame = Frame { specialized, values: HashMap::new() };
        for (id, input) in specialized.input_ids.iter().zip(inputs) {
            frame.values.insert(*id, Arc::new((*input).clone()));
        }
        for &id in &function.body.ops {
            let Some(row) = specialized.program.row(specialized.function, id) else { continue };
            let op = function.op(id);
            let results = bind::operands(op, row, &frame).and_then(|mut operands| {
                if self.evaluation.is_exact() {
                    widen_operands(&mut operands);
                }
                self.evaluation.apply(row, &operands)
            });
            let results = results.map_err(|error| op_error(function, id, error))?;
            for (&value, tensor) in op.results.iter().zip(results) {
                frame.values.insert(value, Arc::new(tensor));
            }
        }
        let exact = self.evaluation.is_exact();
        let output = |id: &ValueId| {
            let value = frame.value(*id).and_then(|operand| operand.value);
            let value = value.map(|value| if exact { widen(value) } else { value });
            value.ok_or_else(|| {
                RuntimeError::Interface(format!("the output `{}` has no value", function.value(*id).name))
            })
        };
        function.body.outputs.iter().map(output).collect()
    }
}

/// Widens the values of operands; their declared element types stay.
fn widen_operands(operands: &mut Operands<'_>) {
    for (_, given) in &mut operands.0 {
        let operands = match given {
            Given::One(operand) => std::slice::from_mut(operand),
            Given::Tuple(operands) => operands,
        };
        for operand in operands {
            operand.value = operand.value.take().map(widen);
        }
    }
}

impl Executable for Interpretation {
    fn inputs(&self) -> &[Port] {
        &self.specialized.inputs
    }

    fn outputs(&self) -> &[Port] {
        &self.specialized.outputs
    }

    fn run(&mut self, inputs: &[&Tensor], outputs: &mut [Tensor]) -> Result<(), RuntimeError> {
        let mut ports = Cow::Borrowed(&self.specialized.inputs);
        if self.evaluation.is_exact() {
            for (port, input) in ports.to_mut().iter_mut().zip(inputs) {
                if port.ty.dtype.is_float() && input.dtype() == DType::Fp64 {
                    port.ty.dtype = DType::Fp64;
                }
            }
        }
        check_inputs(&ports, inputs)?;
        if outputs.len() != self.specialized.outputs.len() {
            let count = self.specialized.outputs.len();
            let message = format!("the function has {count} outputs, room is given for {}", outputs.len());
            return Err(RuntimeError::Interface(message));
        }
        self.evaluation.reset(self.budget);
        for (output, value) in outputs.iter_mut().zip(self.execute(inputs)?) {
            *output = Arc::unwrap_or_clone(value);
        }
        Ok(())
    }

    fn set_constant(&mut self, name: &str, value: &Tensor) -> Result<(), RuntimeError> {
        self.specialized.set_constant(name, value).map(|_| ())
    }

    fn state(&self, name: &str) -> Option<&Tensor> {
        let id = self.specialized.function().value_named(name)?;
        self.evaluation.states().get(&id)
    }

    fn set_state(&mut self, name: &str, value: &Tensor) -> Result<(), RuntimeError> {
        self.evaluation.set_state(&self.specialized, name, value)
    }
}
