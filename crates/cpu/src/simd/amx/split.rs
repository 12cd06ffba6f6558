//! Splitting numbers into bf16 parts, with AVX-512.
#![allow(unsafe_code)]

use std::arch::x86_64::{
    __m512, __m512i, _mm256_maskz_loadu_epi16, _mm512_add_epi32, _mm512_and_si512, _mm512_castps_si512,
    _mm512_castsi512_ps, _mm512_cvtph_ps, _mm512_loadu_epi16, _mm512_loadu_si512, _mm512_maskz_loadu_ps,
    _mm512_max_epu32, _mm512_min_epu32, _mm512_or_si512, _mm512_permutex2var_epi16, _mm512_reduce_max_epu32,
    _mm512_reduce_min_epu32, _mm512_set1_epi32, _mm512_setzero_ps, _mm512_setzero_si512, _mm512_srli_epi32,
    _mm512_storeu_si512, _mm512_sub_epi32, _mm512_sub_ps,
};

use half::f16;

use crate::memory::Floats;
use crate::simd::matrix_unit::{Found, Numbers, TILE_WORDS};
use crate::simd::x86::{first, transposed_words};

/// Elements that can be loaded as fp32 numbers.
trait Lanes: Copy {
    /// Up to 16 elements, and 0 where there are none.
    ///
    /// # Safety
    ///
    /// The processor must have AVX-512 F, BW and VL.
    unsafe fn load(values: &[Self]) -> __m512;
}

impl Lanes for f16 {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    unsafe fn load(values: &[f16]) -> __m512 {
        // SAFETY: an f16 is two bytes; lanes that the mask leaves out are not read, the others lie in the slice.
        let half = unsafe { _mm256_maskz_loadu_epi16(first(values.len()), values.as_ptr().cast()) };
        _mm512_cvtph_ps(half)
    }
}

impl Lanes for f32 {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    unsafe fn load(values: &[f32]) -> __m512 {
        // SAFETY: lanes that the mask leaves out are not read, the others lie in the slice.
        unsafe { _mm512_maskz_loadu_ps(first(values.len()), values.as_ptr()) }
    }
}

/// The high halves of the words of one vector, and then of another.
const HIGH_HALVES: [i16; 32] = {
    let mut indices = [0; 32];
    let mut i = 0;
    while i < 32 {
        indices[i] = 2 * i as i16 + 1;
        i += 1;
    }
    indices
};

/// Bits of fp32 that are bf16's.
const PART: u32 = 0xffff_0000;
/// [`super::Amx::split`]: each part is the bf16 number nearest to what is left of the number, ties away from 0.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
pub fn split(numbers: Numbers<'_>, words: &mut [u32]) -> Found {
    match numbers.values {
        Floats::F16(values) => split_values(values, numbers, words),
        Floats::F32(values) => split_values(values, numbers, words),
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn split_values<T: Lanes>(values: &[T], numbers: Numbers<'_>, words: &mut [u32]) -> Found {
    const DISTANCE: usize = 2 * TILE_WORDS;
    let Numbers { row_stride, term_stride, rows, terms, turned, parts, .. } = numbers;
    let by_terms = term_stride != 1;
    // SAFETY: the constant is 64 bytes.
    let high_halves = unsafe { _mm512_loadu_epi16(HIGH_HALVES.as_ptr()) };
    let rounding = _mm512_set1_epi32(0x8000);
    let part_bits = _mm512_set1_epi32(PART as i32);
    let magnitude_bits = _mm512_set1_epi32(0x7fff_ffff);
    let one = _mm512_set1_epi32(1);
    let mut largest = _mm512_setzero_si512();
    // Less one, so that 0 is the largest.
    let mut least = _mm512_set1_epi32(-1);
    for i in 0..16 {
        // Sixteen numbers each: the first and the last terms of a row, or a term of all rows and the next term.
        let [mut x, mut y] = if by_terms {
            [2 * i, 2 * i + 1].map(|j| {
                // SAFETY: the processor has what this function is compiled for.
                if j < terms && rows > 0 {
                    unsafe { T::load(&values[j * term_stride..][..rows]) }
                } else {
                    _mm512_setzero_ps()
                }
            })
        } else if i < rows {
            let row = &values[i * row_stride..][..terms];
            let (low, high) = row.split_at(terms.min(16));
            // SAFETY: as above.
            unsafe { [T::load(low), T::load(high)] }
        } else {
            [_mm512_setzero_ps(); 2]
        };
        for numbers in [x, y] {
            let magnitude = _mm512_and_si512(_mm512_castps_si512(numbers), magnitude_bits);
            largest = _mm512_max_epu32(largest, magnitude);
            least = _mm512_min_epu32(least, _mm512_sub_epi32(magnitude, one));
        }
        for part in 0..parts {
            let next = |numbers: &mut __m512| -> __m512i {
                let rounded = _mm512_add_epi32(_mm512_castps_si512(*numbers), rounding);
                let part = _mm512_and_si512(rounded, part_bits);
                *numbers = _mm512_sub_ps(*numbers, _mm512_castsi512_ps(part));
                part
            };
            let (x, y) = (next(&mut x), next(&mut y));
            let pairs = if by_terms {
                _mm512_or_si512(_mm512_srli_epi32::<16>(x), y)
            } else {
                _mm512_permutex2var_epi16(x, high_halves, y)
            };
            let to = &mut words[part * DISTANCE + 16 * i..][..16];
            // SAFETY: sixteen words are 64 bytes; no alignment is asked for.
            unsafe { _mm512_storeu_si512(to.as_mut_ptr().cast(), pairs) };
        }
    }
    if turned != by_terms {
        for part in 0..parts {
            let Some(tile) = words[part * DISTANCE..].first_chunk_mut::<256>() else { continue };
            // SAFETY: each row of the tile is 64 bytes.
            let rows = std::array::from_fn(|i| unsafe { _mm512_loadu_si512(tile[16 * i..].as_ptr().cast()) });
            for (to, row) in tile.as_chunks_mut::<16>().0.iter_mut().zip(transposed_words(rows)) {
                // SAFETY: as above.
                unsafe { _mm512_storeu_si512(to.as_mut_ptr().cast(), row) };
            }
        }
    }
    let least = _mm512_reduce_min_epu32(least);
    Found { largest: _mm512_reduce_max_epu32(largest), least: least.saturating_add(1) }
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
                                words[512 * part + if turned { 16 * (j / 2) + i } else { 16 * i + j / 2 }];
                            let half = if j % 2 == 0 { word << 16 } else { word & 0xffff_0000 };
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
