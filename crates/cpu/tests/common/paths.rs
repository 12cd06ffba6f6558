//! The paths that tests go through.
#![allow(dead_code)] // Each test file uses a part.

use anemone_cpu::{Cpu, InstructionPath, Options};

use super::not_run::not_run_on;

/// The paths that this process can use. The calling test is said not to run on the others.
#[track_caller]
pub fn paths() -> Vec<InstructionPath> {
    not_run_on(InstructionPath::missing());
    InstructionPath::available()
}

/// Those that differ in more than products of matrices, for what has none: with a matrix unit all else is AVX-512.
#[track_caller]
pub fn paths_without_products() -> Vec<InstructionPath> {
    not_run_on(InstructionPath::missing().into_iter().filter(|(path, _)| !path.multiplies_by_unit()));
    InstructionPath::available().into_iter().filter(|path| !path.multiplies_by_unit()).collect()
}

/// A runtime on a path that this process can use.
pub fn cpu_on(path: InstructionPath, threads: usize) -> Cpu {
    let options = Options { threads: Some(threads), path: Some(path), ..Options::default() };
    Cpu::with_options(options).expect("the path is available, and threads start")
}
