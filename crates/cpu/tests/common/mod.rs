//! Programs of a few ops, run by the CPU runtime and compared with the reference interpreter.
#![allow(dead_code)] // Each test file uses a part.

pub mod not_run;
pub mod paths;
pub mod written;

use std::sync::{Arc, Mutex, PoisonError};

use anemone_cpu::{Cpu, InstructionPath, Options};
use anemone_mil::builder::{AnyCall, FunctionBuilder, Input};
use anemone_mil::eval::Interpreter;
use anemone_mil::ops::{Accuracy, lookup};
use anemone_mil::program::{Function, Program, ValueId, Version};
use anemone_mil::runtime::{Executable, Runtime, allocate_outputs};
use anemone_mil::tensor::{Data, Tensor};
use anemone_mil::types::{DType, Opset, TensorType, Type};
use anemone_mil::verify::{Verified, verify};
use anemone_mil::weights::WeightMap;
use paths::{cpu_on, paths, paths_without_products};
use proptest::prelude::*;

/// The opset that functions are built for.
pub const OPSET: Opset = Opset::IOS18;

/// A verified program with one function, `main`.
pub fn program(function: Function) -> Arc<Verified> {
    let mut program = Program::new(Version::V1_3);
    program.functions.push(function);
    Arc::new(verify(program).expect("the builder makes verified functions"))
}

pub fn builder() -> FunctionBuilder {
    FunctionBuilder::new("main", Version::V1_3, OPSET)
}

/// Prepares `main` for these inputs.
pub fn prepare(runtime: &dyn Runtime, program: &Arc<Verified>, inputs: &[&Tensor]) -> Box<dyn Executable> {
    let types: Vec<TensorType> = inputs.iter().map(|tensor| tensor.ty()).collect();
    runtime.prepare(program, "main", &types, &WeightMap::default()).expect("the function can be prepared")
}

/// The outputs of `main`, from tensors that are its own.
pub fn run(executable: &mut dyn Executable, inputs: &[&Tensor]) -> Vec<Tensor> {
    let mut outputs = allocate_outputs(executable).expect("the outputs have known sizes");
    executable.run(inputs, &mut outputs).expect("the function runs");
    outputs
}

/// Gives a constant of `main` another value.
pub fn set_constant(executable: &mut dyn Executable, name: &str, value: &Tensor) {
    let constant = executable.constant(name).expect("the constant can be replaced");
    executable.set_constant(constant, Arc::new(value.clone())).expect("the value is accepted");
}

pub fn cpu(threads: usize) -> Cpu {
    Cpu::with_options(Options { threads: Some(threads), ..Options::default() }).expect("threads start")
}

pub fn reference(exact: bool) -> Interpreter {
    if exact { Interpreter::exact() } else { Interpreter::default() }
}

/// One op on tensors, some of which are constants.
pub struct Case {
    pub op: &'static str,
    /// The operands that are tensors.
    pub operands: Vec<(&'static str, Tensor)>,
    /// Whether each of them is a constant.
    pub constant: Vec<bool>,
    /// The other parameters.
    pub parameters: Vec<(&'static str, Tensor)>,
}

impl Case {
    pub fn new(op: &'static str, operands: Vec<(&'static str, Tensor)>) -> Case {
        let constant = vec![false; operands.len()];
        Case { op, operands, constant, parameters: Vec::new() }
    }

    pub fn with(mut self, name: &'static str, value: Tensor) -> Case {
        self.parameters.push((name, value));
        self
    }

    pub fn constants(mut self, constant: &[bool]) -> Case {
        self.constant = constant.to_vec();
        self
    }

    fn build(&self, map: impl Fn(&Tensor) -> Tensor) -> Option<(Arc<Verified>, Vec<Tensor>)> {
        let mut function = builder();
        let mut inputs = Vec::new();
        let mut arguments: Vec<(&str, Input)> = Vec::new();
        for ((name, tensor), constant) in self.operands.iter().zip(&self.constant) {
            let tensor = map(tensor);
            let id: ValueId = if *constant {
                function.constant(&format!("{name}_constant"), tensor)
            } else {
                let ty = if tensor.shape().is_empty() {
                    Type::Scalar(tensor.dtype())
                } else {
                    Type::Tensor(tensor.ty())
                };
                inputs.push(tensor);
                function.input(name, ty)
            };
            arguments.push((name, id.into()));
        }
        for (name, tensor) in &self.parameters {
            arguments.push((name, tensor.clone().into()));
        }
        let result = function.bind("result", AnyCall::named(self.op, arguments)).ok()?;
        Some((program(function.finish([result])), inputs))
    }

    /// Runs the op on every path of the CPU that has code of its own for it, and compares every element with the exact reference, within the op's
    /// accuracy.
    pub fn check(&self) -> Result<(), TestCaseError> {
        let products = ["conv", "conv_transpose", "linear", "matmul"].contains(&self.op);
        let paths = if products { paths() } else { paths_without_products() };
        let (program, inputs) = self.build(Tensor::clone).expect("the op takes these operands");
        let inputs: Vec<&Tensor> = inputs.iter().collect();
        let expected = self.expected(&program, &inputs);
        paths.into_iter().try_for_each(|path| {
            let cpu = shared_cpu(path);
            let actual = run(prepare(&cpu, &program, &inputs).as_mut(), &inputs).remove(0);
            self.compare(&actual, &expected, path)
        })
    }

    fn expected(&self, program: &Arc<Verified>, inputs: &[&Tensor]) -> Expected {
        let meaning = |exact, program: &Arc<Verified>, inputs: &[&Tensor]| {
            run(prepare(&reference(exact), program, inputs).as_mut(), inputs).remove(0)
        };
        let rounded = meaning(false, program, inputs);
        let accuracy = lookup(self.op, OPSET).expect("the op is in the table").accuracy;
        if rounded.to_f64().is_none() {
            return Expected { rounded, accuracy, exact: None, magnitudes: None };
        }
        let exact = meaning(true, program, inputs).to_f64();
        let magnitudes = match accuracy {
            Accuracy::Sum(_) => {
                let (program, inputs) = self.build(absolute).expect("signs do not matter to types");
                let inputs: Vec<&Tensor> = inputs.iter().collect();
                meaning(true, &program, &inputs).to_f64()
            }
            _ => None,
        };
        Expected { rounded, accuracy, exact, magnitudes }
    }

    fn compare(
        &self,
        actual: &Tensor,
        expected: &Expected,
        path: InstructionPath,
    ) -> Result<(), TestCaseError> {
        let Expected { rounded, accuracy, exact, magnitudes } = expected;
        prop_assert_eq!(actual.ty(), rounded.ty());
        let Some(values) = actual.to_f64() else {
            prop_assert_eq!(actual, rounded, "{} on {}", self.op, path);
            return Ok(());
        };
        let exact = exact.as_ref().expect("an exact run gives floats");
        let rounded = rounded.to_f64().expect("the result is of floats");
        for (i, (&value, &exact)) in values.iter().zip(exact).enumerate() {
            let magnitude = magnitudes.as_ref().map_or(0.0, |all| all[i]);
            let allowed = accuracy.tolerance(&actual.ty(), exact, magnitude);
            let same = value.is_nan() && exact.is_nan() || value == rounded[i];
            let near = (value - exact).abs() <= allowed;
            // A value next to the largest finite one may round to infinity, or stay.
            let edge = value.is_infinite() && (rounded[i].abs() + allowed).is_finite() && {
                let largest = if actual.dtype() == DType::Fp16 { 65504.0 } else { f64::from(f32::MAX) };
                exact.abs() + allowed >= largest && exact.signum() == value.signum()
            };
            prop_assert!(
                same || near || edge,
                "{} on {}: element {i} is {value:e}, exactly {exact:e}, allowed {allowed:e}",
                self.op,
                path
            );
        }
        Ok(())
    }
}

/// A runtime on two threads, of which there is one for each path.
fn shared_cpu(path: InstructionPath) -> Cpu {
    static STARTED: Mutex<Vec<Cpu>> = Mutex::new(Vec::new());
    let mut started = STARTED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(cpu) = started.iter().find(|cpu| cpu.path() == path) {
        return cpu.clone();
    }
    started.push(cpu_on(path, 2));
    started[started.len() - 1].clone()
}

/// What the reference says of a case, which is the same for every path.
struct Expected {
    accuracy: Accuracy,
    /// With one rounding per op.
    rounded: Tensor,
    /// Without any, where the result is of floats.
    exact: Option<Vec<f64>>,
    /// The sums of the terms' magnitudes, where these are what the accuracy is relative to.
    magnitudes: Option<Vec<f64>>,
}

fn absolute(tensor: &Tensor) -> Tensor {
    let values: Option<Vec<f64>> = tensor.to_f64();
    match values {
        Some(values) => {
            let values: Vec<f64> = values.into_iter().map(f64::abs).collect();
            Tensor::from_f64(tensor.dtype(), tensor.shape(), &values).expect("the same type")
        }
        None => tensor.clone(),
    }
}

/// Lengths that kernels find awkward: none, one, odd, prime, around the width of a tile.
pub fn length() -> impl Strategy<Value = usize> {
    prop_oneof![Just(0usize), Just(1), Just(2), Just(3), 4..9usize, 11..18usize, Just(33), Just(37)]
}

/// fp16 and fp32.
pub fn float() -> impl Strategy<Value = DType> {
    prop_oneof![Just(DType::Fp16), Just(DType::Fp32)]
}

/// Values of ordinary size.
pub fn ordinary(seed: u64, dtype: DType, shape: &[usize]) -> Tensor {
    let values = random(seed, shape.iter().product());
    Tensor::from_f64(dtype, shape, &values).expect("as many values as the shape holds")
}

/// Values of every size, special ones among them.
pub fn special(seed: u64, dtype: DType, shape: &[usize]) -> Tensor {
    let (largest, least): (f64, f64) = match dtype {
        DType::Fp16 => (65504.0, 2f64.powi(-24)),
        _ => (f64::from(f32::MAX), 2f64.powi(-149)),
    };
    let fixed = [
        0.0,
        -0.0,
        1.0,
        -1.0,
        0.5,
        -2.5,
        f64::INFINITY,
        f64::NEG_INFINITY,
        f64::NAN,
        largest,
        -largest,
        least,
        -3.0 * least,
        least * 1000.0,
    ];
    let count = shape.iter().product();
    let values = random(seed, 2 * count);
    let value = |i: usize| {
        let (choice, size) = (values[2 * i], values[2 * i + 1]);
        if choice > 0.0 {
            fixed[(size.to_bits() >> 20) as usize % fixed.len()]
        } else {
            size * 2f64.powi(((choice * 1000.0) as i32) % 24)
        }
    };
    let values: Vec<f64> = (0..count).map(value).collect();
    Tensor::from_f64(dtype, shape, &values).expect("as many values as the shape holds")
}

/// int32 values, large ones among them.
pub fn integers(seed: u64, shape: &[usize]) -> Tensor {
    let values = random(seed, shape.iter().product());
    let integer = |value: f64| if value > 1.5 { (value * 1e9) as i32 } else { (value * 10.0) as i32 };
    Tensor::from_values(shape, values.into_iter().map(integer).collect()).expect("the shape fits")
}

/// bools.
pub fn bools(seed: u64, shape: &[usize]) -> Tensor {
    let values = random(seed, shape.iter().product());
    let data = Data::Bool(values.into_iter().map(|value| value > 0.0).collect());
    Tensor::new(DType::Bool, shape, data).expect("the shape fits")
}

/// Uniform values in [−2, 2), by SplitMix64 (Steele, Lea and Flood, 2014).
fn random(seed: u64, count: usize) -> Vec<f64> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        (z >> 11) as f64 / (1u64 << 51) as f64 - 2.0
    };
    (0..count).map(|_| next()).collect()
}
