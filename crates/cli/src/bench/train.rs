//! `anemone bench train`: steps of training.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anemone_lm::config::{Config, MAX_DIMENSION};
use anemone_lm::data::Dataset;
use anemone_lm::head::Runtimes;
use anemone_lm::network::head_of;
use anemone_lm::programs::layer::Layer;
use anemone_lm::random::Random;
use anemone_lm::train::Trainer;
use anemone_mil::program::Program;
use serde::Serialize;

use super::{CpuFlags, median_and_least};
use crate::common::flags::{DtypeName, HeadName, count};
use crate::common::{Failure, Output, config, cost, memory};

/// Steps before those that are timed: the first touch the memory.
const WARM_UP: u32 = 2;
/// How long the loop of multiply-adds runs.
const MACHINE: Duration = Duration::from_millis(500);

/// Flags of `bench train`.
#[derive(Debug, clap::Args)]
pub(super) struct TrainArgs {
    /// Configuration, as `train` takes it
    #[arg(long, value_name = "NAME|FILE", default_value = config::DEFAULT)]
    config: PathBuf,
    /// Sequences per step, B [default: the configuration's]
    #[arg(long, value_name = "N", value_parser = count::<usize, 1, { MAX_DIMENSION as u64 }>)]
    batch: Option<usize>,
    /// Tokens per sequence, T [default: the configuration's]
    #[arg(long, value_name = "N", value_parser = count::<usize, 1, { MAX_DIMENSION as u64 }>)]
    seq: Option<usize>,
    /// Element type of what runs on the device [default: the configuration's]
    #[arg(long, value_enum, value_name = "DTYPE")]
    dtype: Option<DtypeName>,
    /// How the classifier and its loss are computed [default: the configuration's]
    #[arg(long, value_enum, value_name = "HEAD")]
    head: Option<HeadName>,
    /// Compute each layer's values once more in backward instead of keeping them
    #[arg(long)]
    recompute: bool,
    /// Timed steps, after two that are not timed
    #[arg(long, value_name = "N", default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    repeats: u32,
    #[command(flatten)]
    cpu: CpuFlags,
}

/// The steps, timed.
#[derive(Debug, Serialize)]
struct Line {
    what: &'static str,
    /// Median and least time of a step.
    ms: f64,
    ms_min: f64,
    tokens_per_s: f64,
    /// Peak resident set in MiB.
    peak_mb: Option<f64>,
    /// 10⁹ FLOPs per second of the step's products, over the time of the whole step.
    gflops: f64,
    /// 10⁹ FLOPs per second of a loop of nothing but multiply-adds.
    machine_gflops: f64,
    path: String,
    products: &'static str,
    threads: usize,
    dtype: &'static str,
    weights: usize,
    batch: usize,
    seq: usize,
    repeats: u32,
}

/// Times steps on random tokens, and prints the line for them.
///
/// # Errors
///
/// When a setting is out of range, or the runtime refuses or fails.
pub(super) fn run(args: &TrainArgs, output: &Output) -> Result<(), Failure> {
    let mut config = config::load(&args.config)?;
    let train = &mut config.train;
    train.batch = args.batch.unwrap_or(train.batch);
    train.seq = args.seq.unwrap_or(train.seq);
    train.dtype = args.dtype.map_or(train.dtype, Into::into);
    train.head = args.head.map_or(train.head, Into::into);
    train.recompute |= args.recompute;
    let (batch, seq, dtype) = (train.batch, train.seq, train.dtype);
    config.validate()?;
    let cpu = args.cpu.open()?;
    let machine_gflops = cpu.multiply_add_gflops(MACHINE);
    memory::reset_peak();
    let data = random_tokens(&config)?;
    let flops = flops_of_products(&config)?;
    let mut trainer = Trainer::new(config, data, Runtimes::all(&cpu))?;
    let mut times_ms = Vec::new();
    for step in 0..WARM_UP + args.repeats {
        let start = Instant::now();
        trainer.step()?;
        if step >= WARM_UP {
            times_ms.push(start.elapsed().as_secs_f64() * 1e3);
        }
    }
    let (ms, ms_min) = median_and_least(&mut times_ms);
    let line = Line {
        what: "train step",
        ms,
        ms_min,
        tokens_per_s: (batch * seq) as f64 / ms * 1e3,
        peak_mb: memory::peak_mb(),
        gflops: flops as f64 / ms / 1e6,
        machine_gflops,
        path: cpu.path().to_string(),
        products: args.cpu.products.name(),
        threads: cpu.threads(),
        dtype: dtype.name(),
        weights: trainer.model().weights(),
        batch,
        seq,
        repeats: args.repeats,
    };
    output.result(text(&line), &line);
    Ok(())
}

/// Tokens that have nothing to do with each other.
fn random_tokens(config: &Config) -> Result<Dataset, Failure> {
    let mut random = Random::stream(0, 1);
    let mut tokens =
        |count: usize| -> Vec<u32> { (0..count).map(|_| random.below(config.model.vocab) as u32).collect() };
    let length = config.train.seq.saturating_mul(16).saturating_add(1);
    Ok(Dataset::from_tokens(tokens(length), tokens(2), config.train.seq)?)
}

/// The FLOPs of the products of a step's programs.
fn flops_of_products(config: &Config) -> Result<u64, Failure> {
    let head = head_of(config);
    let of = |program: &Program| -> u64 {
        program.functions.iter().map(|function| cost::flops_of_products(function).counted).sum()
    };
    let mut flops = of(&head.classifier_forward()?);
    flops += of(&head.classifier_backward()?) + of(&head.classifier_weight_gradient()?);
    if config.model.layers > 0 {
        let (batch, seq) = (config.train.batch, config.train.seq);
        let layer = Layer { config: &config.model, batch, seq, target: head.target };
        let pair = layer.differentiated()?;
        let times = if config.train.recompute { 2 } else { 1 };
        flops += config.model.layers as u64 * (times * of(&pair.forward) + of(&pair.backward));
    }
    Ok(flops)
}

fn text(line: &Line) -> String {
    let peak = line.peak_mb.map_or_else(|| "unknown".to_string(), |peak| format!("{peak:.1}"));
    format!(
        "{}  ms {:.1}  ms_min {:.1}  tokens_per_s {:.0}  peak_mb {peak}  gflops {:.1}  machine_gflops {:.1}  path {}  \
         threads {}  {}  weights {}  batch {}  seq {}",
        line.what,
        line.ms,
        line.ms_min,
        line.tokens_per_s,
        line.gflops,
        line.machine_gflops,
        line.path,
        line.threads,
        line.dtype,
        line.weights,
        line.batch,
        line.seq
    )
}
