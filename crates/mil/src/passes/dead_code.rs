//! Leaving out ops that nothing needs.

use super::{PassError, Rewritten, rewrite};
use crate::ops;
use crate::program::{Function, Op};
use crate::types::Opset;
use crate::verify::{CONST, Verified, count};

/// Leaves out every op whose results nothing needs and that has no effect, those in nested blocks too. What an op with
/// blocks gives stays as long as the op does.
///
/// # Errors
///
/// None for a program that was read or built; should the result not verify, what is wrong with it.
pub fn dead_code(program: &Verified) -> Result<Rewritten, PassError> {
    rewrite(program, |_, function| {
        let live = needed(function);
        let dead = function.walk().filter(|(id, _)| !live[id.index()]).count();
        function.retain_ops(|id| live[id.index()]);
        Ok(if dead == 0 {
            Vec::new()
        } else {
            vec![format!("{} left out that nothing needs", count(dead, "op"))]
        })
    })
}

/// For each op of a function whether the pass keeps it.
pub(super) fn needed(function: &Function) -> Vec<bool> {
    let opset = function.opset;
    // What an op that is not known does is not known either.
    function.live(|op| has_effect(op, opset) || !is_known(op, opset))
}

fn is_known(op: &Op, opset: Opset) -> bool {
    op.name == CONST || ops::lookup(&op.name, op.opset.unwrap_or(opset)).is_some()
}

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
