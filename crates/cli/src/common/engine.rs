//! How the engine is used, where `--runtime ane` asks for it.

use std::env;
use std::ffi::OsString;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anemone_ane::chips::Chip;
use anemone_ane::device::e5rt::E5rt;
use anemone_ane::device::{Budget, Engine, Interface, Options, Weights, in_memory};
use anemone_cpu::{Cpu, Options as CpuOptions};
use clap::ValueEnum;

use super::output::warning;
use super::{Failure, interrupt};

/// The private ways in to the engine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum InterfaceName {
    #[default]
    E5rt,
    InMemory,
}

impl InterfaceName {
    /// The name on the command line.
    pub(crate) fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_string())
    }

    /// The way in to the engine.
    ///
    /// # Errors
    ///
    /// When there is none here.
    pub(crate) fn load(self) -> Result<Box<dyn Interface>, Failure> {
        match self {
            InterfaceName::E5rt => Ok(Box::new(E5rt::load(None)?)),
            InterfaceName::InMemory => Ok(in_memory()?),
        }
    }
}

/// What runs programs that the engine does not take.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Fallback {
    #[default]
    Cpu,
    None,
}

/// Where weights are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum WeightsName {
    #[default]
    Inputs,
    Baked,
}

impl From<WeightsName> for Weights {
    fn from(name: WeightsName) -> Weights {
        match name {
            WeightsName::Inputs => Weights::Inputs,
            WeightsName::Baked => Weights::Baked,
        }
    }
}

/// Flags of the engine. Each has a default, so that a command without them uses [`EngineFlags::default`].
#[derive(Debug, Clone, Copy, Default, clap::Args)]
pub(crate) struct EngineFlags {
    /// Way in to the engine, for `--runtime ane`: the C interface, or the Objective-C one, which takes programs from memory
    #[arg(long, value_enum, default_value = "e5rt", value_name = "INTERFACE")]
    interface: InterfaceName,
    /// What runs a program that the engine does not take, with `--runtime ane`: the CPU, with a warning, or nothing, with an error
    #[arg(long, value_enum, default_value = "cpu", value_name = "RUNTIME")]
    fallback: Fallback,
}

/// Says how many milliseconds after a failed compilation the next one waits, if not [`Options::RECOVERY`].
const RECOVERY_VARIABLE: &str = "ANEMONE_ANE_RECOVERY_MS";

/// How long after a failed compilation the next one waits.
pub(crate) fn recovery() -> Duration {
    let given = env::var(RECOVERY_VARIABLE).ok().and_then(|value| value.parse().ok());
    given.map_or(Options::RECOVERY, Duration::from_millis)
}

impl EngineFlags {
    /// The engine.
    ///
    /// # Errors
    ///
    /// When there is no way in to it here.
    pub(crate) fn open(self, weights: WeightsName, limit: Option<u32>) -> Result<Engine, Failure> {
        let interface = self.interface.load()?;
        let fallback: Option<Arc<dyn anemone_mil::runtime::Runtime>> = match self.fallback {
            Fallback::Cpu => Some(Arc::new(Cpu::with_options(CpuOptions::default())?)),
            Fallback::None => None,
        };
        let options = Options {
            weights: weights.into(),
            budget: Budget::of_process(limit.unwrap_or(Budget::COMPILATIONS)),
            recovery: recovery(),
            fallback,
            interrupted: interrupt::flag()?,
            warn: Arc::new(warning),
            ..Options::default()
        };
        Ok(Engine::new(interface, options))
    }

    /// The flags again, for another process.
    pub(crate) fn arguments(self) -> Vec<OsString> {
        let interface = self.interface.to_possible_value();
        let fallback = self.fallback.to_possible_value();
        let flag = |name: &str, value: Option<clap::builder::PossibleValue>| {
            value.map(|value| [OsString::from(name), OsString::from(value.get_name())])
        };
        let flags = [flag("--interface", interface), flag("--fallback", fallback)];
        flags.into_iter().flatten().flatten().collect()
    }
}

/// What a command of the system says, in one line.
pub(crate) fn said(command: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(command).args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    Some(text.trim().to_string()).filter(|text| output.status.success() && !text.is_empty())
}

/// This machine's chip, if it is one that is known.
pub(crate) fn own_chip() -> Option<Chip> {
    let brand = cfg!(target_os = "macos").then(|| said("sysctl", &["-n", "machdep.cpu.brand_string"]))??;
    chip_of(&brand)
}

/// The chip that a processor's name tells: `Apple M4 Pro` is M4.
fn chip_of(brand: &str) -> Option<Chip> {
    brand.split_whitespace().find_map(|word| word.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_processors_name_tells_its_chip() {
        assert_eq!(chip_of("Apple M4 Pro"), Some(Chip::M4));
        assert_eq!(chip_of("Apple M1"), Some(Chip::M1));
        assert_eq!(chip_of("Intel(R) Core(TM) i7"), None);
    }
}
