//! How the library behaves, from the environment.

use std::env;
use std::time::Duration;

use anemone_ane::chips::Chip;

/// How the library behaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The chip that it stands for: `ANEMONE_STAND_IN_CHIP`, m4 by default.
    pub chip: Chip,
    /// How long after a failed compilation others fail: `ANEMONE_STAND_IN_RECOVERY_MS`, 20 by default.
    pub recovery: Duration,
    /// The compilations that succeed in a process: `ANEMONE_STAND_IN_COMPILATIONS`, 119 by default.
    pub compilations: u32,
    /// The run that fails, counted from 1: `ANEMONE_STAND_IN_FAIL_RUN`, none by default.
    pub fail_run: Option<u64>,
    /// The run during which the process gets an interrupt signal: `ANEMONE_STAND_IN_INTERRUPT_RUN`, none by default.
    pub interrupt_run: Option<u64>,
    /// Compiling a program whose text has this ends the process: `ANEMONE_STAND_IN_CRASH`, none by default.
    pub crash: Option<String>,
    /// Compiling a program whose text has this never ends: `ANEMONE_STAND_IN_HANG`, none by default.
    pub hang: Option<String>,
}

impl Default for Settings {
    fn default() -> Settings {
        let variable = |name: &str| env::var(format!("ANEMONE_STAND_IN_{name}")).ok();
        let number = |name: &str| variable(name).and_then(|value| value.parse::<u64>().ok());
        let chip = variable("CHIP").and_then(|name| name.parse().ok());
        Settings {
            chip: chip.unwrap_or(Chip::M4),
            recovery: Duration::from_millis(number("RECOVERY_MS").unwrap_or(20)),
            compilations: number("COMPILATIONS").and_then(|limit| limit.try_into().ok()).unwrap_or(119),
            fail_run: number("FAIL_RUN"),
            interrupt_run: number("INTERRUPT_RUN"),
            crash: variable("CRASH"),
            hang: variable("HANG"),
        }
    }
}
