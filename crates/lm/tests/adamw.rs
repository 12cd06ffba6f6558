//! AdamW and gradient clipping against `torch.optim.AdamW` in float64; `tests/lm/adamw.py` wrote the numbers.

#![allow(clippy::unwrap_used, clippy::panic)]

use anemone_lm::optimizer::{AdamW, Moments, clip_factor, global_norm};
use serde::Deserialize;
use std::collections::BTreeMap;

#[derive(Deserialize)]
struct Fixture {
    beta1: f64,
    beta2: f64,
    eps: f64,
    max_norm: f64,
    weight_decay: BTreeMap<String, f64>,
    weights: BTreeMap<String, Vec<f32>>,
    steps: Vec<Step>,
}

#[derive(Deserialize)]
struct Step {
    lr: f64,
    norm: f64,
    gradients: BTreeMap<String, Vec<f32>>,
    weights: BTreeMap<String, Vec<f64>>,
}

fn fixture() -> Fixture {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/lm/adamw.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// Runs the ten steps with gradients multiplied by `loss_scale` beforehand, and compares after each.
fn agrees_with_torch(loss_scale: f32) {
    let fixture = fixture();
    assert_eq!(fixture.steps.len(), 10);
    let mut weights = fixture.weights.clone();
    let mut moments: BTreeMap<&String, Moments> =
        fixture.weights.iter().map(|(name, w)| (name, Moments::new(w.len()))).collect();
    for (n, step) in (1..).zip(&fixture.steps) {
        let scaled: BTreeMap<&String, Vec<f32>> = step
            .gradients
            .iter()
            .map(|(name, g)| (name, g.iter().map(|x| x * loss_scale).collect()))
            .collect();
        let norm = global_norm(scaled.values().map(Vec::as_slice)) / f64::from(loss_scale);
        assert!((norm - step.norm).abs() <= 1e-14 * step.norm, "step {n}: norm {norm}, not {}", step.norm);
        let factor = (clip_factor(norm, fixture.max_norm) / f64::from(loss_scale)) as f32;
        for (name, weights) in &mut weights {
            let adamw = AdamW {
                beta1: fixture.beta1,
                beta2: fixture.beta2,
                eps: fixture.eps,
                weight_decay: fixture.weight_decay[name],
            };
            let moments = moments.get_mut(name).unwrap();
            adamw.update(n, step.lr, factor, &scaled[name], weights, moments);
            for (i, (&ours, &theirs)) in weights.iter().zip(&step.weights[name]).enumerate() {
                // Each update rounds the weight once (half an ulp) and its own size, lr, to a few ulp.
                let allowed = n as f64 * (theirs.abs() + 4.0 * step.lr) * f64::from(f32::EPSILON);
                assert!(
                    (f64::from(ours) - theirs).abs() <= allowed,
                    "step {n}, {name}[{i}]: {ours}, not {theirs}"
                );
            }
        }
    }
}

#[test]
fn ten_steps_agree_with_torch() {
    agrees_with_torch(1.0);
}

#[test]
fn a_loss_scale_changes_nothing() {
    agrees_with_torch(65536.0);
}
