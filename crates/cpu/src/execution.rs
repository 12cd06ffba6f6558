//! A function that is ready to run.

use std::collections::HashMap;
use std::sync::Arc;

use anemone_mil::bind::{self, Scope};
use anemone_mil::eval::{Budget, Evaluation};
use anemone_mil::ops::Operand;
use anemone_mil::program::{Argument, BlobReference, Literal, LiteralValue, Op, OpId, ValueId};
use anemone_mil::runtime::{Executable, Port, RuntimeError, check_inputs};
use anemone_mil::specialize::{Specialized, op_error};
use anemone_mil::tensor::{Data, Tensor};
use anemone_mil::types::TensorType;
use anemone_mil::verify::{CONST, Verified};
use anemone_mil::weights::WeightSource;
use bytemuck::Zeroable;

use crate::kernels::{Choice, Kernel};
use crate::memory::{LINE_BYTES, Line, Memory, Place, Sources, bytes_of_mut, lines};
use crate::plan::{Action, Plan, Step, choose, plan, unsupported};
use crate::threads::Threads;

/// A function's constants, and the results of ops that only decompress constants.
pub struct Constants {
    specialized: Specialized,
    derived: HashMap<ValueId, Arc<Tensor>>,
}

impl Constants {
    /// The function and its `const` values.
    pub fn specialized(&self) -> &Specialized {
        &self.specialized
    }

    /// The value of a constant.
    pub fn get(&self, id: ValueId) -> Option<&Arc<Tensor>> {
        self.specialized.constants.get(&id).or_else(|| self.derived.get(&id))
    }

    /// Every constant.
    pub fn ids(&self) -> impl Iterator<Item = ValueId> {
        let mut ids: Vec<ValueId> =
            self.specialized.constants.keys().chain(self.derived.keys()).copied().collect();
        ids.sort_unstable();
        ids.into_iter()
    }

    /// Decompresses the constants that ops make of others, all of them or those that depend on `changed`.
    /// Gives the ids of `changed` and of what was made anew.
    fn derive(&mut self, changed: Option<ValueId>) -> Result<Vec<ValueId>, RuntimeError> {
        let mut made: Vec<ValueId> = changed.into_iter().collect();
        // Taken over when all went well.
        let mut derived = self.derived.clone();
        let specialized = &self.specialized;
        let function = specialized.function();
        let mut evaluation = Evaluation::new(false, Budget::ORDINARY);
        for &id in &function.body.ops {
            let op = function.op(id);
            let row = specialized.program.row(specialized.function, id).filter(|row| row.constexpr);
            let Some(row) = row else { continue };
            if changed.is_some() && !reads(op, &made) {
                continue;
            }
            let scope = Derived { specialized, derived: &derived };
            let tensors = bind::operands(op, row, &scope)
                .and_then(|operands| evaluation.apply(row, &operands))
                .map_err(|error| op_error(function, id, error))?;
            for (&result, tensor) in op.results.iter().zip(tensors) {
                derived.insert(result, Arc::new(tensor));
                made.push(result);
            }
        }
        self.derived = derived;
        Ok(made)
    }
}

/// Whether an op has one of these values as an argument.
fn reads(op: &Op, ids: &[ValueId]) -> bool {
    op.arguments.iter().any(|(_, argument)| argument.values().iter().any(|id| ids.contains(id)))
}

/// What is known of values before a run.
struct Derived<'a> {
    specialized: &'a Specialized,
    derived: &'a HashMap<ValueId, Arc<Tensor>>,
}

impl Scope for Derived<'_> {
    fn value(&self, id: ValueId) -> Option<Operand> {
        let known = self.specialized.value(id)?;
        match self.derived.get(&id) {
            Some(value) => Some(Operand { constant: true, value: Some(value.clone()), ..known }),
            None => Some(known),
        }
    }

    fn blob(&self, reference: &BlobReference, ty: &TensorType) -> Option<Arc<Tensor>> {
        self.specialized.blob(reference, ty)
    }
}

impl Scope for Constants {
    fn value(&self, id: ValueId) -> Option<Operand> {
        Derived { specialized: &self.specialized, derived: &self.derived }.value(id)
    }

    fn blob(&self, reference: &BlobReference, ty: &TensorType) -> Option<Arc<Tensor>> {
        self.specialized.blob(reference, ty)
    }
}

/// A function that is ready to run.
pub struct Execution {
    threads: Arc<Threads>,
    constants: Constants,
    plan: Plan,
    buffers: Buffers,
    evaluation: Evaluation,
}

/// The position of a step, and the kernel that it runs from now on.
type Replacement = (usize, Box<dyn Kernel>);

/// The memory of a run.
struct Buffers {
    planned: Vec<Line>,
    scratch: Vec<Line>,
    held: Vec<Option<Arc<Tensor>>>,
}

/// `count` zeros, if there is memory for them.
pub fn zeros<T: Zeroable + Clone>(count: usize) -> Result<Vec<T>, RuntimeError> {
    let mut values = Vec::new();
    values.try_reserve_exact(count).map_err(|_| unsupported("a function that needs this much memory"))?;
    values.resize(count, T::zeroed());
    Ok(values)
}

impl Execution {
    pub fn new(
        threads: Arc<Threads>,
        program: &Arc<Verified>,
        function: &str,
        inputs: &[TensorType],
        weights: &dyn WeightSource,
    ) -> Result<Execution, RuntimeError> {
        let mut specialized = Specialized::new(program, function, inputs, weights)?;
        drop_blobs_of_constants(&mut specialized);
        let mut evaluation = Evaluation::new(false, Budget::ORDINARY);
        for (id, port) in &specialized.states {
            let dims = port.ty.shape.to_known();
            let held = dims.and_then(|dims| Tensor::zeros(port.ty.dtype, &dims));
            let held = held.ok_or_else(|| unsupported(format!("a state of the size of `{}`", port.name)))?;
            evaluation.states_mut().insert(*id, held);
        }
        let mut constants = Constants { specialized, derived: HashMap::new() };
        constants.derive(None)?;
        let plan = plan(&constants, &threads)?;
        let buffers = Buffers {
            planned: zeros(plan.lines)?,
            scratch: zeros(plan.scratch.div_ceil(LINE_BYTES / size_of::<f64>()))?,
            held: vec![None; plan.held],
        };
        Ok(Execution { threads, constants, plan, buffers, evaluation })
    }

    /// The kernels of the steps that read one of these constants, which have other values now.
    fn choose_again(&self, changed: &[ValueId]) -> Result<Vec<Replacement>, RuntimeError> {
        let Execution { threads, constants, plan, .. } = self;
        let specialized = constants.specialized();
        let function = specialized.function();
        let mut kernels = Vec::new();
        for (index, step) in plan.steps.iter().enumerate() {
            let op = function.op(step.op);
            let Action::Kernel { result, .. } = step.action else { continue };
            if !reads(op, changed) {
                continue;
            }
            let Some(row) = specialized.program.row(specialized.function, step.op) else { continue };
            let choice = choose(constants, op, row, threads).map_err(|e| op_error(function, step.op, e))?;
            if let Some(Choice::Kernels(mut works)) = choice
                && result < works.len()
            {
                kernels.push((index, works.swap_remove(result).kernel));
            }
        }
        Ok(kernels)
    }

    /// Makes the caller's tensors those that the outputs need; allocates where they are others.
    fn prepare_outputs(&self, outputs: &mut [Tensor]) -> Result<(), RuntimeError> {
        let ports = &self.constants.specialized.outputs;
        if outputs.len() != ports.len() {
            let (count, given) = (ports.len(), outputs.len());
            let message = format!("the function has {count} outputs, room is given for {given}");
            return Err(RuntimeError::Interface(message));
        }
        for (port, output) in ports.iter().zip(outputs) {
            // A `?` is settled by the op that computes the output, which then replaces the tensor.
            if is_known(&port.ty) && !output.has_type(&port.ty) {
                let dims = port.ty.shape.to_known();
                let zeros = dims.and_then(|dims| Tensor::zeros(port.ty.dtype, &dims));
                *output =
                    zeros.ok_or_else(|| unsupported(format!("an output of the size of `{}`", port.name)))?;
            }
        }
        Ok(())
    }
}

/// Constants own what was read for them; only literals inside other ops still look blobs up.
fn drop_blobs_of_constants(specialized: &mut Specialized) {
    fn literals(argument: &Argument) -> Vec<&Literal> {
        match argument {
            Argument::Literal(literal) => vec![literal],
            Argument::Tuple(items) => items.iter().flat_map(literals).collect(),
            Argument::Value(_) => Vec::new(),
        }
    }
    let mut needed = Vec::new();
    for op in specialized.function().ops.iter().filter(|op| op.name != CONST) {
        let arguments = op.arguments.iter().flat_map(|(_, argument)| literals(argument));
        for literal in arguments.chain(op.attributes.iter().map(|(_, literal)| literal)) {
            if let LiteralValue::Blob(reference) = &literal.value {
                needed.push(reference.clone());
            }
        }
    }
    specialized.blobs.retain(|(reference, _), _| needed.contains(reference));
}

/// The tensors of one run.
struct Run<'a> {
    constants: &'a Constants,
    places: &'a [Option<Place>],
    buffers: &'a mut Buffers,
    evaluation: &'a mut Evaluation,
    inputs: &'a [&'a Tensor],
    outputs: &'a mut [Tensor],
    threads: &'a Threads,
}

impl Run<'_> {
    /// What can be read while nothing is written.
    fn memory(&self) -> Memory<'_> {
        Memory {
            planned: [&self.buffers.planned, &[]],
            resumes: usize::MAX,
            inputs: self.inputs,
            outputs: self.outputs,
            held: &self.buffers.held,
            constants: self.constants,
        }
    }

    fn step(&mut self, step: &Step) -> Result<(), RuntimeError> {
        match &step.action {
            Action::Kernel { kernel, sources, to, .. } => {
                self.run_kernel(kernel.as_ref(), sources, to);
                Ok(())
            }
            Action::Meaning { results } => self.run_meaning(step.op, results),
        }
    }

    fn run_kernel(&mut self, kernel: &dyn Kernel, sources: &[Place], to: &Place) {
        let Buffers { planned, scratch, held } = &mut *self.buffers;
        let scratch = bytemuck::cast_slice_mut(scratch);
        let (inputs, constants) = (self.inputs, self.constants);
        match to {
            Place::Planned { line, bytes } => {
                let range = lines(*line, *bytes);
                let (before, rest) = planned.split_at_mut(range.start);
                let (result, after) = rest.split_at_mut(range.len());
                let planned = [&*before, &*after];
                let memory =
                    Memory { planned, resumes: range.end, inputs, outputs: self.outputs, held, constants };
                let result = &mut bytemuck::cast_slice_mut(result)[..*bytes];
                kernel.run(Sources::new(sources, memory), result, scratch, self.threads);
            }
            Place::Output(index) => {
                let mut data = take(&mut self.outputs[*index]);
                let planned: [&[Line]; 2] = [planned, &[]];
                let memory =
                    Memory { planned, resumes: usize::MAX, inputs, outputs: self.outputs, held, constants };
                kernel.run(Sources::new(sources, memory), bytes_of_mut(&mut data), scratch, self.threads);
                *self.outputs[*index].data_mut() = data;
            }
            _ => debug_assert!(false, "kernels write planned memory and outputs"),
        }
    }

    fn run_meaning(&mut self, id: OpId, results: &[usize]) -> Result<(), RuntimeError> {
        let specialized = self.constants.specialized();
        let function = specialized.function();
        let op = function.op(id);
        let Some(row) = specialized.program.row(specialized.function, id) else {
            return Err(unsupported(format!("the op `{}`", op.name)));
        };
        let operands = {
            let frame = Frame { constants: self.constants, places: self.places, memory: self.memory() };
            bind::operands(op, row, &frame)
        };
        let tensors = operands
            .and_then(|operands| self.evaluation.apply(row, &operands))
            .map_err(|error| op_error(function, id, error))?;
        for ((&held, tensor), &value) in results.iter().zip(tensors).zip(&op.results) {
            // Kernels rely on the sizes that were planned.
            let planned = &specialized.types[value.0 as usize];
            if !planned.as_ref().is_some_and(|ty| ty.shape.agrees_with(&tensor.ty().shape)) {
                let (name, found) = (&function.value(value).name, tensor.ty());
                let message = format!("`{name}` is {found}, which is not what the function declares");
                return Err(RuntimeError::Interface(message));
            }
            self.buffers.held[held] = Some(Arc::new(tensor));
        }
        Ok(())
    }

    /// Fills the outputs that no step wrote in place: inputs, constants, bools, results of meanings, and
    /// values that are several outputs.
    fn deliver(&mut self) -> Result<(), RuntimeError> {
        let specialized = self.constants.specialized();
        let function = specialized.function();
        for (index, &id) in function.body.outputs.iter().enumerate() {
            let place = self.places[id.0 as usize].as_ref().ok_or_else(|| {
                RuntimeError::Interface(format!("the output `{}` has no value", function.value(id).name))
            })?;
            if matches!(place, Place::Output(at) if *at == index) {
                continue;
            }
            if is_known(&specialized.outputs[index].ty) {
                let mut data = take(&mut self.outputs[index]);
                self.memory().copy(place, &mut data);
                *self.outputs[index].data_mut() = data;
            } else if let Some(tensor) = self.memory().tensor(place).cloned() {
                self.outputs[index] = tensor;
            }
        }
        Ok(())
    }
}

/// Whether every dimension is known; allocates nothing.
fn is_known(ty: &TensorType) -> bool {
    ty.shape.0.iter().all(|dim| dim.known().is_some())
}

/// Takes a tensor's values and leaves none; allocates nothing. They must be put back.
fn take(tensor: &mut Tensor) -> Data {
    std::mem::replace(tensor.data_mut(), Data::F32(Vec::new()))
}

/// The operands of an op that is run by its meaning.
struct Frame<'a> {
    constants: &'a Constants,
    places: &'a [Option<Place>],
    memory: Memory<'a>,
}

impl Scope for Frame<'_> {
    fn value(&self, id: ValueId) -> Option<Operand> {
        let known = self.constants.value(id)?;
        let place = self.places.get(id.0 as usize)?;
        if known.value.is_some() || known.is_state {
            return Some(known);
        }
        let tensor = self.memory.shared_tensor(place.as_ref()?, &known.ty)?;
        Some(Operand { ty: tensor.ty(), value: Some(tensor), ..known })
    }

    fn blob(&self, reference: &BlobReference, ty: &TensorType) -> Option<Arc<Tensor>> {
        self.constants.blob(reference, ty)
    }
}

impl Executable for Execution {
    fn inputs(&self) -> &[Port] {
        &self.constants.specialized.inputs
    }

    fn outputs(&self) -> &[Port] {
        &self.constants.specialized.outputs
    }

    fn run(&mut self, inputs: &[&Tensor], outputs: &mut [Tensor]) -> Result<(), RuntimeError> {
        check_inputs(&self.constants.specialized.inputs, inputs)?;
        self.prepare_outputs(outputs)?;
        self.evaluation.reset(Budget::ORDINARY);
        let Execution { threads, constants, plan, buffers, evaluation } = self;
        let places = &plan.places;
        let mut run = Run { constants, places, buffers, evaluation, inputs, outputs, threads };
        threads.install(|| {
            plan.steps.iter().try_for_each(|step| run.step(step))?;
            run.deliver()
        })
    }

    fn set_constant(&mut self, name: &str, value: &Tensor) -> Result<(), RuntimeError> {
        let id = self.constants.specialized.function().value_named(name);
        let old = id.and_then(|id| self.constants.specialized.constants.get(&id)).cloned();
        let old_derived = self.constants.derived.clone();
        let id = self.constants.specialized.set_constant(name, value)?;
        let kernels = self.constants.derive(Some(id)).and_then(|changed| self.choose_again(&changed));
        match kernels {
            Ok(kernels) => {
                for (index, new) in kernels {
                    if let Action::Kernel { kernel, .. } = &mut self.plan.steps[index].action {
                        *kernel = new;
                    }
                }
                Ok(())
            }
            Err(error) => {
                self.constants.specialized.constants.extend(old.map(|old| (id, old)));
                self.constants.derived = old_derived;
                Err(error)
            }
        }
    }

    fn state(&self, name: &str) -> Option<&Tensor> {
        let id = self.constants.specialized.function().value_named(name)?;
        self.evaluation.states().get(&id)
    }

    fn set_state(&mut self, name: &str, value: &Tensor) -> Result<(), RuntimeError> {
        self.evaluation.set_state(self.constants.specialized(), name, value)
    }
}
