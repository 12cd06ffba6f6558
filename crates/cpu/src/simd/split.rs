//! Splitting numbers into the parts that a matrix unit multiplies, with AVX-512.
#![allow(unsafe_code)]

#[cfg(test)]
mod tests;

use std::arch::x86_64::{
    __m256i, __m512, __m512i, _MM_FROUND_TO_NEAREST_INT, _mm256_loadu_si256, _mm256_maskz_loadu_epi16,
    _mm512_add_epi16, _mm512_add_epi32, _mm512_and_si512, _mm512_castps_si512, _mm512_castsi256_si512,
    _mm512_castsi512_ps, _mm512_castsi512_si256, _mm512_cvtepu16_epi32, _mm512_cvtph_ps, _mm512_cvtps_ph,
    _mm512_extracti64x4_epi64, _mm512_inserti64x4, _mm512_loadu_ps, _mm512_loadu_si512,
    _mm512_maskz_loadu_ps, _mm512_max_epu16, _mm512_max_epu32, _mm512_min_epu16, _mm512_min_epu32,
    _mm512_or_si512, _mm512_reduce_max_epu32, _mm512_reduce_min_epu32, _mm512_set1_epi16, _mm512_set1_epi32,
    _mm512_setzero_si512, _mm512_slli_epi32, _mm512_srli_epi32, _mm512_storeu_si512, _mm512_sub_epi16,
    _mm512_sub_epi32, _mm512_sub_ps,
};

use half::f16;

use crate::memory::Floats;
use crate::simd::matrix_unit::{Found, Numbers, PART_WORDS, Parts, SIDE, TERMS, TILE_WORDS};
use crate::simd::x86::{first, prefetch, transposed_words};

/// The largest and the least magnitudes of some elements, of the latter those less one, so that 0 is the largest; in
/// lanes of the elements' type.
#[derive(Clone, Copy)]
struct Seen {
    largest: __m512i,
    least: __m512i,
}

/// Elements that can be loaded as fp32 numbers.
trait Lanes: Copy {
    /// 16 elements from each of two places, as numbers that are split into `PARTS` parts.
    ///
    /// # Safety
    ///
    /// The elements must be there, and the processor must have AVX-512 F, BW and VL.
    unsafe fn load<const PARTS: usize>(places: [*const Self; 2], seen: &mut Seen) -> [__m512; 2];

    /// The same of up to 16 elements of each of two runs, and 0 where there are none.
    ///
    /// # Safety
    ///
    /// The processor must have AVX-512 F, BW and VL.
    unsafe fn load_some<const PARTS: usize>(runs: [&[Self]; 2], seen: &mut Seen) -> [__m512; 2];

    /// What has been seen, in fp32.
    ///
    /// # Safety
    ///
    /// As for [`Lanes::load_some`].
    unsafe fn found(seen: Seen) -> Found;
}

/// The bits of fp16 numbers in fp32.
#[inline]
#[target_feature(enable = "avx512f")]
fn wide_bits(numbers: __m512i) -> [__m512i; 2] {
    let (x, y) = (_mm512_castsi512_si256(numbers), _mm512_extracti64x4_epi64::<1>(numbers));
    [_mm512_castps_si512(_mm512_cvtph_ps(x)), _mm512_castps_si512(_mm512_cvtph_ps(y))]
}

/// Whether the least magnitude of numbers that are split into so many parts is looked for: only products of three ask for
/// it.
const fn looks_for_least(parts: usize) -> bool {
    parts == 3
}

/// fp16 elements as numbers, and what is seen of them.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn see_halves<const PARTS: usize>([x, y]: [__m256i; 2], seen: &mut Seen) -> [__m512; 2] {
    let both = _mm512_inserti64x4::<1>(_mm512_castsi256_si512(x), y);
    let magnitude = _mm512_and_si512(both, _mm512_set1_epi16(0x7fff));
    seen.largest = _mm512_max_epu16(seen.largest, magnitude);
    if looks_for_least(PARTS) {
        seen.least = _mm512_min_epu16(seen.least, _mm512_sub_epi16(magnitude, _mm512_set1_epi16(1)));
    }
    [_mm512_cvtph_ps(x), _mm512_cvtph_ps(y)]
}

/// What is seen of fp32 numbers.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn see_singles<const PARTS: usize>(numbers: [__m512; 2], seen: &mut Seen) -> [__m512; 2] {
    for numbers in numbers {
        let magnitude = _mm512_and_si512(_mm512_castps_si512(numbers), _mm512_set1_epi32(0x7fff_ffff));
        seen.largest = _mm512_max_epu32(seen.largest, magnitude);
        if looks_for_least(PARTS) {
            seen.least = _mm512_min_epu32(seen.least, _mm512_sub_epi32(magnitude, _mm512_set1_epi32(1)));
        }
    }
    numbers
}

impl Lanes for f16 {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    unsafe fn load<const PARTS: usize>([x, y]: [*const f16; 2], seen: &mut Seen) -> [__m512; 2] {
        // SAFETY: an f16 is two bytes, so 16 of them, which the caller vouches for, are 32; no alignment is asked for.
        let elements = unsafe { [_mm256_loadu_si256(x.cast()), _mm256_loadu_si256(y.cast())] };
        see_halves::<PARTS>(elements, seen)
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    unsafe fn load_some<const PARTS: usize>([x, y]: [&[f16]; 2], seen: &mut Seen) -> [__m512; 2] {
        // SAFETY: an f16 is two bytes; lanes that the mask leaves out are not read, the others lie in the slice.
        let elements = unsafe {
            [
                _mm256_maskz_loadu_epi16(first(x.len()), x.as_ptr().cast()),
                _mm256_maskz_loadu_epi16(first(y.len()), y.as_ptr().cast()),
            ]
        };
        see_halves::<PARTS>(elements, seen)
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
    unsafe fn load<const PARTS: usize>([x, y]: [*const f32; 2], seen: &mut Seen) -> [__m512; 2] {
        // SAFETY: the caller vouches for the elements; no alignment is asked for.
        let numbers = unsafe { [_mm512_loadu_ps(x), _mm512_loadu_ps(y)] };
        see_singles::<PARTS>(numbers, seen)
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    unsafe fn load_some<const PARTS: usize>([x, y]: [&[f32]; 2], seen: &mut Seen) -> [__m512; 2] {
        // SAFETY: lanes that the mask leaves out are not read, the others lie in the slice.
        let numbers = unsafe {
            [
                _mm512_maskz_loadu_ps(first(x.len()), x.as_ptr()),
                _mm512_maskz_loadu_ps(first(y.len()), y.as_ptr()),
            ]
        };
        see_singles::<PARTS>(numbers, seen)
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    unsafe fn found(seen: Seen) -> Found {
        let least = _mm512_reduce_min_epu32(seen.least);
        Found { largest: _mm512_reduce_max_epu32(seen.largest), least: least.saturating_add(1) }
    }
}

/// Bits of fp32 that are bf16's.
const PART: u32 = 0xffff_0000;

/// [`MatrixUnit::split`](super::matrix_unit::MatrixUnit::split): each part is the bf16 number nearest to what is left of
/// the number, ties away from 0.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
pub(super) fn split(numbers: Numbers<'_>, words: &mut [u32]) -> Found {
    match (numbers.values, numbers.parts) {
        (Floats::F16(values), Parts::Half) => split_values::<f16, HALF>(values, numbers, words),
        (Floats::F32(values), Parts::Half) => split_values::<f32, HALF>(values, numbers, words),
        (Floats::F16(values), Parts::Nearest) => split_values::<f16, 1>(values, numbers, words),
        (Floats::F32(values), Parts::Nearest) => split_values::<f32, 1>(values, numbers, words),
        (Floats::F16(values), Parts::Two) => split_values::<f16, 2>(values, numbers, words),
        (Floats::F32(values), Parts::Two) => split_values::<f32, 2>(values, numbers, words),
        (Floats::F16(values), Parts::Three) => split_values::<f16, 3>(values, numbers, words),
        (Floats::F32(values), Parts::Three) => split_values::<f32, 3>(values, numbers, words),
    }
}

/// In place of a number of parts: none but the fp16 number itself.
const HALF: usize = 0;

/// Tiles that a number's parts take.
const fn tiles(parts: usize) -> usize {
    if parts == HALF { 1 } else { parts }
}

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

/// Where the numbers of a tile lie: sixteen each, the first and the last terms of a row, or a term of all rows and that
/// sixteen further.
#[derive(Clone, Copy)]
struct TileLayout {
    /// From each of 16 places to the next.
    step: usize,
    /// From each place to its second sixteen numbers.
    second: usize,
    /// From each to numbers that a tile after this one needs, which are fetched ahead: those of the next rows. They may
    /// lie where there are none.
    ahead: usize,
}

/// Writes the parts of two times sixteen numbers.
///
/// # Safety
///
/// Sixteen words must be there, and [`PART_WORDS`] further for each part but the first.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
unsafe fn store_parts<const PARTS: usize>([mut x, mut y]: [__m512; 2], words: *mut u32) {
    for part in 0..tiles(PARTS) {
        let pairs = if PARTS == HALF {
            fp16_pairs(x, y)
        } else {
            let (x, y) = (take_part(&mut x), take_part(&mut y));
            _mm512_or_si512(_mm512_srli_epi32::<16>(x), y)
        };
        // SAFETY: the caller vouches for the words; no alignment is asked for.
        unsafe { _mm512_storeu_si512(words.add(part * PART_WORDS).cast(), pairs) };
    }
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
    let layout = if by_terms {
        TileLayout { step: term_stride, second: term_stride.saturating_mul(16), ahead: SIDE }
    } else {
        TileLayout { step: row_stride, second: 16, ahead: row_stride.saturating_mul(16) }
    };
    let mut seen = Seen { largest: _mm512_setzero_si512(), least: _mm512_set1_epi32(-1) };
    for term in (0..terms).step_by(TERMS) {
        let words = &mut words[term / TERMS * tiles(PARTS) * PART_WORDS..];
        let there = (rows, TERMS.min(terms - term));
        let start = term * term_stride;
        if there == (16, TERMS) {
            whole_tile::<T, PARTS>(&values[start..], layout, words, &mut seen);
        } else {
            // Where there are no rows there is nothing to begin at.
            let values = values.get(start..).unwrap_or_default();
            part_of_tile::<T, PARTS>(values, layout, (by_terms, there), words, &mut seen);
        }
        if turned != by_terms {
            turn::<PARTS>(words);
        }
    }
    // SAFETY: the processor has what this function is compiled for.
    unsafe { T::found(seen) }
}

/// Splits 16 rows of [`TERMS`] numbers.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn whole_tile<T: Lanes, const PARTS: usize>(
    values: &[T],
    TileLayout { step, second, ahead }: TileLayout,
    words: &mut [u32],
    seen: &mut Seen,
) {
    // Of strides that no memory has, too, the sum is more than there are values.
    let values = &values[..step.saturating_mul(15).saturating_add(second).saturating_add(16)];
    let words = &mut words[..(tiles(PARTS) - 1) * PART_WORDS + TILE_WORDS];
    for i in 0..16 {
        let place = values[i * step..].as_ptr();
        prefetch(place.wrapping_add(ahead));
        prefetch(place.wrapping_add(second).wrapping_add(ahead));
        // SAFETY: of the values, sixteen are there from the place on, and from `second` further on. The words are those of
        // 16 rows of every part.
        unsafe {
            let numbers = T::load::<PARTS>([place, place.add(second)], seen);
            store_parts::<PARTS>(numbers, words.as_mut_ptr().add(16 * i));
        }
    }
}

/// Splits the rows and terms that there are; the others are 0.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn part_of_tile<T: Lanes, const PARTS: usize>(
    values: &[T],
    TileLayout { step, second, .. }: TileLayout,
    (by_terms, (rows, terms)): (bool, (usize, usize)),
    words: &mut [u32],
    seen: &mut Seen,
) {
    let words = &mut words[..(tiles(PARTS) - 1) * PART_WORDS + TILE_WORDS];
    for i in 0..16 {
        let [low, high] = match by_terms {
            true => [if i < terms { rows } else { 0 }, if i + 16 < terms { rows } else { 0 }],
            false if i < rows => [terms.min(16), terms.saturating_sub(16)],
            false => [0, 0],
        };
        let runs = [run(values, i * step, low), run(values, i * step + second, high)];
        // SAFETY: the processor has what this function is compiled for. The words are those of 16 rows of every part.
        unsafe {
            let numbers = T::load_some::<PARTS>(runs, seen);
            store_parts::<PARTS>(numbers, words.as_mut_ptr().add(16 * i));
        }
    }
}

/// Exchanges rows and columns of each part's tile.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn turn<const PARTS: usize>(words: &mut [u32]) {
    for part in 0..tiles(PARTS) {
        let Some(tile) = words[part * PART_WORDS..].first_chunk_mut::<TILE_WORDS>() else { continue };
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
