//! How near products of fp16 matrices come to exact sums rounded once, on every path.

#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use anemone_cpu::{Cpu, Options, Path};
use anemone_mil::eval::ulp;
use anemone_mil::tensor::Tensor;
use anemone_mil::types::DType;
use common::{builder, prepare, program, run};

/// Rows, terms and columns: results enough for the mean not to depend on the few sums that are almost 0.
const SHAPES: [[usize; 3]; 3] = [[256, 768, 256], [480, 96, 130], [160, 3000, 96]];

/// Errors of a product.
#[derive(Debug, Clone, Copy)]
struct Errors {
    /// The mean, in units of each result's last place.
    mean_ulp: f64,
    /// The largest.
    largest: f64,
}

/// A product, and what it is exactly.
struct Case {
    x: Tensor,
    y: Tensor,
    exact: Vec<f64>,
}

impl Case {
    fn new([m, k, n]: [usize; 3]) -> Case {
        let (x, y) = (normal(1, 1.0, &[m, k]), normal(2, 0.02, &[k, n]));
        let (left, right) = (x.to_f64().unwrap(), y.to_f64().unwrap());
        // Each product is exact in f64, and the sum far more exact than fp32.
        let mut exact = vec![0.0; m * n];
        for (sums, row) in exact.chunks_exact_mut(n).zip(left.chunks_exact(k)) {
            for (x, row) in row.iter().zip(right.chunks_exact(n)) {
                sums.iter_mut().zip(row).for_each(|(sum, y)| *sum += x * y);
            }
        }
        Case { x, y, exact }
    }

    fn errors(&self, cpu: &Cpu) -> Errors {
        let inputs = [&self.x, &self.y];
        let mut function = builder();
        let ids = [function.input("x", self.x.ty()), function.input("y", self.y.ty())];
        let product = function.op("matmul", "z", [("x", ids[0].into()), ("y", ids[1].into())]).unwrap();
        let program = program(function.finish([product]));
        let found = run(prepare(cpu, &program, &inputs).as_mut(), &inputs).remove(0).to_f64().unwrap();
        let (mut sum, mut largest) = (0.0, 0.0);
        for (found, &exact) in found.iter().zip(&self.exact) {
            let error = (found - exact).abs();
            sum += error / ulp(DType::Fp16, exact).unwrap();
            largest = f64::max(largest, error);
        }
        Errors { mean_ulp: sum / found.len() as f64, largest }
    }
}

/// fp16 numbers from N(0, deviation²), by Box and Muller's method from a linear congruence.
fn normal(seed: u64, deviation: f64, shape: &[usize]) -> Tensor {
    let mut state = seed;
    let mut uniform = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    };
    let count = shape.iter().product();
    let values: Vec<f64> = (0..count)
        .map(|_| deviation * (-2.0 * uniform().ln()).sqrt() * (std::f64::consts::TAU * uniform()).cos())
        .collect();
    Tensor::from_f64(DType::Fp16, shape, &values).unwrap()
}

fn cpu(path: Path, exact_products: bool) -> Cpu {
    Cpu::with_options(Options { threads: Some(2), path: Some(path), exact_products }).unwrap()
}

#[test]
fn products_of_fp16_are_almost_sums_rounded_once() {
    for shape in SHAPES {
        let case = Case::new(shape);
        // The portable path adds fp32 products, each exact, in fp32.
        let accumulated = case.errors(&cpu(Path::Portable, false));
        for path in Path::available() {
            let found = case.errors(&cpu(path, false));
            println!("{shape:?} {path}: {found:?}, in fp32 {accumulated:?}");
            assert!(found.mean_ulp <= 0.265, "{shape:?}, {path}: {found:?}");
            assert!(
                found.largest <= 1.01 * accumulated.largest,
                "{shape:?}, {path}: {found:?}, {accumulated:?}"
            );
            let found = case.errors(&cpu(path, true));
            println!("{shape:?} {path}, exact: {found:?}");
            assert!(
                (found.mean_ulp - accumulated.mean_ulp).abs() <= 0.001,
                "{shape:?}, {path}: {found:?}, {accumulated:?}"
            );
            assert!(
                found.largest <= 1.01 * accumulated.largest,
                "{shape:?}, {path}: {found:?}, {accumulated:?}"
            );
        }
    }
}
