//! Programs by other people's generators, read, printed and read again, and after every pass: `.ci/corpus` runs this.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::{env, fs};

use anemone_ane::chips::{Chip, Chips};
use anemone_ane::legalize::legalize;
use anemone_cpu::Cpu;
use anemone_lm::random::Random;
use anemone_mil::passes::{self, FOLD_BUDGET, PassError, Rewritten};
use anemone_mil::program::{BlobReference, Function, Version};
use anemone_mil::runtime::Runtime;
use anemone_mil::tensor::Tensor;
use anemone_mil::text;
use anemone_mil::types::{Shape, TensorType, Type};
use anemone_mil::verify::{Verified, verify, verify_known};
use anemone_mil::weights::{BlobError, BlobFile, WeightSource};

fn corpus() -> PathBuf {
    PathBuf::from(env::var_os("ANEMONE_CORPUS").expect("ANEMONE_CORPUS names a directory"))
}

#[test]
#[ignore = "needs programs that are not in this repository, in the directory ANEMONE_CORPUS"]
fn programs_by_hand_are_unchanged_by_printing() {
    let corpus = corpus();
    let mut checked = 0;
    for entry in fs::read_dir(corpus.join("hand")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.display();
        let source = fs::read_to_string(&path).unwrap();
        let parsed = text::parse(&source).unwrap_or_else(|errors| panic!("{name}: {errors}"));
        let printed = text::write_with_comments(&parsed.program, &parsed.comments);
        let again = text::parse(&printed).unwrap_or_else(|errors| panic!("{name}, printed: {errors}"));
        assert_eq!(parsed.program, again.program, "{name}");
        assert_eq!(parsed.comments, again.comments, "{name}");
        verify(again.program).unwrap_or_else(|errors| panic!("{name}: {errors}"));
        checked += 1;
    }
    assert!(checked > 0, "no programs in {}", corpus.display());
}

#[test]
#[ignore = "needs programs that are not in this repository, in the directory ANEMONE_CORPUS"]
fn programs_survive_every_pass() {
    let corpus = corpus();
    let directories = ["apple", "hand"].map(|directory| fs::read_dir(corpus.join(directory)).unwrap());
    let (mut checked, mut changed) = (0, 0);
    for entry in directories.into_iter().flatten() {
        let path = entry.unwrap().path();
        let parsed = text::parse(&fs::read_to_string(&path).unwrap()).unwrap();
        // Some have ops that no row knows.
        let program = verify_known(parsed.program).unwrap();
        for function in &program.program().functions {
            let mut together = program.clone();
            for (pass, apply) in every_pass(function) {
                let alone = survives(apply(&program), &format!("{}, {pass}", path.display()));
                let after = survives(apply(&together), &format!("{}, {pass} after others", path.display()));
                changed += usize::from(!alone.changes.is_empty());
                together = after.program;
            }
        }
        checked += 1;
    }
    assert!(checked >= 20 && changed >= 3 * checked, "{checked} programs, {changed} changes");
}

/// What a pass made, printed and read again the same.
fn survives(result: Result<Rewritten, PassError>, what: &str) -> Rewritten {
    let rewritten = result.unwrap_or_else(|error| panic!("{what}: {error}"));
    let program = rewritten.program.program();
    let again =
        text::parse(&text::write(program)).unwrap_or_else(|errors| panic!("{what}, printed: {errors}"));
    assert_eq!(again.program, *program, "{what}");
    rewritten
}

type Apply = Box<dyn Fn(&Verified) -> Result<Rewritten, PassError>>;

/// Every pass, with 1000 for every `?` of an input, of which one is baked in the end.
fn every_pass(function: &Function) -> Vec<(&'static str, Apply)> {
    let inputs = function.body.inputs.iter().map(|&id| function.value(id));
    let settled = inputs.filter_map(|input| {
        let ty = input.ty.as_tensor()?;
        let dims = ty.shape.0.iter().map(|dim| dim.known().unwrap_or(1000).into());
        Some((input.name.clone(), TensorType { dtype: ty.dtype, shape: Shape(dims.collect()) }))
    });
    let settled: Vec<(String, TensorType)> = settled.collect();
    let (name, last) = (function.name.clone(), settled.last().cloned());
    let (specialized, baked, unbaked) = (name.clone(), name.clone(), name);
    vec![
        ("dead-code", Box::new(passes::dead_code)),
        ("common-subexpressions", Box::new(passes::common_subexpressions)),
        (
            "specialize",
            Box::new(move |program| {
                let types: Vec<_> = settled.iter().map(|(name, ty)| (name.as_str(), ty.clone())).collect();
                passes::specialize(program, &specialized, &types)
            }),
        ),
        ("fold-constants", Box::new(|program| passes::fold_constants(program, None, FOLD_BUDGET))),
        ("unbake", Box::new(move |program| Ok(passes::unbake(program, &unbaked, &[])?.0))),
        ("dialect=1.0", Box::new(|program| passes::dialect(program, Version::V1_0))),
        ("dialect=1.3", Box::new(|program| passes::dialect(program, Version::V1_3))),
        (
            "bake",
            Box::new(move |program| {
                let zeros = |ty: &TensorType| Tensor::zeros(ty.dtype, &ty.shape.to_known().unwrap()).unwrap();
                let values = last.iter().map(|(name, ty)| (name.as_str(), Arc::new(zeros(ty))));
                passes::bake(program, &baked, &values.collect::<Vec<_>>())
            }),
        ),
    ]
}

#[test]
#[ignore = "needs programs that are not in this repository, in the directory ANEMONE_CORPUS"]
fn legalised_programs_compute_the_same() {
    let corpus = corpus();
    let directories = ["apple", "hand"].map(|directory| fs::read_dir(corpus.join(directory)).unwrap());
    let (mut compared, mut changed, mut unknown) = (0, 0, Vec::new());
    for entry in directories.into_iter().flatten() {
        let path = entry.unwrap().path();
        let parsed = text::parse(&fs::read_to_string(&path).unwrap()).unwrap();
        let program = verify_known(parsed.program).unwrap();
        for function in &program.program().functions {
            let settled = passes::specialize(&program, &function.name, &short_inputs(function));
            let settled = settled.map_or_else(|_| program.clone(), |rewritten| rewritten.program);
            let before = outcome(&settled, &function.name);
            for chips in Chip::ALL.map(Chips::from).into_iter().chain([Chips::ALL]) {
                let what = format!("{}, {chips}", path.display());
                let legalized = legalize(&settled, chips, None);
                let legalized = legalized.unwrap_or_else(|error| panic!("{what}: {error}"));
                let again = legalize(&legalized.rewritten.program, chips, None).unwrap();
                assert_eq!(again.rewritten.changes, [""; 0], "{what}");
                let after = survives(Ok(legalized.rewritten), &what);
                changed += usize::from(!after.changes.is_empty());
                match &before {
                    Some(before) => {
                        let after = outcome(&after.program, &function.name);
                        assert_close(before, &after.expect(&what), &what);
                        compared += 1;
                    }
                    None => unknown.push(what),
                }
            }
        }
    }
    println!("{compared} compared, {changed} changed; with unknown ops: {unknown:?}");
    assert!(compared >= 100 && changed >= 50, "{compared} compared, {changed} changed");
}

/// The inputs whose types have a `?`, each of them 32.
fn short_inputs(function: &Function) -> Vec<(&str, TensorType)> {
    let inputs = function.body.inputs.iter().map(|&id| function.value(id));
    let types = inputs.filter_map(|input| match &input.ty {
        Type::State(_) => None,
        ty => Some((input.name.as_str(), ty.as_tensor()?)),
    });
    let settle = |ty: TensorType| {
        let dims = ty.shape.0.iter().map(|dim| dim.known().unwrap_or(32).into()).collect();
        TensorType { dtype: ty.dtype, shape: Shape(dims) }
    };
    types.map(|(name, ty)| (name, settle(ty))).collect()
}

/// What a function gives for random inputs and weights; `None` where it cannot be run.
fn outcome(program: &Verified, name: &str) -> Option<BTreeMap<String, Tensor>> {
    let program = Arc::new(program.clone());
    let (_, function) = program.program().function(name)?;
    let types: Vec<TensorType> = short_inputs(function).into_iter().map(|(_, ty)| ty).collect();
    let mut prepared = Cpu::new().unwrap().prepare(&program, name, &types, &RandomWeights).ok()?;
    let mut random = Random::new(3);
    let inputs: Vec<Tensor> = types.iter().map(|ty| random_tensor(ty, 1.0, &mut random)).collect();
    let inputs: Vec<&Tensor> = inputs.iter().collect();
    let mut outputs = vec![Tensor::scalar(false); prepared.outputs().len()];
    prepared.run(&inputs, &mut outputs).ok()?;
    let names = prepared.outputs().iter().map(|port| port.name.clone());
    Some(names.zip(outputs).collect())
}

fn random_tensor(ty: &TensorType, scale: f64, random: &mut Random) -> Tensor {
    let dims = ty.shape.to_known().unwrap();
    let count = dims.iter().product();
    if ty.dtype.is_float() {
        let values: Vec<f64> = (0..count).map(|_| random.normal() * scale).collect();
        return Tensor::from_f64(ty.dtype, &dims, &values).unwrap();
    }
    Tensor::from_i64(ty.dtype, &dims, &vec![1; count]).unwrap()
}

/// Weights that depend on where they lie.
#[derive(Debug)]
struct RandomWeights;

impl WeightSource for RandomWeights {
    fn file(&self, path: &str) -> Result<Arc<BlobFile>, BlobError> {
        panic!("{path} is opened")
    }

    fn load(&self, reference: &BlobReference, ty: &TensorType) -> Result<Tensor, BlobError> {
        Ok(random_tensor(ty, 0.05, &mut Random::new(reference.offset)))
    }

    fn check(&self, _: &BlobReference, _: &TensorType) -> Result<(), BlobError> {
        Ok(())
    }
}

/// Whether outputs differ by no more than sums in another order do, after the ops that follow.
fn assert_close(before: &BTreeMap<String, Tensor>, after: &BTreeMap<String, Tensor>, what: &str) {
    assert_eq!(before.keys().collect::<Vec<_>>(), after.keys().collect::<Vec<_>>(), "{what}");
    for (name, expected) in before {
        let (Some(expected), Some(found)) = (expected.to_f64(), after[name].to_f64()) else { continue };
        let largest = expected.iter().filter(|x| x.is_finite()).fold(0.0f64, |most, x| most.max(x.abs()));
        for (x, y) in expected.iter().zip(&found) {
            let same = x == y || x.is_nan() && y.is_nan() || (x - y).abs() <= 1e-2 * largest;
            assert!(same, "{what}: `{name}`, {x}, became {y}");
        }
    }
}
