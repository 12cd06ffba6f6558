//! What each op means: every case file under `tests/ops`, on every runtime. Their format is described in
//! `tests/README.md`.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anemone_mil::eval::{self, Interpreter};
use anemone_mil::ops::{self, Accuracy};
use anemone_mil::program::Function;
use anemone_mil::runtime::{Runtime, allocate_outputs};
use anemone_mil::tensor::Tensor;
use anemone_mil::text;
use anemone_mil::types::{DType, TensorType, Type};
use anemone_mil::verify::{CONST, Verified, verify};
use anemone_mil::weights::WeightMap;
use paths::{cpu_on, paths};
use serde::Deserialize;

#[path = "../../cpu/tests/common/not_run.rs"]
mod not_run;
#[path = "../../cpu/tests/common/paths.rs"]
mod paths;

/// A runtime, and what it promises beyond the accuracy of each op's row.
struct Subject {
    name: String,
    runtime: Box<dyn Runtime>,
    /// Whether it computes in f64, so that its results are off by one rounding at most.
    computes_in_f64: bool,
    /// Whether it rounds results to their element types; otherwise they are fp64.
    rounds: bool,
    /// Whether only sums of products are computed otherwise than by another subject.
    only_sums: bool,
}

fn subjects() -> Vec<Subject> {
    let (eval, exact) = (Interpreter::default(), Interpreter::exact());
    let mut subjects = vec![
        Subject {
            name: "eval".to_string(),
            runtime: Box::new(eval),
            computes_in_f64: true,
            rounds: true,
            only_sums: false,
        },
        Subject {
            name: "exact eval".to_string(),
            runtime: Box::new(exact),
            computes_in_f64: true,
            rounds: false,
            only_sums: false,
        },
    ];
    for path in paths() {
        for threads in [1, 3] {
            subjects.push(Subject {
                name: format!("cpu, {path}, {threads} threads"),
                runtime: Box::new(cpu_on(path, threads)),
                computes_in_f64: false,
                rounds: true,
                only_sums: path.multiplies_by_unit(),
            });
        }
    }
    subjects
}

/// Arithmetic in f64 is this good, relative to the terms of a sum.
const F64: f64 = 1e-13;

/// One function's inputs and results.
#[derive(Deserialize)]
struct Case {
    inputs: BTreeMap<String, Values>,
    outputs: BTreeMap<String, Values>,
    #[serde(default)]
    states: BTreeMap<String, State>,
}

#[derive(Deserialize)]
struct State {
    before: Values,
    after: Values,
}

/// A tensor; floating-point results are exact, not rounded to `dtype`.
#[derive(Deserialize)]
struct Values {
    dtype: String,
    shape: Vec<usize>,
    data: Numbers,
    magnitude: Option<Numbers>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Numbers {
    One(Number),
    Many(Vec<Number>),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Number {
    Bool(bool),
    Integer(i64),
    Float(f64),
    /// `nan`, `inf` or `-inf`.
    Special(String),
}

impl Number {
    fn float(&self) -> Option<f64> {
        match self {
            Number::Bool(_) => None,
            Number::Integer(value) => Some(*value as f64),
            Number::Float(value) => Some(*value),
            Number::Special(name) => name.parse().ok(),
        }
    }

    fn integer(&self) -> Option<i64> {
        match self {
            Number::Bool(value) => Some(i64::from(*value)),
            Number::Integer(value) => Some(*value),
            Number::Float(_) | Number::Special(_) => None,
        }
    }
}

impl Numbers {
    fn all(&self) -> &[Number] {
        match self {
            Numbers::One(number) => std::slice::from_ref(number),
            Numbers::Many(numbers) => numbers,
        }
    }

    fn floats(&self) -> Vec<f64> {
        self.all().iter().map(|number| number.float().expect("a number")).collect()
    }
}

impl Values {
    fn dtype(&self) -> DType {
        DType::from_name(&self.dtype).expect("an element type")
    }

    fn ty(&self) -> TensorType {
        TensorType::new(self.dtype(), &self.shape)
    }

    /// The tensor, rounded to its element type.
    fn tensor(&self) -> Tensor {
        if self.dtype().is_float() {
            return Tensor::from_f64(self.dtype(), &self.shape, &self.data.floats()).expect("a tensor");
        }
        let integers: Option<Vec<i64>> = self.data.all().iter().map(Number::integer).collect();
        Tensor::from_i64(self.dtype(), &self.shape, &integers.expect("integers")).expect("a tensor")
    }
}

/// The programs among the case files.
fn case_files() -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/ops");
    let entries = fs::read_dir(directory).expect("the case files are there");
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "mil"))
        .collect();
    files.sort();
    files
}

/// The op that a case file is about: `softmax_1_0.mil` is about softmax, in dialect 1.0.
fn op_of(file: &Path) -> &str {
    let stem = file.file_stem().and_then(|stem| stem.to_str()).expect("a name");
    stem.strip_suffix("_1_0").unwrap_or(stem)
}

/// The accuracy of the op that a function is about; every other op in it must be exact.
fn accuracy(op: &str, function: &Function) -> Result<Accuracy, String> {
    let mut found = None;
    for used in &function.ops {
        let row = ops::lookup(&used.name, used.opset.unwrap_or(function.opset));
        let accuracy = row.map_or(Accuracy::Exact, |row| row.accuracy);
        if used.name == op {
            found = Some(accuracy);
        } else if accuracy != Accuracy::Exact {
            return Err(format!("`{}` uses {}, not only {op}", function.name, used.name));
        }
    }
    found.ok_or(format!("`{}` does not use {op}", function.name))
}

/// Compares a result with what is expected; the error names the first element that is too far away.
fn compare(actual: &Tensor, expected: &Values, accuracy: Accuracy, subject: &Subject) -> Result<(), String> {
    let (ty, rounded) = (expected.ty(), expected.tensor());
    if !ty.dtype.is_float() {
        return if *actual == rounded { Ok(()) } else { Err(format!("{actual:?} is not {rounded:?}")) };
    }
    let result_dtype = if subject.rounds { ty.dtype } else { DType::Fp64 };
    if actual.ty() != TensorType::new(result_dtype, &expected.shape) {
        return Err(format!("the type is {}, not {ty}", actual.ty()));
    }
    let references = expected.data.floats();
    // Terms of a sum have the magnitude that the case gives; a product has its own.
    let magnitudes = expected.magnitude.as_ref().map_or_else(|| references.clone(), Numbers::floats);
    assert_eq!(magnitudes.len(), references.len());
    let values = actual.to_f64().expect("floating point");
    let rounded = rounded.to_f64().expect("floating point");
    for (i, &value) in values.iter().enumerate() {
        let (reference, magnitude) = (references[i], magnitudes[i].abs());
        let within = |tolerance| near(value, reference, rounded[i], ty.dtype, tolerance);
        let half_ulp = eval::tolerance(Accuracy::Exact, &ty, reference, 0.0);
        let inexact = F64 * magnitude.max(reference.abs());
        let close = if !subject.rounds {
            same(value, reference) || (reference.is_finite() && (value - reference).abs() <= inexact)
        } else if accuracy == Accuracy::Exact {
            same(value, rounded[i])
        } else {
            within(eval::tolerance(accuracy, &ty, reference, magnitude))
                && (!subject.computes_in_f64 || within(half_ulp + inexact))
        };
        if !close {
            return Err(format!("element {i} is {value:e}, not {reference:e}, rounded {:e}", rounded[i]));
        }
    }
    Ok(())
}

/// Whether two numbers are the same; NaN is NaN, and 0 is not −0.
fn same(value: f64, other: f64) -> bool {
    value.to_bits() == other.to_bits() || (value.is_nan() && other.is_nan())
}

/// Whether `value` is what the reference rounds to, or within `tolerance` of it. For a finite reference, an
/// infinity stands for the least number that rounds to it.
fn near(value: f64, reference: f64, rounded: f64, dtype: DType, tolerance: f64) -> bool {
    if !reference.is_finite() || same(value, rounded) {
        return same(value, rounded);
    }
    let least_infinite = match dtype {
        DType::Fp16 => 65520.0,
        _ => f64::from(f32::MAX) + 2f64.powi(103),
    };
    let value = if value.is_infinite() { least_infinite.copysign(value) } else { value };
    (value - reference).abs() <= tolerance
}

/// Runs one function on one runtime, and hands every result with what is expected to `check`.
fn run(
    runtime: &dyn Runtime,
    program: &Arc<Verified>,
    function: &Function,
    case: &Case,
    check: impl Fn(&Tensor, &Values) -> Result<(), String>,
) -> Result<(), String> {
    let inputs = function.body.inputs.iter().map(|&id| function.value(id));
    let inputs = inputs.filter(|input| !matches!(input.ty, Type::State(_)));
    let inputs: Vec<&Values> = inputs
        .map(|input| case.inputs.get(&input.name).ok_or(format!("no input `{}`", input.name)))
        .collect::<Result<_, _>>()?;
    let types: Vec<TensorType> = inputs.iter().map(|input| input.ty()).collect();
    let tensors: Vec<Tensor> = inputs.iter().map(|input| input.tensor()).collect();
    let prepared = runtime.prepare(program, &function.name, &types, &WeightMap::default());
    let mut executable = prepared.map_err(|error| error.to_string())?;
    for (name, state) in &case.states {
        executable.set_state(name, &state.before.tensor()).map_err(|error| error.to_string())?;
    }
    let mut outputs = allocate_outputs(executable.as_ref()).map_err(|error| error.to_string())?;
    executable.run(&tensors.iter().collect::<Vec<_>>(), &mut outputs).map_err(|error| error.to_string())?;
    if executable.outputs().len() != case.outputs.len() {
        return Err("the numbers of outputs differ".to_string());
    }
    for (port, output) in executable.outputs().iter().zip(&outputs) {
        let expected = case.outputs.get(&port.name).ok_or(format!("no output `{}`", port.name))?;
        check(output, expected).map_err(|error| format!("`{}`: {error}", port.name))?;
    }
    for (name, state) in &case.states {
        let held = executable.state(name).ok_or(format!("no state `{name}`"))?;
        check(held, &state.after).map_err(|error| format!("the state `{name}`: {error}"))?;
    }
    Ok(())
}

/// Runs every function of a case file on every runtime; gives how many runs there were, and what failed.
fn run_file(file: &Path, subjects: &[Subject]) -> Result<(usize, Vec<String>), String> {
    let source = fs::read_to_string(file).map_err(|error| error.to_string())?;
    let cases = fs::read_to_string(file.with_extension("json")).map_err(|error| error.to_string())?;
    let cases: BTreeMap<String, Case> = serde_json::from_str(&cases).map_err(|error| error.to_string())?;
    let parsed = text::parse(&source).map_err(|errors| errors.to_string())?;
    let verified = verify(parsed.program);
    let program = verified
        .map(Arc::new)
        .map_err(|errors| errors.render(&file.display().to_string(), &source, &parsed.spans))?;
    let functions = &program.program().functions;
    let names: BTreeSet<&str> = functions.iter().map(|function| function.name.as_str()).collect();
    if names.is_empty() || names != cases.keys().map(String::as_str).collect() {
        return Err("the program and the cases do not name the same functions".to_string());
    }
    let (mut runs, mut failures) = (0, Vec::new());
    for function in functions {
        let accuracy = accuracy(op_of(file), function)?;
        let sums = matches!(accuracy, Accuracy::Sum(_));
        for subject in subjects.iter().filter(|subject| sums || !subject.only_sums) {
            let case = &cases[&function.name];
            let check = |actual: &Tensor, expected: &Values| compare(actual, expected, accuracy, subject);
            if let Err(error) = run(subject.runtime.as_ref(), &program, function, case, check) {
                failures.push(format!("{} on {}: {error}", function.name, subject.name));
            }
            runs += 1;
        }
    }
    Ok((runs, failures))
}

#[test]
fn every_case_holds_on_every_runtime() {
    let subjects = subjects();
    let (mut runs, mut failures) = (0, Vec::new());
    for file in case_files() {
        match run_file(&file, &subjects) {
            Ok((count, failed)) => {
                assert!(count > 0, "{} has no cases", file.display());
                runs += count;
                failures.extend(failed);
            }
            Err(error) => failures.push(format!("{}: {error}", file.display())),
        }
    }
    println!("{runs} runs");
    assert!(failures.is_empty(), "{} failures in {runs} runs:\n{}", failures.len(), failures.join("\n"));
    assert!(runs > 0);
}

#[test]
fn every_op_has_a_case_file() {
    let files = case_files();
    let about: BTreeSet<&str> = files.iter().map(|file| op_of(file)).collect();
    let without: Vec<&str> = ops::rows().map(|row| row.name).filter(|name| !about.contains(name)).collect();
    assert!(without.is_empty(), "no case file is about {without:?}");
    assert!(about.contains(CONST));
}
