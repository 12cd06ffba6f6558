//! Gradients of whole programs against PyTorch's in float64: every case under `tests/grad`. Their format is described
//! in `tests/README.md`.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;

use anemone_mil::eval::ulp;
use anemone_mil::grad::{Request, differentiate};
use anemone_mil::program::{Function, Program};
use anemone_mil::runtime::Runtime;
use anemone_mil::tensor::Tensor;
use anemone_mil::text;
use anemone_mil::types::DType;
use anemone_mil::verify::{Verified, verify};
use anemone_mil::weights::WeightMap;
use serde::Deserialize;

use crate::common::{data_dir, files_of};
use crate::subjects::Subject;

/// A point, and what the gradients are there.
#[derive(Deserialize)]
struct Case {
    inputs: BTreeMap<String, Values>,
    cotangents: BTreeMap<String, Values>,
    gradients: BTreeMap<String, Values>,
}

#[derive(Deserialize)]
struct Values {
    dtype: String,
    shape: Vec<usize>,
    data: Vec<f64>,
}

impl Values {
    /// The values, those of floating point in this element type.
    fn tensor(&self, float: DType) -> Tensor {
        match self.dtype.as_str() {
            "fp32" => Tensor::from_f64(float, &self.shape, &self.data).unwrap(),
            _ => {
                let values: Vec<i64> = self.data.iter().map(|&value| value as i64).collect();
                Tensor::from_i64(DType::Int32, &self.shape, &values).unwrap()
            }
        }
    }
}

/// How the cases are run, and by how much a gradient may be off where the largest of its tensor is `largest`.
struct Precision {
    /// The element type of the program.
    dtype: DType,
    /// That of what it is given.
    given: DType,
    tolerance: fn(largest: f64) -> f64,
}

fn precisions(subject: &Subject) -> Vec<Precision> {
    if subject.promises.exact {
        let tolerance = |largest| 1e-9 * largest;
        return vec![Precision { dtype: DType::Fp32, given: DType::Fp64, tolerance }];
    }
    let half = |largest| 4.0 * ulp(DType::Fp16, largest).unwrap();
    vec![
        Precision { dtype: DType::Fp32, given: DType::Fp32, tolerance: |largest| 1e-5 * largest },
        Precision { dtype: DType::Fp16, given: DType::Fp16, tolerance: half },
    ]
}

fn verified(program: Program) -> Arc<Verified> {
    let text = text::write(&program);
    let verified = verify(program).unwrap_or_else(|errors| panic!("{errors}\n{text}"));
    assert!(verified.warnings().is_empty(), "{}\n{text}", verified.warnings());
    Arc::new(verified)
}

/// The results of a function by name, in `values`, which has its inputs.
fn run(runtime: &dyn Runtime, program: &Program, function: Function, values: &mut BTreeMap<String, Tensor>) {
    let name = |&id: &_| function.value(id).name.clone();
    let inputs: Vec<String> = function.body.inputs.iter().map(name).collect();
    let outputs: Vec<String> = function.body.outputs.iter().map(name).collect();
    let types = function.body.inputs.iter().map(|&id| function.value(id).ty.as_tensor().unwrap());
    let types: Vec<_> = types.collect();
    let mut alone = Program::new(program.version);
    alone.functions.push(function);
    let mut main = runtime.prepare(&verified(alone), "main", &types, &WeightMap::default()).unwrap();
    let mut results = vec![Tensor::scalar(0.0f32); outputs.len()];
    main.run(&inputs.iter().map(|name| &values[name]).collect::<Vec<_>>(), &mut results).unwrap();
    values.extend(outputs.into_iter().zip(results));
}

/// The worst gradient of a case: its error as a part of the tolerance, and its name.
fn worst(runtime: &dyn Runtime, precision: &Precision, source: &str, case: &Case) -> (f64, String) {
    let &Precision { dtype, given, tolerance } = precision;
    let program = text::parse(&source.replace("fp32", dtype.name())).unwrap().program;
    let program = verified(program);
    let of: Vec<&str> = case.cotangents.keys().map(String::as_str).collect();
    let wrt: Vec<&str> = case.gradients.keys().map(String::as_str).collect();
    let pair = differentiate(&program, "main", &Request { of, ..Request::all(&wrt) }).unwrap();
    let inputs = case.inputs.iter().map(|(name, values)| (name.clone(), values.tensor(given)));
    let cotangents = case.cotangents.iter().map(|(name, values)| (format!("d_{name}"), values.tensor(given)));
    let mut values: BTreeMap<String, Tensor> = inputs.chain(cotangents).collect();
    for function in [pair.forward, pair.backward] {
        run(runtime, program.program(), function, &mut values);
    }
    let error = |(name, expected): (&String, &Values)| {
        let gradient = &values[&format!("d_{name}")];
        assert_eq!(gradient.shape(), expected.shape);
        let largest = expected.data.iter().fold(0f64, |most, value| most.max(value.abs()));
        let errors = gradient.to_f64().unwrap().into_iter().zip(&expected.data);
        // A gradient that is not a number is as wrong as can be.
        let most = errors
            .map(|(found, value)| (found - value).abs())
            .fold(0f64, |most, error| if error.is_nan() { f64::INFINITY } else { most.max(error) });
        (most / tolerance(largest), name.clone())
    };
    case.gradients.iter().map(error).max_by(|a, b| a.0.total_cmp(&b.0)).unwrap()
}

/// Every gradient of every case is PyTorch's, within what the element type allows.
pub fn gradients_are_those_of_pytorch(subject: &Subject) {
    let mut cases = 0;
    let mut wrong = Vec::new();
    for path in files_of(&data_dir("grad"), "mil") {
        let source = fs::read_to_string(&path).unwrap();
        let values = fs::read_to_string(path.with_extension("json")).unwrap();
        let case: Case = serde_json::from_str(&values).unwrap();
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        for precision in precisions(subject) {
            let (error, gradient) = worst(subject.runtime.as_ref(), &precision, &source, &case);
            let what = format!("{name}, {}, {}: `{gradient}`", precision.dtype, subject.name);
            println!("{what} is off by {error:.3} of what it may");
            if error > 1.0 {
                wrong.push(format!("{what}, {error:.1} times"));
            }
        }
        cases += 1;
    }
    assert!(cases > 0, "no case in tests/grad");
    assert!(wrong.is_empty(), "gradients off by more than they may be:\n{}", wrong.join("\n"));
}
