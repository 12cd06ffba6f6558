//! The rules: what each chip refuses, gets wrong, or leaves to the CPU, numbered, with sources.
//!
//! A rule is a row of [`ALL`], and, where a program's text can break it, a function beside the others of its kind. Only
//! what the text says for certain is reported: a dimension `?` breaks no limit.

use std::fmt;

use anemone_mil::error::{Place, Severity};
use anemone_mil::verify::Verified;

use crate::chips::Chips;

mod context;
mod limits;
mod numbers;
mod parameters;
mod report;
mod structure;
mod table;
mod types;
mod unsupported;

pub use context::{Report, Scene, Site};
pub use report::as_errors;
pub(crate) use structure::does_nothing_but_move;
pub use table::ALL;

/// How far a rule is to be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Confidence {
    /// A table or a script of a measurement is public.
    Measured,
    /// One project says so.
    Reported,
    /// Sources disagree.
    Contested,
}

impl fmt::Display for Confidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Confidence::Measured => "measured",
            Confidence::Reported => "reported",
            Confidence::Contested => "contested",
        })
    }
}

/// What happens on the chip where a rule is not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Effect {
    /// The program does not compile or load.
    Refused,
    /// It runs, and its results are wrong, without a word.
    SilentlyWrong,
    /// The op, or the program, runs on the CPU instead.
    OnCpu,
    /// It is slow.
    Slow,
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Effect::Refused => "refused",
            Effect::SilentlyWrong => "silently wrong",
            Effect::OnCpu => "left to the CPU",
            Effect::Slow => "slow",
        })
    }
}

/// The ways in to the engine that a rule is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Interfaces {
    /// The C interface, e5rt.
    pub e5rt: bool,
    /// The private in-memory Objective-C interface.
    pub in_memory: bool,
    /// Core ML.
    pub core_ml: bool,
}

impl Interfaces {
    /// Every way in.
    pub const ALL: Interfaces = Interfaces { e5rt: true, in_memory: true, core_ml: true };
    /// The compiler without Core ML around it: e5rt and in memory.
    pub const DIRECT: Interfaces = Interfaces { core_ml: false, ..Interfaces::ALL };
    /// In memory alone.
    pub const IN_MEMORY: Interfaces = Interfaces { e5rt: false, ..Interfaces::DIRECT };
}

impl Interfaces {
    /// Their names.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        let all = [(self.e5rt, "e5rt"), (self.in_memory, "in-memory"), (self.core_ml, "core-ml")];
        all.into_iter().filter(|(is, _)| *is).map(|(_, name)| name)
    }
}

impl fmt::Display for Interfaces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.names().collect::<Vec<&str>>().join(", "))
    }
}

/// How a rule is checked.
#[derive(Debug, Clone, Copy)]
pub enum Check {
    /// Op by op; constants are no ops here.
    Ops(fn(&Site<'_>, &mut Report<'_>)),
    /// Function by function.
    Functions(fn(&Scene<'_>, &mut Report<'_>)),
    /// Not by the program's text: what keeps the rule instead.
    Elsewhere(&'static str),
}

/// A rule.
#[derive(Debug)]
pub struct Rule {
    /// Its number: 17 for R17.
    pub number: u8,
    /// What must hold, in a sentence without its full stop.
    pub what: &'static str,
    /// The chips that it is about.
    pub chips: Chips,
    /// The ways in that it is about.
    pub interfaces: Interfaces,
    /// How far to trust it.
    pub confidence: Confidence,
    /// What happens otherwise.
    pub effect: Effect,
    /// Who published it.
    pub sources: &'static str,
    /// What to write instead.
    pub remedy: &'static str,
    /// How it is checked.
    pub check: Check,
}

impl Rule {
    /// Whether it is checked on a program's text.
    pub fn is_static(&self) -> bool {
        !matches!(self.check, Check::Elsewhere(_))
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "R{}", self.number)
    }
}

/// The rule with this number.
pub fn find(number: u8) -> Option<&'static Rule> {
    ALL.iter().find(|rule| rule.number == number)
}

/// A place where a program does not keep a rule.
#[derive(Debug, Clone)]
pub struct Finding {
    /// The rule.
    pub rule: &'static Rule,
    /// The chips, of those asked for, on which it is not kept.
    pub chips: Chips,
    /// Where.
    pub place: Place,
    /// What is found there, in a sentence without its full stop.
    pub message: String,
    /// What to write instead, if that is more than the rule's remedy.
    pub help: Option<String>,
    /// Whether the rule is broken only for some values, which the text does not say.
    pub by_values: bool,
}

impl Finding {
    /// An error where a measured rule is broken whatever the values; a warning otherwise.
    pub fn severity(&self) -> Severity {
        match self.rule.confidence {
            Confidence::Measured if !self.by_values => Severity::Error,
            _ => Severity::Warning,
        }
    }

    /// What to write instead.
    pub fn help(&self) -> &str {
        self.help.as_deref().unwrap_or(self.rule.remedy)
    }

    /// What happens there, and who says so: "refused on m1, m2 (measured, F)".
    pub fn consequence(&self) -> String {
        let Rule { confidence, effect, sources, .. } = self.rule;
        let chips = if self.chips == Chips::ALL { "all chips".to_string() } else { self.chips.to_string() };
        let values = if self.by_values { ", for some values," } else { "" };
        let interfaces = match self.rule.interfaces {
            Interfaces::ALL => "",
            Interfaces::IN_MEMORY => " through the in-memory interface",
            _ => " without Core ML",
        };
        format!("{effect}{values} on {chips}{interfaces} ({confidence}: {sources})")
    }
}

/// The places where a program does not keep a rule of one of these chips, in the program's order. What is found at a
/// place is one finding with all its chips.
pub fn check(program: &Verified, chips: Chips) -> Vec<Finding> {
    let mut findings = Vec::new();
    for function in 0..program.program().functions.len() {
        context::check_function(program, function, chips, &mut findings);
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_numbered_from_1_on_without_a_gap() {
        for (index, rule) in ALL.iter().enumerate() {
            assert_eq!(usize::from(rule.number), index + 1, "{}", rule.what);
            assert!(!rule.chips.is_empty() && !rule.sources.is_empty() && !rule.remedy.is_empty(), "{rule}");
            assert!(!rule.what.ends_with('.') && !rule.remedy.ends_with('.'), "{rule}");
        }
        assert_eq!(find(17).map(|rule| rule.number), Some(17));
        assert!(find(0).is_none());
    }
}
