//! The programs in `tests/passes`, before and after.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use anemone_cpu::Cpu;
use anemone_lm::random::Random;
use anemone_mil::eval::Interpreter;
use anemone_mil::program::{LiteralValue, Program};
use anemone_mil::runtime::Runtime;
use anemone_mil::tensor::Tensor;
use anemone_mil::types::{DType, Shape, TensorType, Type};
use anemone_mil::verify::{Verified, verify};
use anemone_mil::weights::{WeightDirectory, WeightSource, write_blob_file};
use anemone_mil::{passes, text};

use crate::common;
use crate::execute::{Tensors, constants, random_tensor, run};

#[test]
fn programs_before_and_after() {
    let directory = tempfile::tempdir().unwrap();
    write_blob_file(directory.path().join("weights.bin"), |writer| {
        writer.append(&Tensor::from_values(&[2, 3], vec![1.0f32, -2.0, 0.5, 4.0, 0.25, -8.0]).unwrap())
    })
    .unwrap();
    let is_before = |path: &Path| !path.file_stem().unwrap().to_string_lossy().contains('.');
    common::run_cases(&common::data_dir("passes"), "mil", 14, |path| {
        if is_before(path) { check(path, directory.path()) } else { has_its_case(path) }
    });
}

/// What stands after `//`, a word and a colon at the beginning of a program.
pub fn told<'a>(source: &'a str, word: &'a str) -> impl Iterator<Item = &'a str> + 'a {
    let comments = source.lines().map_while(|line| line.strip_prefix("// "));
    comments.filter_map(move |comment| Some(comment.strip_prefix(word)?.strip_prefix(": ")?.trim()))
}

pub fn has_its_case(path: &Path) -> Result<(), String> {
    let name = path.file_name().unwrap().to_string_lossy().into_owned();
    let (before, pass) = name.split_once('.').unwrap();
    let source = fs::read_to_string(path.with_file_name(format!("{before}.mil")))
        .map_err(|e| format!("{name}: {e}"))?;
    match suffixes(&source).iter().any(|suffix| format!("{suffix}.mil") == pass) {
        true => Ok(()),
        false => Err(format!("{name} belongs to no case")),
    }
}

/// For each line of flags the names of its passes; repetitions are numbered.
pub fn suffixes(source: &str) -> Vec<String> {
    let mut suffixes: Vec<String> = Vec::new();
    for flags in told(source, "opt") {
        let words: Vec<&str> = flags.split(' ').collect();
        let passes: Vec<String> = words
            .windows(2)
            .filter(|pair| pair[0] == "--pass")
            .map(|pair| pair[1].replace('=', "-"))
            .collect();
        let base = passes.join("+");
        let number = 1 + suffixes.iter().filter(|suffix| suffix.split('~').next() == Some(&base)).count();
        suffixes.push(if number == 1 { base } else { format!("{base}~{number}") });
    }
    suffixes
}

fn check(path: &Path, directory: &Path) -> Result<(), String> {
    let source = fs::read_to_string(path).map_err(|error| error.to_string())?;
    let before = read(&source)?;
    let given = inputs(&source, before.program());
    let mut failures = Vec::new();
    for (suffix, flags) in suffixes(&source).iter().zip(told(&source, "opt")) {
        let after = path.with_extension(format!("{suffix}.mil"));
        if let Err(failure) = check_pass(path, &before, flags, &given, &after, directory) {
            failures.push(format!("{} with {flags}: {failure}", path.display()));
        }
    }
    match (failures.is_empty(), suffixes(&source).is_empty()) {
        (true, false) => Ok(()),
        (true, true) => Err(format!("{} names no pass", path.display())),
        _ => Err(failures.join("\n")),
    }
}

pub fn read(source: &str) -> Result<Arc<Verified>, String> {
    let parsed = text::parse(source).map_err(|errors| errors.to_string())?;
    let verified = verify(parsed.program).map_err(|e| e.render("program", source, &parsed.spans))?;
    Ok(Arc::new(verified))
}

/// Random values for the inputs of all functions; `// run: x=fp32[2,3]` says what a `?` is.
pub fn inputs(source: &str, program: &Program) -> Tensors {
    let mut random = Random::new(1);
    let mut tensors = Tensors::new();
    let told: Vec<(&str, TensorType)> = told(source, "run").map(typed).collect();
    for function in &program.functions {
        for input in function.body.inputs.iter().map(|&id| function.value(id)) {
            let named = told.iter().find(|(name, _)| *name == input.name).map(|(_, ty)| ty.clone());
            let fits = |ty: &TensorType, declared: &TensorType| ty.shape.agrees_with(&declared.shape);
            let Some(declared) = input.ty.as_tensor() else { continue };
            let shape = declared.shape.0.iter().map(|dim| dim.known().unwrap_or(3).into()).collect();
            let ty = named.filter(|ty| fits(ty, &declared));
            let ty = ty.unwrap_or(TensorType { dtype: declared.dtype, shape: Shape(shape) });
            let tensor = random_tensor(&ty, &mut random);
            tensors.insert(format!("{}.{}", function.name, input.name), tensor);
        }
    }
    tensors
}

/// `x=fp32[2,3]`
fn typed(text: &str) -> (&str, TensorType) {
    let (name, ty) = text.split_once('=').expect("NAME=DTYPE[…]");
    let (dtype, dims) = ty.split_once('[').expect("DTYPE[…]");
    let dims: Vec<usize> = dims.trim_end_matches(']').split(',').map(|dim| dim.parse().unwrap()).collect();
    (name, TensorType::new(DType::from_name(dtype).unwrap(), &dims))
}

/// Applies passes as the command does, and compares the text and, on both runtimes, what it does.
fn check_pass(
    path: &Path,
    before: &Arc<Verified>,
    flags: &str,
    given: &Tensors,
    after_path: &Path,
    directory: &Path,
) -> Result<(), String> {
    let flags = flags.replace("DIRECTORY", &directory.display().to_string());
    let mut command = Command::new(env!("CARGO_BIN_EXE_anemone"));
    command.arg("opt").arg(path);
    for word in flags.split(' ') {
        match word.split_once('=').filter(|(_, file)| file.ends_with(".npy")) {
            Some((name, file)) => {
                let file = directory.join(file);
                write_array(&file, &given[&format!("main.{name}")]);
                command.arg(format!("{name}={}", file.display()));
            }
            None => drop(command.arg(word)),
        }
    }
    let output = command.output().map_err(|error| error.to_string())?;
    let printed = String::from_utf8(output.stdout).unwrap();
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    common::expect_file(after_path, &printed)?;
    let after = read(&printed)?;
    let again = text::parse(&printed).map_err(|errors| errors.to_string())?;
    if text::write_with_comments(&again.program, &again.comments) != printed {
        return Err("printed and read, it prints otherwise".to_string());
    }
    let weights = WeightDirectory::new(directory);
    compare(before, &after, given, &weights)
}

/// Runs every function before and after on both runtimes.
fn compare(
    before: &Arc<Verified>,
    after: &Arc<Verified>,
    given: &Tensors,
    weights: &dyn WeightSource,
) -> Result<(), String> {
    let cpu = Cpu::new().map_err(|error| error.to_string())?;
    let eval = Interpreter::default();
    for function in &before.program().functions {
        // Of what the inputs do not name, constants have become inputs.
        let mut values = constants(&with_bound_literals(function), weights);
        for (name, tensor) in given {
            if let Some(input) = name.strip_prefix(&format!("{}.", function.name)) {
                values.insert(input.to_string(), tensor.clone());
            }
        }
        for runtime in [&eval as &dyn Runtime, &cpu] {
            let failed =
                |when: &str, error| format!("`{}` {when}, on {}: {error}", function.name, runtime.name());
            let first = run(runtime, before, &function.name, &values, weights);
            let first = first.map_err(|error| failed("before", error))?;
            let second = run(runtime, after, &function.name, &values, weights);
            let second = second.map_err(|error| failed("after", error))?;
            first.same(&second).map_err(|error| failed("compared", error))?;
        }
    }
    Ok(())
}

/// The function with the names that weights in arguments get when they become inputs.
fn with_bound_literals(function: &anemone_mil::program::Function) -> anemone_mil::program::Function {
    let mut function = function.clone();
    passes::bind_literals(&mut function, anemone_mil::program::Dialect::Scalar);
    function
}

/// Writes an fp32 array as NumPy does.
fn write_array(path: &Path, tensor: &Tensor) {
    let shape: Vec<String> = tensor.shape().iter().map(|length| format!("{length},")).collect();
    let header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({}), }}\n", shape.join(" "));
    let values = tensor.as_slice::<f32>().expect("fp32").iter().flat_map(|value| value.to_le_bytes());
    let length = (header.len() as u16).to_le_bytes();
    let bytes: Vec<u8> =
        b"\x93NUMPY\x01\x00".iter().copied().chain(length).chain(header.into_bytes()).chain(values).collect();
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_missing_weight_of_a_dead_op_is_never_opened() {
    let source = fs::read_to_string(common::data_dir("passes").join("dead_code.mil")).unwrap();
    let program = read(&source).unwrap();
    let mentions = |program: &Program| {
        let ops = program.functions.iter().flat_map(|function| function.walk().map(|(_, op)| op));
        ops.flat_map(|op| op.literals()).any(|(_, literal)| matches!(literal.value, LiteralValue::Blob(_)))
    };
    assert!(mentions(program.program()));
    let given = inputs(&source, program.program());
    let values =
        given.iter().map(|(name, tensor)| (name.trim_start_matches("main.").to_string(), tensor.clone()));
    let values: Tensors = values.collect();
    for runtime in [&Interpreter::default() as &dyn Runtime, &Cpu::new().unwrap()] {
        run(runtime, &program, "main", &values, &NoWeights).unwrap();
    }
    let state = program.program().functions[0]
        .body
        .inputs
        .iter()
        .map(|&id| &program.program().functions[0].value(id).ty);
    assert!(state.into_iter().any(|ty| matches!(ty, Type::State(_))));
}

/// Weights that fail the test when they are asked for.
#[derive(Debug)]
struct NoWeights;

impl WeightSource for NoWeights {
    fn file(
        &self,
        path: &str,
    ) -> Result<Arc<anemone_mil::weights::BlobFile>, anemone_mil::weights::BlobError> {
        panic!("{path} is opened")
    }
}
