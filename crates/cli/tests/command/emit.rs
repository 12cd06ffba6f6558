//! `anemone emit`.

use std::fs;
use std::path::Path;
use std::process::Command;

use anemone_mil::tensor::Tensor;
use anemone_mil::types::{DType, TensorType};
use anemone_mil::weights::BlobFile;

use super::support::{Place, Run, anemone, array};

const DIMENSIONS: [&str; 6] = ["--vocab", "50", "--dim", "8", "--seq", "6"];
const PROGRAMS: [&str; 4] =
    ["final_rmsnorm.mil", "classifier_forward.mil", "softmax.mil", "classifier_backward.mil"];

fn emit(place: &Place, flags: &[&str]) -> Run {
    let out = place.text("head");
    anemone([&["emit", "head", "--out", &out], &DIMENSIONS[..], flags].concat())
}

fn blob(place: &Place, name: &str, dtype: DType, dims: &[usize]) -> Tensor {
    let file = BlobFile::open(place.path("head/weights").join(name)).unwrap();
    file.read(64, &TensorType::new(dtype, dims)).unwrap()
}

#[test]
fn programs_verify_with_their_weights_in_both_dialects_and_dtypes() {
    for (dialect, version, opset) in [("1.0", "program(1.0)", "<ios16>"), ("1.3", "program(1.3)", "<ios18>")]
    {
        for (name, dtype) in [("fp16", DType::Fp16), ("fp32", DType::Fp32)] {
            let place = Place::new();
            let run = emit(&place, &["--dialect", dialect, "--dtype", name]).ended(0);
            assert_eq!(run.stdout.lines().count(), 7);
            let (directory, files) =
                (place.text("head"), PROGRAMS.map(|file| place.text(&format!("head/{file}"))));
            let files: Vec<&str> = files.iter().map(String::as_str).collect();
            anemone([&["check", "--weights", &directory], &files[..]].concat()).ended(0);
            anemone([&["fmt", "--check"], &files[..]].concat()).ended(0);
            for file in files {
                let text = fs::read_to_string(file).unwrap();
                assert!(text.starts_with(version) && text.contains(opset) && text.contains(name), "{text}");
            }
            assert_eq!(blob(&place, "rms_w.bin", dtype, &[1, 8, 1, 1]).len(), 8);
            let embed = blob(&place, "embed.bin", dtype, &[50, 8, 1, 1]).to_f64().unwrap();
            let embed_t = blob(&place, "embed_t.bin", dtype, &[1, 8, 50]).to_f64().unwrap();
            assert!((0..50).all(|v| (0..8).all(|d| embed[v * 8 + d] == embed_t[d * 50 + v])));
        }
    }
}

#[test]
fn defaults_are_dialect_1_3_fp16_and_seed_0() {
    let (place, other) = (Place::new(), Place::new());
    emit(&place, &[]).ended(0);
    emit(&other, &["--dialect", "1.3", "--dtype", "fp16", "--seed", "0"]).ended(0);
    let files = |place: &Place| {
        let weights = ["weights/rms_w.bin", "weights/embed.bin", "weights/embed_t.bin"];
        PROGRAMS
            .iter()
            .chain(&weights)
            .map(|name| fs::read(place.path("head").join(name)).unwrap())
            .collect::<Vec<_>>()
    };
    assert_eq!(files(&place), files(&other));
    emit(&other, &["--seed", "1"]).ended(0);
    assert_ne!(files(&place)[5], files(&other)[5]);
    let json = emit(&place, &["--json"]).ended(0).json();
    assert_eq!(json[0]["type"], "tensor<fp16, [1, 8, 1, 1]>");
    assert_eq!(json[0]["bytes"], 128 + 16);
    assert!(json[6]["file"].as_str().unwrap().ends_with("classifier_backward.mil"));
}

#[test]
fn weights_from_arrays_are_rounded_once_and_must_have_their_shape() {
    let place = Place::new();
    let values: Vec<f64> = (0..400).map(|i| f64::from(i).sin() / 3.0).collect();
    let embed = array(&place, "embed.npy", &[50, 8], &values);
    let gain = array(&place, "gain.npy", &[8], &values[..8]);
    emit(&place, &["--embed", &embed, "--gain", &gain]).ended(0);
    let expected = Tensor::from_f64(DType::Fp16, &[50, 8, 1, 1], &values).unwrap();
    assert_eq!(blob(&place, "embed.bin", DType::Fp16, &[50, 8, 1, 1]), expected);
    let expected = Tensor::from_f64(DType::Fp16, &[1, 8, 1, 1], &values[..8]).unwrap();
    assert_eq!(blob(&place, "rms_w.bin", DType::Fp16, &[1, 8, 1, 1]), expected);

    let turned = array(&place, "turned.npy", &[8, 50], &values);
    emit(&place, &["--embed", &turned]).failed(1, &["turned.npy", "[8, 50]", "[50, 8] is expected"]);
    emit(&place, &["--gain", &embed]).failed(1, &["embed.npy", "[8] is expected"]);
}

#[test]
fn the_emitted_head_runs() {
    let place = Place::new();
    emit(&place, &["--dtype", "fp32"]).ended(0);
    let values: Vec<f64> = (0..48).map(|i| f64::from(i).cos()).collect();
    let x = array(&place, "x.npy", &[1, 8, 1, 6], &values);
    let out = place.text("out");
    let mut input = format!("x={x}");
    for (program, result) in
        [("final_rmsnorm", "xn"), ("classifier_forward", "logits"), ("softmax", "probabilities")]
    {
        let program = place.text(&format!("head/{program}.mil"));
        anemone(["run", &program, "--input", &input, "--output", &out]).ended(0);
        input = format!("{result}={out}/{result}.npy");
    }
    let bytes = fs::read(place.path("out/probabilities.npy")).unwrap();
    let probabilities: Vec<f32> = npyz::NpyFile::new(&bytes[..]).unwrap().into_vec().unwrap();
    for s in 0..6 {
        let sum: f64 = (0..50).map(|v| f64::from(probabilities[v * 6 + s])).sum();
        assert!((sum - 1.0).abs() < 1e-5, "{sum}");
    }
}

#[test]
fn wrong_dimensions_and_places_are_refused() {
    let place = Place::new();
    let out = place.text("head");
    let with = |vocab: &str, out: &str| {
        anemone(["emit", "head", "--vocab", vocab, "--dim", "8", "--seq", "6", "--out", out])
    };
    with("0", &out).failed(1, &["`vocab` is 0"]);
    with("99999999999", &out).failed(1, &["`vocab` is 99999999999"]);
    for vocab in ["many", "32k", "-1"] {
        with(vocab, &out).failed(2, &["--vocab", vocab, "must be a whole number in 2..="]);
    }
    emit(&place, &["--seed", "-1"]).failed(2, &["--seed", "'-1'", "must be a whole number in 0..="]);
    assert!(!Path::new(&out).exists());
    let file = place.file("file", "");
    let in_the_way = format!("{file} is a file");
    with("50", &format!("{file}/head")).failed(1, &["cannot make the directory", &in_the_way]);
    anemone(["emit", "head", "--vocab", "50"]).failed(2, &["--dim", "--seq", "--out"]);
    anemone(["emit", "tail", "--out", &out]).failed(2, &["tail"]);
    emit(&place, &["--fused"]).failed(2, &["--fused"]);
    emit(&place, &["--dialect", "2.0"]).failed(2, &["1.0", "1.3"]);
    let command = Command::new(env!("CARGO_BIN_EXE_anemone")).arg("emit").output().unwrap();
    assert_eq!(command.status.code(), Some(2));
}
