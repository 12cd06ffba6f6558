//! What backward takes of forward: saved, or computed again.
//!
//! Between the function's inputs and the ops of the gradient lies a network of values. A cut of it is a set of values
//! that forward saves; from them backward computes again what else it needs. The bytes of the cut are the least of all
//! cuts in which no product, convolution or reduction is computed twice: only ops that compute element by element or
//! move data are, and those of values that are to be computed again, which no cut holds. Inputs, constants and the
//! function's other results cost nothing: backward can have them anyway.

use std::collections::HashSet;

use crate::bind::{self, Facts};
use crate::grad::Pair;
use crate::grad::cut::{Network, UNBOUNDED};
use crate::ops;
use crate::program::{Function, Op, OpId, ValueId};
use crate::types::TensorType;
use crate::verify::CONST;

/// Splits a function to whose first `own_ops` ops the gradient was appended. `cotangents` are the gradients of its
/// results, which the appended ops read, `gradients` what backward is to give, and `recompute` the values that it
/// computes again.
pub(super) fn partition(
    joint: &Function,
    own_ops: usize,
    cotangents: &[ValueId],
    gradients: &[ValueId],
    recompute: &HashSet<ValueId>,
) -> Pair {
    let is_own = |id: OpId| id.index() < own_ops;
    let backward_ops = needed(joint, gradients, |_| true, &HashSet::new());
    let (facts, forward) = (Facts::of(joint), forward_values(joint, own_ops));
    let split = Split { joint, own_ops, facts, forward, recompute };
    let read: HashSet<ValueId> = backward_ops
        .iter()
        .filter(|&&id| !is_own(id))
        .flat_map(|&id| joint.op(id).reads())
        .chain(gradients.iter().copied())
        .filter(|value| split.forward[value.index()])
        .collect();
    let saved = split.saved(&read);
    let available: HashSet<ValueId> =
        saved.iter().copied().chain(joint.body.inputs.iter().copied()).collect();
    let ops = needed(joint, gradients, |id| !is_own(id) || split.may_repeat(joint.op(id)), &available);
    Pair { forward: split.forward(&saved), backward: split.backward(&ops, cotangents, gradients, &saved) }
}

/// The ops that `wanted` values need, in no order: those for which `include` holds, back to what is `available`.
fn needed(
    function: &Function,
    wanted: &[ValueId],
    include: impl Fn(OpId) -> bool,
    available: &HashSet<ValueId>,
) -> HashSet<OpId> {
    let mut maker = vec![None; function.values.len()];
    for &id in &function.body.ops {
        function.op(id).results.iter().for_each(|result| maker[result.index()] = Some(id));
    }
    let mut ops = HashSet::new();
    let mut pending: Vec<ValueId> = wanted.to_vec();
    while let Some(value) = pending.pop() {
        let Some(id) = maker[value.index()].filter(|&id| include(id) && !available.contains(&value)) else {
            continue;
        };
        if ops.insert(id) {
            pending.extend(function.op(id).reads());
            pending.extend(function.op(id).blocks.iter().flat_map(|block| function.captures(block)));
        }
    }
    ops
}

struct Split<'a> {
    joint: &'a Function,
    own_ops: usize,
    facts: Facts,
    /// For each value whether it is an input of the function or a result of one of its own ops.
    forward: Vec<bool>,
    /// The values that are never saved.
    recompute: &'a HashSet<ValueId>,
}

/// For each value of a function whether it is an input, or a result of one of the first ops.
fn forward_values(function: &Function, own_ops: usize) -> Vec<bool> {
    let mut forward = vec![false; function.values.len()];
    let own = function.body.ops.iter().filter(|id| id.index() < own_ops);
    let results = own.flat_map(|&id| &function.op(id).results);
    function.body.inputs.iter().chain(results).for_each(|id| forward[id.index()] = true);
    forward
}

impl Split<'_> {
    /// The function's own ops, as they run.
    fn own(&self) -> impl Iterator<Item = &Op> {
        self.joint.body.ops.iter().filter(|id| id.index() < self.own_ops).map(|&id| self.joint.op(id))
    }

    /// Whether an op may be computed again in backward: a constant, one that only moves data or computes element by
    /// element, or that of a value that is to be computed again.
    fn may_repeat(&self, op: &Op) -> bool {
        if op.name == CONST || op.results.iter().any(|result| self.recompute.contains(result)) {
            return true;
        }
        let Some(row) = ops::lookup(&op.name, op.opset.unwrap_or(self.joint.opset)) else { return false };
        if row.stateful || !op.blocks.is_empty() {
            return false;
        }
        let results: Option<Vec<TensorType>> =
            op.results.iter().map(|&result| self.facts.ty(result).held_tensor()).collect();
        let moves = || {
            let operands = bind::operands(op, row, &self.facts).ok()?;
            (row.flops)(&operands, &results?)
        };
        row.constexpr || row.elementwise || moves() == Some(0)
    }

    /// The size of a value in bytes; a dimension that is not known counts as very long.
    fn bytes(&self, value: ValueId) -> u64 {
        let ty = self.facts.ty(value).held_tensor();
        let bits =
            ty.and_then(|ty| Some(ty.shape.elements()?.saturating_mul(u64::from(ty.dtype.bits().max(1)))));
        bits.map_or(1 << 40, |bits| bits.div_ceil(8).max(1))
    }

    /// The results of the function's own ops that forward saves for what `read` needs, in order.
    fn saved(&self, read: &HashSet<ValueId>) -> Vec<ValueId> {
        let function = self.joint;
        let outputs: HashSet<ValueId> = function.body.outputs.iter().copied().collect();
        let (entry, exit) = (|id: ValueId| 2 + 2 * id.index(), |id: ValueId| 3 + 2 * id.index());
        let mut network = Network::new(2 + 2 * function.values.len());
        for &input in &function.body.inputs {
            network.connect(Network::SOURCE, entry(input), UNBOUNDED);
            network.connect(entry(input), exit(input), 0);
        }
        for op in self.own() {
            let repeats = self.may_repeat(op);
            for &result in &op.results {
                let free = op.name == CONST || outputs.contains(&result);
                // Saving costs a little more than nothing, so that what is free to make is not saved.
                let cost = match self.recompute.contains(&result) {
                    true => UNBOUNDED,
                    false if free => 0,
                    false => self.bytes(result).min(UNBOUNDED / 2),
                };
                network.connect(entry(result), exit(result), cost);
                if repeats {
                    op.reads().for_each(|read| network.connect(exit(read), entry(result), UNBOUNDED));
                } else {
                    network.connect(Network::SOURCE, entry(result), UNBOUNDED);
                }
            }
        }
        read.iter().for_each(|&value| network.connect(exit(value), Network::SINK, UNBOUNDED));
        let source_side = network.cut();
        let cut = |id: &ValueId| source_side[entry(*id)] && !source_side[exit(*id)];
        let results = self.own().filter(|op| op.name != CONST).flat_map(|op| op.results.iter().copied());
        results.filter(cut).collect()
    }

    /// The function, which returns the saved values after its own results.
    fn forward(&self, saved: &[ValueId]) -> Function {
        let mut forward = self.joint.clone();
        forward.body.ops.retain(|id| id.index() < self.own_ops);
        let more: Vec<ValueId> =
            saved.iter().copied().filter(|id| !forward.body.outputs.contains(id)).collect();
        forward.body.outputs.extend(more);
        crate::passes::remove_dead_code(&mut forward);
        forward.compact();
        forward
    }

    /// The ops of backward, with what they read from outside as inputs.
    fn backward(
        &self,
        ops: &HashSet<OpId>,
        cotangents: &[ValueId],
        gradients: &[ValueId],
        saved: &[ValueId],
    ) -> Function {
        let mut backward = self.joint.clone();
        backward.body.ops.retain(|id| ops.contains(id));
        let mut read: HashSet<ValueId> = gradients.iter().copied().collect();
        for (_, op) in backward.walk() {
            read.extend(op.reads());
        }
        let inputs = self.joint.body.inputs.iter().chain(saved).copied().filter(|id| read.contains(id));
        backward.body.inputs = cotangents.iter().copied().chain(inputs).collect();
        backward.body.outputs = gradients.to_vec();
        backward.attributes = Default::default();
        backward.compact();
        backward
    }
}
