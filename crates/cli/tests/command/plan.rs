//! `anemone plan`, and `anemone emit --chip`, which writes what it says.

use std::collections::BTreeSet;
use std::fs;

use super::support::{Place, Run, anemone, array};

fn plan(vocab: &str, dim: &str, seq: &str, chip: &str, flags: &[&str]) -> Run {
    let sizes = ["plan", "head", "--vocab", vocab, "--dim", dim, "--seq", seq, "--chip", chip];
    anemone([&sizes[..], flags].concat())
}

fn emit(place: &Place, sizes: [&str; 3], flags: &[&str]) -> Run {
    let [vocab, dim, seq] = sizes;
    let out = place.text("head");
    let sizes = ["emit", "head", "--out", &out, "--vocab", vocab, "--dim", dim, "--seq", seq];
    anemone([&sizes[..], flags].concat())
}

#[test]
fn both_forms_are_planned_with_programs_totals_and_reasons() {
    let text = plan("32000", "768", "250", "m1", &[]).ended(0).stdout;
    for words in [
        "head on m1, with logits: V = 32000, D = 768, S = 250",
        "head on m1, fused: V = 32000, D = 768, S = 250",
        "classifier_forward ",
        "fused_weight_gradient ",
        "rmsnorm_backward ",
        "a step: 6 programs of at most 119, 10 dispatches",
        "250 positions are filled up to 256, a multiple of 16 (R11).",
        "The vocabulary is cut in 2 tiles",
        "Weights are inputs",
        "(R4)",
        "(R54)",
        "Times are by the roofline that was fitted on an M1.",
    ] {
        assert!(text.contains(words), "{words:?} is not in {text}");
    }
    let lines = plan("32000", "768", "256", "m4", &["--json", "--weights", "baked"]).ended(0).json();
    assert_eq!(lines.iter().map(|plan| &plan["form"]).collect::<Vec<_>>(), ["logits", "fused"]);
    for plan in lines {
        assert_eq!((&plan["chip"], &plan["weights"]), (&"m4".into(), &"baked".into()));
        let roles: Vec<_> = plan["programs"].as_array().unwrap().iter().map(|p| &p["role"]).collect();
        assert_eq!((roles[0], roles[roles.len() - 1]), (&"final_rmsnorm".into(), &"rmsnorm_backward".into()));
    }
}

/// Both commands plan, and say the same of what cannot be planned; nothing is written then.
#[test]
fn what_cannot_be_planned_is_refused_in_one_paragraph() {
    for (sizes, chip, flags, status, words) in [
        (["0", "8", "16"], "m4", &[][..], 1, &["`vocab` is 0"][..]),
        (["50", "0", "16"], "m4", &[], 1, &["`dim` is 0"]),
        (["50", "8", "0"], "m4", &[], 1, &["`seq` is 0"]),
        (["99999999999", "8", "16"], "m4", &[], 1, &["`vocab` is 99999999999"]),
        (["many", "8", "16"], "m4", &[], 2, &["--vocab", "must be a whole number in 2..="]),
        (["50", "8", "-16"], "m4", &[], 2, &["--seq", "must be a whole number in 1..="]),
        (
            ["64", "16385", "16"],
            "m1",
            &[],
            1,
            &["fits m1", "the model dimension is 16385", "R1 allows 16384"],
        ),
        (["64", "32000", "16"], "m4", &[], 1, &["the model dimension is 32000", "R4 allows 31999"]),
        (["64", "8", "16385"], "m3", &[], 1, &["the number of positions is 16400", "R1 allows 16384"]),
        (["64", "8", "32769"], "m6", &[], 1, &["the number of positions is 32784", "R3 allows 32768"]),
        (
            ["3200000", "8", "16"],
            "m3",
            &["--weights", "baked"],
            1,
            &["fits m3 with baked weights", "at most 55 (R8, R9, R48)", "give the weights as inputs"],
        ),
        (["50", "8", "16"], "m7", &[], 2, &["`m7` is no chip; there are m1, m2, m3, m4, m5, m6"]),
        (["50", "8", "16"], "m4 pro", &[], 2, &["`m4 pro` is no chip"]),
        (["50", "8", "16"], "m4", &["--weights", "free"], 2, &["--weights", "inputs", "baked"]),
    ] {
        let [vocab, dim, seq] = sizes;
        let planned = plan(vocab, dim, seq, chip, flags).failed(status, words);
        let place = Place::new();
        let emitted = emit(&place, sizes, &[&["--chip", chip], flags].concat()).failed(status, words);
        let reason = |run: &Run| run.stderr.split("\n\n").next().map(str::trim_end).map(str::to_string);
        assert_eq!(reason(&planned), reason(&emitted));
        assert_eq!((planned.stdout.as_str(), emitted.stdout.as_str()), ("", ""));
        assert!(!place.path("head").exists(), "{sizes:?} on {chip}");
    }
    anemone(["plan"]).ended(2);
    anemone(["plan", "tail"]).failed(2, &["tail"]);
    anemone(["plan", "head"]).failed(2, &["--vocab", "--dim", "--seq", "--chip"]);
}

/// The files are those of the plan, they keep the chip's rules, and they are printed as `fmt` prints.
#[test]
fn the_programs_of_a_plan_are_written_and_keep_the_rules() {
    for (chip, form, weights) in [
        ("m1", "logits", "inputs"),
        ("m4", "fused", "inputs"),
        ("m4", "logits", "baked"),
        ("m5", "fused", "baked"),
    ] {
        let place = Place::new();
        let mut flags = vec!["--chip", chip, "--weights", weights];
        let planned = plan("20000", "8", "16", chip, &["--json", "--weights", weights]).ended(0).json();
        if form == "fused" {
            flags.push("--fused");
        }
        emit(&place, ["20000", "8", "16"], &flags).ended(0);
        let planned = planned.iter().find(|plan| plan["form"] == form).unwrap();
        let names = planned["programs"].as_array().unwrap().iter().map(|p| p["name"].as_str().unwrap());
        let expected: BTreeSet<String> = names.map(|name| format!("{name}.mil")).collect();
        let entries = fs::read_dir(place.path("head")).unwrap().map(|entry| entry.unwrap().file_name());
        let mut found: BTreeSet<String> = entries.map(|name| name.into_string().unwrap()).collect();
        assert!(found.remove("weights"));
        assert_eq!(found, expected);
        let files: Vec<String> = found.iter().map(|name| place.text(&format!("head/{name}"))).collect();
        let files: Vec<&str> = files.iter().map(String::as_str).collect();
        let directory = place.text("head");
        anemone([&["check", "--chip", chip, "--weights", &directory], &files[..]].concat()).ended(0);
        anemone([&["fmt", "--check"], &files[..]].concat()).ended(0);
        let dialect = if chip == "m1" { "program(1.0)" } else { "program(1.3)" };
        assert!(files.iter().all(|file| fs::read_to_string(file).unwrap().starts_with(dialect)));
    }
}

#[test]
fn flags_that_a_chip_decides_and_wrong_arrays_are_refused() {
    let place = Place::new();
    let sizes = ["50", "8", "16"];
    for (flags, words) in [
        (&["--fused"][..], &["--chip"][..]),
        (&["--weights", "baked"], &["--chip"]),
        (&["--chip", "m4", "--dtype", "fp16"], &["--chip", "cannot be used with", "--dtype"]),
        (&["--chip", "m4", "--dialect", "1.3"], &["--chip", "cannot be used with", "--dialect"]),
    ] {
        emit(&place, sizes, flags).failed(2, words);
    }
    let turned = array(&place, "turned.npy", &[8, 50], &[0.5f32; 400]);
    let with = |flag, file: &str| emit(&place, sizes, &["--chip", "m4", flag, file]);
    with("--embed", &turned).failed(1, &["turned.npy", "[8, 50]", "[50, 8] is expected"]);
    with("--gain", &turned).failed(1, &["turned.npy", "[8] is expected"]);
    with("--embed", &place.text("none.npy")).failed(1, &["none.npy"]);
    assert!(!place.path("head").exists());
    place.file("head", "");
    emit(&place, sizes, &["--chip", "m4"]).failed(1, &["head is a file"]);
}
