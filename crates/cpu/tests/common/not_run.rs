//! What tests say that they do not run, for want of an instruction set or of a file.
#![allow(dead_code)] // Each test file uses a part.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::fs::OpenOptions;
use std::io::Write;
use std::panic::Location;
use std::sync::{Mutex, PoisonError};
use std::thread;

/// The environment variable that names a file to which a line is added for each test that did not run, or of which a
/// part did not. `.ci/run` prints a summary of it.
const NOT_RUN_FILE: &str = "ANEMONE_NOT_RUN_FILE";

/// Says, once, that the calling test, or a part of it, does not run, and why: on the standard error of the process, as
/// the test harness keeps to itself what a test prints that passes; and in the file that [`NOT_RUN_FILE`] names.
#[track_caller]
pub(crate) fn not_run(reason: impl Display) {
    static SAID: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let thread = thread::current();
    // The harness names the thread of a test after it; on a single thread there is only the place.
    let place = Location::caller().to_string();
    let test = thread.name().filter(|&name| name != "main").unwrap_or(&place);
    let line = format!("{test}: {reason}");

    let mut said = SAID.lock().unwrap_or_else(PoisonError::into_inner);
    if !said.insert(line.clone()) {
        return;
    }
    let message = format!("not run ({} of this program so far): {line}\n", said.len());
    std::io::stderr().write_all(message.as_bytes()).expect("standard error can be written to");
    if let Some(file) = std::env::var_os(NOT_RUN_FILE) {
        let file = OpenOptions::new().create(true).append(true).open(file);
        let written = file.and_then(|mut file| file.write_all(format!("{line}\n").as_bytes()));
        written.expect("the file for what does not run can be written to");
    }
}

/// Says that the calling test does not run on some paths, each of which comes with the reason.
#[track_caller]
pub(crate) fn not_run_on(paths: impl IntoIterator<Item = (impl Display, String)>) {
    let mut names: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (path, reason) in paths {
        names.entry(reason).or_default().push(path.to_string());
    }
    for (reason, names) in names {
        not_run(format_args!("on {}: {reason}", names.join(", ")));
    }
}
