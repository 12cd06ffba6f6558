//! Values that are known before the run although they are no constants: dimensions, and what is computed from them and
//! from constants.

use std::collections::HashMap;
use std::sync::Arc;

use crate::bind::{Facts, Scope};
use crate::eval::{Budget, Evaluation};
use crate::ops::{OpDef, Operand, Operands};
use crate::program::{BlobReference, Op, ValueId};
use crate::tensor::Tensor;
use crate::types::{TensorType, Type};

/// The most elements of an operand or a result that is looked at: shapes are short.
const MOST_ELEMENTS: u64 = 1 << 12;
/// What the computation of one op may cost.
const OP_BUDGET: Budget = Budget { elements: 1 << 14, work: 1 << 16 };

/// The values that are known.
pub(super) struct KnownValues {
    values: HashMap<ValueId, Arc<Tensor>>,
    /// Whether those of floating point count. They may not where constants of floating point are replaced later.
    floats: bool,
}

impl KnownValues {
    pub(super) fn new(floats: bool) -> KnownValues {
        KnownValues { values: HashMap::new(), floats }
    }

    /// What is known of values, these included.
    pub(super) fn over<'a>(&'a self, facts: &'a Facts) -> impl Scope + 'a {
        KnownScope { facts, known: self }
    }

    /// Computes the results of an op, of these types, if they follow from what is known now; in a loop that is less
    /// than before where a round changes dimensions.
    pub(super) fn compute(&mut self, op: &Op, row: &OpDef, operands: &Operands<'_>, types: &[Type]) {
        op.results.iter().for_each(|result| drop(self.values.remove(result)));
        if row.stateful
            || row.constexpr
            || row.gives_list
            || row.gives_dictionary
            || row.blocks.is_some()
            || op.results.is_empty()
        {
            return;
        }
        let counts = |ty: &TensorType| {
            ty.shape.elements().is_some_and(|elements| elements <= MOST_ELEMENTS)
                && (self.floats || !ty.dtype.is_float())
        };
        let mut given = operands.iter().peekable();
        let known = if row.from_types {
            given.all(|operand| operand.ty.shape.elements().is_some())
        } else {
            given.peek().is_some() && given.all(|operand| operand.value.is_some() && counts(&operand.ty))
        };
        if !known || !types.iter().all(|ty| ty.as_tensor().is_some_and(|ty| counts(&ty))) {
            return;
        }
        // What fails here fails in the run, with an error that says where.
        if let Ok(results) = row.apply(operands, &mut Evaluation::new(OP_BUDGET)) {
            self.values.extend(op.results.iter().copied().zip(results.into_iter().map(Arc::new)));
        }
    }
}

/// The facts with the values that are known.
struct KnownScope<'a> {
    facts: &'a Facts,
    known: &'a KnownValues,
}

impl Scope for KnownScope<'_> {
    fn value(&self, id: ValueId) -> Option<Operand> {
        let mut operand = self.facts.value(id)?;
        if operand.value.is_none() {
            operand.value = self.known.values.get(&id).cloned();
        }
        Some(operand)
    }

    fn blob(&self, reference: &BlobReference, ty: &TensorType) -> Option<Arc<Tensor>> {
        self.facts.blob(reference, ty)
    }
}
