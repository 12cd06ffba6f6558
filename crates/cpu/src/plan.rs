//! From a function to steps: which kernel runs each op, and where every value lives.
//!
//! Values that have the same bytes (an input and its reshaped form) form one storage. A storage made by a
//! kernel lives in the caller's output tensor if it is one of the results, otherwise in the planned memory,
//! from the step that writes it to the last one that reads it; storages whose lives do not meet share
//! memory.

use std::collections::HashMap;

use anemone_mil::ops::Operand;
use anemone_mil::program::{Op, OpId, ValueId};
use anemone_mil::runtime::RuntimeError;
use anemone_mil::specialize::op_error;
use anemone_mil::types::{DType, TensorType};
use anemone_mil::verify::CONST;

use crate::NAME;
use crate::choose::choose;
use crate::constants::Constants;
use crate::fuse::{Chain, readers};
use crate::kernels::elementwise::Region;
use crate::kernels::{Choice, Kernel, Work};
use crate::memory::{LINE_BYTES, Place, element_bytes};
use crate::threads::Threads;

/// One step of a run.
pub struct Step {
    /// The op.
    pub op: OpId,
    /// How it is run.
    pub action: Action,
}

/// How a step is run.
pub enum Action {
    /// A kernel computes one result.
    Kernel {
        /// The kernel.
        kernel: Box<dyn Kernel>,
        /// Which of the op's results.
        result: usize,
        /// The ops that compute its operand.
        lead: Option<Fused>,
        /// The ops that finish its result.
        finish: Option<Fused>,
        /// Its operands, or what the ops read that compute them, and then what those that finish the result read
        /// besides.
        sources: Vec<Place>,
        /// Where the result goes: planned memory or an output.
        to: Place,
    },
    /// Ops that compute element by element, together.
    Region {
        /// The ops.
        fused: Fused,
        /// What they read.
        sources: Vec<Place>,
        /// Where the result goes.
        to: Place,
    },
    /// The op's meaning computes all results, which are held.
    Meaning {
        /// The places of the results among the held tensors.
        results: Vec<usize>,
    },
}

impl Action {
    /// The regions that are part of this step.
    pub fn fused(&mut self) -> impl Iterator<Item = &mut Fused> {
        let [lead, finish] = match self {
            Action::Region { fused, .. } => [Some(fused), None],
            Action::Kernel { lead, finish, .. } => [lead.as_mut(), finish.as_mut()],
            Action::Meaning { .. } => [None, None],
        };
        lead.into_iter().chain(finish)
    }

    /// Their ops, of each region apart.
    pub fn fused_ops(&self) -> impl Iterator<Item = &[OpId]> {
        let [lead, finish] = match self {
            Action::Region { fused, .. } => [Some(fused), None],
            Action::Kernel { lead, finish, .. } => [lead.as_ref(), finish.as_ref()],
            Action::Meaning { .. } => [None, None],
        };
        lead.into_iter().chain(finish).map(|fused| &*fused.ops)
    }
}

/// Ops that are computed together.
pub struct Fused {
    /// What computes them.
    pub region: Region,
    /// The ops, in the order of the region's nodes.
    pub ops: Vec<OpId>,
}

/// The steps of a function and the memory that they need.
pub struct Plan {
    /// The steps in order.
    pub steps: Vec<Step>,
    /// Where each value lives; `None` for states and what no op made.
    pub places: Vec<Option<Place>>,
    /// Cache lines of planned memory.
    pub lines: usize,
    /// fp64 values of working memory.
    pub scratch: usize,
    /// Tensors held for ops without a kernel.
    pub held: usize,
}

/// A sound program that this runtime cannot run.
pub fn unsupported(reason: impl Into<String>) -> RuntimeError {
    RuntimeError::Unsupported { runtime: NAME, reason: reason.into() }
}

/// A storage: values that have the same bytes.
struct Storage {
    place: Option<Place>,
    bytes: usize,
    dtype: DType,
    /// The step after which nothing reads it.
    last_use: usize,
}

/// A step whose places are not settled yet.
pub struct Draft {
    /// The op.
    pub op: OpId,
    /// What it does.
    pub work: DraftWork,
}

/// What a step is going to do.
pub enum DraftWork {
    /// A kernel computes one result. A chain may compute its operand, another one finish its result, the chain's last
    /// leaf.
    Kernel { result: usize, storage: usize, work: Work, lead: Option<Chain>, finish: Option<Chain> },
    /// Ops that compute element by element.
    Region { storage: usize, chain: Chain },
    /// The op's meaning computes all results, which are held.
    Meaning { results: Vec<usize> },
    /// Another step does it.
    Moved,
}

impl DraftWork {
    /// The storage of the result that the step computes.
    fn storage(&self) -> Option<usize> {
        match self {
            DraftWork::Kernel { storage, .. } | DraftWork::Region { storage, .. } => Some(*storage),
            DraftWork::Meaning { .. } | DraftWork::Moved => None,
        }
    }
}

/// A plan in the making.
pub struct Planner<'a> {
    /// The function and its constants.
    pub constants: &'a Constants,
    threads: &'a Threads,
    /// The storage of each value.
    storage_of: HashMap<ValueId, usize>,
    storages: Vec<Storage>,
    /// The steps.
    pub drafts: Vec<Draft>,
    /// How many ops read each value.
    pub readers: HashMap<ValueId, usize>,
    /// The draft that computes each value.
    pub draft_of: HashMap<ValueId, usize>,
    held: usize,
}

/// Plans a function whose constants are known.
pub fn plan(constants: &Constants, threads: &Threads) -> Result<Plan, RuntimeError> {
    let mut planner = Planner {
        constants,
        threads,
        storage_of: HashMap::new(),
        storages: Vec::new(),
        drafts: Vec::new(),
        readers: readers(constants.specialized().function()),
        draft_of: HashMap::new(),
        held: 0,
    };
    planner.enter_known();
    let function = constants.specialized().function();
    for &id in &function.body.ops {
        planner.add_op(id)?;
    }
    planner.settle()
}

impl Planner<'_> {
    fn add_storage(&mut self, id: Option<ValueId>, place: Option<Place>, ty: &TensorType) -> Option<usize> {
        let elements = usize::try_from(ty.shape.elements().unwrap_or(0)).ok()?;
        let bytes = elements.checked_mul(element_bytes(ty.dtype))?;
        self.storages.push(Storage { place, bytes, dtype: ty.dtype, last_use: 0 });
        let storage = self.storages.len() - 1;
        if let Some(id) = id {
            self.storage_of.insert(id, storage);
        }
        Some(storage)
    }

    /// Inputs, constants and what was made of them have their places.
    fn enter_known(&mut self) {
        let specialized = self.constants.specialized();
        for (index, (&id, port)) in specialized.input_ids.iter().zip(&specialized.inputs).enumerate() {
            self.add_storage(Some(id), Some(Place::Input(index)), &port.ty);
        }
        let constants: Vec<ValueId> = self.constants.ids().collect();
        for id in constants {
            if let Some(tensor) = self.constants.get(id) {
                let ty = tensor.ty();
                self.add_storage(Some(id), Some(Place::Constant(id)), &ty);
            }
        }
    }

    fn add_op(&mut self, id: OpId) -> Result<(), RuntimeError> {
        let specialized = self.constants.specialized();
        let function = specialized.function();
        let op = function.op(id);
        if op.name == CONST || op.results.iter().any(|&result| self.storage_of.contains_key(&result)) {
            return Ok(());
        }
        let Some(row) = specialized.program.row(specialized.function, id) else {
            return Err(unsupported(format!("the op `{}`", op.name)));
        };
        let choice = choose(self.constants, op, row, self.threads).map_err(|e| op_error(function, id, e))?;
        match choice {
            Some(Choice::Alias(operand)) if operand.id.is_some_and(|x| self.storage_of.contains_key(&x)) => {
                if let (Some(x), Some(&result)) = (operand.id, op.results.first()) {
                    self.storage_of.insert(result, self.storage_of[&x]);
                }
            }
            Some(Choice::Kernels(works)) => self.add_kernels(id, op, works)?,
            Some(Choice::Elementwise(function, operands)) => {
                self.add_elementwise(id, op, function, &operands)?;
            }
            _ => self.add_meaning(id, op),
        }
        Ok(())
    }

    fn add_kernels(&mut self, id: OpId, op: &Op, works: Vec<Work>) -> Result<(), RuntimeError> {
        for (result, (work, &value)) in works.into_iter().zip(&op.results).enumerate() {
            let lead = self.lead(&work);
            self.read_all(lead.as_ref().map_or(&work.operands, |chain| &chain.leaves));
            let storage = self.add_result(value)?;
            let work = DraftWork::Kernel { result, storage, work, lead, finish: None };
            self.drafts.push(Draft { op: id, work });
        }
        Ok(())
    }

    /// The storage of a value that the next step makes.
    pub fn add_result(&mut self, value: ValueId) -> Result<usize, RuntimeError> {
        let ty = self.constants.specialized().ty(value);
        let storage = ty.and_then(|ty| self.add_storage(Some(value), None, &ty));
        let storage = storage.ok_or_else(|| {
            let name = &self.constants.specialized().function().value(value).name;
            unsupported(format!("the size of `{name}`"))
        })?;
        self.storages[storage].last_use = self.drafts.len();
        self.draft_of.insert(value, self.drafts.len());
        Ok(storage)
    }

    /// The next step reads these.
    pub fn read_all(&mut self, operands: &[Operand]) {
        let step = self.drafts.len();
        operands.iter().for_each(|operand| self.read(operand.id, step));
    }

    fn add_meaning(&mut self, id: OpId, op: &Op) {
        let step = self.drafts.len();
        for (_, argument) in op.arguments.iter() {
            for value in argument.values() {
                self.read(Some(value), step);
            }
        }
        let mut results = Vec::with_capacity(op.results.len());
        for &value in &op.results {
            let storage =
                Storage { place: Some(Place::Held(self.held)), bytes: 0, dtype: DType::String, last_use: 0 };
            self.storages.push(storage);
            self.storage_of.insert(value, self.storages.len() - 1);
            results.push(self.held);
            self.held += 1;
        }
        self.drafts.push(Draft { op: id, work: DraftWork::Meaning { results } });
    }

    fn read(&mut self, id: Option<ValueId>, step: usize) {
        if let Some(&storage) = id.and_then(|id| self.storage_of.get(&id)) {
            self.storages[storage].last_use = step;
        }
    }

    /// Gives every storage a place.
    fn settle(mut self) -> Result<Plan, RuntimeError> {
        let specialized = self.constants.specialized();
        let outputs = &specialized.function().body.outputs;
        for (index, id) in outputs.iter().enumerate() {
            let Some(&storage) = self.storage_of.get(id) else { continue };
            let storage = &mut self.storages[storage];
            storage.last_use = usize::MAX;
            // Not every byte is a bool, so kernels do not write into tensors of bools.
            if storage.place.is_none() && storage.dtype != DType::Bool {
                storage.place = Some(Place::Output(index));
            }
        }
        let lines = self.place_planned()?;
        let place_of = |storage: usize| self.storages[storage].place.clone();
        let mut scratch = 0;
        let mut steps = Vec::with_capacity(self.drafts.len());
        let source = |operand: &Operand| match (operand.id, &operand.value) {
            (Some(id), _) => self.storage_of.get(&id).and_then(|&storage| place_of(storage)),
            (None, value) => value.clone().map(Place::Literal),
        };
        let valueless = || unsupported("an operand without a value");
        for draft in self.drafts {
            let to = draft.work.storage().and_then(place_of);
            let action = match draft.work {
                DraftWork::Moved => continue,
                DraftWork::Meaning { results } => Action::Meaning { results },
                DraftWork::Kernel { result, work, lead, finish, .. } => {
                    scratch = scratch.max(work.kernel.scratch());
                    // The last leaf of what finishes it is the kernel's own result.
                    let others = finish
                        .as_ref()
                        .map_or(&[][..], |chain| chain.leaves.split_last().map_or(&[], |(_, others)| others));
                    let own = lead.as_ref().map_or(&work.operands, |chain| &chain.leaves);
                    let sources: Option<_> = own.iter().chain(others).map(source).collect();
                    let (lead, finish) = (lead.map(fused).transpose()?, finish.map(fused).transpose()?);
                    let (sources, to) = sources.zip(to).ok_or_else(valueless)?;
                    Action::Kernel { kernel: work.kernel, result, lead, finish, sources, to }
                }
                DraftWork::Region { chain, .. } => {
                    let sources: Option<_> = chain.leaves.iter().map(source).collect();
                    let (sources, to) = sources.zip(to).ok_or_else(valueless)?;
                    Action::Region { fused: fused(chain)?, sources, to }
                }
            };
            steps.push(Step { op: draft.op, action });
        }
        let value_count = specialized.function().values.len();
        let ids = (0..value_count).map(|index| ValueId(index as u32));
        let places =
            ids.map(|id| self.storage_of.get(&id).and_then(|&s| self.storages[s].place.clone())).collect();
        Ok(Plan { steps, places, lines, scratch, held: self.held })
    }

    /// Places what lives in planned memory: each storage, in the order of the steps that write them, at the
    /// first gap between those that live at the same time. Gives the number of lines.
    fn place_planned(&mut self) -> Result<usize, RuntimeError> {
        // Ranges of lines with the step after which each is free, in the order of lines.
        let mut taken: Vec<(usize, usize, usize)> = Vec::new();
        let mut total = 0;
        for (step, draft) in self.drafts.iter().enumerate() {
            let Some(storage) = draft.work.storage() else { continue };
            let storage = &mut self.storages[storage];
            if storage.place.is_some() {
                continue;
            }
            taken.retain(|&(_, _, last_use)| last_use >= step);
            let length = storage.bytes.div_ceil(LINE_BYTES);
            let mut line = 0usize;
            let mut at = taken.len();
            for (index, &(start, end, _)) in taken.iter().enumerate() {
                if start >= line && start - line >= length {
                    at = index;
                    break;
                }
                line = line.max(end);
            }
            let end = line.checked_add(length).ok_or_else(|| unsupported("a function of this size"))?;
            taken.insert(at, (line, end, storage.last_use));
            total = total.max(end);
            storage.place = Some(Place::Planned { line, bytes: storage.bytes });
        }
        Ok(total)
    }
}

/// The region of a chain.
fn fused(chain: Chain) -> Result<Fused, RuntimeError> {
    let region = chain.region().ok_or_else(|| unsupported("an operand of unknown size"))?;
    Ok(Fused { region, ops: chain.ops })
}
