//! Mutated programs and weight files through parse, print, verify and eval: none may panic, overflow the
//! stack, take longer than a second, or make the process hold a gigabyte.
//!
//! `cargo test` runs a few thousand. A million:
//!
//! ```text
//! ANEMONE_MUTATIONS=1000000 cargo test -p anemone --test mutation -- --nocapture
//! ```
//!
//! Input number `i` depends on `i` and on the seeds under `tests/` alone. One that fails is saved, and run again
//! by `ANEMONE_MUTATION_FIRST=i ANEMONE_MUTATIONS=1`.

#[path = "../common/mod.rs"]
mod common;
mod inputs;
mod mutator;
mod pipeline;
mod seeds;
mod workers;

use common::number;

/// How many inputs `cargo test` runs.
const DEFAULT_INPUTS: u64 = 3000;

/// Few enough to run in the test's own process, in the time that it takes to start another.
const INPUTS_IN_THIS_PROCESS: u64 = 100;

/// In a worker process, which [`workers::Job::from_environment`] then gives its share, the whole work.
#[test]
fn inputs_in_this_process() {
    let totals = match workers::Job::from_environment() {
        Some(job) => workers::work(&job),
        None => workers::examine_all(0..INPUTS_IN_THIS_PROCESS),
    };
    assert!(totals.faults.is_empty(), "{totals}");
}

#[test]
fn inputs_in_worker_processes() {
    if workers::Job::from_environment().is_some() {
        return;
    }
    let first = number("ANEMONE_MUTATION_FIRST", 0);
    let count = number("ANEMONE_MUTATIONS", DEFAULT_INPUTS);
    let totals = workers::run(first..first.saturating_add(count), "inputs_in_this_process");
    println!("{totals}");
    assert!(totals.faults.is_empty(), "{totals}");
    assert_eq!(totals.inputs, count);
    // Mutants that are all refused at once would test nothing.
    if count >= 1000 {
        assert!(totals.parsed > count / 10, "{totals}");
        assert!(totals.verified > count / 50, "{totals}");
        assert!(totals.ran > count / 50, "{totals}");
    }
}
