//! What a filter of the fused head saves, and what it changes, for a trained model on a text:
//!
//! ```sh
//! cargo run --release -p anemone --example filter -- RUN TEXT [F]…
//! ```
//!
//! RUN is the directory of a run, TEXT is read by its tokenizer, and F are thresholds (2⁻¹² unless given). Prints, for each,
//! the median time of the head's step on a batch, beside the step without a filter and the step as separate programs, and how
//! far dx and dE are from those without a filter: at most, and in the mean, as parts of the largest magnitude there.

use std::path::PathBuf;
use std::time::Instant;

use anemone_cpu::Cpu;
use anemone_lm::config::Config;
use anemone_lm::data::{Batch, Tokens, evaluation_batches, read_text};
use anemone_lm::head::{HeadKind, HeadRunner, Runtimes};
use anemone_lm::model::{Model, NORM_GAIN, classifier};
use anemone_lm::network::{Network, head_of};
use anemone_lm::optimizer::LossScale;
use anemone_lm::run::Trained;
use anemone_lm::tokenizer::Tokenizer;
use anemone_mil::linear_cross_entropy::LossOptions;
use anemone_mil::tensor::Tensor;

type Failure = Box<dyn std::error::Error>;

/// Timed steps, after one that is not timed.
const REPEATS: usize = 9;

/// One step of the head, again and again: the median time in ms, dx and dE.
fn step(
    (config, model): (&Config, &Model),
    (hidden, batch): (&Tensor, &Batch),
    kind: HeadKind,
    options: LossOptions,
    cpu: &Cpu,
) -> Result<(f64, [Vec<f64>; 2]), Failure> {
    let mut runner = HeadRunner::new(head_of(config), kind, options, Runtimes::all(cpu))?;
    let embed = &model.parameter(classifier(&config.model))?.values;
    runner.set_weights(&model.parameter(NORM_GAIN)?.values, embed)?;
    let scale = LossScale::dynamic().scale();
    let mut times_ms = Vec::new();
    for _ in 0..=REPEATS {
        let start = Instant::now();
        runner.step(hidden, &batch.targets, scale)?;
        times_ms.push(start.elapsed().as_secs_f64() * 1e3);
    }
    times_ms.remove(0);
    times_ms.sort_by(f64::total_cmp);
    let (_, gradients) = runner.step(hidden, &batch.targets, scale)?;
    let numbers = |tensor: &Tensor| tensor.to_f64().ok_or("a gradient is no number");
    Ok((times_ms[REPEATS / 2], [numbers(gradients.dx)?, numbers(gradients.dembed)?]))
}

/// The largest and the mean difference, as parts of the largest magnitude.
fn difference(found: &[f64], expected: &[f64]) -> (f64, f64) {
    let largest = expected.iter().fold(0f64, |largest, value| largest.max(value.abs()));
    let errors = found.iter().zip(expected).map(|(found, expected)| (found - expected).abs() / largest);
    let (most, sum) = errors.fold((0f64, 0.0), |(most, sum), error| (most.max(error), sum + error));
    (most, sum / expected.len().max(1) as f64)
}

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [run, text, thresholds @ ..] = &arguments[..] else { return Err("give a run and a text".into()) };
    let thresholds: Vec<f32> = thresholds.iter().map(|text| text.parse()).collect::<Result<_, _>>()?;
    let thresholds = if thresholds.is_empty() { vec![2f32.powi(-12)] } else { thresholds };
    let Trained { config, model, tokenizer } = Trained::load(&PathBuf::from(run))?;
    let tokens = Tokens::from(tokenizer.unwrap_or(Tokenizer::Bytes).encode(&read_text(&[text])?)?);
    let batch = evaluation_batches(&tokens, config.train.batch, config.train.seq).next();
    let batch = batch.ok_or("the text is too short")?;

    let cpu = Cpu::new()?;
    let runtimes = Runtimes::all(&cpu);
    let mut network = Network::new(&config, HeadKind::Programs, false, runtimes)?;
    network.set_weights(&model)?;
    let hidden = network.hidden(&model, &batch.inputs)?.clone();
    let (what, given) = ((&config, &model), (&hidden, &batch));
    let whole = config.loss_options();
    let whole = LossOptions { filter: 0.0, ..whole };
    let (programs, _) = step(what, given, HeadKind::Programs, whole, &cpu)?;
    let (fused, [dx, dembed]) = step(what, given, HeadKind::Fused, whole, &cpu)?;
    println!(
        "V = {}, D = {}, S = {}, {}: programs {programs:.1} ms, fused {fused:.1} ms",
        config.model.vocab,
        config.model.dim,
        config.train.positions(),
        config.train.dtype.name()
    );
    for filter in thresholds {
        let options = LossOptions { filter, ..whole };
        let (ms, found) = step(what, given, HeadKind::Fused, options, &cpu)?;
        let [(most_x, mean_x), (most_e, mean_e)] =
            [difference(&found[0], &dx), difference(&found[1], &dembed)];
        println!(
            "filter {filter:.3e}: {ms:.1} ms, dx off by {most_x:.1e} at most, {mean_x:.1e} in the mean, dE by {most_e:.1e} and {mean_e:.1e}"
        );
    }
    Ok(())
}
