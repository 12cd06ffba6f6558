//! The runtimes that `--runtime` names.

use anemone_cpu::{Cpu, Options};
use anemone_mil::eval::Interpreter;
use anemone_mil::runtime::Runtime;
use clap::ValueEnum;

use super::Failure;

/// A runtime, by name. Its variants have no doc comments: those would spread over `--help`, one line per value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum RuntimeName {
    Cpu,
    Eval,
}

/// A runtime, and what a measurement should say of it.
pub struct Opened {
    /// The runtime.
    pub runtime: Box<dyn Runtime>,
    /// The threads it runs on.
    pub threads: usize,
    /// The way its kernels go on this machine: the vector instructions they use.
    pub path: String,
}

impl RuntimeName {
    /// The runtime, with this many threads where it has threads (default: as many as the machine runs at once).
    ///
    /// # Errors
    ///
    /// When the system refuses what the runtime needs.
    pub fn open(self, threads: Option<usize>) -> Result<Opened, Failure> {
        match self {
            RuntimeName::Cpu => {
                let cpu = Cpu::with_options(Options { threads })?;
                let (threads, path) = (cpu.threads(), cpu.path().to_string());
                Ok(Opened { runtime: Box::new(cpu), threads, path })
            }
            RuntimeName::Eval => {
                let runtime = Box::new(Interpreter::default());
                Ok(Opened { runtime, threads: 1, path: "interpreter".to_string() })
            }
        }
    }
}
