//! Tokenizers from files: in training, beside the model, and in what is done with it.

use std::fs;
use std::path::Path;

use anemone_lm::checkpoint::Checkpoint;
use anemone_lm::data::training_part;
use anemone_lm::log;
use anemone_lm::tokenizer::TokenizerFile;

use super::support::{Place, Run, anemone, repository};

const CONFIG: &str = "[model]\nvocab = 702\ndim = 8\nlayers = 1\nheads = 2\nkv_heads = 1\nhidden = 12\n\
                      [train]\nbatch = 2\nseq = 16\nsteps = 12\nwarmup = 2\nlr = 1e-2\ncheckpoint_interval = 5\n";

fn fixture(name: &str) -> String {
    repository().join("tests/lm/tokenizer").join(name).to_str().unwrap().to_string()
}

/// Trains on a small text, into `out`.
fn train(place: &Place, out: &str, more: &[&str]) -> Run {
    let text: String = (0..300).map(|i| format!("line {i} of {} caf\u{e9}s\n", i * i % 37)).collect();
    let (data, out) = (place.file("text.txt", text), place.text(out));
    anemone([&["train", "--data", &data, "--out", &out], more].concat())
}

/// A run in `run` with the tokenizer of this name, and what was said of it.
fn trained(place: &Place, name: &str) -> serde_json::Value {
    let config = place.file("config.toml", CONFIG);
    let flags = ["-q", "--json", "--config", &config, "--tokenizer", &fixture(name)];
    train(place, "run", &flags).ended(0).json()[0].clone()
}

fn losses(log: &Path) -> Vec<f64> {
    log::read(log).unwrap().iter().map(|record| record.loss).collect()
}

#[test]
fn a_tokenizer_goes_with_its_model() {
    for name in ["byte_level.json", "byte_fallback.json"] {
        let place = Place::new();
        let said = trained(&place, name);
        let (run, json) = (place.text("run"), fs::read(fixture(name)).unwrap());
        let number = |line: &serde_json::Value, key: &str| line[key].as_f64().unwrap();
        let (per_token, per_byte) =
            (number(&said, "validation_loss"), number(&said, "validation_loss_per_byte"));
        assert!(per_byte < 0.9 * per_token && per_byte > 0.1 * per_token, "{said}");
        // Those of the bytes, whatever the tokens.
        let same = train(&place, "bytes", &["-q", "--json", "--steps", "1", "--config", "small"]).ended(0);
        let bytes = &same.json()[0];
        assert_eq!(said["five_gram_cross_entropy"], bytes["five_gram_cross_entropy"]);
        assert_eq!(bytes["validation_loss"], bytes["validation_loss_per_byte"]);
        assert_eq!(fs::read(place.path("run/tokenizer.json")).unwrap(), json);

        // Going on from the middle, with the tokenizer in the directory.
        let whole = losses(&place.path("run/log.jsonl"));
        let checkpoint = Checkpoint::read(&place.path("run/checkpoint.safetensors")).unwrap();
        assert_eq!(checkpoint.get::<u64>("step").unwrap(), 12);
        anemone(["train", "-q", "--resume", &run]).ended(0);
        assert_eq!(losses(&place.path("run/log.jsonl")), whole);

        // The text of validation has the loss of validation.
        let text = fs::read_to_string(place.path("text.txt")).unwrap();
        let begin = text.len() * 9 / 10;
        let begin = begin + text.as_bytes()[begin..].iter().position(|&byte| byte == b'\n').unwrap() + 1;
        let validation = place.file("validation.txt", &text[begin..]);
        let line = anemone(["eval", "--json", &run, "--data", &validation]).ended(0).json()[0].clone();
        assert_eq!((number(&line, "loss"), number(&line, "loss_per_byte")), (per_token, per_byte));

        let flags = ["generate", &run, "--prompt", "line 3 of 9 caf\u{e9}s", "--tokens", "60"];
        let text = anemone(flags).ended(0).stdout;
        assert!(text.starts_with("line 3 of 9 caf\u{e9}s") && text.len() > 60, "{text}");
        let refused = anemone([&flags[..], &["--tokenizer", "words"]].concat());
        refused.failed(1, &["`words` is neither `bytes` nor a file"]);

        // It is handed on, and taken over.
        let (handed, bin) = (place.text("handed"), place.text("model.bin"));
        anemone(["export", &run, &handed]).ended(0);
        assert_eq!(fs::read(place.path("handed/tokenizer.json")).unwrap(), json);
        anemone(["export", &run, &bin]).ended(0);
        let first = |out: &str, more: &[&str]| {
            train(&place, out, &[&["-q", "--steps", "1", "--seq", "16"], more].concat()).ended(0);
            losses(&place.path(out).join("log.jsonl"))
        };
        let tuned = first("tuned", &["--init", &handed]);
        assert_eq!(fs::read(place.path("tuned/tokenizer.json")).unwrap(), json);
        assert_eq!(first("given", &["--init", &bin, "--tokenizer", &handed]), tuned);
        assert_ne!(first("others", &["--init", &handed, "--tokenizer", "bytes"]), tuned);
    }
}

#[test]
fn built_in_models_of_bytes_take_a_tokenizers_vocabulary() {
    let place = Place::new();
    let tokenizer = fixture("byte_level.json");
    train(&place, "out", &["-q", "--steps", "1", "--config", "small", "--tokenizer", &tokenizer]).ended(0);
    let checkpoint = Checkpoint::read(&place.path("out/checkpoint.safetensors")).unwrap();
    assert!(checkpoint.tensor("lm_head.weight", &[702, 64]).is_ok());
}

#[test]
fn a_tokenizer_that_does_not_fit_is_refused_before_a_step() {
    let place = Place::new();
    let json = fs::read(fixture("byte_level.json")).unwrap();
    let narrow = place.file("narrow.toml", CONFIG.replace("702", "701"));
    let refused = |more: &[&str], words: &[&str]| {
        let run = train(&place, "out", more).failed(1, words);
        assert_eq!(run.stderr.lines().count(), 1, "{run:#?}");
        assert!(!place.path("out").exists());
    };
    let check = |file: &str, words: &[&str]| refused(&["--config", &narrow, "--tokenizer", file], words);
    check(&fixture("byte_level.json"), &["vocabulary has 701 tokens, and the tokenizer 702"]);
    check("words", &["`words` is neither `bytes` nor a file"]);
    check(&place.file("empty.json", ""), &["empty.json is not a tokenizer.json: EOF"]);
    check(&place.file("cut.json", &json[..json.len() / 2]), &["cut.json is not a tokenizer.json: EOF"]);
    check(&place.text(""), &["cannot read", "tokenizer.json"]);
    let latin = place.file("latin.txt", b"caf\xe9 ".repeat(100));
    refused(&["--tokenizer", &fixture("byte_level.json"), "--data", &latin], &["not UTF-8 at byte "]);

    // Beside a run, it stays what it was.
    trained(&place, "byte_level.json");
    let (run, file) = (place.text("run"), place.path("run/tokenizer.json"));
    let resume = ["train", "-q", "--resume", &run];
    fs::write(&file, fs::read(fixture("byte_fallback.json")).unwrap()).unwrap();
    anemone(resume).failed(1, &["tokenizer.json is not the tokenizer that the run began with"]);
    anemone(["generate", &run]).failed(1, &["not the tokenizer that the run began with"]);
    fs::write(&file, &json[..99]).unwrap();
    anemone(resume).failed(1, &["tokenizer.json is not a tokenizer.json: EOF"]);
    anemone(["export", &run, &place.text("handed")]).failed(1, &["tokenizer.json: EOF"]);
    fs::remove_file(&file).unwrap();
    anemone(resume).failed(1, &["cannot read", "tokenizer.json"]);
    let inside = place.path("inside");
    fs::create_dir(&inside).unwrap();
    fs::write(inside.join("tokenizer.json"), &json).unwrap();
    let flags = ["--tokenizer", &place.text("inside/tokenizer.json"), "--config", "small"];
    train(&place, "inside", &flags).failed(1, &["tokenizer.json, which is read"]);
    train(&place, "inside", &["--config", "small"]).failed(1, &["holds a model, tokenizer.json"]);
    assert_eq!(fs::read(inside.join("tokenizer.json")).unwrap(), json);
}

#[test]
fn a_tokenizer_is_learned_from_the_text_to_train_on() {
    let place = Place::new();
    let config = place.file("config.toml", CONFIG.replace("702", "320"));
    let flags = ["-q", "--json", "--config", &config, "--tokenizer", "bpe:320"];
    let said = train(&place, "run", &flags).ended(0).json()[0].clone();
    let [per_token, per_byte] =
        ["validation_loss", "validation_loss_per_byte"].map(|key| said[key].as_f64().unwrap());
    assert!(per_byte < 0.7 * per_token, "{said}");
    let whole = losses(&place.path("run/log.jsonl"));
    anemone(["train", "-q", "--resume", &place.text("run")]).ended(0);
    assert_eq!(losses(&place.path("run/log.jsonl")), whole);
    // The same as a file, and the last tenth has no part in it.
    let file = place.text("run/tokenizer.json");
    train(&place, "again", &["-q", "--config", &config, "--tokenizer", &file]).ended(0);
    assert_eq!(losses(&place.path("again/log.jsonl")), whole);
    let text = fs::read(place.path("text.txt")).unwrap();
    let learned = TokenizerFile::learn(training_part(&text), 320).unwrap();
    assert_eq!(fs::read_to_string(&file).unwrap(), learned.json());
    assert_ne!(TokenizerFile::learn(&text, 320).unwrap().json(), learned.json());

    for (name, parts) in [
        ("bpe:256", ["`256` is no number of tokens to learn", "257 to 262144"]),
        ("bpe:many", ["`many` is no number of tokens to learn", "257 to 262144"]),
        ("bpe-x", ["`bpe-x` is neither `bytes` nor a file", "tokenizer.json"]),
    ] {
        train(&place, "none", &["--tokenizer", name]).failed(1, &parts);
    }
    let tokens = place.file("tokens.bin", [1u8, 0, 2, 0].repeat(100));
    let none = place.text("none");
    anemone(["train", "--data", &tokens, "--tokenizer", "bpe", "--out", &none])
        .failed(1, &["`--tokenizer bpe` learns from text, and `--data` names files of tokens"]);
    assert!(!place.path("none").exists());
}
