//! Which vector instructions kernels use.

use std::fmt;
use std::str::FromStr;

use pulp::Arch;

/// The environment variable that chooses a path where the options leave it open.
pub const PATH_VARIABLE: &str = "ANEMONE_CPU_PATH";

/// A set of vector instructions that kernels are compiled for. Each gives results within the ops' accuracies;
/// their bits may differ, as they add in other orders.
///
/// Conversions between fp16 and fp32, which are exact or rounded once, use the processor's instructions on every
/// path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Path {
    /// AVX-512 F, CD, BW, DQ and VL.
    Avx512,
    /// AVX2 and FMA.
    Avx2,
    /// NEON.
    Neon,
    /// What every processor of the target has.
    Portable,
}

impl Path {
    /// Every path, the fastest of each target first.
    pub const ALL: [Path; 4] = [Path::Avx512, Path::Avx2, Path::Neon, Path::Portable];

    /// The name in options, the environment and results.
    pub fn name(self) -> &'static str {
        match self {
            Path::Avx512 => "avx512",
            Path::Avx2 => "avx2",
            Path::Neon => "neon",
            Path::Portable => "portable",
        }
    }

    /// The paths that this processor has, the fastest first.
    pub fn available() -> Vec<Path> {
        Path::ALL.into_iter().filter(|path| path.arch().is_some()).collect()
    }

    /// The instructions, if this processor has them.
    pub(crate) fn arch(self) -> Option<Arch> {
        match self {
            Path::Portable => Some(Arch::Scalar),
            #[cfg(target_arch = "x86_64")]
            Path::Avx512 => pulp::x86::V4::try_new().map(Arch::V4),
            #[cfg(target_arch = "x86_64")]
            Path::Avx2 => pulp::x86::V3::try_new().map(Arch::V3),
            #[cfg(target_arch = "aarch64")]
            Path::Neon => pulp::aarch64::Neon::try_new().map(Arch::Neon),
            #[allow(unreachable_patterns)] // Which paths are left depends on the target.
            _ => None,
        }
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that is no path's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownPath(String);

impl fmt::Display for UnknownPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = Path::ALL.map(Path::name).join(", ");
        write!(f, "`{}` is no path of the CPU runtime; there are {names}", self.0)
    }
}

impl std::error::Error for UnknownPath {}

impl FromStr for Path {
    type Err = UnknownPath;

    fn from_str(name: &str) -> Result<Path, UnknownPath> {
        Path::ALL.into_iter().find(|path| path.name() == name).ok_or_else(|| UnknownPath(name.to_string()))
    }
}
