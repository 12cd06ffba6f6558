//! Processors and systems on which AMX is not used.

use super::matrix_unit::{Found, Numbers, Products};
use crate::detect::{InstructionSet, Missing};

/// There is no matrix unit.
pub(crate) fn is_present() -> bool {
    false
}

/// Nor one for fp16.
pub(crate) fn multiplies_fp16() -> bool {
    false
}

/// A matrix unit, of which there is none.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Amx {}

impl Amx {
    /// What is missing.
    pub(crate) fn find() -> Result<Amx, Missing> {
        match InstructionSet::Amx.find() {
            Ok(()) => Err(Missing::Absent(InstructionSet::Amx)),
            Err(missing) => Err(missing),
        }
    }

    /// Not that either.
    pub(crate) fn multiplies_fp16(self) -> bool {
        match self {}
    }

    /// Nothing still.
    #[must_use]
    pub(crate) fn without_fp16(self) -> Amx {
        self
    }

    /// Splits nothing.
    pub(crate) fn split(self, _: Numbers<'_>, _: &mut [u32]) -> Found {
        match self {}
    }

    /// Multiplies nothing.
    pub(crate) fn multiply(self, _: Products, _: (&[u32], &[u32]), _: usize, _: (&mut [f32], usize, bool)) {
        match self {}
    }
}
