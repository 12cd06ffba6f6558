//! What `anemone train` is given to train on: files of tokens, and data that are none.

use std::fs;
use std::path::Path;

use anemone_lm::checkpoint::Checkpoint;
use anemone_lm::log;

use super::support::{Place, Run, anemone};

const CONFIG: &str = "[model]\nvocab = 300\ndim = 8\n[train]\nbatch = 2\nseq = 16\nsteps = 12\nwarmup = 2\n\
                      checkpoint_interval = 5\n";

/// Trains on files, into `out`.
fn train(place: &Place, out: &str, data: &[&str], more: &[&str]) -> Run {
    let (config, out) = (place.file("config.toml", CONFIG), place.text(out));
    let flags = ["train", "--config", &config, "--out", &out, "--data"];
    anemone([&flags, data, more].concat())
}

/// Numbers below 300 that have something to do with each other.
fn tokens() -> Vec<u16> {
    (0..2000u32).map(|i| (i * i % 37 * 7) as u16).collect()
}

fn u16s(tokens: &[u16]) -> Vec<u8> {
    tokens.iter().flat_map(|token| token.to_le_bytes()).collect()
}

fn u32s(tokens: &[u16]) -> Vec<u8> {
    tokens.iter().flat_map(|&token| u32::from(token).to_le_bytes()).collect()
}

fn losses(log: &Path) -> Vec<f64> {
    log::read(log).unwrap().iter().map(|record| record.loss).collect()
}

#[test]
fn files_of_tokens_train_whatever_their_width_and_number() {
    let place = Place::new();
    let tokens = tokens();
    let whole = place.file("whole.bin", u16s(&tokens));
    let parts = [place.file("a.bin", u16s(&tokens[..777])), place.file("b.BIN", u16s(&tokens[777..]))];
    let wide = place.file("wide.bin", u32s(&tokens));

    let said = train(&place, "whole", &[&whole], &["--json"]).ended(0);
    assert!(said.stderr.contains("1800 tokens to train on"), "{}", said.stderr);
    let line = &said.json()[0];
    for key in ["bigram_cross_entropy", "five_gram_cross_entropy", "sample"] {
        assert!(line[key].is_null(), "{line}");
    }
    let expected = losses(&place.path("whole/log.jsonl"));
    assert!(expected[11] < expected[0] - 0.02, "it does not learn: {expected:?}");
    train(&place, "parts", &[&parts[0], &parts[1]], &["-q"]).ended(0);
    let text = train(&place, "wide", &[&wide], &["--token-dtype", "u32"]).ended(0).stdout;
    assert!(text.contains("5-gram cross entropy  none: the data are tokens\n"), "{text}");
    assert!(text.contains("wide (config.json, model.safetensors)\n"), "{text}");
    for out in ["parts", "wide"] {
        assert_eq!(losses(&place.path(out).join("log.jsonl")), expected);
    }

    // A run on them goes on as on text, and not on others.
    let resume = ["train", "-q", "--resume", &place.text("whole")];
    anemone(resume).ended(0);
    fs::write(&whole, u16s(&tokens[1..])).unwrap();
    anemone(resume).failed(1, &["the data have changed"]);
    fs::write(&whole, u16s(&[tokens, vec![300]].concat())).unwrap();
    anemone(resume).failed(1, &["whole.bin: token 300 at position 2000"]);
}

#[test]
fn data_that_are_none_are_refused_before_a_step() {
    let place = Place::new();
    let refused = |name: &str, content: &[u8], more: &[&str], words: &[&str]| {
        let data = place.file(name, content);
        let run = train(&place, "out", &[&data], more).failed(1, words);
        assert_eq!(run.stderr.lines().filter(|line| !line.starts_with("warning: ")).count(), 1, "{run:#?}");
        assert!(!place.path("out").exists());
        assert_eq!(fs::read(&data).unwrap(), content);
    };
    let mut outside = u16s(&tokens());
    outside[2002..2004].copy_from_slice(&300u16.to_le_bytes());
    refused("empty.txt", b"", &[], &["empty.txt is empty"]);
    refused("one.txt", b"a", &[], &["1 tokens, fewer than one sequence needs (17)"]);
    refused("empty.bin", b"", &[], &["empty.bin is empty"]);
    refused("one.bin", b"a", &[], &["one.bin has 1 bytes, which are no whole number of tokens of u16 (2)"]);
    refused("odd.bin", &[0; 1001], &[], &["odd.bin has 1001 bytes"]);
    refused("odd.bin", &[0; 1002], &["--token-dtype", "u32"], &["no whole number of tokens of u32 (4)"]);
    refused("short.bin", &[0; 30], &[], &["fewer than one sequence needs (17)"]);
    refused("outside.bin", &outside, &[], &["outside.bin: token 300 at position 1001", "vocabulary of 300"]);
    refused("wide.bin", &u32s(&tokens()), &[], &["wide.bin: every second token is 0", "of u32"]);
    refused("narrow.bin", &u16s(&tokens()), &["--token-dtype", "u32"], &["at position 0", "read as u32"]);
    refused("x.bin", b"version https://git-lfs.github.com/spec/v1\n.", &[], &["x.bin", "git lfs pull"]);
    let text = place.file("text.txt", "some text");
    refused("mixed.bin", &u16s(&tokens()), &["--data", &text], &["mixed.bin holds tokens", "text.txt text"]);
}

/// Only the tokens of the data are trained; the model on disk has all of them, and the run goes on from it.
#[test]
fn a_compact_vocabulary_leaves_the_model_whole() {
    let place = Place::new();
    let data = place.file("data.bin", u16s(&tokens()));
    let run = |out: &str, more: &[&str]| {
        let said = train(&place, out, &[&data], more).ended(0);
        (said.stderr, losses(&place.path(out).join("log.jsonl")))
    };
    let (said, compact) = run("compact", &["--compact-vocab"]);
    let distinct: std::collections::BTreeSet<u16> = tokens().into_iter().collect();
    // The embedding's and the classifier's rows of 8, and the norm's gain.
    assert!(said.starts_with(&format!("{} weights, ", distinct.len() * 16 + 8)), "{said}");
    // Fewer tokens to choose among.
    let (_, all) = run("all", &[]);
    assert!(compact[0] < all[0] - 0.5, "{compact:?} {all:?}");

    let checkpoint = Checkpoint::read(&place.path("compact/checkpoint.safetensors")).unwrap();
    let shape = [300, 8];
    for name in ["model.embed_tokens.weight", "lm_head.weight"] {
        let (whole, moment) = (checkpoint.tensor(name, &shape), format!("{name}.second_moment"));
        let moments = checkpoint.tensor(&moment, &shape).unwrap();
        assert_eq!(whole.unwrap().len(), 2400);
        for (token, row) in (0u16..).zip(moments.chunks(8)) {
            assert_eq!(row.iter().any(|&moment| moment > 0.0), distinct.contains(&token), "{name} {token}");
        }
    }
    let model = anemone_lm::interchange::read(&place.path("compact")).unwrap();
    assert_eq!(model.config.vocab, 300);
    anemone(["train", "-q", "--resume", &place.text("compact")]).ended(0);
    assert_eq!(losses(&place.path("compact/log.jsonl")), compact);
}

/// What is in a directory, by name.
fn contents(directory: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.file_name().unwrap().to_str().unwrap().to_string(), fs::read(path).unwrap()))
        .collect();
    files.sort();
    files
}

#[test]
fn directories_that_hold_something_else_are_refused_and_stay_as_they_are() {
    let place = Place::new();
    let (data, config) = (place.file("text.txt", "some text ".repeat(99)), place.file("config.toml", CONFIG));
    let flags = ["train", "--data", &data, "--config", &config];
    anemone([&flags[..], &["-q", "--out", &place.text("run")]].concat()).ended(0);
    let checkpoint = fs::read(place.path("run/checkpoint.safetensors")).unwrap();
    let weights = fs::read(place.path("run/model.safetensors")).unwrap();
    for (i, (files, flag, words)) in [
        (vec![("notes.txt", &b"notes"[..])], "--init", ["cannot read", "config.json"]),
        (vec![("config.json", b"{}")], "--init", ["config.json", "`architectures`"]),
        (vec![("config.json", b"{"), ("model.safetensors", &weights)], "--init", ["config.json", "EOF"]),
        (vec![("checkpoint.safetensors", &checkpoint)], "--init", ["cannot read", "config.json"]),
        (vec![("notes.txt", b"notes")], "--resume", ["holds no checkpoint", "no run to resume"]),
        (vec![("model.safetensors", &weights)], "--resume", ["holds no checkpoint", "no run to resume"]),
        (vec![("checkpoint.safetensors", b"notes")], "--resume", ["checkpoint.safetensors", "not"]),
        (vec![("checkpoint.safetensors", &weights)], "--resume", ["checkpoint", "config"]),
        (vec![("checkpoint.safetensors", &checkpoint)], "--resume", ["log.jsonl", "does not exist"]),
        (vec![("checkpoint.safetensors", b"notes")], "--out", ["holds a run already", "--out"]),
        (vec![("config.json", b"notes")], "--out", ["config.json", "would replace"]),
        (vec![("model.safetensors", b"notes")], "--out", ["model.safetensors", "would replace"]),
        (vec![("tokenizer.json", b"notes")], "--out", ["tokenizer.json", "would replace"]),
        (vec![("curve.svg", b"notes")], "--out", ["curve.svg", "would replace"]),
        (vec![("log.jsonl", b"notes")], "--out", ["log.jsonl", "exists already"]),
    ]
    .into_iter()
    .enumerate()
    {
        let directory = place.path(&i.to_string());
        fs::create_dir(&directory).unwrap();
        files.iter().for_each(|(name, content)| fs::write(directory.join(name), content).unwrap());
        let before = contents(&directory);
        let (given, out) = (place.text(&i.to_string()), place.text("out"));
        let run = match flag {
            "--init" => anemone(["train", "--data", &data, "--out", &out, flag, &given]),
            "--resume" => anemone(["train", flag, &given]),
            _ => anemone([&flags[..], &[flag, &given]].concat()),
        };
        let run = run.failed(1, &words);
        assert_eq!(run.stderr.lines().filter(|line| !line.starts_with("warning: ")).count(), 1, "{run:#?}");
        let mut after = contents(&directory);
        // What says that a process is at work there.
        after.retain(|(name, content)| name != "lock" || !content.is_empty());
        assert_eq!(after, before, "{flag} {i}");
        assert!(!place.path("out").exists());
    }
}
