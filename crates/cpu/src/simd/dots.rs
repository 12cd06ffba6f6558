//! AVX-512 BF16: products of packed blocks of bf16 numbers by `vdpbf16ps`, which adds a₀·b₀ and a₁·b₁ to each fp32 sum
//! of a vector, rounding to nearest even, with subnormal numbers counting as 0 (Intel, "Architecture Instruction Set
//! Extensions Programming Reference", VDPBF16PS). It does twice the multiply-adds of fp32's `vfmadd231ps` in the same
//! time.
#![allow(unsafe_code)]

use std::arch::x86_64::{
    __m512, __m512bh, __m512i, _mm512_dpbf16_ps, _mm512_loadu_ps, _mm512_loadu_si512, _mm512_set1_epi32,
    _mm512_setzero_ps, _mm512_storeu_ps,
};

use super::matrix_unit::{Found, Numbers, PART_WORDS, SIDE, TERMS, TILE_WORDS};
use super::split;
use crate::detect::{InstructionSet, Missing};

/// Rows of sums that are held in registers at once, of [`SIDE`] columns each.
const ROWS: usize = 8;

/// The dot products of bf16 numbers; there is a value of this type only where its instructions, and those of AVX-512 F, BW
/// and VL, can be used.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Dots(());

impl Dots {
    /// The instructions.
    ///
    /// # Errors
    ///
    /// What is missing.
    pub(crate) fn find() -> Result<Dots, Missing> {
        InstructionSet::Avx512Bf16.find().map(|()| Dots(()))
    }

    /// See [`MatrixUnit::split`](super::matrix_unit::MatrixUnit::split).
    pub(crate) fn split(self, numbers: Numbers<'_>, words: &mut [u32]) -> Found {
        // SAFETY: where there is a `Dots`, the processor has what the function is compiled for.
        unsafe { split::split(numbers, words) }
    }

    /// See [`MatrixUnit::multiply`](super::matrix_unit::MatrixUnit::multiply); of operands rounded to bf16.
    pub(crate) fn multiply(
        self,
        (left, right): (&[u32], &[u32]),
        terms: usize,
        (sums, width, adds): (&mut [f32], usize, bool),
    ) {
        let panel = terms.div_ceil(TERMS) * PART_WORDS;
        if panel == 0 {
            return;
        }
        for (j, right) in right.chunks_exact(panel).enumerate() {
            for (i, left) in left.chunks_exact(panel).enumerate() {
                for first in (0..SIDE).step_by(ROWS) {
                    let start = (i * SIDE + first) * width + j * SIDE;
                    let sums = &mut sums[start..start + (ROWS - 1) * width + SIDE];
                    let left = &left[first / 16 * TILE_WORDS + first % 16 * 16..];
                    // SAFETY: where there is a `Dots`, the processor has what the function is compiled for.
                    unsafe { add_products(left, right, sums, width, adds) };
                }
            }
        }
    }
}

/// A vector of pairs of bf16 numbers.
#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
fn pairs(words: __m512i) -> __m512bh {
    // SAFETY: both types are 64 bytes, of which all are valid.
    unsafe { std::mem::transmute(words) }
}

/// Adds to [`ROWS`] rows of [`SIDE`] sums, `width` apart, or replaces them by, the products of rows of a packed panel,
/// which `left` begins with, and the columns of another.
#[target_feature(enable = "avx512f,avx512bf16")]
fn add_products(left: &[u32], right: &[u32], sums: &mut [f32], width: usize, adds: bool) {
    let mut tile: [[__m512; 2]; ROWS] = [[_mm512_setzero_ps(); 2]; ROWS];
    if adds {
        for (row, tile) in tile.iter_mut().enumerate() {
            let row = &sums[row * width..][..SIDE];
            // SAFETY: the row is twice 64 bytes; no alignment is asked for.
            *tile = unsafe { [_mm512_loadu_ps(row.as_ptr()), _mm512_loadu_ps(row[16..].as_ptr())] };
        }
    }
    for (block, right) in right.as_chunks::<PART_WORDS>().0.iter().enumerate() {
        let left = &left[block * PART_WORDS..][..ROWS * 16];
        for k in 0..16 {
            let (low, high) = (&right[16 * k..], &right[TILE_WORDS + 16 * k..]);
            // SAFETY: a tile is sixteen rows of 64 bytes, of which this is the k-th; no alignment is asked for.
            let columns = unsafe {
                [_mm512_loadu_si512(low.as_ptr().cast()), _mm512_loadu_si512(high.as_ptr().cast())]
            };
            for (row, tile) in tile.iter_mut().enumerate() {
                let pair = pairs(_mm512_set1_epi32(left[16 * row + k].cast_signed()));
                for (sums, column) in tile.iter_mut().zip(columns) {
                    *sums = _mm512_dpbf16_ps(*sums, pair, pairs(column));
                }
            }
        }
    }
    for (row, tile) in tile.iter().enumerate() {
        let row = &mut sums[row * width..][..SIDE];
        // SAFETY: as above.
        unsafe {
            _mm512_storeu_ps(row.as_mut_ptr(), tile[0]);
            _mm512_storeu_ps(row[16..].as_mut_ptr(), tile[1]);
        }
    }
}
