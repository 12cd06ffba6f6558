//! `pad`: the rows of a tensor amid others, or amid a constant.

use anemone_mil::ops::{OpDef, OpError, Operands, Pad, Padded, Row, Run};
use anemone_mil::types::TensorType;
use bytemuck::Pod;

use super::elementwise::CHUNK;
use super::{Choice, Kernel, is_decided};
use crate::memory::{Sources, element_bytes};
use crate::threads::Threads;

pub(super) fn pad(
    row: &OpDef,
    operands: &Operands<'_>,
    results: &[TensorType],
) -> Result<Option<Choice>, OpError> {
    if !is_decided(row, operands, results)? {
        return Ok(None);
    }
    let row = Pad::bind(operands, row.since)?;
    let kernel = Padding {
        padded: Padded::of(&row)?,
        bytes: element_bytes(row.x.dtype()),
        is_given: row.constant_val.is_some(),
    };
    let operands = [Some(row.x), row.constant_val.map(|value| (*value).clone())];
    Ok(Some(Choice::kernel(kernel, operands.into_iter().flatten().collect())))
}

/// Rows of the operand, and what is added to them.
#[derive(Debug)]
struct Padding {
    padded: Padded,
    /// Bytes of an element.
    bytes: usize,
    /// Whether the constant is the second operand; it is 0 otherwise.
    is_given: bool,
}

impl Padding {
    fn copy<T: Pod + Send + Sync>(&self, operands: Sources<'_>, result: &mut [T], threads: &Threads) {
        let x: &[T] = operands.values(0);
        let constant = if self.is_given { operands.values(1)[0] } else { T::zeroed() };
        let row = self.padded.elements();
        let rows = CHUNK.div_ceil(row.max(1));
        threads.each_chunk(result, (rows * row).max(1), 2, |chunk, result| {
            for (number, mut to) in result.chunks_mut(row).enumerate() {
                for Run { source, start, step, length } in self.padded.row(chunk * rows + number) {
                    let (part, rest) = to.split_at_mut(length);
                    match (source, step) {
                        _ if length == 0 => {}
                        (1, _) => part.fill(constant),
                        (_, 0) => part.fill(x[start]),
                        (_, 1) => part.copy_from_slice(&x[start..start + length]),
                        _ => part.iter_mut().zip(x[..=start].iter().rev()).for_each(|(to, from)| *to = *from),
                    }
                    to = rest;
                }
            }
        });
    }
}

impl Kernel for Padding {
    fn run(&self, operands: Sources<'_>, result: &mut [u8], _: &mut [f64], threads: &Threads) {
        match self.bytes {
            2 => self.copy::<u16>(operands, bytemuck::cast_slice_mut(result), threads),
            _ => self.copy::<u32>(operands, bytemuck::cast_slice_mut(result), threads),
        }
    }
}
