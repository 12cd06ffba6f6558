//! Reading the constants of a function from weight files.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::{Specialized, settle};
use crate::bind::{self, Facts};
use crate::ops;
use crate::program::{BlobReference, Function, Literal, LiteralValue, Op, OpId, ValueId};
use crate::runtime::RuntimeError;
use crate::tensor::Tensor;
use crate::types::{DType, Shape, TensorType};
use crate::verify::CONST;
use crate::weights::WeightSource;

/// Which constants are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    /// All.
    All,
    /// Not those that [`Specialized::leaving_compressed`] leaves.
    NotCompressed,
}

/// A constant that [`Specialized::read_left`] read, to be forgotten again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadConstant(Place);

/// Where a constant is known from.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    /// The value of a `const`.
    Value(ValueId),
    /// A literal among an op's arguments or attributes.
    Literal(BlobReference, TensorType),
}

impl Specialized {
    /// Reads what [`Specialized::leaving_compressed`] left of an op's constants. Gives what that was.
    ///
    /// # Errors
    ///
    /// When a weight cannot be read.
    pub fn read_left(
        &mut self,
        op: OpId,
        weights: &dyn WeightSource,
    ) -> Result<Vec<ReadConstant>, RuntimeError> {
        let Specialized { program, facts, left, .. } = self;
        let function = &program.program().functions[self.function];
        let op = function.op(op);
        let mut read = Vec::new();
        for value in op.reads() {
            if let (Some((reference, ty)), None) = (left.get(&value), facts.constant(value)) {
                let tensor = load(weights, reference, ty, &function.value(value).name)?;
                facts.set_constant(value, Some(tensor));
                read.push(ReadConstant(Place::Value(value)));
            }
        }
        for (reference, ty) in op.literals().filter_map(|(_, literal)| blob(literal)) {
            if !facts.has_blob(reference, &ty) {
                let tensor = load(weights, reference, &ty, name_of(function, op))?;
                facts.set_blob(reference.clone(), ty.clone(), tensor);
                read.push(ReadConstant(Place::Literal(reference.clone(), ty)));
            }
        }
        Ok(read)
    }

    /// Forgets the values of these constants.
    pub fn forget(&mut self, constants: Vec<ReadConstant>) {
        for ReadConstant(place) in constants {
            match place {
                Place::Value(id) => self.facts.set_constant(id, None),
                Place::Literal(reference, ty) => self.facts.remove_blob(reference, ty),
            }
        }
    }
}

/// The name of an op's first result.
fn name_of<'a>(function: &'a Function, op: &Op) -> &'a str {
    op.results.first().map_or("", |&id| function.value(id).name.as_str())
}

fn load(
    weights: &dyn WeightSource,
    reference: &BlobReference,
    ty: &TensorType,
    value: &str,
) -> Result<Arc<Tensor>, RuntimeError> {
    let error = |error| RuntimeError::Weight { value: value.to_string(), error: Box::new(error) };
    weights.load(reference, ty).map(Arc::new).map_err(error)
}

/// Constants whose values are left in weight files.
pub(super) type LeftConstants = HashMap<ValueId, (BlobReference, TensorType)>;

/// Reads the constants that the ops of a function keep in weight files. Gives those of `const` ops that are left.
pub(super) fn read_constants(
    function: &mut Function,
    facts: &mut Facts,
    weights: &dyn WeightSource,
    wanted: Wanted,
) -> Result<LeftConstants, RuntimeError> {
    let mut unread = LeftConstants::new();
    let left = if wanted == Wanted::All { Left::default() } else { Left::of(function) };
    let mut read: HashMap<(&BlobReference, TensorType), Arc<Tensor>> = HashMap::new();
    let mut shapes = Vec::new();
    for (id, op) in function.walk() {
        let name = name_of(function, op);
        let mut read = |reference, ty: TensorType| match read.entry((reference, ty)) {
            Entry::Occupied(entry) => Ok(entry.get().clone()),
            Entry::Vacant(entry) => {
                let tensor = load(weights, reference, &entry.key().1, name)?;
                Ok::<_, RuntimeError>(entry.insert(tensor).clone())
            }
        };
        if op.name == CONST {
            let (Some(&id), Some(literal)) = (op.results.first(), op.attributes.get("val")) else { continue };
            let value = match blob(literal) {
                Some((reference, ty)) if left.values.contains(&id) => {
                    shapes.push((id, ty.shape.clone()));
                    unread.insert(id, (reference.clone(), ty));
                    None
                }
                Some((reference, ty)) => Some(read(reference, ty)?),
                None => bind::held(literal),
            };
            if let Some(value) = value {
                // The length of a list is no dimension of what its type declares.
                if literal.as_tensor().is_some() || blob(literal).is_some() {
                    shapes.push((id, Shape::known(value.shape())));
                }
                facts.set_constant(id, Some(value));
            }
            continue;
        }
        let literals = op.literals().filter_map(|(_, literal)| blob(literal));
        for (reference, ty) in literals.filter(|(_, ty)| !(left.ops.contains(&id) && may_be_left(ty.dtype))) {
            let value = read(reference, ty.clone())?;
            facts.set_blob(reference.clone(), ty, value);
        }
    }
    shapes.into_iter().for_each(|(id, shape)| settle(function, facts, id, shape));
    Ok(unread)
}

/// Whether values of this type may be left in weight files: no type depends on them.
fn may_be_left(dtype: DType) -> bool {
    !dtype.is_float() && dtype.bits() <= 8
}

/// What is left in weight files.
#[derive(Default)]
struct Left {
    /// Constants.
    values: HashSet<ValueId>,
    /// Ops of the body that decompress constants, the integers of whose literals are left.
    ops: HashSet<OpId>,
}

impl Left {
    fn of(function: &Function) -> Left {
        let decompresses = |id: &OpId| {
            let op = function.op(*id);
            ops::lookup(&op.name, function.opset_of(op)).is_some_and(|row| row.constexpr)
        };
        let body: HashSet<OpId> = function.body.ops.iter().copied().collect();
        let uses = function.uses();
        let mut ops = HashSet::new();
        // What reads a result comes behind what makes it. Blocks that read one are given the op.
        for &id in function.body.ops.iter().rev() {
            let op = function.op(id);
            let stays =
                |reader: &OpId| body.contains(reader) && (ops.contains(reader) || !decompresses(reader));
            let in_body =
                |result: &ValueId| uses.yielded(*result) == 0 && uses.ops(*result).iter().all(stays);
            if decompresses(&id) && op.results.iter().all(in_body) {
                ops.insert(id);
            }
        }
        let read: HashSet<ValueId> = ops.iter().flat_map(|&id| function.op(id).reads()).collect();
        let is_left = |&id: &ValueId| {
            function.value(id).ty.dtype().is_some_and(may_be_left)
                && uses.yielded(id) == 0
                && uses.ops(id).iter().all(|op| ops.contains(op))
        };
        Left { values: read.into_iter().filter(is_left).collect(), ops }
    }
}

/// The blob that a literal refers to, with its type.
pub(super) fn blob(literal: &Literal) -> Option<(&BlobReference, TensorType)> {
    match &literal.value {
        LiteralValue::Blob(reference) => Some((reference, literal.ty.as_tensor()?)),
        _ => None,
    }
}
