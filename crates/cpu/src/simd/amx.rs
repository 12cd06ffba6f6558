//! AMX: products of tiles, 16 rows of 64 bytes each, by the processor's matrix unit.
//!
//! An operand is a sum of bf16 parts, the largest first (see `gemm/split.rs`), and each pair of parts takes a
//! product of tiles, `tdpbf16ps`: for every pair of terms it adds a₀·b₀ and a₁·b₁ to fp32 sums, rounding to nearest
//! even, with subnormal numbers counting as 0 (Intel, "Architecture Instruction Set Extensions Programming
//! Reference", chapter 3).
//!
//! AMX-FP16 does the same for fp16 numbers, `tdpfp16ps`, of which subnormal ones count as what they are.
//!
//! Of the eight tile registers four hold 32 × 32 sums, two a left and two a right operand's part.
#![allow(unsafe_code)]

#[cfg(feature = "emulation")]
pub(crate) mod emulation;
use std::arch::asm;
use std::arch::x86_64::{__cpuid, __cpuid_count};

use super::matrix_unit::{Found, Numbers, PART_WORDS, Products, SIDE, TERMS};
use super::split;
use crate::detect::{InstructionSet, Missing};

/// The processor's matrix unit; there is a value of this type only where its instructions, and those of AVX-512 F, BW
/// and VL, can be used.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Amx {
    /// Whether it multiplies fp16.
    fp16: bool,
}

impl Amx {
    /// The matrix unit. With the feature `emulation`, one whose instructions are emulated one by one, very slowly, where
    /// the processor has AVX-512 but no matrix unit.
    ///
    /// # Errors
    ///
    /// What is missing.
    pub(crate) fn find() -> Result<Amx, Missing> {
        match InstructionSet::Amx.find() {
            Ok(()) => Ok(Amx { fp16: InstructionSet::AmxFp16.find().is_ok() }),
            #[cfg(feature = "emulation")]
            Err(Missing::Absent(InstructionSet::Amx)) if !in_hardware() && emulation::install() => {
                Ok(Amx { fp16: !InstructionSet::AmxFp16.is_hidden() })
            }
            Err(missing) => Err(missing),
        }
    }

    /// Whether it multiplies fp16 numbers as they are.
    pub(crate) fn multiplies_fp16(self) -> bool {
        self.fp16
    }

    /// The same unit, with fp16 numbers as sums of bf16 numbers.
    #[must_use]
    pub(crate) fn without_fp16(self) -> Amx {
        Amx { fp16: false }
    }

    /// See [`MatrixUnit::split`](super::matrix_unit::MatrixUnit::split).
    pub(crate) fn split(self, numbers: Numbers<'_>, words: &mut [u32]) -> Found {
        // SAFETY: where there is an `Amx`, the processor has what the function is compiled for.
        unsafe { split::split(numbers, words) }
    }

    /// See [`MatrixUnit::multiply`](super::matrix_unit::MatrixUnit::multiply).
    pub(crate) fn multiply(
        self,
        products: Products,
        (left, right): (&[u32], &[u32]),
        terms: usize,
        (sums, width, adds): (&mut [f32], usize, bool),
    ) {
        let blocks = terms.div_ceil(TERMS);
        let panel = blocks * products.parts().count() * PART_WORDS;
        if panel == 0 {
            return;
        }
        debug_assert!(self.fp16 || products != Products::Half);
        let multiply = match products {
            Products::Half => half_product,
            Products::Nearest => nearest_product,
            Products::Three => three_products,
            Products::Four => four_products,
            Products::Six => six_products,
        };
        let _tiles = Tiles::configure(self);
        for (j, right) in right.chunks_exact(panel).enumerate() {
            for (i, left) in left.chunks_exact(panel).enumerate() {
                let start = i * SIDE * width + j * SIDE;
                let sums = &mut sums[start..start + (SIDE - 1) * width + SIDE];
                // SAFETY: the tiles are configured. Each operand is `blocks` blocks of its parts, and the sums are
                // 32 rows, `width` apart, of 32 values.
                unsafe { multiply(left.as_ptr(), right.as_ptr(), blocks, sums.as_mut_ptr(), width, adds) };
            }
        }
    }
}

/// Whether the processor has a matrix unit that multiplies bf16, and the system lets this process use it.
pub(crate) fn is_present() -> bool {
    in_hardware() && permitted()
}

fn in_hardware() -> bool {
    const BF16: u32 = 1 << 22;
    const TILE: u32 = 1 << 24;
    let features = if __cpuid(0).eax < 7 { 0 } else { __cpuid_count(7, 0).edx };
    features & BF16 != 0 && features & TILE != 0
}

/// Whether the matrix unit of a processor that has one multiplies fp16.
pub(crate) fn multiplies_fp16() -> bool {
    const FP16: u32 = 1 << 21;
    __cpuid_count(7, 0).eax >= 1 && __cpuid_count(7, 1).eax & FP16 != 0
}

/// Asks the system to save tiles when it switches threads, without which their use is refused.
fn permitted() -> bool {
    const ARCH_PRCTL: i64 = 158;
    const REQUEST_PERMISSION: i64 = 0x1023;
    const TILE_DATA: i64 = 18;
    let status: i64;
    // SAFETY: this call of Linux takes two numbers and touches no memory of the process; `rcx` and `r11` are what a
    // system call overwrites.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") ARCH_PRCTL => status,
            in("rdi") REQUEST_PERMISSION,
            in("rsi") TILE_DATA,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    status == 0
}

/// Tiles that are ready for use, as long as this lives.
struct Tiles(());

impl Tiles {
    /// Eight tiles of 16 rows of 64 bytes.
    fn configure(_: Amx) -> Tiles {
        #[repr(C, align(64))]
        struct Configuration {
            palette: u8,
            start_row: u8,
            reserved: [u8; 14],
            row_bytes: [u16; 16],
            rows: [u8; 16],
        }
        let mut configuration =
            Configuration { palette: 1, start_row: 0, reserved: [0; 14], row_bytes: [0; 16], rows: [0; 16] };
        configuration.row_bytes[..8].fill(64);
        configuration.rows[..8].fill(16);
        // SAFETY: the processor has tiles, which an `Amx` proves; the operand is the 64 bytes of a valid configuration.
        // Compiled code never uses tile registers.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const configuration, options(nostack, readonly)) };
        Tiles(())
    }
}

impl Drop for Tiles {
    fn drop(&mut self) {
        // SAFETY: there is a `Tiles` only where the processor has tiles. Without this, the system would go on
        // saving them.
        unsafe { asm!("tilerelease", options(nostack, nomem)) };
    }
}

/// Loads of a part's two tiles.
macro_rules! load {
    (a $part:literal) => {
        concat!(load!(a 0, $part), load!(a 1, $part))
    };
    (b $part:literal) => {
        concat!(load!(b 0, $part), load!(b 1, $part))
    };
    (a 0, $part:literal) => {
        concat!("tileloadd tmm4, [{a} + {s} + ", $part, "*2048]\n")
    };
    (a 1, $part:literal) => {
        concat!("tileloadd tmm5, [{a} + {s} + ", $part, "*2048 + 1024]\n")
    };
    (b 0, $part:literal) => {
        concat!("tileloadd tmm6, [{b} + {s} + ", $part, "*2048]\n")
    };
    (b 1, $part:literal) => {
        concat!("tileloadd tmm7, [{b} + {s} + ", $part, "*2048 + 1024]\n")
    };
}

/// The products of the parts in registers, and then the loads of another part, each as soon as its registers have
/// been read.
macro_rules! multiply {
    (then a $part:literal) => {
        concat!(
            "tdpbf16ps tmm0, tmm4, tmm6\n",
            "tdpbf16ps tmm1, tmm4, tmm7\n",
            load!(a 0, $part),
            "tdpbf16ps tmm2, tmm5, tmm6\n",
            "tdpbf16ps tmm3, tmm5, tmm7\n",
            load!(a 1, $part)
        )
    };
    (then b $part:literal) => {
        concat!(
            "tdpbf16ps tmm0, tmm4, tmm6\n",
            "tdpbf16ps tmm2, tmm5, tmm6\n",
            load!(b 0, $part),
            "tdpbf16ps tmm1, tmm4, tmm7\n",
            "tdpbf16ps tmm3, tmm5, tmm7\n",
            load!(b 1, $part)
        )
    };
    () => {
        concat!(
            "tdpbf16ps tmm0, tmm4, tmm6\n",
            "tdpbf16ps tmm1, tmm4, tmm7\n",
            "tdpbf16ps tmm2, tmm5, tmm6\n",
            "tdpbf16ps tmm3, tmm5, tmm7\n"
        )
    };
}

/// Defines a function that multiplies a panel of each operand, part by part as `$body` says.
macro_rules! define {
    ($(#[$doc:meta])* $name:ident, $parts:literal, $body:expr) => {
        $(#[$doc])*
        ///
        /// # Safety
        ///
        /// Tiles must be configured. Each operand must hold `blocks` blocks of its parts, and `sums` 32 rows, `width`
        /// apart, of 32 values, which may be written.
        unsafe fn $name(
            left: *const u32,
            right: *const u32,
            blocks: usize,
            sums: *mut f32,
            width: usize,
            adds: bool,
        ) {
            let row_bytes = width * size_of::<f32>();
            // SAFETY: tile registers are of no concern to compiled code; what is read and written is what the
            // caller vouches for, 16 rows of 64 bytes for each load and store.
            unsafe {
                asm!(
                    "test {adds:l}, {adds:l}",
                    "jz 2f",
                    "tileloadd tmm0, [{c} + {row}]",
                    "tileloadd tmm1, [{c} + {row} + 64]",
                    "tileloadd tmm2, [{d} + {row}]",
                    "tileloadd tmm3, [{d} + {row} + 64]",
                    "jmp 3f",
                    "2:",
                    "tilezero tmm0",
                    "tilezero tmm1",
                    "tilezero tmm2",
                    "tilezero tmm3",
                    "3:",
                    $body,
                    concat!("add {a}, ", $parts, "*2048"),
                    concat!("add {b}, ", $parts, "*2048"),
                    "dec {blocks}",
                    "jnz 3b",
                    "tilestored [{c} + {row}], tmm0",
                    "tilestored [{c} + {row} + 64], tmm1",
                    "tilestored [{d} + {row}], tmm2",
                    "tilestored [{d} + {row} + 64], tmm3",
                    a = inout(reg) left => _,
                    b = inout(reg) right => _,
                    s = in(reg) 64usize,
                    c = in(reg) sums,
                    d = in(reg) sums.wrapping_add(16 * width),
                    row = in(reg) row_bytes,
                    blocks = inout(reg) blocks => _,
                    adds = in(reg) usize::from(adds),
                    options(nostack),
                );
            }
        }
    };
}

/// The loads and products of single parts, by an instruction.
macro_rules! single {
    ($instruction:literal) => {
        concat!(
            load!(a 0),
            load!(b 0),
            $instruction, " tmm0, tmm4, tmm6\n",
            $instruction, " tmm1, tmm4, tmm7\n",
            $instruction, " tmm2, tmm5, tmm6\n",
            $instruction, " tmm3, tmm5, tmm7\n"
        )
    };
}

define!(
    /// a₀b₀, of fp16 numbers.
    half_product, 1, single!("tdpfp16ps")
);
define!(
    /// a₀b₀, of bf16 numbers.
    nearest_product, 1, single!("tdpbf16ps")
);
define!(
    /// a₀b₁ + a₀b₀ + a₁b₀.
    three_products, 2,
    concat!(load!(a 0), load!(b 1), multiply!(then b 0), multiply!(then a 1), multiply!())
);
define!(
    /// a₀b₀ + a₀b₁ + a₁b₁ + a₁b₀.
    four_products, 2,
    concat!(load!(a 0), load!(b 0), multiply!(then b 1), multiply!(then a 1), multiply!(then b 0), multiply!())
);
define!(
    /// a₀b₂ + a₀b₁ + a₁b₁ + a₁b₀ + a₀b₀ + a₂b₀.
    six_products, 3,
    concat!(
        load!(a 0),
        load!(b 2),
        multiply!(then b 1),
        multiply!(then a 1),
        multiply!(then b 0),
        multiply!(then a 0),
        multiply!(then a 2),
        multiply!()
    )
);
