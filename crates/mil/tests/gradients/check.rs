//! Compares the gradients of a program with its central differences.

use std::panic::catch_unwind;
use std::sync::Arc;

use anemone_mil::eval::Interpreter;
use anemone_mil::grad::{Request, differentiate};
use anemone_mil::ops::{self, Gradient};
use anemone_mil::program::{Function, Program, ValueId, Version};
use anemone_mil::runtime::{Executable, Runtime};
use anemone_mil::tensor::{Data, Tensor};
use anemone_mil::text;
use anemone_mil::types::{DType, Opset};
use anemone_mil::verify::Verified;
use anemone_mil::weights::WeightMap;

use super::case::{Case, GRID, Maker, Random, verified};

/// The dialects and opsets in which every gradient must be a sound program.
const TARGETS: [(Version, Opset); 3] =
    [(Version::V1_0, Opset::IOS15), (Version::V1_0, Opset::IOS17), (Version::V1_3, Opset::IOS18)];

/// Cases of each op in each opset and element type.
const SEEDS: u64 = 4;

/// Weights of the central difference of eighth order, for neighbours 1 to 4 steps away.
const STENCIL: [f64; 4] = [4.0 / 5.0, -1.0 / 5.0, 4.0 / 105.0, -1.0 / 280.0];

/// Checks the gradients of all cases; names the ops that fail.
pub fn all(cases: &[(&str, Maker)]) {
    let failing = cases.iter().filter(|(op, maker)| catch_unwind(|| each(op, *maker)).is_err());
    let failing: Vec<&str> = failing.map(|(op, _)| *op).collect();
    assert!(failing.is_empty(), "these gradients are wrong (see above): {}", failing.join(", "));
}

/// Checks the cases that one maker makes.
fn each(op: &str, maker: Maker) {
    let mut ran = false;
    for (version, opset) in TARGETS {
        for dtype in [DType::Fp32, DType::Fp16] {
            for seed in 0..SEEDS {
                ran |= one(op, maker, Case::new(version, opset, dtype, seed));
            }
        }
    }
    assert!(ran, "{op} is in no opset that is tried");
}

/// Checks one case; whether its opset has the op.
fn one(op: &str, maker: Maker, mut case: Case) -> bool {
    let Some(row) = ops::lookup(op, case.opset) else { return false };
    let place = format!("{op} in {}, {}, seed {}", case.opset, case.dtype, case.random.0);
    let outputs = maker(&mut case).unwrap_or_else(|error| panic!("{place}: {error}"));
    let program = case.program(outputs);
    let main = &program.program().functions[0];
    assert!(main.walk().any(|(_, bound)| bound.name == op), "{place}: the case has no such op");
    if matches!(row.gradient, Gradient::Unsaid) {
        let float =
            main.body.outputs.iter().any(|&id| main.value(id).ty.dtype().is_some_and(DType::is_float));
        assert!(!float, "{place}: a result is of floating point, and the row says nothing of its gradient");
        return true;
    }
    let subject =
        Subject { place, program, inputs: case.inputs, constants: case.constants, tolerance: case.tolerance };
    let backward = subject.check();
    if case.smooth {
        backward.check();
    }
    true
}

/// A program at a point.
struct Subject {
    place: String,
    program: Arc<Verified>,
    inputs: Vec<(String, Tensor)>,
    constants: Vec<String>,
    tolerance: f64,
}

impl Subject {
    fn function(&self) -> &Function {
        &self.program.program().functions[0]
    }

    fn fail(&self, message: &str) -> ! {
        panic!("{}: {message}\n{}", self.place, text::write(self.program.program()))
    }

    fn of_function(&self, what: &str, function: Function) -> Subject {
        let mut program = Program::new(self.program.program().version);
        program.functions.push(function);
        let place = format!("{what} of {}", self.place);
        let constants = self.constants.clone();
        Subject { place, program: verified(program), inputs: Vec::new(), constants, ..*self }
    }

    fn prepare(&self) -> Box<dyn Executable> {
        let exact = Interpreter::exact();
        let function = self.function();
        let types = function.body.inputs.iter().map(|&id| {
            let value = function.value(id);
            let mut ty = value.ty.as_tensor().unwrap();
            if let Some((_, given)) = self.inputs.iter().find(|(name, _)| *name == value.name) {
                ty.shape = given.ty().shape;
            }
            ty
        });
        let types: Vec<_> = types.collect();
        let prepared = exact.prepare(&self.program, "main", &types, &WeightMap::default());
        prepared.unwrap_or_else(|error| self.fail(&error.to_string()))
    }

    fn run(&self, executable: &mut dyn Executable, inputs: &[Tensor]) -> Vec<Tensor> {
        let inputs: Vec<&Tensor> = inputs.iter().collect();
        let mut outputs = vec![Tensor::scalar(0.0f32); executable.outputs().len()];
        match executable.run(&inputs, &mut outputs) {
            Ok(()) => outputs,
            Err(error) => self.fail(&error.to_string()),
        }
    }

    /// The values of the inputs by name, widened where they are of floating point.
    fn point(&self) -> Vec<Tensor> {
        self.inputs.iter().map(|(_, tensor)| widened(tensor)).collect()
    }

    /// Compares the gradients with central differences; gives backward at the point it was run at.
    fn check(&self) -> Subject {
        let float = |id: &ValueId| self.function().value(*id).ty.dtype().is_some_and(DType::is_float);
        let function = self.function();
        let name = |id: &ValueId| function.value(*id).name.clone();
        let inputs: Vec<String> = function.body.inputs.iter().filter(|id| float(id)).map(name).collect();
        let constants: Vec<&String> =
            self.constants.iter().filter(|name| function.value_named(name).is_some()).collect();
        let wrt: Vec<&str> = inputs.iter().chain(constants.iter().copied()).map(String::as_str).collect();
        let pair = differentiate(&self.program, "main", &Request::all(&wrt))
            .unwrap_or_else(|error| self.fail(&error.to_string()));
        let forward = self.of_function("forward", pair.forward);
        let mut backward = self.of_function("backward", pair.backward);

        let mut random = Random(self.inputs.len() as u64);
        let point = self.point();
        let results = forward.run(forward.prepare().as_mut(), &point);
        let cotangents: Vec<(String, Tensor)> = function
            .body
            .outputs
            .iter()
            .zip(&results)
            .filter(|(id, _)| float(id))
            .map(|(id, result)| {
                let values: Vec<f64> = (0..result.len()).map(|_| random.signed()).collect();
                let tensor = Tensor::from_f64(DType::Fp64, result.shape(), &values).unwrap();
                (format!("d_{}", name(id)), tensor)
            })
            .collect();
        backward.inputs = backward
            .function()
            .body
            .inputs
            .iter()
            .map(|&id| {
                let name = &backward.function().value(id).name;
                let position = |function: &Function, ids: &[ValueId]| {
                    ids.iter().position(|&id| function.value(id).name == *name)
                };
                let cotangent =
                    cotangents.iter().find(|(cotangent, _)| cotangent == name).map(|(_, value)| value);
                let saved =
                    || position(forward.function(), &forward.function().body.outputs).map(|at| &results[at]);
                let input = || position(function, &function.body.inputs).map(|at| &point[at]);
                let value = cotangent.or_else(saved).or_else(input);
                (
                    name.clone(),
                    value.unwrap_or_else(|| backward.fail(&format!("nothing gives `{name}`"))).clone(),
                )
            })
            .collect();
        let gradients = backward.run(backward.prepare().as_mut(), &backward.point());
        for (name, gradient) in wrt.iter().zip(&gradients) {
            self.compare(name, gradient, &cotangents, &backward);
        }
        backward.rename_interface();
        backward
    }

    /// Gives inputs and results names that are no gradients' names.
    fn rename_interface(&mut self) {
        let mut program = self.program.program().clone();
        let function = &mut program.functions[0];
        for (i, id) in function.body.inputs.clone().into_iter().enumerate() {
            function.values[id.index()].name = format!("in_{i}");
            self.inputs[i].0 = format!("in_{i}");
        }
        for (i, id) in function.body.outputs.clone().into_iter().enumerate() {
            function.values[id.index()].name = format!("out_{i}");
        }
        self.program = verified(program);
    }

    /// Compares a gradient with central differences of `Σ cotangent · result`.
    fn compare(&self, name: &str, gradient: &Tensor, cotangents: &[(String, Tensor)], backward: &Subject) {
        let differences = self.differences(name, cotangents);
        let gradient = gradient.to_f64().unwrap();
        if gradient.len() != differences.len() {
            backward.fail(&format!("the gradient of `{name}` has {} elements", gradient.len()));
        }
        let largest = gradient.iter().chain(&differences).fold(0.0, |most: f64, value| most.max(value.abs()));
        for (i, (gradient, difference)) in gradient.iter().zip(&differences).enumerate() {
            let error = (gradient - difference).abs();
            // Not-a-number is no agreement.
            if error.is_nan() || error > self.tolerance * largest + 1e-9 {
                let found =
                    format!("the gradient of `{name}` at {i} is {gradient}, the difference {difference}");
                self.fail(&format!(
                    "{found} (largest {largest})\n{}",
                    text::write(backward.program.program())
                ));
            }
        }
    }

    fn differences(&self, name: &str, cotangents: &[(String, Tensor)]) -> Vec<f64> {
        let mut executable = self.prepare();
        let mut point = self.point();
        let input = self.inputs.iter().position(|(input, _)| input == name);
        let constant = || {
            let function = self.function();
            let id = function.value_named(name)?;
            let (_, op) = function.walk().find(|(_, op)| op.results.contains(&id))?;
            op.attributes.get("val")?.as_tensor().map(|tensor| tensor.as_ref().clone())
        };
        let start = input.map(|i| point[i].clone()).or_else(constant).unwrap();
        let values = start.to_f64().unwrap();
        let mut sum_at = |values: &[f64]| {
            let moved = Tensor::from_f64(start.dtype(), start.shape(), values).unwrap();
            match input {
                Some(i) => point[i] = moved,
                None => executable.set_constant(executable.constant(name).unwrap(), Arc::new(moved)).unwrap(),
            }
            let results = self.run(executable.as_mut(), &point);
            let floats = results.iter().filter(|result| result.dtype().is_float());
            let terms = floats.zip(cotangents).map(|(result, (_, cotangent))| {
                let products = result.to_f64().unwrap().into_iter().zip(cotangent.to_f64().unwrap());
                products.map(|(result, cotangent)| result * cotangent).sum::<f64>()
            });
            terms.sum::<f64>()
        };
        let difference = |i: usize| {
            let mut at = |steps: f64| {
                let mut moved = values.clone();
                moved[i] += steps * GRID;
                sum_at(&moved)
            };
            let pairs =
                STENCIL.iter().zip(1..).map(|(weight, k)| weight * (at(f64::from(k)) - at(-f64::from(k))));
            pairs.sum::<f64>() / GRID
        };
        (0..values.len()).map(difference).collect()
    }
}

/// A tensor in f64 where it is of floating point.
fn widened(tensor: &Tensor) -> Tensor {
    match tensor.dtype().is_float().then(|| tensor.to_f64()).flatten() {
        Some(values) => Tensor::new(DType::Fp64, tensor.shape(), Data::F64(values)).unwrap(),
        None => tensor.clone(),
    }
}
