//! How an op of a function is run.

use anemone_mil::bind;
use anemone_mil::ops::{Given, OpDef, OpError, Operand, Operands};
use anemone_mil::program::Op;
use anemone_mil::types::{Shape, TensorType};

use crate::constants::Constants;
use crate::kernels::decoding::decoding;
use crate::kernels::{self, Choice};
use crate::memory::can_be_planned;
use crate::threads::Threads;

/// The way to run an op; `None` for its meaning.
pub(crate) fn choice_of(
    constants: &Constants,
    op: &Op,
    row: &OpDef,
    threads: &Threads,
) -> Result<Option<Choice>, OpError> {
    let specialized = constants.specialized();
    if let ([result], true) = (&op.results[..], row.constexpr) {
        return Ok(constants.compressed(*result).map(|stored| decoding(stored.clone())));
    }
    let operands = bind::operands(op, row, constants)?;
    let known = |ty: &TensorType| is_addressable(&ty.shape) && can_be_planned(ty.dtype);
    let mut results = Vec::with_capacity(op.results.len());
    for &result in &op.results {
        match specialized.ty(result) {
            Some(ty) if known(&ty) => results.push(ty),
            _ => return Ok(None),
        }
    }
    // Nothing to compute, and so no kernel that would have to care.
    let empty = results.iter().all(|ty| ty.shape.elements() == Some(0));
    if empty || row.stateful || row.constexpr || !op.blocks.is_empty() || !operands_known(&operands) {
        return Ok(None);
    }
    kernels::choose(row, &operands, &results, threads)
}

/// Whether the dimensions are known, and no product of them overflows, though others be 0.
fn is_addressable(shape: &Shape) -> bool {
    let dims = shape.to_known();
    dims.is_some_and(|dims| dims.iter().try_fold(8usize, |all, &d| all.checked_mul(d.max(1))).is_some())
}

/// Whether all operands have such dimensions.
fn operands_known(operands: &Operands<'_>) -> bool {
    let known = |operand: &Operand| is_addressable(operand.shape()) && !operand.is_state;
    operands.0.iter().all(|(_, given)| match given {
        Given::One(operand) => known(operand),
        Given::Tuple(operands) => operands.iter().all(known),
    })
}
