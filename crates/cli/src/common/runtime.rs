//! The runtimes that `--runtime` names.

use anemone_cpu::{Cpu, Options};
use anemone_mil::eval::Interpreter;
use anemone_mil::linear_cross_entropy::{Classifier, LOGITS_BYTES, LossOptions};
use anemone_mil::runtime::Runtime;
use anemone_mil::types::DType;
use clap::ValueEnum;

use super::Failure;
use super::engine::{EngineFlags, WeightsName};
use super::simulator::SimulatorFlags;

/// A runtime, by name. Its variants have no doc comments: those would spread over `--help`, one line per value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum RuntimeName {
    Cpu,
    Eval,
    Ane,
    AneSim,
}

/// A runtime, and what a measurement should say of it.
pub(crate) struct Opened {
    /// The runtime.
    pub runtime: Box<dyn Runtime>,
    /// The threads it runs on.
    pub threads: usize,
    /// The way its kernels go on this machine: the vector instructions they use.
    pub path: String,
}

impl RuntimeName {
    /// The name on the command line.
    pub(crate) fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_string())
    }

    /// The names of the runtimes that compute the classifier and its loss in one.
    pub(crate) fn with_fused_head() -> String {
        let offering =
            RuntimeName::value_variants().iter().filter(|name| name.offers_fused_head().unwrap_or(false));
        offering.map(|name| name.name()).collect::<Vec<_>>().join(", ")
    }

    /// Whether the runtime computes the classifier and its loss in one.
    ///
    /// # Errors
    ///
    /// When the system refuses what the runtime needs.
    pub(crate) fn offers_fused_head(self) -> Result<bool, Failure> {
        let least =
            Classifier { vocab: 1, dim: 1, positions: 1, dtype: DType::Fp32, logits_bytes: LOGITS_BYTES };
        let runtime = self.open(Options { threads: Some(1), ..Options::default() })?.runtime;
        Ok(runtime.linear_cross_entropy(least, LossOptions::default()).is_ok())
    }

    /// The runtime; the options are those of the CPU runtime, and mean nothing to others.
    ///
    /// # Errors
    ///
    /// When the system refuses what the runtime needs.
    pub(crate) fn open(self, options: Options) -> Result<Opened, Failure> {
        match self {
            RuntimeName::Cpu => {
                let cpu = Cpu::with_options(options)?;
                let (threads, path) = (cpu.threads(), cpu.path().to_string());
                Ok(Opened { runtime: Box::new(cpu), threads, path })
            }
            RuntimeName::Eval => {
                let runtime = Box::new(Interpreter::default());
                Ok(Opened { runtime, threads: 1, path: "interpreter".to_string() })
            }
            RuntimeName::Ane => {
                let runtime = Box::new(EngineFlags::default().open(WeightsName::default(), None)?);
                Ok(Opened { runtime, threads: 1, path: "engine".to_string() })
            }
            RuntimeName::AneSim => {
                let runtime = Box::new(SimulatorFlags::default().open());
                Ok(Opened { runtime, threads: rayon::current_num_threads(), path: "simulator".to_string() })
            }
        }
    }
}
