//! `anemone reduce`: shrinks a program while a command succeeds.

use std::cell::Cell;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anemone_mil::passes;
use anemone_mil::program::Program;
use anemone_mil::verify::{Verified, count, verify_known};
use anemone_mil::{text, text::Comments};
use serde::Serialize;
use tempfile::TempDir;
use thiserror::Error;

use crate::common::cost::operations;
use crate::common::files::{self, refuse_overwriting, serialize_path};
use crate::common::source::Source;
use crate::common::{Failure, Output, weight_files};

/// Flags of `reduce`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Program to shrink
    file: PathBuf,
    /// File for the smallest program found so far, and at the end for the result; no FILE is changed
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Time for one run of COMMAND, in seconds; one that takes longer counts as failed
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    timeout: u64,
    /// Command that exits with 0 for a program that is still interesting; it gets the program's path as its last argument. What it prints is not shown
    #[arg(value_name = "COMMAND", required = true, last = true)]
    command: Vec<OsString>,
}

#[derive(Serialize)]
struct Line<'a> {
    #[serde(serialize_with = "serialize_path")]
    file: &'a Path,
    ops_before: usize,
    ops: usize,
    runs: usize,
    seconds: f64,
}

/// Why a program cannot be reduced.
#[derive(Debug, Error)]
enum ReduceError {
    #[error("{command} cannot be started: {error}")]
    Start { command: String, error: std::io::Error },
    #[error("{command} cannot be waited for: {error}")]
    Wait { command: String, error: std::io::Error },
    #[error(
        "{command} {how} for {} as it is: there is nothing to keep. It must exit with 0 for a program that is interesting",
        file.display()
    )]
    NotInteresting { command: String, how: &'static str, file: PathBuf },
    #[error("no directory for the programs that are tried: {0}")]
    Directory(std::io::Error),
    #[error("{} cannot be reached from the directory of the programs that are tried: {error}", path.display())]
    Link { path: PathBuf, error: std::io::Error },
}

/// Shrinks a program, and writes what is left.
///
/// # Errors
///
/// When the program is not sound, the command cannot be started or does not succeed for the program as it is, or a file
/// cannot be written or would replace one that is read.
pub(crate) fn run(args: &Args, output: &Output) -> Result<(), Failure> {
    let source = Source::read(&args.file)?;
    let program = verify_known(source.program.clone());
    let program = program.map_err(|errors| Failure::Program(source.render(&errors)))?;
    let directory = source.model_path.as_path();
    let read = source.files.iter().cloned().chain(weight_files::referred_to(&source.program, directory));
    refuse_overwriting([&args.out], read.collect::<Vec<_>>())?;
    let trial = Trial::new(args, &source.program, directory)?;
    match trial.outcome(program.program())? {
        Outcome::Success => {}
        Outcome::Failure => return Err(trial.not_interesting("fails").into()),
        Outcome::TimedOut => return Err(trial.not_interesting("takes longer than --timeout allows").into()),
    }
    let size = |program: &Verified| program.program().functions.iter().map(operations).sum::<usize>();
    let (before, started) = (size(&program), Instant::now());
    let reduced = passes::reduce(&program, |candidate| {
        let interesting = matches!(trial.outcome(candidate.program())?, Outcome::Success);
        if interesting {
            // What was reached is there even if the work is interrupted.
            files::replace(&args.out, text::write(candidate.program()).as_bytes())?;
            output.detail(format_args!(
                "{} after {}",
                count(size(candidate), "op"),
                count(trial.runs.get(), "run")
            ));
        }
        Ok::<bool, Failure>(interesting)
    })?;
    let written = text::write_with_comments(reduced.program(), &Comments::default());
    files::replace(&args.out, written.as_bytes())?;
    weight_files::tell_of_weights_elsewhere(reduced.program(), &args.out, directory, output);
    let (ops, runs, seconds) = (size(&reduced), trial.runs.get(), started.elapsed().as_secs_f64());
    let left = if ops == before { ", of which nothing can be left out" } else { "" };
    output.result(
        format_args!(
            "{}: {} of {before}{left}; {} of the command in {seconds:.1} s",
            args.out.display(),
            count(ops, "op"),
            count(runs, "run")
        ),
        &Line { file: &args.out, ops_before: before, ops, runs, seconds },
    );
    Ok(())
}

/// What a run of the command came to.
enum Outcome {
    Success,
    Failure,
    TimedOut,
}

/// The command, and the place of the programs that it is run on.
struct Trial<'a> {
    args: &'a Args,
    candidate: PathBuf,
    runs: Cell<usize>,
    _directory: TempDir,
}

impl<'a> Trial<'a> {
    /// A directory in which the weight files are found where the program's are.
    fn new(args: &'a Args, program: &Program, directory: &Path) -> Result<Trial<'a>, Failure> {
        let own = TempDir::with_prefix("anemone-reduce-").map_err(ReduceError::Directory)?;
        let directory =
            std::path::absolute(if directory.as_os_str().is_empty() { Path::new(".") } else { directory })?;
        let mut linked = std::collections::HashSet::new();
        for path in weight_files::blob_paths(program).filter_map(weight_files::below_model_path) {
            let Some(first) = Path::new(path).components().next() else { continue };
            let (target, link) = (directory.join(first), own.path().join(first));
            if target.exists() && linked.insert(link.clone()) {
                link_to(&target, &link).map_err(|error| ReduceError::Link { path: target, error })?;
            }
        }
        // No entry of the directory has this name: the weights have been linked before.
        let mut candidate = own.path().join("candidate.mil");
        while candidate.exists() {
            candidate.set_extension("candidate.mil");
        }
        Ok(Trial { args, candidate, runs: Cell::new(0), _directory: own })
    }

    fn outcome(&self, program: &Program) -> Result<Outcome, Failure> {
        self.runs.set(self.runs.get() + 1);
        files::replace(&self.candidate, text::write(program).as_bytes())?;
        let (name, arguments) =
            self.args.command.split_first().ok_or_else(|| Failure::new("no COMMAND is given"))?;
        let mut command = Command::new(name);
        command.args(arguments).arg(&self.candidate);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        own_group(&mut command);
        let child = command.spawn();
        let mut child = child.map_err(|error| ReduceError::Start { command: self.name(), error })?;
        let outcome = wait(&mut child, Duration::from_secs(self.args.timeout));
        Ok(outcome.map_err(|error| ReduceError::Wait { command: self.name(), error })?)
    }

    fn name(&self) -> String {
        let parts: Vec<_> = self.args.command.iter().map(|part| part.to_string_lossy()).collect();
        format!("`{}`", parts.join(" "))
    }

    fn not_interesting(&self, how: &'static str) -> ReduceError {
        ReduceError::NotInteresting { command: self.name(), how, file: self.args.file.clone() }
    }
}

/// Waits for a process, and ends it and those that it started if it takes too long.
fn wait(child: &mut Child, timeout: Duration) -> std::io::Result<Outcome> {
    let end = Instant::now() + timeout;
    let mut pause = Duration::from_micros(200);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(if status.success() { Outcome::Success } else { Outcome::Failure });
        }
        if Instant::now() >= end {
            end_group(child);
            child.wait()?;
            return Ok(Outcome::TimedOut);
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

#[cfg(unix)]
fn own_group(command: &mut Command) {
    std::os::unix::process::CommandExt::process_group(command, 0);
}

#[cfg(not(unix))]
fn own_group(_: &mut Command) {}

/// Ends a process; on Unix those of its group, too.
fn end_group(child: &mut Child) {
    #[cfg(unix)]
    if let Ok(group) = i32::try_from(child.id()) {
        // If it is gone by itself, there is nothing to end.
        let _ =
            nix::sys::signal::killpg(nix::unistd::Pid::from_raw(group), nix::sys::signal::Signal::SIGKILL);
    }
    let _ = child.kill();
}

#[cfg(unix)]
fn link_to(target: &Path, link: &Path) -> std::io::Result<()> {
    std::os::unix::fs::symlink(target, link)
}

#[cfg(windows)]
fn link_to(target: &Path, link: &Path) -> std::io::Result<()> {
    match target.is_dir() {
        true => std::os::windows::fs::symlink_dir(target, link),
        false => std::os::windows::fs::symlink_file(target, link),
    }
}
