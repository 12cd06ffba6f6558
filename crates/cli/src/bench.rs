//! `anemone bench`: how long pieces of work take on this machine.

mod generate;
mod model;
mod train;

use std::sync::Arc;
use std::time::Instant;

use anemone_cpu::{Cpu, InstructionPath, Options};
use anemone_lm::config::DeviceDtype;
use anemone_lm::head::{HeadKind, HeadRunner, Runtimes};
use anemone_lm::optimizer::LossScale;
use anemone_lm::programs::head::{EPS, Head};
use anemone_lm::programs::{ProgramError, Target};
use anemone_lm::random::Random;
use anemone_mil::builder::FunctionBuilder;
use anemone_mil::linear_cross_entropy::LossOptions;
use anemone_mil::ops::call;
use anemone_mil::program::{BlobReference, Program, Version};
use anemone_mil::runtime::{Runtime, allocate_outputs};
use anemone_mil::tensor::Tensor;
use anemone_mil::types::{DType, Opset, TensorType};
use anemone_mil::verify::verify;
use anemone_mil::weights::{BlobError, BlobFile, WeightSource};
use serde::Serialize;

use crate::common::flags::{DtypeName, HeadDimensions, ProductsName};
use crate::common::random::normal;
use crate::common::runtime::RuntimeName;
use crate::common::simulator::SimulatorFlags;
use crate::common::{Failure, Output, cost, memory};

/// Flags of `bench`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Time the classifier head: each of its programs, and a whole step with loss, dx and dE
    Head(HeadArgs),
    /// Time the head's three matrix products alone: logits, dx and dE
    Gemm(HeadArgs),
    /// Time whole steps of training: forward, backward and the optimizer's update
    Train(train::TrainArgs),
    /// Time how a model writes, token by token, and the memory that its weights are read from
    Generate(generate::GenerateArgs),
    /// Time a program, or a Core ML model, on given inputs; or each of its steps
    Model(model::ModelArgs),
}

#[derive(Debug, clap::Args)]
struct HeadArgs {
    #[command(flatten)]
    dimensions: HeadDimensions,
    /// Element type of activations and weights
    #[arg(long, value_enum, value_name = "DTYPE", default_value = "fp16")]
    dtype: DtypeName,
    /// What runs the programs
    #[arg(long, value_enum, value_name = "RUNTIME", default_value = "cpu")]
    runtime: RuntimeName,
    #[command(flatten)]
    simulator: SimulatorFlags,
    /// Timed runs of each piece of work, after one that is not timed
    #[arg(long, value_name = "N", default_value_t = 9, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    repeats: u32,
    #[command(flatten)]
    cpu: CpuFlags,
}

/// How the CPU runtime of a bench works.
#[derive(Debug, clap::Args)]
struct CpuFlags {
    /// Threads (default: as many as the machine runs at once)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    threads: Option<u32>,
    /// Instructions of the CPU runtime: amx-fp16, amx, avx512, avx2, neon or portable (default: the fastest that the processor has)
    #[arg(long, value_name = "PATH")]
    path: Option<InstructionPath>,
    /// How exact the CPU's matrix products are: exact, full (on amx, without the least of four products of parts), or bf16 (factors rounded to 8 bits where the processor multiplies such faster)
    #[arg(long, value_enum, value_name = "PRECISION", default_value = "full")]
    products: ProductsName,
}

impl CpuFlags {
    /// The runtime; the host's part of the work, too, runs on as many threads.
    fn open(&self) -> Result<Cpu, Failure> {
        Ok(Cpu::with_options(self.options()?)?)
    }

    /// The runtime's options.
    fn options(&self) -> Result<Options, Failure> {
        let (threads, products) = (self.host_threads()?, self.products.into());
        Ok(Options { threads, path: self.path, products, ..Options::default() })
    }

    /// Sets the threads of the global pool, on which the host's part of a step runs: once, before it is used.
    fn host_threads(&self) -> Result<Option<usize>, Failure> {
        let threads = self.threads.map(|threads| threads as usize);
        if let Some(count) = threads {
            rayon::ThreadPoolBuilder::new().num_threads(count).build_global()?;
        }
        Ok(threads)
    }
}

/// One piece of work, timed.
#[derive(Debug, Serialize)]
struct Line {
    what: &'static str,
    /// Median and least time of a run.
    ms: f64,
    ms_min: f64,
    /// 10⁹ FLOPs per second, at the median.
    gflops: f64,
    /// Peak resident set in MiB.
    peak_mb: Option<f64>,
    path: String,
    products: &'static str,
    threads: usize,
    runtime: &'static str,
    dtype: &'static str,
    vocab: usize,
    dim: usize,
    seq: usize,
    repeats: u32,
}

/// Times pieces of work, and prints a line for each.
///
/// # Errors
///
/// When a dimension is out of range, or a runtime refuses or fails.
pub(crate) fn run(args: &Args, output: &Output) -> Result<(), Failure> {
    match &args.what {
        What::Head(args) => Bench::new(args, output)?.head(),
        What::Gemm(args) => Bench::new(args, output)?.products(),
        What::Train(args) => train::run(args, output),
        What::Generate(args) => generate::run(args, output),
        What::Model(args) => model::run(args, output),
    }
}

struct Bench<'a> {
    args: &'a HeadArgs,
    head: Head,
    runtime: Box<dyn Runtime>,
    threads: usize,
    path: String,
    output: &'a Output,
}

impl<'a> Bench<'a> {
    fn new(args: &'a HeadArgs, output: &'a Output) -> Result<Bench<'a>, Failure> {
        args.simulator.refuse_without_simulator(args.runtime)?;
        args.dimensions.validate()?;
        let HeadDimensions { vocab, dim, seq } = args.dimensions;
        let target = Target::new(DeviceDtype::from(args.dtype));
        let head = Head { vocab, dim, positions: seq, eps: EPS, target };
        let mut opened = args.runtime.open(args.cpu.options()?)?;
        if args.runtime == RuntimeName::AneSim {
            opened.runtime = Box::new(args.simulator.open());
        }
        let (threads, path) = (opened.threads, opened.path);
        Ok(Bench { args, head, runtime: opened.runtime, threads, path, output })
    }

    fn head(&self) -> Result<(), Failure> {
        let Head { vocab, dim, positions, .. } = self.head;
        let (x, logits) = ([1, dim, 1, positions], [1, vocab, 1, positions]);
        let time = |what, program: Result<Program, ProgramError>, input: &[usize]| {
            self.program(what, program, &[(input, 1)])
        };
        time("rmsnorm", self.head.final_rmsnorm(), &x)?;
        time("logits", self.head.classifier_forward(), &x)?;
        time("softmax", self.head.softmax(), &logits)?;
        time("backward", self.head.classifier_backward(), &logits)?;
        self.step("step programs", HeadKind::Programs)?;
        if self.args.runtime.offers_fused_head()? {
            self.step("step fused", HeadKind::Fused)?;
        }
        Ok(())
    }

    /// Times the products of a step, as `matmul` takes them from the step's tensors.
    fn products(&self) -> Result<(), Failure> {
        let Head { vocab, dim, positions, .. } = self.head;
        let (x, embed, dlogits) = ([dim, positions], [vocab, dim], [vocab, positions]);
        self.product("gemm logits", (&embed, false), (&x, false))?;
        self.product("gemm dx", (&embed, true), (&dlogits, false))?;
        self.product("gemm dE", (&dlogits, false), (&x, true))
    }

    /// Times the product of two matrices, each with whether it is transposed.
    fn product(&self, what: &'static str, a: (&[usize], bool), b: (&[usize], bool)) -> Result<(), Failure> {
        let program = matmul(self.head.target.mil_dtype(), a, b);
        self.program(what, program, &[(a.0, 1), (b.0, 2)])
    }

    /// Numbers from N(0, 1).
    fn activation(&self, dims: &[usize], stream: u64) -> Result<Tensor, Failure> {
        let ty = TensorType::new(self.head.target.mil_dtype(), dims);
        Ok(normal(&ty, dims, Random::stream(0, stream), 0.0, 1.0)?)
    }

    /// Times a program with inputs of these dimensions, each from a stream of random numbers.
    fn program(
        &self,
        what: &'static str,
        program: Result<Program, ProgramError>,
        inputs: &[(&[usize], u64)],
    ) -> Result<(), Failure> {
        memory::reset_peak();
        let program = program?;
        let flops = flops(&program);
        let verified = verify(program).map_err(|errors| Failure::Program(errors.to_string()))?;
        let inputs: Result<Vec<Tensor>, Failure> =
            inputs.iter().map(|&(dims, stream)| self.activation(dims, stream)).collect();
        let inputs = inputs?;
        let types: Vec<TensorType> = inputs.iter().map(Tensor::ty).collect();
        let mut executable = self.runtime.prepare(&Arc::new(verified), "main", &types, &NormalWeights)?;
        let mut outputs = allocate_outputs(executable.as_ref())?;
        let inputs: Vec<&Tensor> = inputs.iter().collect();
        self.time(what, flops, || Ok(executable.run(&inputs, &mut outputs)?))
    }

    /// Times a step: loss, dx, the gain's gradient and dE, from x and targets.
    fn step(&self, what: &'static str, kind: HeadKind) -> Result<(), Failure> {
        memory::reset_peak();
        let Head { vocab, dim, positions, target, .. } = self.head;
        let runtimes = Runtimes::all(self.runtime.as_ref());
        let mut runner = HeadRunner::new(self.head, kind, LossOptions::default(), runtimes)?;
        let embed = TensorType::new(DType::Fp32, &[vocab, dim]);
        let embed = normal(&embed, &[vocab, dim], Random::stream(0, 1), 0.0, 0.02)?;
        runner.set_weights(&vec![1.0; dim], embed.as_slice().unwrap_or_default())?;
        let mut random = Random::stream(0, 2);
        drop(embed);
        let x = self.activation(&[1, dim, 1, positions], 3)?;
        let targets: Vec<i32> = (0..positions).map(|_| random.below(vocab) as i32).collect();
        let loss_scale = match target.dtype {
            DeviceDtype::Fp16 => LossScale::dynamic(),
            DeviceDtype::Fp32 => LossScale::none(),
        };
        let programs = [
            self.head.final_rmsnorm(),
            self.head.classifier_forward(),
            self.head.softmax(),
            self.head.classifier_backward(),
            self.head.rmsnorm_backward(),
            self.head.classifier_weight_gradient(),
        ];
        let mut all = 0;
        for program in programs {
            all += flops(&program?);
        }
        self.time(what, all, || {
            runner.step(&x, &targets, loss_scale.scale())?;
            Ok(())
        })
    }

    /// Times some work and prints the line for it.
    fn time(
        &self,
        what: &'static str,
        flops: u64,
        mut work: impl FnMut() -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        work()?;
        let mut times_ms = Vec::new();
        for _ in 0..self.args.repeats {
            let start = Instant::now();
            work()?;
            times_ms.push(start.elapsed().as_secs_f64() * 1e3);
        }
        let (ms, ms_min) = median_and_least(&mut times_ms);
        let line = Line {
            what,
            ms,
            ms_min,
            gflops: flops as f64 / ms / 1e6,
            peak_mb: memory::peak_mb(),
            path: self.path.clone(),
            products: self.args.cpu.products.name(),
            threads: self.threads,
            runtime: self.runtime.name(),
            dtype: self.head.target.dtype.name(),
            vocab: self.head.vocab,
            dim: self.head.dim,
            seq: self.head.positions,
            repeats: self.args.repeats,
        };
        self.output.result(text(&line), &line);
        Ok(())
    }
}

/// A program of one `matmul`, of two matrices, each with whether it is transposed.
fn matmul(dtype: DType, a: (&[usize], bool), b: (&[usize], bool)) -> Result<Program, ProgramError> {
    let mut function = FunctionBuilder::new("main", Version::V1_3, Opset::IOS18);
    let x = function.input("a", TensorType::new(dtype, a.0));
    let y = function.input("b", TensorType::new(dtype, b.0));
    let product = function.bind("product", call::matmul(x, y).transpose_x(a.1).transpose_y(b.1))?;
    let mut program = Program::new(Version::V1_3);
    program.functions.push(function.finish([product]));
    Ok(program)
}

fn text(line: &Line) -> String {
    let peak = line.peak_mb.map_or_else(|| "unknown".to_string(), |peak| format!("{peak:.1}"));
    format!(
        "{:<13} ms {:>10.3}  ms_min {:>10.3}  gflops {:>8.2}  peak_mb {peak:>8}  path {}  threads {}  {} {}  \
         vocab {}  dim {}  seq {}",
        line.what,
        line.ms,
        line.ms_min,
        line.gflops,
        line.path,
        line.threads,
        line.runtime,
        line.dtype,
        line.vocab,
        line.dim,
        line.seq
    )
}

fn flops(program: &Program) -> u64 {
    program.functions.iter().map(|function| cost::flops(function).counted).sum()
}

/// The median and the least of some times; both 0 of none.
fn median_and_least(times: &mut [f64]) -> (f64, f64) {
    times.sort_by(f64::total_cmp);
    let middle = times.len() / 2;
    match &*times {
        [] => (0.0, 0.0),
        [least, ..] if times.len() % 2 == 1 => (times[middle], *least),
        [least, ..] => ((times[middle - 1] + times[middle]) / 2.0, *least),
    }
}

/// Weights from N(0, 0.02²), whatever is asked for.
struct NormalWeights;

impl WeightSource for NormalWeights {
    fn file(&self, path: &str) -> Result<Arc<BlobFile>, BlobError> {
        Err(BlobError::Missing { path: path.into() })
    }

    fn load(&self, _: &BlobReference, ty: &TensorType) -> Result<Tensor, BlobError> {
        let dims = ty.shape.to_known().ok_or_else(|| BlobError::UnknownSize(ty.clone()))?;
        normal(ty, &dims, Random::stream(0, 0), 0.0, 0.02).map_err(|_| BlobError::NoBlobForm(ty.dtype))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median_and_least(&mut [3.0, 1.0, 2.0]), (2.0, 1.0));
        assert_eq!(median_and_least(&mut [4.0, 1.0, 2.0, 3.0]), (2.5, 1.0));
        assert_eq!(median_and_least(&mut [7.0]), (7.0, 7.0));
        assert_eq!(median_and_least(&mut []), (0.0, 0.0));
    }
}
