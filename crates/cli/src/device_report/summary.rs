//! A device report for people.

use std::fmt::Write;

use anemone_ane::probes::{Expectation, Observation, Subject};

use super::{Entry, Outcome, Report};

/// Whether a probe belongs to a section.
type Belongs = fn(&Entry) -> bool;

/// The report, with every probe that did not come out as expected.
pub(super) fn text(report: &Report) -> String {
    let Report { system, chip, interface, probes, .. } = report;
    let count = |agrees| probes.iter().filter(|entry| entry.agrees == agrees).count();
    let mut text = format!(
        "the engine of {chip} by {interface}, on {system}: {} probes, {} as expected, {} not, {} without an expectation",
        probes.len(),
        count(Some(true)),
        count(Some(false)),
        count(None)
    );
    let sections: [(&str, Belongs); 4] = [
        ("not as expected", |entry| entry.agrees == Some(false)),
        ("perhaps refused", |entry| entry.expected == Expectation::PerhapsRefused && entry.agrees.is_none()),
        ("functions", |entry| entry.subject == Subject::Function && entry.agrees.is_none()),
        ("speed", |entry| entry.subject == Subject::Speed && entry.agrees.is_none()),
    ];
    for (title, belongs) in sections {
        let entries: Vec<&Entry> = probes.iter().filter(|entry| belongs(entry)).collect();
        if !entries.is_empty() {
            // Writing to a string does not fail.
            let _ = write!(text, "\n{title}");
        }
        for entry in entries {
            let _ = write!(text, "\n  {}: {}", entry.probe, outcome(entry));
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
            Observation::Ran { microseconds, .. } if entry.subject == Subject::Speed => {
                format!("{microseconds:.0} µs")
            }
            Observation::Ran { comparison: None, .. } => "runs".to_string(),
            Observation::Ran { comparison: Some(compared), .. } => {
                let first = compared.first.as_ref().filter(|_| compared.different > 0);
                let first = first.map_or(String::new(), |first| {
                    format!(
                        "; number {} is {}, in the simulator {}",
                        first.position, first.engine, first.simulator
                    )
                });
                let (different, elements) = (compared.different, compared.elements);
                format!(
                    "runs, {different} of {elements} numbers differ, by {:e} at most{first}",
                    compared.largest
                )
            }
        },
    }
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}
