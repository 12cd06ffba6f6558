//! Random programs through every pass: each stays sound, prints and parses back to the same, and does the same.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use anemone_lm::random::Random;
use anemone_mil::eval::Interpreter;
use anemone_mil::ops;
use anemone_mil::passes::{self, PassError, Rewritten};
use anemone_mil::program::{Function, Program, ValueId, Version};
use anemone_mil::tensor::Tensor;
use anemone_mil::text;
use anemone_mil::types::{Dim, TensorType, Type};
use anemone_mil::verify::{CONST, Verified, verify};
use anemone_mil::weights::WeightMap;

use crate::common::number;
use crate::execute::{Outcome, Tensors, constants, run};
use crate::fragments::Fragments;
use crate::generator::{self, Sample};

/// How many programs `cargo test` makes.
pub const DEFAULT_PROGRAMS: u64 = 400;

/// What became of the programs.
#[derive(Debug, Default)]
struct Totals {
    programs: u64,
    /// Functions that run, and those whose run fails, before as after.
    ran: u64,
    failed: u64,
    /// How often each pass changed something, and how often it was refused.
    changed: BTreeMap<String, u64>,
    refused: BTreeMap<String, u64>,
    ops: BTreeSet<String>,
    faults: Vec<String>,
}

#[test]
fn random_programs_do_the_same_after_every_pass() {
    let fragments = Fragments::read();
    let first = number("ANEMONE_PROGRAM_FIRST", 0);
    let count = number("ANEMONE_PROGRAMS", DEFAULT_PROGRAMS);
    let next = AtomicU64::new(first);
    let totals = Mutex::new(Totals::default());
    let work = || {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= first + count || totals.lock().unwrap().faults.len() > 10 {
                return;
            }
            check(&fragments, number, &totals);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    let totals = totals.into_inner().unwrap();
    let Totals { programs, ran, failed, changed, refused, ops, faults } = &totals;
    println!("{programs} programs, {ran} functions ran, {failed} failed as before");
    println!("changed: {changed:?}; refused: {refused:?}");
    assert!(faults.is_empty(), "{}", faults.join("\n\n"));
    if count >= DEFAULT_PROGRAMS {
        assert!(*ran > 4 * failed, "too few of the programs run");
        let missing: Vec<&String> = fragments.by_op.keys().filter(|op| !ops.contains(*op)).collect();
        assert!(missing.is_empty(), "no program has {missing:?}");
        for pass in [
            "specialize",
            "dead-code",
            "common-subexpressions",
            "fold-constants",
            "bake",
            "unbake",
            "dialect",
        ] {
            assert!(
                changed.get(pass).is_some_and(|&times| times > count / 50),
                "{pass} changes nothing: {changed:?}"
            );
        }
    }
}

fn check(fragments: &Fragments, number: u64, totals: &Mutex<Totals>) {
    let sample = generator::program(fragments, number);
    let fault = |what: &str, error: String| {
        let text = text::write(&sample.program);
        totals.lock().unwrap().faults.push(format!("program {number}, {what}: {error}\n{text}"));
    };
    let verified = match verify(sample.program.clone()) {
        Ok(verified) => Arc::new(verified),
        Err(errors) => return fault("made", errors.to_string()),
    };
    let before: Vec<Result<Outcome, String>> = outcomes(&verified, &sample, |_| BTreeMap::new());
    {
        let mut totals = totals.lock().unwrap();
        totals.programs += 1;
        totals.ran += before.iter().filter(|outcome| outcome.is_ok()).count() as u64;
        totals.failed += before.iter().filter(|outcome| outcome.is_err()).count() as u64;
        let all = sample.program.functions.iter().flat_map(Function::walk);
        totals.ops.extend(all.map(|(_, op)| op.name.clone()));
    }
    let mut together = verified.clone();
    for (name, apply) in passes_of(&sample, number) {
        for (start, whose) in [(&verified, "alone"), (&together.clone(), "after the others")] {
            let rewritten = match apply(start) {
                Ok(rewritten) => rewritten,
                // An op may need a constant, or allow one only where another operand is none, or be younger.
                Err(PassError::Unsound(_)) if matches!(name, "bake" | "unbake" | "dialect") => {
                    *totals.lock().unwrap().refused.entry(name.to_string()).or_default() += 1;
                    continue;
                }
                Err(PassError::Request(_)) if whose != "alone" => continue,
                Err(error) => {
                    fault(&format!("{name} {whose}"), error.to_string());
                    continue;
                }
            };
            if !rewritten.changes.is_empty() && whose == "alone" {
                *totals.lock().unwrap().changed.entry(name.to_string()).or_default() += 1;
            }
            let after = Arc::new(rewritten.program);
            if let Err(error) =
                sound(&after).and_then(|()| same(&before, &outcomes(&after, &sample, |f| unbaked(start, f))))
            {
                fault(&format!("{name} {whose}"), format!("{error}\n{}", text::write(after.program())));
            } else if whose != "alone" && name != "unbake" {
                together = after;
            }
        }
    }
}

/// The values of the constants of a function, which may have become inputs.
fn unbaked(program: &Verified, function: &str) -> Tensors {
    let (_, function) = program.program().function(function).unwrap();
    constants(function, &WeightMap::default())
}

/// What every function does; inputs that the sample has no value for have one among `more`.
fn outcomes(
    program: &Arc<Verified>,
    sample: &Sample,
    more: impl Fn(&str) -> Tensors,
) -> Vec<Result<Outcome, String>> {
    let functions = program.program().functions.iter().zip(&sample.inputs);
    let outcome = |(function, inputs): (&Function, &Tensors)| {
        let mut values = more(&function.name);
        values.extend(inputs.clone());
        run(&Interpreter::default(), program, &function.name, &values, &WeightMap::default())
    };
    functions.map(outcome).collect()
}

/// A function that fails before may do anything; what it computed in vain may be gone.
fn same(before: &[Result<Outcome, String>], after: &[Result<Outcome, String>]) -> Result<(), String> {
    before.iter().zip(after).try_for_each(|pair| match pair {
        (Ok(before), Ok(after)) => before.same(after),
        (Ok(_), Err(error)) => Err(error.clone()),
        (Err(_), _) => Ok(()),
    })
}

/// Whether a program verifies, all its ops known, and is the same when it is printed and read.
pub fn sound(program: &Verified) -> Result<(), String> {
    verify(program.program().clone()).map_err(|errors| errors.to_string())?;
    let printed = text::write(program.program());
    let parsed = text::parse(&printed).map_err(|errors| format!("printed, it is refused: {errors}"))?;
    if parsed.program != *program.program() {
        return Err("printed and read, it is another program".to_string());
    }
    Ok(())
}

type Apply<'a> = Box<dyn Fn(&Verified) -> Result<Rewritten, PassError> + 'a>;

/// Every pass, with something to do.
fn passes_of(sample: &Sample, number: u64) -> Vec<(&'static str, Apply<'_>)> {
    let of_function =
        move |program: &Verified, random: &mut Random| random.below(program.program().functions.len());
    let other = match sample.program.version {
        Version::V1_0 => Version::V1_3,
        _ => Version::V1_0,
    };
    vec![
        (
            "specialize",
            Box::new(move |program: &Verified| {
                let index = of_function(program, &mut Random::stream(number, 1));
                specialize(program, index, &sample.inputs[index])
            }),
        ),
        ("common-subexpressions", Box::new(passes::common_subexpressions)),
        (
            "fold-constants",
            Box::new(|program: &Verified| passes::fold_constants(program, None, passes::FOLD_BUDGET)),
        ),
        ("dead-code", Box::new(passes::dead_code)),
        (
            "bake",
            Box::new(move |program: &Verified| {
                let mut random = Random::stream(number, 2);
                let index = of_function(program, &mut random);
                bake(program, index, &sample.inputs[index], &mut random)
            }),
        ),
        (
            "fold-constants",
            Box::new(|program: &Verified| passes::fold_constants(program, None, passes::FOLD_BUDGET)),
        ),
        ("dialect", Box::new(move |program: &Verified| passes::dialect(program, other))),
        (
            "unbake",
            Box::new(move |program: &Verified| {
                let mut random = Random::stream(number, 3);
                let index = of_function(program, &mut random);
                unbake(program, index, &mut random)
            }),
        ),
    ]
}

/// Settles a function for its inputs, and checks that what stays `?` depends on data.
fn specialize(program: &Verified, index: usize, values: &Tensors) -> Result<Rewritten, PassError> {
    let function = &program.program().functions[index];
    let given = function.body.inputs.iter().filter_map(|&id| {
        let name = function.value(id).name.as_str();
        Some((name, values.get(name)?.ty()))
    });
    let rewritten = passes::specialize(program, &function.name, &given.collect::<Vec<_>>())?;
    let settled = rewritten.program.program();
    for (position, other) in program.program().functions.iter().enumerate() {
        let same =
            Program { functions: vec![settled.functions[position].clone()], ..Program::new(settled.version) };
        let before = Program { functions: vec![other.clone()], ..Program::new(settled.version) };
        assert!(position == index || text::write(&same) == text::write(&before), "another function changed");
    }
    assert_settled(&settled.functions[index]);
    Ok(rewritten)
}

/// Every `?` comes from a block, from an operand that has one, or from data in integers; in floating point, only those
/// of a range and those that may be zero shape a result.
fn assert_settled(function: &Function) {
    let is_open = |ty: &Type| ty.held_tensor().is_some_and(|ty| ty.shape.0.contains(&Dim::Unknown));
    let is_open = |id: ValueId| is_open(&function.value(id).ty);
    let is_float = |id: ValueId| function.value(id).ty.dtype().is_some_and(|dtype| dtype.is_float());
    // What depends on the values of inputs.
    let mut data: BTreeSet<ValueId> = function.body.inputs.iter().copied().collect();
    for (_, op) in function.walk() {
        let from_types = ops::lookup(&op.name, function.opset_of(op)).is_some_and(|row| row.from_types);
        let depends = |id: ValueId| if from_types { is_open(id) } else { data.contains(&id) };
        let shapes = |id: ValueId| {
            depends(id) && (!is_float(id) || ["range_1d", "non_zero"].contains(&op.name.as_str()))
        };
        let excused = !op.blocks.is_empty() || op.reads().any(is_open) || op.reads().any(shapes);
        // How long a list gets that can grow only the run says; and no type says how many keys a dictionary has.
        let grows = |id: ValueId| matches!(function.value(id).ty, Type::List(..) | Type::Dict(..));
        let open = op.results.iter().any(|&id| is_open(id) && !grows(id));
        assert!(!open || excused, "`{}` leaves a dimension open", op.name);
        if op.reads().any(depends) || !op.blocks.is_empty() {
            data.extend(&op.results);
        }
        data.extend(op.blocks.iter().flat_map(|block| &block.inputs));
    }
}

fn bake(
    program: &Verified,
    index: usize,
    values: &Tensors,
    random: &mut Random,
) -> Result<Rewritten, PassError> {
    let function = &program.program().functions[index];
    let names = function.body.inputs.iter().map(|&id| function.value(id).name.as_str());
    let given = names.filter_map(|name| Some((name, values.get(name)?)));
    let chosen = given.filter(|_| random.below(2) == 0);
    let chosen: Vec<(&str, Arc<Tensor>)> =
        chosen.map(|(name, value)| (name, Arc::new(value.clone()))).collect();
    passes::bake(program, &function.name, &chosen)
}

/// Makes inputs of some constants, of floating point so that few are needed as constants.
fn unbake(program: &Verified, index: usize, random: &mut Random) -> Result<Rewritten, PassError> {
    let function = &program.program().functions[index];
    let constants =
        function.walk().filter(|(_, op)| op.name == CONST).map(|(_, op)| function.value(op.results[0]));
    let is_float = |ty: &Type| ty.as_tensor().is_some_and(|TensorType { dtype, .. }| dtype.is_float());
    let chosen = constants.filter(|value| is_float(&value.ty)).filter(|_| random.below(2) == 0);
    let chosen: Vec<&str> = chosen.map(|value| value.name.as_str()).collect();
    if chosen.is_empty() {
        return passes::dead_code(program);
    }
    passes::unbake(program, &function.name, &chosen).map(|(rewritten, _)| rewritten)
}
