//! Constants of a prepared function that take other values between runs.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::bind;
use crate::ops::refine_type;
use crate::program::{OpId, ValueId};
use crate::runtime::{ConstantHandle, RuntimeError};
use crate::specialize::{Specialized, op_error};
use crate::tensor::Tensor;

/// The constants of one prepared function that can be replaced, each with the ops that read it.
///
/// Those are found once, so that a replacement asks only them whether they accept the new value. A backend keeps
/// this beside its [`Specialized`].
#[derive(Debug)]
pub struct ReplaceableConstants {
    /// Tells the handles of one prepared function from those of others.
    owner: u64,
    readers: HashMap<ValueId, Vec<OpId>>,
}

impl ReplaceableConstants {
    /// The constants of a function that can be replaced: those of floating point.
    pub fn new(specialized: &Specialized) -> ReplaceableConstants {
        static OWNERS: AtomicU64 = AtomicU64::new(0);
        // Types are inferred from axes, shapes, flags and names; of floating-point values, only from a range's, which
        // its op is asked for at each replacement.
        let floats = specialized.facts.constants().filter(|(_, value)| value.dtype().is_float());
        let uses = specialized.function().uses();
        let readers = floats.map(|(id, _)| (id, uses.ops(id).to_vec())).collect();
        ReplaceableConstants { owner: OWNERS.fetch_add(1, Ordering::Relaxed), readers }
    }

    /// The handle of the constant that `name` binds.
    ///
    /// # Errors
    ///
    /// When no constant has this name, or types may have been inferred from its value.
    pub fn handle(&self, specialized: &Specialized, name: &str) -> Result<ConstantHandle, RuntimeError> {
        let value = specialized.function().value_named(name);
        let is_known = |id: &ValueId| specialized.facts.constant(*id).is_some() || specialized.is_left(*id);
        let value = value.filter(is_known);
        let value = value.ok_or_else(|| RuntimeError::Interface(format!("no constant is named `{name}`")))?;
        if !self.readers.contains_key(&value) {
            return Err(shapes(name));
        }
        Ok(ConstantHandle { owner: self.owner, value })
    }

    /// The handle of a constant by its id, if it can be replaced.
    pub fn handle_of(&self, value: ValueId) -> Option<ConstantHandle> {
        self.readers.contains_key(&value).then_some(ConstantHandle { owner: self.owner, value })
    }

    /// Gives a constant another value, and returns the constant's id with the value it had.
    ///
    /// # Errors
    ///
    /// When the handle is of another prepared function, the type is not the constant's, or an op that reads it
    /// does not accept the value; the constant is then what it was.
    pub fn replace(
        &self,
        specialized: &mut Specialized,
        handle: ConstantHandle,
        value: Arc<Tensor>,
    ) -> Result<(ValueId, Arc<Tensor>), RuntimeError> {
        let id = handle.value;
        let readers = self.readers.get(&id).filter(|_| handle.owner == self.owner);
        let (Some(readers), Some(held)) = (readers, specialized.facts.constant(id).cloned()) else {
            let message = "the handle is of a constant of another prepared function".to_string();
            return Err(RuntimeError::Interface(message));
        };
        if held.dtype() != value.dtype() || held.shape() != value.shape() {
            let (declared, given) = (held.ty(), value.ty());
            let name = &specialized.function().value(id).name;
            let message = format!("the constant `{name}` is {declared}, {given} was given");
            return Err(RuntimeError::Interface(message));
        }
        specialized.facts.set_constant(id, Some(value));
        match accepted(specialized, id, readers) {
            Ok(()) => Ok((id, held)),
            Err(error) => {
                specialized.facts.set_constant(id, Some(held));
                Err(error)
            }
        }
    }
}

/// Asks the type rules of ops that read a constant whether they accept it, and give the types they gave before.
fn accepted(specialized: &Specialized, constant: ValueId, readers: &[OpId]) -> Result<(), RuntimeError> {
    let function = specialized.function();
    for &id in readers {
        let Some(row) = specialized.row(id) else { continue };
        let op = function.op(id);
        let inferred = bind::operands(op, row, specialized)
            .and_then(|operands| row.result_types(&operands, &specialized.facts.block_types(op)));
        let inferred = inferred.map_err(|error| op_error(function, id, error))?;
        for (result, ty) in op.results.iter().zip(&inferred) {
            if refine_type(specialized.facts.ty(*result), ty).is_none() {
                return Err(shapes(&function.value(constant).name));
            }
        }
    }
    Ok(())
}

fn shapes(constant: &str) -> RuntimeError {
    RuntimeError::Interface(format!("the constant `{constant}` shapes the prepared function"))
}
