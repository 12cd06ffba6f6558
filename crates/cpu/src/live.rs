//! Which ops the results of a function depend on, and what they read.

use anemone_mil::program::{Function, Op, OpId, ValueId};

/// The ops of a function that are run.
pub struct Live {
    /// The ops of its body, in order, without those on which neither an output nor a state depends.
    pub ops: Vec<OpId>,
    /// How many of them read each value, by its id; outputs of the function are read once more.
    pub readers: Vec<usize>,
}

impl Live {
    /// Goes through a function from its end. `is_stateful` says of which ops more than the results matters.
    pub fn new(function: &Function, is_stateful: impl Fn(OpId) -> bool) -> Live {
        let mut readers = vec![0; function.values.len()];
        function.body.outputs.iter().for_each(|value| readers[value.0 as usize] += 1);
        let mut ops = Vec::new();
        for &id in function.body.ops.iter().rev() {
            let op = function.op(id);
            let read = op.results.iter().any(|result| readers[result.0 as usize] > 0);
            if !read && !has_effect(function, id, &is_stateful) {
                continue;
            }
            for value in values_read(function, op) {
                readers[value.0 as usize] += 1;
            }
            ops.push(id);
        }
        ops.reverse();
        Live { ops, readers }
    }
}

/// Whether more than the results of an op, or of one in its blocks, matters.
fn has_effect(function: &Function, id: OpId, is_stateful: &impl Fn(OpId) -> bool) -> bool {
    let op = function.op(id);
    let inner = op.blocks.iter().flat_map(|block| &block.ops);
    op.results.is_empty() || is_stateful(id) || inner.copied().any(|id| has_effect(function, id, is_stateful))
}

/// The values that an op reads, in its blocks as well, each once.
pub fn values_read(function: &Function, op: &Op) -> Vec<ValueId> {
    let mut values: Vec<ValueId> = op.arguments.iter().flat_map(|(_, argument)| argument.values()).collect();
    for block in &op.blocks {
        values.extend(&block.outputs);
        block.ops.iter().for_each(|&id| values.extend(values_read(function, function.op(id))));
    }
    values.sort_unstable();
    values.dedup();
    values
}
