//! The engine's rules as they are listed.

use anemone_ane::chips::{Chip, Chips};
use anemone_ane::rules::{ALL, Check, Rule};
use serde::Serialize;

/// A rule, as it is listed for programs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// Its number, such as `R17`.
    pub rule: String,
    /// What must hold.
    pub what: &'static str,
    /// The chips that it is about.
    pub chips: Vec<&'static str>,
    /// The ways in to the engine that it is about.
    pub interfaces: Vec<&'static str>,
    /// How far to trust it.
    pub confidence: String,
    /// What happens otherwise.
    pub effect: String,
    /// Who published it.
    pub sources: &'static str,
    /// What to write instead.
    pub instead: &'static str,
    /// Whether checking a program for a chip finds where it is broken.
    pub checked: bool,
    /// What keeps it otherwise.
    pub elsewhere: Option<&'static str>,
}

impl From<&Rule> for Entry {
    fn from(rule: &Rule) -> Entry {
        Entry {
            rule: rule.to_string(),
            what: rule.what,
            chips: rule.chips.iter().map(Chip::name).collect(),
            interfaces: rule.interfaces.names().collect(),
            confidence: rule.confidence.to_string(),
            effect: rule.effect.to_string(),
            sources: rule.sources,
            instead: rule.remedy,
            checked: rule.is_static(),
            elsewhere: elsewhere(rule),
        }
    }
}

/// What keeps a rule that is not about a program's text.
pub fn elsewhere(rule: &Rule) -> Option<&'static str> {
    match rule.check {
        Check::Elsewhere(what) => Some(what),
        _ => None,
    }
}

/// The rules of some chips, in the order of their numbers.
pub fn of(chips: Chips) -> impl Iterator<Item = &'static Rule> {
    ALL.iter().filter(move |rule| !rule.chips.and(chips).is_empty())
}

/// The same, as they are listed.
pub fn entries(chips: Chips) -> impl Iterator<Item = Entry> {
    of(chips).map(Entry::from)
}
