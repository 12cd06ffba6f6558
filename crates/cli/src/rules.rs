//! `anemone rules`: what is known of what the engine takes.

use anemone_ane::chips::{Chip, Chips};
use anemone_ane::rules::{ALL, Check, Rule};
use serde::Serialize;

use crate::common::{Failure, Output};

/// Flags of `rules`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only the rules of this chip: m1, m2, m3, m4, m5, m6 (default: all)
    #[arg(long, value_name = "CHIP", default_value = "all", hide_default_value = true)]
    chip: Chips,
}

#[derive(Serialize)]
struct Line {
    rule: String,
    what: &'static str,
    chips: Vec<&'static str>,
    interfaces: Vec<&'static str>,
    confidence: String,
    effect: String,
    sources: &'static str,
    instead: &'static str,
    /// Whether `check --chip` finds where it is broken.
    checked: bool,
    /// What keeps it otherwise.
    elsewhere: Option<&'static str>,
}

impl Line {
    fn of(rule: &Rule) -> Line {
        Line {
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
fn elsewhere(rule: &Rule) -> Option<&'static str> {
    match rule.check {
        Check::Elsewhere(what) => Some(what),
        _ => None,
    }
}

/// The rule for people, in a paragraph.
fn paragraph(rule: &Rule) -> String {
    let Rule { number, what, chips, interfaces, confidence, effect, sources, remedy, .. } = rule;
    let kept = elsewhere(rule).map_or(String::new(), |what| format!("\n     not in the text: {what}"));
    format!(
        "R{number:<3} {what}\n     chips {chips}; by {interfaces}; {effect}; {confidence}: {sources}\n     \
         instead: {remedy}{kept}"
    )
}

/// Lists the rules, in the order of their numbers.
///
/// # Errors
///
/// None: only the type of all subcommands has one.
pub(crate) fn run(args: &Args, output: &Output) -> Result<(), Failure> {
    for rule in ALL.iter().filter(|rule| !rule.chips.and(args.chip).is_empty()) {
        output.result(paragraph(rule), &Line::of(rule));
    }
    Ok(())
}
