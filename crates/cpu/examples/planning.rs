//! How long functions of many ops take to plan, and to run once:
//!
//! ```text
//! cargo run --release -p anemone-cpu --example planning -- 100000
//! ```
//!
//! The functions are a chain, in which a value lives as long as two ops take; values that all live at once; values of
//! different lengths, some of which live at once; and a chain of reshaped values.

use std::fmt::Write;
use std::sync::Arc;
use std::time::Instant;

use anemone_cpu::Cpu;
use anemone_mil::runtime::{Runtime, allocate_outputs};
use anemone_mil::tensor::Tensor;
use anemone_mil::text;
use anemone_mil::types::{DType, TensorType};
use anemone_mil::verify::verify;
use anemone_mil::weights::WeightMap;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let ops: usize = std::env::args().nth(1).map_or(Ok(100_000), |count| count.parse())?;
    for (name, body) in [
        ("chain", chain(ops)),
        ("live at once", at_once(ops)),
        ("lengths", lengths(ops)),
        ("reshaped", reshaped(ops)),
    ] {
        let source = format!(
            "program(1.3)\n{{\n    func main<ios18>(tensor<fp32, [8]> x) {{\n{body}        }} -> (y);\n}}\n"
        );
        time(name, &source)?;
    }
    Ok(())
}

/// Prepares and runs a program.
fn time(name: &str, source: &str) -> Result<(), Box<dyn std::error::Error>> {
    let start = Instant::now();
    let program = Arc::new(verify(text::parse(source)?.program)?);
    let verified = Instant::now();
    let types = [TensorType::new(DType::Fp32, &[8])];
    let mut executable = Cpu::new()?.prepare(&program, "main", &types, &WeightMap::default())?;
    let prepared = Instant::now();
    let x = Tensor::zeros(DType::Fp32, &[8]).ok_or("no memory")?;
    let mut outputs = allocate_outputs(executable.as_ref())?;
    executable.run(&[&x], &mut outputs)?;
    println!(
        "{name:<14} parse and verify {:>6.3} s  prepare {:>6.3} s  run {:>6.3} s",
        (verified - start).as_secs_f64(),
        (prepared - verified).as_secs_f64(),
        prepared.elapsed().as_secs_f64()
    );
    Ok(())
}

fn chain(ops: usize) -> String {
    let mut body = String::new();
    let mut last = "x".to_string();
    for i in 0..ops {
        let next = if i + 1 == ops { "y".to_string() } else { format!("t{i}") };
        let _ = writeln!(body, "tensor<fp32, [8]> {next} = tanh(x = {last})[name = string(\"t\")];");
        last = next;
    }
    body
}

/// A `concat` of the results of all other ops.
fn at_once(ops: usize) -> String {
    let mut body = String::new();
    let mut names = Vec::with_capacity(ops);
    for i in 0..ops {
        let _ = writeln!(body, "tensor<fp32, [8]> t{i} = tanh(x = x)[name = string(\"t\")];");
        names.push(format!("t{i}"));
    }
    concat(&mut body, &names, 8 * ops);
    body
}

/// The function's result, of all these values.
fn concat(body: &mut String, names: &[String], length: usize) {
    let values = names.join(", ");
    let _ = writeln!(
        body,
        "tensor<fp32, [{length}]> y = concat(values = ({values}), axis = int32(0), interleave = bool(false))[name = \
         string(\"y\")];"
    );
}

/// Values of different lengths, which live for two thousand ops, and a `concat` of what is made of them.
fn lengths(ops: usize) -> String {
    let mut body = String::new();
    let (delay, mut sums) = (1000, Vec::new());
    for i in 0..ops / 2 + delay {
        if i < ops / 2 {
            let repeats = 1 + i * 7919 % 13;
            let (length, values) = (8 * repeats, vec!["x"; repeats].join(", "));
            let _ = writeln!(
                body,
                "tensor<fp32, [{length}]> t{i} = concat(values = ({values}), axis = int32(0), interleave = \
                 bool(false))[name = string(\"t\")];"
            );
        }
        if let Some(at) = i.checked_sub(delay) {
            let _ = writeln!(
                body,
                "tensor<fp32, [1]> s{at} = reduce_sum(x = t{at}, axes = tensor<int32, [1]>([0]), keep_dims = \
                 bool(true))[name = string(\"s\")];"
            );
            sums.push(format!("s{at}"));
        }
    }
    concat(&mut body, &sums, ops / 2);
    body
}

fn reshaped(ops: usize) -> String {
    let mut body = String::new();
    let mut last = "x".to_string();
    for i in 0..ops / 2 {
        let _ = writeln!(
            body,
            "tensor<fp32, [2, 4]> r{i} = reshape(x = {last}, shape = tensor<int32, [2]>([2, 4]))[name = string(\"r\")];\n\
             tensor<fp32, [8]> t{i} = reshape(x = r{i}, shape = tensor<int32, [1]>([8]))[name = string(\"t\")];"
        );
        last = format!("t{i}");
    }
    let _ = writeln!(body, "tensor<fp32, [8]> y = tanh(x = {last})[name = string(\"y\")];");
    body
}
