//! The ops of a function in the order of its text.

use std::collections::HashSet;

use crate::program::{Function, OpId};

/// Every op of the body, each before the ops of its blocks. One that stands in two places is given once.
pub fn ops(function: &Function) -> Vec<OpId> {
    let mut found = Vec::with_capacity(function.ops.len());
    let mut seen = HashSet::with_capacity(function.ops.len());
    let mut open = vec![function.body.ops.iter()];
    while let Some(rest) = open.last_mut() {
        let Some(&id) = rest.next() else {
            open.pop();
            continue;
        };
        if seen.insert(id) {
            found.push(id);
            open.extend(function.op(id).blocks.iter().rev().map(|block| block.ops.iter()));
        }
    }
    found
}
