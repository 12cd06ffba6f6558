//! Standard output that takes nothing more, as of `anemone … | head`: it ends the output, not the work.

use std::ffi::OsStr;
use std::fs;

use super::support::{LINEAR, Place, Run, TWO_OUTPUTS, array, command, finished};

/// Runs the command with a pipe that nobody reads for standard output.
fn unread<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Run {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = command();
    command.args(arguments).stdout(writer).stderr(std::process::Stdio::piped());
    finished(command.spawn().unwrap().wait_with_output().unwrap())
}

#[test]
fn is_no_error() {
    let place = Place::new();
    let file = place.file("linear.mil", LINEAR);
    for arguments in
        [&["fmt", &file][..], &["fmt", "--check", &file], &["check", &file], &["show", &file], &["rules"]]
    {
        for json in [&[][..], &["--json"]] {
            assert_eq!(unread([json, arguments].concat()).ended(0).stderr, "");
        }
    }
    let bench = ["bench", "gemm", "--vocab", "2", "--dim", "2", "--seq", "2", "--repeats", "1"];
    assert_eq!(unread(bench).ended(0).stderr, "");
}

#[test]
fn every_result_of_a_run_is_written() {
    let place = Place::new();
    let (file, x) = (place.file("two.mil", TWO_OUTPUTS), array(&place, "x.npy", &[2], &[1.0f32, 2.0]));
    let run = unread(["run", &file, "--input", &format!("x={x}"), "--output", &place.text("out")]).ended(0);
    assert_eq!(run.stderr, "");
    assert!(place.path("out/y.npy").exists() && place.path("out/z.npy").exists());
}

#[test]
fn every_file_is_emitted_drawn_and_formatted() {
    let place = Place::new();
    unread(["emit", "head", "--vocab", "5", "--dim", "4", "--seq", "3", "--out", &place.text("head")])
        .ended(0);
    assert_eq!(fs::read_dir(place.path("head/weights")).unwrap().count(), 3);
    assert_eq!(fs::read_dir(place.path("head")).unwrap().count(), 4 + 1);

    let file = place.file("linear.mil", LINEAR);
    unread(["show", &file, "--dot", &place.text("linear.dot")]).ended(0);
    unread(["convert", &file, &place.text("linear.mlpackage")]).ended(0);
    assert!(place.path("linear.mlpackage/Manifest.json").exists());
    assert!(place.path("linear.dot").exists());

    let untidy = LINEAR.replace("    ", " ");
    let (one, two) = (place.file("one.mil", &untidy), place.file("two.mil", &untidy));
    unread(["--json", "fmt", "--write", &one, &two]).ended(0);
    assert_eq!(
        (fs::read_to_string(one).unwrap().as_str(), fs::read_to_string(two).unwrap().as_str()),
        (LINEAR, LINEAR)
    );
}

#[test]
fn the_status_is_that_of_the_work() {
    let place = Place::new();
    let good = place.file("good.mil", LINEAR);
    let bad = place.file("bad.mil", LINEAR.replace("weight = w", "wieght = w"));
    for json in [&[][..], &["--json"]] {
        let arguments = [json, &["check", &good, &bad]].concat();
        unread(arguments).failed(1, &["bad.mil:7:", "1 of 2 files failed"]);
    }
    let text = place.file("text.mil", "program(1.3) {");
    unread(["fmt", &good, &text]).failed(1, &["text.mil:1:", "1 of 2 files failed"]);
    let untidy = place.file("untidy.mil", LINEAR.replace("    ", " "));
    unread(["fmt", "--check", &good, &untidy]).failed(1, &["1 of 2 files would change"]);
    unread(["show", &bad]).failed(1, &["does not verify"]);
}

#[test]
fn a_trained_model_is_kept() {
    let place = Place::new();
    let config = place.file("config.toml", "[model]\ndim = 8\n[train]\nbatch = 2\nseq = 8\nsteps = 3\n");
    unread(["train", "-q", "--config", &config, "--out", &place.text("out")]).ended(0);
    for name in ["checkpoint.safetensors", "log.jsonl", "curve.svg"] {
        assert!(place.path("out").join(name).exists(), "{name}");
    }
}

/// A full disk is an error, but one that ends nothing either.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_fails_after_the_work() {
    let place = Place::new();
    let (file, dot) = (place.file("linear.mil", LINEAR), place.text("linear.dot"));
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = command().args(["show", &file, "--dot", &dot]).stdout(full).output().unwrap();
    finished(output).failed(1, &["cannot write to standard output", "No space left"]);
    assert!(place.path("linear.dot").exists());
}
