//! What the processor has instructions for and portable code is slow at, or cannot express: conversions between fp16
//! and fp32, transposing a tile, fetching ahead, products of bf16 numbers, and the matrix unit.

pub(crate) mod matrix_unit;

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
pub(crate) mod amx;
#[cfg(target_arch = "x86_64")]
pub(crate) mod dots;
#[cfg(target_arch = "x86_64")]
mod half_rows;
#[cfg(target_arch = "x86_64")]
mod interleave;
#[cfg(target_arch = "x86_64")]
mod split;
#[cfg(target_arch = "x86_64")]
mod x86;

use half::f16;
use pulp::Arch;

use crate::element::Float;

/// The values in fp32; `to` has the same length.
#[inline]
pub(crate) fn widen(from: &[f16], to: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    if x86::widen(from, to) {
        return;
    }
    to.iter_mut().zip(from).for_each(|(to, value)| *to = value.wide());
}

/// Each value rounded once, to nearest even; `to` has the same length.
#[inline]
pub(crate) fn narrow(from: &[f32], to: &mut [f16]) {
    #[cfg(target_arch = "x86_64")]
    if x86::narrow(from, to) {
        return;
    }
    to.iter_mut().zip(from).for_each(|(to, &value)| *to = f16::narrow(value));
}

/// Each value rounded once to the nearest fp16 value, to even, in place.
#[inline]
pub(crate) fn round_to_half(values: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    if x86::round_to_half(values) {
        return;
    }
    values.iter_mut().for_each(|value| *value = f16::narrow(*value).wide());
}

/// The product of each row, as long as the vector, and the vector, if the processor, used as `arch` says, has instructions
/// for it.
#[inline]
pub(crate) fn dots(arch: Arch, rows: &[f16], vector: &[f32], sums: &mut [f32]) -> bool {
    #[cfg(target_arch = "x86_64")]
    return half_rows::dots(arch, rows, vector, sums);
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = (arch, rows, vector, sums);
        false
    }
}

/// Adds to the sums rows as long as they are, each times its factor, if the processor, used as `arch` says, has
/// instructions for it.
#[inline]
pub(crate) fn combine(arch: Arch, rows: &[f16], factors: &[f32], sums: &mut [f32]) -> bool {
    #[cfg(target_arch = "x86_64")]
    return half_rows::combine(arch, rows, factors, sums);
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = (arch, rows, factors, sums);
        false
    }
}

/// Turns rows, which lie `row_stride` apart, into columns, which lie `stride` apart: element `k` of row `i` becomes element
/// `i` of column `k`, for `count` rows, at most 16, and `width` elements of each.
#[inline]
pub(crate) fn interleave(
    rows: &[f32],
    row_stride: usize,
    [count, width]: [usize; 2],
    to: &mut [f32],
    stride: usize,
) {
    #[cfg(target_arch = "x86_64")]
    let [done_rows, done] = interleave::interleave(rows, row_stride, [count, width], to, stride);
    #[cfg(not(target_arch = "x86_64"))]
    let [done_rows, done] = [0, 0];
    for (i, row) in rows.chunks(row_stride).take(count).enumerate() {
        let first = if i < done_rows { done } else { 0 };
        for (k, &value) in row[..width].iter().enumerate().skip(first) {
            to[k * stride + i] = value;
        }
    }
}

/// Tells the processor, where it can be told, that the value at an index will be read soon; there need not be one.
#[inline(always)]
pub(crate) fn prefetch<T>(values: &[T], index: usize) {
    #[cfg(target_arch = "x86_64")]
    x86::prefetch(values.as_ptr().wrapping_add(index));
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (values, index);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_every_number_and_length_become_columns() {
        let rows: Vec<f32> = (0..16 * 70).map(|i| i as f32).collect();
        for (count, width) in (0..=16).flat_map(|count| (0..=70).map(move |width| (count, width))) {
            let mut to = vec![-1.0; 70 * 19];
            interleave(&rows, 70, [count, width], &mut to, 19);
            for (at, &value) in to.iter().enumerate() {
                let (k, i) = (at / 19, at % 19);
                let expected = if i < count && k < width { (i * 70 + k) as f32 } else { -1.0 };
                assert_eq!(value, expected, "row {i} of {count}, column {k} of {width}");
            }
        }
    }

    #[test]
    fn every_fp16_value_at_every_length() {
        let all: Vec<f16> = (0..=u16::MAX).map(f16::from_bits).collect();
        for length in (1..70).chain([all.len()]) {
            for from in all.chunks(length) {
                let mut wide = vec![7.0f32; from.len()];
                widen(from, &mut wide);
                let mut back = vec![f16::ONE; from.len()];
                narrow(&wide, &mut back);
                for ((value, wide), back) in from.iter().zip(&wide).zip(&back) {
                    let same =
                        value.to_f32().to_bits() == wide.to_bits() && value.to_bits() == back.to_bits();
                    assert!(
                        same || value.is_nan() && wide.is_nan() && back.is_nan(),
                        "{value} {wide} {back}"
                    );
                }
            }
        }
    }

    #[cfg(unix)]
    #[test]
    fn conversions_touch_nothing_beyond_their_slices() {
        use crate::guarded::{End, Guarded};
        for length in 0..70 {
            for end in [End::First, End::Last] {
                let half = Guarded::new(&vec![f16::from_f32(-1.25); length], end);
                let mut wide = Guarded::new(&vec![0.0f32; length], end);
                widen(&half, &mut wide);
                assert!(wide.iter().all(|&value| value == -1.25));
                let mut back = Guarded::new(&vec![f16::ZERO; length], end);
                narrow(&wide, &mut back);
                assert_eq!(*back, *half);
                round_to_half(&mut wide);
                assert!(wide.iter().all(|&value| value == -1.25));
            }
        }
    }

    #[test]
    fn values_between_fp16_values_round_as_the_portable_code_rounds_them() {
        let values: Vec<f32> = (0..u32::MAX - 4099).step_by(4099).map(f32::from_bits).collect();
        let mut rounded = vec![f16::ONE; values.len()];
        narrow(&values, &mut rounded);
        let mut in_place = values.clone();
        round_to_half(&mut in_place);
        for ((&value, rounded), in_place) in values.iter().zip(&rounded).zip(&in_place) {
            let expected = f16::narrow(value);
            let same =
                rounded.to_bits() == expected.to_bits() && in_place.to_bits() == expected.wide().to_bits();
            let nan = rounded.is_nan() && in_place.is_nan() && expected.is_nan();
            assert!(same || nan, "{value:e}: {rounded} and {in_place} for {expected}");
        }
    }
}
