//! Leaving out ops that nothing needs.

use crate::ops;
use crate::program::{Function, Op};
use crate::types::Opset;

/// Whether an op does more than give its results, as its row in this opset says.
pub(crate) fn has_effect(op: &Op, opset: Opset) -> bool {
    ops::lookup(&op.name, op.opset.unwrap_or(opset)).is_some_and(|row| row.stateful)
}

/// Takes out of the blocks every op whose results nothing needs and that writes no state. Gives their number.
///
/// An op that is not known here counts as one without effect.
pub fn remove_dead_code(function: &mut Function) -> usize {
    let opset = function.opset;
    let live = function.live(|op| has_effect(op, opset));
    let before = function.walk().count();
    function.retain_ops(|id| live[id.index()]);
    before - function.walk().count()
}
