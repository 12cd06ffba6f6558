//! `anemone run`: runs a program on arrays in files.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anemone_cpu::Options;
use anemone_mil::runtime::{Executable, Runtime, RuntimeError};
use anemone_mil::tensor::Tensor;
use anemone_mil::types::{DType, TensorType};
use anemone_mil::weights::BlobError;
use clap::builder::{OsStringValueParser, TypedValueParser};
use serde::Serialize;
use thiserror::Error;

use crate::common::engine::{EngineFlags, WeightsName};
use crate::common::files::{self, refuse_overwriting, serialize_path};
use crate::common::pipeline::Opened;
use crate::common::runtime::RuntimeName;
use crate::common::simulator::{SimulatorFlags, SimulatorReport};
use crate::common::source::Source;
use crate::common::{Failure, Output, npy};

pub(crate) mod inputs;
mod picture;
mod predict;

use inputs::{Assignment, Inputs};

/// Flags of `run`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Program to run
    file: PathBuf,
    /// Array (.npy) for an input or a state, or image (PNG, JPEG) for an image input of a Core ML model, one flag for each: floats are rounded to its type, integers must fit it; states begin as zeros otherwise
    #[arg(long = "input", value_name = "NAME=FILE", value_parser = OsStringValueParser::new().try_map(Assignment::parse))]
    inputs: Vec<Assignment>,
    /// Resize images to the size that the model describes; otherwise others are refused
    #[arg(long)]
    resize: bool,
    /// Directory for the results and the states' last values, one NAME.npy each, images as NAME.png, classes and probabilities as NAME.json; made if missing
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
    /// Directory that `@model_path` stands for (default: the program's)
    #[arg(long, value_name = "DIR")]
    weights: Option<PathBuf>,
    /// Function to run (default: the only one, or `main`)
    #[arg(long, value_name = "NAME")]
    function: Option<String>,
    /// What runs the program
    #[arg(long, value_enum, value_name = "RUNTIME", default_value = "cpu")]
    runtime: RuntimeName,
    #[command(flatten)]
    engine: EngineFlags,
    #[command(flatten)]
    simulator: SimulatorFlags,
    /// Print what went wrong with the numbers on the simulated engine: overflows, dropped products, values flushed to zero
    #[arg(long, requires = "chip")]
    report: bool,
}

/// What is wrong with the weights or the outputs that are asked for.
#[derive(Debug, Error)]
enum RunError {
    /// A weight file that is not beside the program.
    #[error("{0}; `--weights DIR` says which directory `@model_path` stands for, if not the program's")]
    MissingWeight(String),
    /// An output or state that no array can be.
    #[error("`{name}` is {ty}, which no .npy file can hold")]
    NotAnArray {
        /// The value.
        name: String,
        /// Its type.
        ty: TensorType,
    },
    /// Two results that would be written to the same file.
    #[error("`{0}` and `{1}` would both be written to {path}; rename one of them", path = .2.display())]
    SameFile(String, String, PathBuf),
}

/// The line of a result.
#[derive(Serialize)]
struct Line<'a> {
    output: &'a str,
    dtype: &'a str,
    shape: &'a [usize],
    #[serde(serialize_with = "serialize_path")]
    file: &'a Path,
}

/// Runs a function once and writes its results, and what its states hold then.
///
/// # Errors
///
/// When the program is not sound, an input is missing, unknown or of the wrong shape, a weight cannot be read,
/// the runtime refuses the program, or a result cannot be written or would replace a file that is read.
pub(crate) fn run(args: &Args, output: &Output) -> Result<(), Failure> {
    args.simulator.refuse_without_simulator(args.runtime)?;
    let opened = Opened::read(&args.file)?;
    let mut report = None;
    let runtime: Box<dyn Runtime> = match args.runtime {
        RuntimeName::Ane => Box::new(args.engine.open(WeightsName::default(), None)?),
        RuntimeName::AneSim => {
            let simulator = args.simulator.open();
            report = args.report.then(|| SimulatorReport::of(&simulator));
            Box::new(simulator)
        }
        other => other.open(Options::default())?.runtime,
    };
    match opened {
        Opened::Program(source) if !matches!(source.model, Some(Ok(_))) => {
            run_program(args, &source, runtime.as_ref(), output)?;
        }
        model => predict::run(args, model, runtime, output)?,
    }
    if let Some(report) = report {
        report.print(output);
    }
    Ok(())
}

/// Runs a function of a program that no description goes with.
fn run_program(args: &Args, source: &Source, runtime: &dyn Runtime, output: &Output) -> Result<(), Failure> {
    let verified = Arc::new(source.verified()?);
    let function = source.function(args.function.as_deref())?;
    let inputs = Inputs::new(function, &args.inputs)?;
    let tensors = inputs.read()?;
    let weights = source.weights(args.weights.as_deref())?;
    let types: Vec<TensorType> = tensors.iter().map(Tensor::ty).collect();
    let start = Instant::now();
    let prepared = runtime.prepare(&verified, &function.name, &types, &weights);
    let mut executable = prepared.map_err(|error| match args.weights {
        None if is_missing_weight(&error) => RunError::MissingWeight(error.to_string()).into(),
        _ => Failure::from(error),
    })?;
    output.detail(format_args!("prepared in {:?}", start.elapsed()));
    inputs.set_states(executable.as_mut())?;
    let files = result_files(executable.as_ref(), inputs.states(), &args.output)?;
    let read = weights.opened().into_iter().chain(inputs.files()).chain(source.files.iter().cloned());
    refuse_overwriting(&files, read)?;
    files::make_directory(&args.output)?;

    let start = Instant::now();
    // The run makes them of the sizes that they turn out to have.
    let mut results = vec![Tensor::scalar(false); executable.outputs().len()];
    executable.run(&tensors.iter().collect::<Vec<_>>(), &mut results)?;
    output.detail(format_args!("run in {:?}", start.elapsed()));
    let names = executable.outputs().iter().map(|port| port.name.as_str());
    let states = inputs.states().iter().filter_map(|name| Some((name.as_str(), executable.state(name)?)));
    for (file, (name, tensor)) in files.iter().zip(names.zip(&results).chain(states)) {
        write(file, name, tensor, output)?;
    }
    Ok(())
}

fn is_missing_weight(error: &RuntimeError) -> bool {
    matches!(error, RuntimeError::Weight { error, .. } if matches!(**error, BlobError::Missing { .. }))
}

/// Where each output is written, and then each state's last value.
fn result_files(
    executable: &dyn Executable,
    states: &[String],
    directory: &Path,
) -> Result<Vec<PathBuf>, RunError> {
    let outputs = executable.outputs().iter().map(|port| (&port.name, port.ty.clone()));
    let states = states.iter().filter_map(|name| Some((name, executable.state(name)?.ty())));
    let all: Vec<(&String, TensorType)> = outputs.chain(states).collect();
    if let Some((name, ty)) = all.iter().find(|(_, ty)| npy::writable(ty.dtype).is_err()) {
        return Err(RunError::NotAnArray { name: name.to_string(), ty: ty.clone() });
    }
    distinct_files(all.into_iter().map(|(name, _)| (name, "npy")), directory)
}

/// The file of each result, by its name and the ending of its kind.
fn distinct_files<'a>(
    results: impl Iterator<Item = (&'a String, &'static str)>,
    directory: &Path,
) -> Result<Vec<PathBuf>, RunError> {
    let mut files = Vec::new();
    let mut taken: HashMap<String, &str> = HashMap::new();
    for (name, ending) in results {
        let file = directory.join(format!("{name}.{ending}"));
        // An output that is named twice has one value; names that differ in case have two.
        let key = if IGNORES_CASE { name.to_lowercase() } else { name.clone() };
        match taken.insert(key, name) {
            Some(other) if other != name => {
                return Err(RunError::SameFile(other.to_string(), name.clone(), file));
            }
            _ => files.push(file),
        }
    }
    Ok(files)
}

/// Whether file systems, as a rule, take names that differ in case for the same.
const IGNORES_CASE: bool = cfg!(any(windows, target_os = "macos"));

fn write(path: &Path, name: &str, tensor: &Tensor, output: &Output) -> Result<(), Failure> {
    npy::write(path, tensor)?;
    let stored = if tensor.dtype() == DType::Bf16 { DType::Fp32 } else { tensor.dtype() };
    let line = Line { output: name, dtype: stored.name(), shape: tensor.shape(), file: path };
    output.result(format_args!("{name}: {stored} {:?} in {}", tensor.shape(), path.display()), &line);
    Ok(())
}
