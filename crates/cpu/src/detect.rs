//! Which instruction sets this process may use: those of the processor, less those that [`HIDE_VARIABLE`] hides.

use std::fmt;
use std::sync::OnceLock;

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
use crate::simd::amx;

/// The environment variable that hides instruction sets, as if the processor had not got them: some of `f16c`, `avx2`,
/// `avx512`, `amx`, `amx-fp16`, `neon` and `avx512-bf16`, with commas between them. On x86-64 each of the first five also
/// hides those that follow it in this list, and `avx512-bf16`, which builds on `avx512` alone, is hidden with that. So
/// lesser processors can be tested on better ones.
pub const HIDE_VARIABLE: &str = "ANEMONE_CPU_HIDE";

/// Instructions that a processor has all of, or that are not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum InstructionSet {
    /// Conversions between fp16 and fp32, eight at a time.
    F16c,
    /// AVX2 and FMA.
    Avx2,
    /// AVX-512 F, CD, BW, DQ and VL.
    Avx512,
    /// AMX with bf16.
    Amx,
    /// AMX with fp16.
    AmxFp16,
    /// NEON.
    Neon,
    /// AVX-512 BF16.
    Avx512Bf16,
}

/// Why an instruction set cannot be used: it, or one that it builds on, is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Missing {
    /// The environment hides it.
    Hidden(InstructionSet),
    /// The processor has not got it, or the system does not let this process use it.
    Absent(InstructionSet),
}

impl InstructionSet {
    /// All, first a chain of x86-64's: every processor that has one of these five has those before it.
    const ALL: [InstructionSet; 7] = [
        InstructionSet::F16c,
        InstructionSet::Avx2,
        InstructionSet::Avx512,
        InstructionSet::Amx,
        InstructionSet::AmxFp16,
        InstructionSet::Neon,
        InstructionSet::Avx512Bf16,
    ];

    /// The name in [`HIDE_VARIABLE`] and in messages.
    fn name(self) -> &'static str {
        match self {
            InstructionSet::F16c => "f16c",
            InstructionSet::Avx2 => "avx2",
            InstructionSet::Avx512 => "avx512",
            InstructionSet::Amx => "amx",
            InstructionSet::AmxFp16 => "amx-fp16",
            InstructionSet::Neon => "neon",
            InstructionSet::Avx512Bf16 => "avx512-bf16",
        }
    }

    /// Those that it builds on, and itself.
    fn needed(self) -> &'static [InstructionSet] {
        const DOTS: [InstructionSet; 4] =
            [InstructionSet::F16c, InstructionSet::Avx2, InstructionSet::Avx512, InstructionSet::Avx512Bf16];
        match self {
            InstructionSet::Neon => &[InstructionSet::Neon],
            InstructionSet::Avx512Bf16 => &DOTS,
            _ => &InstructionSet::ALL[..=self as usize],
        }
    }

    /// Whether it can be used.
    ///
    /// # Errors
    ///
    /// What is missing.
    pub(crate) fn find(self) -> Result<(), Missing> {
        static FOUND: [OnceLock<Result<(), Missing>>; InstructionSet::ALL.len()] =
            [const { OnceLock::new() }; InstructionSet::ALL.len()];
        *FOUND[self as usize].get_or_init(|| {
            self.needed().iter().try_for_each(|&set| {
                if set.is_hidden() {
                    return Err(Missing::Hidden(set));
                }
                if set.is_present() { Ok(()) } else { Err(Missing::Absent(set)) }
            })
        })
    }

    /// Whether the environment hides it, or one that it builds on.
    pub(crate) fn is_hidden(self) -> bool {
        hidden().as_ref().is_ok_and(|hidden| self.needed().iter().any(|set| hidden.contains(set)))
    }

    /// Whether the processor and the system have it.
    fn is_present(self) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            InstructionSet::F16c => is_x86_feature_detected!("avx") && is_x86_feature_detected!("f16c"),
            #[cfg(target_arch = "x86_64")]
            InstructionSet::Avx2 => pulp::x86::V3::try_new().is_some(),
            #[cfg(target_arch = "x86_64")]
            InstructionSet::Avx512 => pulp::x86::V4::try_new().is_some(),
            #[cfg(target_arch = "x86_64")]
            InstructionSet::Avx512Bf16 => is_x86_feature_detected!("avx512bf16"),
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            InstructionSet::Amx => amx::is_present(),
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            InstructionSet::AmxFp16 => amx::multiplies_fp16(),
            #[cfg(target_arch = "aarch64")]
            InstructionSet::Neon => pulp::aarch64::Neon::try_new().is_some(),
            #[allow(unreachable_patterns)] // Which are left depends on the target.
            _ => false,
        }
    }
}

impl fmt::Display for InstructionSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Missing::Hidden(set) => write!(f, "{HIDE_VARIABLE} hides {set}"),
            Missing::Absent(InstructionSet::Amx) => {
                f.write_str("this processor has no amx, or the system forbids it")
            }
            Missing::Absent(set) => write!(f, "this processor has no {set}"),
        }
    }
}

/// A name in [`HIDE_VARIABLE`] that is no instruction set's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UnknownInstructionSet(String);

impl fmt::Display for UnknownInstructionSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = InstructionSet::ALL.map(InstructionSet::name).join(", ");
        write!(f, "{HIDE_VARIABLE}: `{}` is no instruction set; there are {names}", self.0)
    }
}

/// What [`HIDE_VARIABLE`] says, read once.
///
/// # Errors
///
/// A name of nothing; then nothing is hidden.
pub(crate) fn hidden() -> &'static Result<Vec<InstructionSet>, UnknownInstructionSet> {
    static HIDDEN: OnceLock<Result<Vec<InstructionSet>, UnknownInstructionSet>> = OnceLock::new();
    HIDDEN.get_or_init(|| parse(&std::env::var_os(HIDE_VARIABLE).unwrap_or_default().to_string_lossy()))
}

fn parse(names: &str) -> Result<Vec<InstructionSet>, UnknownInstructionSet> {
    let set = |name: &str| {
        let found = InstructionSet::ALL.into_iter().find(|set| set.name() == name);
        found.ok_or_else(|| UnknownInstructionSet(name.to_string()))
    };
    names.split(',').map(str::trim).filter(|name| !name.is_empty()).map(set).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_listed_with_commas() {
        assert_eq!(parse(""), Ok(Vec::new()));
        assert_eq!(parse("avx512, amx"), Ok(vec![InstructionSet::Avx512, InstructionSet::Amx]));
        let error = parse("avx512,sse9").expect_err("there is no such set").to_string();
        assert!(error.contains("`sse9` is no instruction set; there are f16c, avx2, avx512"), "{error}");
    }

    #[test]
    fn what_builds_on_a_missing_set_is_missing() {
        for (lesser, better) in InstructionSet::ALL.into_iter().zip(&InstructionSet::ALL[1..5]) {
            assert!(lesser.find().is_ok() || better.find() == lesser.find(), "{lesser} {better}");
        }
        for set in InstructionSet::ALL {
            assert!(!set.is_hidden() || set.find().is_err(), "{set}");
            assert!(set.is_hidden() || !matches!(set.find(), Err(Missing::Hidden(_))), "{set}");
        }
    }
}
