//! What is known of a function before it runs.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use anemone_mil::bind::{self, Scope};
use anemone_mil::eval::{Budget, Evaluation};
use anemone_mil::ops::Operand;
use anemone_mil::program::{Argument, BlobReference, Literal, LiteralValue, Op, ValueId};
use anemone_mil::runtime::RuntimeError;
use anemone_mil::specialize::{Specialized, op_error};
use anemone_mil::tensor::Tensor;
use anemone_mil::types::TensorType;
use anemone_mil::verify::CONST;

/// A function's constants, and the results of ops that only decompress constants.
pub struct Constants {
    specialized: Specialized,
    derived: HashMap<ValueId, Arc<Tensor>>,
}

/// What a change of a constant replaced.
pub struct Replaced {
    id: ValueId,
    old: Option<Arc<Tensor>>,
    derived: HashMap<ValueId, Arc<Tensor>>,
}

impl Constants {
    /// The constants of a function.
    pub fn new(mut specialized: Specialized) -> Result<Constants, RuntimeError> {
        drop_blobs_of_constants(&mut specialized);
        let mut constants = Constants { specialized, derived: HashMap::new() };
        constants.derive(None)?;
        Ok(constants)
    }

    /// Gives a constant another value. Gives what changed, and what it was before.
    pub fn replace(
        &mut self,
        name: &str,
        value: &Tensor,
    ) -> Result<(HashSet<ValueId>, Replaced), RuntimeError> {
        let id = self.specialized.function().value_named(name);
        let old = id.and_then(|id| self.specialized.constants.get(&id)).cloned();
        let derived = self.derived.clone();
        let id = self.specialized.set_constant(name, value)?;
        let replaced = Replaced { id, old, derived };
        match self.derive(Some(id)) {
            Ok(changed) => Ok((changed, replaced)),
            Err(error) => {
                self.restore(replaced);
                Err(error)
            }
        }
    }

    /// Takes a change back.
    pub fn restore(&mut self, Replaced { id, old, derived }: Replaced) {
        self.specialized.constants.extend(old.map(|old| (id, old)));
        self.derived = derived;
    }

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
    fn derive(&mut self, changed: Option<ValueId>) -> Result<HashSet<ValueId>, RuntimeError> {
        let mut made: HashSet<ValueId> = changed.into_iter().collect();
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
                made.insert(result);
            }
        }
        self.derived = derived;
        Ok(made)
    }
}

/// Whether an op has one of these values as an argument.
pub fn reads(op: &Op, ids: &HashSet<ValueId>) -> bool {
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

/// Constants own what was read for them; only literals inside other ops still look blobs up.
fn drop_blobs_of_constants(specialized: &mut Specialized) {
    fn literals(argument: &Argument) -> Vec<&Literal> {
        match argument {
            Argument::Literal(literal) => vec![literal],
            Argument::Tuple(items) => items.iter().flat_map(literals).collect(),
            Argument::Value(_) => Vec::new(),
        }
    }
    if specialized.blobs.is_empty() {
        return;
    }
    let mut needed = HashSet::new();
    for op in specialized.function().ops.iter().filter(|op| op.name != CONST) {
        let arguments = op.arguments.iter().flat_map(|(_, argument)| literals(argument));
        for literal in arguments.chain(op.attributes.iter().map(|(_, literal)| literal)) {
            if let LiteralValue::Blob(reference) = &literal.value {
                needed.insert(reference.clone());
            }
        }
    }
    specialized.blobs.retain(|(reference, _), _| needed.contains(reference));
}
