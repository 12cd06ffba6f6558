//! The engine over an interface that is none: what stands above every interface.

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anemone_mil::eval::Interpreter;
use anemone_mil::runtime::{Executable, Port, Runtime, RuntimeError, allocate_outputs};
use anemone_mil::tensor::Tensor;
use anemone_mil::types::TensorType;
use anemone_mil::verify::verify;
use anemone_mil::weights::{BlobFile, BlobWriter, WeightDirectory, WeightMap};
use anemone_mil::{text, verify::Verified};

use super::packing::{pack, unpack};
use super::*;

const N: usize = 80;

/// What was asked of the interface.
#[derive(Default)]
struct Log {
    compiled: Vec<PathBuf>,
    texts: Vec<String>,
    bound: Vec<Vec<String>>,
    waits: Vec<Duration>,
    now: Duration,
    warnings: Vec<String>,
    /// The compilations that fail, counted from 0.
    failing: Vec<usize>,
}

type Shared = Arc<Mutex<Log>>;

/// An interface that computes by the interpreter, and keeps a log.
struct Fake(Shared);

struct FakeProgram {
    log: Shared,
    verified: Arc<Verified>,
    function: String,
    directory: PathBuf,
}

struct FakeBound {
    executable: Box<dyn Executable>,
    inputs: Vec<(TensorType, Vec<u8>)>,
    outputs: Vec<Vec<u8>>,
}

impl Interface for Fake {
    fn name(&self) -> &'static str {
        "fake"
    }

    fn compile(&self, source: Source<'_>) -> Result<Box<dyn Compiled>, DeviceError> {
        let mut log = self.0.lock().unwrap();
        let number = log.compiled.len();
        log.compiled.push(source.directory.to_owned());
        if log.failing.contains(&number) {
            return Err(DeviceError::Compilation("it says no more".to_string()));
        }
        let program = fs::read_to_string(source.model).unwrap();
        let verified = Arc::new(verify(text::parse(&program).unwrap().program).unwrap());
        log.texts.push(program);
        let (function, directory) = (source.function.to_string(), source.directory.to_owned());
        Ok(Box::new(FakeProgram { log: self.0.clone(), verified, function, directory }))
    }
}

impl Compiled for FakeProgram {
    fn bind(&self, inputs: &[Port], outputs: &[Port]) -> Result<Box<dyn Bound>, DeviceError> {
        let names = inputs.iter().chain(outputs).map(|port| port.name.clone()).collect();
        self.log.lock().unwrap().bound.push(names);
        let types: Vec<TensorType> = inputs.iter().map(|port| port.ty.clone()).collect();
        let weights = WeightDirectory::new(&self.directory);
        let executable = Interpreter::default().prepare(&self.verified, &self.function, &types, &weights);
        let buffer = |port: &Port| vec![0; packing::size_bytes("", &port.ty).unwrap()];
        let inputs = inputs.iter().map(|port| (port.ty.clone(), buffer(port))).collect();
        let outputs = outputs.iter().map(buffer).collect();
        Ok(Box::new(FakeBound { executable: executable.unwrap(), inputs, outputs }))
    }
}

impl Bound for FakeBound {
    fn input(&mut self, position: usize) -> &mut [u8] {
        &mut self.inputs[position].1
    }

    fn run(&mut self) -> Result<(), DeviceError> {
        let read = |(ty, bytes): &(TensorType, Vec<u8>)| {
            let mut tensor = Tensor::zeros(ty.dtype, &ty.shape.to_known().unwrap()).unwrap();
            unpack(bytes, &mut tensor).unwrap();
            tensor
        };
        let inputs: Vec<Tensor> = self.inputs.iter().map(read).collect();
        let mut outputs = allocate_outputs(self.executable.as_ref()).unwrap();
        let ran = self.executable.run(&inputs.iter().collect::<Vec<_>>(), &mut outputs);
        ran.map_err(|error| DeviceError::Run(error.to_string()))?;
        self.outputs.iter_mut().zip(&outputs).for_each(|(bytes, output)| pack(output, bytes).unwrap());
        Ok(())
    }

    fn output(&self, position: usize) -> &[u8] {
        &self.outputs[position]
    }
}

impl Clock for Mutex<Log> {
    fn now(&self) -> Duration {
        self.lock().unwrap().now
    }

    fn sleep(&self, time: Duration) {
        let mut log = self.lock().unwrap();
        log.waits.push(time);
        log.now += time;
    }
}

fn engine(log: &Shared, weights: Weights, limit: u32, fallback: bool) -> Engine {
    let warnings = log.clone();
    let options = Options {
        weights,
        budget: Budget::of(limit),
        clock: log.clone(),
        fallback: fallback.then(|| Arc::new(Interpreter::default()) as Arc<dyn Runtime>),
        warn: Arc::new(move |warning| warnings.lock().unwrap().warnings.push(warning.to_string())),
        ..Options::default()
    };
    Engine::new(Box::new(Fake(log.clone())), options)
}

/// `y = x·w + small`, with w in a file.
fn program(extra: &str) -> Arc<Verified> {
    let source = format!(
        r#"program(1.3)
{{
    func main<ios18>(tensor<fp16, [1, {N}]> x) {{
            tensor<fp16, [1, {N}]> w = const()[name = string("w"), val = tensor<fp16, [1, {N}]>(BLOBFILE(path = string("@model_path/weights/w.bin"), offset = uint64(64)))];
            fp16 small = const()[name = string("small"), val = fp16({extra})];
            tensor<fp16, [1, {N}]> xw = mul(x = x, y = w)[name = string("xw")];
            tensor<fp16, [1, {N}]> y = add(x = xw, y = small)[name = string("y")];
        }} -> (y);
}}
"#
    );
    Arc::new(verify(text::parse(&source).unwrap().program).unwrap())
}

fn row(value: f32) -> Tensor {
    Tensor::from_values(&[1, N], vec![half::f16::from_f32(value); N]).unwrap()
}

fn weights(value: f32) -> WeightMap {
    let mut writer = BlobWriter::new(std::io::Cursor::new(Vec::new())).unwrap();
    writer.append(&row(value)).unwrap();
    let mut weights = WeightMap::default();
    let file = BlobFile::from_bytes(writer.finish().unwrap().into_inner()).unwrap();
    weights.insert("@model_path/weights/w.bin", file);
    weights
}

fn prepare(engine: &Engine, extra: &str, w: f32) -> Result<Box<dyn Executable>, RuntimeError> {
    engine.prepare(&program(extra), "main", &[row(0.0).ty()], &weights(w))
}

/// The first value of y for x = 3.
fn run(executable: &mut dyn Executable) -> Result<f32, RuntimeError> {
    let mut outputs = [Tensor::scalar(false)];
    executable.run(&[&row(3.0)], &mut outputs)?;
    let values = outputs[0].as_slice::<half::f16>().unwrap();
    assert!(values.len() == N && values.iter().all(|value| *value == values[0]));
    Ok(values[0].to_f32())
}

fn set(executable: &mut dyn Executable, name: &str, value: Tensor) {
    let handle = executable.constant(name).unwrap();
    executable.set_constant(handle, Arc::new(value)).unwrap();
}

fn small(value: f32) -> Tensor {
    Tensor::scalar(half::f16::from_f32(value))
}

#[test]
fn weights_as_inputs_are_replaced_without_a_compilation() {
    let log = Shared::default();
    let engine = engine(&log, Weights::Inputs, 10, false);
    let mut main = prepare(&engine, "1.0", 2.0).unwrap();
    assert_eq!(run(main.as_mut()).unwrap(), 7.0);
    for value in [4.0, -1.0, 0.5] {
        set(main.as_mut(), "w", row(value));
        assert_eq!(run(main.as_mut()).unwrap(), 3.0 * value + 1.0);
    }
    assert_eq!(log.lock().unwrap().bound, [["x", "w", "y"]]);
    assert_eq!(log.lock().unwrap().compiled.len(), 1);
    // A small constant stands in the text.
    set(main.as_mut(), "small", small(2.0));
    assert_eq!(run(main.as_mut()).unwrap(), 3.5);
    assert_eq!(log.lock().unwrap().compiled.len(), 2);
}

#[test]
fn baked_weights_are_compiled_when_they_are_run() {
    let log = Shared::default();
    let engine = engine(&log, Weights::Baked, 2, true);
    let mut main = prepare(&engine, "1.0", 2.0).unwrap();
    // Replaced before the first run, and twice before the second: two compilations in all.
    set(main.as_mut(), "w", row(4.0));
    assert_eq!(run(main.as_mut()).unwrap(), 13.0);
    assert_eq!(run(main.as_mut()).unwrap(), 13.0);
    set(main.as_mut(), "w", row(5.0));
    set(main.as_mut(), "small", small(0.5));
    assert_eq!(run(main.as_mut()).unwrap(), 15.5);
    assert_eq!(log.lock().unwrap().compiled.len(), 2);
    // A budget that is used up is for the caller to know, whatever else could run the program.
    set(main.as_mut(), "w", row(6.0));
    let error = run(main.as_mut()).unwrap_err();
    assert!(matches!(error, RuntimeError::Exhausted { runtime: "ane", .. }), "{error}");
    assert!(error.to_string().contains("the 2 compilations"), "{error}");
    assert_eq!(log.lock().unwrap().warnings.len(), 0);
}

#[test]
fn what_is_compiled_is_shared_as_long_as_it_is_loaded() {
    let log = Shared::default();
    let engine = engine(&log, Weights::Baked, 10, false);
    let programs = [("1.0", 2.0), ("1.0", 2.0), ("1.0", 3.0), ("0.0", 2.0)];
    let mut all = programs.map(|(extra, w)| prepare(&engine, extra, w).unwrap());
    assert_eq!(all.each_mut().map(|main| run(main.as_mut()).unwrap()), [7.0, 7.0, 10.0, 6.0]);
    // The second is the first: same text, same weights.
    assert_eq!(log.lock().unwrap().compiled.len(), 3);
    assert_eq!(log.lock().unwrap().bound.len(), 4);
    assert!(log.lock().unwrap().compiled.iter().all(|directory| directory.exists()));
    drop(all);
    assert!(log.lock().unwrap().compiled.iter().all(|directory| !directory.exists()));
    run(prepare(&engine, "1.0", 2.0).unwrap().as_mut()).unwrap();
    assert_eq!(log.lock().unwrap().compiled.len(), 4);
}

#[test]
fn after_a_failure_the_next_compilation_waits_and_the_program_runs_elsewhere() {
    let log = Shared::default();
    log.lock().unwrap().failing = vec![0];
    let engine = engine(&log, Weights::Inputs, 10, true);
    let mut first = prepare(&engine, "1.0", 2.0).unwrap();
    assert_eq!(run(first.as_mut()).unwrap(), 7.0);
    set(first.as_mut(), "w", row(4.0));
    assert_eq!(run(first.as_mut()).unwrap(), 13.0);
    assert_eq!(
        log.lock().unwrap().warnings,
        [
            "`main`, which gives y, runs on eval, not the engine: the engine's compiler refuses the program: it says no \
          more; `anemone check --chip` says which rules it breaks"
        ]
    );
    log.lock().unwrap().now += Duration::from_secs(3);
    let mut second = prepare(&engine, "0.0", 2.0).unwrap();
    assert_eq!(run(second.as_mut()).unwrap(), 6.0);
    prepare(&engine, "2.0", 2.0).unwrap();
    assert_eq!(log.lock().unwrap().waits, [Options::RECOVERY - Duration::from_secs(3)]);
    assert_eq!(log.lock().unwrap().warnings.len(), 1);
}

#[test]
fn without_another_runtime_a_failure_is_an_error() {
    let log = Shared::default();
    log.lock().unwrap().failing = vec![0];
    let error = prepare(&engine(&log, Weights::Inputs, 10, false), "1.0", 2.0).err().unwrap();
    assert!(matches!(error, RuntimeError::Failed { runtime: "ane", .. }), "{error}");
    assert!(error.to_string().contains("it says no more"), "{error}");
}

#[test]
fn states_and_types_that_no_buffer_holds_run_elsewhere() {
    let programs: HashMap<&str, (&str, &str)> = [
        (
            "R42",
            (
                "state<tensor<fp16, [2]>> s",
                "tensor<fp16, [2]> y = read_state(input = s)[name = string(\"y\")];",
            ),
        ),
        ("bool", ("tensor<fp16, [2]> s", "tensor<bool, [2]> y = equal(x = s, y = s)[name = string(\"y\")];")),
    ]
    .into();
    for (reason, (input, statement)) in programs {
        let source = format!("program(1.3) {{ func main<ios18>({input}) {{ {statement} }} -> (y); }}");
        let program = Arc::new(verify(text::parse(&source).unwrap().program).unwrap());
        let types: Vec<TensorType> = match reason {
            "R42" => Vec::new(),
            _ => vec![TensorType::new(anemone_mil::types::DType::Fp16, &[2])],
        };
        let log = Shared::default();
        let prepare = |fallback| {
            engine(&log, Weights::Inputs, 10, fallback).prepare(
                &program,
                "main",
                &types,
                &WeightMap::default(),
            )
        };
        let error = prepare(false).err().unwrap();
        assert!(matches!(error, RuntimeError::Unsupported { .. }), "{error}");
        assert!(prepare(true).is_ok());
        let warnings = log.lock().unwrap().warnings.clone();
        assert!(warnings.len() == 1 && warnings[0].contains(reason), "{warnings:?}");
        assert_eq!(log.lock().unwrap().compiled.len(), 0);
    }
}
