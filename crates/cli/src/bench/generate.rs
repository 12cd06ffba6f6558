//! `anemone bench generate`: tokens that a model writes.

use std::hint::black_box;
use std::path::PathBuf;
use std::time::Instant;

use anemone_lm::generate::{Generator, Sampler};
use anemone_lm::head::Runtimes;
use anemone_lm::model::{EMBEDDING, Model};
use anemone_lm::random::Random;
use anemone_mil::mapped::room_for;
use rayon::prelude::*;
use serde::Serialize;

use super::CpuFlags;
use crate::common::flags::DtypeName;
use crate::common::{Failure, Output, config, memory};

/// Tokens of the prompt.
const PROMPT: u32 = 8;
/// Numbers that are read to measure memory: 512 MiB, far more than any cache holds.
const NUMBERS: usize = 1 << 26;
/// Times that they are read; the fastest counts.
const READS: usize = 5;

/// Flags of `bench generate`.
#[derive(Debug, clap::Args)]
pub(super) struct GenerateArgs {
    /// Configuration, as `train` takes it
    #[arg(long, value_name = "NAME|FILE", default_value = config::DEFAULT)]
    config: PathBuf,
    /// Element type of weights and activations [default: the configuration's]
    #[arg(long, value_enum, value_name = "DTYPE")]
    dtype: Option<DtypeName>,
    /// Tokens to write, after a prompt of eight
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    tokens: u32,
    #[command(flatten)]
    cpu: CpuFlags,
}

/// What was measured.
#[derive(Debug, Serialize)]
struct Line {
    what: &'static str,
    tokens_per_s: f64,
    /// Bytes of the weights that each token reads: all but the embedding, unless it is the classifier's matrix too.
    weight_bytes: usize,
    /// 10⁹ bytes per second that all threads read together.
    memory_gb_per_s: f64,
    /// Tokens per second, over those that the memory allows for the weights alone.
    share: f64,
    /// Peak resident set in MiB.
    peak_mb: Option<f64>,
    path: String,
    products: &'static str,
    threads: usize,
    dtype: &'static str,
    weights: usize,
    tokens: u32,
}

/// Times a model with random weights, and prints the line for it.
///
/// # Errors
///
/// When a setting is out of range, or the runtime refuses or fails.
pub(super) fn run(args: &GenerateArgs, output: &Output) -> Result<(), Failure> {
    let mut config = config::load(&args.config)?;
    config.train.dtype = args.dtype.map_or(config.train.dtype, Into::into);
    config.validate()?;
    let cpu = args.cpu.open()?;
    let memory_gb_per_s = memory_gb_per_s()?;
    memory::reset_peak();
    let model = Model::new(&config.model, config.train.seed)?;
    let element = if config.train.dtype.name() == "fp16" { 2 } else { 4 };
    let looked_up = if config.model.tied { 0 } else { model.parameter(EMBEDDING)?.values.len() };
    let weight_bytes = element * (model.weights() - looked_up);
    let mut generator = Generator::new(&config, &model, Runtimes::all(&cpu))?;
    let prompt: Vec<u32> = (0..PROMPT).map(|token| token % config.model.vocab as u32).collect();
    let (sampler, mut random) = (Sampler::new(0.0, 1.0)?, Random::new(0));
    // The first token is that of the prompt.
    let (mut start, mut times) = (Instant::now(), Vec::new());
    generator.generate(&model, &prompt, args.tokens as usize + 1, (sampler, &mut random), |_| {
        times.push(start.elapsed().as_secs_f64());
        start = Instant::now();
        true
    })?;
    let seconds: f64 = times[1..].iter().sum();
    let tokens_per_s = f64::from(args.tokens) / seconds;
    let line = Line {
        what: "generate",
        tokens_per_s,
        weight_bytes,
        memory_gb_per_s,
        share: tokens_per_s * weight_bytes as f64 / memory_gb_per_s / 1e9,
        peak_mb: memory::peak_mb(),
        path: cpu.path().to_string(),
        products: args.cpu.products.name(),
        threads: cpu.threads(),
        dtype: config.train.dtype.name(),
        weights: model.weights(),
        tokens: args.tokens,
    };
    output.result(text(&line), &line);
    Ok(())
}

/// How fast all threads read memory together.
fn memory_gb_per_s() -> Result<f64, Failure> {
    let mut numbers: Vec<u64> =
        room_for(NUMBERS).ok_or_else(|| Failure::new("there is no memory to measure it with"))?;
    numbers.extend((0..NUMBERS as u64).map(black_box));
    let read = || {
        let start = Instant::now();
        let sum = |part: &[u64]| part.iter().fold(0u64, |sum, &number| sum.wrapping_add(number));
        black_box(numbers.par_chunks(1 << 16).map(sum).reduce(|| 0, u64::wrapping_add));
        (NUMBERS * size_of::<u64>()) as f64 / start.elapsed().as_secs_f64() / 1e9
    };
    Ok((0..READS).map(|_| read()).fold(0.0, f64::max))
}

fn text(line: &Line) -> String {
    let peak = line.peak_mb.map_or_else(|| "unknown".to_string(), |peak| format!("{peak:.1}"));
    format!(
        "{}  tokens_per_s {:.1}  weight_bytes {}  memory_gb_per_s {:.1}  share {:.2}  peak_mb {peak}  path {}  \
         threads {}  {}  weights {}",
        line.what,
        line.tokens_per_s,
        line.weight_bytes,
        line.memory_gb_per_s,
        line.share,
        line.path,
        line.threads,
        line.dtype,
        line.weights
    )
}
