//! The final RMSNorm in fp16 against f64: right to 4 units in the last place for every finite input.

#![allow(clippy::needless_range_loop)]

use std::sync::Arc;

use anemone_lm::config::DeviceDtype;
use anemone_lm::programs::Target;
use anemone_lm::programs::head::{EPS, GAIN, Head, weight_path};
use anemone_lm::random::Random;
use anemone_mil::eval::ulp;
use anemone_mil::runtime::{Executable, Runtime, allocate_outputs};
use anemone_mil::tensor::{Tensor, round_to_f16};
use anemone_mil::types::{DType, TensorType};
use anemone_mil::verify::verify;
use anemone_mil::weights::{BlobFile, BlobWriter, WeightMap};
use half::f16;

use crate::subjects::Subject;

/// A head whose gain is `gain`, with its final RMSNorm prepared.
fn prepare(runtime: &dyn Runtime, dim: usize, positions: usize, gain: &[f16]) -> Box<dyn Executable> {
    let target = Target::new(DeviceDtype::Fp16);
    let head = Head { vocab: 8, dim, positions, eps: EPS, target };
    let tensor = Tensor::from_values(&[1, dim, 1, 1], gain.to_vec()).unwrap();
    let mut writer = BlobWriter::new(std::io::Cursor::new(Vec::new())).unwrap();
    writer.append(&tensor).unwrap();
    let mut weights = WeightMap::default();
    let file = BlobFile::from_bytes(writer.finish().unwrap().into_inner()).unwrap();
    weights.insert(weight_path("rms_w.bin"), file);
    let verified = Arc::new(verify(head.final_rmsnorm().unwrap()).unwrap());
    let input = TensorType::new(DType::Fp16, &[1, dim, 1, positions]);
    runtime.prepare(&verified, "main", &[input], &weights).unwrap()
}

/// The largest error over all positions, in units in the last place; `x[c]` holds channel c's positions.
fn worst(executable: &mut dyn Executable, dim: usize, positions: usize, x: &[f16], gain: &[f16]) -> f64 {
    let input = Tensor::from_values(&[1, dim, 1, positions], x.to_vec()).unwrap();
    let mut outputs = allocate_outputs(executable).unwrap();
    executable.run(&[&input], &mut outputs).unwrap();
    let y = outputs[0].to_f64().unwrap();
    let mut worst = 0f64;
    for s in 0..positions {
        let column = (0..dim).map(|c| x[c * positions + s].to_f64());
        let mean = column.map(|v| v * v).sum::<f64>() / dim as f64;
        let reciprocal = 1.0 / (mean + EPS).sqrt();
        for c in 0..dim {
            let exact = x[c * positions + s].to_f64() * reciprocal * gain[c].to_f64();
            let rounded = round_to_f16(exact).to_f64();
            let unit = ulp(DType::Fp16, rounded).unwrap();
            let error = (y[c * positions + s] - rounded).abs() / unit;
            assert!(!error.is_nan(), "x = {}, y = {}", x[c * positions + s], y[c * positions + s]);
            worst = worst.max(error);
        }
    }
    worst
}

const LIMIT: f64 = 4.0;

/// Runs the RMSNorm of `x`, [D, S] of as many positions as it holds.
fn check(subject: &Subject, what: &str, dim: usize, x: &[f16], gain: &[f16]) {
    // It multiplies no matrices.
    if subject.promises.only_sums {
        return;
    }
    let positions = x.len() / dim;
    let mut executable = prepare(subject.runtime.as_ref(), dim, positions, gain);
    let error = worst(executable.as_mut(), dim, positions, x, gain);
    assert!(error <= LIMIT, "{}, {what}, D = {dim}: {error} ulp", subject.name);
}

/// Every finite value of fp16, in all channels of a position.
pub fn every_finite_value_in_all_places(subject: &Subject) {
    let finite: Vec<f16> = (0..=u16::MAX).map(f16::from_bits).filter(|v| v.is_finite()).collect();
    for dim in [1, 24, 768] {
        // A sample is one value in 23 for the usual D, and the largest.
        let step = if dim == 768 && subject.promises.samples { 23 } else { 1 };
        let mut values: Vec<f16> = finite.iter().copied().step_by(step).collect();
        values.extend([f16::MAX, f16::MIN, f16::MIN_POSITIVE_SUBNORMAL]);
        let gain = vec![f16::ONE; dim];
        let x: Vec<f16> = (0..dim).flat_map(|_| values.iter().copied()).collect();
        check(subject, "every value", dim, &x, &gain);
    }
}

/// Vectors of every scale, and such whose values have many scales.
pub fn values_of_every_scale_and_mixtures_of_scales(subject: &Subject) {
    let mut random = Random::new(1);
    for dim in [1, 2, 63, 768, 2048] {
        let positions = 200;
        let gain: Vec<f16> = (0..dim).map(|_| round_to_f16(random.normal() * 0.5 + 1.0)).collect();
        let scales: Vec<f64> =
            (0..positions).map(|s| 2f64.powf(-25.0 + 41.0 * s as f64 / positions as f64)).collect();
        let x: Vec<f16> = (0..dim * positions)
            .map(|i| {
                let s = i % positions;
                // Every fourth position mixes all scales below its own.
                let mixed = if s % 4 == 0 { 2f64.powf(-30.0 * random.uniform()) } else { 1.0 };
                let value = round_to_f16(random.normal() * scales[s] * mixed);
                if value.is_finite() { value } else { f16::MAX }
            })
            .collect();
        check(subject, "many scales", dim, &x, &gain);
    }
}

/// One value that outweighs all others, wherever it stands.
pub fn one_value_alone_among_zeros_and_among_tiny_ones(subject: &Subject) {
    let dim = 768;
    let peaks: Vec<f16> = (0..=0x7bffu16).step_by(37).map(f16::from_bits).chain([f16::MAX]).collect();
    let gain: Vec<f16> = (0..dim).map(|c| f16::from_f64(c as f64 / 128.0)).collect();
    for background in [f16::ZERO, f16::MIN_POSITIVE_SUBNORMAL, f16::from_f64(0.001)] {
        let mut x = vec![background; dim * peaks.len()];
        for (s, &peak) in peaks.iter().enumerate() {
            x[(s % dim) * peaks.len() + s] = peak;
        }
        check(subject, &format!("background {background}"), dim, &x, &gain);
    }
}

/// The gain is found by its name, and another may take its place.
pub fn the_gain_is_a_constant_that_can_be_replaced(subject: &Subject) {
    let gain = [f16::ONE; 4];
    let mut executable = prepare(subject.runtime.as_ref(), 4, 2, &gain);
    let doubled = Tensor::from_values(&[1, 4, 1, 1], vec![f16::from_f32(2.0); 4]).unwrap();
    let constant = executable.constant(GAIN).unwrap();
    executable.set_constant(constant, Arc::new(doubled)).unwrap();
    let x = Tensor::from_values(&[1, 4, 1, 2], vec![f16::ONE; 8]).unwrap();
    let mut outputs = allocate_outputs(executable.as_ref()).unwrap();
    executable.run(&[&x], &mut outputs).unwrap();
    assert!(outputs[0].to_f64().unwrap().iter().all(|&y| (y - 2.0).abs() < 0.005), "{}", subject.name);
}
