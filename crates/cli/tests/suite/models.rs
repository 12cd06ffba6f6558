//! Core ML models that coremltools converted from PyTorch, against PyTorch's results: every package under
//! `tests/models/packages`, whose cases stand beside it. `tests/models/compare.py --packages` makes them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use anemone_coreml::package;
use anemone_mil::program::Function;
use anemone_mil::tensor::Tensor;
use anemone_mil::types::{DType, TensorType, Type};
use anemone_mil::verify::verify;
use anemone_mil::weights::WeightDirectory;
use half::f16;
use serde::Deserialize;

use crate::common::{data_dir, files_of};
use crate::subjects::Subject;

/// Inputs of a model, and what PyTorch has for them.
#[derive(Deserialize)]
struct Case {
    /// How far a result may be off, relative to the largest value of the tensor.
    tolerance: f64,
    inputs: BTreeMap<String, Values>,
    /// What states hold before the run, and after it.
    states: BTreeMap<String, Values>,
    states_after: BTreeMap<String, Values>,
    results: BTreeMap<String, Values>,
}

#[derive(Deserialize)]
struct Values {
    shape: Vec<usize>,
    data: Vec<f64>,
}

impl Values {
    fn tensor(&self, dtype: DType) -> Tensor {
        if dtype.is_float() {
            return Tensor::from_f64(dtype, &self.shape, &self.data).unwrap();
        }
        let values: Vec<i64> = self.data.iter().map(|&value| value as i64).collect();
        Tensor::from_i64(dtype, &self.shape, &values).unwrap()
    }

    /// The largest difference, relative to the largest value here. What is not a number is as wrong as can be.
    fn error_of(&self, found: &Tensor) -> f64 {
        assert_eq!(found.shape(), self.shape);
        let largest = self.data.iter().fold(f64::MIN_POSITIVE, |most, value| most.max(value.abs()));
        let errors =
            found.to_f64().unwrap().into_iter().zip(&self.data).map(|(found, value)| (found - value).abs());
        errors.fold(0f64, |most, error| if error.is_nan() { f64::INFINITY } else { most.max(error) })
            / largest
    }
}

/// The element type of a function's input, as its program declares it; a state's is that of what it holds.
fn dtype_of(function: &Function, name: &str) -> DType {
    let inputs = function.body.inputs.iter().map(|&id| function.value(id));
    let input = inputs.into_iter().find(|value| value.name == name);
    let input = input.unwrap_or_else(|| panic!("no input is called {name}"));
    let held = match &input.ty {
        Type::State(kept) => kept.as_tensor(),
        other => other.as_tensor(),
    };
    held.unwrap_or_else(|| panic!("{name} is {}", input.ty)).dtype
}

/// The values that are off by more than the case allows, each with its error.
fn faults(subject: &Subject, path: &Path) -> Vec<String> {
    let case: Case = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    let package = package::read(&path.with_extension("mlpackage")).unwrap();
    let weights = WeightDirectory::new(package.model_path());
    let verified =
        Arc::new(verify(package.model.program.clone()).unwrap_or_else(|errors| panic!("{errors}")));
    let function = &verified.program().functions[0];
    let inputs: Vec<Tensor> = (function.body.inputs.iter())
        .filter_map(|&id| {
            let name = &function.value(id).name;
            Some(case.inputs.get(name)?.tensor(dtype_of(function, name)))
        })
        .collect();
    assert_eq!(inputs.len(), case.inputs.len(), "the program has other inputs than the case");
    let types: Vec<TensorType> = inputs.iter().map(Tensor::ty).collect();
    let mut executable = subject.runtime.prepare(&verified, &function.name, &types, &weights).unwrap();
    for (name, values) in &case.states {
        executable.set_state(name, &values.tensor(dtype_of(function, name))).unwrap();
    }
    let mut results = vec![Tensor::scalar(false); executable.outputs().len()];
    executable.run(&inputs.iter().collect::<Vec<_>>(), &mut results).unwrap();
    let names: Vec<String> = executable.outputs().iter().map(|port| port.name.clone()).collect();
    let results: BTreeMap<&str, &Tensor> = names.iter().map(String::as_str).zip(&results).collect();
    assert_eq!(results.len(), case.results.len(), "the program has other outputs than the case");
    let errors_of_results = case
        .results
        .iter()
        .map(|(name, values)| (name, case.tolerance, values.error_of(results[name.as_str()])));
    // The case has states rounded to fp16, which exact arithmetic leaves as they are.
    let allowed = case.tolerance.max(f64::from(f16::EPSILON) / 2.0);
    let errors_of_states = (case.states_after.iter())
        .map(|(name, values)| (name, allowed, values.error_of(executable.state(name).unwrap())));
    let errors = errors_of_results.chain(errors_of_states);
    errors
        .filter(|(_, allowed, error)| error > allowed)
        .map(|(name, _, error)| format!("{name} is off by {error:.1e}"))
        .collect()
}

/// Within 1e-4 in fp32 and 2e-2 in fp16, relative to the largest value of each result.
pub fn models_have_the_results_of_pytorch(subject: &Subject) {
    let cases = files_of(&data_dir("models/packages"), "json");
    assert!(!cases.is_empty());
    for path in cases {
        let faults = faults(subject, &path);
        assert!(faults.is_empty(), "{}, {}: {}", subject.name, path.display(), faults.join("; "));
    }
}
