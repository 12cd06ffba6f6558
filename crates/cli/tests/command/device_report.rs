//! `anemone device-report`, against the library that stands in for the system's.

use serde_json::{Value, json};

use super::engine::library;
use super::support::{Place, Run, command, finished};

fn report(place: &Place, arguments: &[&str]) -> Run {
    let mut command = command();
    command.args(["device-report", "--chip", "m4", "--out", &place.text("report.json")]).args(arguments);
    command.env("ANEMONE_E5RT", library()).env("ANEMONE_ANE_RECOVERY_MS", "0");
    command.env("ANEMONE_STAND_IN_RECOVERY_MS", "0");
    finished(command.output().unwrap())
}

fn written(place: &Place) -> Value {
    serde_json::from_str(&std::fs::read_to_string(place.path("report.json")).unwrap()).unwrap()
}

#[test]
fn every_row_of_the_arithmetic_is_as_the_simulator_has_it() {
    let place = Place::new();
    let run = report(&place, &["-q", "--only", "sum"]).ended(0);
    assert!(
        run.stdout.contains(" probes, 17 as expected, 0 not, 0 without an expectation\n"),
        "{}",
        run.stdout
    );
    let report = written(&place);
    assert_eq!((&report["chip"], &report["interface"]), (&json!("m4"), &json!("e5rt")));
    let probes = report["probes"].as_array().unwrap();
    let first = |name: &str| {
        let entry = probes.iter().find(|entry| entry["probe"] == name).unwrap();
        entry["outcome"]["asked"]["ran"]["comparison"]["first"]["engine"].clone()
    };
    // The table of what was measured.
    for (name, result) in [
        ("sum 32752", "32752"),
        ("sum 32768", "inf"),
        ("sum 16384+16376", "32768"),
        ("sum 16384+16384-16384-16384+1", "inf"),
        ("sum 2048+1", "2050"),
        ("sum -4096-2", "-4100"),
        ("sum 2^-18", "0"),
        ("sum bias-16384,16384+16384", "16384"),
        ("sum bias32,32736", "inf"),
    ] {
        assert_eq!(first(name), result, "{name}");
    }
}

#[test]
fn rules_are_broken_and_kept_as_the_stand_in_has_them() {
    let place = Place::new();
    let run = report(&place, &["--only", "r1"]).ended(0);
    assert!(
        run.stdout.contains(": 14 probes, 10 as expected, 2 not, 2 without an expectation\n"),
        "{}",
        run.stdout
    );
    assert!(run.stderr.contains(": r11_keeps\n"), "{}", run.stderr);
    // The stand-in does not know the op.
    assert!(run.stdout.contains("\n  r17_keeps: refused, "), "{}", run.stdout);
    let report = written(&place);
    let probe = |name: &str| {
        let probes = report["probes"].as_array().unwrap();
        probes.iter().find(|entry| entry["probe"] == name).unwrap().clone()
    };
    let refused = probe("r15_trips");
    assert_eq!((&refused["expected"], &refused["agrees"]), (&json!("refused"), &json!(true)));
    assert!(refused["outcome"]["asked"]["refused"]["reason"].is_string(), "{refused}");
    assert_eq!(probe("r14_keeps")["outcome"]["asked"]["ran"]["comparison"]["different"], 0);
}

#[test]
fn what_cannot_be_asked_is_said() {
    let place = Place::new();
    report(&place, &["--only", "q"]).failed(1, &["no probe's name begins so"]);
    report(&place, &["--time-limit", "0"]).failed(2, &["--time-limit"]);
    let mut without = command();
    without.arg("device-report").env_remove("ANEMONE_E5RT");
    if !cfg!(target_os = "macos") {
        finished(without.output().unwrap()).failed(1, &["needs a Mac"]);
    }
    let mut wrong = command();
    wrong.arg("device-report").env("ANEMONE_E5RT", place.path("nothing.so"));
    finished(wrong.output().unwrap()).failed(1, &["cannot be loaded"]);
}
