//! The head as separate programs and the fused one: the same losses and gradients, within their rounding, and
//! those of PyTorch in float64 with every option of the loss (`tests/lm/heads.py` wrote the numbers).

use anemone_lm::config::DeviceDtype;
use anemone_lm::head::{HeadError, HeadKind, HeadRunner, Runtimes};
use anemone_lm::programs::Target;
use anemone_lm::programs::head::{EPS, Head};
use anemone_lm::random::Random;
use anemone_mil::linear_cross_entropy::{IGNORE_INDEX, LossOptions, Reduction};
use anemone_mil::runtime::Runtime;
use anemone_mil::tensor::Tensor;
use serde::Deserialize;

use crate::common::data_dir;
use crate::subjects::Subject;

/// What the loss is unless a case says otherwise.
const OPTIONS: LossOptions = LossOptions {
    ignore_index: IGNORE_INDEX,
    label_smoothing: 0.0,
    z_loss: 0.0,
    filter: 0.0,
    softcap: None,
    reduction: Reduction::Mean,
};

/// Loss, dx, dgain and dE of a step.
fn step(runtime: &dyn Runtime, head: Head, kind: HeadKind, loss_scale: f32) -> (f64, [Vec<f64>; 3]) {
    let runtimes = Runtimes::all(runtime);
    let mut runner = HeadRunner::new(head, kind, OPTIONS, runtimes).unwrap();
    let mut random = Random::new(3);
    let mut normal =
        |count: usize, sd: f64| -> Vec<f64> { (0..count).map(|_| sd * random.normal()).collect() };
    let single = |values: Vec<f64>| -> Vec<f32> { values.into_iter().map(|value| value as f32).collect() };
    let (gain, embed) = (single(normal(head.dim, 1.0)), single(normal(head.vocab * head.dim, 0.3)));
    runner.set_weights(&gain, &embed).unwrap();
    let x = normal(head.dim * head.positions, 2.0);
    let x = Tensor::from_f64(head.target.mil_dtype(), &[1, head.dim, 1, head.positions], &x).unwrap();
    let target = |s: usize| if s % 7 == 2 { -100 } else { (s * 31 % head.vocab) as i32 };
    let targets: Vec<i32> = (0..head.positions).map(target).collect();
    let alone = runner.loss(&x, &targets).unwrap();
    let (loss, gradients) = runner.step(&x, &targets, loss_scale).unwrap();
    assert!((alone.loss - loss.loss).abs() < 1e-12 && alone.counted == loss.counted);
    let tensors = [gradients.dx, gradients.dgain, gradients.dembed];
    (loss.loss, tensors.map(|tensor| tensor.to_f64().unwrap()))
}

/// The head as separate programs and the fused one give the same losses and gradients.
pub fn both_kinds_of_head_agree(subject: &Subject) {
    if !subject.promises.linear_cross_entropy {
        return;
    }
    let runtime = subject.runtime.as_ref();
    for (dtype, loss_scale, tolerance) in [(DeviceDtype::Fp32, 1.0, 2e-5), (DeviceDtype::Fp16, 4096.0, 5e-3)]
    {
        let head = Head { vocab: 1300, dim: 48, positions: 60, eps: EPS, target: Target::new(dtype) };
        let (programs_loss, programs) = step(runtime, head, HeadKind::Programs, loss_scale);
        let (fused_loss, fused) = step(runtime, head, HeadKind::Fused, loss_scale);
        assert!(
            (programs_loss - fused_loss).abs() < tolerance,
            "{}: {programs_loss} and {fused_loss}",
            subject.name
        );
        for (what, (programs, fused)) in ["dx", "dgain", "dE"].iter().zip(programs.iter().zip(&fused)) {
            let largest = programs.iter().fold(0f64, |largest, value| largest.max(value.abs()));
            assert!(largest > 0.0);
            for (i, (a, b)) in programs.iter().zip(fused).enumerate() {
                let name = &subject.name;
                assert!((a - b).abs() <= tolerance * largest, "{name}, {dtype:?}, {what}[{i}]: {a} and {b}");
            }
        }
    }
}

/// A runtime that does not promise a fused head refuses it by name; a fused head has no logits to give.
pub fn a_fused_head_is_offered_or_refused(subject: &Subject) {
    let target = Target::new(DeviceDtype::Fp32);
    let head = Head { vocab: 8, dim: 4, positions: 3, eps: EPS, target };
    let runtime = subject.runtime.as_ref();
    let runtimes = Runtimes::all(runtime);
    let runner = HeadRunner::new(head, HeadKind::Fused, OPTIONS, runtimes);
    if subject.promises.linear_cross_entropy {
        let x = Tensor::from_f64(target.mil_dtype(), &[1, 4, 1, 3], &[1.0; 12]).unwrap();
        assert!(matches!(runner.unwrap().logits(&x), Err(HeadError::NoLogits)), "{}", subject.name);
    } else {
        let refused = format!("the runtime {} does not support this", runtime.name());
        assert!(runner.err().unwrap().to_string().contains(&refused), "{}", subject.name);
    }
}

/// A case of the fixture.
#[derive(Deserialize)]
struct Case {
    name: String,
    vocab: usize,
    dim: usize,
    positions: usize,
    eps: f64,
    label_smoothing: f32,
    z_loss: f32,
    softcap: Option<f32>,
    targets: Vec<i32>,
    loss: f64,
    validation: f64,
    logits: Vec<f64>,
    dx: Vec<f64>,
    dgain: Vec<f64>,
    dembed: Vec<f64>,
}

/// The inputs' numbers, as `values` in the fixtures' scripts makes them.
pub(crate) fn values(count: usize, salt: u64, scale: f64) -> Vec<f64> {
    let value = |i: u64| {
        let mixed = ((i + salt * 1_000_003) * 2_654_435_761) % (1 << 32);
        ((mixed >> 22) as f64 / 1024.0 - 0.5) * scale
    };
    (0..count as u64).map(value).collect()
}

impl Case {
    /// Compares a head with PyTorch's numbers, each within `relative` of the largest of its tensor.
    fn check(&self, dtype: DeviceDtype, kind: HeadKind, subject: &Subject, loss_scale: f32, relative: f64) {
        let Case { vocab, dim, positions, eps, .. } = *self;
        let what = format!("{}, {dtype:?}, {kind:?} on {}", self.name, subject.name);
        let close = |found: &[f64], expected: &[f64], tensor: &str| {
            assert_eq!(found.len(), expected.len(), "{what}: {tensor}");
            let largest = expected.iter().fold(0f64, |largest, value| largest.max(value.abs()));
            for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
                let error = (found - expected).abs();
                assert!(error <= relative * largest, "{what}: {tensor}[{i}] is {found}, not {expected}");
            }
        };
        let target = Target::new(dtype);
        let options = LossOptions {
            label_smoothing: self.label_smoothing,
            z_loss: self.z_loss,
            softcap: self.softcap,
            ..OPTIONS
        };
        let runtime = subject.runtime.as_ref();
        let runtimes = Runtimes::all(runtime);
        let mut runner =
            HeadRunner::new(Head { vocab, dim, positions, eps, target }, kind, options, runtimes).unwrap();
        let single =
            |values: Vec<f64>| -> Vec<f32> { values.into_iter().map(|value| value as f32).collect() };
        runner.set_weights(&single(values(dim, 2, 4.0)), &single(values(vocab * dim, 3, 4.0))).unwrap();
        let x = values(dim * positions, 1, 8.0);
        let x = Tensor::from_f64(target.mil_dtype(), &[1, dim, 1, positions], &x).unwrap();
        close(&[runner.loss(&x, &self.targets).unwrap().loss], &[self.validation], "the validation loss");
        if kind == HeadKind::Programs {
            close(&runner.logits(&x).unwrap().to_f64().unwrap(), &self.logits, "logits");
        }
        let (totals, gradients) = runner.step(&x, &self.targets, loss_scale).unwrap();
        close(&[totals.loss], &[self.loss], "the loss");
        for (tensor, expected, name) in [
            (gradients.dx, &self.dx, "dx"),
            (gradients.dgain, &self.dgain, "dgain"),
            (gradients.dembed, &self.dembed, "dE"),
        ] {
            let found: Vec<f64> =
                tensor.to_f64().unwrap().iter().map(|value| value / f64::from(loss_scale)).collect();
            close(&found, expected, name);
        }
    }
}

/// Every kind of head that the runtime offers agrees with PyTorch, whatever the loss's options.
pub fn heads_agree_with_torch_whatever_the_options(subject: &Subject) {
    // The host takes tensors of the declared types.
    if subject.promises.exact {
        return;
    }
    let path = data_dir("lm").join("heads.json");
    let cases: Vec<Case> = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    assert_eq!(cases.len(), 8);
    for case in &cases {
        for (dtype, scale, relative) in [(DeviceDtype::Fp32, 1.0, 1e-5), (DeviceDtype::Fp16, 1024.0, 6e-3)] {
            case.check(dtype, HeadKind::Programs, subject, scale, relative);
            if subject.promises.linear_cross_entropy {
                case.check(dtype, HeadKind::Fused, subject, scale, relative);
            }
        }
    }
}
