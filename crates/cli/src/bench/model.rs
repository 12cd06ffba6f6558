//! `anemone bench model`: a program, or each of its steps.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anemone_cpu::StepTime;
use anemone_mil::tensor::Tensor;
use anemone_mil::types::TensorType;
use clap::builder::{OsStringValueParser, TypedValueParser};
use serde::Serialize;

use super::{CpuFlags, median_and_least};
use crate::common::files::serialize_path;
use crate::common::source::Source;
use crate::common::{Failure, Output, cost, memory};
use crate::run::inputs::{Assignment, Inputs};

/// Flags of `bench model`.
#[derive(Debug, clap::Args)]
pub(super) struct ModelArgs {
    /// Program, or Core ML model
    file: PathBuf,
    /// Array for an input, one flag for each
    #[arg(long = "input", value_name = "NAME=FILE.npy", value_parser = OsStringValueParser::new().try_map(Assignment::parse))]
    inputs: Vec<Assignment>,
    /// Directory that `@model_path` stands for (default: the program's)
    #[arg(long, value_name = "DIR")]
    weights: Option<PathBuf>,
    /// Function to run (default: the only one, or `main`)
    #[arg(long, value_name = "NAME")]
    function: Option<String>,
    /// Timed runs, after one that is not timed
    #[arg(long, value_name = "N", default_value_t = 9, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    repeats: u32,
    /// Print a line for each step, the longest first, and not only for the whole
    #[arg(long)]
    profile: bool,
    #[command(flatten)]
    cpu: CpuFlags,
}

/// A model, timed.
#[derive(Debug, Serialize)]
struct Line<'a> {
    what: &'static str,
    #[serde(serialize_with = "serialize_path")]
    file: &'a Path,
    /// Median and least time of a run.
    ms: f64,
    ms_min: f64,
    /// 10⁹ FLOPs per second, at the median, of those that can be counted.
    gflops: f64,
    /// Reading the model and preparing it.
    prepare_ms: f64,
    /// What values share while it runs, in MiB.
    planned_mb: f64,
    /// Peak resident set in MiB.
    peak_mb: Option<f64>,
    path: String,
    products: &'static str,
    threads: usize,
    repeats: u32,
}

/// A step of a model, timed.
#[derive(Debug, Serialize)]
struct StepLine<'a> {
    what: &'static str,
    /// Mean time of a run.
    ms: f64,
    /// Of the time of all steps.
    share: f64,
    /// What its last op makes.
    result: &'a str,
    ops: &'a [String],
    /// Whether no kernel takes it.
    by_meaning: bool,
}

/// Times a model on the CPU runtime, and prints the line for it, and those of its steps.
///
/// # Errors
///
/// When the program is not sound, an input is missing, unknown or of the wrong shape, a weight cannot be read, or the
/// runtime refuses or fails.
pub(super) fn run(args: &ModelArgs, output: &Output) -> Result<(), Failure> {
    let cpu = args.cpu.open()?;
    memory::reset_peak();
    let start = Instant::now();
    let source = Source::read(&args.file)?;
    let verified = Arc::new(source.verified()?);
    let function = source.function(args.function.as_deref())?;
    let inputs = Inputs::new(function, &args.inputs)?;
    let tensors = inputs.read()?;
    let weights = source.weights(args.weights.as_deref())?;
    let types: Vec<TensorType> = tensors.iter().map(Tensor::ty).collect();
    let mut model = cpu.profile(&verified, &function.name, &types, &weights)?;
    let prepare_ms = start.elapsed().as_secs_f64() * 1e3;
    // The run makes them of the sizes that they turn out to have.
    let mut outputs = vec![Tensor::scalar(false); model.outputs().len()];
    let inputs: Vec<&Tensor> = tensors.iter().collect();
    model.run(&inputs, &mut outputs)?;
    model.reset();
    let mut times_ms = Vec::new();
    for _ in 0..args.repeats {
        let start = Instant::now();
        model.run(&inputs, &mut outputs)?;
        times_ms.push(start.elapsed().as_secs_f64() * 1e3);
    }
    let (ms, ms_min) = median_and_least(&mut times_ms);
    if args.profile {
        print_steps(model.steps(), args.repeats, output);
    }
    let line = Line {
        what: "model",
        file: &args.file,
        ms,
        ms_min,
        gflops: cost::flops(function).counted as f64 / ms / 1e6,
        prepare_ms,
        planned_mb: model.planned_bytes() as f64 / f64::from(1 << 20),
        peak_mb: memory::peak_mb(),
        path: cpu.path().to_string(),
        products: args.cpu.products.name(),
        threads: cpu.threads(),
        repeats: args.repeats,
    };
    output.result(text(&line), &line);
    Ok(())
}

/// Prints a line for each step, the longest first.
fn print_steps(steps: &[StepTime], repeats: u32, output: &Output) {
    let all: f64 = steps.iter().map(|step| step.seconds).sum();
    let mut steps: Vec<&StepTime> = steps.iter().collect();
    steps.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
    for StepTime { ops, result, by_meaning, seconds } in steps {
        let ms = seconds * 1e3 / f64::from(repeats);
        let line = StepLine { what: "step", ms, share: seconds / all, result, ops, by_meaning: *by_meaning };
        let meaning = if *by_meaning { "  by its meaning" } else { "" };
        let text = format!(
            "{}  ms {ms:>9.4}  share {:.3}  {}  {result}{meaning}",
            line.what,
            line.share,
            ops.join(" ")
        );
        output.result(text, &line);
    }
}

fn text(line: &Line<'_>) -> String {
    let peak = line.peak_mb.map_or_else(|| "unknown".to_string(), |peak| format!("{peak:.1}"));
    format!(
        "{}  ms {:.3}  ms_min {:.3}  gflops {:.2}  prepare_ms {:.1}  planned_mb {:.1}  peak_mb {peak}  path {}  \
         threads {}  {}",
        line.what,
        line.ms,
        line.ms_min,
        line.gflops,
        line.prepare_ms,
        line.planned_mb,
        line.path,
        line.threads,
        line.file.display()
    )
}
