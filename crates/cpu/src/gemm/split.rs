//! Packing for the matrix unit: each number becomes a sum of bf16 numbers, its parts, the largest first.
//!
//! bf16 has 8 bits of fp32's 24: an fp16 number, which has 11, is exactly the sum of two parts, an fp32 number of
//! three, unless it is so small that a part would be subnormal, which the matrix unit takes for 0. Infinity, NaN, and
//! numbers that round to infinity have no parts (∞ − ∞ is NaN); packing says where there are such numbers.

use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};

use super::{DEPTH, Matrix};
use crate::element::Float;
use crate::memory::Floats;
use crate::simd::{SIDE, TERMS, TILE_WORDS, transpose_words};

/// Rows or columns of a tile, and pairs of terms.
const LINES: usize = 16;
/// Bits of fp32 that are bf16's.
const PART: u32 = 0xffff_0000;
/// Bits of the least fp32 magnitude that rounds to infinity in bf16.
const TOO_LARGE: u32 = 0x7f7f_8000;
/// Bits of 2⁻¹⁰⁰: the parts of lesser numbers may be subnormal.
const SMALL: u32 = 27 << 23;

/// Which operand of a product is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operand {
    /// The left one: a tile has a row for each row of it.
    Left,
    /// The right one, whose rows here are its columns: a tile has a row for each pair of terms.
    Right,
}

/// What packing found of the numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Found {
    /// Some are infinite, NaN, or round to infinity.
    pub large: bool,
    /// Some are so small that not all of their parts count.
    pub small: bool,
}

/// fp32 values of room that so many rows, a multiple of [`SIDE`], of so many terms take.
pub fn values(rows: usize, terms: usize, parts: usize) -> usize {
    (rows.saturating_mul(terms.next_multiple_of(TERMS)) / 2).saturating_mul(parts)
}

/// Packs rows × terms of a matrix: block after block of [`DEPTH`] terms, in each panels of [`SIDE`] rows, in these
/// blocks of [`TERMS`] terms, in these the parts, in each two tiles. What is missing from the last ones is 0.
pub fn pack(
    arch: Arch,
    matrix: Matrix<'_>,
    rows: Range<usize>,
    terms: Range<usize>,
    (operand, parts): (Operand, usize),
    packed: &mut [f32],
) -> Found {
    let packed = bytemuck::cast_slice_mut(packed);
    let strides = (matrix.row_stride, matrix.column_stride);
    let first = rows.start * strides.0 + terms.start * strides.1;
    let (rows, terms) = (rows.len(), terms.len());
    if rows == 0 || terms == 0 {
        return Found::default();
    }
    match matrix.values {
        Floats::F16(values) => {
            arch.dispatch(Pack { values: &values[first..], strides, rows, terms, operand, parts, packed })
        }
        Floats::F32(values) => {
            arch.dispatch(Pack { values: &values[first..], strides, rows, terms, operand, parts, packed })
        }
    }
}

struct Pack<'a, T> {
    /// The elements from the first on.
    values: &'a [T],
    /// Distances between rows and between terms.
    strides: (usize, usize),
    rows: usize,
    terms: usize,
    operand: Operand,
    parts: usize,
    packed: &'a mut [u32],
}

impl<T: Float> WithSimd for Pack<'_, T> {
    type Output = Found;

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, _: S) -> Found {
        let height = self.rows.next_multiple_of(SIDE);
        let (mut largest, mut small) = (0, false);
        for row in (0..height).step_by(LINES) {
            let (panel, tile) = (row / SIDE, row % SIDE / LINES);
            for term in (0..self.terms).step_by(TERMS) {
                let depth = DEPTH.min((self.terms - term / DEPTH * DEPTH).next_multiple_of(TERMS));
                let block = values(height, term / DEPTH * DEPTH, self.parts);
                let panel = panel * values(SIDE, depth, self.parts);
                let start = block + panel + values(SIDE, term % DEPTH, self.parts) + tile * TILE_WORDS;
                let (some_largest, some_small) = self.tile(row, term, start);
                largest = u32::max(largest, some_largest);
                small |= some_small;
            }
        }
        Found { large: largest >= TOO_LARGE, small }
    }
}

impl<T: Float> Pack<'_, T> {
    /// Packs 16 rows and 32 terms to `start` and, for each further part, two tiles further. Gives the bits of the
    /// largest magnitude, and whether there are small ones.
    #[inline(always)]
    fn tile(&mut self, row: usize, term: usize, start: usize) -> (u32, bool) {
        let (row_stride, term_stride) = self.strides;
        let by_terms = row_stride == 1 && term_stride != 1;
        let mut words = [[0u32; LINES]; LINES];
        let (mut largest, mut small) = (0, false);
        if by_terms {
            let mut numbers = self.terms_of(row, term);
            for part in 0..self.parts {
                for (words, [first, second]) in words.iter_mut().zip(numbers.as_chunks_mut::<2>().0) {
                    for (word, (x, y)) in words.iter_mut().zip(first.iter_mut().zip(second)) {
                        if part == 0 {
                            look(*x, &mut largest, &mut small);
                            look(*y, &mut largest, &mut small);
                        }
                        *word = next_part(x) >> 16 | next_part(y);
                    }
                }
                self.put(&words, start + part * 2 * TILE_WORDS, self.operand == Operand::Left);
            }
        } else {
            let mut numbers = self.rows_of(row, term);
            for part in 0..self.parts {
                for (words, numbers) in words.iter_mut().zip(&mut numbers) {
                    let mut halves = [0u16; TERMS];
                    for (half, x) in halves.iter_mut().zip(numbers) {
                        if part == 0 {
                            look(*x, &mut largest, &mut small);
                        }
                        *half = (next_part(x) >> 16) as u16;
                    }
                    *words = bytemuck::cast(halves);
                }
                self.put(&words, start + part * 2 * TILE_WORDS, self.operand == Operand::Right);
            }
        }
        (largest, small)
    }

    /// Term after term, 0 where there are none.
    #[inline(always)]
    fn terms_of(&self, row: usize, term: usize) -> [[f32; LINES]; TERMS] {
        let mut numbers = [[0.0; LINES]; TERMS];
        let present = LINES.min(self.rows.saturating_sub(row));
        for (j, numbers) in numbers.iter_mut().enumerate().take(self.terms - term) {
            if present > 0 {
                let first = row + (term + j) * self.strides.1;
                T::widen(&self.values[first..first + present], &mut numbers[..present]);
            }
        }
        numbers
    }

    /// Row after row, 0 where there are none.
    #[inline(always)]
    fn rows_of(&self, row: usize, term: usize) -> [[f32; TERMS]; LINES] {
        let mut numbers = [[0.0; TERMS]; LINES];
        let present = TERMS.min(self.terms - term);
        for (i, numbers) in numbers.iter_mut().enumerate().take(self.rows.saturating_sub(row)) {
            let first = (row + i) * self.strides.0 + term * self.strides.1;
            if self.strides.1 == 1 {
                T::widen(&self.values[first..first + present], &mut numbers[..present]);
                continue;
            }
            for (j, number) in numbers.iter_mut().enumerate().take(present) {
                *number = self.values[first + j * self.strides.1].wide();
            }
        }
        numbers
    }

    /// Writes a tile, or the tile with rows and columns exchanged.
    #[inline(always)]
    fn put(&mut self, words: &[[u32; LINES]; LINES], start: usize, turned: bool) {
        let Some(to) = self.packed[start..].first_chunk_mut::<TILE_WORDS>() else { return };
        let words: &[u32; TILE_WORDS] = bytemuck::cast_ref(words);
        if turned { transpose_words(words, to) } else { *to = *words }
    }
}

/// Looks at a number's magnitude.
#[inline(always)]
fn look(x: f32, largest: &mut u32, small: &mut bool) {
    let magnitude = x.to_bits() & 0x7fff_ffff;
    *largest = u32::max(*largest, magnitude);
    *small |= magnitude.wrapping_sub(1) < SMALL - 1;
}

/// Takes the bf16 number nearest to `x` off it; ties go away from 0. Gives its bits in fp32.
#[inline(always)]
fn next_part(x: &mut f32) -> u32 {
    let part = x.to_bits().wrapping_add(0x8000) & PART;
    *x -= f32::from_bits(part);
    part
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts_of(x: f32, count: usize) -> Vec<f32> {
        let mut rest = x;
        (0..count).map(|_| f32::from_bits(next_part(&mut rest))).collect()
    }

    #[test]
    fn fp16_is_the_sum_of_two_parts_and_fp32_of_three() {
        for bits in (0..=u16::MAX).filter(|bits| bits & 0x7c00 != 0x7c00) {
            let x = half::f16::from_bits(bits).to_f32();
            let parts = parts_of(x, 2);
            assert_eq!(parts[0] + parts[1], x);
            assert!(parts[1].abs() <= x.abs() / 256.0);
        }
        for bits in (SMALL..TOO_LARGE).step_by(9973) {
            let x = f32::from_bits(bits);
            let parts = parts_of(x, 3);
            assert_eq!(f64::from(parts[0]) + f64::from(parts[1]) + f64::from(parts[2]), f64::from(x));
            assert!(parts.iter().all(|part| part.is_finite() && !part.is_subnormal()));
        }
    }
}
