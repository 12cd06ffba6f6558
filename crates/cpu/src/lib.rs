//! The CPU runtime: runs MIL programs on every core.
//!
//! [`Cpu::prepare`](anemone_mil::runtime::Runtime::prepare) turns a verified function into a list of steps.
//! Each step reads some places of memory and writes one, or a few: a chain of ops that compute element by element, or a
//! kernel, perhaps with such chains before and after it; or it is the meaning, from the table, of an op that has no kernel.
//! Ops that share a step round as if each wrote its result. All places are planned then: values share one allocation, each for as
//! long as it is needed; inputs are read where the caller has them, results written where the caller wants
//! them. A run of kernels allocates no memory, but for a block of the thread pool's queue now and then; an op
//! without a kernel allocates its operands and results.
//!
//! ```
//! use std::sync::Arc;
//! use anemone_cpu::Cpu;
//! use anemone_mil::{runtime::Runtime, tensor::Tensor, text, verify::verify, weights::WeightMap};
//!
//! let source = r#"program(1.3)
//! {
//!     func main<ios18>(tensor<fp32, [3]> x) {
//!             tensor<fp32, [3]> y = square(x = x)[name = string("y")];
//!         } -> (y);
//! }
//! "#;
//! let program = Arc::new(verify(text::parse(source)?.program)?);
//! let x = Tensor::vector(vec![1.0f32, -2.0, 3.0]);
//! let mut square = Cpu::new()?.prepare(&program, "main", &[x.ty()], &WeightMap::default())?;
//! let mut outputs = [Tensor::scalar(0.0f32)];
//! square.run(&[&x], &mut outputs)?;
//! assert_eq!(outputs[0], Tensor::vector(vec![1.0f32, 4.0, 9.0]));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Every value has exactly the element type its type declares. Kernels compute in fp32 or wider and round
//! once, to nearest even, so they agree with [`anemone_mil::eval`] within each op's
//! [`Accuracy`](anemone_mil::ops::Accuracy). Results depend neither on timing nor on the number of threads.
//!
//! Kernels use the best instructions that the processor has, or those that [`Options::path`] or [`PATH_VARIABLE`] name;
//! [`HIDE_VARIABLE`] hides instruction sets, as if the processor had not got them.

#![warn(unreachable_pub)]

mod arena;
mod attention;
mod choose;
mod compressed;
mod constants;
mod detect;
mod draft;
mod element;
mod execution;
mod functions;
mod fuse;
mod gemm;
#[cfg(all(test, unix))]
mod guarded;
mod kernels;
pub mod linear_cross_entropy;
mod memory;
#[cfg(test)]
#[path = "../tests/common/not_run.rs"]
mod not_run;
mod path;
mod peak;
mod plan;
mod profile;
mod readers;
mod rows;
mod simd;
mod threads;

use std::sync::Arc;

use anemone_mil::linear_cross_entropy::{Classifier, LinearCrossEntropy, LossOptions};
use anemone_mil::runtime::{Executable, Runtime, RuntimeError};
use anemone_mil::types::TensorType;
use anemone_mil::verify::Verified;
use anemone_mil::weights::WeightSource;

use crate::execution::Execution;
use crate::linear_cross_entropy::FusedHead;
use crate::path::UnknownPath;
use crate::plan::unsupported;
use crate::threads::Threads;

pub use crate::detect::HIDE_VARIABLE;
pub use crate::memory::{Floats, FloatsMut};
pub use crate::path::{InstructionPath, PATH_VARIABLE};
pub use crate::profile::{Profile, StepTime};

/// The name that `--runtime` knows this backend by.
pub const NAME: &str = "cpu";

/// What the CPU runtime may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Options {
    /// The number of threads; `None` takes as many as the machine runs at once.
    pub threads: Option<usize>,
    /// The vector instructions that kernels use; `None` takes what [`PATH_VARIABLE`] names in the environment, and
    /// the fastest that the processor has where that is not set either.
    pub path: Option<InstructionPath>,
    /// How exact matrix products must be.
    pub products: ProductPrecision,
    /// The bytes that a function's compressed constants may take decompressed, all together; `None` is 16 MiB. Where they
    /// would take more, the largest of those that only products of matrices and gathers of rows read are decoded in each
    /// run, one after the other, which takes longer, and are otherwise in memory as they are stored. Constants of fp16 as
    /// fp32, palettes of vectors and sparse palettes are always decompressed; nested blocks are functions of their own.
    pub decompressed_bytes: Option<usize>,
}

/// What [`Options::decompressed_bytes`] is by default.
const DECOMPRESSED_BYTES: usize = 16 << 20;

/// How exact matrix products must be; sums are in fp32 always, and results rounded once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ProductPrecision {
    /// As exact as sums in fp32 are, and the fused head's as those of fp32 operands.
    Exact,
    /// The same, but that on [`InstructionPath::Amx`] the product of the second parts of fp16 operands is left out, which
    /// makes the mean error of results in fp16 a twentieth larger, and saves a quarter of the products of tiles (half of
    /// the fused head's). Other paths are always exact.
    #[default]
    Full,
    /// Factors may be rounded to bf16, that is to 8 significant bits, where the processor multiplies such numbers faster:
    /// with AMX, and with AVX-512 BF16 on [`InstructionPath::Avx512`]. A result may then be off by 2⁻⁸ of Σ|a||b|.
    /// Factors beyond 2⁻¹²⁶ and 2¹²⁷ count as 0, and are multiplied in fp32, respectively. Elsewhere products are exact.
    Bf16,
}

/// The CPU runtime.
///
/// Functions prepared by one `Cpu` share its threads.
#[derive(Debug, Clone)]
pub struct Cpu {
    threads: Arc<Threads>,
    path: InstructionPath,
    decompressed_bytes: usize,
}

/// The path that is asked for, by the caller or else by the environment, or the processor's best.
fn requested_path(asked: Option<InstructionPath>) -> Result<InstructionPath, RuntimeError> {
    if let Some(path) = asked {
        return Ok(path);
    }
    match std::env::var(PATH_VARIABLE) {
        Ok(name) => {
            name.parse().map_err(|error: UnknownPath| unsupported(format!("{PATH_VARIABLE}: {error}")))
        }
        Err(_) => Ok(InstructionPath::available().first().copied().unwrap_or(InstructionPath::Portable)),
    }
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
    /// When the operating system refuses the threads, the processor does not have the path, or [`HIDE_VARIABLE`] names
    /// what is no instruction set.
    pub fn with_options(options: Options) -> Result<Cpu, RuntimeError> {
        detect::hidden().as_ref().map_err(|unknown| unsupported(unknown.to_string()))?;
        let path = requested_path(options.path)?;
        let instructions = path.instructions_for(options.products).map_err(|missing| {
            let available: Vec<&str> =
                InstructionPath::available().into_iter().map(InstructionPath::name).collect();
            unsupported(format!("the path {path}: {missing}; there are {}", available.join(", ")))
        })?;

        let available = || std::thread::available_parallelism().map_or(1, usize::from);
        let count = options.threads.unwrap_or_else(available).max(1);
        let threads = Threads::new(count, instructions, options.products)
            .map_err(|error| unsupported(format!("{count} threads, which cannot be started: {error}")))?;
        let decompressed_bytes = options.decompressed_bytes.unwrap_or(DECOMPRESSED_BYTES);
        Ok(Cpu { threads: Arc::new(threads), path, decompressed_bytes })
    }

    /// The vector instructions that kernels use.
    pub fn path(&self) -> InstructionPath {
        self.path
    }

    /// The number of threads.
    pub fn threads(&self) -> usize {
        self.threads.count()
    }
}

impl Cpu {
    fn execution(
        &self,
        program: &Arc<Verified>,
        function: &str,
        inputs: &[TensorType],
        weights: &dyn WeightSource,
    ) -> Result<Execution, RuntimeError> {
        let most_dense = self.decompressed_bytes;
        Execution::new(self.threads.clone(), program, (function, inputs), weights, most_dense)
    }

    /// A function whose steps are timed: [`Runtime::prepare`], for finding out what takes the time.
    ///
    /// # Errors
    ///
    /// As [`Runtime::prepare`].
    pub fn profile(
        &self,
        program: &Arc<Verified>,
        function: &str,
        inputs: &[TensorType],
        weights: &dyn WeightSource,
    ) -> Result<Profile, RuntimeError> {
        let execution = self.execution(program, function, inputs, weights)?;
        Ok(Profile::new(execution))
    }

    /// A classifier with its loss in one, on slices; see [`linear_cross_entropy`].
    ///
    /// # Errors
    ///
    /// Options out of range, a dimension of 0, an element type that is neither fp16 nor fp32, or sizes that do
    /// not fit in memory.
    pub fn fused_head(
        &self,
        classifier: Classifier,
        options: LossOptions,
    ) -> Result<FusedHead, RuntimeError> {
        FusedHead::new(self.threads.clone(), classifier, options)
    }
}

impl Runtime for Cpu {
    fn name(&self) -> &'static str {
        NAME
    }

    fn identity(&self) -> String {
        match self.threads.products() {
            ProductPrecision::Full => NAME.to_string(),
            ProductPrecision::Exact => format!("{NAME} (products exact)"),
            ProductPrecision::Bf16 => format!("{NAME} (products bf16)"),
        }
    }

    fn prepare(
        &self,
        program: &Arc<Verified>,
        function: &str,
        inputs: &[TensorType],
        weights: &dyn WeightSource,
    ) -> Result<Box<dyn Executable>, RuntimeError> {
        let execution = self.execution(program, function, inputs, weights)?;
        Ok(Box::new(execution))
    }

    fn linear_cross_entropy(
        &self,
        classifier: Classifier,
        options: LossOptions,
    ) -> Result<Box<dyn LinearCrossEntropy>, RuntimeError> {
        Ok(Box::new(self.fused_head(classifier, options)?))
    }
}
