//! Programs by other people's generators, read, printed and read again, and after every pass: `.ci/corpus` runs this.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::PathBuf;
use std::sync::Arc;
use std::{env, fs};

use anemone_mil::passes::{self, FOLD_BUDGET, PassError, Rewritten};
use anemone_mil::program::{Function, Version};
use anemone_mil::tensor::Tensor;
use anemone_mil::text;
use anemone_mil::types::{Shape, TensorType};
use anemone_mil::verify::{Verified, verify, verify_known};

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
