//! What a layer of a model takes, forward and backward, at growing lengths of its sequence: time, memory, and the
//! attention in it by itself.
//!
//! ```text
//! cargo run --release -p anemone-cpu --example attention -- [CONFIG [BATCH [T ...]]]
//! ```
//!
//! `share` is the time of a multiply-add beside that at the first T: 1 where time grows as multiply-adds do. They are
//! counted where the mask leaves something to add, which is half of a T×T matrix. The peak is the resident set's, above
//! what is there before (on Linux).

use std::collections::HashMap;
use std::error::Error;
use std::sync::Arc;
use std::time::Instant;

use anemone_cpu::Cpu;
use anemone_lm::Random;
use anemone_lm::config::{DeviceDtype, ModelConfig};
use anemone_lm::programs::Target;
use anemone_lm::programs::layer::{Layer, LayerPair};
use anemone_mil::builder::FunctionBuilder;
use anemone_mil::grad::{Request, differentiate};
use anemone_mil::ops::call;
use anemone_mil::program::{Program, Version};
use anemone_mil::runtime::{Executable, Runtime, allocate_outputs};
use anemone_mil::tensor::Tensor;
use anemone_mil::types::{DType, Opset, TensorType};
use anemone_mil::verify::verify;
use anemone_mil::weights::WeightMap;

/// Runs of each program at least, after one to warm up.
const RUNS: usize = 5;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let name = arguments.next().unwrap_or_else(|| "stories15m".into());
    let config = ModelConfig::named(&name).ok_or("no model of this name is built in")?;
    let batch = arguments.next().map_or(Ok(1), |batch| batch.parse())?;
    let lengths: Vec<usize> = arguments.map(|length| length.parse()).collect::<Result<_, _>>()?;
    let lengths = if lengths.is_empty() { vec![512, 1024, 2048, 4096] } else { lengths };
    let cpu = Cpu::new()?;
    println!("{name}  batch {batch}  fp16  path {}  threads {}", cpu.path(), cpu.threads());
    println!("what            T  forward ms  backward ms     gflop  gflops  share  peak MB");
    let mut first = HashMap::new();
    for seq in lengths {
        let layer = Layer { config: &config, batch, seq, target: Target::new(DeviceDtype::Fp16) };
        let heads = (batch * config.heads * config.head_size()) as f64;
        let square = heads * (seq * (seq + 1)) as f64 / 2.0;
        let (q, kv) = (config.heads * config.head_size(), config.kv_heads * config.head_size());
        let weights = config.dim * (2 * q + 2 * kv + 3 * config.hidden);
        let products = (batch * seq * weights) as f64;
        // Forward has 2 products of T×T matrices, backward 5.
        for (what, pair, multiply_adds) in [
            ("layer", layer.differentiated()?, 3.0 * products + 7.0 * square),
            ("attention", attention(&layer)?, 7.0 * square),
        ] {
            let [forward, backward, peak] = time(&cpu, pair)?;
            let (ms, gflop) = (forward + backward, 2e-9 * multiply_adds);
            let least = *first.entry(what).or_insert(ms / multiply_adds);
            println!(
                "{what:<10} {seq:>6} {forward:>11.2} {backward:>12.2} {gflop:>9.2} {:>7.1} {:>6.2} {peak:>8.1}",
                gflop / ms * 1e3,
                ms / multiply_adds / least,
            );
        }
    }
    Ok(())
}

/// Attention of a layer's heads by itself, as the layer has it.
fn attention(layer: &Layer<'_>) -> Result<LayerPair, Box<dyn Error>> {
    let &Layer { config, batch, seq, .. } = layer;
    let mut f = FunctionBuilder::new("main", Version::V1_3, Opset::IOS18);
    let ty = |group| TensorType::new(DType::Fp16, &[batch * config.kv_heads, group, config.head_size(), seq]);
    let q = f.input("q", ty(config.group()));
    let (k, v) = (f.input("k", ty(1)), f.input("v", ty(1)));
    let positions: Vec<i32> = (0..seq as i32).collect();
    let keys = Tensor::from_values(&[1, 1, 1, seq], positions.clone())?;
    let queries = Tensor::from_values(&[1, 1, seq, 1], positions)?;
    let later = f.bind("later", call::greater(keys, queries))?;
    let scores = f.bind("scores", call::matmul(q, k).transpose_x(true))?;
    let masked = f.bind("masked", call::select(later, f64::NEG_INFINITY, scores))?;
    let p = f.bind("p", call::softmax(masked).axis(-1))?;
    let y = f.bind("y", call::matmul(v, p).transpose_y(true))?;
    let mut program = Program::new(Version::V1_3);
    program.functions.push(f.finish([y]));
    let request = Request {
        of: vec!["y"],
        wrt: vec!["q", "k", "v"],
        recompute: vec!["later", "scores", "masked", "p"],
        ..Request::default()
    };
    let pair = differentiate(&verify(program)?, "main", &request)?;
    let program = |function| {
        let mut program = Program::new(Version::V1_3);
        program.functions.push(function);
        program
    };
    Ok(LayerPair { forward: program(pair.forward), backward: program(pair.backward) })
}

/// Milliseconds of forward and of backward, and the peak of resident memory in MiB.
fn time(cpu: &Cpu, pair: LayerPair) -> Result<[f64; 3], Box<dyn Error>> {
    // Linux: the peak starts from what is resident now.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
    let before = memory_mb("VmRSS");
    let mut given = HashMap::new();
    let (forward, _) = run(cpu, pair.forward, &mut given)?;
    let (backward, _executable) = run(cpu, pair.backward, &mut given)?;
    let peak = memory_mb("VmHWM").zip(before).map_or(f64::NAN, |(peak, before)| peak - before);
    Ok([forward, backward, peak])
}

/// The median time in ms of a program's runs, whose inputs are given or random, and whose results are given to others.
fn run(
    cpu: &Cpu,
    program: Program,
    given: &mut HashMap<String, Tensor>,
) -> Result<(f64, Box<dyn Executable>), Box<dyn Error>> {
    let program = Arc::new(verify(program)?);
    let function = &program.program().functions[0];
    let mut random = Random::stream(0, 1);
    let mut types = Vec::new();
    for &id in &function.body.inputs {
        let value = function.value(id);
        let ty = value.ty.as_tensor().ok_or("an input that is no tensor")?;
        let dims = ty.shape.to_known().ok_or("an input of unknown size")?;
        given.entry(value.name.clone()).or_insert_with(|| {
            let numbers = (0..dims.iter().product()).map(|_| random.below(2001) as f64 / 1e4 - 0.1);
            Tensor::from_f64(ty.dtype, &dims, &numbers.collect::<Vec<f64>>())
                .expect("as many as the dims say")
        });
        types.push(ty);
    }
    let inputs: Vec<&Tensor> =
        function.body.inputs.iter().map(|&id| &given[&function.value(id).name]).collect();
    let mut executable = cpu.prepare(&program, "main", &types, &WeightMap::default())?;
    let mut outputs = allocate_outputs(executable.as_ref())?;
    let mut times = Vec::new();
    for _ in 0..=RUNS {
        let start = Instant::now();
        executable.run(&inputs, &mut outputs)?;
        times.push(start.elapsed().as_secs_f64() * 1e3);
    }
    times.remove(0);
    times.sort_by(f64::total_cmp);
    let names: Vec<String> = executable.outputs().iter().map(|port| port.name.clone()).collect();
    given.extend(names.into_iter().zip(outputs));
    Ok((times[RUNS / 2], executable))
}

/// A line of /proc/self/status in MiB, where there is one.
fn memory_mb(line: &str) -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let value = status.lines().find_map(|text| text.strip_prefix(line)?.strip_prefix(':'))?;
    let kib: f64 = value.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib / 1024.0)
}
