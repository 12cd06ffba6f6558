//! `anemone generate` and `anemone eval`, with models that `anemone train` left.

use super::support::{Place, anemone};

/// A Llama of a few thousand weights, and the model without layers.
const CONFIGS: [&str; 2] = [
    "[model]\ndim = 8\nlayers = 2\nheads = 2\nkv_heads = 1\nhidden = 12\ntied = true\n\
     [train]\nbatch = 2\nseq = 16\nsteps = 30\nwarmup = 5\n",
    "[model]\ndim = 8\n[train]\nbatch = 2\nseq = 16\nsteps = 30\nwarmup = 5\n",
];

/// Text for training, and, after a blank line within the last tenth, for validation.
fn texts() -> [String; 2] {
    let training: String = (0..120).map(|i| format!("{} sheep ", i * i % 37)).collect();
    let validation = "7 sheep 11 sheep ".repeat(training.len() / 17 / 13);
    [training, validation]
}

/// Trains, and gives what was said of it.
fn trained(place: &Place, config: &str) -> (String, serde_json::Value) {
    let [training, validation] = texts();
    let data = place.file("data.txt", format!("{training}\n\n{validation}"));
    let (config, out) = (place.file("config.toml", config), place.text("out"));
    let run = ["train", "-q", "--json", "--config", &config, "--data", &data, "--out", &out];
    let summary = anemone(run).ended(0).json();
    (out, summary[0].clone())
}

#[test]
fn a_model_continues_texts() {
    for config in CONFIGS {
        let place = Place::new();
        let (out, _) = trained(&place, config);
        let flags = ["generate", &out, "--prompt", "11 she", "--tokens", "40"];
        let generate = |more: &[&str]| anemone([&flags[..], more].concat()).ended(0);
        let run = generate(&[]);
        assert!(run.stdout.starts_with("11 she") && run.stdout.ends_with('\n'), "{run:#?}");
        assert!(run.stderr.starts_with("40 tokens, ") && run.stderr.ends_with(" tokens/s\n"), "{run:#?}");
        // The same again, another one with another seed, and without chance the same with any.
        assert_eq!(run.stdout, generate(&["-q"]).stdout);
        assert_ne!(run.stdout, generate(&["--seed", "1"]).stdout);
        let greedy = generate(&["--temperature", "0"]).stdout;
        assert_eq!(greedy, generate(&["--temperature", "0", "--seed", "9", "--top-p", "0.1"]).stdout);
        let line = generate(&["--json", "--temperature", "0"]).json()[0].clone();
        assert_eq!((line["prompt"].as_str(), line["tokens"].as_u64()), (Some("11 she"), Some(40)));
        // What is printed has no control characters.
        let shown = line["text"].as_str().unwrap().replace(|c: char| c.is_control() && c != '\n', "\u{fffd}");
        assert_eq!(greedy, format!("11 she{shown}\n"));
        assert!(line["tokens_per_s"].as_f64().unwrap() > 0.0);
    }
}

#[test]
fn the_loss_of_a_text_is_that_of_validation() {
    for config in CONFIGS {
        let place = Place::new();
        let (out, summary) = trained(&place, config);
        let validation = place.file("validation.txt", &texts()[1]);
        let line = anemone(["eval", "--json", &out, "--data", &validation]).ended(0).json()[0].clone();
        let number = |key: &str| line[key].as_f64().unwrap();
        assert_eq!(line["loss"], summary["validation_loss"], "{line}, {summary}");
        assert_eq!(line["loss"], line["loss_per_byte"]);
        assert_eq!(number("perplexity"), number("loss").exp());
        assert_eq!(line["bytes"].as_u64(), Some(texts()[1].len() as u64 - 1));
        let text = anemone(["eval", &out, "--data", &validation]).ended(0).stdout;
        assert!(text.starts_with("loss        ") && text.contains("\nperplexity  "), "{text}");
    }
}

#[test]
fn mistakes_are_named() {
    let place = Place::new();
    let empty = place.text("");
    anemone(["generate", &empty]).failed(1, &["holds no checkpoint of a run, so there is no model"]);
    anemone(["eval", &empty, "--data", "x"]).failed(1, &["there is no model"]);
    let (out, _) = trained(&place, CONFIGS[1]);
    anemone(["generate", &out, "--temperature", "-1"]).failed(1, &["the temperature is -1"]);
    anemone(["generate", &out, "--top-p", "0"]).failed(1, &["top-p is 0"]);
    anemone(["generate", &out, "--tokens", "0"]).failed(2, &["--tokens"]);
    let byte = place.file("byte.txt", "a");
    anemone(["eval", &out, "--data", &byte]).failed(1, &["the text has 1 token, at least 2 are needed"]);
    let nothing = place.file("nothing.txt", "");
    anemone(["eval", &out, "--data", &nothing]).failed(1, &["is empty"]);
    anemone(["eval", &out]).failed(2, &["--data"]);
    std::fs::write(format!("{out}/checkpoint.safetensors"), "no tensors").unwrap();
    anemone(["generate", &out]).failed(1, &["checkpoint.safetensors"]);
}
