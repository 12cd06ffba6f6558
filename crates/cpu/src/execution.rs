//! A function that is ready to run.

use std::collections::HashMap;
use std::sync::Arc;

use anemone_mil::bind::{self, Scope};
use anemone_mil::eval::{Budget, Evaluation};
use anemone_mil::mapped::room_for;
use anemone_mil::ops::Operand;
use anemone_mil::program::{BlobReference, OpId, ValueId};
use anemone_mil::runtime::{ConstantHandle, Executable, Port, RuntimeError, check_inputs};
use anemone_mil::specialize::{Specialized, op_error};
use anemone_mil::tensor::{Data, Tensor};
use anemone_mil::types::TensorType;
use anemone_mil::verify::Verified;
use anemone_mil::weights::WeightSource;
use bytemuck::Zeroable;

use crate::choose::choice_of;
use crate::constants::{Constants, roots_of};
use crate::kernels::elementwise::StripFunction;
use crate::kernels::{Around, Choice, Elements, Kernel};
use crate::memory::{LINE_BYTES, Line, Memory, Place, Sources, bytes_of_mut, lines};
use crate::plan::{Action, Plan, Step, plan, unsupported};
use crate::threads::Threads;

/// A function that is ready to run.
pub struct Execution {
    threads: Arc<Threads>,
    constants: Constants,
    plan: Plan,
    /// The ops of steps that read each constant, or what is made of it.
    readers: HashMap<ValueId, Vec<Reader>>,
    buffers: Buffers,
    evaluation: Evaluation,
}

/// An op that reads a constant, and where the plan has it.
#[derive(Clone, Copy)]
struct Reader {
    op: OpId,
    step: usize,
    part: Part,
}

/// What an op is in its step.
#[derive(Clone, Copy)]
enum Part {
    /// The kernel computes this result of it.
    Kernel { result: usize },
    /// A node of one of the step's regions.
    Node { region: usize, node: usize },
}

/// What a step computes from now on.
enum Replacement {
    /// By another kernel.
    Kernel { step: usize, kernel: Box<dyn Kernel> },
    /// By another function of one node of a region.
    Function { step: usize, region: usize, node: usize, function: Arc<dyn StripFunction> },
}

/// The memory of a run.
struct Buffers {
    planned: Vec<Line>,
    scratch: Vec<Line>,
    held: Vec<Option<Arc<Tensor>>>,
}

/// `count` zeros, if there is memory for them.
pub fn zeros<T: Zeroable + Clone>(count: usize) -> Result<Vec<T>, RuntimeError> {
    let mut values = room_for(count).ok_or_else(|| unsupported("a function that needs this much memory"))?;
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
        let specialized = Specialized::new(program, function, inputs, weights)?;
        let mut evaluation = Evaluation::new(false, Budget::ORDINARY);
        for (id, port) in &specialized.states {
            let dims = port.ty.shape.to_known();
            let held = dims.and_then(|dims| Tensor::zeros(port.ty.dtype, &dims));
            let held = held.ok_or_else(|| unsupported(format!("a state of the size of `{}`", port.name)))?;
            evaluation.states_mut().insert(*id, held);
        }
        let constants = Constants::new(specialized)?;
        let plan = plan(&constants, &threads)?;
        let buffers = Buffers {
            planned: zeros(plan.lines)?,
            scratch: zeros(plan.scratch.div_ceil(LINE_BYTES / size_of::<f64>()))?,
            held: vec![None; plan.held],
        };
        let readers = readers_of_constants(&constants, &plan);
        Ok(Execution { threads, constants, plan, readers, buffers, evaluation })
    }

    /// What steps compute from now on that read this constant, or what is made of it, which have other values now.
    fn replacements_for(&self, constant: ValueId) -> Result<Vec<Replacement>, RuntimeError> {
        let specialized = self.constants.specialized();
        let function = specialized.function();
        let mut replacements = Vec::new();
        for &Reader { op, step, part } in self.readers.get(&constant).into_iter().flatten() {
            let Some(row) = specialized.program.row(specialized.function, op) else { continue };
            let choice = choice_of(&self.constants, function.op(op), row, &self.threads);
            match (part, choice.map_err(|error| op_error(function, op, error))?) {
                (Part::Kernel { result }, Some(Choice::Kernels(mut works))) if result < works.len() => {
                    let kernel = works.swap_remove(result).kernel;
                    replacements.push(Replacement::Kernel { step, kernel });
                }
                (Part::Node { region, node }, Some(Choice::Elementwise(function, _))) => {
                    replacements.push(Replacement::Function { step, region, node, function });
                }
                _ => {}
            }
        }
        Ok(replacements)
    }

    /// How many ops each step computes.
    #[cfg(test)]
    pub fn ops_of_steps(&self) -> Vec<usize> {
        let ops = |step: &Step| {
            let alone = !matches!(step.action, Action::Region { .. });
            step.action.fused_ops().map(<[OpId]>::len).sum::<usize>() + usize::from(alone)
        };
        self.plan.steps.iter().map(ops).collect()
    }

    /// Lets steps compute something else.
    fn replace(&mut self, replacement: Replacement) {
        match replacement {
            Replacement::Kernel { step, kernel: new } => {
                if let Action::Kernel { kernel, .. } = &mut self.plan.steps[step].action {
                    *kernel = new;
                }
            }
            Replacement::Function { step, region, node, function } => {
                if let Some(fused) = self.plan.steps[step].action.fused().nth(region) {
                    fused.region.nodes_mut()[node].function = function;
                }
            }
        }
    }

    /// Makes the caller's tensors those that the outputs need; allocates where they are others.
    fn prepare_outputs(&self, outputs: &mut [Tensor]) -> Result<(), RuntimeError> {
        let ports = &self.constants.specialized().outputs;
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

/// The ops of steps that read each constant, or what is made of it.
fn readers_of_constants(constants: &Constants, plan: &Plan) -> HashMap<ValueId, Vec<Reader>> {
    let (roots, function) = (constants.roots(), constants.specialized().function());
    let mut readers: HashMap<ValueId, Vec<Reader>> = HashMap::new();
    let mut add = |op, step, part| {
        for root in roots_of(function.op(op), &roots) {
            readers.entry(root).or_default().push(Reader { op, step, part });
        }
    };
    for (step, Step { op, action }) in plan.steps.iter().enumerate() {
        if let Action::Kernel { result, .. } = action {
            add(*op, step, Part::Kernel { result: *result });
        }
        for (region, ops) in action.fused_ops().enumerate() {
            for (node, &op) in ops.iter().enumerate() {
                add(op, step, Part::Node { region, node });
            }
        }
    }
    readers
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
        let threads = self.threads;
        match &step.action {
            Action::Meaning { results } => return self.run_meaning(step.op, results),
            Action::Region { fused, sources, to } => {
                self.write(sources, to, |sources, result, _| fused.region.run(sources, result, threads));
            }
            Action::Kernel { kernel, prologue: None, epilogue: None, sources, to, .. } => {
                self.write(sources, to, |sources, result, scratch| {
                    kernel.run(sources, result, scratch, threads);
                });
            }
            Action::Kernel { kernel, prologue, epilogue, sources, to, .. } => {
                let Some(kernel) = kernel.surrounded() else {
                    return Err(unsupported("a step whose kernel has no other ops as parts"));
                };
                let others = epilogue.as_ref().map_or(0, |fused| fused.region.others());
                let (first, arch) = (sources.len() - others, threads.arch());
                self.write(sources, to, |sources, result, scratch| {
                    let prologue = prologue.as_ref().map(|fused| {
                        let (region, leaves) = (&fused.region, fused.region.values(&sources, 0));
                        move |position: usize, values: &mut [f32]| {
                            region.prologue(&leaves, position, values, arch);
                        }
                    });
                    let epilogue = epilogue.as_ref().map(|fused| {
                        let (region, leaves) = (&fused.region, fused.region.values(&sources, first));
                        move |position: usize, values: &mut [f32]| {
                            region.epilogue(&leaves, position, values, arch);
                        }
                    });
                    let around = Around {
                        prologue: prologue.as_ref().map(|prologue| prologue as Elements<'_>),
                        epilogue: epilogue.as_ref().map(|epilogue| epilogue as Elements<'_>),
                    };
                    kernel.run_within(sources, result, scratch, threads, around);
                });
            }
        }
        Ok(())
    }

    /// Calls `compute` with what a step reads, the bytes of its result, and working memory.
    fn write(
        &mut self,
        sources: &[Place],
        to: &Place,
        compute: impl FnOnce(Sources<'_>, &mut [u8], &mut [f64]),
    ) {
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
                compute(Sources::new(sources, memory), result, scratch);
            }
            Place::Output(index) => {
                let mut data = take(&mut self.outputs[*index]);
                let planned: [&[Line]; 2] = [planned, &[]];
                let memory =
                    Memory { planned, resumes: usize::MAX, inputs, outputs: self.outputs, held, constants };
                compute(Sources::new(sources, memory), bytes_of_mut(&mut data), scratch);
                *self.outputs[*index].data_mut() = data;
            }
            _ => debug_assert!(false, "steps write planned memory and outputs"),
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
            let planned = &specialized.ty(value);
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
        &self.constants.specialized().inputs
    }

    fn outputs(&self) -> &[Port] {
        &self.constants.specialized().outputs
    }

    fn run(&mut self, inputs: &[&Tensor], outputs: &mut [Tensor]) -> Result<(), RuntimeError> {
        check_inputs(&self.constants.specialized().inputs, inputs)?;
        self.prepare_outputs(outputs)?;
        self.evaluation.reset(Budget::ORDINARY);
        let Execution { threads, constants, plan, buffers, evaluation, .. } = self;
        let places = &plan.places;
        let mut run = Run { constants, places, buffers, evaluation, inputs, outputs, threads };
        threads.install(|| {
            plan.steps.iter().try_for_each(|step| run.step(step))?;
            run.deliver()
        })
    }

    fn constant(&self, name: &str) -> Result<ConstantHandle, RuntimeError> {
        self.constants.handle(name)
    }

    fn set_constant(&mut self, constant: ConstantHandle, value: Arc<Tensor>) -> Result<(), RuntimeError> {
        let replaced = self.constants.replace(constant, value)?;
        match self.replacements_for(replaced.id()) {
            Ok(replacements) => {
                replacements.into_iter().for_each(|replacement| self.replace(replacement));
                Ok(())
            }
            Err(error) => {
                self.constants.restore(replaced);
                Err(error)
            }
        }
    }

    fn state(&self, name: &str) -> Option<&Tensor> {
        let id = self.constants.specialized().function().value_named(name)?;
        self.evaluation.states().get(&id)
    }

    fn set_state(&mut self, name: &str, value: &Tensor) -> Result<(), RuntimeError> {
        self.evaluation.set_state(self.constants.specialized(), name, value)
    }
}
