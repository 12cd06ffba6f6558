//! Runs `tests/rules` and `tests/ranges`: programs that break one of the engine's rules, and programs that keep it.
//!
//! `rNN_trips.mil` and `rNN_keeps.mil` are there for every rule that is checked on a program's text; beside the former
//! stands what is found on all chips. Any other program has its findings beside it.

#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::fs;
use std::path::Path;

use anemone_ane::chips::Chips;
use anemone_ane::ranges::{self, Assumptions, NamedRange, RangeError};
use anemone_ane::rules::{self, Finding};
use anemone_mil::error::{Errors, Spans};
use anemone_mil::text;
use anemone_mil::verify::verify_known;

/// The findings in a program on all chips, and what a user reads of them. With ranges of its inputs, those that bounds on
/// its values tell: the others are left out.
fn findings(path: &Path, ranged: bool) -> Result<(Vec<Finding>, String), String> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let source = fs::read_to_string(path).map_err(|error| format!("{name}: {error}"))?;
    let render = |errors: &Errors, spans: &Spans| errors.render(&name, &source, spans);
    let parsed = text::parse(&source).map_err(|errors| render(&errors, &Spans::default()))?;
    // Some rules are about ops that are not known otherwise.
    let verified = verify_known(parsed.program).map_err(|errors| render(&errors, &parsed.spans))?;
    let mut findings = rules::check(&verified, Chips::ALL);
    if ranged {
        let assumptions = Assumptions::new(&stated(&source)?).map_err(|error| error.to_string())?;
        assumptions.verify(verified.program()).map_err(|error| error.to_string())?;
        findings = ranges::refine(findings, &verified, Chips::ALL, &assumptions, None);
        findings.retain(|finding| finding.by_values);
    }
    let (errors, warnings) = rules::as_errors(&findings);
    let found = [errors, warnings].into_iter().filter(|found| !found.is_empty());
    let rendered: Vec<String> = found.map(|found| render(&found, &parsed.spans) + "\n").collect();
    Ok((findings, rendered.join("\n")))
}

/// The ranges that a case states in its first lines: `// range: x=-1..1`.
fn stated(source: &str) -> Result<Vec<NamedRange>, String> {
    let lines = source.lines().map_while(|line| line.strip_prefix("// "));
    let ranges = lines.filter_map(|line| line.strip_prefix("range: "));
    ranges.map(|range| range.parse().map_err(|error: RangeError| error.to_string())).collect()
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
        let (findings, rendered) = findings(path, false)?;
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

/// `tests/ranges`: what bounds on values tell. A case that is named after a rule breaks it, or with `keeps` keeps it.
#[test]
fn bounds_tell_where_numbers_may_go_wrong_and_by_which_input() {
    common::run_cases(&common::data_dir("ranges"), "mil", 20, |path| {
        let (findings, rendered) = findings(path, true)?;
        let broken = |number| findings.iter().any(|finding| finding.rule.number == number);
        match rule_of(path) {
            Some((number, trips)) if trips != broken(number) => Err(format!("R{number}:\n{rendered}")),
            _ => common::expect_file(&path.with_extension("found"), &rendered),
        }
    });
}

#[test]
fn every_rule_about_values_has_a_case_that_trips_and_one_that_keeps_it() {
    let directory = common::data_dir("ranges");
    for number in [29, 37, 41, 46, 52, 53, 54, 55] {
        for what in ["trips", "keeps"] {
            let name = format!("r{number}_{what}.mil");
            assert!(directory.join(&name).exists(), "{name}");
        }
    }
}

#[test]
fn every_expectation_has_its_case() {
    for directory in ["rules", "ranges"] {
        for path in common::files_of(&common::data_dir(directory), "found") {
            assert!(path.with_extension("mil").exists(), "{} belongs to no case", path.display());
        }
    }
}

/// `anemone device-report` has the cases with it: all but the one that would be larger than all others together.
#[test]
fn the_probes_of_rules_are_their_cases() {
    let cases = common::files_of(&common::data_dir("rules"), "mil");
    let mut all = String::new();
    for path in cases.iter().filter(|path| rule_of(path).is_some_and(|rule| rule != (33, true))) {
        let name = path.file_stem().unwrap().to_string_lossy();
        all += &format!("=== {name}\n{}", fs::read_to_string(path).unwrap());
    }
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ane/src/probes/rules.txt");
    common::expect_file(&file, &all).unwrap();
}
