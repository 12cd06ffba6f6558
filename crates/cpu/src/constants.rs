//! What is known of a function before it runs.

use std::collections::HashMap;
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

/// A function's constants, and the results of ops that only decompress constants.
pub(crate) struct Constants {
    specialized: Specialized,
    replaceable: ReplaceableConstants,
    derived: HashMap<ValueId, Arc<Tensor>>,
    /// The ops that decompress constants, in order.
    decompressions: Vec<OpId>,
    /// Of them, those that depend on each constant, in order.
    dependent: HashMap<ValueId, Vec<OpId>>,
}

/// What a change of a constant replaced.
pub(crate) struct Replaced {
    /// The constant, and what was derived from it.
    values: Vec<(ValueId, Arc<Tensor>)>,
    id: ValueId,
}

impl Replaced {
    /// The constant that was changed.
    pub(crate) fn id(&self) -> ValueId {
        self.id
    }
}

impl Constants {
    /// The constants of a function.
    pub(crate) fn new(specialized: Specialized) -> Result<Constants, RuntimeError> {
        let row = |&id: &OpId| specialized.row(id);
        let ops = specialized.function().body.ops.iter().copied();
        let decompressions = ops.filter(|id| row(id).is_some_and(|row| row.constexpr)).collect();
        let mut constants = Constants {
            replaceable: ReplaceableConstants::new(&specialized),
            specialized,
            derived: HashMap::new(),
            decompressions,
            dependent: HashMap::new(),
        };
        for id in constants.decompressions.clone() {
            constants.decompress(id)?;
        }
        let roots = constants.roots();
        for &id in &constants.decompressions {
            for root in roots_of(constants.specialized.function().op(id), &roots) {
                constants.dependent.entry(root).or_default().push(id);
            }
        }
        Ok(constants)
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
    ) -> Result<Replaced, RuntimeError> {
        let (id, old) = self.replaceable.replace(&mut self.specialized, handle, value)?;
        let mut replaced = Replaced { values: vec![(id, old)], id };
        for op in self.dependent.get(&id).cloned().unwrap_or_default() {
            match self.decompress(op) {
                Ok(old) => replaced.values.extend(old),
                Err(error) => {
                    self.restore(replaced);
                    return Err(error);
                }
            }
        }
        Ok(replaced)
    }

    /// Takes a change back.
    pub(crate) fn restore(&mut self, Replaced { values, id }: Replaced) {
        for (value, tensor) in values {
            if value == id {
                self.specialized.facts.set_constant(value, Some(tensor));
            } else {
                self.derived.insert(value, tensor);
            }
        }
    }

    /// The function and its `const` values.
    pub(crate) fn specialized(&self) -> &Specialized {
        &self.specialized
    }

    /// The value of a constant.
    pub(crate) fn get(&self, id: ValueId) -> Option<&Arc<Tensor>> {
        self.specialized.facts.constant(id).or_else(|| self.derived.get(&id))
    }

    /// Every constant.
    pub(crate) fn ids(&self) -> impl Iterator<Item = ValueId> {
        let count = self.specialized.function().values.len() as u32;
        (0..count).map(ValueId).filter(|&id| self.get(id).is_some())
    }

    /// Computes the results of an op that decompresses a constant. Gives the values that they had.
    fn decompress(&mut self, id: OpId) -> Result<Vec<(ValueId, Arc<Tensor>)>, RuntimeError> {
        let function = self.specialized.function();
        let op = function.op(id);
        let Some(row) = self.specialized.row(id) else { return Ok(Vec::new()) };
        let mut evaluation = Evaluation::new(Budget::ORDINARY);
        let tensors = bind::operands(op, row, self)
            .and_then(|operands| row.apply(&operands, &mut evaluation))
            .map_err(|error| op_error(function, id, error))?;
        let mut replaced = Vec::new();
        for (&result, tensor) in op.results.iter().zip(tensors) {
            let old = self.derived.insert(result, Arc::new(tensor));
            replaced.extend(old.map(|old| (result, old)));
        }
        Ok(replaced)
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
        match self.derived.get(&id) {
            Some(value) => Some(Operand { constant: true, value: Some(value.clone()), ..known }),
            None => Some(known),
        }
    }

    fn blob(&self, reference: &BlobReference, ty: &TensorType) -> Option<Arc<Tensor>> {
        self.specialized.blob(reference, ty)
    }
}
