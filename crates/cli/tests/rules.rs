//! Runs `tests/rules`: programs that break one of the engine's rules, and programs that keep it.
//!
//! `rNN_trips.mil` and `rNN_keeps.mil` are there for every rule that is checked on a program's text; beside the former
//! stands what is found on all chips. Any other program has its findings beside it.

#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::fs;
use std::path::Path;

use anemone_ane::chips::Chips;
use anemone_ane::rules::{self, Finding};
use anemone_mil::error::{Errors, Spans};
use anemone_mil::text;
use anemone_mil::verify::verify_known;

/// The findings in a program on all chips, and what a user reads of them.
fn findings(path: &Path) -> Result<(Vec<Finding>, String), String> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let source = fs::read_to_string(path).map_err(|error| format!("{name}: {error}"))?;
    let render = |errors: &Errors, spans: &Spans| errors.render(&name, &source, spans);
    let parsed = text::parse(&source).map_err(|errors| render(&errors, &Spans::default()))?;
    // Some rules are about ops that are not known otherwise.
    let verified = verify_known(parsed.program).map_err(|errors| render(&errors, &parsed.spans))?;
    let findings = rules::check(&verified, Chips::ALL);
    let (errors, warnings) = rules::as_errors(&findings);
    let found = [errors, warnings].into_iter().filter(|found| !found.is_empty());
    let rendered: Vec<String> = found.map(|found| render(&found, &parsed.spans) + "\n").collect();
    Ok((findings, rendered.join("\n")))
}

/// The rule that a case is about, and whether it breaks it.
fn rule_of(path: &Path) -> Option<(u8, bool)> {
    let (number, what) = path.file_stem()?.to_str()?.strip_prefix('r')?.split_once('_')?;
    Some((
        number.parse().ok()?,
        match what {
            "trips" => true,
            "keeps" => false,
            _ => return None,
        },
    ))
}

#[test]
fn programs_keep_and_break_the_rules_that_they_are_named_after() {
    common::run_cases(&common::data_dir("rules"), "mil", 2 * 40, |path| {
        let (findings, rendered) = findings(path)?;
        let name = path.display();
        match rule_of(path) {
            Some((number, trips))
                if trips != findings.iter().any(|finding| finding.rule.number == number) =>
            {
                let is = if trips { "kept" } else { "broken" };
                return Err(format!("{name}: R{number} is {is}\n{rendered}"));
            }
            Some((_, false)) => return Ok(()),
            _ => {}
        }
        common::expect_file(&path.with_extension("found"), &rendered)
    });
}

#[test]
fn every_rule_that_is_checked_has_a_case_that_trips_and_one_that_keeps_it() {
    let directory = common::data_dir("rules");
    for rule in rules::ALL {
        for what in ["trips", "keeps"] {
            let name = format!("r{:02}_{what}.mil", rule.number);
            assert_eq!(directory.join(&name).exists(), rule.is_static(), "{name}: {}", rule.what);
        }
    }
}

#[test]
fn every_expectation_has_its_case() {
    for path in common::files_of(&common::data_dir("rules"), "found") {
        assert!(path.with_extension("mil").exists(), "{} belongs to no case", path.display());
    }
}
