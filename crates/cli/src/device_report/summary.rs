//! A device report for people.

use std::fmt::Write;

use anemone_ane::probes::{Comparison, Expectation, Observation, Subject};

use super::{Entry, Outcome, Report, Way};

/// Whether a probe belongs to a section.
type Belongs = fn(&Entry) -> bool;

/// The report, with every probe that did not come out as expected.
pub(super) fn text(report: &Report) -> String {
    let Report { system, chip, interfaces, probes, .. } = report;
    let available = interfaces.iter().filter(|way| way.unavailable.is_none());
    let available: Vec<&str> = available.map(|way| way.interface.as_str()).collect();
    let (several, available) = (available.len() > 1, available.join(" and "));
    let count = |agrees| probes.iter().filter(|entry| entry.agrees == agrees).count();
    let mut text = format!(
        "the engine of {chip} by {available}, on {system}: {} probes, {} as expected, {} not, {} without an expectation",
        probes.len(),
        count(Some(true)),
        count(Some(false)),
        count(None)
    );
    for Way { interface, unavailable } in interfaces {
        if let Some(reason) = unavailable {
            // Writing to a string does not fail.
            let _ = write!(text, "\nthe interface {interface} is not available: {}", first_line(reason));
        }
    }
    let sections: [(&str, Belongs); 4] = [
        ("not as expected", |entry| entry.agrees == Some(false)),
        ("perhaps refused", |entry| entry.expected == Expectation::PerhapsRefused && entry.agrees.is_none()),
        ("functions", |entry| entry.subject == Subject::Function && entry.agrees.is_none()),
        ("speed", |entry| matches!(entry.subject, Subject::Speed { .. }) && entry.agrees.is_none()),
    ];
    for (title, belongs) in sections {
        let entries: Vec<&Entry> = probes.iter().filter(|entry| belongs(entry)).collect();
        if !entries.is_empty() {
            let _ = write!(text, "\n{title}");
        }
        for entry in entries {
            let way = if several { format!(" by {}", entry.interface) } else { String::new() };
            let _ = write!(text, "\n  {}{way}: {}", entry.probe, outcome(entry));
        }
    }
    text
}

fn outcome(entry: &Entry) -> String {
    match &entry.outcome {
        Outcome::Crashed { status } => format!("crashed, {status}"),
        Outcome::Hung { seconds } => format!("still at work after {seconds} s"),
        Outcome::Asked(observation) => match observation {
            Observation::Refused { reason } => format!("refused, {}", first_line(reason)),
            Observation::Compiled { reason } => format!("compiles; not run: {}", first_line(reason)),
            Observation::Failed { reason } => format!("the run fails, {}", first_line(reason)),
            Observation::NotAsked { reason } => format!("not asked: {}", first_line(reason)),
            Observation::Ran { microseconds, comparison } => match (&entry.subject, comparison) {
                (Subject::Speed { flops, bytes }, _) => speed(*microseconds, *flops, *bytes),
                (_, None) => "runs".to_string(),
                (_, Some(compared)) => compared_with_simulator(compared),
            },
        },
    }
}

/// A time, and what it makes of floating-point operations and bytes.
fn speed(microseconds: f64, flops: u64, bytes: u64) -> String {
    let per_second = |count: u64| count as f64 / microseconds.max(f64::MIN_POSITIVE) / 1e3;
    let (gflops, gigabytes) = (per_second(flops), per_second(bytes));
    format!("{microseconds:.0} µs, {gflops:.1} GFLOP/s, {gigabytes:.2} GB/s")
}

fn compared_with_simulator(compared: &Comparison) -> String {
    let first = compared.first.as_ref().filter(|_| compared.different > 0);
    let first = first.map_or(String::new(), |first| {
        format!("; number {} is {}, in the simulator {}", first.position, first.engine, first.simulator)
    });
    let (different, elements) = (compared.different, compared.elements);
    format!("runs, {different} of {elements} numbers differ, by {:e} at most{first}", compared.largest)
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}
