//! The interpreter as a runtime.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::bind::{self, Scope};
use crate::constants::ReplaceableConstants;
use crate::eval::{Arithmetic, Budget, Declared, Evaluation, Exact, OpInFunction};
use crate::ops::{OpDef, OpError, Operand, RunBlocks};
use crate::program::{BlobReference, Block, OpId, ValueId};
use crate::runtime::{
    ConstantHandle, Executable, Port, Runtime, RuntimeError, check_inputs, check_output_count, within_block,
};
use crate::specialize::{Specialized, op_error};
use crate::tensor::Tensor;
use crate::types::TensorType;
use crate::verify::Verified;
use crate::weights::{BlobError, BlobFile, WeightSource};

/// The reference interpreter.
#[derive(Debug, Clone)]
pub struct Interpreter {
    /// How it computes.
    pub arithmetic: Arc<dyn Arithmetic>,
    /// What one run may use.
    pub budget: Budget,
}

impl Default for Interpreter {
    fn default() -> Self {
        Interpreter { arithmetic: Arc::new(Declared), budget: Budget::ORDINARY }
    }
}

impl Interpreter {
    /// The interpreter without rounding: floating-point values stay in f64, and outputs are fp64 tensors.
    pub fn exact() -> Interpreter {
        Interpreter { arithmetic: Arc::new(Exact), ..Interpreter::default() }
    }

    /// A function settled for inputs of these types, as [`Specialized::new`] does it, with no more weights read than a run
    /// may use.
    ///
    /// # Errors
    ///
    /// Those of [`Specialized::new`].
    pub fn specialize(
        &self,
        program: &Verified,
        function: &str,
        inputs: &[TensorType],
        weights: &dyn WeightSource,
    ) -> Result<Specialized, RuntimeError> {
        let weights = Metered { weights, left: AtomicU64::new(self.budget.elements) };
        Specialized::new(program, function, inputs, &weights)
    }

    /// Makes a settled function ready to run.
    ///
    /// # Errors
    ///
    /// When a state does not fit in memory.
    pub fn prepare_specialized(
        &self,
        mut specialized: Specialized,
    ) -> Result<Box<dyn Executable>, RuntimeError> {
        let mut evaluation = Evaluation::over(self.arithmetic.clone(), self.budget);
        for (id, port) in &specialized.states {
            let dims = evaluation.allocate(&port.ty.shape);
            let dtype = self.arithmetic.kept(port.ty.dtype);
            let zeros = dims.ok().and_then(|dims| Tensor::zeros(dtype, &dims));
            let zeros = zeros.ok_or_else(|| {
                RuntimeError::Interface(format!("the state `{}` does not fit in memory", port.name))
            })?;
            evaluation.states_mut().insert(*id, zeros);
        }
        for port in &mut specialized.outputs {
            port.ty.dtype = self.arithmetic.kept(port.ty.dtype);
        }
        let (replaceable, budget) = (ReplaceableConstants::new(&specialized), self.budget);
        Ok(Box::new(Interpretation { specialized, replaceable, evaluation, budget }))
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
        self.prepare_specialized(self.specialize(program, function, inputs, weights)?)
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
    replaceable: ReplaceableConstants,
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
            Some(value) => Some(known.holding(value.clone())),
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
        let mut frame = Frame { specialized, values: HashMap::new() };
        for (id, input) in specialized.input_ids.iter().zip(inputs) {
            frame.values.insert(*id, Arc::new((*input).clone()));
        }
        frame.run(&specialized.function().body, &mut self.evaluation)
    }
}

impl Frame<'_> {
    /// Runs the ops of a block whose inputs have their values; gives what it yields.
    fn run(&mut self, block: &Block, evaluation: &mut Evaluation) -> Result<Vec<Arc<Tensor>>, RuntimeError> {
        for &id in &block.ops {
            let Some(row) = self.specialized.row(id) else { continue };
            let results = self.results(id, row, evaluation)?;
            for (&value, tensor) in self.specialized.function().op(id).results.iter().zip(results) {
                self.specialized.check_result(value, &tensor)?;
                self.values.insert(value, tensor);
            }
        }
        block.outputs.iter().map(|&id| self.yielded(id, evaluation)).collect()
    }

    fn results(
        &mut self,
        id: OpId,
        row: &OpDef,
        evaluation: &mut Evaluation,
    ) -> Result<Vec<Arc<Tensor>>, RuntimeError> {
        let function = self.specialized.function();
        let op = function.op(id);
        let operands = bind::operands(op, row, self).map(|mut operands| {
            // The declared element types stay.
            let keep = |value: Option<Arc<Tensor>>| value.map(|value| evaluation.keep(value));
            operands.iter_mut().for_each(|operand| operand.value = keep(operand.value.take()));
            operands
        });
        let results = operands.and_then(|mut operands| match row.blocks {
            None => {
                let at = OpInFunction { op, function };
                evaluation.arithmetic().begin(at, &mut operands);
                let mut results = row.apply(&operands, evaluation)?;
                evaluation.arithmetic().end(at, &operands, &mut results);
                Ok(results.into_iter().map(Arc::new).collect())
            }
            Some(rules) => {
                (rules.eval)(&operands, &mut Blocks { frame: self, blocks: &op.blocks, evaluation })
            }
        });
        results.map_err(|error| op_error(function, id, error))
    }

    fn yielded(&self, id: ValueId, evaluation: &Evaluation) -> Result<Arc<Tensor>, RuntimeError> {
        // A dictionary is a value, but no operand.
        let computed = || self.values.get(&id).cloned();
        let value = self.value(id).and_then(|operand| operand.value).or_else(computed);
        let value = value.map(|value| evaluation.keep(value));
        value.ok_or_else(|| {
            let name = &self.specialized.function().value(id).name;
            RuntimeError::Interface(format!("the output `{name}` has no value"))
        })
    }
}

/// The blocks of an op, within the values around them.
struct Blocks<'a, 'b> {
    frame: &'a mut Frame<'b>,
    blocks: &'b [Block],
    evaluation: &'a mut Evaluation,
}

impl RunBlocks for Blocks<'_, '_> {
    fn run(&mut self, block: usize, inputs: Vec<Arc<Tensor>>) -> Result<Vec<Arc<Tensor>>, OpError> {
        let block = &self.blocks[block];
        let ops = block.ops.iter().filter(|id| self.frame.specialized.row(**id).is_some());
        self.evaluation.charge_overhead(ops.count() as u64)?;
        for (&id, value) in block.inputs.iter().zip(inputs) {
            self.frame.specialized.check_result(id, &value).map_err(within_block)?;
            self.frame.values.insert(id, value);
        }
        self.frame.run(block, self.evaluation).map_err(within_block)
    }

    fn round(&mut self) -> Result<(), OpError> {
        self.evaluation.charge_overhead(1)
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
        // An input may come as the arithmetic keeps it.
        let mut ports = Cow::Borrowed(&self.specialized.inputs);
        let kept = |port: &Port| self.evaluation.arithmetic().kept(port.ty.dtype);
        if self.specialized.inputs.iter().any(|port| kept(port) != port.ty.dtype) {
            for (port, input) in ports.to_mut().iter_mut().zip(inputs) {
                if input.dtype() == kept(port) {
                    port.ty.dtype = input.dtype();
                }
            }
        }
        check_inputs(&ports, inputs)?;
        check_output_count(&self.specialized.outputs, outputs)?;
        self.evaluation.reset(self.budget);
        for (output, value) in outputs.iter_mut().zip(self.execute(inputs)?) {
            *output = Arc::unwrap_or_clone(value);
        }
        Ok(())
    }

    fn constant(&self, name: &str) -> Result<ConstantHandle, RuntimeError> {
        self.replaceable.handle(&self.specialized, name)
    }

    fn set_constant(&mut self, constant: ConstantHandle, value: Arc<Tensor>) -> Result<(), RuntimeError> {
        self.replaceable.replace(&mut self.specialized, constant, value).map(|_| ())
    }

    fn state(&self, name: &str) -> Option<&Tensor> {
        let id = self.specialized.function().value_named(name)?;
        self.evaluation.states().get(&id)
    }

    fn set_state(&mut self, name: &str, value: &Tensor) -> Result<(), RuntimeError> {
        self.evaluation.set_state(self.specialized.state(name, value)?, value);
        Ok(())
    }
}
