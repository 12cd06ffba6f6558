//! The simulator of the engine, where `--runtime ane-sim` asks for it.

use std::sync::Arc;

use anemone_ane::arithmetic::EngineArithmetic;
use anemone_ane::chips::Chip;
use anemone_ane::report::{Events, ProgramEvents, Report};
use anemone_ane::simulator::Simulator;
use serde::Serialize;

use super::runtime::RuntimeName;
use super::{Failure, Output};

/// Flags of the simulator.
#[derive(Debug, Clone, Copy, Default, clap::Args)]
pub(crate) struct SimulatorFlags {
    /// Chip whose engine `--runtime ane-sim` simulates: m1, m2, m3, m4, m5 or m6
    #[arg(long, value_name = "CHIP", required_if_eq("runtime", "ane-sim"))]
    pub chip: Option<Chip>,
}

impl SimulatorFlags {
    /// Refuses a chip for a runtime that simulates none.
    ///
    /// # Errors
    ///
    /// When there is such a chip: the usage is bad.
    pub(crate) fn refuse_without_simulator(self, runtime: RuntimeName) -> Result<(), Failure> {
        match self.chip {
            Some(chip) if runtime != RuntimeName::AneSim => Err(Failure::Usage(format!(
                "`--chip {chip}` is for `--runtime ane-sim`, and the runtime is {}",
                runtime.name()
            ))),
            _ => Ok(()),
        }
    }

    /// The simulator. The command line has a chip wherever it has the runtime.
    pub(crate) fn open(self) -> Simulator {
        Simulator::new(self.chip.unwrap_or(Chip::M4))
    }
}

/// What a simulator reports of the runs on it.
pub(crate) struct SimulatorReport {
    chip: Chip,
    report: Arc<Report>,
}

/// The line of a report.
#[derive(Serialize)]
struct Line<'a> {
    chip: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<&'a str>,
    total: Events,
    programs: Vec<ProgramEvents>,
}

impl SimulatorReport {
    /// That of a simulator.
    pub(crate) fn of(simulator: &Simulator) -> SimulatorReport {
        SimulatorReport { chip: simulator.chip(), report: simulator.report().clone() }
    }

    /// Prints what happened so far.
    pub(crate) fn print(&self, output: &Output) {
        let note = EngineArithmetic::extrapolation(self.chip);
        let line = Line {
            chip: self.chip.name(),
            note: note.as_deref(),
            total: self.report.total(),
            programs: self.report.programs(),
        };
        let heading = note.as_deref().map_or(String::new(), |note| format!("note: {note}\n"));
        let text = format!("\non the engine of an {}\n{heading}{}", self.chip, self.report);
        output.result(text.trim_end(), &line);
    }
}
