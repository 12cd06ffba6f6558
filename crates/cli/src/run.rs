//! `anemone run`: runs a program on arrays in files.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Instant;

use anemone_cpu::Options;
use anemone_mil::program::Function;
use anemone_mil::runtime::Port;
use anemone_mil::tensor::Tensor;
use anemone_mil::types::{DType, TensorType, Type};
use anemone_mil::weights::WeightDirectory;
use serde::Serialize;
use thiserror::Error;

use crate::common::runtime::RuntimeName;
use crate::common::source::Source;
use crate::common::{Failure, Output, files, npy};

/// Flags of `run`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Program to run
    file: PathBuf,
    /// Array for an input, one flag per input: floats are rounded to its type, integers must fit it
    #[arg(long = "input", value_name = "NAME=FILE.npy")]
    inputs: Vec<Assignment>,
    /// Directory for the results, one NAME.npy each; made if missing
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
}

/// `NAME=FILE`.
#[derive(Debug, Clone)]
struct Assignment {
    name: String,
    file: PathBuf,
}

impl FromStr for Assignment {
    type Err = String;

    fn from_str(text: &str) -> Result<Assignment, String> {
        match text.split_once('=') {
            Some((name, file)) if !name.is_empty() && !file.is_empty() => {
                Ok(Assignment { name: name.to_string(), file: file.into() })
            }
            _ => Err("NAME=FILE.npy is expected".to_string()),
        }
    }
}

/// What is wrong with the inputs or outputs that are asked for.
#[derive(Debug, Error)]
pub enum RunError {
    /// No function is named so, or several could be meant.
    #[error("{what}; the program has {present}")]
    Function {
        /// What is wrong.
        what: String,
        /// The functions.
        present: String,
    },
    /// Something is given for what is no input.
    #[error("`{function}` has no input named `{name}`; its inputs are {present}")]
    UnknownInput {
        /// The function.
        function: String,
        /// The name given.
        name: String,
        /// Its inputs.
        present: String,
    },
    /// An input gets nothing.
    #[error("nothing is given for {}; use `--input NAME=FILE.npy`", list(names))]
    MissingInputs {
        /// The inputs.
        names: Vec<String>,
    },
    /// An input gets two arrays.
    #[error("the input `{0}` is given twice")]
    Duplicate(String),
    /// An input or output that no array can be.
    #[error("`{name}` is {ty}, which no .npy file can hold")]
    NotAnArray {
        /// The value.
        name: String,
        /// Its type.
        ty: String,
    },
}

fn list(names: &[String]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    if quoted.is_empty() { "none".to_string() } else { quoted.join(", ") }
}

#[derive(Serialize)]
struct Line<'a> {
    output: &'a str,
    dtype: &'a str,
    shape: &'a [usize],
    file: &'a Path,
}

/// Runs a function once and writes its results.
///
/// # Errors
///
/// When the program is not sound, an input is missing, unknown or of the wrong shape, a weight cannot be read,
/// the runtime refuses the program, or a result cannot be written.
pub fn run(args: &Args, output: &Output) -> Result<(), Failure> {
    let source = Source::load(&args.file)?;
    let verified = Arc::new(source.verify().map_err(|errors| Failure::Program(source.render(&errors)))?);
    let function = chosen(&source, args.function.as_deref())?;
    let inputs = read_inputs(function, &args.inputs)?;
    let weights = WeightDirectory::new(match &args.weights {
        Some(directory) => directory.clone(),
        None => args.file.parent().unwrap_or(Path::new("")).to_owned(),
    });
    let runtime = args.runtime.open(Options::default())?.runtime;
    let types: Vec<TensorType> = inputs.iter().map(Tensor::ty).collect();
    let start = Instant::now();
    let mut executable = runtime.prepare(&verified, &function.name, &types, &weights)?;
    output.detail(format_args!("prepared in {:?}", start.elapsed()));
    for port in executable.outputs() {
        npy::writable(port.ty.dtype).map_err(|_| not_an_array(port))?;
    }
    files::make_directory(&args.output)?;

    let start = Instant::now();
    // The run makes them of the sizes that they turn out to have.
    let mut results = vec![Tensor::scalar(false); executable.outputs().len()];
    executable.run(&inputs.iter().collect::<Vec<_>>(), &mut results)?;
    output.detail(format_args!("run in {:?}", start.elapsed()));
    for (port, tensor) in executable.outputs().iter().zip(&results) {
        write(&args.output, port, tensor, output)?;
    }
    Ok(())
}

fn not_an_array(port: &Port) -> RunError {
    RunError::NotAnArray { name: port.name.clone(), ty: port.ty.to_string() }
}

/// The function of this name; without one the only function, or `main`.
fn chosen<'a>(source: &'a Source, name: Option<&str>) -> Result<&'a Function, RunError> {
    let functions = &source.program.functions;
    let present = || list(&functions.iter().map(|function| function.name.clone()).collect::<Vec<_>>());
    match (name, functions.as_slice()) {
        (None, [only]) => Ok(only),
        (name, functions) => {
            let wanted = name.unwrap_or("main");
            functions.iter().find(|function| function.name == wanted).ok_or_else(|| RunError::Function {
                what: match name {
                    Some(name) => format!("no function is named `{name}`"),
                    None => "no function is named `main`, so `--function` must say which to run".to_string(),
                },
                present: present(),
            })
        }
    }
}

/// The inputs in the function's order, each from the file given for it.
fn read_inputs(function: &Function, given: &[Assignment]) -> Result<Vec<Tensor>, Failure> {
    let inputs: Vec<_> = function.body.inputs.iter().map(|&id| function.value(id)).collect();
    let inputs: Vec<_> = inputs.into_iter().filter(|input| !matches!(input.ty, Type::State(_))).collect();
    let mut named = HashSet::new();
    for assignment in given {
        if !inputs.iter().any(|input| input.name == assignment.name) {
            let names: Vec<String> = inputs.iter().map(|input| input.name.clone()).collect();
            let (function, name) = (function.name.clone(), assignment.name.clone());
            return Err(RunError::UnknownInput { function, name, present: list(&names) }.into());
        }
        if !named.insert(&assignment.name) {
            return Err(RunError::Duplicate(assignment.name.clone()).into());
        }
    }
    let missing = inputs.iter().filter(|input| !named.contains(&input.name));
    let missing: Vec<String> = missing.map(|input| input.name.clone()).collect();
    if !missing.is_empty() {
        return Err(RunError::MissingInputs { names: missing }.into());
    }
    let mut tensors = Vec::with_capacity(inputs.len());
    for input in inputs {
        let Some(ty) = input.ty.as_tensor().filter(|ty| npy::writable(ty.dtype).is_ok()) else {
            let (name, ty) = (input.name.clone(), input.ty.to_string());
            return Err(RunError::NotAnArray { name, ty }.into());
        };
        let what = format!("the input `{}`, {ty}", input.name);
        for assignment in given.iter().filter(|assignment| assignment.name == input.name) {
            tensors.push(npy::read(&assignment.file, &ty, &what)?);
        }
    }
    Ok(tensors)
}

fn write(directory: &Path, port: &Port, tensor: &Tensor, output: &Output) -> Result<(), Failure> {
    let path = directory.join(format!("{}.npy", port.name));
    npy::write(&path, tensor)?;
    let stored = if tensor.dtype() == DType::Bf16 { DType::Fp32 } else { tensor.dtype() };
    let line = Line { output: &port.name, dtype: stored.name(), shape: tensor.shape(), file: &path };
    let text = format!("{}: {stored} {:?} in {}", port.name, tensor.shape(), path.display());
    output.result(text, &line)
}
