//! The runtimes by name.

use std::sync::{Arc, OnceLock};

use anemone_ane::chips::Chip;
use anemone_ane::device::e5rt::E5rt;
use anemone_ane::device::{Engine, Options};
use anemone_ane::simulator::Simulator;
use anemone_cpu::Cpu;
use anemone_mil::eval::Interpreter;
use anemone_mil::runtime::Runtime;
use pyo3::exceptions::PyRuntimeWarning;
use pyo3::prelude::*;

use crate::errors;

/// The runtime of this name; only `ane-sim` simulates a chip, and must be told which.
///
/// # Errors
///
/// When there is none of the name, the chip is missing, not known or not asked for, or the system refuses what the runtime
/// needs.
pub(crate) fn open(name: &str, chip: Option<&str>) -> PyResult<Box<dyn Runtime>> {
    match (name, chip) {
        ("ane-sim", Some(chip)) => {
            let chip: Chip = chip.parse().map_err(errors::argument)?;
            Ok(Box::new(Simulator::new(chip)))
        }
        ("ane-sim", None) => {
            Err(errors::argument("runtime=\"ane-sim\" needs the chip: chip=\"m4\", for example"))
        }
        (_, Some(chip)) => Err(errors::argument(format!("chip={chip:?} is for runtime=\"ane-sim\""))),
        ("cpu", None) => Ok(Box::new(cpu()?)),
        ("eval", None) => Ok(Box::new(Interpreter::default())),
        ("ane", None) => {
            let interface = E5rt::load(None).map_err(errors::failed)?;
            let fallback: Arc<dyn Runtime> = Arc::new(cpu()?);
            let options = Options { fallback: Some(fallback), warn: Arc::new(warn), ..Options::default() };
            Ok(Box::new(Engine::new(Box::new(interface), options)))
        }
        _ => Err(errors::argument(format!(
            "there is no runtime {name:?}; there are cpu, eval, ane-sim and ane"
        ))),
    }
}

/// The CPU runtime, whose threads all models share.
fn cpu() -> PyResult<Cpu> {
    static CPU: OnceLock<Cpu> = OnceLock::new();
    if let Some(cpu) = CPU.get() {
        return Ok(cpu.clone());
    }
    let new = Cpu::new().map_err(|error| errors::runtime(&error))?;
    Ok(CPU.get_or_init(|| new).clone())
}

/// Says by Python's warnings that something comes about otherwise than was asked for.
fn warn(text: &str) {
    Python::attach(|py| {
        let warned = py
            .import("warnings")
            .and_then(|warnings| warnings.call_method1("warn", (text, py.get_type::<PyRuntimeWarning>())));
        // A program that makes warnings exceptions cannot be told by one here.
        if let Err(error) = warned {
            error.write_unraisable(py, None);
        }
    });
}
