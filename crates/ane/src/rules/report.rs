//! Findings as errors and warnings with a place in a text.

use std::collections::HashMap;

use anemone_mil::error::{Error, ErrorKind, Errors, Severity};

use super::Finding;
use crate::chips::Chips;

/// The findings that are errors and those that are warnings, as reading and verifying report theirs. Of those that say
/// the same in several places, only the first is listed; its label says in how many more.
pub fn as_errors(findings: &[Finding]) -> (Errors, Errors) {
    type Key<'a> = (u8, Chips, bool, &'a str);
    let mut firsts: Vec<&Finding> = Vec::new();
    let mut more: HashMap<Key<'_>, usize> = HashMap::new();
    fn key(finding: &Finding) -> Key<'_> {
        (finding.rule.number, finding.chips, finding.by_values, &finding.message)
    }
    for finding in findings {
        more.entry(key(finding)).and_modify(|more| *more += 1).or_insert_with(|| {
            firsts.push(finding);
            0
        });
    }
    let (mut errors, mut warnings) = (Errors::default(), Errors::default());
    for finding in firsts {
        let label = match more[&key(finding)] {
            0 => finding.consequence(),
            1 => format!("{}; likewise in 1 more place", finding.consequence()),
            more => format!("{}; likewise in {more} more places", finding.consequence()),
        };
        let kind = ErrorKind::Numbered(finding.rule.number);
        let error = Error::in_place(kind, finding.place, &finding.message, label).with_help(finding.help());
        match finding.severity() {
            Severity::Error => errors.push(error),
            Severity::Warning => warnings.push(error.as_warning()),
        }
    }
    (errors, warnings)
}
