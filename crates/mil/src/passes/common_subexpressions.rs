//! Computing once what several ops compute alike.

use std::collections::hash_map::RandomState;
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, Hash, Hasher};

use super::{PassError, Rewritten, rewrite};
use crate::bind::NAME_ATTRIBUTE;
use crate::for_each_data;
use crate::ops::{self, OpDef};
use crate::program::{Argument, Block, Dialect, Function, Literal, LiteralValue, Op, OpId, ValueId};
use crate::tensor::Data;
use crate::verify::{CONST, Verified, count};

/// Leaves out every op that computes what one before it does: of the same name and opset, with the same arguments and
/// the same attributes, the name aside. The first two arguments of a commutative op may be in either order.
///
/// Literals are the same bit for bit. An op of a nested block may give way to one outside it. Ops with effects or
/// blocks stay, and so do those that are not known. The function's outputs keep their names.
///
/// # Errors
///
/// None for a program that was read or built; should the result not verify, what is wrong with it.
pub fn common_subexpressions(program: &Verified) -> Result<Rewritten, PassError> {
    let dialect = program.program().version.dialect();
    rewrite(program, |_, function| match merge_common(function, dialect).ops {
        0 => Ok(Vec::new()),
        merged => Ok(vec![format!("{} computed before", count(merged, "op"))]),
    })
}

/// What merging left out.
pub(crate) struct Merged {
    /// The number of ops.
    pub ops: usize,
    /// The value that stands for each of their results.
    pub representatives: HashMap<ValueId, ValueId>,
}

/// [`common_subexpressions`] of one function.
pub(crate) fn merge_common(function: &mut Function, dialect: Dialect) -> Merged {
    let mut merging = Merging::new(function, dialect);
    let body = function.body.clone();
    merging.block(function, &body);
    let Merging { gone, representatives, kept, .. } = merging;
    function.retain_ops(|id| !gone.contains(&id));
    for output in &mut function.body.outputs {
        if let Some(&representative) = representatives.get(output).filter(|_| !kept.contains(output)) {
            *output = representative;
        }
    }
    Merged { ops: gone.len(), representatives }
}

struct Merging {
    dialect: Dialect,
    hashes: RandomState,
    /// The ops seen so far that the one at hand may give way to, by what they compute.
    seen: HashMap<u64, Vec<OpId>>,
    /// The value that stands for another one.
    representatives: HashMap<ValueId, ValueId>,
    /// The function's outputs.
    outputs: HashSet<ValueId>,
    /// The names that several values have, which no op sees both.
    repeated: HashSet<String>,
    /// Outputs that stay although another value is the same, which is an output itself.
    kept: HashSet<ValueId>,
    gone: HashSet<OpId>,
}

impl Merging {
    fn new(function: &Function, dialect: Dialect) -> Merging {
        Merging {
            dialect,
            hashes: RandomState::new(),
            seen: HashMap::new(),
            representatives: HashMap::new(),
            outputs: function.body.outputs.iter().copied().collect(),
            repeated: repeated_names(function),
            kept: HashSet::new(),
            gone: HashSet::new(),
        }
    }

    fn block(&mut self, function: &mut Function, block: &Block) {
        let mut added = Vec::new();
        for &id in &block.ops {
            self.replace_reads(&mut function.ops[id.index()]);
            let row = ops::lookup(&function.op(id).name, function.opset_of(function.op(id)));
            let blocks = function.op(id).blocks.clone();
            for (position, nested) in blocks.iter().enumerate() {
                self.block(function, nested);
                for output in &mut function.ops[id.index()].blocks[position].outputs {
                    *output = self.representative(*output);
                }
            }
            if !may_merge(function.op(id), row) {
                continue;
            }
            let hash = self.hash(function, id, row);
            let before = self.seen.get(&hash).into_iter().flatten().copied();
            match before.into_iter().find(|&other| same(function, other, id, row)) {
                Some(other) => self.merge(function, other, id),
                None => {
                    self.seen.entry(hash).or_default().push(id);
                    added.push(hash);
                }
            }
        }
        // What this block binds is not seen outside it.
        for hash in added {
            if let Some(ids) = self.seen.get_mut(&hash) {
                ids.pop();
            }
        }
    }

    fn representative(&self, id: ValueId) -> ValueId {
        self.representatives.get(&id).copied().unwrap_or(id)
    }

    fn replace_reads(&self, op: &mut Op) {
        for read in op.reads_mut() {
            *read = self.representative(*read);
        }
    }

    /// Makes all that reads the results of an op read those of one before it.
    fn merge(&mut self, function: &mut Function, first: OpId, second: OpId) {
        let pairs: Vec<(ValueId, ValueId)> = function
            .op(first)
            .results
            .iter()
            .copied()
            .zip(function.op(second).results.iter().copied())
            .collect();
        self.representatives.extend(pairs.iter().map(|&(first, second)| (second, first)));
        // Two outputs have two names; and a name that a nested block binds too may not come to stand before the block.
        let stays = |&(first, second): &(ValueId, ValueId)| {
            self.outputs.contains(&second)
                && (self.outputs.contains(&first) || self.repeated.contains(&function.value(second).name))
        };
        if pairs.iter().any(stays) {
            self.kept.extend(pairs.iter().map(|(_, second)| *second));
            return;
        }
        for (kept, lost) in pairs {
            if self.outputs.remove(&lost) {
                self.outputs.insert(kept);
                let name = function.value(lost).name.clone();
                function.rename_result(first, kept, name, self.dialect);
            }
        }
        self.gone.insert(second);
    }

    /// A hash of what an op computes: the same for ops that are the same.
    fn hash(&self, function: &Function, id: OpId, row: Option<&OpDef>) -> u64 {
        let op = function.op(id);
        let mut state = self.hashes.build_hasher();
        (&op.name, function.opset_of(op)).hash(&mut state);
        // In no order: sums of hashes.
        let swapped = swappable(row);
        let arguments = op.arguments.iter().map(|(name, argument)| {
            let mut state = self.hashes.build_hasher();
            // Either may be the other.
            if swapped.is_some_and(|names| names.contains(&name)) {
                0u8.hash(&mut state)
            } else {
                name.hash(&mut state)
            }
            argument.items().iter().for_each(|item| hash_argument(item, &mut state));
            state.finish()
        });
        arguments.fold(0u64, u64::wrapping_add).hash(&mut state);
        let attributes = attributes(op).map(|(name, literal)| {
            let mut state = self.hashes.build_hasher();
            name.hash(&mut state);
            hash_literal(literal, &mut state);
            state.finish()
        });
        attributes.fold(0u64, u64::wrapping_add).hash(&mut state);
        state.finish()
    }
}

/// The names that several values of a function have.
fn repeated_names(function: &Function) -> HashSet<String> {
    let mut seen = HashSet::new();
    let names = function.values.iter().map(|value| value.name.as_str());
    names.filter(|name| !seen.insert(*name)).map(str::to_string).collect()
}

/// Whether an op does nothing but give results that follow from what it is given.
fn may_merge(op: &Op, row: Option<&OpDef>) -> bool {
    let known = op.name == CONST || row.is_some_and(|row| !row.stateful);
    known && op.blocks.is_empty() && !op.results.is_empty()
}

/// The attributes that say what an op computes.
fn attributes(op: &Op) -> impl Iterator<Item = (&str, &Literal)> {
    op.attributes.iter().filter(|(name, _)| *name != NAME_ATTRIBUTE)
}

/// The parameters of a commutative op that may change places.
fn swappable(row: Option<&OpDef>) -> Option<[&'static str; 2]> {
    match row.filter(|row| row.commutative)?.parameters {
        [x, y, ..] => Some([x.name, y.name]),
        _ => None,
    }
}

/// Whether two ops compute the same.
fn same(function: &Function, a: OpId, b: OpId, row: Option<&OpDef>) -> bool {
    let (first, second) = (function.op(a), function.op(b));
    let ty = |id: &ValueId| &function.value(*id).ty;
    let alike = first.name == second.name
        && function.opset_of(first) == function.opset_of(second)
        && first.results.iter().map(ty).eq(second.results.iter().map(ty))
        && first.arguments.len() == second.arguments.len()
        && attributes(first).count() == attributes(second).count()
        && attributes(first).all(|(name, literal)| second.attributes.get(name) == Some(literal));
    let same_under = |rename: &dyn Fn(&'static str, &'static str) -> bool| {
        first.arguments.iter().all(|(name, argument)| {
            let other = match swappable(row) {
                Some([x, y]) if name == x && rename(x, y) => y,
                Some([x, y]) if name == y && rename(x, y) => x,
                _ => name,
            };
            second.arguments.get(other) == Some(argument)
        })
    };
    alike && (same_under(&|_, _| false) || (swappable(row).is_some() && same_under(&|_, _| true)))
}

fn hash_argument(argument: &Argument, state: &mut impl Hasher) {
    match argument {
        Argument::Value(id) => id.hash(state),
        Argument::Literal(literal) => hash_literal(literal, state),
        Argument::Tuple(items) => items.iter().for_each(|item| hash_argument(item, state)),
    }
}

fn hash_literal(literal: &Literal, state: &mut impl Hasher) {
    literal.ty.hash(state);
    hash_value(&literal.value, state);
}

fn hash_value(value: &LiteralValue, state: &mut impl Hasher) {
    match value {
        LiteralValue::Tensor(tensor) => {
            tensor.shape().hash(state);
            hash_data(tensor.data(), state);
        }
        LiteralValue::Blob(reference) => reference.hash(state),
        LiteralValue::List(items) | LiteralValue::Tuple(items) => {
            items.iter().for_each(|item| hash_value(item, state));
        }
        LiteralValue::Dict(pairs) => pairs.iter().for_each(|(key, value)| {
            hash_value(key, state);
            hash_value(value, state);
        }),
    }
}

/// Hashes values by their bits, as they are compared.
fn hash_data(data: &Data, state: &mut impl Hasher) {
    fn bytes<T: bytemuck::NoUninit>(values: &[T], state: &mut impl Hasher) {
        state.write(bytemuck::cast_slice(values));
    }
    for_each_data!(data, values => bytes(values, state), strings values => values.hash(state));
}
