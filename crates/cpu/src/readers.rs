//! Who reads the values of a function.

use anemone_mil::program::{Function, Op, ValueId};

/// How many ops of the body read each value, by its id, their blocks included; outputs of the function are read once more.
pub(crate) fn readers(function: &Function) -> Vec<usize> {
    let mut readers = vec![0; function.values.len()];
    let ops = function.body.ops.iter().flat_map(|&id| values_read(function, function.op(id)));
    ops.chain(function.body.outputs.iter().copied()).for_each(|value| readers[value.0 as usize] += 1);
    readers
}

/// The values that an op reads, in its blocks as well, each once.
pub(crate) fn values_read(function: &Function, op: &Op) -> Vec<ValueId> {
    let captures = op.blocks.iter().flat_map(|block| function.captures(block));
    let mut values: Vec<ValueId> = op.reads().chain(captures).collect();
    values.sort_unstable();
    values.dedup();
    values
}
