//! `anemone reduce`.

#![cfg(unix)] // The commands are shell scripts.

use std::fmt::Write;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use anemone_mil::tensor::Tensor;
use anemone_mil::weights::write_blob_file;

use super::support::{Place, TWO_OUTPUTS, anemone};

/// A script that gets the candidate as `$1`, in which `ANEMONE` is the command's path.
fn script(place: &Place, name: &str, body: &str) -> String {
    let body = format!("#!/bin/sh\n{}\n", body.replace("ANEMONE", env!("CARGO_BIN_EXE_anemone")));
    let file = place.file(name, body);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    file
}

/// 1000 ops, each of which reads two of those before; one of them, in the middle, is not on the engine.
fn thousand_ops() -> String {
    let ty = "tensor<fp16, [1, 64, 1, 256]>";
    let mut body = String::new();
    for op in 0..1000 {
        let name = |back: usize| match op >= back {
            true => format!("v{}", op - back),
            false => "x".to_string(),
        };
        let (x, y) = (name(1), name(2 + op * 7 % 5));
        let call = match op {
            617 => {
                format!("cumsum(axis = int32(1), exclusive = bool(false), reverse = bool(false), x = {x})")
            }
            _ => format!("{}(x = {x}, y = {y})", ["add", "sub", "mul", "maximum"][op * op % 4]),
        };
        writeln!(body, "            {ty} v{op} = {call}[name = string(\"v{op}\")];").unwrap();
    }
    format!(
        "program(1.3)\n{{\n    func main<ios18>({ty} x) {{\n{body}        }} -> (v999, v998, v500);\n}}\n"
    )
}

#[test]
fn one_op_of_a_thousand_is_found_that_breaks_a_rule() {
    let place = Place::new();
    let file = place.file("big.mil", thousand_ops());
    let trips = script(&place, "trips.sh", "ANEMONE check --chip m4 \"$1\" 2>&1 | grep -q 'R28'");
    let out = place.text("small.mil");
    let run = anemone(["reduce", "--json", &file, "--out", &out, "--", &trips]).ended(0);
    let line = &run.json()[0];
    assert_eq!((line["ops_before"].as_u64(), line["ops"].as_u64()), (Some(1000), Some(1)), "{run:#?}");
    assert!(line["runs"].as_u64().unwrap() < 100, "{run:#?}");
    let small = fs::read_to_string(&out).unwrap();
    assert!(small.contains("tensor<fp16, [1, 1, 1, 1]> v617 = cumsum("), "{small}");
    anemone(["check", &out]).ended(0);
}

#[test]
fn weights_are_found_from_where_candidates_lie() {
    let place = Place::new();
    fs::create_dir(place.path("weights")).unwrap();
    let w = Tensor::from_values(&[64, 128], vec![0.5f32; 64 * 128]).unwrap();
    write_blob_file(place.path("weights/w.bin"), |writer| writer.append(&w)).unwrap();
    let program = r#"program(1.3)
{
    func main<ios18>(tensor<fp32, [2, 64]> x) {
            tensor<fp32, [64, 128]> w = const()[name = string("w"), val = tensor<fp32, [64, 128]>(BLOBFILE(path = string("@model_path/weights/w.bin"), offset = uint64(64)))];
            tensor<fp32, [2, 128]> y = matmul(transpose_x = bool(false), transpose_y = bool(false), x = x, y = w)[name = string("y")];
            tensor<fp32, [2, 128]> z = tanh(x = y)[name = string("z")];
        } -> (z);
}
"#;
    let file = place.file("linear.mil", program);
    let sound = script(
        &place,
        "sound.sh",
        "ANEMONE check \"$1\" --weights \"$(dirname \"$1\")\" && grep -q matmul \"$1\" && grep -q BLOBFILE \"$1\"",
    );
    let out = place.text("small.mil");
    let run = anemone(["reduce", &file, "--out", &out, "--", &sound]).ended(0);
    assert!(run.stdout.contains("small.mil: 1 op of 2; "), "{run:#?}");
    assert!(fs::read_to_string(&out).unwrap().contains("} -> (y);"));

    // A command for which weights are nothing loses them.
    let product = script(&place, "product.sh", "grep -q 'matmul(' \"$1\"");
    anemone(["reduce", &file, "--out", &out, "--", &product]).ended(0);
    let small = fs::read_to_string(&out).unwrap();
    assert!(!small.contains("BLOBFILE") && small.contains("tensor<fp32, [1, 1]> y = matmul("), "{small}");
    anemone(["check", &out]).ended(0);
}

#[test]
fn outputs_functions_and_blocks_go() {
    let place = Place::new();
    let loops = fs::read_to_string(super::support::repository().join("tests/passes/loops.mil")).unwrap();
    let file = place.file("loops.mil", loops);
    let keeps = script(&place, "keeps.sh", "grep -q while_loop \"$1\"");
    let out = place.text("small.mil");
    anemone(["reduce", &file, "--out", &out, "--", &keeps]).ended(0);
    assert!(fs::read_to_string(&out).unwrap().contains("while_loop"));
    anemone(["check", &out]).ended(0);

    let file = place.file("two.mil", TWO_OUTPUTS);
    let keeps = script(&place, "mul.sh", "grep -q mul \"$1\"");
    anemone(["reduce", &file, "--out", &out, "--", &keeps]).ended(0);
    assert!(fs::read_to_string(&out).unwrap().contains("} -> (z);"));
}

#[test]
fn a_command_that_hangs_counts_as_failed_and_is_ended() {
    let place = Place::new();
    let file = place.file("two.mil", TWO_OUTPUTS);
    // It hangs, in a process of its own, for every program but the one it is given first.
    let hangs = script(&place, "hangs.sh", "grep -q add \"$1\" && grep -q mul \"$1\" || sleep 600");
    let out = place.text("small.mil");
    let started = Instant::now();
    let run = anemone(["reduce", &file, "--out", &out, "--timeout", "1", "--", &hangs]).ended(0);
    assert!(run.stdout.contains("2 ops of 2"), "{run:#?}");
    assert!(started.elapsed() < Duration::from_secs(300), "{run:#?}");
}

#[test]
fn what_cannot_be_reduced_is_said_in_one_paragraph() {
    let place = Place::new();
    let file = place.file("two.mil", TWO_OUTPUTS);
    let out = place.text("small.mil");
    anemone(["reduce", &file, "--out", &out, "--", "false"])
        .failed(1, &["`false` fails for ", "two.mil as it is", "must exit with 0"]);
    anemone(["reduce", &file, "--out", &out, "--", "./no-such-command"])
        .failed(1, &["`./no-such-command` cannot be started"]);
    anemone(["reduce", &file, "--out", &out]).failed(2, &["COMMAND"]);
    anemone(["reduce", &file, "--out", &file, "--", "true"]).failed(1, &["two.mil"]);
    assert_eq!(fs::read_to_string(&file).unwrap(), TWO_OUTPUTS);
    assert!(!place.path("small.mil").exists());
    let run = anemone(["reduce", &file, "--out", &place.text("none/small.mil"), "--", "true"]);
    run.failed(1, &["none/small.mil"]);
}
