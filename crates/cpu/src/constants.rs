//! What is known of a function before it runs.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use anemone_mil::bind::{self, Scope};
use anemone_mil::constants::ReplaceableConstants;
use anemone_mil::eval::{Budget, Evaluation};
use anemone_mil::ops::Operand;
use anemone_mil::program::{BlobReference, Op, OpId, ValueId};
use anemone_mil::runtime::{ConstantHandle, RuntimeError};
use anemone_mil::specialize::{Specialized, op_error};
use anemone_mil::tensor::Tensor;
use anemone_mil::types::TensorType;
use anemone_mil::weights::WeightSource;

use crate::compressed::Compressed;
use crate::memory::element_bytes;
use crate::plan::unsupported;
use crate::rows::{GATHER, gathers_rows};
use crate::threads::Threads;

/// A function's constants, and the results of ops that only decompress constants.
///
/// These are dense, as long as they do not take more memory together than they may. Otherwise the largest of those that are
/// stored in a form that is known, and that only products and gathers of rows read, are decoded in each run.
pub(crate) struct Constants {
    specialized: Specialized,
    replaceable: ReplaceableConstants,
    derived: HashMap<ValueId, Derived>,
    /// The ops that decompress constants, in order.
    decompressions: Vec<OpId>,
    /// Of them, those that depend on each constant, in order.
    dependent: HashMap<ValueId, Vec<OpId>>,
}

/// What an op makes of constants.
#[derive(Clone)]
struct Derived {
    /// The op.
    op: OpId,
    /// How it is stored, if that is a form that is known.
    compressed: Option<Arc<Compressed>>,
    /// The value; `None` where it is decoded in each run.
    dense: Option<Arc<Tensor>>,
}

/// What a change of a constant replaced.
pub(crate) struct Replaced {
    id: ValueId,
    old: Arc<Tensor>,
    /// What was derived from it.
    derived: Vec<(ValueId, Derived)>,
}

impl Replaced {
    /// The constant that was changed.
    pub(crate) fn id(&self) -> ValueId {
        self.id
    }
}

impl Constants {
    /// The constants of a function, which [`Specialized::leaving_compressed`] settled; decompressed ones may take so many
    /// bytes.
    pub(crate) fn new(
        specialized: Specialized,
        weights: &dyn WeightSource,
        most_dense: usize,
        threads: &Threads,
    ) -> Result<Constants, RuntimeError> {
        let row = |&id: &OpId| specialized.row(id);
        let ops = specialized.function().body.ops.iter().copied();
        let decompressions: Vec<OpId> = ops.filter(|id| row(id).is_some_and(|row| row.constexpr)).collect();
        let mut constants = Constants {
            replaceable: ReplaceableConstants::new(&specialized),
            specialized,
            derived: HashMap::new(),
            decompressions: decompressions.clone(),
            dependent: HashMap::new(),
        };
        for &id in &decompressions {
            constants.make_operands_dense(id, threads)?;
            let read = constants.specialized.read_left(id, weights)?;
            if constants.compress(id)? {
                constants.specialized.forget(read);
            } else {
                constants.evaluate(id)?;
            }
        }
        for id in constants.to_be_dense(most_dense) {
            constants.make_dense(id, threads)?;
        }
        let roots = constants.roots();
        for &id in &constants.decompressions {
            for root in roots_of(constants.specialized.function().op(id), &roots) {
                constants.dependent.entry(root).or_default().push(id);
            }
        }
        Ok(constants)
    }

    /// Those of the ops whose results are known in their stored form that are decoded once and for all: all but the largest.
    fn to_be_dense(&self, most: usize) -> Vec<OpId> {
        let function = self.specialized.function();
        let bytes = |id: OpId| {
            let stored = self.compressed_by(id)?;
            Some(stored.len().saturating_mul(element_bytes(stored.dtype())))
        };
        let known = self.decompressions.iter().filter_map(|&id| Some((bytes(id)?, id)));
        let mut known: Vec<(usize, OpId)> = known.collect();
        known.sort_unstable();
        let uses = function.uses();
        let body: HashSet<OpId> = function.body.ops.iter().copied().collect();
        let may_stay = |id: OpId| {
            function.op(id).results.iter().all(|&result| {
                let decodes = |reader: &OpId| body.contains(reader) && self.decodes(*reader, result);
                uses.yielded(result) == 0 && uses.ops(result).iter().all(decodes)
            })
        };
        let mut left = most;
        let is_dense = |&(bytes, id): &(usize, OpId)| match left.checked_sub(bytes) {
            Some(rest) => {
                left = rest;
                true
            }
            None => !may_stay(id),
        };
        known.into_iter().filter(is_dense).map(|(_, id)| id).collect()
    }

    /// The constants that each value known before the run is made of; a constant is made of itself.
    pub(crate) fn roots(&self) -> HashMap<ValueId, Vec<ValueId>> {
        let function = self.specialized.function();
        let mut roots: HashMap<ValueId, Vec<ValueId>> =
            self.specialized.facts.constants().map(|(id, _)| (id, vec![id])).collect();
        for &id in &self.decompressions {
            let op = function.op(id);
            let of_op = roots_of(op, &roots);
            roots.extend(op.results.iter().map(|&result| (result, of_op.clone())));
        }
        roots
    }

    /// The handle of a constant.
    pub(crate) fn handle(&self, name: &str) -> Result<ConstantHandle, RuntimeError> {
        self.replaceable.handle(&self.specialized, name)
    }

    /// The handle of a constant by its id, if it can be replaced here.
    pub(crate) fn handle_of(&self, id: ValueId) -> Option<ConstantHandle> {
        self.replaceable.handle_of(id)
    }

    /// Gives a constant another value, and derives again what depends on it. Gives what that replaced.
    pub(crate) fn replace(
        &mut self,
        handle: ConstantHandle,
        value: Arc<Tensor>,
        threads: &Threads,
    ) -> Result<Replaced, RuntimeError> {
        let (id, old) = self.replaceable.replace(&mut self.specialized, handle, value)?;
        let mut replaced = Replaced { id, old, derived: Vec::new() };
        for op in self.dependent.get(&id).cloned().unwrap_or_default() {
            let results = &self.specialized.function().op(op).results;
            let derived = results.iter().filter_map(|id| Some((*id, self.derived.get(id)?.clone())));
            replaced.derived.extend(derived);
            if let Err(error) = self.derive_again(op, threads) {
                self.restore(replaced);
                return Err(error);
            }
        }
        Ok(replaced)
    }

    /// Takes a change back.
    pub(crate) fn restore(&mut self, Replaced { id, old, derived }: Replaced) {
        self.specialized.facts.set_constant(id, Some(old));
        // The first of several is what was there before all.
        self.derived.extend(derived.into_iter().rev());
    }

    /// The function and its `const` values.
    pub(crate) fn specialized(&self) -> &Specialized {
        &self.specialized
    }

    /// The value of a constant that is dense in memory.
    pub(crate) fn get(&self, id: ValueId) -> Option<&Arc<Tensor>> {
        self.specialized.facts.constant(id).or_else(|| self.derived.get(&id)?.dense.as_ref())
    }

    /// A constant that is decoded in each run.
    pub(crate) fn compressed(&self, id: ValueId) -> Option<&Arc<Compressed>> {
        self.derived.get(&id).filter(|derived| derived.dense.is_none())?.compressed.as_ref()
    }

    /// The op that decompresses a constant.
    pub(crate) fn decompression(&self, id: ValueId) -> Option<OpId> {
        self.derived.get(&id).map(|derived| derived.op)
    }

    /// Every constant.
    pub(crate) fn ids(&self) -> impl Iterator<Item = ValueId> {
        let count = self.specialized.function().values.len() as u32;
        (0..count).map(ValueId).filter(|&id| self.get(id).is_some())
    }

    /// Whether an op reads a constant in such a way that its stored form will do: it multiplies matrices, or takes rows.
    fn decodes(&self, id: OpId, constant: ValueId) -> bool {
        let op = self.specialized.function().op(id);
        let Some(row) = self.specialized.row(id) else { return false };
        match row.name {
            "linear" | "conv" | "matmul" => true,
            GATHER => bind::operands(op, row, self).is_ok_and(|given| gathers_rows(row, &given, constant)),
            _ => false,
        }
    }

    /// The stored form of the only result of an op, if that is known.
    fn compressed_by(&self, id: OpId) -> Option<&Arc<Compressed>> {
        let [result] = self.specialized.function().op(id).results[..] else { return None };
        self.derived.get(&result)?.compressed.as_ref()
    }

    /// Keeps the stored form of what an op decompresses, if that is known.
    fn compress(&mut self, id: OpId) -> Result<bool, RuntimeError> {
        let function = self.specialized.function();
        let (op, row) = (function.op(id), self.specialized.row(id));
        let ([result], Some(row)) = (&op.results[..], row) else { return Ok(false) };
        let (Some(ty), old) = (self.specialized.ty(*result), self.compressed_by(id)) else {
            return Ok(false);
        };
        let compressed = bind::operands(op, row, self)
            .and_then(|operands| Compressed::of(row, &operands, &ty, old.map(AsRef::as_ref)))
            .map_err(|error| op_error(function, id, error))?;
        let Some(compressed) = compressed else { return Ok(false) };
        self.derived.insert(*result, Derived { op: id, compressed: Some(Arc::new(compressed)), dense: None });
        Ok(true)
    }

    /// Decodes those results of other ops that an op reads.
    fn make_operands_dense(&mut self, id: OpId, threads: &Threads) -> Result<(), RuntimeError> {
        let reads = self.specialized.function().op(id).reads();
        let stored: Vec<ValueId> = reads.filter(|&value| self.compressed(value).is_some()).collect();
        let makers: Vec<OpId> = stored.into_iter().filter_map(|value| self.decompression(value)).collect();
        makers.into_iter().try_for_each(|maker| self.make_dense(maker, threads))
    }

    /// Decodes what an op decompresses.
    fn make_dense(&mut self, id: OpId, threads: &Threads) -> Result<(), RuntimeError> {
        let Some(compressed) = self.compressed_by(id).cloned() else { return Ok(()) };
        let dense = compressed.dense(threads).map(Arc::new);
        let dense = dense.ok_or_else(|| unsupported("a function that needs this much memory"))?;
        for &result in &self.specialized.function().op(id).results {
            let derived =
                Derived { op: id, compressed: Some(compressed.clone()), dense: Some(dense.clone()) };
            self.derived.insert(result, derived);
        }
        Ok(())
    }

    /// Computes the results of an op that decompresses a constant by its meaning.
    fn evaluate(&mut self, id: OpId) -> Result<(), RuntimeError> {
        let function = self.specialized.function();
        let op = function.op(id);
        let Some(row) = self.specialized.row(id) else { return Ok(()) };
        let mut evaluation = Evaluation::new(Budget::ORDINARY);
        let tensors = bind::operands(op, row, self)
            .and_then(|operands| row.apply(&operands, &mut evaluation))
            .map_err(|error| op_error(function, id, error))?;
        for (&result, tensor) in op.results.iter().zip(tensors) {
            self.derived.insert(result, Derived { op: id, compressed: None, dense: Some(Arc::new(tensor)) });
        }
        Ok(())
    }

    /// Derives the results of an op that decompresses a constant from other operands than before.
    fn derive_again(&mut self, id: OpId, threads: &Threads) -> Result<(), RuntimeError> {
        let Some(&result) = self.specialized.function().op(id).results.first() else { return Ok(()) };
        if self.compressed_by(id).is_none() {
            return self.evaluate(id);
        }
        let was_dense = self.compressed(result).is_none();
        self.compress(id)?;
        if was_dense { self.make_dense(id, threads) } else { Ok(()) }
    }
}

/// The constants that an op's operands are made of.
pub(crate) fn roots_of(op: &Op, roots: &HashMap<ValueId, Vec<ValueId>>) -> Vec<ValueId> {
    let mut all: Vec<ValueId> = op.reads().filter_map(|id| roots.get(&id)).flatten().copied().collect();
    all.sort_unstable();
    all.dedup();
    all
}

impl Scope for Constants {
    fn value(&self, id: ValueId) -> Option<Operand> {
        let known = self.specialized.value(id)?;
        match self.derived.get(&id).and_then(|derived| derived.dense.as_ref()) {
            Some(value) => Some(Operand { constant: true, value: Some(value.clone()), ..known }),
            None => Some(known),
        }
    }

    fn blob(&self, reference: &BlobReference, ty: &TensorType) -> Option<Arc<Tensor>> {
        self.specialized.blob(reference, ty)
    }
}
