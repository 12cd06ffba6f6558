//! `anemone train`.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anemone_lm::checkpoint::Checkpoint;
use anemone_lm::log::{self, Record};
use serde_json::Value;

use super::support::{Place, Run, anemone, command};

const CONFIG: &str = r#"
[model]
dim = 8
[train]
batch = 4
seq = 16
steps = 60
warmup = 5
validation_interval = 20
checkpoint_interval = 15
"#;

/// A text of a few kilobytes.
fn text() -> String {
    (0..200).map(|i| format!("line {i} says that {} sheep sleep\n", i * i % 37)).collect()
}

/// The flags of a small run into `out`.
fn small(place: &Place, out: &str) -> Vec<String> {
    let (config, data) = (place.file("config.toml", CONFIG), place.file("text.txt", text()));
    ["train", "--config", &config, "--data", &data, "--out", &place.text(out)].map(str::to_string).to_vec()
}

fn with(flags: &[String], more: &[&str]) -> Run {
    anemone(flags.iter().map(String::as_str).chain(more.iter().copied()))
}

/// What of a log does not depend on the clock.
fn numbers(path: &Path) -> Vec<[u64; 5]> {
    let bits = |record: &Record| {
        let val_loss = record.val_loss.unwrap_or(-1.0);
        let floats = [record.loss, record.lr, record.grad_norm, val_loss];
        [[record.step].as_slice(), &floats.map(f64::to_bits)].concat().try_into().unwrap()
    };
    log::read(path).unwrap().iter().map(bits).collect()
}

fn number(json: &Value, key: &str) -> f64 {
    json[key].as_f64().unwrap()
}

#[test]
fn trains_and_says_what_came_of_it() {
    let place = Place::new();
    let flags = small(&place, "out");
    let run = with(&flags, &["--json"]).ended(0);
    assert!(run.stderr.contains("step 20/60  loss") && run.stderr.contains("validation"), "{}", run.stderr);
    let json = &run.json()[0];
    assert_eq!(run.json().len(), 1);
    assert_eq!(json["steps"], 60);
    let records = log::read(&place.path("out/log.jsonl")).unwrap();
    assert_eq!(records.len(), 60);
    assert_eq!(records[59].val_loss, Some(number(json, "validation_loss")));
    assert!(number(json, "validation_loss") < records[0].loss - 0.2, "it does not learn: {json}");
    assert!(number(json, "bigram_cross_entropy") > 0.5);
    // As `tests/lm/witten_bell.py` has it for this text.
    assert!((number(json, "five_gram_cross_entropy") - 0.44353596828916575).abs() < 1e-10, "{json}");
    let validated: Vec<u64> = records.iter().filter(|r| r.val_loss.is_some()).map(|r| r.step).collect();
    assert_eq!(validated, [20, 40, 60]);
    assert!(fs::read_to_string(json["curve"].as_str().unwrap()).unwrap().starts_with("<svg"));
    let checkpoint = Checkpoint::read(Path::new(json["checkpoint"].as_str().unwrap())).unwrap();
    assert_eq!(checkpoint.get::<u64>("step").unwrap(), 60);
    assert!(!json["sample"].as_str().unwrap().is_empty());

    // Going on with what is done changes nothing.
    let before = fs::read(place.path("out/checkpoint.safetensors")).unwrap();
    let again = anemone(["train", "--json", "-q", "--resume", &place.text("out")]).ended(0);
    assert_eq!((&again.json()[0], again.stderr.as_str()), (json, ""));
    assert_eq!(fs::read(place.path("out/checkpoint.safetensors")).unwrap(), before);
}

#[test]
fn the_same_seed_gives_the_same_run_and_flags_change_the_configuration() {
    let place = Place::new();
    let run = |out: &str, more: &[&str]| {
        let flags = small(&place, out);
        let stdout = with(&flags, &[&["--steps", "12"], more].concat()).ended(0).stdout;
        (numbers(&place.path(&format!("{out}/log.jsonl"))), stdout)
    };
    let (first, stdout) = run("first", &[]);
    assert_eq!(first.len(), 12);
    for line in [
        "validation loss ",
        "bigram cross entropy ",
        "5-gram cross entropy ",
        "loss curve ",
        "checkpoint ",
        "log ",
        "sample",
    ] {
        assert!(stdout.contains(line), "{line:?} is not in {stdout}");
    }
    let validation = stdout.lines().find(|line| line.starts_with("validation loss ")).unwrap();
    assert!(validation.ends_with(" nats per token"), "{validation}");
    let digits = stdout.split("validation loss ").nth(1).unwrap().split_whitespace().next().unwrap();
    assert!(digits.len() > 14, "{digits} has lost digits");
    assert_eq!(run("second", &[]).0, first);
    for (out, more) in [
        ("seed", ["--seed", "1"]),
        ("lr", ["--lr", "0.003"]),
        ("batch", ["--batch", "2"]),
        ("seq", ["--seq", "9"]),
        ("dtype", ["--dtype", "fp32"]),
        ("label_smoothing", ["--label-smoothing", "0.1"]),
        ("z_loss", ["--z-loss", "0.01"]),
        ("soft_cap", ["--soft-cap", "2"]),
    ] {
        assert_ne!(run(out, &more).0, first, "{more:?} changes nothing");
    }
    let log = place.text("elsewhere.jsonl");
    anemone(small(&place, "logged").iter().map(String::as_str).chain(["--log", &log, "--runtime", "eval"]))
        .ended(0);
    assert_eq!(log::read(Path::new(&log)).unwrap().len(), 60);
    assert!(!place.path("logged/log.jsonl").exists());
}

/// Ends a run in the middle by Ctrl-C: it is saved, and going on gives the losses of one that was left alone.
#[cfg(unix)]
#[test]
fn an_interrupted_run_is_saved_and_goes_on_to_the_bit() {
    let place = Place::new();
    let more = ["-q", "--steps", "400"];
    with(&small(&place, "whole"), &more).ended(0);
    let mut child = command();
    child.args(small(&place, "interrupted")).args(more).stdout(Stdio::null()).stderr(Stdio::piped());
    let child = child.spawn().unwrap();
    wait_for_step(&place.path("interrupted/log.jsonl"), 17);
    let id = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
    nix::sys::signal::kill(id, nix::sys::signal::Signal::SIGINT).unwrap();
    let ended = child.wait_with_output().unwrap();
    let stderr = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(1), "{stderr}");
    assert!(stderr.starts_with("error: interrupted; the run is saved after step "), "{stderr}");
    let resume = format!("go on with it by `--resume {}`", place.text("interrupted"));
    assert!(stderr.contains(&resume), "{stderr}");
    anemone(["train", "-q", "--resume", &place.text("interrupted")]).ended(0);
    let of = |run: &str| numbers(&place.path(&format!("{run}/log.jsonl")));
    assert_eq!(of("interrupted"), of("whole"));
}

/// Kills a run in the middle; going on gives the losses, and the last checkpoint, of one that was left alone.
#[test]
fn a_killed_run_leaves_its_checkpoint_whole_and_goes_on_to_the_bit() {
    let place = Place::new();
    let more = ["-q", "--steps", "1000"];
    let flags = small(&place, "whole");
    with(&flags, &more).ended(0);
    let expected = numbers(&place.path("whole/log.jsonl"));

    let flags = small(&place, "killed");
    let checkpoint = place.path("killed/checkpoint.safetensors");
    for wanted in [20, 60, 300] {
        let mut child = command();
        match checkpoint.exists() {
            true => child.args(["train", "-q", "--resume", &place.text("killed")]),
            false => child.args(&flags).args(more),
        };
        let mut child = child.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        wait_for_step(&place.path("killed/log.jsonl"), wanted);
        child.kill().unwrap();
        child.wait().unwrap();
        let step: u64 = Checkpoint::read(&checkpoint).unwrap().get("step").unwrap();
        assert!(step < 1000, "the run ended before it was killed");
        assert!(step.is_multiple_of(15), "{step}");
    }
    anemone(["train", "-q", "--resume", &place.text("killed")]).ended(0);
    assert_eq!(numbers(&place.path("killed/log.jsonl")), expected);
    assert!(fs::read(checkpoint).unwrap() == fs::read(place.path("whole/checkpoint.safetensors")).unwrap());
}

/// A second process keeps out of a directory that another trains in, and gets in when that is killed.
#[test]
fn one_process_at_a_time_trains_in_a_directory() {
    let place = Place::new();
    let flags = small(&place, "out");
    let mut child = command();
    child.args(&flags).args(["-q", "--steps", "100000"]).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = child.spawn().unwrap();
    wait_for_step(&place.path("out/log.jsonl"), 16);
    let resume = ["train", "-q", "--resume", &place.text("out")];
    anemone(resume).failed(1, &["another run is training in", &place.text("out")]);
    assert!(child.try_wait().unwrap().is_none(), "the run ended too early to show anything");
    child.kill().unwrap();
    child.wait().unwrap();
    // The lock is free: what is refused now is the log.
    let notes = place.file("notes.txt", "a line of notes, not ended");
    let refused = anemone([&resume[..], &["--log", &notes]].concat());
    refused.failed(1, &["notes.txt is not the log of this run", "left as it was"]);
    assert_eq!(fs::read_to_string(&notes).unwrap(), "a line of notes, not ended");
}

/// Waits until a log exists and has so many lines.
fn wait_for_step(log: &Path, lines: usize) {
    let start = Instant::now();
    while fs::read(log).map_or(true, |bytes| bytes.iter().filter(|&&b| b == b'\n').count() < lines) {
        assert!(start.elapsed() < Duration::from_secs(60), "no step {lines} after a minute");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn nothing_of_another_run_is_overwritten() {
    let place = Place::new();
    let flags = small(&place, "out");
    with(&flags, &["-q", "--steps", "3"]).ended(0);
    let before = fs::read(place.path("out/checkpoint.safetensors")).unwrap();
    with(&flags, &["--steps", "5"]).failed(1, &["holds a run already", "--resume", "--out"]);
    assert_eq!(fs::read(place.path("out/checkpoint.safetensors")).unwrap(), before);
    let log = place.text("out/log.jsonl");
    let other = small(&place, "other");
    with(&other, &["--log", &log]).failed(1, &["log.jsonl exists already"]);
    let checkpoint = place.text("own/checkpoint.safetensors");
    with(&small(&place, "own"), &["--log", &checkpoint]).failed(1, &["a file that the run itself keeps"]);
}

#[test]
fn resuming_takes_nothing_that_would_change_the_run() {
    let place = Place::new();
    let (out, empty) = (place.text("out"), place.text(""));
    with(&small(&place, "out"), &["-q", "--steps", "3"]).ended(0);
    let resume = ["train", "--resume", &out];
    for more in [["--steps", "9"], ["--lr", "1"], ["--seed", "1"], ["--dtype", "fp32"], ["--out", "x"]]
        .into_iter()
        .chain([["--label-smoothing", "0.1"], ["--z-loss", "1e-4"], ["--soft-cap", "30"]])
    {
        anemone([&resume[..], &more].concat()).failed(2, &["cannot be used with", "--resume"]);
    }
    anemone(["train", "--resume", &empty]).failed(1, &["holds no checkpoint", "no run to resume"]);
    let checkpoint = place.text("out/checkpoint.safetensors");
    anemone(["train", "--resume", &checkpoint])
        .failed(1, &["the directory of a run", &checkpoint, "is a file"]);
    anemone([&resume[..], &["--runtime", "eval"]].concat()).failed(1, &["began on the runtime cpu"]);
    anemone([&resume[..], &["--products", "bf16"]].concat())
        .failed(1, &["began on the runtime cpu, and cannot go on on cpu (products bf16)"]);

    fs::write(place.path("text.txt"), text().replace("sheep", "goats")).unwrap();
    anemone(resume).failed(1, &["the data have changed"]);
    place.file("text.txt", text());
    anemone(resume).ended(0);

    let checkpoint = place.path("out/checkpoint.safetensors");
    let whole = fs::read(&checkpoint).unwrap();
    fs::write(&checkpoint, &whole[..whole.len() / 2]).unwrap();
    anemone(resume).failed(1, &["checkpoint.safetensors", "whole"]);
}

#[test]
fn mistakes_of_newcomers_are_named() {
    let place = Place::new();
    let out = place.text("out");
    let train = |more: &[&str]| anemone([&["train", "--out", &out], more].concat());
    train(&["--data", &place.text("none.txt")]).failed(1, &["none.txt", "No such file"]);
    train(&["--data", &place.file("empty.txt", "")]).failed(1, &["empty.txt is empty"]);
    train(&["--data", &place.file("short.txt", "a few words")]).failed(1, &["fewer than one sequence needs"]);
    train(&["--data", &place.text("")]).failed(1, &["cannot read"]);
    train(&["--config", "large"]).failed(1, &["`large`", "built in: tiny, small"]);
    train(&["--config", &place.text("none.toml")]).failed(1, &["none.toml", "No such file"]);
    let misspelt = place.file("misspelt.toml", "[train]\nstep = 3\n");
    train(&["--config", &misspelt]).failed(1, &["misspelt.toml", "line 2", "`step`", "`steps`"]);
    let narrow = place.file("narrow.toml", "[model]\nvocab = 100\n");
    train(&["--config", &narrow]).failed(1, &["vocabulary has 100 tokens", "256"]);
    train(&["--seq", "0"]).failed(1, &["`seq` is 0"]);
    train(&["--steps", "0"]).failed(1, &["`steps` is 0", "1..="]);
    for flag in ["--steps", "--batch", "--seq"] {
        train(&[flag, "-1"]).failed(2, &["invalid value '-1'", flag, "must be a whole number in 1..="]);
    }
    train(&["--seed", "-1"]).failed(2, &["'-1'", "--seed", "in 0..=18446744073709551615"]);
    train(&["--steps", "many"]).failed(2, &["'many'", "--steps", "must be a whole number"]);
    train(&["--lr", "-1"]).failed(1, &["`lr` is -1, must be above 0"]);
    train(&["--lr=-1"]).failed(1, &["`lr` is -1"]);
    train(&["--label-smoothing", "1"]).failed(1, &["`label_smoothing` is 1, must be 0 or more and below 1"]);
    train(&["--z-loss", "-1"]).failed(1, &["`z_loss` is -1, must be 0 or more"]);
    train(&["--soft-cap", "0"]).failed(1, &["`soft_cap` is 0, must be above 0"]);
    train(&["--token-dtype", "u16"]).failed(1, &["`--token-dtype`", "`--data` names none"]);
    train(&["--tokenizer", "words"]).failed(1, &["`words` is neither `bytes` nor a file"]);
    train(&["--runtime", "gpu"]).failed(2, &["gpu", "cpu, eval"]);
    train(&["--stepz", "3"]).failed(2, &["--stepz", "--steps"]);
    train(&["--head", "whole"]).failed(2, &["whole", "programs, fused"]);
    assert!(!Path::new(&out).exists());
    let file = place.file("file", "");
    anemone(["train", "--steps", "1", "--out", &format!("{file}/out")])
        .failed(1, &["cannot make the directory"]);
    // A warmup longer than anything begins with a tiny learning rate.
    let patient = place.file("patient.toml", format!("[model]\ndim = 8\n[train]\nwarmup = {}\n", i64::MAX));
    anemone(["train", "-q", "--config", &patient, "--steps", "1", "--out", &place.text("patient")]).ended(0);
    assert!(log::read(&place.path("patient/log.jsonl")).unwrap()[0].lr < 1e-18);
    // A learning rate that makes the weights explode ends with the reason.
    let run = with(&small(&place, "diverged"), &["--lr", "1e300", "--dtype", "fp32"]);
    run.failed(1, &["diverged", "learning rate"]);
}

/// A system that refuses memory gives a reason, not an abort.
#[cfg(target_os = "linux")]
#[test]
fn a_model_that_the_system_has_no_memory_for_is_refused() {
    let place = Place::new();
    let huge = place.file("huge.toml", "[model]\nvocab = 1048576\ndim = 4096\n[train]\nbatch = 1\n");
    let limited = r#"ulimit -v 4000000 && exec "$0" "$@""#;
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", limited, env!("CARGO_BIN_EXE_anemone"), "train", "--config", &huge]);
    let output = shell.args(["--out", &place.text("out")]).output().unwrap();
    super::support::finished(output)
        .failed(1, &["the model's tensor<fp32, [1048576, 4096]> does not fit in memory"]);
}

#[test]
fn the_fused_head_trains_as_the_programs_do_where_it_is_offered() {
    let place = Place::new();
    let refused = with(&small(&place, "refused"), &["--head", "fused", "--runtime", "eval"]).ended(1);
    assert!(
        refused.stderr.contains("eval does not offer `--head fused`; those that do: cpu"),
        "{}",
        refused.stderr
    );
    assert!(!place.path("refused").exists());

    let mut losses = Vec::new();
    for (out, head) in [("programs", "programs"), ("fused", "fused")] {
        with(&small(&place, out), &["--head", head, "--steps", "30", "--dtype", "fp32"]).ended(0);
        let log = log::read(&place.path(out).join("log.jsonl")).unwrap();
        losses.push(log.iter().map(|record| record.loss).collect::<Vec<f64>>());
    }
    assert_eq!(losses[0].len(), 30);
    for (programs, fused) in losses[0].iter().zip(&losses[1]) {
        assert!((programs - fused).abs() < 1e-3, "{programs} and {fused}");
    }
}
