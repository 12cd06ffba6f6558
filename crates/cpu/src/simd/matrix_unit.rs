//! What multiplies packed blocks of bf16 or fp16 numbers, wherever there is such a unit: AMX, or the dot products of
//! AVX-512.

use crate::detect::Missing;
use crate::memory::Floats;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
use crate::simd::amx::Amx;
#[cfg(target_arch = "x86_64")]
use crate::simd::dots::Dots;

/// Rows of the left and columns of the right operand that are multiplied at once: two tiles of each.
pub(crate) const SIDE: usize = 32;
/// Terms of a tile: 32 bf16 or fp16 values in 64 bytes.
pub(crate) const TERMS: usize = 32;
/// 32-bit words of a tile, each of which holds two neighbouring terms.
pub(crate) const TILE_WORDS: usize = 256;
/// 32-bit words of one part of [`SIDE`] rows or columns and [`TERMS`] terms.
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
pub(crate) const PART_WORDS: usize = 2 * TILE_WORDS;

/// What multiplies; there is a value of this type only where its instructions, and those of AVX-512 F, BW and VL, can be
/// used.
#[derive(Debug, Clone, Copy)]
pub(crate) enum MatrixUnit {
    /// The matrix unit proper.
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    Amx(Amx),
    /// Vectors of bf16 numbers.
    #[cfg(target_arch = "x86_64")]
    Dots(Dots),
}

// Each match is of no arms on targets that have no unit.
impl MatrixUnit {
    /// The matrix unit proper.
    ///
    /// # Errors
    ///
    /// What is missing.
    pub(crate) fn amx() -> Result<MatrixUnit, Missing> {
        #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
        return Amx::find().map(MatrixUnit::Amx);
        #[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
        Err(Missing::Absent(crate::detect::InstructionSet::Amx))
    }

    /// The dot products of vectors, which only multiply operands that are rounded to bf16.
    ///
    /// # Errors
    ///
    /// What is missing.
    pub(crate) fn dots() -> Result<MatrixUnit, Missing> {
        #[cfg(target_arch = "x86_64")]
        return Dots::find().map(MatrixUnit::Dots);
        #[cfg(not(target_arch = "x86_64"))]
        Err(Missing::Absent(crate::detect::InstructionSet::Avx512Bf16))
    }

    /// The same unit, with fp16 numbers as sums of bf16 numbers.
    #[must_use]
    pub(crate) fn without_fp16(self) -> MatrixUnit {
        match self {
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            MatrixUnit::Amx(amx) => MatrixUnit::Amx(amx.without_fp16()),
            #[cfg(target_arch = "x86_64")]
            MatrixUnit::Dots(_) => self,
        }
    }

    /// Whether it multiplies fp16 numbers as they are.
    pub(crate) fn multiplies_fp16(self) -> bool {
        match self {
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            MatrixUnit::Amx(amx) => amx.multiplies_fp16(),
            #[cfg(target_arch = "x86_64")]
            MatrixUnit::Dots(_) => false,
        }
    }

    /// Splits numbers into parts, each of which becomes a tile of `words`, two tiles after the one before; the parts of
    /// the next [`TERMS`] terms follow these in the same way. The least magnitude is only looked for when numbers are split
    /// into three parts: nothing else depends on it.
    ///
    /// # Panics
    ///
    /// Where there are less numbers, or less words, than that.
    pub(crate) fn split(self, numbers: Numbers<'_>, words: &mut [u32]) -> Found {
        let _ = (&numbers, &words);
        match self {
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            MatrixUnit::Amx(amx) => amx.split(numbers, words),
            #[cfg(target_arch = "x86_64")]
            MatrixUnit::Dots(dots) => dots.split(numbers, words),
        }
    }

    /// Adds to row-major sums, or replaces them by, the product of packed blocks: each consists of panels of
    /// [`SIDE`] rows or columns, in these of blocks of [`TERMS`] terms, in these of parts, in these of two tiles, and
    /// a left tile has a row for each row of the operand, a right one for each pair of terms.
    ///
    /// `width` is the number of columns of `sums`, those of the right operand.
    ///
    /// # Panics
    ///
    /// Where `sums` has less than all rows and columns.
    pub(crate) fn multiply(
        self,
        products: Products,
        operands: (&[u32], &[u32]),
        terms: usize,
        sums: (&mut [f32], usize, bool),
    ) {
        let _ = (products, operands, terms, &sums);
        match self {
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            MatrixUnit::Amx(amx) => amx.multiply(products, operands, terms, sums),
            #[cfg(target_arch = "x86_64")]
            MatrixUnit::Dots(dots) => dots.multiply(operands, terms, sums),
        }
    }
}

/// What becomes of a number when it is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Parts {
    /// An fp16 number, which stays what it is.
    Half,
    /// The nearest bf16 number.
    Nearest,
    /// A sum of two bf16 numbers.
    Two,
    /// A sum of three.
    Three,
}

impl Parts {
    /// How many there are of a number.
    pub(crate) fn count(self) -> usize {
        match self {
            Parts::Half | Parts::Nearest => 1,
            Parts::Two => 2,
            Parts::Three => 3,
        }
    }
}

/// Which parts of two operands are multiplied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Products {
    /// fp16 operands, as they are.
    Half,
    /// Operands rounded to bf16.
    Nearest,
    /// Operands of two parts, without the product of both second ones, which is less than 2⁻¹⁶ of the whole.
    Three,
    /// Operands of two parts, with all products.
    Four,
    /// Operands of three parts, without the products that are less than 2⁻²⁴ of the whole.
    Six,
}

impl Products {
    /// The parts of each operand.
    pub(crate) fn parts(self) -> Parts {
        match self {
            Products::Half => Parts::Half,
            Products::Nearest => Parts::Nearest,
            Products::Three | Products::Four => Parts::Two,
            Products::Six => Parts::Three,
        }
    }
}

/// 16 rows of numbers, the terms, to be split into parts, of which every [`TERMS`] terms make a tile each.
// Where there is no matrix unit, nothing reads them.
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
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
    /// What they are split into.
    pub parts: Parts,
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
