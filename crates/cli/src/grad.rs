//! `anemone grad`: a program's forward and backward.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anemone_mil::grad::{Pair, Request};
use anemone_mil::program::{Function, LiteralValue, Program};
use anemone_mil::text;
use anemone_mil::weights::{WeightDirectory, WeightSource};
use anemone_model::gradients::{gradient, program_of};
use serde::Serialize;

use crate::common::files::{self, atomic_write, refuse_overwriting, serialize_path};
use crate::common::source::Source;
use crate::common::{Failure, Output};

/// Flags of `grad`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Program to differentiate
    file: PathBuf,
    /// Inputs and constants to differentiate by; the gradients come in this order, each named d_NAME
    #[arg(long, value_name = "NAME,...", value_delimiter = ',', required = true)]
    wrt: Vec<String>,
    /// Results to differentiate (default: all of floating point)
    #[arg(long, value_name = "OUTPUT,...", value_delimiter = ',')]
    of: Vec<String>,
    /// Values that are held constant: no gradient goes through them
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    constant: Vec<String>,
    /// Values that forward never saves and backward computes again, products and softmax too
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    recompute: Vec<String>,
    /// Directory for forward.mil and backward.mil, with the weights they refer to; made if missing
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Directory that `@model_path` stands for (default: the program's)
    #[arg(long, value_name = "DIR")]
    weights: Option<PathBuf>,
    /// Function to differentiate (default: the only one, or `main`)
    #[arg(long, value_name = "NAME")]
    function: Option<String>,
}

/// The line of a file.
#[derive(Serialize)]
struct Line<'a> {
    #[serde(serialize_with = "serialize_path")]
    file: &'a Path,
    inputs: Vec<&'a str>,
    outputs: Vec<&'a str>,
}

/// Differentiates a function, and writes its two parts with the weights beside them.
///
/// # Errors
///
/// When the program is not sound, a name stands for nothing that can be differentiated, an op on the way has no
/// gradient, a weight file is missing, or a file cannot be written or would replace one that is read.
pub(crate) fn run(args: &Args, output: &Output) -> Result<(), Failure> {
    let source = Source::read(&args.file)?;
    let verified = source.verified()?;
    let function = source.function(args.function.as_deref())?;
    let names = |names: &[String]| names.iter().map(|name| name.trim().to_string()).collect::<Vec<_>>();
    let (of, wrt, constant) = (names(&args.of), names(&args.wrt), names(&args.constant));
    let recompute = names(&args.recompute);
    let request = Request {
        of: of.iter().map(String::as_str).collect(),
        wrt: wrt.iter().map(String::as_str).collect(),
        constant: constant.iter().map(String::as_str).collect(),
        recompute: recompute.iter().map(String::as_str).collect(),
        groups: Vec::new(),
    };
    let Pair { forward, backward } = gradient(&verified, function, &request)?;

    let from = source.weights(args.weights.as_deref())?;
    let copies = copies(&[&forward, &backward], &from, &WeightDirectory::new(&args.out))?;
    let programs = [("forward.mil", forward), ("backward.mil", backward)];
    let programs = programs.map(|(name, function)| (args.out.join(name), function));
    let read = copies.iter().map(|(from, _)| from).chain(&source.files);
    let written = copies.iter().map(|(_, to)| to).chain(programs.iter().map(|(path, _)| path));
    refuse_overwriting(written, read)?;
    files::make_directory(&args.out)?;
    // Weights first: a program that is there finds what it refers to.
    for (from, to) in &copies {
        files::make_directory(to.parent().unwrap_or(&args.out))?;
        let mut file = files::open(from)?;
        atomic_write(to, |writer| std::io::copy(&mut file, writer).map(drop))?;
        output.detail(format_args!("{} from {}", to.display(), from.display()));
    }
    for (path, function) in programs {
        write(&path, function, &source.program, output)?;
    }
    Ok(())
}

/// The weight files that functions refer to, each with where it goes; those that lie there already are left out.
fn copies(
    functions: &[&Function],
    from: &WeightDirectory,
    to: &WeightDirectory,
) -> Result<Vec<(PathBuf, PathBuf)>, Failure> {
    let literals = functions.iter().flat_map(|function| function.walk()).flat_map(|(_, op)| op.literals());
    let paths: BTreeSet<&str> = literals
        .filter_map(|(_, literal)| match &literal.value {
            LiteralValue::Blob(reference) => Some(reference.path.as_str()),
            _ => None,
        })
        .collect();
    let mut copies = Vec::new();
    for path in paths {
        from.file(path)
            .map_err(|error| Failure::new(format!("the weight file `{path}` cannot be used: {error}")))?;
        let (from, to) = (from.path(path)?, to.path(path)?);
        let same = || Some(from.canonicalize().ok()? == to.canonicalize().ok()?);
        if same() != Some(true) {
            copies.push((from, to));
        }
    }
    Ok(copies)
}

fn write(path: &Path, function: Function, like: &Program, output: &Output) -> Result<(), Failure> {
    let program = program_of(function, like);
    files::replace(path, text::write(&program).as_bytes())?;
    let function = &program.functions[0];
    let names = |ids: &[anemone_mil::program::ValueId]| {
        ids.iter().map(|&id| function.value(id).name.as_str()).collect::<Vec<_>>()
    };
    let (inputs, outputs) = (names(&function.body.inputs), names(&function.body.outputs));
    let text = format!("{}: {} -> {}", path.display(), inputs.join(", "), outputs.join(", "));
    output.result(text, &Line { file: path, inputs, outputs });
    Ok(())
}
