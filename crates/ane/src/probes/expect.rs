//! What the rules lead one to expect of a probe.

use anemone_mil::error::Severity;
use anemone_mil::text;
use anemone_mil::verify::verify_known;
use serde::Serialize;

use super::{Observation, Probe, Subject};
use crate::chips::Chip;
use crate::rules::{self, Effect};

/// What is expected of a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Expectation {
    /// It is refused: so it was measured.
    Refused,
    /// It may be refused: so it is reported, or sources disagree.
    PerhapsRefused,
    /// It compiles.
    Compiles,
}

/// What a chip's rules lead one to expect of a probe.
pub fn expectation(probe: &Probe, chip: Chip) -> Expectation {
    let verified = text::parse(&probe.text).and_then(|parsed| verify_known(parsed.program));
    let Ok(verified) = verified else { return Expectation::PerhapsRefused };
    let findings = rules::check(&verified, chip.into());
    let refusing = findings.iter().filter(|finding| {
        let direct = finding.rule.interfaces.e5rt || finding.rule.interfaces.in_memory;
        direct && matches!(finding.rule.effect, Effect::Refused | Effect::OnCpu)
    });
    let severities: Vec<Severity> = refusing.map(rules::Finding::severity).collect();
    match severities.as_slice() {
        [] => Expectation::Compiles,
        some if some.contains(&Severity::Error) => Expectation::Refused,
        _ => Expectation::PerhapsRefused,
    }
}

/// Whether what came of a probe is as expected; `None` where nothing certain was. Of the arithmetic, every number is
/// expected as the simulator gives it.
pub fn agrees(probe: &Probe, expected: Expectation, observed: &Observation) -> Option<bool> {
    let arithmetic = probe.subject == Subject::Arithmetic;
    match (expected, observed) {
        (_, Observation::Ran { comparison, .. }) if arithmetic && expected != Expectation::Refused => {
            comparison.as_ref().map(|comparison| comparison.different == 0)
        }
        (_, Observation::NotAsked { .. }) | (Expectation::PerhapsRefused, _) => None,
        (Expectation::Refused, observed) => Some(matches!(observed, Observation::Refused { .. })),
        (Expectation::Compiles, Observation::Refused { .. } | Observation::Failed { .. }) => Some(false),
        (Expectation::Compiles, Observation::Compiled { .. }) => Some(true),
        (Expectation::Compiles, Observation::Ran { .. }) => match probe.subject {
            // Measured, and looked at by people.
            Subject::Function | Subject::Speed { .. } => None,
            Subject::Arithmetic | Subject::Rule { .. } => Some(true),
        },
    }
}
