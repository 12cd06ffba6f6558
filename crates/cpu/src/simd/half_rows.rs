//! Products of rows of fp16 numbers and vectors of fp32 numbers, as a model needs them that writes token by token: the
//! rows are widened in registers, on their way from memory.
#![allow(unsafe_code)]

use std::arch::x86_64::{
    _mm_loadu_si128, _mm256_add_ps, _mm256_cvtph_ps, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_loadu_si256,
    _mm256_maskz_loadu_epi16, _mm256_set1_ps, _mm256_setzero_ps, _mm256_storeu_ps, _mm512_add_ps,
    _mm512_cvtph_ps, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_mask_storeu_ps, _mm512_maskz_loadu_ps,
    _mm512_reduce_add_ps, _mm512_set1_ps, _mm512_setzero_ps,
};

use half::f16;
use pulp::Arch;

use super::x86::{first, has_f16c, prefetch};
use crate::element::Float;

/// Rows that are combined at once.
const ROWS: usize = 4;
/// Elements from those that are read to those that are fetched: processors foresee less of short rows.
const AHEAD: usize = 2048;
/// Terms whose products are added to the same sums, before these join those of others: long sums would lose bits.
const TERMS: usize = 2048;

/// The product of each row, as long as the vector, and the vector, if there are instructions for it.
pub(super) fn dots(arch: Arch, rows: &[f16], vector: &[f32], sums: &mut [f32]) -> bool {
    assert!(vector.len().checked_mul(sums.len()) == Some(rows.len()));
    match arch {
        // SAFETY: a V4 is the proof of the features that the function is compiled for.
        Arch::V4(_) => unsafe { dots_avx512(rows, vector, sums) },
        // SAFETY: a V3 is the proof, but for F16C, which has been detected.
        Arch::V3(_) if has_f16c() => unsafe { dots_avx2(rows, vector, sums) },
        _ => return false,
    }
    true
}

/// Adds to the sums rows as long as they are, each times its factor, if there are instructions for it.
pub(super) fn combine(arch: Arch, rows: &[f16], factors: &[f32], sums: &mut [f32]) -> bool {
    assert!(factors.len().checked_mul(sums.len()) == Some(rows.len()));
    match arch {
        // SAFETY: a V4 is the proof of the features that the function is compiled for.
        Arch::V4(_) => unsafe { combine_avx512(rows, factors, sums) },
        // SAFETY: a V3 is the proof, but for F16C, which has been detected.
        Arch::V3(_) if has_f16c() => unsafe { combine_avx2(rows, factors, sums) },
        _ => return false,
    }
    true
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn dots_avx512(rows: &[f16], vector: &[f32], sums: &mut [f32]) {
    if vector.is_empty() {
        return sums.fill(0.0);
    }
    for (row, sum) in rows.chunks_exact(vector.len()).zip(sums) {
        let mut total = _mm512_setzero_ps();
        for (row, vector) in row.chunks(TERMS).zip(vector.chunks(TERMS)) {
            let mut parts = [_mm512_setzero_ps(); 4];
            let ((row, row_end), (vector, vector_end)) = (row.as_chunks::<64>(), vector.as_chunks::<64>());
            for (row, vector) in row.iter().zip(vector) {
                prefetch(row.as_ptr().wrapping_add(AHEAD));
                prefetch(row.as_ptr().wrapping_add(AHEAD + 32));
                for (i, part) in parts.iter_mut().enumerate() {
                    // SAFETY: sixteen elements of each are there from here on, an f16 being two bytes; no alignment is
                    // asked for.
                    let (x, y) = unsafe {
                        let x = _mm256_loadu_si256(row.as_ptr().add(16 * i).cast());
                        (_mm512_cvtph_ps(x), _mm512_loadu_ps(vector.as_ptr().add(16 * i)))
                    };
                    *part = _mm512_fmadd_ps(x, y, *part);
                }
            }
            for (part, (row, vector)) in parts.iter_mut().zip(row_end.chunks(16).zip(vector_end.chunks(16))) {
                let mask = first(row.len());
                // SAFETY: lanes that the mask leaves out are not read; the others lie in both, which are as long.
                let (x, y) = unsafe {
                    let x = _mm256_maskz_loadu_epi16(mask, row.as_ptr().cast());
                    (_mm512_cvtph_ps(x), _mm512_maskz_loadu_ps(mask, vector.as_ptr()))
                };
                *part = _mm512_fmadd_ps(x, y, *part);
            }
            let [a, b, c, d] = parts;
            total = _mm512_add_ps(total, _mm512_add_ps(_mm512_add_ps(a, b), _mm512_add_ps(c, d)));
        }
        *sum = _mm512_reduce_add_ps(total);
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
fn dots_avx2(rows: &[f16], vector: &[f32], sums: &mut [f32]) {
    if vector.is_empty() {
        return sums.fill(0.0);
    }
    for (row, sum) in rows.chunks_exact(vector.len()).zip(sums) {
        let mut total = 0.0;
        for (row, vector) in row.chunks(TERMS).zip(vector.chunks(TERMS)) {
            let mut parts = [_mm256_setzero_ps(); 4];
            let ((row, row_end), (vector, vector_end)) = (row.as_chunks::<32>(), vector.as_chunks::<32>());
            for (row, vector) in row.iter().zip(vector) {
                prefetch(row.as_ptr().wrapping_add(AHEAD));
                for (i, part) in parts.iter_mut().enumerate() {
                    // SAFETY: eight elements of each are there from here on, an f16 being two bytes; no alignment is asked
                    // for.
                    let (x, y) = unsafe {
                        let x = _mm_loadu_si128(row.as_ptr().add(8 * i).cast());
                        (_mm256_cvtph_ps(x), _mm256_loadu_ps(vector.as_ptr().add(8 * i)))
                    };
                    *part = _mm256_fmadd_ps(x, y, *part);
                }
            }
            let [a, b, c, d] = parts;
            let part = _mm256_add_ps(_mm256_add_ps(a, b), _mm256_add_ps(c, d));
            let mut lanes = [0.0f32; 8];
            // SAFETY: eight numbers are 32 bytes; no alignment is asked for.
            unsafe { _mm256_storeu_ps(lanes.as_mut_ptr(), part) };
            let rest = row_end.iter().zip(vector_end).map(|(x, y)| x.wide() * y);
            total += lanes.iter().sum::<f32>() + rest.sum::<f32>();
        }
        *sum = total;
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn combine_avx512(rows: &[f16], factors: &[f32], sums: &mut [f32]) {
    let width = sums.len();
    if width == 0 {
        return;
    }
    for (factors, rows) in factors.chunks(ROWS).zip(rows.chunks(ROWS * width)) {
        for (strip, sums) in sums.chunks_mut(16).enumerate() {
            let mask = first(sums.len());
            // SAFETY: lanes that the mask leaves out are neither read nor written; the others lie in the sums, and, as
            // far from the start of each row, in the rows, which are as long. No alignment is asked for.
            unsafe {
                let mut sum = _mm512_maskz_loadu_ps(mask, sums.as_ptr());
                for (row, &factor) in rows.chunks_exact(width).zip(factors) {
                    let row = row.as_ptr().add(16 * strip).cast::<i16>();
                    let row = _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(mask, row));
                    sum = _mm512_fmadd_ps(row, _mm512_set1_ps(factor), sum);
                }
                _mm512_mask_storeu_ps(sums.as_mut_ptr(), mask, sum);
            }
        }
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
fn combine_avx2(rows: &[f16], factors: &[f32], sums: &mut [f32]) {
    let width = sums.len();
    if width == 0 {
        return;
    }
    for (factors, rows) in factors.chunks(ROWS).zip(rows.chunks(ROWS * width)) {
        let (sums, rest) = sums.as_chunks_mut::<8>();
        let whole = 8 * sums.len();
        for (strip, sums) in sums.iter_mut().enumerate() {
            // SAFETY: eight sums are 32 bytes, and each row has eight elements, of two bytes, at the same place. No
            // alignment is asked for.
            unsafe {
                let mut sum = _mm256_loadu_ps(sums.as_ptr());
                for (row, &factor) in rows.chunks_exact(width).zip(factors) {
                    let row = _mm256_cvtph_ps(_mm_loadu_si128(row[8 * strip..][..8].as_ptr().cast()));
                    sum = _mm256_fmadd_ps(row, _mm256_set1_ps(factor), sum);
                }
                _mm256_storeu_ps(sums.as_mut_ptr(), sum);
            }
        }
        for (row, factor) in rows.chunks_exact(width).zip(factors) {
            rest.iter_mut().zip(&row[whole..]).for_each(|(sum, x)| *sum += x.wide() * factor);
        }
    }
}
