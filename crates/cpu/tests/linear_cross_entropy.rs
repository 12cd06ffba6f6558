//! The classifier with its loss in one against PyTorch in f64, kept or computed twice, on any number of threads.

#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use anemone_cpu::{Cpu, InstructionPath};
use anemone_mil::linear_cross_entropy::{
    Classifier, LOGITS_BYTES, LinearCrossEntropy, LossGradients, LossInputs, LossOptions, LossTotals,
    Reduction,
};
use anemone_mil::runtime::Runtime;
use anemone_mil::tensor::Tensor;
use anemone_mil::types::DType;
use common::paths::{cpu_on, paths};
use serde_json::Value;

/// A case of the fixture, with the inputs that its formula gives.
struct Case {
    expected: Value,
    classifier: Classifier,
    options: LossOptions,
    x: Tensor,
    embed: Tensor,
    bias: Option<Tensor>,
    targets: Vec<i32>,
}

/// What a run gave.
struct Found {
    totals: LossTotals,
    losses: Vec<f32>,
    dx: Vec<f64>,
    dembed: Vec<f64>,
    dbias: Vec<f64>,
}

fn values(dtype: DType, shape: &[usize], salt: u64, scale: f64) -> Tensor {
    let count: usize = shape.iter().product();
    let value = |i: u64| {
        let mixed = ((i + salt * 1_000_003) * 2_654_435_761) % (1 << 32);
        ((mixed >> 22) as f64 / 1024.0 - 0.5) * scale
    };
    let values: Vec<f64> = (0..count as u64).map(value).collect();
    Tensor::from_f64(dtype, shape, &values).unwrap()
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
}

fn cases(dtype: DType) -> Vec<Case> {
    let path =
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/lm/linear_cross_entropy.json");
    let cases: Vec<Value> = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let case = |expected: Value| {
        let size = |name: &str| expected[name].as_u64().unwrap() as usize;
        let number = |name: &str| expected[name].as_f64().unwrap() as f32;
        let (vocab, dim, positions) = (size("vocab"), size("dim"), size("positions"));
        let options = LossOptions {
            label_smoothing: number("label_smoothing"),
            z_loss: number("z_loss"),
            softcap: expected["softcap"].as_f64().map(|cap| cap as f32),
            reduction: if expected["reduction"] == "mean" { Reduction::Mean } else { Reduction::Sum },
            ..LossOptions::default()
        };
        Case {
            classifier: Classifier { vocab, dim, positions, dtype, logits_bytes: LOGITS_BYTES },
            options,
            x: values(dtype, &[1, dim, 1, positions], 1, 8.0),
            embed: values(dtype, &[vocab, dim], 2, 1.0),
            bias: expected["bias"].as_bool().unwrap().then(|| values(dtype, &[vocab], 3, 2.0)),
            targets: numbers(&expected["targets"]).iter().map(|&target| target as i32).collect(),
            expected,
        }
    };
    cases.into_iter().map(case).collect()
}

impl Case {
    fn run(&self, head: &mut dyn LinearCrossEntropy, gradients: DType) -> Found {
        let Classifier { vocab, dim, positions, .. } = self.classifier;
        // What is there before must not matter.
        let filled = |shape: &[usize]| {
            let count = shape.iter().product();
            Tensor::from_f64(gradients, shape, &vec![7.0; count]).unwrap()
        };
        let (mut dx, mut dembed, mut dbias) =
            (filled(&[1, dim, 1, positions]), filled(&[vocab, dim]), filled(&[vocab]));
        let mut losses = vec![7.0; positions];
        let inputs =
            LossInputs { x: &self.x, embed: &self.embed, bias: self.bias.as_ref(), targets: &self.targets };
        let scale = self.expected["scale"].as_f64().unwrap() as f32;
        let gradients = LossGradients { scale, dx: &mut dx, dembed: &mut dembed, dbias: Some(&mut dbias) };
        let totals = head.run(inputs, Some(&mut losses), Some(gradients)).unwrap();
        let [dx, dembed, dbias] = [dx, dembed, dbias].map(|tensor| tensor.to_f64().unwrap());
        Found { totals, losses, dx, dembed, dbias }
    }

    /// Compares with PyTorch's numbers: within `relative` of the largest of each kind.
    fn check(&self, found: &Found, relative: f64, what: &str) {
        let name = self.expected["name"].as_str().unwrap();
        let close = |found: &[f64], expected: &[f64], kind: &str| {
            let largest = expected.iter().fold(0f64, |largest, value| largest.max(value.abs()));
            assert_eq!(found.len(), expected.len(), "{name}, {what}: {kind}");
            for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
                let error = (found - expected).abs();
                assert!(
                    error <= relative * largest + 1e-12,
                    "{name}, {what}: {kind}[{i}] is {found}, not {expected} (largest {largest})"
                );
            }
        };
        let dim = self.classifier.dim;
        let rows: Vec<usize> = numbers(&self.expected["rows"]).iter().map(|&row| row as usize).collect();
        let row_values = |values: &[f64], width: usize| -> Vec<f64> {
            rows.iter().flat_map(|&row| values[row * width..(row + 1) * width].to_vec()).collect()
        };
        let losses: Vec<f64> = found.losses.iter().map(|&loss| f64::from(loss)).collect();
        close(&[found.totals.loss], &[self.expected["loss"].as_f64().unwrap()], "loss");
        close(&[found.totals.z_loss], &[self.expected["z_loss_part"].as_f64().unwrap()], "z-loss");
        close(&losses, &numbers(&self.expected["losses"]), "losses");
        close(&found.dx, &numbers(&self.expected["dx"]), "dx");
        close(&row_values(&found.dembed, dim), &numbers(&self.expected["dembed"]), "dE");
        close(&row_values(&found.dbias, 1), &numbers(&self.expected["dbias"]), "db");
    }
}

/// How far fp32 gradients may be off, of the largest of each kind: the matrix unit takes the gradients of logits as 16 bits
/// where weights are fp16.
fn allowed(path: InstructionPath, dtype: DType) -> f64 {
    if path.multiplies_by_unit() && dtype == DType::Fp16 { 1e-5 } else { 3e-6 }
}

#[test]
fn agrees_with_pytorch() {
    for dtype in [DType::Fp16, DType::Fp32] {
        for case in cases(dtype) {
            for path in paths() {
                let mut first = None;
                for (threads, logits_bytes) in [(1, LOGITS_BYTES), (2, 0), (3, LOGITS_BYTES), (3, 0)] {
                    let cpu = cpu_on(path, threads);
                    let classifier = Classifier { logits_bytes, ..case.classifier };
                    let mut head = cpu.linear_cross_entropy(classifier, case.options).unwrap();
                    let what = format!("{dtype}, {path}, {threads} threads, {logits_bytes} bytes for logits");
                    let found = case.run(head.as_mut(), DType::Fp32);
                    case.check(&found, allowed(path, dtype), &what);
                    // Kept or computed again, on any number of threads: the same numbers.
                    let bits = (found.totals.loss.to_bits(), found.dx.clone(), found.dembed.clone());
                    assert_eq!(first.get_or_insert_with(|| bits.clone()), &bits, "{what}");
                    case.check(&case.run(head.as_mut(), DType::Fp16), 6e-4, &what);
                }
            }
        }
    }
}

/// Loss, dx and dE in f64 of x `[D, S]` and E `[V, D]`, where tokens whose derivative is below `filter` at all positions, and
/// that are no targets, add nothing to dx and dE. No derivative may be near the filter.
fn filtered(
    [vocab, dim, positions]: [usize; 3],
    x: &[f64],
    embed: &[f64],
    targets: &[i32],
    filter: f64,
) -> [Vec<f64>; 2] {
    let mut dlogits = vec![0.0; vocab * positions];
    for s in 0..positions {
        let logit = |v: usize| (0..dim).map(|d| embed[v * dim + d] * x[d * positions + s]).sum::<f64>();
        let logits: Vec<f64> = (0..vocab).map(logit).collect();
        let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = logits.iter().map(|z| (z - largest).exp()).sum();
        for (v, z) in logits.iter().enumerate() {
            let target = f64::from(u8::from(targets[s] == v as i32));
            dlogits[v * positions + s] = (z - largest).exp() / sum - target;
        }
    }
    let (mut dx, mut dembed) = (vec![0.0; dim * positions], vec![0.0; vocab * dim]);
    let mut left_out = 0;
    for (v, row) in dlogits.chunks_exact(positions).enumerate() {
        let largest = row.iter().fold(0f64, |largest, value| largest.max(value.abs()));
        assert!(
            (largest / filter - 1.0).abs() > 1e-3 || targets.contains(&(v as i32)),
            "{largest} is near {filter}"
        );
        if largest < filter && !targets.contains(&(v as i32)) {
            left_out += 1;
            continue;
        }
        for (d, s) in (0..dim).flat_map(|d| (0..positions).map(move |s| (d, s))) {
            dx[d * positions + s] += embed[v * dim + d] * row[s] / positions as f64;
            dembed[v * dim + d] += x[d * positions + s] * row[s] / positions as f64;
        }
    }
    assert!(filter == 0.0 || left_out > vocab / 4 && left_out < vocab, "{left_out} of {vocab} are left out");
    [dx, dembed]
}

#[test]
fn a_filter_leaves_out_what_is_below_it() {
    let (vocab, dim, positions) = (1100, 12, 21);
    let x = values(DType::Fp32, &[1, dim, 1, positions], 1, 6.0);
    let embed = values(DType::Fp32, &[vocab, dim], 2, 6.0);
    let targets: Vec<i32> = (0..positions as i32).map(|s| s * 53 % vocab as i32).collect();
    let [of_x, of_embed] = [&x, &embed].map(|tensor| tensor.to_f64().unwrap());
    for filter in [0.0, 2f32.powi(-9), 2f32.powi(-7)] {
        let expected = filtered([vocab, dim, positions], &of_x, &of_embed, &targets, f64::from(filter));
        for path in paths() {
            let mut first = None;
            for (threads, logits_bytes) in [(1, LOGITS_BYTES), (2, 0), (3, LOGITS_BYTES)] {
                let classifier = Classifier { vocab, dim, positions, dtype: DType::Fp32, logits_bytes };
                let options = LossOptions { filter, ..LossOptions::default() };
                let cpu = cpu_on(path, threads);
                let mut head = cpu.linear_cross_entropy(classifier, options).unwrap();
                let (mut dx, mut dembed) = (x.clone(), embed.clone());
                let inputs = LossInputs { x: &x, embed: &embed, bias: None, targets: &targets };
                let gradients = LossGradients { scale: 1.0, dx: &mut dx, dembed: &mut dembed, dbias: None };
                head.run(inputs, None, Some(gradients)).unwrap();
                let found = [dx, dembed].map(|tensor| tensor.to_f64().unwrap());
                for (found, expected) in found.iter().zip(&expected) {
                    let largest = expected.iter().fold(0f64, |largest, value| largest.max(value.abs()));
                    for (found, expected) in found.iter().zip(expected) {
                        assert!(
                            (found - expected).abs() <= 3e-6 * largest,
                            "{path}, {filter}: {found}, {expected}"
                        );
                        assert!(*expected != 0.0 || *found == 0.0);
                    }
                }
                assert_eq!(first.get_or_insert_with(|| found.clone()), &found, "{path}, {threads} threads");
            }
        }
    }
    let wrong = LossOptions { filter: 1.0, ..LossOptions::default() };
    let classifier = Classifier { vocab, dim, positions, dtype: DType::Fp32, logits_bytes: 0 };
    assert!(Cpu::new().unwrap().linear_cross_entropy(classifier, wrong).is_err());
}

#[test]
fn ignored_positions_are_not_looked_at_and_may_be_all() {
    for path in paths() {
        let cpu = cpu_on(path, 2);
        let mut case = cases(DType::Fp16).swap_remove(0);
        let positions = case.classifier.positions;
        let mut head = cpu.linear_cross_entropy(case.classifier, case.options).unwrap();
        let ignored: Vec<usize> = (0..positions).filter(|&s| case.targets[s] == -100).collect();
        let x = case.x.as_mut_slice::<half::f16>().unwrap();
        for row in x.chunks_exact_mut(positions) {
            ignored.iter().for_each(|&s| row[s] = half::f16::NAN);
        }
        let found = case.run(head.as_mut(), DType::Fp32);
        case.check(&found, allowed(path, DType::Fp16), &format!("{path}, NaN where ignored"));

        case.targets.fill(-100);
        let found = case.run(head.as_mut(), DType::Fp32);
        assert_eq!(found.totals, LossTotals::default());
        let all = [&found.dx, &found.dembed, &found.dbias].into_iter().flatten().copied();
        assert!(all.chain(found.losses.iter().map(|&loss| f64::from(loss))).all(|value| value == 0.0));
    }
}

#[test]
fn logits_of_any_size_give_a_finite_loss() {
    let cpu = Cpu::new().unwrap();
    let classifier =
        Classifier { vocab: 3, dim: 1, positions: 2, dtype: DType::Fp32, logits_bytes: LOGITS_BYTES };
    let mut head = cpu.linear_cross_entropy(classifier, LossOptions::default()).unwrap();
    let x = Tensor::from_values(&[1, 2], vec![1e30f32, -1e30]).unwrap();
    let embed = Tensor::from_values(&[3, 1], vec![1.0f32, 1.0, -1.0]).unwrap();
    let inputs = LossInputs { x: &x, embed: &embed, bias: None, targets: &[0, 2] };
    let totals = head.run(inputs, None, None).unwrap();
    assert!((totals.loss - 2f64.ln() / 2.0).abs() < 1e-7, "{}", totals.loss);
}

#[test]
fn words_that_cannot_come_are_as_if_they_were_not_there() {
    let (dim, positions) = (8, 5);
    // Fewer than are taken at once, as many, more, more than a tile has, and in the middle.
    for (vocab, masked) in [(48, 0..15), (48, 0..16), (48, 0..40), (1100, 0..1024), (48, 16..32)] {
        let x = values(DType::Fp32, &[1, dim, 1, positions], 1, 4.0);
        let embed = values(DType::Fp32, &[vocab, dim], 2, 1.0);
        let bias: Vec<f32> =
            (0..vocab).map(|v| if masked.contains(&v) { f32::NEG_INFINITY } else { 0.25 }).collect();
        let (numbers_of_x, numbers_of_embed) = (x.to_f64().unwrap(), embed.to_f64().unwrap());
        let logit = |v: usize, s: usize| -> f64 {
            let product = (0..dim).map(|d| numbers_of_embed[v * dim + d] * numbers_of_x[d * positions + s]);
            product.sum::<f64>() + 0.25
        };
        let words: Vec<usize> = (0..vocab).filter(|v| !masked.contains(v)).collect();
        let loss =
            |s: usize| words.iter().map(|&v| logit(v, s).exp()).sum::<f64>().ln() - logit(vocab - 1, s);
        let expected = (0..positions).map(loss).sum::<f64>() / positions as f64;
        let bias = Tensor::from_values(&[vocab], bias).unwrap();
        let targets = vec![vocab as i32 - 1; positions];
        for path in paths() {
            let classifier =
                Classifier { vocab, dim, positions, dtype: DType::Fp32, logits_bytes: LOGITS_BYTES };
            let cpu = cpu_on(path, 2);
            let mut head = cpu.linear_cross_entropy(classifier, LossOptions::default()).unwrap();
            let (mut dx, mut dembed) = (x.clone(), embed.clone());
            let inputs = LossInputs { x: &x, embed: &embed, bias: Some(&bias), targets: &targets };
            let gradients = LossGradients { scale: 1.0, dx: &mut dx, dembed: &mut dembed, dbias: None };
            let totals = head.run(inputs, None, Some(gradients)).unwrap();
            assert!((totals.loss - expected).abs() < 1e-5, "{path}: {} {expected}", totals.loss);
            let gradients = dembed.to_f64().unwrap();
            for (v, row) in gradients.chunks_exact(dim).enumerate() {
                assert!(row.iter().all(|&value| value.is_finite() && (value == 0.0 || !masked.contains(&v))));
            }
            assert!(dx.to_f64().unwrap().iter().all(|value| value.is_finite()));
        }
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let cpu = Cpu::new().unwrap();
    let case = cases(DType::Fp32).swap_remove(0);
    let mut head = cpu.linear_cross_entropy(case.classifier, case.options).unwrap();
    let inputs = LossInputs { x: &case.x, embed: &case.embed, bias: None, targets: &case.targets };
    let mut refused = |inputs: LossInputs<'_>| head.run(inputs, None, None).unwrap_err().to_string();
    assert!(refused(LossInputs { x: &case.embed, ..inputs }).contains("x has 703 elements, 437 are"));
    assert!(refused(LossInputs { targets: &[0], ..inputs }).contains("1 targets were given for 23"));
    let targets = vec![37; 23];
    assert!(refused(LossInputs { targets: &targets, ..inputs }).contains("target 37 at position 0"));
    let options = LossOptions { softcap: Some(-1.0), ..case.options };
    assert!(cpu.linear_cross_entropy(case.classifier, options).is_err());
    let huge = Classifier { vocab: 1 << 40, positions: 1 << 40, ..case.classifier };
    assert!(cpu.linear_cross_entropy(huge, case.options).is_err());
}
