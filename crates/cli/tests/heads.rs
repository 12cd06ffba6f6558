//! The head as separate programs and the fused one: the same losses and gradients, within their rounding.

#![allow(clippy::unwrap_used)]

use anemone_cpu::Cpu;
use anemone_lm::config::DeviceDtype;
use anemone_lm::head::{HeadError, HeadKind, HeadRunner, Runtimes};
use anemone_lm::programs::Target;
use anemone_lm::programs::head::{EPS, Head};
use anemone_lm::random::Random;
use anemone_mil::eval::Interpreter;
use anemone_mil::tensor::Tensor;

/// Loss, dx, dgain and dE of a step.
fn step(head: Head, kind: HeadKind, loss_scale: f32) -> (f64, [Vec<f64>; 3]) {
    let cpu = Cpu::new().unwrap();
    let mut runner = HeadRunner::new(head, kind, Runtimes { head: &cpu, products: &cpu }).unwrap();
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
    assert!((alone.mean - loss.mean).abs() < 1e-12 && alone.counted == loss.counted);
    let tensors = [gradients.dx, gradients.dgain, gradients.dembed];
    (loss.mean, tensors.map(|tensor| tensor.to_f64().unwrap()))
}

#[test]
fn both_kinds_of_head_agree() {
    for (dtype, loss_scale, tolerance) in [(DeviceDtype::Fp32, 1.0, 2e-5), (DeviceDtype::Fp16, 4096.0, 5e-3)]
    {
        let head = Head { vocab: 1300, dim: 48, positions: 60, eps: EPS, target: Target::new(dtype) };
        let (programs_loss, programs) = step(head, HeadKind::Programs, loss_scale);
        let (fused_loss, fused) = step(head, HeadKind::Fused, loss_scale);
        assert!((programs_loss - fused_loss).abs() < tolerance, "{programs_loss} and {fused_loss}");
        for (what, (programs, fused)) in ["dx", "dgain", "dE"].iter().zip(programs.iter().zip(&fused)) {
            let largest = programs.iter().fold(0f64, |largest, value| largest.max(value.abs()));
            assert!(largest > 0.0);
            for (i, (a, b)) in programs.iter().zip(fused).enumerate() {
                assert!((a - b).abs() <= tolerance * largest, "{dtype:?} {what}[{i}]: {a} and {b}");
            }
        }
    }
}

#[test]
fn what_a_fused_head_lacks_is_an_error() {
    let target = Target::new(DeviceDtype::Fp32);
    let head = Head { vocab: 8, dim: 4, positions: 3, eps: EPS, target };
    let (cpu, eval) = (Cpu::new().unwrap(), Interpreter::default());
    let refused = HeadRunner::new(head, HeadKind::Fused, Runtimes { head: &eval, products: &cpu });
    assert!(refused.err().unwrap().to_string().contains("the runtime eval does not support this"));
    let mut runner = HeadRunner::new(head, HeadKind::Fused, Runtimes { head: &cpu, products: &cpu }).unwrap();
    let x = Tensor::from_f64(target.mil_dtype(), &[1, 4, 1, 3], &[1.0; 12]).unwrap();
    assert!(matches!(runner.logits(&x), Err(HeadError::NoLogits)));
}
