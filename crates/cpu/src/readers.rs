//! Who reads the values of a function.

use std::collections::{HashMap, HashSet};

use anemone_mil::program::{Function, Op, ValueId};

/// How many ops of the body read each value that is read, their blocks included; outputs of the function are read once
/// more.
pub fn readers(function: &Function) -> HashMap<ValueId, usize> {
    let mut readers: HashMap<ValueId, usize> = HashMap::new();
    let ops = function.body.ops.iter().flat_map(|&id| values_read(function, function.op(id)));
    ops.chain(function.body.outputs.iter().copied())
        .for_each(|value| *readers.entry(value).or_default() += 1);
    readers
}

/// The values that an op reads, in its blocks as well.
pub fn values_read(function: &Function, op: &Op) -> HashSet<ValueId> {
    op.reads().chain(op.blocks.iter().flat_map(|block| function.captures(block))).collect()
}
