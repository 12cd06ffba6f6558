//! `anemone export`, and `anemone train --init`: models from and for others.

use std::fs;

use anemone_lm::interchange;
use anemone_lm::log;
use serde_json::Value;

use super::support::{Place, Run, anemone};

const MODEL: &str = "dim = 8\nlayers = 1\nheads = 2\nkv_heads = 1\nhidden = 12\nmax_positions = 16\n";
const TRAIN: &str = "[train]\nlr = 1e-2\nbatch = 2\nseq = 16\nsteps = 6\nwarmup = 2\n";

/// Trains on a small text, into `out`.
fn train(place: &Place, out: &str, more: &[&str]) -> Run {
    let text: String = (0..100).map(|i| format!("line {i} of {}\n", i * i % 37)).collect();
    let (data, out) = (place.file("text.txt", text), place.text(out));
    anemone([&["train", "--data", &data, "--out", &out], more].concat())
}

/// A finished run.
fn trained(place: &Place, out: &str, model: &str) {
    let config = place.file("config.toml", format!("[model]\n{model}{TRAIN}"));
    train(place, out, &["-q", "--config", &config]).ended(0);
}

#[test]
fn a_run_is_handed_on_in_either_form_and_taken_up_again() {
    let place = Place::new();
    trained(&place, "run", MODEL);
    let (run, bin, back) = (place.text("run"), place.text("model.bin"), place.text("back"));
    let said = anemone(["export", "--json", &run, &bin]).ended(0).json();
    assert_eq!((said.len(), &said[0]["model"]), (1, &Value::from(&bin[..])));
    anemone(["export", &run, &bin]).failed(1, &["model.bin is there already"]);
    anemone(["export", &bin, &back]).ended(0);
    let model = interchange::read(&place.path("run")).unwrap();
    assert_eq!(said[0]["weights"], model.weights());
    // The norms' ε and θ are those that llama2.c takes for granted.
    assert_eq!(interchange::read(&place.path("model.bin")).unwrap(), model);
    assert_eq!(interchange::read(&place.path("back")).unwrap(), model);

    // The settings alone, those of the same model, and a model as it is described elsewhere.
    let settings = place.file("train.toml", TRAIN);
    let same = place.file("same.toml", format!("[model]\n{MODEL}{TRAIN}"));
    let json = place.text("run/config.json");
    let first = |out: &str, more: &[&str]| {
        train(&place, out, &[&["-q", "--steps", "2", "--batch", "2", "--seq", "16"], more].concat()).ended(0);
        log::read(&place.path(out).join("log.jsonl")).unwrap()[0].loss
    };
    let tuned = first("tuned", &["--init", &run, "--config", &settings]);
    assert_eq!(first("same", &["--init", &bin, "--config", &same]), tuned);
    assert_eq!(first("alone", &["--init", &back]), tuned);
    assert_eq!(first("described", &["--init", &back, "--config", &json]), tuned);
    let anew = first("anew", &["--config", &json]);
    assert!(tuned < anew - 0.05, "{tuned} is not below {anew}, the loss of new weights");
    // It goes on as any run does.
    anemone(["train", "-q", "--resume", &place.text("tuned")]).ended(0);
}

#[test]
fn what_does_not_fit_is_refused_before_a_step() {
    let place = Place::new();
    trained(&place, "run", MODEL);
    let run = place.text("run");
    let other = place.file("other.toml", format!("[model]\n{}{TRAIN}", MODEL.replace("12", "16")));
    let words = ["`hidden` is 16 by `--config", "and 12 in"];
    train(&place, "out", &["--init", &run, "--config", &other]).failed(1, &words);
    train(&place, "out", &["--init", &run, "--config", "small"]).failed(1, &["`dim` is 64 by"]);
    train(&place, "out", &["--init", &place.text("none.bin")]).failed(1, &["cannot read", "none.bin"]);
    let broken = place.file("broken.bin", [0; 100]);
    train(&place, "out", &["--init", &broken]).failed(1, &["broken.bin is not a model", "its dim is 0"]);
    train(&place, "out", &["--init", &run, "--resume", &run]).failed(2, &["cannot be used with"]);
    let small = place.file("small.json", "{}");
    train(&place, "out", &["--config", &small]).failed(1, &["small.json: there is no `architectures`"]);
    assert!(!place.path("out").exists());

    trained(&place, "qwen3", &format!("{MODEL}qk_norm = true\n"));
    let refused = ["export", &place.text("qwen3"), &place.text("model.bin")];
    anemone(refused).failed(1, &["a file of llama2.c cannot hold", "queries and keys are normalised"]);
    assert!(!place.path("model.bin").exists());
}

/// Whatever is read stays as it is, and so does a model that no run left.
#[test]
fn models_are_not_written_over() {
    let place = Place::new();
    trained(&place, "run", MODEL);
    let (run, bin) = (place.text("run"), place.text("model.bin"));
    anemone(["export", &run, &bin]).ended(0);
    let files = || [fs::read(place.path("run/config.json")).unwrap(), fs::read(&bin).unwrap()];
    let before = files();
    anemone(["export", &bin, &bin]).failed(1, &["which is read"]);
    anemone(["export", &bin, &run]).failed(1, &["config.json is there already"]);
    fs::remove_file(place.path("run/checkpoint.safetensors")).unwrap();
    train(&place, "run", &["--init", &bin])
        .failed(1, &["holds a model, config.json, which the run would replace"]);
    train(&place, "run", &["--init", &run]).failed(1, &["config.json, which is read"]);
    assert_eq!(files(), before);
}

/// transformers has no such models, so the run's own files are all there is.
#[test]
fn a_soft_cap_is_not_handed_on() {
    let place = Place::new();
    let config = place.file("config.toml", format!("[model]\n{MODEL}{TRAIN}"));
    let run = train(&place, "run", &["--config", &config, "--soft-cap", "20"]).ended(0);
    assert!(run.stdout.contains("none: transformers has no soft cap"), "{}", run.stdout);
    assert!(!place.path("run/config.json").exists() && !place.path("run/model.safetensors").exists());
}
