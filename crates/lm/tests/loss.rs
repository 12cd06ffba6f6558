//! The loss and its gradient against `torch.nn.functional.cross_entropy` in float64 (`tests/lm/loss.py` wrote the
//! numbers), and at a size of several blocks against the formula in f64.

#![allow(clippy::unwrap_used, clippy::panic)]

use anemone_lm::data::IGNORE_INDEX;
use anemone_lm::element::DeviceElement;
use anemone_lm::loss::{LogitsGradient, LossError, cross_entropy};
use anemone_lm::random::Random;
use anemone_mil::linear_cross_entropy::{LossOptions, LossTotals, OptionsError, Reduction};
use half::f16;
use serde::Deserialize;

#[derive(Deserialize)]
struct Case {
    name: String,
    dtype: String,
    vocab: usize,
    targets: Vec<i32>,
    loss_scale: f32,
    label_smoothing: f32,
    z_loss: f32,
    softcap: Option<f32>,
    reduction: String,
    logits: Vec<f32>,
    loss: f64,
    z_loss_part: f64,
    gradient: Vec<f64>,
    probabilities: Vec<f32>,
    gradient_of_probabilities: Vec<f64>,
}

/// The loss by the default options, and its gradient from logits or, where they are given, probabilities.
fn plain<E: DeviceElement>(
    logits: &[E],
    vocab: usize,
    targets: &[i32],
    scale: f32,
    probabilities: Option<&[E]>,
    to: &mut [E],
) -> Result<LossTotals, LossError> {
    let gradient = LogitsGradient { scale, probabilities, to };
    cross_entropy(logits, vocab, targets, &LossOptions::default(), Some(gradient))
}

/// The loss by the default options.
fn loss(logits: &[f32], vocab: usize, targets: &[i32]) -> f64 {
    cross_entropy(logits, vocab, targets, &LossOptions::default(), None).unwrap().loss
}

/// Where a stored gradient may lie: |p| and the one-hot part in fp32 to a few ulp, then one rounding to E.
fn assert_gradient<E: DeviceElement>(name: &str, ours: &[E], theirs: &[f64], factor: f64) {
    assert_eq!(ours.len(), theirs.len());
    let half_ulp_of_storage = |x: f64| match size_of::<E>() {
        2 => (x.abs() * 2f64.powi(-11)).max(2f64.powi(-25)),
        _ => x.abs() * 2f64.powi(-24),
    };
    for (i, (ours, theirs)) in ours.iter().zip(theirs).enumerate() {
        let (ours, theirs) = (f64::from(ours.to_f32()), theirs * factor);
        let allowed = 1.001 * half_ulp_of_storage(theirs) + 1e-6 * theirs.abs();
        // p − 1 of a word nearly sure is a difference in fp32: absolute error one ulp of 1.
        let near_one = f64::from(f32::EPSILON) * factor;
        assert!((ours - theirs).abs() <= allowed + near_one, "{name}[{i}]: {ours}, not {theirs}");
        if theirs == 0.0 {
            assert_eq!(ours, 0.0, "{name}[{i}]");
        }
    }
}

fn check<E: DeviceElement>(case: &Case) {
    let stored = |values: &[f32]| -> Vec<E> { values.iter().map(|&x| E::from_f32(x)).collect() };
    let options = LossOptions {
        label_smoothing: case.label_smoothing,
        z_loss: case.z_loss,
        softcap: case.softcap,
        reduction: if case.reduction == "mean" { Reduction::Mean } else { Reduction::Sum },
        ..LossOptions::default()
    };
    // The fixture's gradients hold w_s; what remains is the loss scale.
    let scale = f64::from(case.loss_scale);
    let close = |ours: f64, theirs: f64| {
        let allowed = 1e-6 * theirs.abs() + 1e-7;
        assert!((ours - theirs).abs() <= allowed, "{}: {ours}, not {theirs}", case.name);
    };
    let (logits, probabilities) = (stored(&case.logits), stored(&case.probabilities));
    let alone = cross_entropy(&logits, case.vocab, &case.targets, &options, None).unwrap();
    close(alone.loss, case.loss);
    close(alone.z_loss, case.z_loss_part);
    assert_eq!(alone.counted, case.targets.iter().filter(|&&t| t != IGNORE_INDEX).count());
    for (probabilities, expected) in
        [(None, &case.gradient), (Some(&*probabilities), &case.gradient_of_probabilities)]
    {
        let mut to = vec![E::from_f32(7.0); case.logits.len()];
        let gradient = LogitsGradient { scale: case.loss_scale, probabilities, to: &mut to };
        let totals = cross_entropy(&logits, case.vocab, &case.targets, &options, Some(gradient)).unwrap();
        assert_eq!(totals, alone);
        assert_gradient(&case.name, &to, expected, scale);
    }
}

#[test]
fn agrees_with_torch() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/lm/loss.json");
    let cases: Vec<Case> = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    assert_eq!(cases.len(), 34);
    for case in &cases {
        match case.dtype.as_str() {
            "fp16" => check::<f16>(case),
            "fp32" => check::<f32>(case),
            other => panic!("unknown dtype {other}"),
        }
    }
}

/// V = 4000, S = 64 is several blocks of rows. The reference is the formula, column by column in f64.
fn several_blocks<E: DeviceElement>() {
    let (vocab, positions, loss_scale) = (4000, 64, 65536.0f32);
    let mut random = Random::new(11);
    let logits: Vec<E> = (0..vocab * positions).map(|_| E::from_f32(4.0 * random.normal() as f32)).collect();
    let targets: Vec<i32> =
        (0..positions).map(|s| if s % 5 == 3 { IGNORE_INDEX } else { random.below(vocab) as i32 }).collect();
    let counted = targets.iter().filter(|&&t| t >= 0).count() as f64;
    let z = |v: usize, s: usize| f64::from(logits[v * positions + s].to_f32());

    let mut expected_loss = 0.0;
    let mut expected = vec![0.0; vocab * positions];
    for (s, &target) in targets.iter().enumerate().filter(|(_, target)| **target >= 0) {
        let sum: f64 = (0..vocab).map(|v| z(v, s).exp()).sum();
        expected_loss += (sum.ln() - z(target as usize, s)) / counted;
        for v in 0..vocab {
            let onehot = f64::from(u8::from(v == target as usize));
            expected[v * positions + s] = (z(v, s).exp() / sum - onehot) / counted;
        }
    }
    let mut gradient = vec![E::default(); vocab * positions];
    let totals = plain(&logits, vocab, &targets, loss_scale, None, &mut gradient).unwrap();
    assert!((totals.loss - expected_loss).abs() < 1e-6 * expected_loss, "{} {expected_loss}", totals.loss);
    assert_gradient("several blocks", &gradient, &expected, f64::from(loss_scale));
    // The gradient of a softmax sums to zero over the vocabulary: nothing was lost to fp16's subnormals.
    for s in 0..positions {
        let sum: f64 = (0..vocab).map(|v| f64::from(gradient[v * positions + s].to_f32())).sum();
        assert!(sum.abs() < 2e-3 * f64::from(loss_scale) / counted, "position {s}: {sum}");
    }
    let mut again = vec![E::default(); vocab * positions];
    assert_eq!(plain(&logits, vocab, &targets, loss_scale, None, &mut again).unwrap(), totals);
    assert!(gradient.iter().zip(&again).all(|(a, b)| a.to_f32().to_bits() == b.to_f32().to_bits()));
}

#[test]
fn several_blocks_agree_with_the_formula() {
    several_blocks::<f32>();
    several_blocks::<f16>();
}

/// The finite-difference slope of the loss along every logit.
#[test]
fn the_gradient_is_the_slope_of_the_loss() {
    let logits = [0.3f32, -1.0, 2.0, 0.0, 0.5, 1.0];
    let targets = [2, 0];
    let mut gradient = [0.0; 6];
    plain(&logits, 3, &targets, 8.0, None, &mut gradient).unwrap();
    for i in 0..logits.len() {
        let at = |step: f32| {
            let mut moved = logits;
            moved[i] += step;
            loss(&moved, 3, &targets)
        };
        let slope = (at(0.125) - at(-0.125)) / 0.25;
        assert!((slope - f64::from(gradient[i]) / 8.0).abs() < 2e-3, "{i}: {slope} {}", gradient[i]);
    }
}

#[test]
fn a_batch_without_counted_positions_has_no_loss_and_no_gradient() {
    let garbage = [f32::NAN, f32::INFINITY, 0.0, 5.0];
    let all = LossOptions { label_smoothing: 0.1, z_loss: 0.1, softcap: Some(2.0), ..LossOptions::default() };
    for options in [LossOptions::default(), all] {
        for probabilities in [None, Some(&garbage[..])] {
            let mut to = [9.0; 4];
            let gradient = LogitsGradient { scale: 64.0, probabilities, to: &mut to };
            let totals = cross_entropy(&garbage, 2, &[IGNORE_INDEX; 2], &options, Some(gradient)).unwrap();
            assert_eq!(totals, LossTotals::default());
            assert_eq!(to, [0.0; 4]);
        }
        let gradient = LogitsGradient { scale: 1.0, probabilities: Some(&[]), to: &mut [] };
        let totals = cross_entropy::<f32>(&[], 7, &[], &options, Some(gradient)).unwrap();
        assert_eq!(totals, LossTotals::default());
    }
}

/// Any number may stand for what is ignored, a word's too.
#[test]
fn the_ignored_target_is_the_options() {
    let options = LossOptions { ignore_index: 1, ..LossOptions::default() };
    let logits = [0.0f32, 3.0, 0.0, f32::NAN];
    let totals = cross_entropy(&logits, 2, &[0, 1], &options, None).unwrap();
    assert_eq!(totals, LossTotals { loss: 2f64.ln(), z_loss: 0.0, counted: 1 });
    let refused = cross_entropy(&logits, 2, &[0, IGNORE_INDEX], &options, None).unwrap_err();
    assert_eq!(refused.to_string(), "target -100 at position 1 is not below the vocabulary of 2, nor 1");
}

#[test]
fn what_is_not_finite_is_seen_where_it_counts_and_only_there() {
    // Position 0 counts, position 1 holds garbage and is ignored.
    let targets = [0, IGNORE_INDEX];
    let mut gradient = [0.0f32; 4];
    let logits = [1.0, f32::NAN, 1.0, f32::NAN];
    let totals = plain(&logits, 2, &targets, 2.0, None, &mut gradient).unwrap();
    assert_eq!((totals.loss, gradient), (2f64.ln(), [-1.0, 0.0, 1.0, 0.0]));
    let totals = plain(&[f32::NAN, 0.0, 1.0, 0.0], 2, &targets, 2.0, None, &mut gradient).unwrap();
    assert!(totals.loss.is_nan() && gradient[0].is_nan());
    // A word that cannot come, with all the other logits far below zero.
    assert_eq!(loss(&[-9000.0, 0.0, f32::NEG_INFINITY, 0.0], 2, &targets), 0.0);
    // A target to which softmax gave nothing, though its logit is finite.
    let (logits, probabilities) = ([-200.0f32, 0.0, 0.0, 0.0], [0.0f32, 0.0, 1.0, 1.0]);
    let totals = plain(&logits, 2, &targets, 1.0, Some(&probabilities), &mut gradient).unwrap();
    assert_eq!((totals.loss, gradient), (200.0, [-1.0, 0.0, 1.0, 0.0]));
}

/// A block whose rows are all −∞ beside one with logits far below zero.
#[test]
fn a_block_in_which_nothing_can_come_adds_nothing() {
    let (vocab, positions) = (3000, 64);
    let mut logits = vec![f32::NEG_INFINITY; vocab * positions];
    logits[..2 * positions].fill(-5000.0);
    let mut gradient = vec![0.0; logits.len()];
    let totals = plain(&logits, vocab, &[1; 64], 64.0, None, &mut gradient).unwrap();
    assert!((totals.loss - 2f64.ln()).abs() < 1e-14, "{}", totals.loss);
    assert_eq!((gradient[0], gradient[positions], gradient[2 * positions]), (0.5, -0.5, 0.0));
}

#[test]
fn the_loss_scale_is_applied_before_rounding() {
    // p = 1/32768 at 256 positions: unscaled, p·w = 2⁻²³ would be an fp16 subnormal of one bit.
    let (vocab, positions) = (8, 256);
    let probabilities = vec![f16::from_f32(1.5 / 32768.0); vocab * positions];
    let mut gradient = vec![f16::ZERO; vocab * positions];
    let logits = vec![f16::ZERO; vocab * positions];
    plain(&logits, vocab, &[0; 256], 65536.0, Some(&probabilities), &mut gradient).unwrap();
    let p = f64::from(probabilities[0].to_f32());
    assert_eq!(f64::from(gradient[positions].to_f32()), p * 256.0);
}

#[test]
fn arguments_that_do_not_fit_are_errors() {
    let error = |len: usize, vocab, targets: &[i32], scale, gradient: usize| {
        plain(&vec![0.0f32; len], vocab, targets, scale, None, &mut vec![0.0; gradient]).unwrap_err()
    };
    assert_eq!(error(5, 3, &[0, 1], 1.0, 6).to_string(), "logits has 5 elements, 3 × 2 are expected");
    assert_eq!(error(6, 3, &[0, 1], 1.0, 4).to_string(), "gradient has 4 elements, 3 × 2 are expected");
    assert!(matches!(error(2, usize::MAX, &[0, 1], 1.0, 2), LossError::Size { .. }));
    assert_eq!(
        error(6, 3, &[0, 3], 1.0, 6).to_string(),
        "target 3 at position 1 is not below the vocabulary of 3, nor -100"
    );
    for target in [-1, -99, -101, i32::MIN, i32::MAX] {
        assert!(matches!(error(6, 3, &[target, 0], 1.0, 6), LossError::Target { position: 0, .. }));
    }
    for scale in [0.0, -1.0, f32::NAN, f32::INFINITY] {
        assert!(matches!(error(6, 3, &[0, 1], scale, 6), LossError::LossScale(_)));
    }
    let short = plain(&[0.0f32; 6], 3, &[0, 1], 1.0, Some(&[0.0; 5]), &mut [0.0; 6]).unwrap_err();
    assert_eq!(short.to_string(), "probabilities has 5 elements, 3 × 2 are expected");
    let options = LossOptions { softcap: Some(-1.0), ..LossOptions::default() };
    let refused = cross_entropy(&[0.0f32; 6], 3, &[0, 1], &options, None).unwrap_err();
    assert_eq!(refused, LossError::Options(OptionsError::SoftCap(-1.0)));
}
