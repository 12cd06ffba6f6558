//! Constants of a prepared function that take other values between runs.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::bind;
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
        // Types are inferred from axes, shapes, flags and names, never from floating-point values.
        let floats = specialized.constants.iter().filter(|(_, value)| value.dtype().is_float());
        let mut readers: HashMap<ValueId, Vec<OpId>> = floats.map(|(&id, _)| (id, Vec::new())).collect();
        let function = specialized.function();
        for &op in &function.body.ops {
            for (_, argument) in function.op(op).arguments.iter() {
                for id in argument.values() {
                    if let Some(ops) = readers.get_mut(&id)
                        && ops.last() != Some(&op)
                    {
                        ops.push(op);
                    }
                }
            }
        }
        ReplaceableConstants { owner: OWNERS.fetch_add(1, Ordering::Relaxed), readers }
    }

    /// The handle of the constant that `name` binds.
    ///
    /// # Errors
    ///
    /// When no constant has this name, or types may have been inferred from its value.
    pub fn handle(&self, specialized: &Specialized, name: &str) -> Result<ConstantHandle, RuntimeError> {
        let value = specialized.function().value_named(name);
        let value = value.filter(|id| specialized.constants.contains_key(id));
        let value = value.ok_or_else(|| RuntimeError::Interface(format!("no constant is named `{name}`")))?;
        if !self.readers.contains_key(&value) {
            let message = format!("the constant `{name}` shapes the prepared function");
            return Err(RuntimeError::Interface(message));
        }
        Ok(ConstantHandle { owner: self.owner, value })
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
        let (Some(readers), Some(held)) = (readers, specialized.constants.get_mut(&id)) else {
            let message = "the handle is of a constant of another prepared function".to_string();
            return Err(RuntimeError::Interface(message));
        };
        if held.dtype() != value.dtype() || held.shape() != value.shape() {
            let (declared, given) = (held.ty(), value.ty());
            let name = &specialized.function().value(id).name;
            let message = format!("the constant `{name}` is {declared}, {given} was given");
            return Err(RuntimeError::Interface(message));
        }
        let old = std::mem::replace(held, value);
        match accepted(specialized, readers) {
            Ok(()) => Ok((id, old)),
            Err(error) => {
                specialized.constants.insert(id, old);
                Err(error)
            }
        }
    }
}

/// Asks the type rules of ops whether they accept their operands.
fn accepted(specialized: &Specialized, ops: &[OpId]) -> Result<(), RuntimeError> {
    let function = specialized.function();
    for &id in ops {
        if let Some(row) = specialized.program.row(specialized.function, id) {
            let operands = bind::operands(function.op(id), row, specialized);
            operands
                .and_then(|operands| (row.infer)(&operands))
                .map_err(|error| op_error(function, id, error))?;
        }
    }
    Ok(())
}
