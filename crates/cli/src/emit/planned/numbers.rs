//! What the head's programs for tiles compute, merged, against the formulas in f64: on the CPU, and in the engine's
//! arithmetic, where the plain programs are beside them. `ANEMONE_HEAD=V,D,S` enlarges it.

use std::env;

use anemone_ane::chips::Chip;
use anemone_ane::simulator::Simulator;
use anemone_cpu::Cpu;
use anemone_lm::config::DeviceDtype;
use anemone_lm::programs::Target;
use anemone_lm::programs::head::{EPS, Head};
use anemone_lm::random::Random;
use anemone_mil::runtime::Runtime;
use anemone_mil::tensor::Tensor;
use anemone_mil::types::{DType, TensorType};

use crate::common::random::normal;
use forms::{fused, plain, with_logits};

mod backward;
mod forms;
mod rmsnorm;

/// The loss, dx `[D, S]`, the gain's gradient `[D]`, and dE `[V, D]`.
struct Step {
    loss: f64,
    dx: Vec<f64>,
    dgain: Vec<f64>,
    dembed: Vec<f64>,
}

struct Case {
    head: Head,
    x: Tensor,
    gain: Tensor,
    embed: Vec<f64>,
    targets: Vec<usize>,
}

fn fp16(shape: &[usize], values: &[f64]) -> Tensor {
    Tensor::from_f64(DType::Fp16, shape, values).unwrap()
}

impl Case {
    /// Hidden vectors of this rms, with one channel ten times as large; E and g as models begin.
    fn new([vocab, dim, positions]: [usize; 3], rms: f64) -> Case {
        let head = Head { vocab, dim, positions, eps: EPS, target: Target::new(DeviceDtype::Fp16) };
        let draw = |dims: &[usize], stream, mean, deviation| {
            let ty = TensorType::new(DType::Fp16, dims);
            normal(&ty, dims, Random::stream(7, stream), mean, deviation).unwrap()
        };
        let mut x = draw(&[1, dim, 1, positions], 0, 0.0, rms).to_f64().unwrap();
        x[..positions].iter_mut().for_each(|value| *value *= 10.0);
        let embed = draw(&[vocab, dim], 1, 0.0, 0.02).to_f64().unwrap();
        let gain = draw(&[1, dim, 1, 1], 2, 1.0, 0.1);
        let targets = (0..positions).map(|s| s * 7919 % vocab).collect();
        Case { head, x: fp16(&[1, dim, 1, positions], &x), gain, embed, targets }
    }

    /// By the formulas.
    fn reference(&self) -> Step {
        let Head { vocab, dim, positions, .. } = self.head;
        let (x, gain) = (self.x.to_f64().unwrap(), self.gain.to_f64().unwrap());
        let mut step = Step {
            loss: 0.0,
            dx: vec![0.0; dim * positions],
            dgain: vec![0.0; dim],
            dembed: vec![0.0; vocab * dim],
        };
        let weight = 1.0 / positions as f64;
        for s in 0..positions {
            let column: Vec<f64> = (0..dim).map(|d| x[d * positions + s]).collect();
            let square = column.iter().map(|value| value * value).sum::<f64>() / dim as f64;
            let reciprocal = 1.0 / (square + EPS).sqrt();
            let x_hat: Vec<f64> = column.iter().map(|value| value * reciprocal).collect();
            let xn: Vec<f64> = x_hat.iter().zip(&gain).map(|(x, g)| x * g).collect();
            let rows = || self.embed.chunks_exact(dim);
            let z: Vec<f64> = rows().map(|row| row.iter().zip(&xn).map(|(e, x)| e * x).sum()).collect();
            let largest = z.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let lse = largest + z.iter().map(|z| (z - largest).exp()).sum::<f64>().ln();
            step.loss += weight * (lse - z[self.targets[s]]);
            let mut dxn = vec![0.0; dim];
            for ((v, row), dembed) in rows().enumerate().zip(step.dembed.chunks_exact_mut(dim)) {
                let one = if v == self.targets[s] { 1.0 } else { 0.0 };
                let slope = weight * ((z[v] - lse).exp() - one);
                for (((dxn, dembed), e), xn) in dxn.iter_mut().zip(dembed).zip(row).zip(&xn) {
                    *dxn += slope * e;
                    *dembed += slope * xn;
                }
            }
            let along = (0..dim).map(|d| dxn[d] * gain[d] * x_hat[d]).sum::<f64>() / dim as f64;
            for d in 0..dim {
                step.dgain[d] += dxn[d] * x_hat[d];
                step.dx[d * positions + s] = reciprocal * (dxn[d] * gain[d] - x_hat[d] * along);
            }
        }
        step
    }
}

/// ‖found − expected‖ / ‖expected‖.
fn error(found: &[f64], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let length = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
    let difference = length(&mut found.iter().zip(expected).map(|(a, b)| a - b));
    difference / length(&mut expected.iter().copied())
}

impl Step {
    /// Errors of the loss, dx, dE and the gain's gradient, relative to those of another step.
    fn errors(&self, expected: &Step) -> [f64; 4] {
        [
            (self.loss / expected.loss - 1.0).abs(),
            error(&self.dx, &expected.dx),
            error(&self.dembed, &expected.dembed),
            error(&self.dgain, &expected.dgain),
        ]
    }
}

/// V, D, S, and the most rows of a tile.
fn sizes() -> ([usize; 3], usize) {
    let sizes = env::var("ANEMONE_HEAD").unwrap_or_else(|_| "1000,96,16".to_string());
    let sizes: Vec<usize> = sizes.split(',').map(|size| size.parse().unwrap()).collect();
    let sizes = <[usize; 3]>::try_from(sizes).unwrap();
    (sizes, if sizes[0] > 16384 { 16000 } else { 416 })
}

/// The hidden vectors' rms before the final norm.
const RMS: [f64; 4] = [0.1, 1.0, 10.0, 1000.0];

/// A line of a table, in Markdown.
fn row(name: &str, rms: f64, errors: [f64; 4], events: &str) {
    let errors = errors.map(|error| if error.is_finite() { format!("{error:.1e}") } else { "NaN".into() });
    println!("| {name} | {rms} | {} | {events} |", errors.join(" | "));
}

/// A form of the head's step: from the case, on a runtime, in tiles of at most so many rows.
type Form = fn(&Case, &dyn Runtime, usize) -> Step;

const TILED: [(&str, Form); 2] = [("with logits", with_logits), ("fused", fused)];

fn events(engine: &Simulator) -> String {
    let total = engine.report().total();
    format!("{} | {} | {}", total.overflows, total.dropped, total.flushed)
}

#[test]
fn planned_programs_give_loss_and_gradients_within_one_percent_where_plain_ones_do_not() {
    let (sizes, most) = sizes();
    println!("| form | rms | loss | dx | dE | dgain | overflows | dropped | flushed |");
    for rms in RMS {
        let case = Case::new(sizes, rms);
        let expected = case.reference();
        for (name, form) in TILED {
            let engine = Simulator::new(Chip::M4);
            let found = form(&case, &engine, most).errors(&expected);
            row(name, rms, found, &events(&engine));
            assert!(found.iter().all(|&error| error < 0.01), "{name}, rms {rms}: {found:?}");
        }
        let engine = Simulator::without_rules(Chip::M4);
        let found = plain(&case, &engine).errors(&expected);
        row("plain", rms, found, &events(&engine));
        let total = engine.report().total();
        assert!(total.overflows + total.dropped > 0, "plain, rms {rms}: {total:?}");
        assert!(found.iter().any(|&error| error.is_nan() || error >= 0.01), "plain, rms {rms}: {found:?}");
    }
}

/// Tiles against one tile of all rows, within what rounding their sums to fp16 costs.
#[test]
fn tiles_equal_the_whole_head_on_the_cpu() {
    let (sizes, most) = sizes();
    let cpu = Cpu::new().unwrap();
    for rms in RMS {
        let case = Case::new(sizes, rms);
        let expected = case.reference();
        for (name, form) in TILED {
            let (tiled, whole) = (form(&case, &cpu, most), form(&case, &cpu, sizes[0]));
            let (apart, found) = (tiled.errors(&whole), tiled.errors(&expected));
            row(&format!("{name}, cpu, from f64"), rms, found, "");
            row(&format!("{name}, cpu, from one tile"), rms, apart, "");
            assert!(found.iter().all(|&error| error < 0.01), "{name}, rms {rms}: {found:?}");
            assert!(apart.iter().all(|&error| error < 1e-3), "{name}, rms {rms}: {apart:?}");
        }
    }
}
