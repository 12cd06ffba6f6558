//! Walking a function: its ops in order, what an op reads, who uses a value.
//!
//! A function's order and life are in its blocks: an op or value in the arena that no block reaches does not exist.

use std::collections::HashSet;

use crate::program::{
    Argument, BlobReference, Block, Function, Literal, LiteralValue, Op, OpId, Program, ValueId,
};

/// The place of a literal in an op.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LiteralPlace {
    /// In the argument at this position.
    Argument(usize),
    /// The attribute at this position.
    Attribute(usize),
}

impl Op {
    /// The values that the op's arguments read, in order; those of its blocks' ops are not among them.
    pub fn reads(&self) -> impl Iterator<Item = ValueId> {
        self.arguments.iter().flat_map(|(_, argument)| argument.values())
    }

    /// Every literal that the op holds, arguments first.
    pub fn literals(&self) -> impl Iterator<Item = (LiteralPlace, &Literal)> {
        let arguments = self.arguments.iter().enumerate().flat_map(|(position, (_, argument))| {
            argument.items().iter().filter_map(move |item| match item {
                Argument::Literal(literal) => Some((LiteralPlace::Argument(position), literal)),
                _ => None,
            })
        });
        let attributes = self.attributes.iter().enumerate();
        arguments
            .chain(attributes.map(|(position, (_, literal))| (LiteralPlace::Attribute(position), literal)))
    }

    /// As [`Op::literals`], to be changed.
    pub fn literals_mut(&mut self) -> impl Iterator<Item = &mut Literal> {
        let arguments = self.arguments.iter_mut().flat_map(|(_, argument)| {
            argument.items_mut().iter_mut().filter_map(|item| match item {
                Argument::Literal(literal) => Some(literal),
                _ => None,
            })
        });
        arguments.chain(self.attributes.iter_mut().map(|(_, literal)| literal))
    }

    /// Everything that the op's arguments read, to be replaced.
    pub(crate) fn reads_mut(&mut self) -> impl Iterator<Item = &mut ValueId> {
        self.arguments.iter_mut().flat_map(|(_, argument)| {
            argument.items_mut().iter_mut().filter_map(|item| match item {
                Argument::Value(id) => Some(id),
                _ => None,
            })
        })
    }
}

impl Program {
    /// Where blob files keep what the program's ops are given, in order.
    pub fn blobs(&self) -> impl Iterator<Item = &BlobReference> {
        let ops = self.functions.iter().flat_map(|function| function.walk().map(|(_, op)| op));
        ops.flat_map(Op::literals).filter_map(|(_, literal)| match &literal.value {
            LiteralValue::Blob(reference) => Some(reference),
            _ => None,
        })
    }
}

/// Ops in order; an op comes before those in its blocks.
struct Walk<'a> {
    function: &'a Function,
    /// Blocks begun, with the ops that are left of each.
    open: Vec<std::slice::Iter<'a, OpId>>,
}

impl<'a> Iterator for Walk<'a> {
    type Item = (OpId, &'a Op);

    fn next(&mut self) -> Option<(OpId, &'a Op)> {
        loop {
            match self.open.last_mut()?.next() {
                Some(&id) => {
                    let op = self.function.op(id);
                    self.open.extend(op.blocks.iter().rev().map(|block| block.ops.iter()));
                    return Some((id, op));
                }
                None => {
                    self.open.pop();
                }
            }
        }
    }
}

impl Function {
    /// The ops of the function in order, those of nested blocks after the op that has them.
    pub fn walk(&self) -> impl Iterator<Item = (OpId, &Op)> {
        self.walk_block(&self.body)
    }

    /// The ops of a block in order, those of nested blocks after the op that has them.
    pub fn walk_block<'a>(&'a self, block: &'a Block) -> impl Iterator<Item = (OpId, &'a Op)> {
        Walk { function: self, open: vec![block.ops.iter()] }
    }

    /// The body and every nested block, each before those within it.
    pub fn blocks(&self) -> impl Iterator<Item = &Block> {
        std::iter::once(&self.body).chain(self.walk().flat_map(|(_, op)| &op.blocks))
    }

    /// The values that a block, its ops' blocks included, reads from outside it, each once, in order.
    pub fn captures(&self, block: &Block) -> Vec<ValueId> {
        let mut inside: HashSet<ValueId> = block.inputs.iter().copied().collect();
        let mut captured = Vec::new();
        let mut blocks = vec![block];
        for (_, op) in self.walk_block(block) {
            inside.extend(&op.results);
            for nested in &op.blocks {
                inside.extend(&nested.inputs);
                blocks.push(nested);
            }
        }
        let mut read = |id: ValueId| {
            if inside.insert(id) {
                captured.push(id);
            }
        };
        self.walk_block(block).for_each(|(_, op)| op.reads().for_each(&mut read));
        blocks.iter().for_each(|block| block.outputs.iter().copied().for_each(&mut read));
        captured
    }

    /// Who uses each value.
    pub fn uses(&self) -> Uses {
        let mut uses = Uses { ops: vec![Vec::new(); self.values.len()], yielded: vec![0; self.values.len()] };
        for (id, op) in self.walk() {
            for value in op.reads() {
                let users = &mut uses.ops[value.index()];
                if users.last() != Some(&id) {
                    users.push(id);
                }
            }
        }
        for block in self.blocks() {
            block.outputs.iter().for_each(|output| uses.yielded[output.index()] += 1);
        }
        uses
    }

    /// For each op whether it counts: it, or what reads it, is an output of the function or has an effect that
    /// `has_effect` tells of. An op counts with an op in its blocks.
    pub fn live(&self, has_effect: impl Fn(&Op) -> bool) -> Vec<bool> {
        let mut live = vec![false; self.ops.len()];
        let mut wanted = vec![false; self.values.len()];
        let effects: Vec<bool> = {
            // An op in a block comes after the op that has the block, so going backwards sees it first.
            let order: Vec<(OpId, &Op)> = self.walk().collect();
            let mut effects = vec![false; self.ops.len()];
            for (id, op) in order.iter().rev() {
                let inner = op.blocks.iter().flat_map(|block| &block.ops).any(|id| effects[id.index()]);
                effects[id.index()] = inner || has_effect(op);
            }
            effects
        };
        self.mark(&self.body, &effects, &mut live, &mut wanted);
        live
    }

    fn mark(&self, block: &Block, effects: &[bool], live: &mut [bool], wanted: &mut [bool]) {
        block.outputs.iter().for_each(|id| wanted[id.index()] = true);
        for &id in block.ops.iter().rev() {
            let op = self.op(id);
            if effects[id.index()] || op.results.iter().any(|result| wanted[result.index()]) {
                live[id.index()] = true;
                op.reads().for_each(|read| wanted[read.index()] = true);
                op.blocks.iter().for_each(|nested| self.mark(nested, effects, live, wanted));
            }
        }
    }
}

/// Who uses each value of a function.
#[derive(Debug, Clone)]
pub struct Uses {
    ops: Vec<Vec<OpId>>,
    yielded: Vec<usize>,
}

impl Uses {
    /// The ops that read a value, each once, in order.
    pub fn ops(&self, value: ValueId) -> &[OpId] {
        &self.ops[value.index()]
    }

    /// How often the value is an output of the function or of a block.
    pub fn yielded(&self, value: ValueId) -> usize {
        self.yielded[value.index()]
    }

    /// Whether nothing uses the value.
    pub fn is_empty(&self, value: ValueId) -> bool {
        self.ops(value).is_empty() && self.yielded(value) == 0
    }
}
