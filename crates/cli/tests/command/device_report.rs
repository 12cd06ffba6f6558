//! `anemone device-report`, against the library that stands in for the system's.

use serde_json::{Value, json};

use super::engine::library;
use super::support::{Place, Run, command, finished};

fn report(place: &Place, arguments: &[&str]) -> Run {
    with(place, arguments, &[])
}

fn with(place: &Place, arguments: &[&str], variables: &[(&str, &str)]) -> Run {
    let mut command = command();
    command.args(["device-report", "--chip", "m4", "--out", &place.text("report.json")]).args(arguments);
    command.env("ANEMONE_E5RT", library()).env("ANEMONE_ANE_RECOVERY_MS", "0");
    command.env("ANEMONE_STAND_IN_RECOVERY_MS", "0").envs(variables.iter().copied());
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
    assert_eq!(report["chip"], "m4");
    assert_eq!(report["interfaces"][0], json!({"interface": "e5rt", "unavailable": null}));
    if !cfg!(target_os = "macos") {
        assert!(run.stdout.contains("\nthe interface in-memory is not available: "), "{}", run.stdout);
        let in_memory = &report["interfaces"][1];
        assert!(in_memory["unavailable"].as_str().unwrap().contains("needs a Mac"), "{in_memory}");
    }
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
        run.stdout.contains(": 14 probes, 12 as expected, 0 not, 2 without an expectation\n"),
        "{}",
        run.stdout
    );
    assert!(run.stderr.contains(": r11_keeps by e5rt\n"), "{}", run.stderr);
    let report = written(&place);
    let probe = |name: &str| {
        let probes = report["probes"].as_array().unwrap();
        probes.iter().find(|entry| entry["probe"] == name).unwrap().clone()
    };
    let refused = probe("r15_trips");
    assert_eq!((&refused["expected"], &refused["agrees"]), (&json!("refused"), &json!(true)));
    assert!(refused["outcome"]["asked"]["refused"]["reason"].is_string(), "{refused}");
    assert_eq!(probe("r17_keeps")["agrees"], json!(true));
    assert_eq!(probe("r14_keeps")["outcome"]["asked"]["ran"]["comparison"]["different"], 0);
}

/// The compiler ends the process at an `add`, and does not come back from a `sub`.
#[test]
fn a_crash_or_a_hang_of_one_probe_does_not_lose_the_others() {
    let place = Place::new();
    let asked = ["-q", "--interface", "e5rt", "--time-limit", "2"];
    let only = ["--only", "add 2048", "--only", "sub", "--only", "mul 256"];
    let variables = [("ANEMONE_STAND_IN_CRASH", " add("), ("ANEMONE_STAND_IN_HANG", " sub(")];
    let run = with(&place, &[&asked[..], &only].concat(), &variables).ended(0);
    assert!(run.stdout.contains(": 3 probes, 1 as expected, 2 not, 0 without an expectation\n"), "{run:#?}");
    assert!(run.stdout.contains("\n  sub 2048-4095: still at work after 2 s"), "{run:#?}");
    let report = written(&place);
    let outcomes: Vec<&Value> =
        report["probes"].as_array().unwrap().iter().map(|entry| &entry["outcome"]).collect();
    assert!(outcomes[0]["crashed"]["status"].is_string(), "{report}");
    assert_eq!(outcomes[1], &json!({"hung": {"seconds": 2}}));
    assert_eq!(outcomes[2]["asked"]["ran"]["comparison"]["different"], 0, "{report}");
}

#[test]
fn the_speed_of_a_convolution_and_of_a_matrix_product_are_measured() {
    let place = Place::new();
    let run = report(&place, &["-q", "--only", "products: matmul by", "--only", "products: conv"]).ended(0);
    for name in ["products: matmul by a constant", "products: conv by a constant"] {
        let line = run.stdout.lines().find(|line| line.contains(name)).unwrap_or_default();
        assert!(line.contains(" µs, ") && line.contains(" GFLOP/s, ") && line.ends_with(" GB/s"), "{run:#?}");
    }
    let report = written(&place);
    assert_eq!(report["probes"][0]["subject"]["speed"]["flops"], 2 * 256 * 768 * 2048);
}

#[test]
fn too_many_ops_are_asked_for() {
    let place = Place::new();
    let run = report(&place, &["-q", "--only", "r33"]).ended(0);
    assert!(run.stdout.contains(": 2 probes, 2 as expected, 0 not, "), "{run:#?}");
}

#[test]
fn what_cannot_be_asked_is_said() {
    let place = Place::new();
    let run = report(&place, &["--list", "--only", "r33"]).ended(0);
    assert_eq!(run.stdout, "r33_keeps\nr33_trips\n");
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
