//! Packing for the matrix unit: each number becomes a sum of bf16 numbers, its parts, the largest first; or the nearest
//! bf16 number, where that is asked for; or, where the unit multiplies fp16 numbers, an fp16 number its only part.
//!
//! bf16 has 8 bits of fp32's 24: an fp16 number, which has 11, is exactly the sum of two parts, an fp32 number of
//! three, unless it is so small that a part would be subnormal, which the matrix unit takes for 0. Infinity, NaN, and
//! numbers that round to infinity have no parts (∞ − ∞ is NaN); packing says where there are such numbers.

use std::ops::Range;

use super::{DEPTH, Matrix};
use crate::memory::Floats;
use crate::simd::matrix_unit::{Found, MatrixUnit, Numbers, Parts, SIDE, TERMS, TILE_WORDS};

/// Rows of a tile.
const ROWS: usize = 16;

/// Which operand of a product is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Factor {
    /// The left one: a tile has a row for each row of it.
    Left,
    /// The right one, whose rows here are its columns: a tile has a row for each pair of terms.
    Right,
}

/// fp32 values of room that so many rows, a multiple of [`SIDE`], of so many terms take.
pub(super) fn values(rows: usize, terms: usize, parts: Parts) -> usize {
    (rows.saturating_mul(terms.next_multiple_of(TERMS)) / 2).saturating_mul(parts.count())
}

/// Packs rows × terms of a matrix: block after block of [`DEPTH`] terms, in each panels of [`SIDE`] rows, in these
/// blocks of [`TERMS`] terms, in these the parts, in each two tiles. What is missing from the last ones is 0.
pub(super) fn pack(
    unit: MatrixUnit,
    matrix: Matrix<'_>,
    rows: Range<usize>,
    terms: Range<usize>,
    (operand, parts): (Factor, Parts),
    packed: &mut [f32],
) -> Found {
    let packed: &mut [u32] = bytemuck::cast_slice_mut(packed);
    let height = rows.len().next_multiple_of(SIDE);
    let mut found = Found::NOTHING;
    for row in (0..height).step_by(ROWS) {
        let (panel, tile) = (row / SIDE, row % SIDE / ROWS);
        let rows = (rows.start + row).min(rows.end)..rows.end.min(rows.start + row + ROWS);
        for block in (0..terms.len()).step_by(DEPTH) {
            let depth = DEPTH.min(terms.len() - block);
            let start = values(height, block, parts) + panel * values(SIDE, depth, parts) + tile * TILE_WORDS;
            let terms = terms.start + block..terms.start + block + depth;
            let turned = operand == Factor::Right;
            found = found.or(split(unit, matrix, rows.clone(), terms, (turned, parts), &mut packed[start..]));
        }
    }
    found
}

/// Packs [`ROWS`] rows of some terms: a tile of each part for every [`TERMS`] of them.
fn split(
    unit: MatrixUnit,
    matrix: Matrix<'_>,
    rows: Range<usize>,
    terms: Range<usize>,
    (turned, parts): (bool, Parts),
    words: &mut [u32],
) -> Found {
    let Matrix { values, row_stride, column_stride: term_stride } = matrix;
    let first = rows.start * row_stride + terms.start * term_stride;
    let (rows, terms) = (rows.len(), terms.len());
    // There are no values from the end of the matrix on.
    let values = if rows == 0 { Floats::F32(&[]) } else { values.from(first) };
    if row_stride == 1 || term_stride == 1 {
        return unit.split(Numbers { values, row_stride, term_stride, rows, terms, turned, parts }, words);
    }
    let mut found = Found::NOTHING;
    for (first, words) in (0..terms).step_by(TERMS).zip(words.chunks_mut(self::values(SIDE, TERMS, parts))) {
        let terms = TERMS.min(terms - first);
        let mut copy = [0.0; ROWS * TERMS];
        for (i, row) in copy.chunks_exact_mut(TERMS).enumerate().take(rows) {
            for (j, number) in row.iter_mut().enumerate().take(terms) {
                *number = values.get(i * row_stride + (first + j) * term_stride);
            }
        }
        let values = Floats::F32(&copy);
        let (row_stride, term_stride) = (TERMS, 1);
        found = found
            .or(unit.split(Numbers { values, row_stride, term_stride, rows, terms, turned, parts }, words));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::not_run::not_run;

    #[test]
    fn strides_do_not_matter() {
        let unit = match MatrixUnit::dots().or_else(|_| MatrixUnit::amx()) {
            Ok(unit) => unit,
            Err(missing) => return not_run(missing),
        };
        let (rows, terms) = (40, 300);
        let dense: Vec<f32> = (0..rows * terms).map(|i| (i as f32 - 5000.5) / 64.0).collect();
        let mut spread = vec![f32::NAN; 2 * rows * (terms + 1)];
        for (i, &value) in dense.iter().enumerate() {
            spread[i / terms * 2 * (terms + 1) + i % terms * 2] = value;
        }
        let dense = Matrix { values: Floats::F32(&dense), row_stride: terms, column_stride: 1 };
        let spread = Matrix { values: Floats::F32(&spread), row_stride: 2 * (terms + 1), column_stride: 2 };
        for operand in [(Factor::Left, Parts::Two), (Factor::Right, Parts::Three)] {
            let pack = |matrix| {
                let mut packed = vec![0.0; values(64, 304, operand.1)];
                let found = pack(unit, matrix, 1..rows, 3..terms, operand, &mut packed);
                (found, packed.into_iter().map(f32::to_bits).collect::<Vec<_>>())
            };
            assert_eq!(pack(dense), pack(spread), "{operand:?}");
        }
    }
}
