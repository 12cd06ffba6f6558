//! The programs in `tests/legalize`, before and after legalisation, which on both runtimes compute the same, within the
//! accuracy of the sums that are split. Values that are too long come as parts, `y_0`, `y_1`, …

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use anemone_ane::chips::{Chip, Chips};
use anemone_ane::legalize::legalize;
use anemone_cpu::Cpu;
use anemone_lm::random::Random;
use anemone_mil::eval::Interpreter;
use anemone_mil::program::{BlobReference, Function};
use anemone_mil::runtime::Runtime;
use anemone_mil::tensor::Tensor;
use anemone_mil::text;
use anemone_mil::types::{DType, TensorType};
use anemone_mil::verify::{Verified, verify};
use anemone_mil::weights::{BlobError, BlobFile, WeightDirectory, WeightMap, WeightSource, write_blob_file};

use crate::common;
use crate::common::number;
use crate::execute::{Tensors, random_tensor, run};
use crate::files::{has_its_case, inputs, read, suffixes, told};
use crate::fragments::Fragments;
use crate::generator;
use crate::programs::{DEFAULT_PROGRAMS, sound};

#[test]
fn programs_before_and_after_legalisation() {
    let directory = tempfile::tempdir().unwrap();
    let weights = |name: &str, dims: &[usize]| {
        let weight = random_tensor(&TensorType::new(DType::Fp16, dims), &mut Random::new(7));
        write_blob_file(directory.path().join(name), |writer| writer.append(&weight)).unwrap();
    };
    weights("embed.bin", &[151_936, 3, 1, 1]);
    weights("embed_t.bin", &[1, 3, 151_936]);
    weights("embed_32000_t.bin", &[3, 32_000, 1, 1]);
    weights("linear.bin", &[3, 40_000]);
    weights("gain.bin", &[1024]);
    let is_before = |path: &Path| !path.file_stem().unwrap().to_string_lossy().contains('.');
    common::run_cases(&common::data_dir("legalize"), "mil", 14, |path| {
        if is_before(path) { check(path, directory.path()) } else { has_its_case(path) }
    });
}

fn check(path: &Path, directory: &Path) -> Result<(), String> {
    let source = fs::read_to_string(path).map_err(|error| error.to_string())?;
    let before = read(&source)?;
    let suffixes = suffixes(&source);
    if suffixes.is_empty() {
        return Err(format!("{} names no pass", path.display()));
    }
    let given = inputs(&source, before.program()).into_iter();
    let given: Tensors =
        given.map(|(name, value)| (name.trim_start_matches("main.").to_string(), value)).collect();
    // What the programs do before is the same for all flags.
    let weights = WeightDirectory::new(directory);
    let cpu = Cpu::new().map_err(|error| error.to_string())?;
    let eval = Interpreter::default();
    let runtimes = [&eval as &dyn Runtime, &cpu];
    let outcomes = runtimes.map(|runtime| outcome(runtime, &before, &given, &weights));
    let mut failures = Vec::new();
    for (suffix, flags) in suffixes.iter().zip(told(&source, "opt")) {
        let after = path.with_extension(format!("{suffix}.mil"));
        let checked = legalised(path, flags, suffix, &after, directory).and_then(|program| {
            runtimes.iter().zip(&outcomes).try_for_each(|(runtime, before)| {
                let given = parts_of(&given, &program.program().functions[0]);
                let after = outcome(*runtime, &program, &given, &weights)?;
                close(before.as_ref().map_err(Clone::clone)?, &after)
                    .map_err(|error| format!("on {}: {error}", runtime.name()))
            })
        });
        if let Err(failure) = checked {
            failures.push(format!("{} with {flags}: {failure}", path.display()));
        }
    }
    if failures.is_empty() { Ok(()) } else { Err(failures.join("\n")) }
}

/// The head at S = 256, with V = 32000 at D = 768: clean on every chip, whatever was refused before.
#[test]
fn the_head_is_clean_after_legalisation() {
    let mut checked = 0;
    for entry in fs::read_dir(common::data_dir("rules")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if !name.starts_with("head_") || !name.ends_with(".mil") {
            continue;
        }
        // The larger vocabulary with shorter vectors, whose weights are soon cut.
        let source = fs::read_to_string(&path).unwrap();
        let source = if name.contains("151936") { source.replace("768", "32") } else { source };
        let program = read(&source).unwrap();
        let chips = Chip::ALL.map(Chips::from).into_iter().chain([Chips::ALL]);
        for chips in chips {
            let legalized = legalize(&program, chips, Some(&Zeros)).unwrap();
            let left =
                legalized.findings.iter().map(|finding| format!("{}: {}", finding.rule, finding.message));
            assert_eq!(left.collect::<Vec<_>>(), [""; 0], "{name} on {chips}");
        }
        checked += 1;
    }
    assert!(checked >= 9, "only {checked} programs");
}

/// A layer of a language model, and its backward: clean on every chip, and the same on the CPU.
#[test]
fn a_layer_is_clean_after_legalisation() {
    let cpu = Cpu::new().unwrap();
    let weights = WeightDirectory::new(common::data_dir("legalize"));
    for name in ["layer.mil", "layer_backward.mil"] {
        let source = fs::read_to_string(common::data_dir("legalize").join(name)).unwrap();
        let program = read(&source).unwrap();
        let given = inputs(&source, program.program()).into_iter();
        let given: Tensors =
            given.map(|(name, value)| (name.trim_start_matches("main.").to_string(), value)).collect();
        let before = outcome(&cpu, &program, &given, &weights).unwrap();
        for chips in Chip::ALL.map(Chips::from).into_iter().chain([Chips::ALL]) {
            let legalized = legalize(&program, chips, None).unwrap();
            let left =
                legalized.findings.iter().map(|finding| format!("{}: {}", finding.rule, finding.message));
            assert_eq!(left.collect::<Vec<_>>(), [""; 0], "{name} on {chips}");
            let after = Arc::new(legalized.rewritten.program);
            let parts = parts_of(&given, &after.program().functions[0]);
            let after = outcome(&cpu, &after, &parts, &weights).unwrap();
            close(&before, &after).unwrap_or_else(|error| panic!("{name} on {chips}: {error}"));
        }
    }
}

/// Weights that are zero.
#[derive(Debug)]
struct Zeros;

impl WeightSource for Zeros {
    fn file(&self, path: &str) -> Result<Arc<BlobFile>, BlobError> {
        panic!("{path} is opened")
    }

    fn load(&self, _: &BlobReference, ty: &TensorType) -> Result<Tensor, BlobError> {
        Ok(Tensor::zeros(ty.dtype, &ty.shape.to_known().unwrap()).unwrap())
    }
}

/// Random programs of every op: what comes out is sound, is changed no further, and runs where the program did.
#[test]
fn random_programs_are_legalised_once_and_for_all() {
    let fragments = Fragments::read();
    let (mut ran, mut changed) = (0, 0);
    let count = number("ANEMONE_PROGRAMS", DEFAULT_PROGRAMS / 2);
    for index in 0..count {
        let sample = generator::program(&fragments, index);
        let text = text::write(&sample.program);
        let program = Arc::new(verify(sample.program.clone()).unwrap());
        let chips: Chips = match index as usize % 7 {
            6 => Chips::ALL,
            chip => Chip::ALL[chip].into(),
        };
        let legalized = |program: &Verified| {
            legalize(program, chips, None).unwrap_or_else(|error| panic!("{index}, {chips}: {error}\n{text}"))
        };
        let after = legalized(&program).rewritten;
        sound(&after.program).unwrap_or_else(|error| panic!("{index}, {chips}: {error}\n{text}"));
        assert_eq!(legalized(&after.program).rewritten.changes, [""; 0], "{index}, {chips}: {text}");
        changed += usize::from(!after.changes.is_empty());
        let after = Arc::new(after.program);
        let functions = sample.program.functions.iter().zip(&after.program().functions);
        for ((before, function), inputs) in functions.zip(&sample.inputs) {
            let run = |program, inputs: &Tensors| {
                run(&Interpreter::default(), program, &before.name, inputs, &WeightMap::default())
            };
            if run(&program, inputs).is_ok() {
                let again = run(&after, &parts_of(inputs, function));
                let written = || text::write(after.program());
                assert!(again.is_ok(), "{index}, {chips}: {again:?}\n{text}\n{}", written());
                ran += 1;
            }
        }
    }
    println!("{ran} functions ran, {changed} programs changed");
    assert!(ran > count && changed as u64 > count / 2, "{ran} functions ran, {changed} programs changed");
}

/// Applies passes as the command does, and compares the text, and what could not be mended.
fn legalised(
    path: &Path,
    flags: &str,
    suffix: &str,
    after: &Path,
    directory: &Path,
) -> Result<Arc<Verified>, String> {
    let flags = flags.replace("DIRECTORY", &directory.display().to_string());
    let stem = path.file_stem().unwrap().to_string_lossy();
    let out = directory.join(format!("{stem}_{suffix}.mil"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_anemone"));
    let output = command.arg("opt").arg(path).args(flags.split(' ')).arg("--out").arg(&out).output();
    let output = output.map_err(|error| error.to_string())?;
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    if !output.status.success() {
        return Err(told);
    }
    // The rules that are still not kept stand before the program.
    let kept = told.lines().filter_map(|line| line.strip_prefix("warning["));
    let kept: Vec<String> = kept.map(|line| format!("// left: {}\n", line.replacen("]:", "", 1))).collect();
    let printed = fs::read_to_string(&out).map_err(|error| error.to_string())?;
    common::expect_file(after, &format!("{}{printed}", kept.concat()))?;
    read(&printed)
}

/// What the program's only function gives.
fn outcome(
    runtime: &dyn Runtime,
    program: &Arc<Verified>,
    given: &Tensors,
    weights: &WeightDirectory,
) -> Result<Vec<(String, Tensor)>, String> {
    let outcome = run(runtime, program, "main", given, weights);
    outcome.map(|outcome| outcome.results).map_err(|error| format!("{}: {error}", runtime.name()))
}

/// The values of inputs, of which some have become several, or of another type.
fn parts_of(given: &Tensors, function: &Function) -> Tensors {
    let mut all = given.clone();
    for (name, value) in given {
        let declared = function.body.inputs.iter().map(|&id| function.value(id));
        let same = declared.into_iter().find(|input| input.name == *name);
        if let Some(ty) = same.and_then(|input| input.ty.as_tensor()).filter(|ty| ty.dtype != value.dtype()) {
            let converted = Tensor::from_f64(ty.dtype, value.shape(), &value.to_f64().unwrap()).unwrap();
            all.insert(name.clone(), converted);
        }
        // Or with axes folded.
        if let Some(ty) = same.and_then(|input| input.ty.as_tensor())
            && let (Some(dims), Some(value)) = (ty.shape.to_known(), all.get(name))
            && dims != value.shape()
            && dims.iter().product::<usize>() == value.shape().iter().product::<usize>()
        {
            let folded = Tensor::from_f64(ty.dtype, &dims, &value.to_f64().unwrap()).unwrap();
            all.insert(name.clone(), folded);
        }
        let mut start = 0;
        for part in 0.. {
            let declared = function.body.inputs.iter().map(|&id| function.value(id));
            let Some(input) = declared.into_iter().find(|input| input.name == format!("{name}_{part}"))
            else {
                break;
            };
            let dims = input.ty.as_tensor().unwrap().shape.to_known().unwrap();
            // The longest axis is cut; then axes may be folded.
            let along = (0..dims.len()).max_by_key(|&axis| value.shape()[axis]).unwrap();
            let mut cut_dims = value.shape().to_vec();
            let rest: usize = cut_dims.iter().product::<usize>() / cut_dims[along];
            cut_dims[along] = dims.iter().product::<usize>() / rest;
            let cut = cut(value, &cut_dims, along, start).to_f64().unwrap();
            let cut = Tensor::from_f64(value.dtype(), &dims, &cut).unwrap();
            start += cut_dims[along];
            all.insert(format!("{name}_{part}"), cut);
        }
    }
    // What states hold at first.
    for input in function.body.inputs.iter().map(|&id| function.value(id)) {
        let zeros = || {
            let ty = input.ty.as_tensor()?;
            Tensor::zeros(ty.dtype, &ty.shape.to_known()?)
        };
        if let (false, Some(zeros)) = (all.contains_key(&input.name), zeros()) {
            all.insert(input.name.clone(), zeros);
        }
    }
    all
}

/// The part of a tensor that has these dimensions and begins at `start` along an axis.
fn cut(value: &Tensor, dims: &[usize], along: usize, start: usize) -> Tensor {
    let whole = value.shape();
    let inner: usize = whole[along + 1..].iter().product();
    let outer: usize = whole[..along].iter().product();
    let values = value.to_f64().unwrap();
    let part = (0..outer).flat_map(|outer| {
        let from = (outer * whole[along] + start) * inner;
        values[from..from + dims[along] * inner].to_vec()
    });
    Tensor::from_f64(value.dtype(), dims, &part.collect::<Vec<f64>>()).unwrap()
}

/// Whether two runs gave the same, but for what sums in another order differ by. Outputs before may be several after,
/// which were cut along the first axis that is longer than 1.
fn close(before: &[(String, Tensor)], after: &[(String, Tensor)]) -> Result<(), String> {
    let mut rest = after.iter();
    for (name, expected) in before {
        let expected = expected.to_f64().ok_or("no numbers")?;
        let mut found = Vec::new();
        while found.len() < expected.len() {
            let (other, value) = rest.next().ok_or_else(|| format!("`{name}` is gone"))?;
            if !other.starts_with(name.as_str()) {
                return Err(format!("`{name}` became `{other}`"));
            }
            found.extend(value.to_f64().ok_or("no numbers")?);
        }
        let unit = if before[0].1.dtype() == DType::Fp16 { 2e-3 } else { 1e-5 };
        let largest = expected.iter().filter(|x| x.is_finite()).fold(0.0f64, |most, x| most.max(x.abs()));
        for (at, (x, y)) in expected.iter().zip(&found).enumerate() {
            if !(x == y || x.is_nan() && y.is_nan() || (x - y).abs() <= unit * largest) {
                return Err(format!("`{name}` at {at}, {x}, became {y}"));
            }
        }
    }
    match rest.next() {
        Some((name, _)) => Err(format!("`{name}` is new")),
        None => Ok(()),
    }
}
