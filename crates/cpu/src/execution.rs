//! A function that is ready to run.

mod run;

use std::collections::HashMap;
use std::sync::Arc;

use anemone_mil::eval::{Budget, Evaluation, OVERHEAD};
use anemone_mil::mapped::room_for;
use anemone_mil::passes;
use anemone_mil::program::{OpId, ValueId};
use anemone_mil::runtime::{
    ConstantHandle, Executable, Port, RuntimeError, check_inputs, check_output_count,
};
use anemone_mil::specialize::{BlockFunction, Specialized, op_error, specialize};
use anemone_mil::tensor::Tensor;
use anemone_mil::types::TensorType;
use anemone_mil::verify::Verified;
use anemone_mil::weights::WeightSource;
use bytemuck::Zeroable;

use crate::choose::choice_of;
use crate::constants::{Constants, roots_of};
use crate::kernels::elementwise::StripFunction;
use crate::kernels::{Choice, Kernel};
use crate::memory::{LINE_BYTES, Line};
use crate::plan::{Action, Plan, Step, plan, unsupported};
use crate::threads::Threads;
use run::Run;

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

/// The program with the ops of a function written out whose rows say how; `None` where there are none.
fn written_out(
    program: &Verified,
    function: &str,
    inputs: &[TensorType],
) -> Result<Option<Verified>, RuntimeError> {
    let functions = &program.program().functions;
    let Some(index) = functions.iter().position(|f| f.name == function) else { return Ok(None) };
    let is_composed = |(id, _)| program.row(index, id).is_some_and(|row| row.write_out.is_some());
    if !functions[index].walk().any(is_composed) {
        return Ok(None);
    }
    let settled = specialize(program, function, inputs)?;
    let written = passes::write_out(&settled, function).map_err(|error| unsupported(error.to_string()))?;
    Ok(Some(written.program))
}

impl Execution {
    pub(crate) fn new(
        threads: Arc<Threads>,
        program: &Arc<Verified>,
        (function, inputs): (&str, &[TensorType]),
        weights: &dyn WeightSource,
        most_dense: usize,
    ) -> Result<Execution, RuntimeError> {
        let written = written_out(program, function, inputs)?;
        let program = written.as_ref().unwrap_or(program);
        let specialized = Specialized::leaving_compressed(program, function, inputs, weights)?;
        let mut evaluation = Evaluation::new(Budget::ORDINARY);
        for (id, port) in &specialized.states {
            let dims = port.ty.shape.to_known();
            let held = dims.and_then(|dims| Tensor::zeros(port.ty.dtype, &dims));
            let held = held.ok_or_else(|| unsupported(format!("a state of the size of `{}`", port.name)))?;
            evaluation.states_mut().insert(*id, held);
        }
        let body = Body::new(specialized, weights, most_dense, &threads)?;
        Ok(Execution { threads, body, evaluation })
    }

    /// The names of each step's ops, the one with a kernel or a meaning first, and of what the last of them makes; and
    /// whether its op's meaning runs it.
    pub(crate) fn steps(&self) -> impl Iterator<Item = (Vec<String>, String, bool)> {
        let function = self.body.constants.specialized().function();
        self.body.plan.steps.iter().map(|Step { op, action, .. }| {
            let fused = action.fused_ops().flatten();
            let alone = Some(op).filter(|_| !matches!(action, Action::Region { .. }));
            let ids: Vec<OpId> = alone.into_iter().chain(fused).copied().collect();
            let made = ids.last().and_then(|&id| function.op(id).results.first());
            let names = ids.iter().map(|&id| function.op(id).name.clone()).collect();
            let result = made.map_or_else(String::new, |&value| function.value(value).name.clone());
            (names, result, matches!(action, Action::Meaning { .. }))
        })
    }

    /// Runs the function, and calls `done` with the index of each step when it is done.
    pub(crate) fn run_timed(
        &mut self,
        inputs: &[&Tensor],
        outputs: &mut [Tensor],
        done: impl FnMut(usize) + Send,
    ) -> Result<(), RuntimeError> {
        self.evaluation.reset(Budget::ORDINARY);
        let Execution { threads, body, evaluation } = self;
        threads.install(|| body.run_steps((threads, evaluation), inputs, outputs, done))
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
    pub(crate) fn planned_bytes(&self) -> usize {
        self.body.plan.lines * LINE_BYTES
    }
}

impl Body {
    fn new(
        specialized: Specialized,
        weights: &dyn WeightSource,
        most_dense: usize,
        threads: &Threads,
    ) -> Result<Body, RuntimeError> {
        let constants = Constants::new(specialized, weights, most_dense, threads)?;
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
                let body = Body::new(specialized, weights, most_dense, threads)?;
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
        self.run_steps((threads, evaluation), inputs, outputs, |_| {})
    }

    /// [`Body::run`], with a call of `done` after each step.
    fn run_steps(
        &mut self,
        (threads, evaluation): (&Threads, &mut Evaluation),
        inputs: &[&Tensor],
        outputs: &mut [Tensor],
        mut done: impl FnMut(usize),
    ) -> Result<(), RuntimeError> {
        self.prepare_outputs(outputs)?;
        let Body { constants, plan, buffers, nested, .. } = self;
        let places = &plan.places;
        let mut run = Run { constants, places, buffers, nested, evaluation, inputs, outputs, threads };
        for (index, step) in plan.steps.iter().enumerate() {
            run.step(step)?;
            run.drop_held(&step.done);
            done(index);
        }
        run.deliver()
    }

    /// Gives a constant another value here, and in the blocks that have it.
    fn set_constant(
        &mut self,
        constant: ConstantHandle,
        value: &Arc<Tensor>,
        threads: &Threads,
    ) -> Result<(), RuntimeError> {
        let replaced = self.constants.replace(constant, value.clone(), threads)?;
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
    for (step, Step { op, action, .. }) in plan.steps.iter().enumerate() {
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

/// Whether every dimension is known; allocates nothing.
fn is_known(ty: &TensorType) -> bool {
    ty.shape.0.iter().all(|dim| dim.known().is_some())
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
        self.run_timed(inputs, outputs, |_| {})
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
