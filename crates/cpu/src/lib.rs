//! The CPU runtime: runs MIL programs on every core.
//!
//! [`Cpu::prepare`](anemone_mil::runtime::Runtime::prepare) turns a verified function into a list of steps.
//! Each step is a kernel that reads some places of memory and writes one, or, for an op that has no kernel,
//! the op's meaning from the table. All places are planned then: values share one allocation, each for as
//! long as it is needed; inputs are read where the caller has them, results written where the caller wants
//! them; constant operands of matrix products are packed. A run of kernels allocates no memory; an op
//! without a kernel allocates its operands and results.
//!
//! Every value has exactly the element type its type declares. Kernels compute in fp32 or wider and round
//! once, to nearest even, so they agree with [`anemone_mil::eval`] within each op's
//! [`Accuracy`](anemone_mil::ops::Accuracy). Results depend neither on timing nor on the number of threads.

mod element;
mod execution;
mod gemm;
mod kernels;
mod memory;
mod plan;
mod threads;

use std::sync::Arc;

use anemone_mil::runtime::{Executable, Runtime, RuntimeError};
use anemone_mil::types::TensorType;
use anemone_mil::verify::Verified;
use anemone_mil::weights::WeightSource;

use crate::execution::Execution;
use crate::threads::Threads;

/// The name that `--runtime` knows this backend by.
pub const NAME: &str = "cpu";

/// What the CPU runtime may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Options {
    /// The number of threads; `None` takes as many as the machine runs at once.
    pub threads: Option<usize>,
}

/// The CPU runtime.
///
/// Functions prepared by one `Cpu` share its threads.
#[derive(Debug, Clone)]
pub struct Cpu {
    threads: Arc<Threads>,
}

impl Cpu {
    /// A runtime with as many threads as the machine runs at once.
    ///
    /// # Errors
    ///
    /// When the operating system refuses the threads.
    pub fn new() -> Result<Cpu, RuntimeError> {
        Cpu::with_options(Options::default())
    }

    /// A runtime with these options.
    ///
    /// # Errors
    ///
    /// When the operating system refuses the threads.
    pub fn with_options(options: Options) -> Result<Cpu, RuntimeError> {
        let available = || std::thread::available_parallelism().map_or(1, usize::from);
        let count = options.threads.unwrap_or_else(available).max(1);
        let threads = Threads::new(count).map_err(|error| RuntimeError::Unsupported {
            runtime: NAME,
            reason: format!("{count} threads cannot be started: {error}"),
        })?;
        Ok(Cpu { threads: Arc::new(threads) })
    }

    /// The vector instructions that kernels use on this machine: `avx512`, `avx2`, `neon` or `scalar`.
    pub fn path(&self) -> &'static str {
        // Which variants there are depends on the target; their names do not.
        let arch = format!("{:?}", self.threads.arch());
        let known = [("V4", "avx512"), ("V3", "avx2"), ("Neon", "neon")];
        known.iter().find(|(variant, _)| arch.starts_with(variant)).map_or("scalar", |(_, path)| path)
    }

    /// The number of threads.
    pub fn threads(&self) -> usize {
        self.threads.count()
    }
}

impl Runtime for Cpu {
    fn name(&self) -> &'static str {
        NAME
    }

    fn prepare(
        &self,
        program: &Arc<Verified>,
        function: &str,
        inputs: &[TensorType],
        weights: &dyn WeightSource,
    ) -> Result<Box<dyn Executable>, RuntimeError> {
        let execution = Execution::new(self.threads.clone(), program, function, inputs, weights)?;
        Ok(Box::new(execution))
    }
}
