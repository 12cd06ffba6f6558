//! Making a program smaller as long as it is interesting: what is left is what makes it so.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::dead_code::remove_dead_code;
use crate::error::ErrorKind;
use crate::program::{FreeNames, Function, Literal, LiteralValue, OpId, Program, ValueId};
use crate::tensor::Tensor;
use crate::types::{DType, Dim, Type};
use crate::verify::{self, CONST, Verified};

/// The most elements of a constant that is written in place of one in a weight file.
const MAX_INLINE_ELEMENTS: u64 = 1 << 12;

/// Leaves out of a program all that can be left out: functions, outputs, ops and inputs, whose places inputs take; then
/// makes dimensions smaller and weights zeros; and all of it again, until nothing more can go.
///
/// `is_interesting` is asked about each smaller program that verifies, and only about such; what it fails with ends the
/// work. The program that it was asked about last with success is the answer. About log₂ n questions find one op among
/// n that matters, about k·log₂ n find k.
///
/// # Errors
///
/// What `is_interesting` fails with.
pub fn reduce<E>(
    program: &Verified,
    is_interesting: impl FnMut(&Verified) -> Result<bool, E>,
) -> Result<Verified, E> {
    let mut reduction = Reduction { best: program.clone(), is_interesting };
    loop {
        let mut changed = reduction.drop_functions()?;
        for function in 0..reduction.program().functions.len() {
            changed |= reduction.drop_outputs(function)?;
            changed |= reduction.drop_ops(function)?;
            changed |= reduction.drop_outputs(function)?;
            changed |= reduction.shrink_dimensions(function)?;
            changed |= reduction.simplify_weights(function)?;
        }
        if !changed {
            return Ok(reduction.best);
        }
    }
}

/// A program on its way down.
struct Reduction<F> {
    best: Verified,
    is_interesting: F,
}

impl<F, E> Reduction<F>
where
    F: FnMut(&Verified) -> Result<bool, E>,
{
    fn program(&self) -> &Program {
        self.best.program()
    }

    /// Takes a candidate, if it is sound, smaller or simpler, and interesting.
    fn take(&mut self, mut candidate: Program) -> Result<bool, E> {
        candidate.functions.iter_mut().for_each(|function| {
            remove_dead_code(function);
            drop_unread_inputs(function);
            function.compact();
        });
        if candidate == *self.program() {
            return Ok(false);
        }
        let (candidate, errors) = verify::check(candidate);
        if !errors.all_are(ErrorKind::UnknownOp) || !(self.is_interesting)(&candidate)? {
            return Ok(false);
        }
        self.best = candidate;
        Ok(true)
    }

    /// As [`Reduction::take`], for a change of one function; none where `edit` finds nothing to change.
    fn take_edited(
        &mut self,
        index: usize,
        edit: impl FnOnce(&mut Function) -> Option<()>,
    ) -> Result<bool, E> {
        let mut candidate = self.program().clone();
        match edit(&mut candidate.functions[index]) {
            Some(()) => self.take(candidate),
            None => Ok(false),
        }
    }

    fn drop_functions(&mut self) -> Result<bool, E> {
        let mut changed = false;
        let mut index = 0;
        while self.program().functions.len() > 1 && index < self.program().functions.len() {
            let mut candidate = self.program().clone();
            candidate.functions.remove(index);
            match self.take(candidate)? {
                true => changed = true,
                false => index += 1,
            }
        }
        Ok(changed)
    }

    fn drop_outputs(&mut self, index: usize) -> Result<bool, E> {
        self.in_chunks(
            |program| (0..program.functions[index].body.outputs.len()).collect(),
            |this, chunk: &[usize]| {
                let chunk: HashSet<usize> = chunk.iter().copied().collect();
                this.take_edited(index, |function| {
                    let outputs = std::mem::take(&mut function.body.outputs).into_iter().enumerate();
                    let left = outputs.filter(|(position, _)| !chunk.contains(position));
                    function.body.outputs = left.map(|(_, id)| id).collect();
                    (!function.body.outputs.is_empty()).then_some(())
                })
            },
        )
    }

    fn drop_ops(&mut self, index: usize) -> Result<bool, E> {
        self.in_chunks(
            |program| {
                let ops = program.functions[index].walk();
                ops.filter(|(_, op)| op.name != CONST).map(|(id, _)| id).collect()
            },
            |this, chunk: &[OpId]| this.take_edited(index, |function| cut(function, chunk)),
        )
    }

    /// Leaves out parts, halves first, then quarters, down to single ones, and begins anew after each that could go.
    fn in_chunks<T>(
        &mut self,
        parts: impl Fn(&Program) -> Vec<T>,
        mut without: impl FnMut(&mut Self, &[T]) -> Result<bool, E>,
    ) -> Result<bool, E> {
        let mut changed = false;
        let mut size = parts(self.program()).len().div_ceil(2).max(1);
        loop {
            // From the end on: what comes first is what the rest reads.
            let mut end = parts(self.program()).len();
            while end > 0 {
                let all = parts(self.program());
                end = end.min(all.len());
                let start = end.saturating_sub(size);
                changed |= without(self, &all[start..end])?;
                end = start;
            }
            if size == 1 {
                return Ok(changed);
            }
            size = size.div_ceil(2).min(parts(self.program()).len().div_ceil(2).max(1));
        }
    }

    /// Tries smaller numbers in place of each number that is a dimension.
    fn shrink_dimensions(&mut self, index: usize) -> Result<bool, E> {
        let function = &self.program().functions[index];
        let all = function.values.iter().filter_map(|value| value.ty.as_tensor());
        let all: HashSet<u64> = all.flat_map(|ty| ty.shape.0.into_iter().filter_map(Dim::known)).collect();
        let mut all: Vec<u64> = all.into_iter().filter(|&dim| dim > 1).collect();
        all.sort_unstable_by(|a, b| b.cmp(a));
        let mut changed = false;
        for mut dim in all {
            let mut smaller = vec![1, 2, dim / 16, dim / 4, dim / 2, dim - 1];
            smaller.retain(|&new| new > 0 && new < dim);
            smaller.dedup();
            while let Some(&new) = smaller.first() {
                smaller.remove(0);
                if self.take_edited(index, |function| resize(function, dim, new))? {
                    changed = true;
                    dim = new;
                    smaller = [dim / 2, dim.saturating_sub(1)].into_iter().filter(|&new| new > 0).collect();
                }
            }
        }
        Ok(changed)
    }

    /// Writes small weights of files into the program, as zeros, and makes zeros of constants of floating point.
    fn simplify_weights(&mut self, index: usize) -> Result<bool, E> {
        let mut changed = false;
        let constants = self.program().functions[index].walk().filter(|(_, op)| op.name == CONST).count();
        for position in 0..constants {
            changed |= self.take_edited(index, |function| {
                let (id, _) = function.walk().filter(|(_, op)| op.name == CONST).nth(position)?;
                let value = function.ops[id.index()].attributes.get_mut("val")?;
                let zeros = zeros(&value.ty)?;
                if value.value == zeros
                    || matches!(&value.value, LiteralValue::Tensor(t) if !t.dtype().is_float())
                {
                    return None;
                }
                value.value = zeros;
                Some(())
            })?;
        }
        Ok(changed)
    }
}

/// Leaves out ops, and what is in their blocks: inputs take the places of their results. Where no output is left, what the
/// ops read is what the function gives.
fn cut(function: &mut Function, ops: &[OpId]) -> Option<()> {
    let gone: HashSet<OpId> = ops.iter().copied().collect();
    let results: Vec<ValueId> = ops.iter().flat_map(|&id| &function.op(id).results).copied().collect();
    let reads: Vec<ValueId> = ops.iter().flat_map(|&id| function.op(id).reads()).collect();
    function.retain_ops(|id| !gone.contains(&id));
    let result_set: HashSet<ValueId> = results.iter().copied().collect();
    function.body.outputs.retain(|id| !result_set.contains(id));
    if function.body.outputs.is_empty() {
        let bound: Vec<&crate::program::Op> =
            function.body.ops.iter().map(|&id| function.op(id)).filter(|op| op.name != CONST).collect();
        let bound: HashSet<ValueId> = bound.iter().flat_map(|op| &op.results).copied().collect();
        let mut seen = HashSet::new();
        function.body.outputs =
            reads.into_iter().filter(|id| bound.contains(id) && seen.insert(*id)).collect();
    }
    let mut names = FreeNames::of(function);
    let mut inputs = HashMap::new();
    for id in results {
        let value = function.value(id);
        let (name, ty) = (names.free(&value.name), value.ty.clone());
        let input = function.add_value(name, ty);
        function.body.inputs.push(input);
        inputs.insert(id, input);
    }
    function.rename_uses(&inputs);
    (!function.body.outputs.is_empty()).then_some(())
}

/// Leaves out inputs that nothing reads and no output gives, as long as one input is left.
fn drop_unread_inputs(function: &mut Function) {
    let mut read: HashSet<ValueId> = function.walk().flat_map(|(_, op)| op.reads()).collect();
    read.extend(function.blocks().flat_map(|block| &block.outputs));
    let first = function.body.inputs.first().copied();
    function.body.inputs.retain(|id| read.contains(id));
    if function.body.inputs.is_empty() {
        function.body.inputs.extend(first);
    }
}

/// Puts `new` in the place of a dimension, in types, and in constants of shapes and of weights that are written out.
fn resize(function: &mut Function, dim: u64, new: u64) -> Option<()> {
    for value in &mut function.values {
        resize_type(&mut value.ty, dim, new);
    }
    let ids: Vec<OpId> = function.walk().map(|(id, _)| id).collect();
    for id in ids {
        for literal in function.ops[id.index()].literals_mut() {
            resize_literal(literal, dim, new)?;
        }
    }
    Some(())
}

fn resize_type(ty: &mut Type, dim: u64, new: u64) {
    if let Type::Tensor(tensor) = ty {
        for own in &mut tensor.shape.0 {
            if own.known() == Some(dim) {
                *own = Dim::Known(new);
            }
        }
    }
}

/// A literal whose type has the dimension becomes zeros of the new type; whole numbers that are the dimension, such as those
/// of a shape, become the new one. None for weights in files that would be too large to write out.
fn resize_literal(literal: &mut Literal, dim: u64, new: u64) -> Option<()> {
    let before = literal.ty.clone();
    resize_type(&mut literal.ty, dim, new);
    if literal.ty != before {
        literal.value = zeros(&literal.ty)?;
        return Some(());
    }
    let LiteralValue::Tensor(tensor) = &literal.value else { return Some(()) };
    if tensor.dtype() != DType::Int32 {
        return Some(());
    }
    let (dim, new) = (i64::try_from(dim).ok()?, i64::try_from(new).ok()?);
    let old = tensor.to_i64()?;
    if old.contains(&dim) {
        let values: Vec<i64> = old.into_iter().map(|value| if value == dim { new } else { value }).collect();
        literal.value =
            LiteralValue::Tensor(Arc::new(Tensor::from_i64(DType::Int32, tensor.shape(), &values).ok()?));
    }
    Some(())
}

/// Zeros of a type, if they are few enough to be written out.
fn zeros(ty: &Type) -> Option<LiteralValue> {
    let ty = ty.as_tensor()?;
    let dims = ty.shape.to_known()?;
    let count = dims.iter().try_fold(1u64, |count, &dim| count.checked_mul(dim as u64))?;
    let zeros = (count <= MAX_INLINE_ELEMENTS).then(|| Tensor::zeros(ty.dtype, &dims))??;
    Some(LiteralValue::Tensor(Arc::new(zeros)))
}
