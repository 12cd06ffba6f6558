//! x86-64: `vcvtph2ps` and `vcvtps2ph`, sixteen at a time with AVX-512, eight with F16C; and shuffles of AVX-512.
#![allow(unsafe_code)]

use std::arch::x86_64::{
    __m256i, __mmask16, _MM_FROUND_TO_NEAREST_INT, _MM_HINT_T0, _mm_loadu_si128, _mm_prefetch,
    _mm_storeu_si128, _mm256_cvtph_ps, _mm256_cvtps_ph, _mm256_loadu_ps, _mm256_loadu_si256,
    _mm256_mask_storeu_epi16, _mm256_maskz_loadu_epi16, _mm256_storeu_ps, _mm256_storeu_si256,
    _mm512_cvtph_ps, _mm512_cvtps_ph, _mm512_loadu_ps, _mm512_mask_storeu_ps, _mm512_maskz_loadu_ps,
    _mm512_storeu_ps,
};
use std::arch::x86_64::{
    __m512i, _mm512_shuffle_i32x4, _mm512_unpackhi_epi32, _mm512_unpackhi_epi64, _mm512_unpacklo_epi32,
    _mm512_unpacklo_epi64,
};

use half::f16;

use crate::detect::InstructionSet;
use crate::element::Float;

/// Whether the sixteen-wide code can be used: it takes AVX-512 F, BW and VL.
pub(super) fn has_avx512() -> bool {
    InstructionSet::Avx512.find().is_ok()
}

/// Whether the eight-wide code can be used: it takes AVX and F16C.
pub(super) fn has_f16c() -> bool {
    InstructionSet::F16c.find().is_ok()
}

/// Fetches what is at an address, if anything is.
#[inline(always)]
pub(super) fn prefetch<T>(place: *const T) {
    // SAFETY: every x86-64 processor has the instruction, which faults on no address and changes no value.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(place.cast()) }
}

/// Widens, if the processor has an instruction for it.
pub(super) fn widen(from: &[f16], to: &mut [f32]) -> bool {
    if has_avx512() {
        // SAFETY: the features that the function is compiled for have been detected.
        unsafe { widen_avx512(from, to) };
    } else if has_f16c() {
        // SAFETY: as above.
        unsafe { widen_f16c(from, to) };
    } else {
        return false;
    }
    true
}

/// Rounds, if the processor has an instruction for it.
pub(super) fn narrow(from: &[f32], to: &mut [f16]) -> bool {
    if has_avx512() {
        // SAFETY: the features that the function is compiled for have been detected.
        unsafe { narrow_avx512(from, to) };
    } else if has_f16c() {
        // SAFETY: as above.
        unsafe { narrow_f16c(from, to) };
    } else {
        return false;
    }
    true
}

/// Rounds to fp16 in place, if the processor has an instruction for it.
pub(super) fn round_to_half(values: &mut [f32]) -> bool {
    if has_avx512() {
        // SAFETY: the features that the function is compiled for have been detected.
        unsafe { round_to_half_avx512(values) };
    } else if has_f16c() {
        // SAFETY: as above.
        unsafe { round_to_half_f16c(values) };
    } else {
        return false;
    }
    true
}

/// The tile of 16 rows of 16 words with rows and columns exchanged. Four rounds, each of which brings rows together
/// that were twice as far apart: pairs of words, pairs of pairs, and quarters of rows twice.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn transposed_words(rows: [__m512i; 16]) -> [__m512i; 16] {
    let mut words = rows;
    for (i, word) in words.iter_mut().enumerate() {
        let (x, y) = (rows[i & !1], rows[i | 1]);
        *word = if i & 1 == 0 { _mm512_unpacklo_epi32(x, y) } else { _mm512_unpackhi_epi32(x, y) };
    }
    // Row 4·g + c then holds column c of each quarter, of rows 4·g to 4·g + 3.
    let mut pairs = words;
    for (i, pair) in pairs.iter_mut().enumerate() {
        let (x, y) = (words[i & !3 | i >> 1 & 1], words[i & !3 | i >> 1 & 1 | 2]);
        *pair = if i & 1 == 0 { _mm512_unpacklo_epi64(x, y) } else { _mm512_unpackhi_epi64(x, y) };
    }
    // Two groups of rows together, of the even or the odd quarters.
    let mut halves = pairs;
    for (i, half) in halves.iter_mut().enumerate() {
        let (group, odd, column) = (i >> 3, i >> 2 & 1, i & 3);
        let (x, y) = (pairs[8 * group + column], pairs[8 * group + 4 + column]);
        *half =
            if odd == 0 { _mm512_shuffle_i32x4::<0x88>(x, y) } else { _mm512_shuffle_i32x4::<0xdd>(x, y) };
    }
    let mut columns = halves;
    for (i, to) in columns.iter_mut().enumerate() {
        let (quarter, column) = (i >> 2, i & 3);
        let (x, y) = (halves[4 * (quarter & 1) + column], halves[8 + 4 * (quarter & 1) + column]);
        *to =
            if quarter < 2 { _mm512_shuffle_i32x4::<0x88>(x, y) } else { _mm512_shuffle_i32x4::<0xdd>(x, y) };
    }
    columns
}

/// A mask of the first `count` lanes of sixteen.
pub(super) fn first(count: usize) -> __mmask16 {
    ((1u32 << count.min(16)) - 1) as __mmask16
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn widen_avx512(from: &[f16], to: &mut [f32]) {
    let (from, from_rest) = from.as_chunks::<16>();
    let (to, to_rest) = to.as_chunks_mut::<16>();
    for (from, to) in from.iter().zip(to) {
        // SAFETY: an f16 is two bytes, so `from` and `to` are 32 and 64 bytes; no alignment is asked for.
        unsafe {
            let half = _mm256_loadu_si256(from.as_ptr().cast::<__m256i>());
            _mm512_storeu_ps(to.as_mut_ptr(), _mm512_cvtph_ps(half));
        }
    }
    let mask = first(from_rest.len().min(to_rest.len()));
    // SAFETY: lanes that the mask leaves out are neither read nor written; the others lie in both slices.
    unsafe {
        let half = _mm256_maskz_loadu_epi16(mask, from_rest.as_ptr().cast::<i16>());
        _mm512_mask_storeu_ps(to_rest.as_mut_ptr(), mask, _mm512_cvtph_ps(half));
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn narrow_avx512(from: &[f32], to: &mut [f16]) {
    let (from, from_rest) = from.as_chunks::<16>();
    let (to, to_rest) = to.as_chunks_mut::<16>();
    for (from, to) in from.iter().zip(to) {
        // SAFETY: an f16 is two bytes, so `from` and `to` are 64 and 32 bytes; no alignment is asked for.
        unsafe {
            let half = _mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(_mm512_loadu_ps(from.as_ptr()));
            _mm256_storeu_si256(to.as_mut_ptr().cast::<__m256i>(), half);
        }
    }
    let mask = first(from_rest.len().min(to_rest.len()));
    // SAFETY: lanes that the mask leaves out are neither read nor written; the others lie in both slices.
    unsafe {
        let wide = _mm512_maskz_loadu_ps(mask, from_rest.as_ptr());
        let half = _mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(wide);
        _mm256_mask_storeu_epi16(to_rest.as_mut_ptr().cast::<i16>(), mask, half);
    }
}

#[target_feature(enable = "avx,f16c")]
fn widen_f16c(from: &[f16], to: &mut [f32]) {
    let (from, from_rest) = from.as_chunks::<8>();
    let (to, to_rest) = to.as_chunks_mut::<8>();
    for (from, to) in from.iter().zip(to) {
        // SAFETY: an f16 is two bytes, so `from` and `to` are 16 and 32 bytes; no alignment is asked for.
        unsafe {
            let half = _mm_loadu_si128(from.as_ptr().cast());
            _mm256_storeu_ps(to.as_mut_ptr(), _mm256_cvtph_ps(half));
        }
    }
    to_rest.iter_mut().zip(from_rest).for_each(|(to, value)| *to = value.wide());
}

#[target_feature(enable = "avx,f16c")]
fn narrow_f16c(from: &[f32], to: &mut [f16]) {
    let (from, from_rest) = from.as_chunks::<8>();
    let (to, to_rest) = to.as_chunks_mut::<8>();
    for (from, to) in from.iter().zip(to) {
        // SAFETY: an f16 is two bytes, so `from` and `to` are 32 and 16 bytes; no alignment is asked for.
        unsafe {
            let half = _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(_mm256_loadu_ps(from.as_ptr()));
            _mm_storeu_si128(to.as_mut_ptr().cast(), half);
        }
    }
    to_rest.iter_mut().zip(from_rest).for_each(|(to, &value)| *to = f16::narrow(value));
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn round_to_half_avx512(values: &mut [f32]) {
    for values in values.chunks_mut(16) {
        let mask = first(values.len());
        // SAFETY: lanes that the mask leaves out are neither read nor written; the others lie in the slice.
        unsafe {
            let wide = _mm512_maskz_loadu_ps(mask, values.as_ptr());
            let half = _mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(wide);
            _mm512_mask_storeu_ps(values.as_mut_ptr(), mask, _mm512_cvtph_ps(half));
        }
    }
}

#[target_feature(enable = "avx,f16c")]
fn round_to_half_f16c(values: &mut [f32]) {
    let (values, rest) = values.as_chunks_mut::<8>();
    for values in values {
        // SAFETY: `values` is 32 bytes; no alignment is asked for.
        unsafe {
            let half = _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(_mm256_loadu_ps(values.as_ptr()));
            _mm256_storeu_ps(values.as_mut_ptr(), _mm256_cvtph_ps(half));
        }
    }
    rest.iter_mut().for_each(|value| *value = f16::narrow(*value).wide());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::not_run::not_run;

    /// The eight-wide code, which a processor with AVX-512 would never choose.
    #[test]
    fn eight_at_a_time() {
        if let Err(missing) = InstructionSet::F16c.find() {
            return not_run(missing);
        }
        let all: Vec<f16> = (0..=u16::MAX - 3).map(f16::from_bits).collect();
        let mut wide = vec![0.0f32; all.len()];
        let mut back = vec![f16::ONE; all.len()];
        // SAFETY: the features have been detected.
        unsafe {
            widen_f16c(&all, &mut wide);
            round_to_half_f16c(&mut wide);
            narrow_f16c(&wide, &mut back);
        }
        for ((value, wide), back) in all.iter().zip(&wide).zip(&back) {
            assert!(value.is_nan() && wide.is_nan() || value.to_f32() == *wide, "{value}");
            assert!(value.is_nan() && back.is_nan() || value.to_bits() == back.to_bits(), "{value}");
        }
    }
}
