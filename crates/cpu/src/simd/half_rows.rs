//! Products of rows of fp16 numbers and vectors of fp32 numbers, as a model needs them that writes token by token: the
//! rows are widened in registers, on their way from memory.
#![allow(unsafe_code)]

use std::arch::x86_64::{
    _mm_loadu_si128, _mm256_add_ps, _mm256_cvtph_ps, _mm256_fmadd_ps, _mm256_loadu_ps,
    _mm256_maskz_loadu_epi16, _mm256_set1_ps, _mm256_setzero_ps, _mm256_storeu_ps, _mm512_add_ps,
    _mm512_cvtph_ps, _mm512_fmadd_ps, _mm512_mask_storeu_ps, _mm512_maskz_loadu_ps, _mm512_reduce_add_ps,
    _mm512_set1_ps, _mm512_setzero_ps,
};

use half::f16;
use pulp::Arch;

use super::x86::{first, has_f16c};
use crate::element::Float;

/// Rows that are gone through together.
const ROWS: usize = 4;
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
    let length = vector.len();
    if length == 0 {
        return sums.fill(0.0);
    }
    for (rows, sums) in rows.chunks(ROWS * length).zip(sums.chunks_mut(ROWS)) {
        // Of the last rows there may be less: then the first counts for those that are missing.
        let mut starts = [rows.as_ptr(); ROWS];
        for (start, row) in starts.iter_mut().zip(rows.chunks_exact(length)) {
            *start = row.as_ptr();
        }
        let mut totals = [_mm512_setzero_ps(); ROWS];
        for (block, vector) in vector.chunks(TERMS).enumerate() {
            let mut parts = [[_mm512_setzero_ps(); 2]; ROWS];
            for (i, vector) in vector.chunks(32).enumerate() {
                let at = block * TERMS + 32 * i;
                let (low, high) = (first(vector.len()), first(vector.len().saturating_sub(16)));
                // SAFETY: lanes that a mask leaves out are not read; the others lie in the vector, and, as far from the
                // start of each row, in the rows, which are as long. An f16 is two bytes; no alignment is asked for.
                unsafe {
                    let terms = [
                        _mm512_maskz_loadu_ps(low, vector.as_ptr()),
                        _mm512_maskz_loadu_ps(high, vector.as_ptr().wrapping_add(16)),
                    ];
                    for (part, start) in parts.iter_mut().zip(starts) {
                        let row = start.add(at).cast::<i16>();
                        let x = _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(low, row));
                        let y = _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(high, row.wrapping_add(16)));
                        part[0] = _mm512_fmadd_ps(x, terms[0], part[0]);
                        part[1] = _mm512_fmadd_ps(y, terms[1], part[1]);
                    }
                }
            }
            for (total, [x, y]) in totals.iter_mut().zip(parts) {
                *total = _mm512_add_ps(*total, _mm512_add_ps(x, y));
            }
        }
        for (sum, total) in sums.iter_mut().zip(totals) {
            *sum = _mm512_reduce_add_ps(total);
        }
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
fn dots_avx2(rows: &[f16], vector: &[f32], sums: &mut [f32]) {
    let length = vector.len();
    if length == 0 {
        return sums.fill(0.0);
    }
    let (whole, rest) = vector.split_at(length / 8 * 8);
    for (rows, sums) in rows.chunks(ROWS * length).zip(sums.chunks_mut(ROWS)) {
        let mut starts = [rows; ROWS];
        for (start, row) in starts.iter_mut().zip(rows.chunks_exact(length)) {
            *start = row;
        }
        let mut totals = [_mm256_setzero_ps(); ROWS];
        for (block, vector) in whole.chunks(TERMS / 2).enumerate() {
            let mut parts = [_mm256_setzero_ps(); ROWS];
            for (i, vector) in vector.chunks_exact(8).enumerate() {
                let at = block * (TERMS / 2) + 8 * i;
                // SAFETY: the vector has eight elements here, and so has each row, which is as long, from the same place
                // on. An f16 is two bytes; no alignment is asked for.
                unsafe {
                    let terms = _mm256_loadu_ps(vector.as_ptr());
                    for (part, row) in parts.iter_mut().zip(starts) {
                        let x = _mm256_cvtph_ps(_mm_loadu_si128(row.as_ptr().add(at).cast()));
                        *part = _mm256_fmadd_ps(x, terms, *part);
                    }
                }
            }
            for (total, part) in totals.iter_mut().zip(parts) {
                *total = _mm256_add_ps(*total, part);
            }
        }
        for ((sum, total), row) in sums.iter_mut().zip(totals).zip(starts) {
            let mut lanes = [0.0f32; 8];
            // SAFETY: eight numbers are 32 bytes; no alignment is asked for.
            unsafe { _mm256_storeu_ps(lanes.as_mut_ptr(), total) };
            let last = row[whole.len()..length].iter().zip(rest).map(|(x, y)| x.wide() * y);
            *sum = lanes.iter().sum::<f32>() + last.sum::<f32>();
        }
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
