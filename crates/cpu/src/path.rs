//! Which vector instructions kernels use.

use std::fmt;
use std::str::FromStr;

use pulp::Arch;

use crate::ProductPrecision;
use crate::detect::{InstructionSet, Missing};
use crate::simd::matrix_unit::MatrixUnit;

/// The environment variable that chooses a path where the options leave it open.
pub const PATH_VARIABLE: &str = "ANEMONE_CPU_PATH";

/// A set of vector instructions that kernels are compiled for. Each gives results within the ops' accuracies;
/// their bits may differ, as they add in other orders.
///
/// Conversions between fp16 and fp32, which are exact or rounded once, use the processor's instructions on every
/// path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum InstructionPath {
    /// [`InstructionPath::Amx`], with products of fp16 operands by AMX-FP16, which multiplies them as they are.
    AmxFp16,
    /// AMX with bf16 for matrix products, on Linux, and AVX-512 for all else.
    ///
    /// A product of fp16 operands leaves the product of their second parts out, up to 2⁻¹⁶ of Σ|a||b|, where the op's
    /// accuracy is 10⁻⁵ of it: unless signs conspire, that is nothing beside the rounding of the result.
    /// [`ProductPrecision::Exact`] adds it. The fused head takes the gradients of fp16 logits as 16 significant bits,
    /// unless that is set.
    Amx,
    /// AVX-512 F, CD, BW, DQ and VL.
    Avx512,
    /// AVX2 and FMA.
    Avx2,
    /// NEON.
    Neon,
    /// What every processor of the target has.
    Portable,
}

impl InstructionPath {
    /// Every path, the fastest of each target first.
    pub const ALL: [InstructionPath; 6] = [
        InstructionPath::AmxFp16,
        InstructionPath::Amx,
        InstructionPath::Avx512,
        InstructionPath::Avx2,
        InstructionPath::Neon,
        InstructionPath::Portable,
    ];

    /// The name in options, the environment and results.
    pub fn name(self) -> &'static str {
        match self {
            InstructionPath::AmxFp16 => "amx-fp16",
            InstructionPath::Amx => "amx",
            InstructionPath::Avx512 => "avx512",
            InstructionPath::Avx2 => "avx2",
            InstructionPath::Neon => "neon",
            InstructionPath::Portable => "portable",
        }
    }

    /// The paths that this process can use, the fastest first.
    ///
    /// With the feature `emulation`, which is for tests, [`InstructionPath::AmxFp16`] and [`InstructionPath::Amx`] are the last of them where
    /// AVX-512 is all that the processor has.
    pub fn available() -> Vec<InstructionPath> {
        let mut paths: Vec<InstructionPath> =
            InstructionPath::ALL.into_iter().filter(|path| path.instructions().is_ok()).collect();
        if InstructionSet::Amx.find().is_err() {
            let emulated = paths.iter().take_while(|path| path.multiplies_by_unit()).count();
            paths.rotate_left(emulated);
        }
        paths
    }

    /// The paths for processors of this target that this process cannot use, each with the reason: what the processor
    /// has not got, or [`HIDE_VARIABLE`](crate::HIDE_VARIABLE) hides.
    pub fn missing() -> Vec<(InstructionPath, String)> {
        let of_target = |path: &InstructionPath| match path {
            InstructionPath::AmxFp16 | InstructionPath::Amx => {
                cfg!(all(target_arch = "x86_64", target_os = "linux"))
            }
            InstructionPath::Avx512 | InstructionPath::Avx2 => cfg!(target_arch = "x86_64"),
            InstructionPath::Neon => cfg!(target_arch = "aarch64"),
            InstructionPath::Portable => true,
        };
        let missing = |path: InstructionPath| Some((path, path.instructions().err()?.to_string()));
        InstructionPath::ALL.into_iter().filter(of_target).filter_map(missing).collect()
    }

    /// Whether a matrix unit multiplies; all else is as on [`InstructionPath::Avx512`].
    pub fn multiplies_by_unit(self) -> bool {
        matches!(self, InstructionPath::AmxFp16 | InstructionPath::Amx)
    }

    /// The instructions.
    ///
    /// # Errors
    ///
    /// What is missing of them.
    pub(crate) fn instructions(self) -> Result<Instructions, Missing> {
        let set = match self {
            InstructionPath::AmxFp16 | InstructionPath::Amx | InstructionPath::Avx512 => {
                InstructionSet::Avx512
            }
            InstructionPath::Avx2 => InstructionSet::Avx2,
            InstructionPath::Neon => InstructionSet::Neon,
            InstructionPath::Portable => return Ok(Instructions { arch: Arch::Scalar, unit: None }),
        };
        set.find()?;
        let arch = match set {
            #[cfg(target_arch = "x86_64")]
            InstructionSet::Avx512 => pulp::x86::V4::try_new().map(Arch::V4),
            #[cfg(target_arch = "x86_64")]
            InstructionSet::Avx2 => pulp::x86::V3::try_new().map(Arch::V3),
            #[cfg(target_arch = "aarch64")]
            InstructionSet::Neon => pulp::aarch64::Neon::try_new().map(Arch::Neon),
            _ => None,
        };
        let arch = arch.ok_or(Missing::Absent(set))?;
        let fp16 = InstructionSet::AmxFp16;
        let no_fp16 = if fp16.is_hidden() { Missing::Hidden(fp16) } else { Missing::Absent(fp16) };
        let unit = match self {
            InstructionPath::AmxFp16 => MatrixUnit::amx()
                .and_then(|amx| amx.multiplies_fp16().then_some(amx).ok_or(no_fp16))
                .map(Some),
            InstructionPath::Amx => MatrixUnit::amx().map(|amx| Some(amx.without_fp16())),
            _ => Ok(None),
        }?;
        Ok(Instructions { arch, unit })
    }

    /// The instructions where products need be no more exact than this.
    ///
    /// # Errors
    ///
    /// As for [`InstructionPath::instructions`].
    pub(crate) fn instructions_for(self, products: ProductPrecision) -> Result<Instructions, Missing> {
        let instructions = self.instructions()?;
        if self == InstructionPath::Avx512 && products == ProductPrecision::Bf16 {
            return Ok(Instructions { unit: MatrixUnit::dots().ok(), ..instructions });
        }
        Ok(instructions)
    }
}

/// The instructions of a path.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Instructions {
    /// Vectors.
    pub arch: Arch,
    /// The matrix unit.
    pub unit: Option<MatrixUnit>,
}

impl fmt::Display for InstructionPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that is no path's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownPath(String);

impl fmt::Display for UnknownPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = InstructionPath::ALL.map(InstructionPath::name).join(", ");
        write!(f, "`{}` is no path of the CPU runtime; there are {names}", self.0)
    }
}

impl std::error::Error for UnknownPath {}

impl FromStr for InstructionPath {
    type Err = UnknownPath;

    fn from_str(name: &str) -> Result<InstructionPath, UnknownPath> {
        InstructionPath::ALL
            .into_iter()
            .find(|path| path.name() == name)
            .ok_or_else(|| UnknownPath(name.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_every_processor_of_a_target_has_is_available() {
        let paths = InstructionPath::available();
        assert!(paths.contains(&InstructionPath::Portable), "{paths:?}");
        // Tests of every path mean nothing for NEON where it is not among them.
        let neon = cfg!(target_arch = "aarch64") && !InstructionSet::Neon.is_hidden();
        assert_eq!(paths.contains(&InstructionPath::Neon), neon, "{paths:?}");
    }

    #[test]
    fn a_path_is_available_or_missing_for_a_reason() {
        let missing = InstructionPath::missing();
        for path in InstructionPath::available() {
            assert!(missing.iter().all(|(other, _)| *other != path), "{path}: {missing:?}");
        }
        let of_target =
            if cfg!(target_arch = "x86_64") { InstructionPath::Avx2 } else { InstructionPath::Portable };
        let there = InstructionPath::available().contains(&of_target);
        assert_ne!(there, missing.iter().any(|(path, _)| *path == of_target), "{missing:?}");
    }
}
