//! From a function to steps: which kernel runs each op, and where every value lives.
//!
//! Values that have the same bytes (an input and its reshaped form) form one storage. A storage made by a
//! kernel lives in the caller's output tensor if it is one of the results, otherwise in the planned memory,
//! from the step that writes it to the last one that reads it; storages whose lives do not meet share
//! memory. Ops that nothing depends on are no steps.

use std::sync::Arc;

use anemone_mil::ops::Operand;
use anemone_mil::program::{Op, OpId, ValueId};
use anemone_mil::runtime::RuntimeError;
use anemone_mil::specialize::op_error;
use anemone_mil::types::{DType, TensorType};
use anemone_mil::verify::CONST;

use crate::NAME;
use crate::arena::Arena;
use crate::attention::{Attentions, attentions};
use crate::choose::choice_of;
use crate::constants::Constants;
use crate::draft::{Chain, Draft, DraftWork};
use crate::fuse::fuse;
use crate::kernels::elementwise::{Region, StripFunction};
use crate::kernels::{Choice, Joint, JointWork, Kernel};
use crate::memory::{LINE_BYTES, MemoryPlace, element_bytes};
use crate::readers::{readers, values_read};
use crate::rows::GATHER;
use crate::threads::Threads;

/// One step of a run.
pub(crate) struct Step {
    /// The op: that of the kernel or the meaning, or else the last one of several.
    pub op: OpId,
    /// How it is run.
    pub action: Action,
    /// The held tensors that nothing reads any more then.
    pub done: Vec<usize>,
}

/// How a step is run.
pub(crate) enum Action {
    /// A kernel computes one result.
    Kernel {
        /// The kernel.
        kernel: Box<dyn Kernel>,
        /// Which of the op's results.
        result: usize,
        /// The ops that compute its operand.
        prologue: Option<Fused>,
        /// The ops that go on with its result.
        epilogue: Option<Fused>,
        /// Its operands, or what its prologue reads, and then what its epilogue reads besides.
        sources: Vec<MemoryPlace>,
        /// Where the result goes: planned memory or an output.
        to: MemoryPlace,
    },
    /// A kernel computes several results, of several ops.
    Joint {
        /// The kernel.
        kernel: Box<dyn Joint>,
        /// The results.
        values: Vec<ValueId>,
        /// Its operands.
        sources: Vec<MemoryPlace>,
        /// Where each result goes: planned memory or an output.
        to: Vec<MemoryPlace>,
    },
    /// Ops that compute element by element, together.
    Region {
        /// The ops.
        fused: Fused,
        /// What they read.
        sources: Vec<MemoryPlace>,
        /// Where the result goes.
        to: MemoryPlace,
    },
    /// The op's meaning computes all results, which are held.
    Meaning {
        /// The places of the results among the held tensors.
        results: Vec<usize>,
    },
}

impl Action {
    /// The regions that are part of this step.
    pub(crate) fn fused(&mut self) -> impl Iterator<Item = &mut Fused> {
        let [prologue, epilogue] = match self {
            Action::Region { fused, .. } => [Some(fused), None],
            Action::Kernel { prologue, epilogue, .. } => [prologue.as_mut(), epilogue.as_mut()],
            Action::Joint { .. } | Action::Meaning { .. } => [None, None],
        };
        prologue.into_iter().chain(epilogue)
    }

    /// Their ops, of each region apart.
    pub(crate) fn fused_ops(&self) -> impl Iterator<Item = &[OpId]> {
        let [prologue, epilogue] = match self {
            Action::Region { fused, .. } => [Some(fused), None],
            Action::Kernel { prologue, epilogue, .. } => [prologue.as_ref(), epilogue.as_ref()],
            Action::Joint { .. } | Action::Meaning { .. } => [None, None],
        };
        prologue.into_iter().chain(epilogue).map(|fused| &*fused.ops)
    }
}

/// Ops that are computed together.
pub(crate) struct Fused {
    /// What computes them.
    pub region: Region,
    /// The ops, in the order of the region's nodes.
    pub ops: Vec<OpId>,
}

/// The steps of a function and the memory that they need.
pub(crate) struct Plan {
    /// The steps in order.
    pub steps: Vec<Step>,
    /// Where each value lives; `None` for states and what no op made.
    pub places: Vec<Option<MemoryPlace>>,
    /// Cache lines of planned memory.
    pub lines: usize,
    /// fp64 values of working memory.
    pub scratch: usize,
    /// Tensors held for ops without a kernel.
    pub held: usize,
}

/// A sound program that this runtime cannot run.
pub(crate) fn unsupported(reason: impl Into<String>) -> RuntimeError {
    RuntimeError::Unsupported { runtime: NAME, reason: reason.into() }
}

/// A storage: values that have the same bytes.
struct Storage {
    place: Option<MemoryPlace>,
    bytes: usize,
    dtype: DType,
    /// The step after which nothing reads it.
    last_use: usize,
}

/// A plan in the making.
struct Planner<'a> {
    constants: &'a Constants,
    threads: &'a Threads,
    /// How many ops read each value.
    readers: Vec<usize>,
    /// The ops that become one step of attention.
    attentions: Attentions,
    /// The storage of each value.
    storage_of: Vec<Option<usize>>,
    storages: Vec<Storage>,
    held: usize,
}

/// Plans a function whose constants are known.
pub(crate) fn plan(constants: &Constants, threads: &Threads) -> Result<Plan, RuntimeError> {
    let specialized = constants.specialized();
    let function = specialized.function();
    let readers = readers(function);
    let mut planner = Planner {
        constants,
        threads,
        attentions: attentions(constants, &readers, threads),
        readers,
        storage_of: vec![None; function.values.len()],
        storages: Vec::new(),
        held: 0,
    };
    planner.enter_known();
    let mut drafts = Vec::with_capacity(function.body.ops.len());
    for &id in &function.body.ops {
        planner.draft(id, &mut drafts)?;
    }
    let drafts = fuse(drafts, &specialized.facts, &planner.readers);
    planner.note_lives(&drafts);
    planner.note_outputs();
    let lines = planner.place_planned(&drafts)?;
    planner.complete(drafts, lines)
}

impl Planner<'_> {
    fn storage(&self, value: ValueId) -> Option<usize> {
        self.storage_of[value.0 as usize]
    }

    fn add_storage(&mut self, id: ValueId, place: Option<MemoryPlace>, ty: &TensorType) -> Option<()> {
        let elements = usize::try_from(ty.shape.elements().unwrap_or(0)).ok()?;
        let bytes = elements.checked_mul(element_bytes(ty.dtype))?;
        self.storage_of[id.0 as usize] = Some(self.storages.len());
        self.storages.push(Storage { place, bytes, dtype: ty.dtype, last_use: 0 });
        Some(())
    }

    /// Inputs, constants and what was made of them have their places.
    fn enter_known(&mut self) {
        let specialized = self.constants.specialized();
        for (index, (&id, port)) in specialized.input_ids.iter().zip(&specialized.inputs).enumerate() {
            self.add_storage(id, Some(MemoryPlace::Input(index)), &port.ty);
        }
        for id in self.constants.ids() {
            if let Some(tensor) = self.constants.get(id) {
                self.add_storage(id, Some(MemoryPlace::Constant(id)), &tensor.ty());
            }
        }
    }

    /// Adds the steps of an op as if it were alone.
    fn draft(&mut self, id: OpId, drafts: &mut Vec<Draft>) -> Result<(), RuntimeError> {
        let specialized = self.constants.specialized();
        let function = specialized.function();
        let op = function.op(id);
        if op.name == CONST || op.results.iter().any(|&result| self.storage(result).is_some()) {
            return Ok(());
        }
        if self.attentions.inner.contains(&id) {
            return Ok(());
        }
        // What is decoded in each run is a step before what reads it.
        if op.results.iter().any(|&result| self.constants.compressed(result).is_some()) {
            return Ok(());
        }
        if let Some(work) = self.attentions.works.remove(&id) {
            let read: Vec<ValueId> = work.operands().filter_map(|operand| operand.id).collect();
            read.into_iter().try_for_each(|value| self.decode(value, drafts))?;
            work.values().iter().try_for_each(|&value| self.add_result(value))?;
            drafts.push(Draft { op: id, work });
            return Ok(());
        }
        if op.name != GATHER {
            op.reads().try_for_each(|value| self.decode(value, drafts))?;
        }
        self.draft_alone(id, drafts)
    }

    /// Adds the step that decodes a constant, where it is one that is decoded in each run, and was not yet.
    fn decode(&mut self, value: ValueId, drafts: &mut Vec<Draft>) -> Result<(), RuntimeError> {
        if self.storage(value).is_some() || self.constants.compressed(value).is_none() {
            return Ok(());
        }
        self.constants.decompression(value).map_or(Ok(()), |op| self.draft_alone(op, drafts))
    }

    /// Adds the steps of an op whose operands have their places.
    fn draft_alone(&mut self, id: OpId, drafts: &mut Vec<Draft>) -> Result<(), RuntimeError> {
        let specialized = self.constants.specialized();
        let function = specialized.function();
        let op = function.op(id);
        let Some(row) = specialized.program.row(specialized.function, id) else {
            return Err(unsupported(format!("the op `{}`", op.name)));
        };
        let choice =
            choice_of(self.constants, op, row, self.threads).map_err(|e| op_error(function, id, e))?;
        match choice {
            Some(Choice::Alias(Operand { id: Some(x), .. })) if self.storage(x).is_some() => {
                if let Some(&result) = op.results.first() {
                    self.storage_of[result.0 as usize] = self.storage(x);
                }
            }
            Some(Choice::Kernels(works)) => {
                for (result, (work, &value)) in works.into_iter().zip(&op.results).enumerate() {
                    if self.readers[value.0 as usize] > 0 {
                        self.add_result(value)?;
                        let (prologue, epilogue) = (None, None);
                        let work = DraftWork::Kernel { result, value, work, prologue, epilogue };
                        drafts.push(Draft { op: id, work });
                    }
                }
            }
            Some(Choice::Elementwise(function, operands)) => {
                if let Some(&value) = op.results.first() {
                    let chain = self.chain(id, value, function, &operands)?;
                    self.add_result(value)?;
                    drafts.push(Draft { op: id, work: DraftWork::Region { value, chain } });
                }
            }
            _ => drafts.push(Draft { op: id, work: self.meaning(op) }),
        }
        Ok(())
    }

    /// The storage of a value that a step makes.
    fn add_result(&mut self, value: ValueId) -> Result<(), RuntimeError> {
        let ty = self.constants.specialized().ty(value);
        ty.and_then(|ty| self.add_storage(value, None, &ty)).ok_or_else(|| {
            let name = &self.constants.specialized().function().value(value).name;
            unsupported(format!("the size of `{name}`"))
        })
    }

    fn chain(
        &self,
        id: OpId,
        value: ValueId,
        function: Arc<dyn StripFunction>,
        operands: &[Operand],
    ) -> Result<Chain, RuntimeError> {
        let ty = self.constants.specialized().ty(value);
        let dims = ty.and_then(|ty| Some((ty.shape.to_known()?, ty.dtype)));
        let dims = dims.ok_or_else(|| unsupported("a result of unknown size"))?;
        Ok(Chain::new(id, function, operands, dims))
    }

    /// The step of an op that is run by its meaning.
    fn meaning(&mut self, op: &Op) -> DraftWork {
        let mut results = Vec::with_capacity(op.results.len());
        for &value in &op.results {
            let place = Some(MemoryPlace::Held(self.held));
            self.storage_of[value.0 as usize] = Some(self.storages.len());
            self.storages.push(Storage { place, bytes: 0, dtype: DType::String, last_use: 0 });
            results.push(self.held);
            self.held += 1;
        }
        DraftWork::Meaning { results }
    }

    /// Notes until when each storage is needed.
    fn note_lives(&mut self, drafts: &[Draft]) {
        let function = self.constants.specialized().function();
        for (step, draft) in drafts.iter().enumerate() {
            if let DraftWork::Meaning { .. } = draft.work {
                let op = function.op(draft.op);
                // Of constants in their stored form, rows are taken, and not of what is decoded for others.
                let is_stored =
                    |value: &ValueId| op.name == GATHER && self.constants.compressed(*value).is_some();
                let mut values = values_read(function, op);
                values.retain(|value| !is_stored(value));
                values
                    .into_iter()
                    .chain(op.results.iter().copied())
                    .for_each(|value| self.note_use(value, step));
            }
            draft.work.operands().filter_map(|operand| operand.id).for_each(|id| self.note_use(id, step));
            draft.work.values().iter().for_each(|&value| self.note_use(value, step));
        }
    }

    fn note_use(&mut self, value: ValueId, step: usize) {
        if let Some(storage) = self.storage(value) {
            self.storages[storage].last_use = step;
        }
    }

    /// Outputs are needed to the end, and may lie in the caller's tensors.
    fn note_outputs(&mut self) {
        for (index, &id) in self.constants.specialized().function().body.outputs.iter().enumerate() {
            let Some(storage) = self.storage(id) else { continue };
            let storage = &mut self.storages[storage];
            storage.last_use = usize::MAX;
            // Not every byte is a bool, so kernels do not write into tensors of bools.
            if storage.place.is_none() && storage.dtype != DType::Bool {
                storage.place = Some(MemoryPlace::Output(index));
            }
        }
    }

    /// Places what lives in planned memory. Gives the number of lines.
    fn place_planned(&mut self, drafts: &[Draft]) -> Result<usize, RuntimeError> {
        let mut arena = Arena::default();
        for (step, draft) in drafts.iter().enumerate() {
            for &value in draft.work.values() {
                let Some(storage) = self.storage(value) else { continue };
                let storage = &mut self.storages[storage];
                if storage.place.is_none() {
                    let line = arena.place(step, storage.last_use, storage.bytes.div_ceil(LINE_BYTES));
                    let line = line.ok_or_else(|| unsupported("a function of this size"))?;
                    storage.place = Some(MemoryPlace::Planned { line, bytes: storage.bytes });
                }
            }
        }
        Ok(arena.lines())
    }

    fn place(&self, id: ValueId) -> Option<MemoryPlace> {
        self.storage(id).and_then(|storage| self.storages[storage].place.clone())
    }

    /// The steps, with the places of what they read and write.
    fn complete(self, drafts: Vec<Draft>, lines: usize) -> Result<Plan, RuntimeError> {
        let source = |operand: &Operand| match (operand.id, &operand.value) {
            (Some(id), _) => self.place(id),
            (None, value) => value.clone().map(MemoryPlace::Literal),
        };
        let valueless = || unsupported("an operand without a value");
        let mut done = vec![Vec::new(); drafts.len()];
        for storage in &self.storages {
            if let (Some(MemoryPlace::Held(held)), Some(done)) =
                (&storage.place, done.get_mut(storage.last_use))
            {
                done.push(*held);
            }
        }
        let mut done = done.into_iter();
        let mut scratch = 0;
        let mut steps = Vec::with_capacity(drafts.len());
        for Draft { op, work } in drafts {
            let to: Option<Vec<MemoryPlace>> = work.values().iter().map(|&value| self.place(value)).collect();
            let sources: Option<Vec<MemoryPlace>> = work.operands().map(source).collect();
            let action = match work {
                DraftWork::Meaning { results } => Action::Meaning { results },
                DraftWork::Kernel { result, work, prologue, epilogue, .. } => {
                    scratch = scratch.max(work.kernel.scratch());
                    let (prologue, epilogue) =
                        (prologue.map(fused).transpose()?, epilogue.map(fused).transpose()?);
                    let (sources, to) = sources.zip(only(to)).ok_or_else(valueless)?;
                    Action::Kernel { kernel: work.kernel, result, prologue, epilogue, sources, to }
                }
                DraftWork::Joint(JointWork { kernel, values, .. }) => {
                    scratch = scratch.max(kernel.scratch());
                    let (sources, to) = sources.zip(to).ok_or_else(valueless)?;
                    Action::Joint { kernel, values, sources, to }
                }
                DraftWork::Region { chain, .. } => {
                    let (sources, to) = sources.zip(only(to)).ok_or_else(valueless)?;
                    Action::Region { fused: fused(chain)?, sources, to }
                }
            };
            steps.push(Step { op, action, done: done.next().unwrap_or_default() });
        }
        let value_count = self.constants.specialized().function().values.len();
        let places = (0..value_count).map(|index| self.place(ValueId(index as u32))).collect();
        Ok(Plan { steps, places, lines, scratch, held: self.held })
    }
}

/// The place of a step's only result.
fn only(places: Option<Vec<MemoryPlace>>) -> Option<MemoryPlace> {
    places?.pop()
}

/// The region of a chain.
fn fused(chain: Chain) -> Result<Fused, RuntimeError> {
    let region = chain.region().ok_or_else(|| unsupported("an operand of unknown size"))?;
    Ok(Fused { region, ops: chain.ops })
}
