//! A classifier's loss and gradients from slices: how long they take, and the memory they need beside the caller's.
//!
//! ```sh
//! cargo run --release -p anemone-cpu --example fused_head -- [V] [D] [S] [fp16|fp32] [threads]
//! ```
//!
//! Prints one line: the sizes, the median time of five runs, the loss, and by how much the peak resident set exceeds
//! what the caller holds: x, E, dx and dE.

use std::time::Instant;

use anemone_cpu::linear_cross_entropy::{SliceGradients, SliceInputs};
use anemone_cpu::{Cpu, Floats, FloatsMut, Options};
use anemone_mil::linear_cross_entropy::{Classifier, LOGITS_BYTES, LossOptions};
use anemone_mil::types::DType;
use half::f16;

/// Numbers in [−1, 1) times `scale`, from a linear congruence.
fn numbers(count: usize, scale: f32) -> impl Iterator<Item = f32> {
    let mut state = 1u64;
    std::iter::repeat_with(move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 40) as f32 / (1 << 23) as f32 - 1.0) * scale
    })
    .take(count)
}

/// What `/proc/self/status` says of memory, in MiB; `None` where there is no such file.
fn memory_mb(key: &str) -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with(key))?;
    Some(line.split_whitespace().nth(1)?.parse::<f64>().ok()? / 1024.0)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |index: usize, default: usize| arguments.get(index).map_or(Ok(default), |text| text.parse());
    let (vocab, dim, positions) = (number(0, 32_000)?, number(1, 768)?, number(2, 256)?);
    let half = arguments.get(3).is_none_or(|dtype| dtype == "fp16");
    let threads = arguments.get(4).map(|text| text.parse()).transpose()?;

    let (weights, inputs) = (vocab * dim, dim * positions);
    let round = |values: &[f32]| -> Vec<f16> { values.iter().map(|&value| f16::from_f32(value)).collect() };
    let (x16, e16) = if half {
        (
            round(&numbers(inputs, 2.0).collect::<Vec<f32>>()),
            numbers(weights, 0.04).map(f16::from_f32).collect(),
        )
    } else {
        (Vec::new(), Vec::new())
    };
    let (x32, e32): (Vec<f32>, Vec<f32>) = if half {
        (Vec::new(), Vec::new())
    } else {
        (numbers(inputs, 2.0).collect(), numbers(weights, 0.04).collect())
    };
    // Filled with something else than zeros, so that the memory is there before the measurement.
    let (mut dx16, mut dx32) =
        if half { (vec![f16::ONE; inputs], Vec::new()) } else { (Vec::new(), vec![1.0; inputs]) };
    let (mut de16, mut de32) =
        if half { (vec![f16::ONE; weights], Vec::new()) } else { (Vec::new(), vec![1.0; weights]) };
    let targets: Vec<i32> = (0..positions).map(|s| (s * 7919 % vocab) as i32).collect();

    // Linux: the peak starts from what is resident now.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
    let held_mb = memory_mb("VmRSS");
    let cpu = Cpu::with_options(Options { threads, ..Options::default() })?;
    let dtype = if half { DType::Fp16 } else { DType::Fp32 };
    let classifier = Classifier { vocab, dim, positions, dtype, logits_bytes: LOGITS_BYTES };
    let mut head = cpu.fused_head(classifier, LossOptions::default())?;
    let mut times_ms = Vec::new();
    let mut loss = 0.0;
    for _ in 0..6 {
        let start = Instant::now();
        let (x, embed) = if half {
            (Floats::F16(&x16), Floats::F16(&e16))
        } else {
            (Floats::F32(&x32), Floats::F32(&e32))
        };
        let inputs = SliceInputs { x, embed, bias: None, targets: &targets };
        let (dx, dembed) = if half {
            (FloatsMut::F16(&mut dx16), FloatsMut::F16(&mut de16))
        } else {
            (FloatsMut::F32(&mut dx32), FloatsMut::F32(&mut de32))
        };
        let gradients = SliceGradients { scale: 1024.0, dx, dembed, dbias: None };
        loss = head.run_slices(inputs, None, Some(gradients))?.loss;
        times_ms.push(start.elapsed().as_secs_f64() * 1e3);
    }
    // The first run takes memory that later ones use again.
    times_ms.remove(0);
    times_ms.sort_by(f64::total_cmp);
    let own = memory_mb("VmHWM")
        .zip(held_mb)
        .map_or_else(|| "unknown".into(), |(peak, held)| format!("{:.1}", peak - held));
    println!(
        "vocab {vocab}  dim {dim}  seq {positions}  {dtype}  path {}  threads {}  ms {:.1}  loss {loss:.6}  own_peak_mb {own}",
        cpu.path(),
        cpu.threads(),
        times_ms[2],
    );
    Ok(())
}
