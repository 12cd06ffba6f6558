//! `anemone opt`: rewrites a program.

use std::collections::BTreeSet;
use std::mem::discriminant;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anemone_ane::chips::Chips;
use anemone_ane::legalize::{self, Legalized};
use anemone_ane::rules::{self, Rule};
use anemone_mil::error::{Error, Errors};
use anemone_mil::passes::Unbaked;
use anemone_mil::tensor::Tensor;
use anemone_mil::text;
use anemone_mil::weights::{WeightDirectory, WeightSource};
use anemone_model::passes::{Draft, PassInput, PassInputs, PassName, Passed};
use clap::builder::{OsStringValueParser, TypedValueParser};
use serde::Serialize;

use crate::common::files::{self, refuse_overwriting, serialize_path};
use crate::common::source::Source;
use crate::common::{Failure, Output, npy, weight_files};

mod flags;
mod store;

use flags::{Given, GivenInput};

/// Flags of `opt`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Program to rewrite; its comments are kept
    file: PathBuf,
    /// Pass to apply, one flag for each, in this order: specialize, dead-code, common-subexpressions, fold-constants, bake, unbake, dialect=1.0 or dialect=1.3; for the engine legalize, or a single one of its passes
    #[arg(long = "pass", value_name = "NAME", required = true)]
    passes: Vec<PassName>,
    /// For legalize the chip that the program is to run on: m1 to m6, or all (default for its single passes: all)
    #[arg(long, value_name = "CHIP")]
    chip: Option<Chips>,
    /// For specialize the type of an input, such as `x=fp16[1,64]`; for bake its value; a value's type is for both
    #[arg(long = "input", value_name = "NAME=DTYPE[D,…]|FILE.npy", value_parser = OsStringValueParser::new().try_map(GivenInput::parse))]
    inputs: Vec<GivenInput>,
    /// For unbake a constant to become an input (default: all in weight files that need not be constants)
    #[arg(long = "constant", value_name = "NAME")]
    constants: Vec<String>,
    /// For unbake the directory for the values of these constants, one NAME.npy each; made if missing (default: they are named in messages)
    #[arg(long, value_name = "DIR")]
    arrays: Option<PathBuf>,
    /// Function that specialize, bake and unbake change (default: the only one, or `main`); other passes change all
    #[arg(long, value_name = "NAME")]
    function: Option<String>,
    /// Directory that `@model_path` stands for; fold-constants and legalize read weights only if it is given (default for unbake: the program's)
    #[arg(long, value_name = "DIR")]
    weights: Option<PathBuf>,
    /// File for the program; constants that passes make of 64 KiB or more go into STEM.weights.bin beside it (default: standard output, with all constants)
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

#[derive(Serialize)]
struct Line<'a> {
    #[serde(serialize_with = "serialize_path")]
    file: &'a Path,
    changes: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
}

/// Rewrites a program, and prints or writes it.
///
/// # Errors
///
/// When the program is not sound, a pass is not given what it needs or what it makes is not sound, a weight cannot be
/// read, or a file cannot be written or would replace one that is read.
pub(crate) fn run(args: &Args, output: &Output) -> Result<(), Failure> {
    let source = Source::read(&args.file)?;
    let draft = Draft::of(&source)?;
    args.check()?;
    let weights = source.weights(args.weights.as_deref())?;
    let function = match args.passes.iter().any(|pass| pass.changes_one_function()) {
        true => source.function(args.function.as_deref())?.name.clone(),
        false => String::new(),
    };
    let inputs = read_inputs(args, &source, &function)?;
    let mut work = Work {
        args,
        source: &source,
        weights: &weights,
        function: &function,
        inputs: &inputs,
        draft,
        unbaked: Vec::new(),
        changes: Vec::new(),
    };
    args.passes.iter().try_for_each(|pass| work.apply(*pass, output))?;
    let Work { draft: Draft { program, comments, .. }, unbaked, changes, .. } = work;
    let arrays = unbaked_arrays(args, &unbaked, &weights, output)?;
    let read = args.inputs.iter().filter_map(GivenInput::file).chain(source.files.iter().cloned());
    let read: Vec<PathBuf> = read
        .chain(weights.opened())
        .chain(weight_files::referred_to(&source.program, weights.directory()))
        .collect();
    refuse_overwriting(arrays.iter().map(|(file, _)| file), &read)?;
    let mut program = program.into_program();
    match &args.out {
        None => {
            write_arrays(args, &arrays)?;
            let text = text::write_with_comments(&program, &comments);
            if output.is_json() {
                output.json(&Line { file: &args.file, changes: &changes, text: Some(&text) });
            } else {
                output.raw(text);
            }
        }
        Some(out) => {
            refuse_overwriting([out], &read)?;
            let same = |file: &PathBuf| std::path::absolute(file).ok() == std::path::absolute(out).ok();
            if let Some((file, _)) = arrays.iter().find(|(file, _)| same(file)) {
                return Err(Failure::new(format!(
                    "{} would be both the program and a constant",
                    file.display()
                )));
            }
            // What the program refers to first: a program that is there finds it.
            write_arrays(args, &arrays)?;
            store::large_constants(&mut program, &source.program, out, &read, output)?;
            files::replace(out, text::write_with_comments(&program, &comments).as_bytes())?;
            weight_files::tell_of_weights_elsewhere(&program, out, weights.directory(), output);
            let line = Line { file: out, changes: &changes, text: None };
            output.result(format_args!("{}: {}", out.display(), summary(&changes)), &line);
        }
    }
    Ok(())
}

fn summary(changes: &[String]) -> String {
    if changes.is_empty() { "unchanged".to_string() } else { changes.join("; ") }
}

impl Args {
    /// Checks that flags are given for passes that are, and to passes what they need.
    fn check(&self) -> Result<(), Failure> {
        let has = |name: &PassName| self.passes.iter().any(|pass| discriminant(pass) == discriminant(name));
        let refuse = |flag: &str, passes: &str| {
            Err(Failure::new(format!("`{flag}` is for {passes}, which is not among the passes")))
        };
        let types = self.inputs.iter().any(|input| input.file().is_none());
        let values = self.inputs.iter().any(|input| input.file().is_some());
        if types && !has(&PassName::Specialize) {
            return refuse("--input NAME=DTYPE[D,…]", "`--pass specialize`");
        }
        if values && !has(&PassName::Bake) && !has(&PassName::Specialize) {
            return refuse("--input NAME=FILE.npy", "`--pass bake`");
        }
        if !values && has(&PassName::Bake) {
            return Err(Failure::new("`--pass bake` needs the value of an input: `--input NAME=FILE.npy`"));
        }
        if !self.constants.is_empty() && !has(&PassName::Unbake) {
            return refuse("--constant", "`--pass unbake`");
        }
        if self.chip.is_none() && has(&PassName::Legalize) {
            return Err(Failure::new("`--pass legalize` needs the chip: `--chip m4`, for example"));
        }
        if self.chip.is_some() && !self.passes.iter().any(|pass| pass.is_for_chips()) {
            return refuse("--chip", "`--pass legalize`");
        }
        if self.arrays.is_some() && !has(&PassName::Unbake) {
            return refuse("--arrays", "`--pass unbake`");
        }
        Ok(())
    }
}

/// What is given for inputs; a value has the element type that its input has.
fn read_inputs(args: &Args, source: &Source, function: &str) -> Result<Vec<PassInput>, Failure> {
    let mut inputs = Vec::with_capacity(args.inputs.len());
    for GivenInput { name, given } in &args.inputs {
        let (ty, value) = match given {
            Given::Type(ty) => (ty.clone(), None),
            Given::File(file) => {
                let (_, function) =
                    source.program.function(function).ok_or_else(|| Failure::new("no function"))?;
                let declared = function.body.inputs.iter().map(|&id| function.value(id));
                let declared = declared.into_iter().find(|input| input.name == *name);
                let Some(ty) = declared.and_then(|input| input.ty.as_tensor()) else {
                    let message = format!("`{}` has no input `{name}` that an array can be", function.name);
                    return Err(Failure::new(message));
                };
                let value = npy::read(file, &ty, &format!("the input `{name}`, {ty}"))?;
                (value.ty(), Some(Arc::new(value)))
            }
        };
        inputs.push(PassInput { name: name.clone(), ty, value });
    }
    Ok(inputs)
}

/// A program on its way through the passes.
struct Work<'a> {
    args: &'a Args,
    source: &'a Source,
    weights: &'a WeightDirectory,
    /// The function that passes change which change only one.
    function: &'a str,
    inputs: &'a [PassInput],
    draft: Draft,
    unbaked: Vec<Unbaked>,
    changes: Vec<String>,
}

impl Work<'_> {
    fn apply(&mut self, pass: PassName, output: &Output) -> Result<(), Failure> {
        let weights = self.args.weights.as_ref().map(|_| self.weights as &dyn WeightSource);
        let given = PassInputs {
            function: self.function,
            inputs: self.inputs,
            constants: &self.args.constants,
            chips: self.args.chip,
            weights,
        };
        let passed = self.draft.apply(self.source, pass, &given)?;
        let Passed { changes, unbaked, legalized } = passed;
        self.unbaked.extend(unbaked);
        if let Some(legalized) = legalized {
            self.tell_of(&legalized, output);
        }
        if changes.is_empty() {
            output.detail(format_args!("{pass}: nothing to change"));
        }
        for change in changes {
            output.detail(format_args!("{pass}: {change}"));
            self.changes.push(format!("{pass}: {change}"));
        }
        Ok(())
    }

    /// Warns of what legalisation could not mend.
    fn tell_of(&self, legalized: &Legalized, output: &Output) {
        let (errors, warnings) = rules::as_errors(&legalized.findings);
        let mut all = Errors::default();
        let listed = errors.listed().iter().cloned().map(Error::as_warning);
        listed.chain(warnings.listed().iter().cloned()).for_each(|warning| all.push(warning));
        if !all.is_empty() {
            output.message(all.render(
                &self.source.path.display().to_string(),
                &self.source.text,
                &self.draft.spans,
            ));
        }
        let broken: BTreeSet<u8> = legalized.findings.iter().map(|finding| finding.rule.number).collect();
        let broken = broken.into_iter().filter_map(rules::find);
        let (mended, never): (Vec<&Rule>, Vec<&Rule>) =
            broken.partition(|rule| legalize::passes_for(rule).next().is_some());
        let list = |rules: &[&Rule]| rules.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        if !never.is_empty() {
            let never = list(&never);
            output.message(format_args!("no pass mends {never}: what the warnings advise is left to you"));
        }
        if !mended.is_empty() {
            let mended = list(&mended);
            output.message(format_args!("the passes for {mended} do not mend what is written there"));
        }
        for name in &legalized.unread {
            output.message(format_args!(
                "`{name}` is in a weight file, which is read only with `--weights`: ops cut or reshape it"
            ));
        }
    }
}

/// Where the values of constants go that became inputs; without a directory they are only told of.
fn unbaked_arrays(
    args: &Args,
    unbaked: &[Unbaked],
    weights: &WeightDirectory,
    output: &Output,
) -> Result<Vec<(PathBuf, Arc<Tensor>)>, Failure> {
    let Some(directory) = &args.arrays else {
        unbaked.iter().for_each(|unbaked| output.message(store::describe(unbaked)));
        return Ok(Vec::new());
    };
    let mut arrays: Vec<(PathBuf, Arc<Tensor>)> = Vec::with_capacity(unbaked.len());
    for unbaked in unbaked {
        let same_file = |other: &&(PathBuf, Arc<Tensor>)| {
            let stem = other.0.file_stem().and_then(|stem| stem.to_str());
            stem.is_some_and(|stem| stem.eq_ignore_ascii_case(&unbaked.name))
        };
        if let Some((other, _)) = arrays.iter().find(same_file) {
            let message = format!("`{}` would be written to {}, or beside it", unbaked.name, other.display());
            return Err(Failure::new(message));
        }
        let tensor = store::value(unbaked, weights)?;
        npy::writable(tensor.dtype())?;
        arrays.push((directory.join(format!("{}.npy", unbaked.name)), tensor));
    }
    Ok(arrays)
}

fn write_arrays(args: &Args, arrays: &[(PathBuf, Arc<Tensor>)]) -> Result<(), Failure> {
    if let Some(directory) = &args.arrays {
        files::make_directory(directory)?;
    }
    arrays.iter().try_for_each(|(file, tensor)| Ok(npy::write(file, tensor)?))
}
