//! What the engine's arithmetic does to training: the head as it is written plainly beside this project's, on the simulator
//! of an M4, and the same in fp32 on the CPU. Prints losses and what went wrong, and draws `docs/plain-head.svg`:
//!
//! ```text
//! cargo run --release -p anemone --example plain_head -- [FILE.svg [STEPS]]
//! ```
//!
//! The model is an embedding, the final RMSNorm and a classifier. Its hidden vectors are the embedding's times a factor,
//! which stands for the layers that make them large; the norm takes it away, so in exact numbers it changes nothing.

mod chart;
mod heads;

use std::error::Error;
use std::ffi::OsString;
use std::path::PathBuf;

use anemone_ane::chips::Chip;
use anemone_ane::report::Report;
use anemone_ane::simulator::Simulator;
use anemone_cpu::Cpu;
use anemone_lm::config::{DeviceDtype, ModelConfig, TrainConfig};
use anemone_lm::data::Dataset;
use anemone_lm::embedding;
use anemone_lm::model::{CLASSIFIER, EMBEDDING, Model, NORM_GAIN, Parameter};
use anemone_lm::optimizer::{AdamW, clip_factor};
use anemone_lm::stories;
use anemone_lm::train::schedule;
use anemone_mil::runtime::Runtime;

use chart::Curve;
use heads::{Head, Ours, Plain, Sizes};

const SIZES: Sizes = Sizes { vocab: 4096, dim: 128, positions: 256 };
const BATCH: usize = 4;
/// The factors of the hidden vectors, which begin with an rms of 1.
const SCALES: [f32; 2] = [1.0, 30.0];

/// What is known of a step.
#[derive(Debug, Clone, Copy)]
pub struct Step {
    /// Mean loss in nats per token.
    pub loss: f64,
    /// The part of the products of the classifier's backward, V·D·S of them, that was dropped.
    pub dropped: f64,
    /// Results that became infinite.
    pub overflows: u64,
}

/// The built-in stories in tokens of three bytes, numbered as they first occur; what is beyond the vocabulary shares the
/// last number.
fn tokens(text: &[u8]) -> Vec<u32> {
    let mut known: Vec<&[u8]> = Vec::new();
    let number = |piece| {
        let found = known.iter().position(|&other| other == piece);
        let number = found.unwrap_or_else(|| {
            known.push(piece);
            known.len() - 1
        });
        number.min(SIZES.vocab - 1) as u32
    };
    text.chunks_exact(3).map(number).collect()
}

/// The products dropped in the classifier's backward so far, and all overflows.
fn events(report: Option<&Report>) -> (u64, u64) {
    let Some(report) = report else { return (0, 0) };
    let programs = report.programs();
    let ops = programs.iter().flat_map(|program| &program.ops);
    let backward = ops.filter(|op| op.value == "dxn_matrix");
    (backward.map(|op| op.events.dropped).sum(), report.total().overflows)
}

/// Trains with a head for some steps.
fn train(
    head: &mut dyn Head,
    scale: f32,
    report: Option<&Report>,
    data: &Dataset,
    steps: u64,
) -> Result<Vec<Step>, Box<dyn Error>> {
    let settings = TrainConfig { steps, ..TrainConfig::default() };
    let Sizes { vocab, dim, positions } = SIZES;
    let mut model = Model::new(&ModelConfig { vocab, dim, ..ModelConfig::default() }, settings.seed)?;
    let (mut done, mut updates, mut before) = (Vec::new(), 0, events(report));
    for step in 0..steps {
        let batch = data.batch(settings.seed, step, BATCH);
        let mut x = vec![0f32; dim * positions];
        embedding::gather(&model.parameter(EMBEDDING)?.values, dim, &batch.inputs, &mut x)?;
        x.iter_mut().for_each(|x| *x *= scale);
        let weights = [&model.parameter(NORM_GAIN)?.values[..], &model.parameter(CLASSIFIER)?.values];
        let found = head.step(weights, &x, &batch.targets)?;

        let [dx, dgain, dembed] = found.gradients;
        let gradient = model.parameter_mut(EMBEDDING)?.gradient_sums()?;
        gradient.fill(0.0);
        embedding::scatter_add(&dx, dim, &batch.inputs, scale, gradient)?;
        model.parameter_mut(NORM_GAIN)?.gradient_sums()?.copy_from_slice(&dgain);
        model.parameter_mut(CLASSIFIER)?.gradient_sums()?.copy_from_slice(&dembed);
        let squares: f64 = model.parameters.iter().map(Parameter::gradient_squares).sum();
        let norm = squares.sqrt() / f64::from(found.loss_scale);
        if head.accepts(norm) {
            updates += 1;
            let lr = schedule(&settings).at(step);
            let factor = clip_factor(norm, settings.grad_clip) / f64::from(found.loss_scale);
            for parameter in &mut model.parameters {
                let weight_decay = if parameter.decay { settings.weight_decay } else { 0.0 };
                let adamw = AdamW { weight_decay, ..AdamW::default() };
                parameter.update(&adamw, updates, lr, factor as f32);
            }
        }
        let after = events(report);
        let products = (vocab * dim * positions) as f64;
        let dropped = (after.0 - before.0) as f64 / products;
        done.push(Step { loss: found.loss, dropped, overflows: after.1 - before.1 });
        before = after;
    }
    Ok(done)
}

fn print(name: &str, steps: &[Step]) {
    println!("{name}\n  step    loss  dropped  overflows");
    let every = (steps.len() / 6).max(1);
    for (at, step) in steps.iter().enumerate().filter(|(at, _)| at % every == 0 || at + 1 == steps.len()) {
        println!("{:>6}  {:.4}  {:>6.1}%  {:>9}", at + 1, step.loss, 100.0 * step.dropped, step.overflows);
    }
}

/// How far the losses of each curve are from those of the first.
fn print_differences(curves: &[Curve]) {
    let [exact, others @ ..] = curves else { return };
    println!("largest difference from the losses of {}", exact.name);
    for curve in others {
        let pairs = curve.steps.iter().zip(&exact.steps);
        let (difference, step) = pairs
            .zip(1..)
            .map(|((step, exact), number)| ((step.loss - exact.loss).abs(), number))
            .fold((0.0, 0), |most, other| if other.0 > most.0 { other } else { most });
        println!("{difference:>9.4} at step {step}: {}", curve.name);
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args_os().skip(1);
    let file = arguments.next().map_or_else(|| PathBuf::from("docs/plain-head.svg"), PathBuf::from);
    let number = |text: OsString| text.to_str()?.parse().ok().filter(|&steps| steps > 0);
    let steps = arguments.next().map_or(Some(300), number).ok_or("STEPS is a whole number from 1")?;
    let tokens = tokens(stories::built_in().as_bytes());
    let data = Dataset::from_tokens(tokens, vec![0; 2], SIZES.positions / BATCH)?;
    let cpu = Cpu::new()?;
    let mut curves = Vec::new();
    let mut add = |name: String, steps: Vec<Step>| {
        print(&name, &steps);
        curves.push(Curve { name, steps });
    };
    let mut exact = Ours::new(SIZES, DeviceDtype::Fp32, &cpu, &cpu)?;
    add("fp32, CPU".to_string(), train(&mut exact, SCALES[0], None, &data, steps)?);
    for scale in SCALES {
        let simulator = Simulator::new(Chip::M4);
        let mut ours = Ours::new(SIZES, DeviceDtype::Fp16, &simulator, &cpu)?;
        let done = train(&mut ours, scale, Some(simulator.report()), &data, steps)?;
        add(format!("ours, rms {scale}"), done);
    }
    for scale in SCALES {
        let simulator = Simulator::new(Chip::M4);
        let mut plain = Plain::new(SIZES, &simulator as &dyn Runtime, &cpu)?;
        let done = train(&mut plain, scale, Some(simulator.report()), &data, steps)?;
        add(format!("plain, rms {scale}"), done);
    }
    print_differences(&curves);
    chart::write(&file, &curves)
}
