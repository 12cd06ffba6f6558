//! Processors and systems on which AMX is not used.

use super::matrix_unit::{Found, Numbers, Products};

/// A matrix unit, of which there is none.
#[derive(Debug, Clone, Copy)]
pub enum Amx {}

impl Amx {
    /// None.
    pub fn detect() -> Option<Amx> {
        None
    }

    /// None.
    #[cfg(feature = "emulation")]
    pub fn emulated() -> Option<Amx> {
        None
    }

    /// Not that either.
    pub fn multiplies_fp16(self) -> bool {
        match self {}
    }

    /// Nothing still.
    #[must_use]
    pub fn without_fp16(self) -> Amx {
        self
    }

    /// Splits nothing.
    pub fn split(self, _: Numbers<'_>, _: &mut [u32]) -> Found {
        match self {}
    }

    /// Multiplies nothing.
    pub fn multiply(self, _: Products, _: (&[u32], &[u32]), _: usize, _: (&mut [f32], usize, bool)) {
        match self {}
    }
}
