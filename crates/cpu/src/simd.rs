//! What the processor has instructions for and portable code is slow at, or cannot express: conversions between fp16
//! and fp32, transposing a tile, and the matrix unit.

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
pub mod amx;
#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
#[path = "simd/no_amx.rs"]
pub mod amx;
#[cfg(target_arch = "x86_64")]
mod x86;

use half::f16;

use crate::element::Float;

/// Rows of the left and columns of the right operand that are multiplied at once: two tiles of each.
pub const SIDE: usize = 32;
/// Terms of a tile: 32 bf16 values in 64 bytes.
pub const TERMS: usize = 32;
/// 32-bit words of a tile, each of which holds two neighbouring terms.
pub const TILE_WORDS: usize = 256;
/// Which parts of two operands are multiplied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Products {
    /// Operands of two parts, without the product of both second ones, which is less than 2⁻¹⁶ of the whole.
    Three,
    /// Operands of two parts, with all products.
    Four,
    /// Operands of three parts, without the products that are less than 2⁻²⁴ of the whole.
    Six,
}

impl Products {
    /// The parts of each operand.
    pub fn parts(self) -> usize {
        match self {
            Products::Three | Products::Four => 2,
            Products::Six => 3,
        }
    }
}

/// The values in fp32; `to` has the same length.
#[inline]
pub fn widen(from: &[f16], to: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    if x86::widen(from, to) {
        return;
    }
    to.iter_mut().zip(from).for_each(|(to, value)| *to = value.wide());
}

/// Each value rounded once, to nearest even; `to` has the same length.
#[inline]
pub fn narrow(from: &[f32], to: &mut [f16]) {
    #[cfg(target_arch = "x86_64")]
    if x86::narrow(from, to) {
        return;
    }
    to.iter_mut().zip(from).for_each(|(to, &value)| *to = f16::narrow(value));
}

/// The tile of 16 rows of 16 words with rows and columns exchanged.
#[inline]
pub fn transpose_words(from: &[u32; 256], to: &mut [u32; 256]) {
    #[cfg(target_arch = "x86_64")]
    if x86::transpose_words(from, to) {
        return;
    }
    for (i, row) in to.as_chunks_mut::<16>().0.iter_mut().enumerate() {
        row.iter_mut().enumerate().for_each(|(j, word)| *word = from[16 * j + i]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transposed_tile_has_its_rows_for_columns() {
        let from = std::array::from_fn(|index| index as u32);
        let mut to = [0; 256];
        transpose_words(&from, &mut to);
        for i in 0..16 {
            for j in 0..16 {
                assert_eq!(to[16 * i + j], from[16 * j + i]);
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

    #[test]
    fn values_between_fp16_values_round_as_the_portable_code_rounds_them() {
        let values: Vec<f32> = (0..u32::MAX - 4099).step_by(4099).map(f32::from_bits).collect();
        let mut rounded = vec![f16::ONE; values.len()];
        narrow(&values, &mut rounded);
        for (&value, rounded) in values.iter().zip(&rounded) {
            let expected = f16::narrow(value);
            let same = rounded.to_bits() == expected.to_bits();
            assert!(same || rounded.is_nan() && expected.is_nan(), "{value:e}: {rounded} for {expected}");
        }
    }
}
