//! Nested blocks as functions of their own.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::bind::{Facts, Scope};
use crate::ops::OpDef;
use crate::program::{Block, Function, Op, OpId, Program, ValueId};
use crate::runtime::Port;
use crate::types::{DType, TensorType, Type};
use crate::verify::{Findings, Verified};

use super::constants::LeftConstants;
use super::{Specialized, blob};

/// A block of an op as a function of its own. It holds the ops of the block and no others, and numbers its values
/// itself.
#[derive(Debug)]
pub struct BlockFunction {
    /// The function: it takes what the block is entered with, and then what the block reads from around it. Constants
    /// that the block reads are its own, so that what it makes of them is known before it runs.
    pub specialized: Specialized,
    /// What it reads from around it, by the ids there.
    pub captured: Vec<ValueId>,
    /// Its ids of values from around it.
    pub values: HashMap<ValueId, ValueId>,
}

impl Specialized {
    /// The blocks of the ops that stand in the function's body.
    pub fn blocks(&self) -> HashMap<OpId, Vec<BlockFunction>> {
        let function = self.function();
        let constants = function.body.ops.iter().flat_map(|&id| {
            let constants = function.op(id).results.iter().filter(|result| self.facts.is_constant(**result));
            constants.map(move |&result| (result, id))
        });
        let makers: HashMap<ValueId, OpId> = constants.collect();
        let with_blocks = function.body.ops.iter().filter(|id| !function.op(**id).blocks.is_empty());
        let of_op = |&id: &OpId| {
            let blocks = function.op(id).blocks.iter();
            (id, blocks.map(|block| Extraction::new(self).block(block, &makers)).collect())
        };
        with_blocks.map(of_op).collect()
    }
}

/// A block on its way out of a function.
struct Extraction<'a> {
    outer: &'a Specialized,
    function: Function,
    facts: Facts,
    rows: Vec<Option<&'static OpDef>>,
    values: HashMap<ValueId, ValueId>,
}

impl Extraction<'_> {
    fn new(outer: &Specialized) -> Extraction<'_> {
        let Function { name, opset, .. } = outer.function();
        Extraction {
            outer,
            function: Function::new(name, *opset),
            facts: Facts::default(),
            rows: Vec::new(),
            values: HashMap::new(),
        }
    }

    /// The block, with the constants that ops around it make.
    fn block(mut self, block: &Block, makers: &HashMap<ValueId, OpId>) -> BlockFunction {
        let outer = self.outer.function();
        let (mut captured, mut constants, mut made) = (Vec::new(), Vec::new(), HashSet::new());
        for id in outer.captures(block) {
            match makers.get(&id) {
                Some(&maker) => self.constant(maker, makers, &mut made, &mut constants),
                None if matches!(self.outer.facts.ty(id), Type::State(_)) => {}
                None => captured.push(id),
            }
        }
        let mut body = self.renumbered(block);
        body.inputs.extend(captured.iter().map(|&id| self.value(id)));
        body.ops.splice(0..0, constants);
        let Extraction { outer, mut function, facts, rows, values } = self;
        let port = |&id: &ValueId| {
            let ty = facts.ty(id).held_tensor().unwrap_or_else(|| TensorType::new(DType::Bool, &[]));
            Port { name: function.value(id).name.clone(), ty }
        };
        let inputs = body.inputs.iter().map(port).collect();
        let outputs = body.outputs.iter().map(port).collect();
        let input_ids = body.inputs.clone();
        function.body = body;
        let mut program = Program::new(outer.program.program().version);
        program.functions.push(function);
        let findings = vec![Findings { rows, facts: facts.clone() }];
        let program = Arc::new(Verified::with_findings(program, findings));
        let specialized = Specialized {
            program,
            function: 0,
            facts,
            inputs,
            input_ids,
            states: Vec::new(),
            outputs,
            left: LeftConstants::new(),
        };
        BlockFunction { specialized, captured, values }
    }

    /// Takes the op that makes a constant, behind those that make what it reads.
    fn constant(
        &mut self,
        maker: OpId,
        makers: &HashMap<ValueId, OpId>,
        made: &mut HashSet<OpId>,
        constants: &mut Vec<OpId>,
    ) {
        // Each op, and whether what it reads was seen to.
        let mut pending = vec![(maker, false)];
        while let Some((id, ready)) = pending.pop() {
            if ready {
                constants.push(self.op(id));
            } else if made.insert(id) {
                pending.push((id, true));
                let reads = self.outer.function().op(id).reads();
                pending.extend(reads.filter_map(|read| Some((*makers.get(&read)?, false))));
            }
        }
    }

    fn renumbered(&mut self, block: &Block) -> Block {
        Block {
            inputs: block.inputs.iter().map(|&id| self.value(id)).collect(),
            ops: block.ops.iter().map(|&id| self.op(id)).collect(),
            outputs: block.outputs.iter().map(|&id| self.value(id)).collect(),
        }
    }

    fn op(&mut self, old: OpId) -> OpId {
        let mut op: Op = self.outer.function().op(old).clone();
        op.reads_mut().for_each(|id| *id = self.value(*id));
        op.blocks = op.blocks.iter().map(|block| self.renumbered(block)).collect();
        op.results.iter_mut().for_each(|id| *id = self.value(*id));
        for (reference, ty) in op.literals().filter_map(|(_, literal)| blob(literal)) {
            if let Some(value) = self.outer.facts.blob(reference, &ty) {
                self.facts.set_blob(reference.clone(), ty, value);
            }
        }
        self.rows.push(self.outer.row(old));
        self.function.add_op(op)
    }

    fn value(&mut self, old: ValueId) -> ValueId {
        if let Some(&new) = self.values.get(&old) {
            return new;
        }
        let (outer, new) = (self.outer, ValueId(self.function.values.len() as u32));
        self.function.values.push(outer.function().value(old).clone());
        self.facts.push(outer.facts.ty(old).clone());
        if outer.facts.is_constant(old) {
            self.facts.set_constant(new, outer.facts.constant(old).cloned());
        }
        if matches!(outer.facts.ty(old), Type::State(_)) {
            self.facts.set_state(new, outer.facts.state(old));
        }
        self.values.insert(old, new);
        new
    }
}
