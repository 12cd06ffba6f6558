//! Whole models with layers against Hugging Face's and llama2.c's: logits, loss, the gradient of every parameter, and
//! ten steps of AdamW (`tests/lm/llama.py` wrote the numbers).

use std::collections::BTreeMap;

use anemone_lm::config::{Config, DeviceDtype, ModelConfig};
use anemone_lm::data::{Batch, Dataset};
use anemone_lm::generate::Generator;
use anemone_lm::head::{HeadKind, Runtimes};
use anemone_lm::model::Model;
use anemone_lm::network::{Gradients, Network};
use anemone_lm::programs::rotary::{halves_from_neighbours, neighbours_from_halves};
use anemone_lm::train::Trainer;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::common::data_dir;
use crate::heads::values;
use crate::subjects::{Promises, Subject};

#[derive(Deserialize)]
struct Fixture {
    settings: Map<String, Value>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    config: ModelConfig,
    /// Whether neighbours of a head are turned, not its halves.
    #[serde(default)]
    neighbours: bool,
    inputs: Vec<u32>,
    targets: Vec<i32>,
    /// `[B, T, V]`.
    logits: Vec<f64>,
    loss: f64,
    gradients: BTreeMap<String, Vec<f64>>,
    text: Vec<u32>,
    losses: Vec<f64>,
}

/// The fixture's cases for a subject: the last alone, where it takes samples and is not fast.
fn fixture(subject: &Subject) -> Fixture {
    let text = std::fs::read_to_string(data_dir("lm").join("llama.json")).unwrap();
    let mut fixture: Fixture = serde_json::from_str(&text).unwrap();
    let Promises { samples, computes_in_f64, exact, .. } = subject.promises;
    if samples && !computes_in_f64 {
        fixture.cases.drain(..fixture.cases.len() - 1);
    }
    // Models need results of the types that their programs declare.
    if exact {
        fixture.cases.clear();
    }
    fixture
}

impl Case {
    fn config(&self, settings: &Map<String, Value>, dtype: DeviceDtype) -> Config {
        let train = serde_json::from_value(Value::Object(settings.clone())).unwrap();
        let mut config = Config { model: self.config.clone(), train };
        config.train.dtype = dtype;
        config
    }

    /// Whether a parameter's rows stand in another order there.
    fn is_turned(&self, name: &str) -> bool {
        self.neighbours && (name.ends_with("q_proj.weight") || name.ends_with("k_proj.weight"))
    }

    /// The model with the fixture's weights: numbers made of a parameter's place among their names.
    fn model(&self) -> Model {
        let mut model = Model::new(&self.config, 0).unwrap();
        let (size, dim) = (self.config.head_size(), self.config.dim);
        for (salt, name) in self.gradients.keys().enumerate() {
            let parameter = model.parameter_mut(name).unwrap();
            let middle = if parameter.shape.len() == 1 { 1.0 } else { 0.0 };
            let fresh = values(parameter.values.len(), salt as u64, 1.0);
            parameter.values = fresh.into_iter().map(|value| (value + middle) as f32).collect();
            if self.is_turned(name) {
                parameter.values = halves_from_neighbours(&parameter.values, size, dim);
            }
        }
        assert_eq!(model.parameters.len(), self.gradients.len());
        model
    }
}

/// The largest difference, over the largest expected magnitude.
fn relative(found: impl IntoIterator<Item = f64>, expected: &[f64]) -> f64 {
    difference(found, expected) / largest(expected)
}

fn largest<'a>(values: impl IntoIterator<Item = &'a f64>) -> f64 {
    values.into_iter().fold(0f64, |largest, value| largest.max(value.abs()))
}

fn difference(found: impl IntoIterator<Item = f64>, expected: &[f64]) -> f64 {
    let found: Vec<f64> = found.into_iter().collect();
    assert_eq!(found.len(), expected.len());
    let differences = found.iter().zip(expected).map(|(found, expected)| (found - expected).abs());
    // What is no number is as far off as can be.
    differences.fold(0.0, |most, one| if one.is_nan() { f64::INFINITY } else { most.max(one) })
}

/// How close a dtype comes, over the largest magnitude of a tensor.
struct Precision {
    dtype: DeviceDtype,
    loss_scale: f32,
    /// Of logits and losses.
    loss: f64,
    /// Of gradients: in fp16 over the largest of the whole model, since all are sums of what the same rounded residual
    /// stream carries, and those of a tensor may nearly cancel.
    gradient: f64,
}

const PRECISIONS: [Precision; 2] = [
    Precision { dtype: DeviceDtype::Fp32, loss_scale: 1.0, loss: 1e-4, gradient: 1e-4 },
    Precision { dtype: DeviceDtype::Fp16, loss_scale: 256.0, loss: 1e-2, gradient: 2e-2 },
];

pub fn logits_loss_and_gradients_are_those_of_torch(subject: &Subject) {
    let runtimes = Runtimes::all(subject.runtime.as_ref());
    let Fixture { settings, cases } = fixture(subject);
    for case in &cases {
        for Precision { dtype, loss_scale, loss: tolerance, gradient } in PRECISIONS {
            for recompute in [false, true] {
                let mut config = case.config(&settings, dtype);
                config.train.recompute = recompute;
                let what = format!("{}, {dtype:?} on {}", case.name, subject.name);
                let mut model = case.model();
                let mut network = Network::new(&config, HeadKind::Programs, true, runtimes).unwrap();
                network.set_weights(&model).unwrap();

                let hidden = network.hidden(&model, &case.inputs).unwrap().clone();
                let logits = network.logits(&hidden).unwrap().to_f64().unwrap();
                let (vocab, positions) = (config.model.vocab, config.train.positions());
                let by_position = (0..positions * vocab).map(|i| logits[i % vocab * positions + i / vocab]);
                let error = relative(by_position, &case.logits);
                assert!(error <= tolerance, "{what}: logits differ by {error}");

                let batch = Batch { inputs: case.inputs.clone(), targets: case.targets.clone() };
                for (gradients, times) in [(Gradients::Replace, 1.0), (Gradients::Add, 2.0)] {
                    let loss = network.gradients(&mut model, &batch, loss_scale, gradients).unwrap();
                    let error = relative([loss.loss], &[case.loss]);
                    assert!(error <= tolerance, "{what}: the loss differs by {error}");
                    check_gradients(case, &model, f64::from(loss_scale) * times, (dtype, gradient), &what);
                }
            }
        }
    }
}

fn check_gradients(
    case: &Case,
    model: &Model,
    scale: f64,
    (dtype, tolerance): (DeviceDtype, f64),
    what: &str,
) {
    let of_all = largest(case.gradients.values().flatten());
    let (size, dim) = (case.config.head_size(), case.config.dim);
    for (name, expected) in &case.gradients {
        let found = model.parameter(name).unwrap().gradient.to_f64().unwrap();
        let mut found: Vec<f32> = found.into_iter().map(|value| value as f32).collect();
        if case.is_turned(name) {
            found = neighbours_from_halves(&found, size, dim);
        }
        let over = if dtype == DeviceDtype::Fp16 { of_all } else { largest(expected) };
        let error = difference(found.iter().map(|value| f64::from(*value) / scale), expected) / over;
        assert!(error <= tolerance, "{what}: the gradient of {name} differs by {error}");
    }
}

/// Token by token after a beginning, with keys and values kept, the logits are those of the whole text; and a text longer
/// than the cache is gone on with from its last half.
pub fn a_text_is_continued_with_the_logits_of_the_whole(subject: &Subject) {
    let runtimes = Runtimes::all(subject.runtime.as_ref());
    let Fixture { settings, cases } = fixture(subject);
    for case in &cases {
        for Precision { dtype, loss: tolerance, .. } in PRECISIONS {
            let config = case.config(&settings, dtype);
            let (model, seq, vocab) = (case.model(), config.train.seq, config.model.vocab);
            let what = format!("{}, {dtype:?} on {}", case.name, subject.name);
            let text = &case.inputs[..seq];
            for begun in [1, 4, seq] {
                let mut generator = Generator::new(&config, &model, runtimes).unwrap();
                for end in begun..=seq {
                    let tokens = if end == begun { &text[..end] } else { &text[end - 1..end] };
                    let logits = generator.logits(&model, tokens).unwrap();
                    let error = relative(
                        logits.into_iter().map(f64::from),
                        &case.logits[(end - 1) * vocab..end * vocab],
                    );
                    assert!(
                        error <= tolerance,
                        "{what}: after {begun} and {end} tokens logits differ by {error}"
                    );
                }
                let longer = generator.logits(&model, &[5]).unwrap();
                generator.forget();
                let half = [&text[seq - (seq / 2 - 1)..], &[5]].concat();
                assert_eq!(generator.logits(&model, &half).unwrap(), longer, "{what}");
            }
        }
    }
}

pub fn ten_steps_have_the_losses_of_torch(subject: &Subject) {
    let runtimes = Runtimes::all(subject.runtime.as_ref());
    let Fixture { settings, cases } = fixture(subject);
    for case in &cases {
        for Precision { dtype, loss_scale, loss: tolerance, .. } in PRECISIONS {
            let config = case.config(&settings, dtype);
            // A text of one sequence: every batch is that.
            let data = Dataset::from_tokens(case.text.clone(), case.text.clone(), config.train.seq).unwrap();
            let trainer = Trainer::with_model(config.clone(), data.clone(), runtimes, case.model()).unwrap();
            // The scale that a run begins with is meant to be too large at first, and PyTorch skips no step.
            let mut checkpoint = trainer.checkpoint().unwrap();
            let mut scale: Value = checkpoint.get("loss_scale").unwrap();
            scale["scale"] = loss_scale.into();
            checkpoint.set("loss_scale", &scale).unwrap();
            let mut trainer = Trainer::resume(config, data, runtimes, &checkpoint).unwrap();
            for expected in &case.losses {
                let record = trainer.step().unwrap();
                let error = relative([record.loss], &[*expected]);
                let what = format!("{}, {dtype:?} on {}, step {}", case.name, subject.name, record.step);
                assert!(error <= tolerance, "{what}: {} and {expected}", record.loss);
            }
        }
    }
}
