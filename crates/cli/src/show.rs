//! `anemone show`: what a program takes, gives, holds and costs.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use anemone_mil::error::{ErrorKind, Errors};
use anemone_mil::program::{Function, ValueId};
use anemone_mil::types::Type;
use anemone_mil::verify::{CONST, count};
use serde::Serialize;

use crate::common::cost::{self, operations};
use crate::common::files::{self, refuse_overwriting, serialize_path};
use crate::common::pipeline::Opened;
use crate::common::{Failure, Output};

mod dot;
mod model;

/// Flags of `show`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Program to describe
    file: PathBuf,
    /// Also draw the graph into this file, in Graphviz's language (default: not drawn)
    #[arg(long, value_name = "FILE")]
    dot: Option<PathBuf>,
    /// Function to describe (default: all)
    #[arg(long, value_name = "NAME")]
    function: Option<String>,
}

/// An input, output or state.
#[derive(Serialize)]
struct ShownPort {
    name: String,
    #[serde(rename = "type")]
    ty: String,
}

/// What there is to say about a function.
#[derive(Serialize)]
struct Description<'a> {
    #[serde(serialize_with = "serialize_path")]
    file: &'a Path,
    function: &'a str,
    opset: String,
    inputs: Vec<ShownPort>,
    outputs: Vec<ShownPort>,
    states: Vec<ShownPort>,
    operations: usize,
    operations_by_kind: BTreeMap<&'a str, usize>,
    constants: usize,
    parameters: cost::Parameters,
    flops: cost::Flops,
    bytes: cost::Traffic,
}

/// Describes a program, function by function; of a pipeline, what each of its models takes and gives.
///
/// # Errors
///
/// When the file cannot be read or is no program; or, after everything is said, when it does not verify for
/// another reason than that it has ops that are not known here.
pub(crate) fn run(args: &Args, output: &Output) -> Result<(), Failure> {
    let source = match Opened::read(&args.file)? {
        Opened::Program(source) => source,
        Opened::Pipeline(source) => {
            if args.dot.is_some() || args.function.is_some() {
                return Err(Failure::Usage(
                    "`--dot` and `--function` are for one program, and this is a pipeline of several; \
                     `anemone convert FILE OUT --model NAME` takes one out"
                        .to_string(),
                ));
            }
            model::print_pipeline(&source.pipeline, &args.file, output);
            return Ok(());
        }
    };
    refuse_overwriting(&args.dot, &source.files)?;
    let verified = source.verify();
    let described = args.function.as_deref().map(|name| source.function(Some(name))).transpose()?;
    match &source.model {
        Some(Ok(model)) => model::print(model, &source, output),
        Some(Err(error)) => output.message(error),
        None => {}
    }
    let functions = described.map_or(source.program.functions.as_slice(), std::slice::from_ref);
    for function in functions {
        let description = describe(&source.path, function);
        output.result(text(&description), &description);
    }
    if let Some(path) = &args.dot {
        files::replace(path, dot::draw(&source.program).as_bytes())?;
        output.message(format_args!("the graph is in {}", path.display()));
    }
    match verified {
        Ok(_) => Ok(()),
        Err(errors) if errors.all_are(ErrorKind::UnknownOp) => {
            output.message(unknown_ops(&errors));
            Ok(())
        }
        Err(errors) => Err(Failure::new(format!(
            "{} does not verify, so not all of this can be trusted; `anemone check` shows its {}",
            source.path.display(),
            count(errors.len(), "mistake")
        ))),
    }
}

fn unknown_ops(errors: &Errors) -> String {
    let mut messages: Vec<String> = errors.listed().iter().map(|error| error.message.clone()).collect();
    messages.sort_unstable();
    messages.dedup();
    if errors.unlisted() > 0 {
        messages.push(format!("and {} more", errors.unlisted()));
    }
    format!("not known, so neither verified nor counted: {}", messages.join(", "))
}

fn describe<'a>(file: &'a Path, function: &'a Function) -> Description<'a> {
    let mut by_kind = BTreeMap::new();
    for (_, op) in function.walk().filter(|(_, op)| op.name != CONST) {
        *by_kind.entry(op.name.as_str()).or_default() += 1;
    }
    let operations = operations(function);
    let is_state = |id: &ValueId| matches!(function.value(*id).ty, Type::State(_));
    let (states, inputs): (Vec<_>, Vec<_>) = function.body.inputs.iter().copied().partition(is_state);
    Description {
        file,
        function: &function.name,
        opset: function.opset.to_string(),
        inputs: ports(function, &inputs),
        outputs: ports(function, &function.body.outputs),
        states: ports(function, &states),
        operations,
        operations_by_kind: by_kind,
        constants: function.walk().count() - operations,
        parameters: cost::parameters(function),
        flops: cost::flops(function),
        bytes: cost::traffic(function),
    }
}

fn ports(function: &Function, ids: &[ValueId]) -> Vec<ShownPort> {
    let values = ids.iter().filter_map(|id| function.values.get(id.0 as usize));
    values.map(|value| ShownPort { name: value.name.clone(), ty: value.ty.to_string() }).collect()
}

/// The description for people, without the last newline.
fn text(description: &Description<'_>) -> String {
    let mut text =
        format!("function {}<{}> in {}", description.function, description.opset, description.file.display());
    let mut line = |line: std::fmt::Arguments<'_>| {
        // Writing to a string does not fail.
        let _ = write!(text, "\n{line}");
    };
    let (inputs, outputs) = (Some(&description.inputs), Some(&description.outputs));
    let states = Some(&description.states).filter(|states| !states.is_empty());
    for (title, ports) in [("inputs", inputs), ("outputs", outputs), ("states", states)] {
        let Some(ports) = ports else { continue };
        line(format_args!("  {title}"));
        for port in ports {
            line(format_args!("    {}: {}", port.name, port.ty));
        }
    }
    line(format_args!("  operations: {}, constants: {}", description.operations, description.constants));
    let mut kinds: Vec<_> = description.operations_by_kind.iter().collect();
    kinds.sort_by_key(|(name, number)| (std::cmp::Reverse(**number), **name));
    for (name, number) in kinds {
        line(format_args!("    {number:>6} {name}"));
    }
    line(format_args!("  parameters: {}", description.parameters));
    line(format_args!("  FLOPs per run: {}", description.flops));
    line(format_args!("  bytes per run: {}", description.bytes));
    text
}

/// The name of a type for a label: its element type and dimensions.
fn short(ty: &Type) -> String {
    match ty.as_tensor() {
        Some(tensor) => format!("{} {}", tensor.dtype, tensor.shape),
        None => ty.to_string(),
    }
}
