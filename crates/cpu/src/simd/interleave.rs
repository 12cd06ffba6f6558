//! x86-64: rows of numbers to columns, tile by tile in registers.
#![allow(unsafe_code)]

use std::arch::x86_64::{
    __m256, _mm256_loadu_ps, _mm256_permute2f128_ps, _mm256_shuffle_ps, _mm256_storeu_ps, _mm256_unpackhi_ps,
    _mm256_unpacklo_ps, _mm512_castps_si512, _mm512_castsi512_ps, _mm512_loadu_ps, _mm512_setzero_si512,
    _mm512_storeu_ps,
};

use super::x86::{has_avx512, has_f16c, transposed_words};

/// Interleaves as many columns as whole tiles take, of so many of the rows as whole tiles take, if the processor has
/// instructions for it; gives both.
pub(super) fn interleave(
    rows: &[f32],
    row_stride: usize,
    [count, width]: [usize; 2],
    to: &mut [f32],
    stride: usize,
) -> [usize; 2] {
    if count >= 16 && has_avx512() {
        // SAFETY: the features that the function is compiled for have been detected.
        unsafe { interleave_avx512(rows, row_stride, width / 16, to, stride) };
        return [16, width / 16 * 16];
    }
    if count >= 8 && has_f16c() {
        for first in (0..count / 8 * 8).step_by(8) {
            // SAFETY: as above; F16C comes with AVX.
            unsafe {
                interleave_avx(&rows[first * row_stride..], row_stride, width / 8, &mut to[first..], stride)
            };
        }
        return [count / 8 * 8, width / 8 * 8];
    }
    [0, 0]
}

/// Sixteen rows, tiles of sixteen columns.
#[target_feature(enable = "avx512f")]
fn interleave_avx512(rows: &[f32], row_stride: usize, tiles: usize, to: &mut [f32], stride: usize) {
    for tile in 0..tiles {
        let mut words = [_mm512_setzero_si512(); 16];
        for (i, word) in words.iter_mut().enumerate() {
            let row = &rows[i * row_stride + 16 * tile..][..16];
            // SAFETY: `row` is 64 bytes; no alignment is asked for.
            *word = unsafe { _mm512_castps_si512(_mm512_loadu_ps(row.as_ptr())) };
        }
        for (k, column) in transposed_words(words).into_iter().enumerate() {
            let to = &mut to[(16 * tile + k) * stride..][..16];
            // SAFETY: as above.
            unsafe { _mm512_storeu_ps(to.as_mut_ptr(), _mm512_castsi512_ps(column)) };
        }
    }
}

/// Eight rows, tiles of eight columns.
#[target_feature(enable = "avx")]
fn interleave_avx(rows: &[f32], row_stride: usize, tiles: usize, to: &mut [f32], stride: usize) {
    for tile in 0..tiles {
        let row = |i: usize| -> __m256 {
            let row = &rows[i * row_stride + 8 * tile..][..8];
            // SAFETY: `row` is 32 bytes; no alignment is asked for.
            unsafe { _mm256_loadu_ps(row.as_ptr()) }
        };
        let tile_rows = [row(0), row(1), row(2), row(3), row(4), row(5), row(6), row(7)];
        for (k, column) in transposed(tile_rows).into_iter().enumerate() {
            let to = &mut to[(8 * tile + k) * stride..][..8];
            // SAFETY: as above.
            unsafe { _mm256_storeu_ps(to.as_mut_ptr(), column) };
        }
    }
}

/// The tile with rows and columns exchanged. Three rounds, each of which brings rows together that were twice as far apart.
#[inline]
#[target_feature(enable = "avx")]
fn transposed(rows: [__m256; 8]) -> [__m256; 8] {
    let [a, b, c, d, e, f, g, h] = rows;
    let pairs = [
        (_mm256_unpacklo_ps(a, b), _mm256_unpacklo_ps(c, d)),
        (_mm256_unpackhi_ps(a, b), _mm256_unpackhi_ps(c, d)),
        (_mm256_unpacklo_ps(e, f), _mm256_unpacklo_ps(g, h)),
        (_mm256_unpackhi_ps(e, f), _mm256_unpackhi_ps(g, h)),
    ];
    // Columns 0 and 4 of four rows, then 1 and 5, 2 and 6, 3 and 7; of rows 0 to 3, and of rows 4 to 7.
    let quarter =
        |(x, y): (__m256, __m256)| (_mm256_shuffle_ps::<0x44>(x, y), _mm256_shuffle_ps::<0xee>(x, y));
    let [(p0, p1), (p2, p3), (q0, q1), (q2, q3)] = pairs.map(quarter);
    let low = |p, q| _mm256_permute2f128_ps::<0x20>(p, q);
    let high = |p, q| _mm256_permute2f128_ps::<0x31>(p, q);
    [
        low(p0, q0),
        low(p1, q1),
        low(p2, q2),
        low(p3, q3),
        high(p0, q0),
        high(p1, q1),
        high(p2, q2),
        high(p3, q3),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::InstructionSet;
    use crate::not_run::not_run;

    /// The eight-wide code, which a processor with AVX-512 would never choose.
    #[test]
    fn eight_at_a_time() {
        if let Err(missing) = InstructionSet::F16c.find() {
            return not_run(missing);
        }
        let rows: Vec<f32> = (0..8 * 40).map(|i| i as f32).collect();
        let mut to = vec![-1.0; 24 * 11];
        // SAFETY: the features have been detected.
        unsafe { interleave_avx(&rows, 40, 3, &mut to, 11) };
        for (at, &value) in to.iter().enumerate() {
            let (k, i) = (at / 11, at % 11);
            assert_eq!(value, if i < 8 { (i * 40 + k) as f32 } else { -1.0 }, "row {i}, column {k}");
        }
    }
}
