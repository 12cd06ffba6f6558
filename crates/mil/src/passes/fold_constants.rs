//! Computing before the run what only constants decide.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::bind_literals::constant;
use super::{PassError, Rewritten, finish};
use crate::bind::{self, Facts};
use crate::error::{Errors, Location, Place};
use crate::eval::{Budget, Evaluation};
use crate::ops::{OpDef, Operand};
use crate::program::{BlobReference, Dialect, Function, Literal, LiteralValue, OpId, ValueId};
use crate::tensor::{Data, Tensor};
use crate::types::{DType, TensorType, Type};
use crate::verify::{CONST, Verified, count};
use crate::weights::{BlobError, WeightSource};

/// What one application of [`fold_constants`] may compute of the constants in a text.
pub const FOLD_BUDGET: Budget = Budget { elements: 1 << 24, work: 1 << 26 };
/// What it may compute of weights, too: some seconds' work.
pub const FOLD_WEIGHTS_BUDGET: Budget = Budget { elements: 1 << 28, work: 1 << 30 };

/// A result may have this many bytes even where its operands have fewer.
const SMALL_BYTES: u64 = 1 << 16;

/// Makes a constant of every op whose operands are all constants, or that depends on nothing but known types, as the
/// reference interpreter computes it.
///
/// Constants in blob files are read only where `weights` are given. An op stays that decompresses a constant, whose
/// result is larger than its operands together and 64 KiB, that fails, or for which the budget does not
/// suffice; and so do all of a function in which a folded value makes another op refuse its operands.
///
/// # Errors
///
/// When a weight cannot be read.
pub fn fold_constants(
    program: &Verified,
    weights: Option<&dyn WeightSource>,
    budget: Budget,
) -> Result<Rewritten, PassError> {
    let mut left: HashSet<usize> = HashSet::new();
    loop {
        match attempt(program, weights, budget, &left) {
            Err(PassError::Unsound(unsound)) => {
                let before = left.len();
                left.extend(functions_at_fault(&unsound.errors));
                if left.len() == before {
                    return Err(PassError::Unsound(unsound));
                }
            }
            other => return other,
        }
    }
}

/// Folds in all functions but those to be left.
fn attempt(
    program: &Verified,
    weights: Option<&dyn WeightSource>,
    budget: Budget,
    left: &HashSet<usize>,
) -> Result<Rewritten, PassError> {
    let mut changed = program.program().clone();
    let mut changes = Vec::new();
    let dialect = changed.version.dialect();
    let mut evaluation = Evaluation::new(budget);
    for (index, function) in changed.functions.iter_mut().enumerate() {
        if left.contains(&index) {
            changes
                .push(format!("`{}`: nothing folded, as ops would refuse the folded values", function.name));
            continue;
        }
        let mut facts = program.facts(index).clone();
        facts.settle_constants();
        let mut folding = Folding { facts, weights, dialect, evaluation: &mut evaluation, folded: 0 };
        folding.function(function, |id| program.row(index, id))?;
        if folding.folded > 0 {
            changes.push(format!("`{}`: {} folded", function.name, count(folding.folded, "op")));
        }
    }
    finish(changed, changes)
}

fn functions_at_fault(errors: &Errors) -> impl Iterator<Item = usize> {
    errors.listed().iter().filter_map(|error| match error.location {
        Location::Place(Place::Function(index, _)) => Some(index),
        _ => None,
    })
}

struct Folding<'a> {
    facts: Facts,
    weights: Option<&'a dyn WeightSource>,
    dialect: Dialect,
    evaluation: &'a mut Evaluation,
    folded: usize,
}

impl Folding<'_> {
    fn function(
        &mut self,
        function: &mut Function,
        row: impl Fn(OpId) -> Option<&'static OpDef>,
    ) -> Result<(), PassError> {
        let blobs = blobs(function);
        let mut insertions: HashMap<OpId, Vec<OpId>> = HashMap::new();
        let order: Vec<OpId> = function.walk().map(|(id, _)| id).collect();
        for id in order {
            let op = function.op(id);
            let Some(row) = row(id).filter(|row| may_fold(row)) else { continue };
            if op.results.is_empty() {
                continue;
            }
            let Some(values) = self.values(function, id, row, &blobs)? else { continue };
            let results = function.op(id).results.clone();
            if !values.iter().zip(&results).all(|(value, &result)| value.fits(&function.value(result).ty)) {
                continue;
            }
            self.folded += 1;
            for (position, (value, result)) in values.into_iter().zip(results).enumerate() {
                self.replace(function, id, position, result, value, &mut insertions);
            }
        }
        function.insert_before(&insertions);
        Ok(())
    }

    /// The results of an op that constants decide, if they are small enough and computed within the budget.
    fn values(
        &mut self,
        function: &Function,
        id: OpId,
        row: &OpDef,
        blobs: &HashMap<ValueId, (BlobReference, TensorType)>,
    ) -> Result<Option<Vec<Arc<Tensor>>>, PassError> {
        let op = function.op(id);
        let Ok(operands) = bind::operands(op, row, &self.facts) else { return Ok(None) };
        let all: Vec<&Operand> = operands.iter().collect();
        if all.is_empty()
            || !all.iter().all(|operand| operand.constant || row.from_types && !operand.is_state)
        {
            return Ok(None);
        }
        let given = bytes(all.iter().map(|operand| &operand.ty));
        let Ok(types) = (row.infer)(&operands) else { return Ok(None) };
        let largest = given.unwrap_or(0).max(SMALL_BYTES);
        if bytes(types.iter()).is_none_or(|bytes| bytes > largest) {
            return Ok(None);
        }
        let missing = all.iter().any(|operand| operand.value.is_none() && !row.from_types);
        if missing {
            let Some(weights) = self.weights else { return Ok(None) };
            if !self.load(function, id, weights, blobs)? {
                return Ok(None);
            }
        }
        let Ok(operands) = bind::operands(op, row, &self.facts) else { return Ok(None) };
        if !row.from_types && operands.iter().any(|operand| operand.value.is_none()) {
            return Ok(None);
        }
        // What fails or is too much to compute now is left for the run.
        let Ok(results) = row.apply(&operands, self.evaluation) else { return Ok(None) };
        Ok(Some(results.into_iter().map(|result| Arc::new(with_plain_nans(result))).collect()))
    }

    /// Reads the weights that an op's arguments name; whether the budget holds them.
    fn load(
        &mut self,
        function: &Function,
        id: OpId,
        weights: &dyn WeightSource,
        blobs: &HashMap<ValueId, (BlobReference, TensorType)>,
    ) -> Result<bool, PassError> {
        let failed = |value: &str, error: BlobError| PassError::Weight { value: value.to_string(), error };
        let op = function.op(id);
        for read in op.reads() {
            if let (Some((reference, ty)), None) = (blobs.get(&read), self.facts.constant(read)) {
                if self.evaluation.allocate(&ty.shape).is_err() {
                    return Ok(false);
                }
                let tensor = weights.load(reference, ty);
                let tensor = tensor.map_err(|error| failed(&function.value(read).name, error))?;
                self.facts.set_constant(read, Some(Arc::new(tensor)));
            }
        }
        for (_, literal) in op.literals() {
            if let (LiteralValue::Blob(reference), Some(ty)) = (&literal.value, literal.ty.as_tensor()) {
                if self.evaluation.allocate(&ty.shape).is_err() {
                    return Ok(false);
                }
                let tensor = weights.load(reference, &ty).map_err(|error| failed(&op.name, error))?;
                self.facts.set_blob(reference.clone(), ty, Arc::new(tensor));
            }
        }
        Ok(true)
    }

    /// Binds a result of an op by a constant: the first in the place of the op, others before it.
    fn replace(
        &mut self,
        function: &mut Function,
        id: OpId,
        position: usize,
        result: ValueId,
        value: Arc<Tensor>,
        insertions: &mut HashMap<OpId, Vec<OpId>>,
    ) {
        let declared = &mut function.values[result.index()].ty;
        if let Type::Tensor(ty) = declared {
            *ty = value.ty();
        }
        let literal = Literal { ty: declared.clone(), value: LiteralValue::Tensor(value.clone()) };
        self.facts.set_ty(result, declared.clone());
        self.facts.set_constant(result, Some(value));
        let name = function.value(result).name.clone();
        let mut folded = constant(self.dialect, name, literal, result);
        if position > 0 {
            let added = function.add_op(folded);
            insertions.entry(id).or_default().push(added);
            return;
        }
        // The op's name is its own, which need not be that of its result.
        if let Some(name) = function.op(id).attributes.get(bind::NAME_ATTRIBUTE) {
            folded.attributes.insert(bind::NAME_ATTRIBUTE, name.clone());
        }
        function.ops[id.index()] = folded;
    }
}

/// Whether an op does nothing but give tensors that follow from its operands.
fn may_fold(row: &OpDef) -> bool {
    !row.constexpr && !row.stateful && !row.gives_list && !row.gives_dictionary && row.blocks.is_none()
}

/// The constants of a function that blob files keep.
fn blobs(function: &Function) -> HashMap<ValueId, (BlobReference, TensorType)> {
    let constants = function.walk().filter(|(_, op)| op.name == CONST);
    let blob = |literal: &Literal| match &literal.value {
        LiteralValue::Blob(reference) => Some((reference.clone(), literal.ty.as_tensor()?)),
        _ => None,
    };
    constants.filter_map(|(_, op)| Some((*op.results.first()?, blob(op.attributes.get("val")?)?))).collect()
}

/// The bytes of tensors together; `None` where a dimension is not known. A string counts as eight.
fn bytes<'a>(types: impl Iterator<Item = &'a TensorType>) -> Option<u64> {
    let each = types.map(|ty| {
        let bits = if ty.dtype == DType::String { 64 } else { u64::from(ty.dtype.bits()) };
        Some(ty.shape.elements()?.saturating_mul(bits).div_ceil(8))
    });
    each.sum()
}

/// The tensor with every NaN as text writes it, without sign or payload.
fn with_plain_nans(mut tensor: Tensor) -> Tensor {
    let dtype = tensor.dtype();
    match tensor.data_mut() {
        Data::F16(values) => values.iter_mut().filter(|v| v.is_nan()).for_each(|v| *v = half::f16::NAN),
        Data::Bf16(values) => values.iter_mut().filter(|v| v.is_nan()).for_each(|v| *v = half::bf16::NAN),
        Data::F32(values) => values.iter_mut().filter(|v| v.is_nan()).for_each(|v| *v = f32::NAN),
        Data::F64(values) => values.iter_mut().filter(|v| v.is_nan()).for_each(|v| *v = f64::NAN),
        Data::U8(values) if dtype == DType::Fp8E4M3FN => {
            values.iter_mut().filter(|v| **v & 0x7f == 0x7f).for_each(|v| *v = 0x7f);
        }
        Data::U8(values) if dtype == DType::Fp8E5M2 => {
            values.iter_mut().filter(|v| **v & 0x7f > 0x7c).for_each(|v| *v = 0x7e);
        }
        _ => {}
    }
    tensor
}
