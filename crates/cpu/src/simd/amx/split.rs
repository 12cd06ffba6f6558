//! Splitting numbers into bf16 parts, with AVX-512.
#![allow(unsafe_code)]

use std::arch::x86_64::{
    __m512, __m512i, _MM_FROUND_TO_NEAREST_INT, _mm256_maskz_loadu_epi16, _mm512_add_epi16, _mm512_add_epi32,
    _mm512_and_si512, _mm512_castps_si512, _mm512_castsi256_si512, _mm512_castsi512_ps,
    _mm512_castsi512_si256, _mm512_cvtepu16_epi32, _mm512_cvtph_ps, _mm512_cvtps_ph,
    _mm512_extracti64x4_epi64, _mm512_inserti64x4, _mm512_loadu_si512, _mm512_maskz_loadu_ps,
    _mm512_max_epu16, _mm512_max_epu32, _mm512_min_epu16, _mm512_min_epu32, _mm512_or_si512,
    _mm512_reduce_max_epu32, _mm512_reduce_min_epu32, _mm512_set1_epi16, _mm512_set1_epi32,
    _mm512_setzero_si512, _mm512_slli_epi32, _mm512_srli_epi32, _mm512_storeu_si512, _mm512_sub_epi16,
    _mm512_sub_epi32, _mm512_sub_ps,
};

use half::f16;

use crate::memory::Floats;
use crate::simd::matrix_unit::{Found, Numbers, TILE_WORDS};
use crate::simd::x86::{first, transposed_words};

/// The largest and the least magnitudes of some elements, of the latter those less one, so that 0 is the largest; in
/// lanes of the elements' type.
#[derive(Clone, Copy)]
struct Seen {
    largest: __m512i,
    least: __m512i,
}

/// Elements that can be loaded as fp32 numbers.
trait Lanes: Copy {
    /// Up to 16 elements of each of two runs, as numbers, and 0 where there are none.
    ///
    /// # Safety
    ///
    /// The processor must have AVX-512 F, BW and VL.
    unsafe fn load(runs: [&[Self]; 2], seen: &mut Seen) -> [__m512; 2];

    /// What has been seen, in fp32.
    ///
    /// # Safety
    ///
    /// As for [`Lanes::load`].
    unsafe fn found(seen: Seen) -> Found;
}

/// The bits of fp16 numbers in fp32.
#[inline]
#[target_feature(enable = "avx512f")]
fn wide_bits(numbers: __m512i) -> [__m512i; 2] {
    let (x, y) = (_mm512_castsi512_si256(numbers), _mm512_extracti64x4_epi64::<1>(numbers));
    [_mm512_castps_si512(_mm512_cvtph_ps(x)), _mm512_castps_si512(_mm512_cvtph_ps(y))]
}

impl Lanes for f16 {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    unsafe fn load([x, y]: [&[f16]; 2], seen: &mut Seen) -> [__m512; 2] {
        // SAFETY: an f16 is two bytes; lanes that the mask leaves out are not read, the others lie in the slice.
        let (x, y) = unsafe {
            (
                _mm256_maskz_loadu_epi16(first(x.len()), x.as_ptr().cast()),
                _mm256_maskz_loadu_epi16(first(y.len()), y.as_ptr().cast()),
            )
        };
        let both = _mm512_inserti64x4::<1>(_mm512_castsi256_si512(x), y);
        let magnitude = _mm512_and_si512(both, _mm512_set1_epi16(0x7fff));
        seen.largest = _mm512_max_epu16(seen.largest, magnitude);
        seen.least = _mm512_min_epu16(seen.least, _mm512_sub_epi16(magnitude, _mm512_set1_epi16(1)));
        [_mm512_cvtph_ps(x), _mm512_cvtph_ps(y)]
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    unsafe fn found(seen: Seen) -> Found {
        let [x, y] = wide_bits(seen.largest);
        let largest = _mm512_max_epu32(x, y);
        let [x, y] = wide_bits(_mm512_add_epi16(seen.least, _mm512_set1_epi16(1)));
        let one = _mm512_set1_epi32(1);
        let least = _mm512_min_epu32(_mm512_sub_epi32(x, one), _mm512_sub_epi32(y, one));
        // SAFETY: the processor has what this function is compiled for.
        unsafe { f32::found(Seen { largest, least }) }
    }
}

impl Lanes for f32 {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    unsafe fn load([x, y]: [&[f32]; 2], seen: &mut Seen) -> [__m512; 2] {
        // SAFETY: lanes that the mask leaves out are not read, the others lie in the slice.
        let numbers = unsafe {
            [
                _mm512_maskz_loadu_ps(first(x.len()), x.as_ptr()),
                _mm512_maskz_loadu_ps(first(y.len()), y.as_ptr()),
            ]
        };
        for numbers in numbers {
            let magnitude = _mm512_and_si512(_mm512_castps_si512(numbers), _mm512_set1_epi32(0x7fff_ffff));
            seen.largest = _mm512_max_epu32(seen.largest, magnitude);
            seen.least = _mm512_min_epu32(seen.least, _mm512_sub_epi32(magnitude, _mm512_set1_epi32(1)));
        }
        numbers
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    unsafe fn found(seen: Seen) -> Found {
        let least = _mm512_reduce_min_epu32(seen.least);
        Found { largest: _mm512_reduce_max_epu32(seen.largest), least: least.saturating_add(1) }
    }
}

/// Bits of fp32 that are bf16's.
const PART: u32 = 0xffff_0000;

/// [`super::Amx::split`]: each part is the bf16 number nearest to what is left of the number, ties away from 0; a single
/// one is the fp16 number.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
pub fn split(numbers: Numbers<'_>, words: &mut [u32]) -> Found {
    match (numbers.values, numbers.parts) {
        (Floats::F16(values), 1) => split_values::<f16, 1>(values, numbers, words),
        (Floats::F32(values), 1) => split_values::<f32, 1>(values, numbers, words),
        (Floats::F16(values), 2) => split_values::<f16, 2>(values, numbers, words),
        (Floats::F32(values), 2) => split_values::<f32, 2>(values, numbers, words),
        (Floats::F16(values), _) => split_values::<f16, 3>(values, numbers, words),
        (Floats::F32(values), _) => split_values::<f32, 3>(values, numbers, words),
    }
}

/// 32-bit words from one part to the next.
const DISTANCE: usize = 2 * TILE_WORDS;

/// The first part of each number; leaves the rest.
#[inline]
#[target_feature(enable = "avx512f")]
fn take_part(numbers: &mut __m512) -> __m512i {
    let rounded = _mm512_add_epi32(_mm512_castps_si512(*numbers), _mm512_set1_epi32(0x8000));
    let part = _mm512_and_si512(rounded, _mm512_set1_epi32(PART as i32));
    *numbers = _mm512_sub_ps(*numbers, _mm512_castsi512_ps(part));
    part
}

/// Pairs of numbers, which fp16 holds.
#[inline]
#[target_feature(enable = "avx512f")]
fn fp16_pairs(x: __m512, y: __m512) -> __m512i {
    let x = _mm512_cvtepu16_epi32(_mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(x));
    let y = _mm512_cvtepu16_epi32(_mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(y));
    _mm512_or_si512(x, _mm512_slli_epi32::<16>(y))
}

/// Some elements; none where there are none.
#[inline]
fn run<T>(values: &[T], start: usize, length: usize) -> &[T] {
    if length == 0 { &[] } else { &values[start..start + length] }
}

// Functions are called by name: closures are not inlined into code that is compiled for fewer instructions.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn split_values<T: Lanes, const PARTS: usize>(
    values: &[T],
    numbers: Numbers<'_>,
    words: &mut [u32],
) -> Found {
    let Numbers { row_stride, term_stride, rows, terms, turned, .. } = numbers;
    let by_terms = term_stride != 1;
    let words = &mut words[..(PARTS - 1) * DISTANCE + TILE_WORDS];
    let full = rows == 16 && terms == 32;
    let mut seen = Seen { largest: _mm512_setzero_si512(), least: _mm512_set1_epi32(-1) };
    // Sixteen numbers each: the first and the last terms of a row, or a term of all rows and that sixteen further.
    let (step, second) = if by_terms { (term_stride, 16 * term_stride) } else { (row_stride, 16) };
    for i in 0..16 {
        let start = i * step;
        // SAFETY: the processor has what this function is compiled for.
        let [mut x, mut y] = if full {
            unsafe {
                T::load([&values[start..start + 16], &values[start + second..start + second + 16]], &mut seen)
            }
        } else {
            let [low, high] = match by_terms {
                true => [if i < terms { rows } else { 0 }, if i + 16 < terms { rows } else { 0 }],
                false if i < rows => [terms.min(16), terms.saturating_sub(16)],
                false => [0, 0],
            };
            let runs = [run(values, start, low), run(values, start + second, high)];
            // SAFETY: as above.
            unsafe { T::load(runs, &mut seen) }
        };
        for part in 0..PARTS {
            let pairs = if PARTS == 1 {
                fp16_pairs(x, y)
            } else {
                let (x, y) = (take_part(&mut x), take_part(&mut y));
                _mm512_or_si512(_mm512_srli_epi32::<16>(x), y)
            };
            let to = &mut words[part * DISTANCE + 16 * i..][..16];
            // SAFETY: sixteen words are 64 bytes; no alignment is asked for.
            unsafe { _mm512_storeu_si512(to.as_mut_ptr().cast(), pairs) };
        }
    }
    if turned != by_terms {
        for part in 0..PARTS {
            let Some(tile) = words[part * DISTANCE..].first_chunk_mut::<TILE_WORDS>() else { continue };
            let mut rows = [_mm512_setzero_si512(); 16];
            for (row, from) in rows.iter_mut().zip(tile.as_chunks::<16>().0) {
                // SAFETY: each row of the tile is 64 bytes.
                *row = unsafe { _mm512_loadu_si512(from.as_ptr().cast()) };
            }
            for (to, row) in tile.as_chunks_mut::<16>().0.iter_mut().zip(transposed_words(rows)) {
                // SAFETY: as above.
                unsafe { _mm512_storeu_si512(to.as_mut_ptr().cast(), row) };
            }
        }
    }
    // SAFETY: as for loading.
    unsafe { T::found(seen) }
}

#[cfg(test)]
mod tests {
    use crate::memory::Floats;
    use crate::simd::amx::Amx;
    use crate::simd::matrix_unit::{Found, Numbers};

    /// Splits every number in both orders, with tiles turned and not, and puts the parts together again.
    fn check(values: Floats<'_>, parts: usize, rows: usize, terms: usize) -> Found {
        let mut found = Found::NOTHING;
        let Some(amx) = Amx::emulated() else { return found };
        for (row_stride, term_stride) in [(terms, 1), (1, rows)] {
            for turned in [false, true] {
                let mut words = [7u32; 3 * 512];
                let numbers = Numbers { values, row_stride, term_stride, rows, terms, turned, parts };
                found = found.or(amx.split(numbers, &mut words));
                for (i, j) in (0..16).flat_map(|i| (0..32).map(move |j| (i, j))) {
                    let sum: f64 = (0..parts)
                        .map(|part| {
                            let word =
                                words[512 * part + if turned { 16 * (j % 16) + i } else { 16 * i + j % 16 }];
                            let half = if j < 16 { word << 16 } else { word & 0xffff_0000 };
                            let half = f32::from_bits(half);
                            assert!(found.has_small() || !half.is_subnormal());
                            f64::from(half)
                        })
                        .sum();
                    let there = i < rows && j < terms;
                    let expected = if there { values.get(i * row_stride + j * term_stride) } else { 0.0 };
                    let exact = !found.has_large() && !found.has_small();
                    assert!(!exact || sum == f64::from(expected), "{i} {j}: {sum:e}, not {expected:e}");
                }
            }
        }
        found
    }

    #[test]
    fn numbers_are_the_sums_of_their_parts() {
        let halves: Vec<half::f16> =
            (0..=u16::MAX).map(half::f16::from_bits).filter(|x| x.is_finite()).collect();
        let singles: Vec<f32> = (27u32 << 23..0x7f7f_8000).step_by(9973).map(f32::from_bits).collect();
        for (rows, terms) in [(16, 32), (16, 31), (3, 32), (1, 1), (15, 7), (16, 17)] {
            for halves in halves.chunks_exact(rows * terms).step_by(if rows * terms == 512 { 1 } else { 50 })
            {
                assert!(!check(Floats::F16(halves), 2, rows, terms).has_large());
            }
            for singles in singles.chunks_exact(rows * terms).step_by(7) {
                let found = check(Floats::F32(singles), 3, rows, terms);
                assert!(!found.has_large() && !found.has_small());
            }
        }
    }

    #[test]
    fn fp16_numbers_are_taken_as_they_are() {
        let Some(amx) = Amx::emulated() else { return };
        let (rows, terms) = (15, 31);
        let all: Vec<half::f16> = (0..=u16::MAX).map(half::f16::from_bits).collect();
        for values in all.chunks_exact(rows * terms) {
            for (row_stride, term_stride) in [(terms, 1), (1, rows)] {
                for turned in [false, true] {
                    let mut words = [7u32; 256];
                    let values_of_numbers = Floats::F16(values);
                    let numbers = Numbers {
                        values: values_of_numbers,
                        row_stride,
                        term_stride,
                        rows,
                        terms,
                        turned,
                        parts: 1,
                    };
                    amx.split(numbers, &mut words);
                    for (i, j) in (0..16).flat_map(|i| (0..32).map(move |j| (i, j))) {
                        let word = words[if turned { 16 * (j % 16) + i } else { 16 * i + j % 16 }];
                        let found = half::f16::from_bits((word >> (16 * (j / 16))) as u16);
                        let there = i < rows && j < terms;
                        let expected =
                            if there { values[i * row_stride + j * term_stride] } else { half::f16::ZERO };
                        let same = found.to_bits() == expected.to_bits();
                        assert!(
                            same || found.is_nan() && expected.is_nan(),
                            "{i} {j}: {found} for {expected}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn what_has_no_parts_is_found() {
        let found = |value: f32| {
            let mut values = [1.5f32; 512];
            values[77] = value;
            check(Floats::F32(&values), 3, 16, 32)
        };
        for large in [f32::INFINITY, f32::NEG_INFINITY, f32::NAN, f32::MAX, f32::from_bits(0xff7f_8000)] {
            assert!(found(large).has_large(), "{large:e}");
        }
        assert!(!found(f32::from_bits(0x7f7f_7fff)).has_large());
        for small in [f32::from_bits(1), 1e-38, -1e-31] {
            let found = found(small);
            assert!(found.has_small() && !found.has_large(), "{small:e}");
            assert_eq!(found, Found { largest: 1.5f32.to_bits(), least: small.abs().to_bits() });
        }
        assert_eq!(found(0.0), Found { largest: 1.5f32.to_bits(), least: 1.5f32.to_bits() });
        assert!(!found(-8e-31).has_small());
    }
}
