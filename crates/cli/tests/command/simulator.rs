//! `--runtime ane-sim`.

use std::env;
use std::path::Path;

use anemone_lm::log;
use half::f16;

use super::support::{Place, anemone, array};

const PROGRAM: &str = r#"program(1.3)
{
    func main<ios18>(tensor<fp16, [1, 32]> x) {
        tensor<fp16, [1, 32]> squares = mul(x = x, y = x)[name = string("squares")];
        tensor<fp16, [1, 32]> rounded = round(x = squares)[name = string("rounded")];
    } -> (rounded);
}
"#;

const CUMSUM: &str = r#"program(1.3)
{
    func main<ios18>(tensor<fp16, [1, 32]> x) {
        tensor<fp16, [1, 32]> sums = cumsum(axis = int32(1), exclusive = bool(false), reverse = bool(false), x = x)[name = string("sums")];
    } -> (sums);
}
"#;

/// The flags that run a program on 32 numbers.
fn flags(place: &Place, program: &str) -> Vec<String> {
    let mut values = [f16::ONE; 32];
    values[0] = f16::from_f32(300.0);
    let x = format!("x={}", array(place, "x.npy", &[1, 32], &values));
    let (file, out) = (place.file("program.mil", program), place.text("out"));
    ["run", &file, "--input", &x, "--output", &out, "--runtime", "ane-sim"].map(str::to_string).to_vec()
}

fn with(flags: &[String], more: &[&str]) -> super::support::Run {
    anemone(flags.iter().map(String::as_str).chain(more.iter().copied()))
}

#[test]
fn a_run_ends_with_what_went_wrong_with_its_numbers() {
    let place = Place::new();
    let flags = flags(&place, PROGRAM);
    let run = with(&flags, &["--chip", "m5", "--report"]).ended(0);
    for part in [
        "overflows to infinity           1, first in `squares`, mul, of main → rounded\n",
        "main → rounded: `squares`, mul: 1 overflows to infinity\n",
        "measured on m4 and m6; on m5 it is taken to be the same",
        "warning: R36: main → rounded: `rounded`, round: ",
    ] {
        assert!(run.stdout.contains(part), "{}", run.stdout);
    }
    let lines = with(&flags, &["--chip", "m4", "--report", "--json"]).ended(0).json();
    let report = &lines[1];
    assert_eq!((&report["chip"], &report["total"]["overflows"]), (&"m4".into(), &1.into()));
    assert_eq!(report["programs"][0]["ops"][0]["value"], "squares");
    assert!(report.get("note").is_none());
    assert_eq!(with(&flags, &["--chip", "m4"]).ended(0).stdout.lines().count(), 1);
}

#[test]
fn what_the_chip_refuses_is_refused() {
    let place = Place::new();
    with(&flags(&place, CUMSUM), &["--chip", "m4"]).failed(1, &["R28", "`sums`, cumsum", "m4", "instead: "]);
    assert!(!place.path("out").exists());
    with(&flags(&place, PROGRAM), &[]).failed(2, &["--chip <CHIP>"]);
    with(&flags(&place, PROGRAM), &["--chip", "m9"])
        .failed(2, &["`m9` is no chip", "m1, m2, m3, m4, m5, m6"]);
}

#[test]
fn a_chip_that_nothing_simulates_is_bad_usage() {
    let place = Place::new();
    let run = flags(&place, PROGRAM);
    let run = run[..run.len() - 2].join("\n");
    let out = place.text("out");
    let train = format!("train\n--steps\n1\n--out\n{out}");
    let bench = "bench\nhead\n--vocab\n8\n--dim\n8\n--seq\n8".to_string();
    for (command, runtime) in [(run, "cpu"), (train, "eval"), (bench, "cpu")] {
        let flags = ["--runtime", runtime, "--chip", "m4"];
        let ran = anemone(command.lines().chain(flags));
        ran.failed(2, &["error: `--chip m4` is for `--runtime ane-sim`, and the runtime is ", runtime]);
        assert!(!place.path("out").exists(), "{command}");
    }
}

#[test]
fn a_run_goes_on_only_on_the_chip_it_began_on() {
    let place = Place::new();
    let out = place.text("out");
    let text = place.file("text.txt", "sheep sleep where they may\n".repeat(20));
    let size = ["--steps", "1", "--dtype", "fp16", "--batch", "2", "--seq", "16", "--data", &text];
    let began = ["train", "--out", &out, "--runtime", "ane-sim", "--chip", "m4"];
    anemone([&began[..], &size].concat()).ended(0);
    let resume = ["train", "--resume", &out, "--runtime", "ane-sim", "--chip"];
    anemone([&resume[..], &["m6"]].concat())
        .failed(1, &["began on the runtime ane-sim (m4), and cannot go on on ane-sim (m6)"]);
    anemone([&resume[..], &["m4"]].concat()).ended(0);
}

/// `ANEMONE_ENGINE_STEPS=200` trains the default model for so many steps, not a few on little text at a time.
#[test]
fn training_stays_with_the_losses_of_the_cpu() {
    let place = Place::new();
    let steps = env::var("ANEMONE_ENGINE_STEPS").ok();
    let size: &[&str] = match &steps {
        Some(steps) => &["--steps", steps],
        None => &["--steps", "20", "--batch", "2", "--seq", "16"],
    };
    let losses = |name: &str, runtime: &[&str]| -> Vec<f64> {
        let out = place.text(name);
        let run = anemone([&["train", "--dtype", "fp16", "--out", &out], size, runtime].concat()).ended(0);
        let reports = runtime.contains(&"ane-sim");
        assert_eq!(
            run.stdout.contains("on the engine of an m4\noverflows to infinity           0\n"),
            reports
        );
        let records = log::read(&Path::new(&out).join("log.jsonl")).unwrap();
        records.iter().map(|record| record.loss).collect()
    };
    let (cpu, engine) = (losses("cpu", &[]), losses("engine", &["--runtime", "ane-sim", "--chip", "m4"]));
    assert_eq!(cpu.len(), engine.len());
    assert_ne!(cpu, engine);
    for (step, (cpu, engine)) in cpu.iter().zip(&engine).enumerate() {
        assert!((engine / cpu - 1.0).abs() < 0.03, "after step {step}: {engine}, on the CPU {cpu}");
    }
}

#[test]
fn layers_train_in_engine_arithmetic_too() {
    let place = Place::new();
    let config = place.file(
        "config.toml",
        "[model]\ndim = 32\nlayers = 2\nheads = 2\nkv_heads = 1\nhidden = 48\ntied = true\n\
         [train]\nbatch = 2\nseq = 16\nsteps = 4\nlr = 1e-3\n",
    );
    let data = place.file("text.txt", "sheep sleep where they may\n".repeat(60));
    let losses = |name: &str, runtime: &[&str]| -> Vec<f64> {
        let out = place.text(name);
        let run = ["train", "-q", "--config", &config, "--data", &data, "--out", &out];
        anemone([&run[..], runtime].concat()).ended(0);
        let records = log::read(&Path::new(&out).join("log.jsonl")).unwrap();
        records.iter().map(|record| record.loss).collect()
    };
    let cpu = losses("cpu", &[]);
    for chip in ["m1", "m2", "m3", "m5", "m6", "m4"] {
        let simulated = ["--runtime", "ane-sim", "--chip", chip, "--offload", "all"];
        let engine = losses(chip, &simulated);
        assert_eq!((cpu.len(), engine.len()), (4, 4));
        assert_ne!(cpu, engine);
        for (cpu, engine) in cpu.iter().zip(&engine) {
            assert!((engine / cpu - 1.0).abs() < 0.05, "{chip}: {engine}, on the CPU {cpu}");
        }
    }
    // It goes on only with the layers where they were.
    let out = place.text("m4");
    let resume = ["train", "--resume", &out, "--runtime", "ane-sim", "--chip", "m4"];
    anemone(resume).failed(1, &["the run began on the runtime ane-sim (m4), layers for m4,"]);
    anemone([&resume[..], &["--offload", "all"]].concat()).ended(0);
}
