//! `anemone emit layer`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anemone_mil::text;
use half::f16;

use super::support::{Place, Run, anemone, array};

/// Grouped queries, normalised heads, and a hidden dimension that is no multiple of 16.
const CONFIG: &str = "[model]\ndim = 32\nlayers = 3\nheads = 2\nkv_heads = 1\nhidden = 40\nqk_norm = true\n";
const CHIPS: [&str; 6] = ["m1", "m2", "m3", "m4", "m5", "m6"];

fn emit(place: &Place, out: &str, flags: &[&str]) -> Run {
    let (config, out) = (place.file("config.toml", CONFIG), place.text(out));
    let command = ["emit", "layer", "--config", &config, "--seq", "16", "--batch", "2", "--out", &out];
    anemone([&command[..], flags].concat())
}

/// The names of a program's inputs.
fn inputs(path: &Path) -> Vec<String> {
    let program = text::parse(&fs::read_to_string(path).unwrap()).unwrap().program;
    let function = &program.functions[0];
    function.body.inputs.iter().map(|&id| function.value(id).name.clone()).collect()
}

/// The results of forward and backward on the same x and gradient of y, by name, with the weights that lie beside them.
fn results(place: &Place, out: &str, flags: &[&str]) -> BTreeMap<String, Vec<f64>> {
    // Gradients as a loss scale makes them: the engine drops the products of small numbers (R53).
    let given = [("x", 0.37, 1.0), ("d_y", 0.83, 16.0)].map(|(name, step, scale)| {
        let wave = (0..1024).map(|i| f16::from_f64((f64::from(i) * step).sin() * scale));
        (name, array(place, &format!("{name}.npy"), &[2, 32, 1, 16], &wave.collect::<Vec<f16>>()))
    });
    let results = format!("{out}/results");
    for part in ["forward", "backward"] {
        let file = place.text(&format!("{out}/{part}.mil"));
        let path = |name: &str| {
            let weight = place.path(&format!("{out}/weights/{name}.npy"));
            let result = place.path(&results).join(format!("{name}.npy"));
            match given.iter().find(|(given, _)| *given == name) {
                Some((_, path)) => path.clone(),
                None if weight.exists() => weight.display().to_string(),
                None => result.display().to_string(),
            }
        };
        let given = inputs(Path::new(&file));
        let given = given.iter().flat_map(|name| ["--input".to_string(), format!("{name}={}", path(name))]);
        let run = ["run".to_string(), file.clone(), "--output".into(), place.text(&results)];
        let more = flags.iter().map(|flag| flag.to_string());
        anemone(run.into_iter().chain(given).chain(more)).ended(0);
    }
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(place.path(&results)).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_string();
        if name == "y" || name.starts_with("d_") {
            let bytes = fs::read(&path).unwrap();
            let values: Vec<f16> = npyz::NpyFile::new(&bytes[..]).unwrap().into_vec().unwrap();
            found.insert(name, values.into_iter().map(f64::from).collect());
        }
    }
    found
}

#[test]
fn layers_are_legal_and_run_as_they_stand_whatever_the_chip_and_the_weights() {
    let place = Place::new();
    emit(&place, "plain", &[]).ended(0);
    let expected = results(&place, "plain", &[]);
    // y, and a gradient for x and each of the eleven parameters.
    assert_eq!(expected.len(), 13);
    for (chip, weights) in CHIPS.iter().flat_map(|&chip| [(chip, "inputs"), (chip, "baked")]) {
        let out = format!("{chip}-{weights}");
        let run = emit(&place, &out, &["--chip", chip, "--weights", weights]).ended(0);
        let files: Vec<&str> = run.stdout.lines().filter_map(|line| line.split(": ").next()).collect();
        assert!(files.iter().all(|file| Path::new(file).exists()), "{run:#?}");
        let directory = place.text(&out);
        for part in ["forward", "backward"] {
            let file = place.text(&format!("{out}/{part}.mil"));
            let inputs = inputs(Path::new(&file));
            assert_eq!(inputs.contains(&"w2".to_string()), weights == "inputs", "{inputs:?}");
            let ranges =
                inputs.iter().flat_map(|name| ["--range".to_string(), format!("{name}=-0.25..0.25")]);
            let check = ["check", &file, "--chip", chip, "--weights", &directory, "--warnings-are-errors"];
            anemone(check.into_iter().map(str::to_string).chain(ranges)).ended(0);
            anemone(["check", &file, "--chip", chip]).ended(0);
        }
        let simulated = ["--runtime", "ane-sim", "--chip", chip];
        // Each run is a process: one of the older chips and one of the newer is simulated.
        let is_simulated = weights == "inputs" && ["m1", "m4"].contains(&chip);
        let runtimes = [(&[][..], 4e-3), (&simulated[..], 5e-2)].into_iter();
        for (flags, within) in runtimes.take(if is_simulated { 2 } else { 1 }) {
            let found = results(&place, &out, flags);
            assert_eq!(found.len(), expected.len());
            for (name, expected) in &expected {
                let largest = expected.iter().fold(0.0, |most: f64, x| most.max(x.abs()));
                for (x, y) in expected.iter().zip(&found[name]) {
                    assert!(
                        (x - y).abs() <= within * largest,
                        "{out}, {flags:?}: `{name}` {x} is {y}, of {largest}"
                    );
                }
            }
        }
    }
}

#[test]
fn defaults_are_the_configurations_and_the_seed_decides() {
    let place = Place::new();
    let (config, out) = (place.file("config.toml", CONFIG), place.text("out"));
    let own = format!("{CONFIG}[train]\nseq = 16\nbatch = 2\n");
    let own = place.file("own.toml", own);
    let lines = anemone(["emit", "layer", "--config", &own, "--out", &out, "--json"]).ended(0).json();
    assert_eq!(lines.len(), 13 + 2);
    assert!(lines.iter().all(|line| line["bytes"].as_u64() > Some(0)), "{lines:?}");
    let read = |out: &str, name: &str| fs::read(place.path(out).join(name)).unwrap();
    let flags = ["--weights", "inputs", "--dialect", "1.3", "--dtype", "fp16", "--seed", "0"];
    emit(&place, "same", &flags).ended(0);
    for name in ["forward.mil", "backward.mil", "weights/w1.npy", "weights/q_gain.npy"] {
        assert_eq!(read("out", name), read("same", name), "{name}");
    }
    emit(&place, "other", &["--seed", "1"]).ended(0);
    assert_eq!(read("out", "forward.mil"), read("other", "forward.mil"));
    assert_ne!(read("out", "weights/w1.npy"), read("other", "weights/w1.npy"));
    emit(&place, "first", &["--dialect", "1.0", "--dtype", "fp32"]).ended(0);
    let forward = fs::read_to_string(place.path("first/forward.mil")).unwrap();
    assert!(
        forward.starts_with("program(1.0)") && forward.contains("tensor<fp32, [2, 32, 1, 16]> x"),
        "{forward}"
    );
    anemone(["emit", "layer", "--config", &config, "--help"]).ended(0);
}

#[test]
fn what_is_no_layer_is_refused_before_anything_is_written() {
    let place = Place::new();
    let (config, out) = (place.file("config.toml", CONFIG), place.text("out"));
    let with = |flags: &[&str]| anemone([&["emit", "layer", "--out", &out], flags].concat());
    with(&["--config", "none"]).failed(1, &["`none` is neither a file nor a built-in configuration"]);
    with(&["--config", "small"]).failed(1, &["the model of `small` has no layers"]);
    let given = |flags: &[&str]| with(&[&["--config", &config], flags].concat());
    given(&["--seq", "0"]).failed(1, &["`seq` is 0"]);
    given(&["--batch", "-1"]).failed(2, &["--batch", "'-1'", "must be a whole number in 1..="]);
    given(&["--chip", "m9"]).failed(2, &["`m9` is no chip"]);
    given(&["--chip", "m4", "--dtype", "fp32"]).failed(2, &["--dtype", "--chip"]);
    given(&["--weights", "none"]).failed(2, &["inputs", "baked"]);
    given(&["--vocab", "9"]).failed(2, &["--vocab"]);
    anemone(["emit", "layer"]).failed(2, &["--out"]);
    let longest = "[model]\ndim = 32\nlayers = 1\nheads = 2\nkv_heads = 1\nhidden = 70000\n";
    let longest = place.file("longest.toml", longest);
    let refused = with(&["--config", &longest, "--chip", "m4", "--seq", "16", "--batch", "1"]);
    refused.failed(1, &["a layer", "for m4", "inputs"]);
    assert!(!Path::new(&out).exists());
    let file = place.file("file", "");
    let into = anemone(["emit", "layer", "--config", &config, "--out", &format!("{file}/layer")]);
    into.failed(1, &["cannot make the directory", &format!("{file} is a file")]);
    // A configuration that lies where a program goes.
    let own = place.file("forward.mil", CONFIG);
    let into = anemone([
        "emit",
        "layer",
        "--config",
        &own,
        "--out",
        Path::new(&own).parent().unwrap().to_str().unwrap(),
    ]);
    into.failed(1, &["forward.mil"]);
    assert_eq!(fs::read_to_string(&own).unwrap(), CONFIG);
}
