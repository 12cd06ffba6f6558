//! `anemone rules`: what is known of what the engine takes.

use anemone_ane::chips::Chips;
use anemone_ane::rules::Rule;
use anemone_model::rules::{self, Entry, elsewhere};

use crate::common::{Failure, Output};

/// Flags of `rules`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only the rules of this chip: m1, m2, m3, m4, m5, m6 (default: all)
    #[arg(long, value_name = "CHIP", default_value = "all", hide_default_value = true)]
    chip: Chips,
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
    for rule in rules::of(args.chip) {
        output.result(paragraph(rule), &Entry::from(rule));
    }
    Ok(())
}
