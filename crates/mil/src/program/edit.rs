//! Changing a function: replacing uses, inserting and removing ops, leaving out what no block holds.

use std::collections::HashMap;

use crate::bind::NAME_ATTRIBUTE;
use crate::program::{Block, Dialect, Function, Literal, OpId, ValueId};

/// Which ids became which when a function was changed; `None` for what is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdMap {
    /// The new id of each old value.
    pub values: Vec<Option<ValueId>>,
    /// The new id of each old op.
    pub ops: Vec<Option<OpId>>,
}

impl IdMap {
    /// The map of a function that nothing is changed of.
    pub fn identity(function: &Function) -> IdMap {
        let ids = |length: usize| 0..u32::try_from(length).unwrap_or(u32::MAX);
        IdMap {
            values: ids(function.values.len()).map(|id| Some(ValueId(id))).collect(),
            ops: ids(function.ops.len()).map(|id| Some(OpId(id))).collect(),
        }
    }

    /// What became of the ids where another change followed, of which `next` is the map.
    #[must_use]
    pub fn then(&self, next: &IdMap) -> IdMap {
        IdMap {
            values: self.values.iter().map(|id| id.and_then(|id| next.value(id))).collect(),
            ops: self.ops.iter().map(|id| id.and_then(|id| next.op(id))).collect(),
        }
    }

    /// The new id of a value.
    pub fn value(&self, old: ValueId) -> Option<ValueId> {
        self.values.get(old.index()).copied().flatten()
    }

    /// The new id of an op.
    pub fn op(&self, old: OpId) -> Option<OpId> {
        self.ops.get(old.index()).copied().flatten()
    }
}

impl Function {
    /// Makes all that uses a value, ops and outputs of blocks, use another one.
    pub fn replace_uses(&mut self, old: ValueId, new: ValueId) {
        self.rename_uses(&HashMap::from([(old, new)]));
    }

    /// Gives values other names, and the ops that bind them, where they are the first of the results, the attribute to
    /// match.
    pub fn rename_all(&mut self, mut names: HashMap<ValueId, String>, dialect: Dialect) {
        let results = self.walk().flat_map(|(id, op)| op.results.iter().map(move |&result| (id, result)));
        let bound: Vec<(OpId, ValueId)> = results.filter(|(_, value)| names.contains_key(value)).collect();
        for (op, value) in bound {
            if let Some(name) = names.remove(&value) {
                self.rename_result(op, value, name, dialect);
            }
        }
        names.into_iter().for_each(|(value, name)| self.values[value.index()].name = name);
    }

    /// As [`Function::rename_all`], for a result of an op.
    pub fn rename_result(&mut self, op: OpId, value: ValueId, name: String, dialect: Dialect) {
        let op = &mut self.ops[op.index()];
        if let (true, Some(attribute)) =
            (op.results.first() == Some(&value), op.attributes.get_mut(NAME_ATTRIBUTE))
        {
            *attribute = Literal::string(dialect, name.clone());
        }
        self.values[value.index()].name = name;
    }

    /// As [`Function::replace_uses`], for many values in one walk. A new value is not itself looked up again.
    pub fn rename_uses(&mut self, new: &HashMap<ValueId, ValueId>) {
        let rename = |id: &mut ValueId| {
            if let Some(&other) = new.get(id) {
                *id = other;
            }
        };
        let ids: Vec<OpId> = self.walk().map(|(id, _)| id).collect();
        for id in ids {
            let op = &mut self.ops[id.index()];
            op.reads_mut().for_each(rename);
            op.blocks.iter_mut().flat_map(|block| &mut block.outputs).for_each(rename);
        }
        self.body.outputs.iter_mut().for_each(rename);
    }

    /// Places ops before others, each list in its order; one walk for all of them.
    pub fn insert_before(&mut self, insertions: &HashMap<OpId, Vec<OpId>>) {
        self.edit_blocks(&mut |block| {
            if block.ops.iter().any(|id| insertions.contains_key(id)) {
                let all = block.ops.iter().flat_map(|id| {
                    insertions.get(id).into_iter().flatten().copied().chain(std::iter::once(*id))
                });
                block.ops = all.collect();
            }
        });
    }

    /// Takes out of the blocks the ops that `keep` refuses. They stay in the arena, where nothing finds them.
    pub fn retain_ops(&mut self, keep: impl Fn(OpId) -> bool) {
        self.edit_blocks(&mut |block| block.ops.retain(|&id| keep(id)));
    }

    /// Calls `edit` on every block, nested ones after those around them.
    pub fn edit_blocks(&mut self, edit: &mut impl FnMut(&mut Block)) {
        edit(&mut self.body);
        let mut pending: Vec<OpId> = self.body.ops.iter().rev().copied().collect();
        while let Some(id) = pending.pop() {
            for block in &mut self.ops[id.index()].blocks {
                edit(block);
                pending.extend(block.ops.iter().rev());
            }
        }
    }

    /// Leaves out of the arenas what no block holds, and numbers the rest in the order of the text: an op before those
    /// in its blocks, its results after what they bind. Says which id became which, so that what stands beside the
    /// function can follow.
    pub fn compact(&mut self) -> IdMap {
        let mut numbering = Numbering {
            map: IdMap { values: vec![None; self.values.len()], ops: vec![None; self.ops.len()] },
            values: Vec::with_capacity(self.values.len()),
            ops: Vec::with_capacity(self.ops.len()),
        };
        numbering.block(self, &self.body);
        // What is read without being bound stays, for the verifier to find.
        for index in 0..numbering.ops.len() {
            self.op(numbering.ops[index]).reads().for_each(|id| numbering.bind(id));
        }
        self.blocks().flat_map(|block| &block.outputs).for_each(|&id| numbering.bind(id));
        let Numbering { map, values, ops } = numbering;
        self.values = values.iter().map(|id| self.values[id.index()].clone()).collect();
        self.ops = ops.iter().map(|id| std::mem::take(&mut self.ops[id.index()])).collect();
        self.renumber(&map);
        map
    }

    fn renumber(&mut self, map: &IdMap) {
        let value = |id: &mut ValueId| *id = map.value(*id).unwrap_or(*id);
        let block = |block: &mut Block| {
            block.inputs.iter_mut().chain(&mut block.outputs).for_each(value);
            block.ops.iter_mut().for_each(|id| *id = map.op(*id).unwrap_or(*id));
        };
        block(&mut self.body);
        for op in &mut self.ops {
            op.reads_mut().for_each(value);
            op.results.iter_mut().for_each(value);
            op.blocks.iter_mut().for_each(block);
        }
    }
}

/// The numbers that a function's values and ops get when it is compacted.
struct Numbering {
    map: IdMap,
    /// Old ids in the order of the new ones.
    values: Vec<ValueId>,
    ops: Vec<OpId>,
}

impl Numbering {
    fn bind(&mut self, id: ValueId) {
        if self.map.values[id.index()].is_none() {
            self.map.values[id.index()] = Some(ValueId(self.values.len() as u32));
            self.values.push(id);
        }
    }

    fn block(&mut self, function: &Function, block: &Block) {
        block.inputs.iter().for_each(|&id| self.bind(id));
        for &id in &block.ops {
            self.map.ops[id.index()] = Some(OpId(self.ops.len() as u32));
            self.ops.push(id);
            let op = function.op(id);
            op.blocks.iter().for_each(|nested| self.block(function, nested));
            op.results.iter().for_each(|&result| self.bind(result));
        }
    }
}
