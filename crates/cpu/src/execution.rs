//! A function that is ready to run.

use std::collections::HashMap;
use std::sync::Arc;

use anemone_mil::bind::{self, Scope};
use anemone_mil::eval::{Budget, Evaluation, OVERHEAD};
use anemone_mil::mapped::room_for;
use anemone_mil::ops::{OpError, Operand, RunBlocks};
use anemone_mil::program::{BlobReference, OpId, ValueId};
use anemone_mil::runtime::{
    ConstantHandle, Executable, Port, RuntimeError, check_inputs, check_output_count, within_block,
};
use anemone_mil::specialize::{BlockFunction, Specialized, op_error};
use anemone_mil::tensor::{Data, Tensor};
use anemone_mil::types::TensorType;
use anemone_mil::verify::Verified;
use anemone_mil::weights::WeightSource;
use bytemuck::Zeroable;

use crate::choose::choice_of;
use crate::constants::{Constants, roots_of};
use crate::kernels::elementwise::StripFunction;
use crate::kernels::{Around, Choice, Elements, Kernel, MOST_RESULTS};
use crate::memory::{LINE_BYTES, Line, Memory, MemoryPlace, PlannedParts, Sources, bytes_of_mut};
use crate::plan::{Action, Plan, Step, plan, unsupported};
use crate::threads::Threads;

/// A function that is ready to run.
pub(crate) struct Execution {
    threads: Arc<Threads>,
    body: Body,
    evaluation: Evaluation,
}

/// The body of a function, or a block, with its plan and the memory of a run.
struct Body {
    constants: Constants,
    plan: Plan,
    /// The ops of steps that read each constant, or what is made of it.
    readers: HashMap<ValueId, Vec<Reader>>,
    buffers: Buffers,
    /// The blocks of ops that have some.
    nested: HashMap<OpId, Vec<Nested>>,
}

/// A block of an op.
struct Nested {
    /// The values that it reads from around it.
    captured: Vec<ValueId>,
    /// Its ids of values from around it.
    values: HashMap<ValueId, ValueId>,
    body: Body,
    /// What a run of it takes from the budget, beside what the meanings of its ops take.
    elements: u64,
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
pub(crate) fn zeros<T: Zeroable + Clone>(count: usize) -> Result<Vec<T>, RuntimeError> {
    let mut values = room_for(count).ok_or_else(|| unsupported("a function that needs this much memory"))?;
    values.resize(count, T::zeroed());
    Ok(values)
}

impl Execution {
    pub(crate) fn new(
        threads: Arc<Threads>,
        program: &Arc<Verified>,
        function: &str,
        inputs: &[TensorType],
        weights: &dyn WeightSource,
    ) -> Result<Execution, RuntimeError> {
        let specialized = Specialized::new(program, function, inputs, weights)?;
        let mut evaluation = Evaluation::new(Budget::ORDINARY);
        for (id, port) in &specialized.states {
            let dims = port.ty.shape.to_known();
            let held = dims.and_then(|dims| Tensor::zeros(port.ty.dtype, &dims));
            let held = held.ok_or_else(|| unsupported(format!("a state of the size of `{}`", port.name)))?;
            evaluation.states_mut().insert(*id, held);
        }
        let body = Body::new(specialized, &threads)?;
        Ok(Execution { threads, body, evaluation })
    }

    /// How many ops each step computes.
    #[cfg(test)]
    pub(crate) fn ops_of_steps(&self) -> Vec<usize> {
        let ops = |step: &Step| {
            let alone = !matches!(step.action, Action::Region { .. });
            step.action.fused_ops().map(<[OpId]>::len).sum::<usize>() + usize::from(alone)
        };
        self.body.plan.steps.iter().map(ops).collect()
    }

    /// Bytes of planned memory.
    #[cfg(test)]
    pub(crate) fn planned_bytes(&self) -> usize {
        self.body.plan.lines * LINE_BYTES
    }
}

impl Body {
    fn new(specialized: Specialized, threads: &Threads) -> Result<Body, RuntimeError> {
        let constants = Constants::new(specialized)?;
        let plan = plan(&constants, threads)?;
        let buffers = Buffers {
            planned: zeros(plan.lines)?,
            scratch: zeros(plan.scratch.div_ceil(LINE_BYTES / size_of::<f64>()))?,
            held: vec![None; plan.held],
        };
        let readers = readers_of_constants(&constants, &plan);
        let mut nested = HashMap::new();
        for (op, blocks) in constants.specialized().blocks() {
            let blocks = blocks.into_iter().map(|BlockFunction { specialized, captured, values }| {
                let body = Body::new(specialized, threads)?;
                let elements = body.elements();
                Ok(Nested { captured, values, body, elements })
            });
            nested.insert(op, blocks.collect::<Result<_, RuntimeError>>()?);
        }
        Ok(Body { constants, plan, readers, buffers, nested })
    }

    /// What the body computes by kernels, and what its ops cost beside, in elements of a budget.
    fn elements(&self) -> u64 {
        let specialized = self.constants.specialized();
        let of_step = |step: &Step| {
            let ops = 1 + step.action.fused_ops().map(|ops| ops.len() as u64).sum::<u64>();
            let result = |&id: &ValueId| specialized.ty(id)?.shape.elements();
            let computed: u64 = match &step.action {
                Action::Meaning { .. } => 0,
                Action::Joint { values, .. } => values.iter().filter_map(result).sum(),
                _ => specialized.function().op(step.op).results.iter().filter_map(result).sum(),
            };
            computed.saturating_add(ops * OVERHEAD)
        };
        self.plan.steps.iter().map(of_step).fold(0, u64::saturating_add)
    }

    /// Runs the body once.
    fn run(
        &mut self,
        threads: &Threads,
        evaluation: &mut Evaluation,
        inputs: &[&Tensor],
        outputs: &mut [Tensor],
    ) -> Result<(), RuntimeError> {
        self.prepare_outputs(outputs)?;
        let Body { constants, plan, buffers, nested, .. } = self;
        let places = &plan.places;
        let mut run = Run { constants, places, buffers, nested, evaluation, inputs, outputs, threads };
        plan.steps.iter().try_for_each(|step| run.step(step))?;
        run.deliver()
    }

    /// Gives a constant another value here, and in the blocks that have it.
    fn set_constant(
        &mut self,
        constant: ConstantHandle,
        value: &Arc<Tensor>,
        threads: &Threads,
    ) -> Result<(), RuntimeError> {
        let replaced = self.constants.replace(constant, value.clone())?;
        let id = replaced.id();
        match self.replacements_for(id, threads) {
            Ok(replacements) => replacements.into_iter().for_each(|replacement| self.replace(replacement)),
            Err(error) => {
                self.constants.restore(replaced);
                return Err(error);
            }
        }
        self.nested.values_mut().flatten().try_for_each(|nested| {
            let constants = &nested.body.constants;
            match nested.values.get(&id).and_then(|&id| constants.handle_of(id)) {
                Some(constant) => nested.body.set_constant(constant, value, threads),
                None => Ok(()),
            }
        })
    }

    /// What steps compute from now on that read this constant, or what is made of it, which have other values now.
    fn replacements_for(
        &self,
        constant: ValueId,
        threads: &Threads,
    ) -> Result<Vec<Replacement>, RuntimeError> {
        let specialized = self.constants.specialized();
        let function = specialized.function();
        let mut replacements = Vec::new();
        for &Reader { op, step, part } in self.readers.get(&constant).into_iter().flatten() {
            let Some(row) = specialized.program.row(specialized.function, op) else { continue };
            let choice = choice_of(&self.constants, function.op(op), row, threads);
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
        check_output_count(ports, outputs)?;
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
    places: &'a [Option<MemoryPlace>],
    buffers: &'a mut Buffers,
    nested: &'a mut HashMap<OpId, Vec<Nested>>,
    evaluation: &'a mut Evaluation,
    inputs: &'a [&'a Tensor],
    outputs: &'a mut [Tensor],
    threads: &'a Threads,
}

impl Run<'_> {
    /// What can be read while nothing is written.
    fn memory(&self) -> Memory<'_> {
        Memory {
            planned: PlannedParts::whole(&self.buffers.planned),
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
                self.write_one(sources, to, |sources, result, _| fused.region.run(sources, result, threads));
            }
            Action::Joint { kernel, sources, to, .. } => {
                self.write(sources, to, |sources, results, scratch| {
                    kernel.run(sources, results, scratch, threads);
                });
            }
            Action::Kernel { kernel, prologue: None, epilogue: None, sources, to, .. } => {
                self.write_one(sources, to, |sources, result, scratch| {
                    kernel.run(sources, result, scratch, threads);
                });
            }
            Action::Kernel { kernel, prologue, epilogue, sources, to, .. } => {
                let Some(kernel) = kernel.surrounded() else {
                    return Err(unsupported("a step whose kernel has no other ops as parts"));
                };
                let others = epilogue.as_ref().map_or(0, |fused| fused.region.others());
                let (first, arch) = (sources.len() - others, threads.arch());
                self.write_one(sources, to, |sources, result, scratch| {
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

    /// Calls `compute` with what a step reads, the bytes of its only result, and working memory.
    fn write_one(
        &mut self,
        sources: &[MemoryPlace],
        to: &MemoryPlace,
        compute: impl FnOnce(Sources<'_>, &mut [u8], &mut [f64]),
    ) {
        self.write(sources, std::slice::from_ref(to), |sources, results, scratch| {
            if let [result] = results {
                compute(sources, result, scratch);
            }
        });
    }

    /// Calls `compute` with what a step reads, the bytes of each of its results, and working memory.
    fn write(
        &mut self,
        sources: &[MemoryPlace],
        to: &[MemoryPlace],
        compute: impl FnOnce(Sources<'_>, &mut [&mut [u8]], &mut [f64]),
    ) {
        let Buffers { planned, scratch, held } = &mut *self.buffers;
        let mut given: [Option<(usize, Data)>; MOST_RESULTS] = [const { None }; MOST_RESULTS];
        for (given, to) in given.iter_mut().zip(to) {
            if let MemoryPlace::Output(index) = to {
                *given = Some((*index, take(&mut self.outputs[*index])));
            }
        }
        let mut results: [&mut [u8]; MOST_RESULTS] = std::array::from_fn(|_| &mut [][..]);
        let planned = PlannedParts::around(planned, to, &mut results);
        for (result, given) in results.iter_mut().zip(&mut given) {
            if let Some((_, data)) = given {
                *result = bytes_of_mut(data);
            }
        }
        let (inputs, constants) = (self.inputs, self.constants);
        let memory = Memory { planned, inputs, outputs: self.outputs, held, constants };
        let results = &mut results[..to.len()];
        compute(Sources::new(sources, memory), results, bytemuck::cast_slice_mut(scratch));
        for (index, data) in given.into_iter().flatten() {
            *self.outputs[index].data_mut() = data;
        }
    }

    fn run_meaning(&mut self, id: OpId, results: &[usize]) -> Result<(), RuntimeError> {
        let specialized = self.constants.specialized();
        let function = specialized.function();
        let op = function.op(id);
        let Some(row) = specialized.program.row(specialized.function, id) else {
            return Err(unsupported(format!("the op `{}`", op.name)));
        };
        let (operands, captured) = {
            let frame = Frame { constants: self.constants, places: self.places, memory: self.memory() };
            let value = |&id: &ValueId| frame.value(id).and_then(|operand| operand.value);
            let nested = self.nested.get(&id).into_iter().flatten();
            let captured: Vec<Option<Vec<_>>> =
                nested.map(|nested| nested.captured.iter().map(value).collect()).collect();
            (bind::operands(op, row, &frame), captured)
        };
        let tensors: Result<Vec<Arc<Tensor>>, OpError> = operands.and_then(|operands| match row.blocks {
            None => Ok(row.apply(&operands, self.evaluation)?.into_iter().map(Arc::new).collect()),
            Some(rules) => {
                let nested = self.nested.get_mut(&id).map_or(&mut [][..], Vec::as_mut_slice);
                let (evaluation, threads) = (&mut *self.evaluation, self.threads);
                (rules.eval)(&operands, &mut Blocks { nested, captured, evaluation, threads })
            }
        });
        let tensors = tensors.map_err(|error| op_error(function, id, error))?;
        for ((&held, tensor), &value) in results.iter().zip(tensors).zip(&op.results) {
            // Kernels rely on the sizes that were planned.
            specialized.check_result(value, &tensor)?;
            self.buffers.held[held] = Some(tensor);
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
            if matches!(place, MemoryPlace::Output(at) if *at == index) {
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
    places: &'a [Option<MemoryPlace>],
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
        Some(known.holding(tensor))
    }

    fn blob(&self, reference: &BlobReference, ty: &TensorType) -> Option<Arc<Tensor>> {
        self.constants.blob(reference, ty)
    }
}

/// The blocks of an op.
struct Blocks<'a> {
    nested: &'a mut [Nested],
    /// What each block reads from around it; `None` where that has no value.
    captured: Vec<Option<Vec<Arc<Tensor>>>>,
    evaluation: &'a mut Evaluation,
    threads: &'a Threads,
}

impl RunBlocks for Blocks<'_> {
    fn run(&mut self, block: usize, inputs: Vec<Arc<Tensor>>) -> Result<Vec<Arc<Tensor>>, OpError> {
        let Nested { body, elements, .. } = &mut self.nested[block];
        self.evaluation.charge_elements(*elements)?;
        let specialized = body.constants.specialized();
        for (&id, value) in specialized.input_ids.iter().zip(&inputs) {
            specialized.check_result(id, value).map_err(within_block)?;
        }
        let Some(captured) = &self.captured[block] else {
            return Err(within_block(RuntimeError::Interface(
                "a value that a block reads is missing".into(),
            )));
        };
        let inputs: Vec<&Tensor> = inputs.iter().chain(captured).map(AsRef::as_ref).collect();
        let mut outputs = vec![Tensor::scalar(false); specialized.outputs.len()];
        body.run(self.threads, self.evaluation, &inputs, &mut outputs).map_err(within_block)?;
        Ok(outputs.into_iter().map(Arc::new).collect())
    }

    fn round(&mut self) -> Result<(), OpError> {
        self.evaluation.charge_overhead(1)
    }
}

impl Executable for Execution {
    fn inputs(&self) -> &[Port] {
        &self.body.constants.specialized().inputs
    }

    fn outputs(&self) -> &[Port] {
        &self.body.constants.specialized().outputs
    }

    fn run(&mut self, inputs: &[&Tensor], outputs: &mut [Tensor]) -> Result<(), RuntimeError> {
        check_inputs(&self.body.constants.specialized().inputs, inputs)?;
        self.evaluation.reset(Budget::ORDINARY);
        let Execution { threads, body, evaluation } = self;
        threads.install(|| body.run(threads, evaluation, inputs, outputs))
    }

    fn constant(&self, name: &str) -> Result<ConstantHandle, RuntimeError> {
        self.body.constants.handle(name)
    }

    fn set_constant(&mut self, constant: ConstantHandle, value: Arc<Tensor>) -> Result<(), RuntimeError> {
        self.body.set_constant(constant, &value, &self.threads)
    }

    fn state(&self, name: &str) -> Option<&Tensor> {
        let id = self.body.constants.specialized().function().value_named(name)?;
        self.evaluation.states().get(&id)
    }

    fn set_state(&mut self, name: &str, value: &Tensor) -> Result<(), RuntimeError> {
        self.evaluation.set_state(self.body.constants.specialized().state(name, value)?, value);
        Ok(())
    }
}
