//! `anemone device-report`: what the engine of this machine does with small programs, to be attached to a bug report.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anemone_ane::chips::Chip;
use anemone_ane::probes::{self, Expectation, Observation, Probe, Subject};
use serde::Serialize;

use crate::common::engine::{InterfaceName, own_chip, recovery, said};
use crate::common::files;
use crate::common::{Failure, Output};

mod process;
mod summary;

use process::{Ended, supervise};

/// Flags of `device-report`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Chip whose rules and arithmetic are expected, m1 to m6 (default: this machine's, or m4)
    #[arg(long, value_name = "CHIP")]
    chip: Option<Chip>,
    /// Ways in to the engine, one flag for each (default: both); one that is not available here is said to be so
    #[arg(long = "interface", value_enum, value_name = "INTERFACE", default_values = ["e5rt", "in-memory"])]
    interfaces: Vec<InterfaceName>,
    /// Where the whole report is written, as JSON
    #[arg(long, value_name = "FILE", default_value = "device-report.json")]
    out: PathBuf,
    /// Give up on a probe after so many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=3600))]
    time_limit: u64,
    /// Ask only the probes whose names begin so, one flag for each, such as r04, sum or function (default: all)
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Print the names of the probes, and ask none
    #[arg(long)]
    list: bool,
    /// Ask one probe in this process, and print what came of it
    #[arg(long, value_name = "NAME", hide = true)]
    probe: Option<String>,
}

/// The report.
#[derive(Debug, Serialize)]
struct Report {
    anemone: &'static str,
    system: String,
    chip: &'static str,
    interfaces: Vec<Way>,
    probes: Vec<Entry>,
}

/// A way in to the engine.
#[derive(Debug, Serialize)]
struct Way {
    interface: String,
    /// Why it cannot be had here; `null` where it can.
    unavailable: Option<String>,
}

/// What came of one probe.
#[derive(Debug, Serialize)]
struct Entry {
    probe: String,
    interface: String,
    subject: Subject,
    expected: Expectation,
    outcome: Outcome,
    /// Whether it is as expected; `null` where nothing certain was.
    agrees: Option<bool>,
}

/// How the process of a probe ended.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Outcome {
    Asked(Observation),
    Crashed { status: String },
    Hung { seconds: u64 },
}

/// Asks every probe in a process of its own, and reports what came of it.
///
/// # Errors
///
/// When there is no way to the engine here, no probe of the name, or the report cannot be written.
pub(crate) fn run(args: &Args, output: &Output) -> Result<(), Failure> {
    let chip = args.chip.or_else(own_chip).unwrap_or(Chip::M4);
    let all = probes::all();
    if let (Some(name), [interface, ..]) = (&args.probe, args.interfaces.as_slice()) {
        let probe = all.iter().find(|probe| probe.name == *name);
        let probe = probe.ok_or_else(|| Failure::new(format!("there is no probe `{name}`")))?;
        let interface = interface.load()?;
        let observation = probes::observe(interface.as_ref(), probe, chip);
        output.raw(format_args!("{}\n", serde_json::to_string(&observation)?));
        return Ok(());
    }
    let asked = |probe: &&Probe| {
        args.only.is_empty() || args.only.iter().any(|start| probe.name.starts_with(start.as_str()))
    };
    let asked: Vec<&Probe> = all.iter().filter(asked).collect();
    if asked.is_empty() {
        return Err(Failure::new(
            "no probe's name begins so; names are r01_trips, sum 32768, function exp and so on",
        ));
    }
    if args.list {
        let names: Vec<&str> = asked.iter().map(|probe| probe.name.as_str()).collect();
        output.result(names.join("\n"), &names);
        return Ok(());
    }
    let ways = ways(&args.interfaces, output)?;
    let available = || args.interfaces.iter().zip(&ways).filter(|(_, way)| way.unavailable.is_none());
    let total = asked.len() * available().count();
    let mut entries = Vec::with_capacity(total);
    for (interface, way) in available() {
        for probe in &asked {
            let number = entries.len() + 1;
            output.message(format_args!("{number} of {total}: {} by {}", probe.name, way.interface));
            entries.push(ask(args, *interface, probe, chip)?);
        }
    }
    let report = Report {
        anemone: env!("CARGO_PKG_VERSION"),
        system: system(),
        chip: chip.name(),
        interfaces: ways,
        probes: entries,
    };
    files::replace(&args.out, &serde_json::to_vec_pretty(&report)?)?;
    let text = format!("{}\nthe whole report is in {}", summary::text(&report), args.out.display());
    output.result(text, &report);
    Ok(())
}

/// Which of the ways in to the engine there are here. Whatever keeps all probes from one is said once.
///
/// # Errors
///
/// When there is none: why there is not the first.
fn ways(interfaces: &[InterfaceName], output: &Output) -> Result<Vec<Way>, Failure> {
    let (mut ways, mut first) = (Vec::new(), None);
    for interface in interfaces {
        let unavailable = interface.load().err();
        let name = interface.name();
        let reason = unavailable.as_ref().map(ToString::to_string);
        if let Some(reason) = &reason {
            output.message(format_args!("the interface {name} is not available: {reason}"));
        }
        first = first.or(unavailable);
        ways.push(Way { interface: name, unavailable: reason });
    }
    match first {
        Some(failure) if ways.iter().all(|way| way.unavailable.is_some()) => Err(failure),
        _ => Ok(ways),
    }
}

/// Asks one probe, in a process of its own.
fn ask(args: &Args, interface: InterfaceName, probe: &Probe, chip: Chip) -> Result<Entry, Failure> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["device-report", "--chip", chip.name(), "--interface", &interface.name()]);
    command.args(["--probe", &probe.name]);
    let outcome = match supervise(&mut command, Duration::from_secs(args.time_limit))? {
        Ended::Done(text) => match serde_json::from_str(&text) {
            Ok(observation) => Outcome::Asked(observation),
            Err(_) => Outcome::Crashed { status: "it ended without a word".to_string() },
        },
        Ended::Failed(status) => Outcome::Crashed { status },
        Ended::Hung => Outcome::Hung { seconds: args.time_limit },
    };
    // A failed compilation makes the next ones fail for a while.
    if !matches!(outcome, Outcome::Asked(Observation::Ran { .. } | Observation::NotAsked { .. })) {
        std::thread::sleep(recovery());
    }
    let expected = probes::expectation(probe, chip);
    let agrees = match &outcome {
        Outcome::Asked(observation) => probes::agrees(probe, expected, observation),
        _ => Some(false),
    };
    let (name, subject) = (probe.name.clone(), probe.subject.clone());
    Ok(Entry { probe: name, interface: interface.name(), subject, expected, outcome, agrees })
}

/// The system and its version.
fn system() -> String {
    let version = cfg!(target_os = "macos").then(|| said("sw_vers", &["-productVersion"])).flatten();
    let processor =
        cfg!(target_os = "macos").then(|| said("sysctl", &["-n", "machdep.cpu.brand_string"])).flatten();
    let parts = [Some(std::env::consts::OS.to_string()), version, processor];
    parts.into_iter().flatten().collect::<Vec<_>>().join(" ")
}
