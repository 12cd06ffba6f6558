//! Mutated models, manifests and compiled descriptions through everything that reads them: none may panic, overflow the
//! stack or take longer than a second, and a model that is read must be written as what it was read as.
//!
//! `cargo test` runs a few thousand. A million:
//!
//! ```text
//! ANEMONE_MUTATIONS=1000000 cargo test -p anemone-coreml --test mutation -- --nocapture
//! ```
//!
//! Input number `i` depends on `i` and on the models in `tests/coreml` alone. One that fails is run again by
//! `ANEMONE_MUTATION_FIRST=i ANEMONE_MUTATIONS=1`.

#![allow(clippy::unwrap_used, clippy::panic)] // A test fails by panicking.

mod mutator;
mod pipeline;

use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use mutator::{Random, mutate};
use pipeline::{Stage, exercise};

/// How many inputs `cargo test` runs.
const DEFAULT_INPUTS: u64 = 4000;
/// What one input may take. One that takes longer is timed twice more, as the machine may have been busy.
const TIME_LIMIT: Duration = Duration::from_secs(1);

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().unwrap())
}

/// Every model, manifest and compiled description there is.
fn seeds() -> Vec<Vec<u8>> {
    let mut open = vec![PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/coreml"))];
    let mut files = Vec::new();
    while let Some(next) = open.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            let is_seed = |path: &Path| {
                let name = path.file_name().unwrap().to_str().unwrap();
                name.ends_with(".mlmodel") || name == "Manifest.json" || name == "coremldata.bin"
            };
            match path.is_dir() {
                true => open.push(path),
                false if is_seed(&path) => files.push(path),
                false => {}
            }
        }
    }
    files.sort();
    assert!(files.len() > 30);
    files.into_iter().map(|path| std::fs::read(path).unwrap()).collect()
}

#[test]
fn mutants_are_read_or_refused() {
    let seeds = seeds();
    let first = number("ANEMONE_MUTATION_FIRST", 0);
    let count = number("ANEMONE_MUTATIONS", DEFAULT_INPUTS);
    let threads = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    let mut totals = [0u64; 4];
    let mut faults = Vec::new();
    std::thread::scope(|scope| {
        let share = |thread: u64| {
            let seeds = &seeds;
            // As large as that of a program's first thread.
            let builder = std::thread::Builder::new().stack_size(8 << 20);
            let work = move || {
                let (mut totals, mut faults) = ([0u64; 4], Vec::new());
                for index in (first + thread..first + count).step_by(threads as usize) {
                    match examine(seeds, index) {
                        Ok(stage) => totals[stage as usize] += 1,
                        Err(fault) => faults.push(format!("input {index}: {fault}")),
                    }
                }
                (totals, faults)
            };
            builder.spawn_scoped(scope, work).unwrap()
        };
        for worker in (0..threads).map(share).collect::<Vec<_>>() {
            let (counts, found) = worker.join().unwrap();
            totals.iter_mut().zip(counts).for_each(|(total, count)| *total += count);
            faults.extend(found);
        }
    });
    println!("{count} inputs: {totals:?} refused, described, read, verified");
    assert!(faults.is_empty(), "{} faults: {:#?}", faults.len(), &faults[..faults.len().min(10)]);
    // Mutants that are all refused at once would test nothing.
    if count >= 1000 {
        assert!(totals[Stage::Read as usize] + totals[Stage::Verified as usize] > count / 10, "{totals:?}");
        assert!(totals[Stage::Verified as usize] > count / 20, "{totals:?}");
        assert!(totals[Stage::Refused as usize] > count / 10, "{totals:?}");
    }
}

/// Runs input number `index`, and says how far it came.
fn examine(seeds: &[Vec<u8>], index: u64) -> Result<Stage, String> {
    let mut random = Random::new(index);
    let input = mutate(&mut random, seeds);
    let mut least = Duration::MAX;
    for _ in 0..3 {
        let start = Instant::now();
        let stage = panic::catch_unwind(AssertUnwindSafe(|| exercise(&input)));
        least = least.min(start.elapsed());
        let stage = stage.map_err(|_| "panicked".to_string())?;
        if least <= TIME_LIMIT {
            return Ok(stage);
        }
    }
    Err(format!("takes {} ms", least.as_millis()))
}
