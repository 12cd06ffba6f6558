//! What the matrix unit multiplies, wherever there is one.

use crate::memory::Floats;

/// Rows of the left and columns of the right operand that are multiplied at once: two tiles of each.
pub(crate) const SIDE: usize = 32;
/// Terms of a tile: 32 bf16 or fp16 values in 64 bytes.
pub(crate) const TERMS: usize = 32;
/// 32-bit words of a tile, each of which holds two neighbouring terms.
pub(crate) const TILE_WORDS: usize = 256;

/// Which parts of two operands are multiplied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Products {
    /// fp16 operands, as they are.
    One,
    /// Operands of two parts, without the product of both second ones, which is less than 2⁻¹⁶ of the whole.
    Three,
    /// Operands of two parts, with all products.
    Four,
    /// Operands of three parts, without the products that are less than 2⁻²⁴ of the whole.
    Six,
}

impl Products {
    /// The parts of each operand.
    pub(crate) fn parts(self) -> usize {
        match self {
            Products::One => 1,
            Products::Three | Products::Four => 2,
            Products::Six => 3,
        }
    }
}

/// 16 rows of numbers, the terms, to be split into bf16 parts, of which every [`TERMS`] terms make a tile each; or, as one
/// part, to be taken as the fp16 numbers that they are.
// Where there is no matrix unit, nothing reads them.
#[cfg_attr(not(all(target_arch = "x86_64", target_os = "linux")), allow(dead_code))]
pub(crate) struct Numbers<'a> {
    /// The numbers from the first on: row i's term j at `i · row_stride + j · term_stride`, one of which is 1.
    pub values: Floats<'a>,
    /// Distance between rows.
    pub row_stride: usize,
    /// Distance between terms.
    pub term_stride: usize,
    /// Rows that there are, at most 16; the others are 0.
    pub rows: usize,
    /// Terms that there are; what they leave of the last tile is 0.
    pub terms: usize,
    /// Whether each part's tile has a row for each pair of terms, and not for each row.
    pub turned: bool,
    /// Parts.
    pub parts: usize,
}

/// What splitting found of some numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Found {
    /// Bits of the largest magnitude in fp32.
    pub largest: u32,
    /// Bits of the least magnitude that is not 0; all ones where there is none, and where numbers are not split into three
    /// parts, since only products of these depend on it.
    pub least: u32,
}

/// Bits of the least fp32 magnitude that rounds to infinity in bf16.
const TOO_LARGE: u32 = 0x7f7f_8000;
/// Bits of 2⁻¹⁰⁰ in fp32: the parts of lesser numbers may be subnormal, and count as 0.
const SMALL: u32 = 27 << 23;

impl Found {
    /// What is found of no numbers.
    pub(crate) const NOTHING: Found = Found { largest: 0, least: u32::MAX };

    /// What was found of these or of other numbers.
    #[must_use]
    pub(crate) fn or(self, other: Found) -> Found {
        Found { largest: self.largest.max(other.largest), least: self.least.min(other.least) }
    }

    /// Whether some are infinite, NaN, or round to infinity.
    pub(crate) fn has_large(self) -> bool {
        self.largest >= TOO_LARGE
    }

    /// Whether parts of some may be subnormal.
    pub(crate) fn has_small(self) -> bool {
        self.least < SMALL
    }

    /// Whether a product of one of these and one of others may be 2¹²⁷ or more, before or after numbers are split.
    pub(crate) fn overflows(self, other: Found) -> bool {
        // Each number is below 2ᵉ⁺¹, and each first part at most that.
        (self.largest >> 23) + (other.largest >> 23) + 2 > 2 * 127 + 127
    }

    /// Whether products of parts of one of these and of one of others may be so small that they count as 0 beside
    /// their sum: where the least product is below 2⁻¹⁰⁰.
    pub(crate) fn underflows(self, other: Found) -> bool {
        let some = self.least != u32::MAX && other.least != u32::MAX;
        some && (self.least >> 23) + (other.least >> 23) < 2 * 127 - 100
    }
}
