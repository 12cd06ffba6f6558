//! What the runners of data tests share.
#![allow(dead_code)] // Each test file uses a part.

use std::fs;
use std::path::{Path, PathBuf};

/// A directory of the repository's `tests`.
pub fn data_dir(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests").join(name)
}

/// Whether `BLESS=1` asks for expectations to be written instead of compared.
pub fn blessing() -> bool {
    std::env::var_os("BLESS").is_some_and(|value| value == "1")
}

/// The number that an environment variable holds.
///
/// # Panics
///
/// When it holds something else.
pub fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect(name))
}

/// Compares `actual` with a file, or under `BLESS=1` writes it there.
///
/// # Errors
///
/// When they differ, with the first line that does; when the file cannot be read or written.
pub fn expect_file(path: &Path, actual: &str) -> Result<(), String> {
    let shown = path.file_name().unwrap_or_default().to_string_lossy();
    if blessing() {
        return fs::write(path, actual).map_err(|error| format!("{shown}: {error}"));
    }
    let expected =
        fs::read_to_string(path).map_err(|error| format!("{shown}: {error} (BLESS=1 writes it)"))?;
    if expected == actual {
        return Ok(());
    }
    let (mut expected_lines, mut actual_lines) = (expected.split('\n'), actual.split('\n'));
    let mut number = 1;
    loop {
        let (expected_line, actual_line) = (expected_lines.next(), actual_lines.next());
        if expected_line != actual_line {
            let or_end = |line: Option<&str>| line.unwrap_or("(the end)").to_string();
            return Err(format!(
                "{shown}, line {number}:\n  expected {}\n  actual   {}\nBLESS=1 accepts this whole text:\n{actual}",
                or_end(expected_line),
                or_end(actual_line),
            ));
        }
        number += 1;
    }
}

/// The files of a directory with this extension, in order of their names.
///
/// # Panics
///
/// When the directory cannot be read.
#[allow(clippy::panic)] // A test's failure is a panic.
pub fn files_of(dir: &Path, extension: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| entry.unwrap_or_else(|error| panic!("{}: {error}", dir.display())).path())
        .filter(|path| path.extension().is_some_and(|found| found == extension))
        .collect();
    paths.sort();
    paths
}

/// Runs `case` on every file of a directory with this extension, in order of their names, and panics with all
/// failures together.
///
/// # Panics
///
/// When a case fails, the directory cannot be read, or holds fewer than `at_least` cases.
#[allow(clippy::panic)] // A test's failure is a panic.
pub fn run_cases(
    dir: &Path,
    extension: &str,
    at_least: usize,
    mut case: impl FnMut(&Path) -> Result<(), String>,
) {
    let paths = files_of(dir, extension);
    assert!(paths.len() >= at_least, "only {} cases in {}", paths.len(), dir.display());
    let failures: Vec<String> = paths.iter().filter_map(|path| case(path).err()).collect();
    assert!(
        failures.is_empty(),
        "{} of {} cases failed\n\n{}",
        failures.len(),
        paths.len(),
        failures.join("\n\n")
    );
}
