//! What each op means: every case file under `tests/ops`.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use anemone_mil::ops::{self, Accuracy};
use anemone_mil::program::Function;
use anemone_mil::runtime::{Port, Runtime};
use anemone_mil::tensor::Tensor;
use anemone_mil::types::{DType, TensorType, Type};
use anemone_mil::verify::{CONST, Verified};
use anemone_mil::weights::WeightMap;

use crate::cases::{self, Case, Numbers, Values, case_files, op_of};
use crate::subjects::{Promises, Subject};

/// Arithmetic in f64 is this good, relative to the terms of a sum.
const F64: f64 = 1e-13;

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
fn compare(actual: &Tensor, expected: &Values, accuracy: Accuracy, promises: Promises) -> Result<(), String> {
    let (ty, rounded) = (expected.ty(), expected.tensor());
    if !ty.dtype.is_float() {
        return if *actual == rounded { Ok(()) } else { Err(format!("{actual:?} is not {rounded:?}")) };
    }
    let result_dtype = if promises.exact { DType::Fp64 } else { ty.dtype };
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
        let half_ulp = Accuracy::Exact.tolerance(&ty, reference, 0.0);
        let inexact = F64 * magnitude.max(reference.abs());
        let close = if promises.exact {
            same(value, reference) || (reference.is_finite() && (value - reference).abs() <= inexact)
        } else if accuracy == Accuracy::Exact {
            same(value, rounded[i])
        } else {
            within(accuracy.tolerance(&ty, reference, magnitude))
                && (!promises.computes_in_f64 || within(half_ulp + inexact))
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
    // Where the run decides the size of an output, any tensor stands for it.
    let room = |port: &Port| {
        let dims = port.ty.shape.to_known();
        dims.map_or(Some(Tensor::scalar(false)), |dims| Tensor::zeros(port.ty.dtype, &dims))
    };
    let mut outputs: Vec<Tensor> = executable.outputs().iter().map(|port| room(port).unwrap()).collect();
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

/// Runs every function of a case file; gives how many runs there were, and what failed.
fn run_file(file: &Path, runtime: &dyn Runtime, promises: Promises) -> Result<(usize, Vec<String>), String> {
    let (program, cases) = cases::load(file)?;
    let (mut runs, mut failures) = (0, Vec::new());
    for function in &program.program().functions {
        let accuracy = accuracy(op_of(file), function)?;
        if promises.only_sums && !matches!(accuracy, Accuracy::Sum(_)) {
            continue;
        }
        let case = &cases[&function.name];
        let check = |actual: &Tensor, expected: &Values| compare(actual, expected, accuracy, promises);
        if let Err(error) = run(runtime, &program, function, case, check) {
            failures.push(format!("{}: {error}", function.name));
        }
        runs += 1;
    }
    Ok((runs, failures))
}

/// Every case of every op holds.
pub fn every_case_holds(subject: &Subject) {
    let (mut runs, mut failures) = (0, Vec::new());
    for file in case_files() {
        match run_file(&file, subject.runtime.as_ref(), subject.promises) {
            Ok((count, failed)) => {
                runs += count;
                failures.extend(failed);
            }
            Err(error) => failures.push(format!("{}: {error}", file.display())),
        }
    }
    let (name, failed) = (&subject.name, failures.len());
    assert!(failures.is_empty(), "{name}: {failed} failures in {runs} runs:\n{}", failures.join("\n"));
    assert!(runs > 0, "{name} has run nothing");
}

#[test]
fn every_op_has_a_case_file() {
    let files = case_files();
    let about: BTreeSet<&str> = files.iter().map(|file| op_of(file)).collect();
    let without: Vec<&str> = ops::rows().map(|row| row.name).filter(|name| !about.contains(name)).collect();
    assert!(without.is_empty(), "no case file is about {without:?}");
    assert!(about.contains(CONST));
}
