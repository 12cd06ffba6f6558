//! What the head's programs for tiles compute, merged, against the formulas in f64: on the CPU, and in the engine's
//! arithmetic. `ANEMONE_HEAD=V,D,S` enlarges it.

use std::env;
use std::sync::Arc;

use anemone_ane::chips::Chip;
use anemone_ane::simulator::Simulator;
use anemone_cpu::Cpu;
use anemone_lm::config::DeviceDtype;
use anemone_lm::head::merge::{Merged, scaled_for_weight_gradient};
use anemone_lm::programs::head::tiled::{Rows, Tile};
use anemone_lm::programs::head::{EPS, Head};
use anemone_lm::programs::{ProgramError, Target, vocabulary_tiles};
use anemone_lm::random::Random;
use anemone_mil::program::Program;
use anemone_mil::runtime::{Runtime, allocate_outputs};
use anemone_mil::tensor::Tensor;
use anemone_mil::types::{DType, TensorType};
use anemone_mil::verify::verify;
use anemone_mil::weights::WeightMap;

use crate::common::random::normal;

/// The loss, dxn `[D, S]` and dE `[V, D]`.
struct Step {
    loss: f64,
    dxn: Vec<f64>,
    dembed: Vec<f64>,
}

struct Case {
    head: Head,
    x: Tensor,
    embed: Vec<f64>,
    targets: Vec<usize>,
}

fn fp16(shape: &[usize], values: &[f64]) -> Tensor {
    Tensor::from_f64(DType::Fp16, shape, values).unwrap()
}

fn run(runtime: &dyn Runtime, program: Result<Program, ProgramError>, inputs: &[&Tensor]) -> Vec<Tensor> {
    let program = Arc::new(verify(program.unwrap()).unwrap());
    let types: Vec<TensorType> = inputs.iter().map(|input| input.ty()).collect();
    let mut executable = runtime.prepare(&program, "main", &types, &WeightMap::default()).unwrap();
    let mut outputs = allocate_outputs(executable.as_ref()).unwrap();
    executable.run(inputs, &mut outputs).unwrap();
    outputs
}

fn single(tensor: &Tensor) -> Vec<f32> {
    tensor.to_f64().unwrap().into_iter().map(|value| value as f32).collect()
}

impl Case {
    /// Hidden vectors of this rms, with one channel ten times as large; E as models begin.
    fn new([vocab, dim, positions]: [usize; 3], rms: f64) -> Case {
        let head = Head { vocab, dim, positions, eps: EPS, target: Target::new(DeviceDtype::Fp16) };
        let draw = |dims: &[usize], stream, deviation| {
            let ty = TensorType::new(DType::Fp16, dims);
            normal(&ty, dims, Random::stream(7, stream), 0.0, deviation).unwrap()
        };
        let mut x = draw(&[1, dim, 1, positions], 0, rms).to_f64().unwrap();
        x[..positions].iter_mut().for_each(|value| *value *= 10.0);
        let embed = draw(&[vocab, dim], 1, 0.02).to_f64().unwrap();
        let targets = (0..positions).map(|s| s * 7919 % vocab).collect();
        Case { head, x: fp16(&[1, dim, 1, positions], &x), embed, targets }
    }

    /// By the formulas.
    fn reference(&self) -> Step {
        let Head { vocab, dim, positions, .. } = self.head;
        let x = self.x.to_f64().unwrap();
        let mut step = Step { loss: 0.0, dxn: vec![0.0; dim * positions], dembed: vec![0.0; vocab * dim] };
        let weight = 1.0 / positions as f64;
        for s in 0..positions {
            let column: Vec<f64> = (0..dim).map(|d| x[d * positions + s]).collect();
            let square = column.iter().map(|value| value * value).sum::<f64>() / dim as f64;
            let xn: Vec<f64> = column.iter().map(|value| value / (square + EPS).sqrt()).collect();
            let rows = || self.embed.chunks_exact(dim);
            let z: Vec<f64> = rows().map(|row| row.iter().zip(&xn).map(|(e, x)| e * x).sum()).collect();
            let largest = z.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let lse = largest + z.iter().map(|z| (z - largest).exp()).sum::<f64>().ln();
            step.loss += weight * (lse - z[self.targets[s]]);
            for (v, row) in rows().enumerate() {
                let one = if v == self.targets[s] { 1.0 } else { 0.0 };
                let slope = weight * ((z[v] - lse).exp() - one);
                for d in 0..dim {
                    step.dxn[d * positions + s] += slope * row[d];
                    step.dembed[v * dim + d] += slope * xn[d];
                }
            }
        }
        step
    }

    fn xn(&self, runtime: &dyn Runtime) -> Tensor {
        let gain = fp16(&[1, self.head.dim, 1, 1], &vec![1.0; self.head.dim]);
        let norm = Tile { head: self.head, rows: Rows::Input };
        run(runtime, norm.final_rmsnorm(), &[&gain, &self.x]).remove(0)
    }

    /// The tiles' programs without logits, and the host's part.
    fn fused(&self, runtime: &dyn Runtime, most: usize) -> Step {
        let Head { vocab, dim, positions, .. } = self.head;
        let xn = self.xn(runtime);
        let tiles: Vec<_> = vocabulary_tiles(vocab, most)
            .map(|rows| {
                let head = Head { vocab: rows.len(), ..self.head };
                let values = &self.embed[rows.start * dim..rows.end * dim];
                let embed = fp16(&[1, 1, rows.len(), dim], values);
                (Tile { head, rows: Rows::Input }, embed)
            })
            .collect();
        let mut merged = Merged::new(dim, positions);
        let mut maxima = Vec::new();
        for (tile, embed) in &tiles {
            let mut found = run(runtime, tile.fused_forward(), &[embed, &xn]);
            merged.add(&single(&found[0]), &single(&found[1]), &single(&found[2]));
            maxima.push(found.remove(0));
        }
        let (host, weight) = (single(&xn), 1.0 / positions as f32);
        let mut dembed = Vec::new();
        for ((tile, embed), largest) in tiles.iter().zip(&maxima) {
            let factors = merged.probability_factors(&single(largest));
            let (scaled, scale) = scaled_for_weight_gradient(&host, &factors, weight);
            let scaled: Vec<f64> = scaled.into_iter().map(f64::from).collect();
            let scaled = fp16(&[1, dim, 1, positions], &scaled);
            let rows = run(runtime, tile.fused_weight_gradient(), &[embed, largest, &scaled, &xn]).remove(0);
            dembed.extend(rows.to_f64().unwrap().into_iter().map(|value| value / f64::from(scale)));
        }
        let mut dxn: Vec<f64> = merged.mean_row().into_iter().map(f64::from).collect();
        let mut loss = 0.0;
        for (s, &target) in self.targets.iter().enumerate() {
            loss += f64::from(merged.log_sum_exp(s)) / positions as f64;
            for d in 0..dim {
                let (e, x) = (self.embed[target * dim + d], f64::from(host[d * positions + s]));
                loss -= e * x / positions as f64;
                dxn[d * positions + s] = (dxn[d * positions + s] - e) / positions as f64;
                dembed[target * dim + d] -= x / positions as f64;
            }
        }
        Step { loss, dxn, dembed }
    }
}

/// ‖found − expected‖ / ‖expected‖.
fn error(found: &[f64], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let length = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
    let difference = length(&mut found.iter().zip(expected).map(|(a, b)| a - b));
    difference / length(&mut expected.iter().copied())
}

#[test]
fn fused_tiles_give_loss_and_gradients_within_one_percent() {
    let sizes = env::var("ANEMONE_HEAD").unwrap_or_else(|_| "1000,96,16".to_string());
    let sizes: Vec<usize> = sizes.split(',').map(|size| size.parse().unwrap()).collect();
    let sizes = <[usize; 3]>::try_from(sizes).unwrap();
    let most = if sizes[0] > 16384 { 16000 } else { 416 };
    let (cpu, engine) = (Cpu::new().unwrap(), Simulator::new(Chip::M4));
    for rms in [0.1, 1.0, 10.0, 1000.0] {
        let case = Case::new(sizes, rms);
        let expected = case.reference();
        for (name, runtime) in [("cpu", &cpu as &dyn Runtime), ("ane-sim", &engine)] {
            let found = case.fused(runtime, most);
            let loss = (found.loss / expected.loss - 1.0).abs();
            let (dxn, dembed) = (error(&found.dxn, &expected.dxn), error(&found.dembed, &expected.dembed));
            println!("rms {rms}, {name}: loss {loss:.1e}, dxn {dxn:.1e}, dE {dembed:.1e}");
            assert!(loss < 0.01 && dxn < 0.01 && dembed < 0.01, "{name}, rms {rms}: {loss} {dxn} {dembed}");
        }
    }
}
