//! Programs as a chip takes them.

use std::collections::BTreeSet;
use std::error::Error;

use anemone_ane::chips::Chips;
use anemone_ane::legalize::legalize;
use anemone_mil::error::Severity;
use anemone_mil::verify::Verified;
use thiserror::Error;

use super::Output;

/// A program that no pass makes legal.
#[derive(Debug, Error)]
#[error("no pass brings it to keep {rules}: {first}")]
struct Illegal {
    /// The rules, by their numbers.
    rules: String,
    /// What the first of them says of it.
    first: String,
}

/// What the layers' programs are rewritten for, in messages and in checkpoints: `for m4`.
pub(crate) fn purpose(chips: Chips) -> String {
    if chips == Chips::ALL { "for every chip".to_string() } else { format!("for {chips}") }
}

/// A layer's program as these chips take it; what changed, and which doubtful rules it does not keep, is told where details
/// are wanted.
///
/// # Errors
///
/// When legalisation fails, or a rule that was measured is not kept after it.
pub(crate) fn legal_layer(
    program: &Verified,
    chips: Chips,
    output: &Output,
) -> Result<Verified, Box<dyn Error + Send + Sync>> {
    let purpose = purpose(chips);
    let legalized = legalize(program, chips, None)?;
    for change in &legalized.rewritten.changes {
        output.detail(format_args!("layer {purpose}: {change}"));
    }
    let (broken, doubtful): (Vec<_>, Vec<_>) =
        legalized.findings.iter().partition(|finding| finding.severity() == Severity::Error);
    for finding in doubtful {
        output.detail(format_args!("layer {purpose}, left: {}: {}", finding.rule, finding.message));
    }
    if let Some(first) = broken.first() {
        let rules: BTreeSet<String> = broken.iter().map(|finding| finding.rule.to_string()).collect();
        let rules = rules.into_iter().collect::<Vec<_>>().join(", ");
        return Err(Box::new(Illegal { rules, first: first.message.clone() }));
    }
    Ok(legalized.rewritten.program)
}
