//! Rows taken out of a constant in its stored form.

use std::sync::Arc;

use anemone_mil::ops::{Gather, Given, OpDef, OpError, Operand, Operands, Row};
use anemone_mil::program::ValueId;
use anemone_mil::tensor::{Data, Tensor};
use anemone_mil::types::Opset;

use crate::compressed::Compressed;
use crate::element::Float;
use crate::threads::Threads;

/// The op.
pub(crate) const GATHER: &str = "gather";
const X: &str = "x";
const INDICES: &str = "indices";

/// Whether a `gather` takes rows of a constant, and reads it for nothing else.
pub(crate) fn gathers_rows(row: &OpDef, operands: &Operands<'_>, constant: ValueId) -> bool {
    Gather::bind(operands, row.since).is_ok_and(|gather| {
        let is_constant = |operand: &Operand| operand.id == Some(constant);
        gather.axis == 0 && gather.batch_dims == 0 && is_constant(&gather.x) && !is_constant(&gather.indices)
    })
}

/// Gives a `gather` of rows a tensor of only those that its indices choose, and the indices into that; or all rows, where an
/// index is that of none.
pub(crate) fn choose_rows(
    row: &OpDef,
    operands: &mut Operands<'_>,
    compressed: &Compressed,
    threads: &Threads,
) -> Result<(), OpError> {
    let indices = match operands.get(INDICES) {
        Some(Given::One(indices)) => indices.tensor()?.clone(),
        _ => return Ok(()),
    };
    let (x, indices) = match rows(row.since, &indices, compressed, threads) {
        Some((x, indices)) => (Some(x), Some(indices)),
        None => (compressed.dense(threads), None),
    };
    let (x, indices) = (x.map(Arc::new), indices.map(Arc::new));
    for (name, given) in &mut operands.0 {
        let value = match *name {
            X => &x,
            INDICES => &indices,
            _ => &None,
        };
        if let (Given::One(operand), Some(value)) = (given, value) {
            *operand = operand.clone().holding(value.clone());
        }
    }
    Ok(())
}

/// The rows that indices choose, each once, and which of them each index chooses.
fn rows(
    since: Opset,
    indices: &Tensor,
    compressed: &Compressed,
    threads: &Threads,
) -> Option<(Tensor, Tensor)> {
    let (&count, others) = compressed.dims().split_first()?;
    let row = |index: i64| {
        let from_the_end = index < 0 && since < Opset::IOS17;
        let index = if from_the_end { index.checked_add_unsigned(count as u64)? } else { index };
        usize::try_from(index).ok().filter(|&index| index < count)
    };
    let wanted: Vec<usize> = indices.to_i64()?.into_iter().map(row).collect::<Option<_>>()?;
    let mut chosen = wanted.clone();
    chosen.sort_unstable();
    chosen.dedup();
    let dims: Vec<usize> = [chosen.len()].into_iter().chain(others.iter().copied()).collect();
    let mut x = Tensor::zeros(compressed.dtype(), &dims)?;
    let length = others.iter().product::<usize>();
    match x.data_mut() {
        Data::F16(values) => decode(compressed, &chosen, length, values, threads),
        Data::F32(values) => decode(compressed, &chosen, length, values, threads),
        _ => return None,
    }
    let places: Option<Vec<i64>> =
        wanted.iter().map(|row| i64::try_from(chosen.binary_search(row).ok()?).ok()).collect();
    let indices = Tensor::from_i64(indices.dtype(), indices.shape(), &places?).ok()?;
    Some((x, indices))
}

/// Decodes rows of this length.
fn decode<T: Float>(compressed: &Compressed, rows: &[usize], length: usize, to: &mut [T], threads: &Threads) {
    threads.each_chunk(to, length, crate::compressed::WORK, |index, to| {
        compressed.decode(threads.arch(), rows[index] * length, to);
    });
}
