//! Small programs that ask the engine itself: whether each rule holds, and whether it computes as the simulator does.
//!
//! A probe of a rule is a program that breaks it, or one that keeps it: the case files of `tests/rules`, in one file
//! here. A probe of the arithmetic is a row of the table of what was measured; of a function, it at many points. The last
//! take the time of a few programs. What came out is an [`Observation`]; [`observe`] makes it by an interface, and may
//! crash or hang with what it calls.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

mod arithmetic;
mod expect;
mod observe;
mod speed;

pub use expect::{Expectation, agrees, expectation};
pub use observe::{Comparison, Difference, Observation, observe};

/// What a probe is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Subject {
    /// A rule, by its number: a program that breaks it, or one that keeps it.
    Rule {
        /// The number.
        number: u8,
        /// Whether the program breaks it.
        breaks: bool,
    },
    /// A row of the table of arithmetic.
    Arithmetic,
    /// A function of one number.
    Function,
    /// How long a program takes.
    Speed {
        /// The floating-point operations of a run.
        flops: u64,
        /// The bytes of its inputs, outputs and weights.
        bytes: u64,
    },
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Subject::Rule { number, breaks: true } => write!(f, "R{number} broken"),
            Subject::Rule { number, breaks: false } => write!(f, "R{number} kept"),
            Subject::Arithmetic => f.write_str("arithmetic"),
            Subject::Function => f.write_str("function"),
            Subject::Speed { .. } => f.write_str("speed"),
        }
    }
}

/// A program to be compiled, and run where it compiles.
#[derive(Debug, Clone)]
pub struct Probe {
    /// Its name, unlike any other's: `r01_trips`.
    pub name: String,
    /// What it is about.
    pub subject: Subject,
    /// The program: one function, `main`.
    pub text: Cow<'static, str>,
    /// What the inputs hold, again and again as far as each goes; without it, small numbers of both signs.
    pub inputs: Vec<Vec<f64>>,
    /// How often it is run, to take the time; once where that does not matter.
    pub runs: u32,
}

impl Probe {
    fn new(name: impl Into<String>, subject: Subject, text: impl Into<Cow<'static, str>>) -> Probe {
        Probe { name: name.into(), subject, text: text.into(), inputs: Vec::new(), runs: 1 }
    }
}

/// The case files of rules: each after a line `=== NAME`. A test keeps it equal to `tests/rules`; only the one of
/// thousands of ops, which would be longer than all others together, is made here ([`too_many_ops`]).
const RULES: &str = include_str!("probes/rules.txt");

/// The name of a case file, `r01_trips`, as a subject.
fn subject(name: &str) -> Option<Subject> {
    let (number, what) = name.strip_prefix('r')?.split_once('_')?;
    let breaks = match what {
        "trips" => true,
        "keeps" => false,
        _ => return None,
    };
    Some(Subject::Rule { number: number.parse().ok()?, breaks })
}

fn rules() -> impl Iterator<Item = Probe> {
    let written = RULES.split("=== ").filter_map(|part| {
        let (name, text) = part.split_once('\n')?;
        Some(Probe::new(name, subject(name)?, text))
    });
    written.chain([too_many_ops()])
}

/// A program of more ops than load (R33), one after the other, which it gives the last of.
fn too_many_ops() -> Probe {
    const COUNT: usize = 3300;
    let ty = "tensor<fp16, [1, 32]>";
    let ops = (0..COUNT).map(|op| {
        let from = if op == 0 { "x".to_string() } else { format!("x{op}") };
        let to = if op + 1 == COUNT { "y".to_string() } else { format!("x{}", op + 1) };
        format!("{ty} {to} = tanh(x = {from})[name = tensor<string, []>(\"{to}\")]")
    });
    let text = arithmetic::program(&format!("{ty} x"), &ops.collect::<Vec<String>>());
    Probe::new("r33_trips", Subject::Rule { number: 33, breaks: true }, text)
}

/// Every probe: of the arithmetic, of functions, of rules, of speed.
pub fn all() -> Vec<Probe> {
    arithmetic::rows()
        .into_iter()
        .chain(arithmetic::functions())
        .chain(rules())
        .chain(speed::probes())
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use anemone_mil::verify::verify_known;

    use super::*;
    use crate::rules;

    #[test]
    fn every_rule_that_is_checked_has_a_probe_that_breaks_and_one_that_keeps_it() {
        let all = all();
        for rule in rules::ALL.iter().filter(|rule| rule.is_static()) {
            for breaks in [true, false] {
                let wanted = Subject::Rule { number: rule.number, breaks };
                let mut probes = all.iter().filter(|probe| probe.subject == wanted);
                assert!(probes.next().is_some(), "{wanted}");
            }
        }
    }

    #[test]
    fn probes_are_sound_and_their_names_differ() {
        let mut names = HashSet::new();
        for probe in all() {
            assert!(names.insert(probe.name.clone()), "{}", probe.name);
            let parsed = anemone_mil::text::parse(&probe.text).map_err(|errors| errors.to_string());
            let verified =
                parsed.and_then(|parsed| verify_known(parsed.program).map_err(|errors| errors.to_string()));
            assert!(verified.is_ok(), "{}: {verified:?}", probe.name);
        }
    }
}
