//! `anemone bench`.

use super::support::{anemone, command, finished};

const SMALL: [&str; 10] = ["bench", "head", "--vocab", "64", "--dim", "16", "--seq", "8", "--repeats", "2"];

#[test]
fn prints_a_line_for_each_piece_of_work() {
    for (runtime, dtype) in [("cpu", "fp16"), ("cpu", "fp32"), ("eval", "fp16")] {
        let flags = ["--json", "--runtime", runtime, "--dtype", dtype, "--threads", "1"];
        let lines = anemone([&SMALL[..], &flags].concat()).ended(0).json();
        let what: Vec<&str> = lines.iter().map(|line| line["what"].as_str().unwrap()).collect();
        let fused: &[&str] = if runtime == "cpu" { &["step fused"] } else { &[] };
        assert_eq!(what, [&["rmsnorm", "logits", "softmax", "backward", "step programs"], fused].concat());
        for line in &lines {
            let number = |key: &str| line[key].as_f64().unwrap();
            assert!(number("ms_min") > 0.0 && number("ms") >= number("ms_min"), "{line}");
            assert!(number("gflops") > 0.0, "{line}");
            let sizes = ["vocab", "dim", "seq", "threads"].map(|key| line[key].as_u64().unwrap());
            assert_eq!(sizes, [64, 16, 8, 1]);
            assert_eq!((line["dtype"].as_str(), line["runtime"].as_str()), (Some(dtype), Some(runtime)));
            assert!(!line["path"].as_str().unwrap().is_empty());
            if cfg!(target_os = "linux") {
                assert!(number("peak_mb") > 0.0, "{line}");
            }
        }
        // 2·64·16·8 over the time.
        let gflops = 2.0 * 64.0 * 16.0 * 8.0 / lines[1]["ms"].as_f64().unwrap() / 1e6;
        assert!((lines[1]["gflops"].as_f64().unwrap() / gflops - 1.0).abs() < 1e-9);
    }
    let text = anemone(SMALL).ended(0).stdout;
    assert!(text.starts_with("rmsnorm ") && text.contains("\nstep programs "), "{text}");
}

#[test]
fn products_are_timed_alone() {
    for runtime in ["cpu", "eval"] {
        let arguments =
            ["bench", "gemm", "--vocab", "64", "--dim", "16", "--seq", "8", "--products", "exact", "--json"];
        let lines = anemone([&arguments[..], &["--runtime", runtime]].concat()).ended(0).json();
        let what: Vec<&str> = lines.iter().map(|line| line["what"].as_str().unwrap()).collect();
        assert_eq!(what, ["gemm logits", "gemm dx", "gemm dE"]);
        for line in &lines {
            let number = |key: &str| line[key].as_f64().unwrap();
            assert!((number("gflops") * number("ms") * 1e6 / (2.0 * 64.0 * 16.0 * 8.0) - 1.0).abs() < 1e-9);
        }
    }
}

#[test]
fn the_path_can_be_forced_by_a_flag_and_by_the_environment() {
    let lines = anemone([&SMALL[..], &["--json", "--path", "portable"]].concat()).ended(0).json();
    assert!(lines.iter().all(|line| line["path"] == "portable"));
    anemone([&SMALL[..], &["--path", "sse9"]].concat()).failed(2, &["sse9", "avx512, avx2, neon, portable"]);
    let from_environment =
        |name: &str| finished(command().args(SMALL).env("ANEMONE_CPU_PATH", name).output().unwrap());
    assert!(from_environment("portable").ended(0).stdout.contains("path portable"));
    from_environment("sse9").failed(1, &["ANEMONE_CPU_PATH", "`sse9` is no path"]);
}

#[test]
fn what_cannot_be_timed_is_refused() {
    anemone(["bench", "head", "--vocab", "64", "--dim", "16"]).failed(2, &["--seq"]);
    anemone(["bench", "head", "--vocab", "64", "--dim", "0", "--seq", "8"]).failed(1, &["`dim` is 0"]);
    anemone([&SMALL[..], &["--threads", "0"]].concat()).failed(2, &["--threads"]);
    anemone([&SMALL[..], &["--runtime", "gpu"]].concat()).failed(2, &["gpu", "cpu, eval"]);
    anemone(["bench", "inference"]).failed(2, &["inference"]);
    anemone(["bench", "train", "--config", "tin"]).failed(1, &["`tin` is neither a file nor a built-in"]);
    anemone(["bench", "train", "--seq", "99999999"]).failed(1, &["`seq` is 99999999"]);
}

#[test]
fn steps_of_training_are_timed() {
    let flags = ["--config", "tiny", "--batch", "2", "--seq", "8", "--repeats", "2", "--threads", "1"];
    for more in [&[][..], &["--dtype", "fp32", "--head", "fused", "--recompute"]] {
        let lines = anemone([&["bench", "train", "--json"], &flags[..], more].concat()).ended(0).json();
        let line = &lines[0];
        let number = |key: &str| line[key].as_f64().unwrap();
        assert_eq!((lines.len(), line["what"].as_str()), (1, Some("train step")));
        assert!(number("ms_min") > 0.0 && number("ms") >= number("ms_min"), "{line}");
        assert!((number("tokens_per_s") * number("ms") / 16e3 - 1.0).abs() < 1e-9, "{line}");
        assert!(number("machine_gflops") > 0.0, "{line}");
        // 6 FLOPs for each weight of a matrix, but for the embedding, and token; or 8, where forward runs twice.
        let matrices = 4.0 * (4.0 * 128.0 * 128.0 + 3.0 * 128.0 * 344.0);
        let again = if more.is_empty() { 6.0 } else { 8.0 };
        let least = (again * matrices + 6.0 * 256.0 * 128.0) * 16.0;
        let flops = number("gflops") * number("ms") * 1e6;
        assert!(flops > least && flops < 1.1 * least, "{line}: {flops} and {least}");
    }
    let text = anemone([&["bench", "train"], &flags[..]].concat()).ended(0).stdout;
    assert!(text.starts_with("train step  ms ") && text.contains("  machine_gflops "), "{text}");
}

#[test]
fn writing_is_timed() {
    for more in [&[][..], &["--dtype", "fp32", "--config", "small"]] {
        let flags = ["bench", "generate", "--json", "--tokens", "4", "--threads", "1"];
        let lines = anemone([&flags[..], more].concat()).ended(0).json();
        let line = &lines[0];
        let number = |key: &str| line[key].as_f64().unwrap();
        assert_eq!((lines.len(), line["what"].as_str()), (1, Some("generate")));
        let bytes = if more.is_empty() { 2 * 824_448 } else { 4 * (256 * 64 + 64) };
        assert_eq!(line["weight_bytes"].as_u64(), Some(bytes), "{line}");
        let share = number("tokens_per_s") * bytes as f64 / number("memory_gb_per_s") / 1e9;
        assert!(share > 0.0 && (number("share") / share - 1.0).abs() < 1e-9, "{line}");
    }
    let text = anemone(["bench", "generate", "--tokens", "2", "--threads", "1"]).ended(0).stdout;
    assert!(text.starts_with("generate  tokens_per_s ") && text.contains("  memory_gb_per_s "), "{text}");
}
