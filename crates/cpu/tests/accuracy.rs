//! How near products of fp16 matrices come to exact sums rounded once, on every path.

#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use anemone_cpu::{Cpu, InstructionPath, Options, ProductPrecision};
use anemone_mil::builder::AnyCall;
use anemone_mil::eval::ulp;
use anemone_mil::tensor::Tensor;
use anemone_mil::types::DType;
use common::paths::paths;
use common::{builder, prepare, program, run};

/// Rows, terms and columns.
const SHAPES: [[usize; 3]; 3] = [[512, 768, 256], [960, 96, 260], [160, 3000, 96]];

/// Errors of products.
#[derive(Debug, Clone, Copy, Default)]
struct Errors {
    /// The sum, in units of each result's last place.
    sum: f64,
    /// The number of results.
    count: usize,
    /// The largest.
    largest: f64,
}

impl Errors {
    /// The errors of what was found for exact results.
    fn new(found: &[f64], exact: &[f64]) -> Errors {
        let mut errors = Errors { count: found.len(), ..Errors::default() };
        for (found, &exact) in found.iter().zip(exact) {
            let error = (found - exact).abs();
            errors.sum += error / ulp(DType::Fp16, exact).unwrap();
            errors.largest = f64::max(errors.largest, error);
        }
        errors
    }

    /// The mean, in units of the last place.
    fn mean(self) -> f64 {
        self.sum / self.count as f64
    }
}

/// A product, what it is exactly, and the exact product of the second parts of all numbers, the first being the nearest
/// numbers of eight bits.
struct Case {
    x: Tensor,
    y: Tensor,
    exact: Vec<f64>,
    second: Vec<f64>,
    /// The exact product of all numbers rounded to eight bits.
    rounded: Vec<f64>,
}

/// What is left of a number without its first eight bits.
fn second_part(x: f64) -> f64 {
    let first = ((x as f32).to_bits() + 0x8000) & 0xffff_0000;
    x - f64::from(f32::from_bits(first))
}

impl Case {
    fn new([m, k, n]: [usize; 3]) -> Case {
        let (x, y) = (normal(1, 1.0, &[m, k]), normal(2, 0.02, &[k, n]));
        let (left, right) = (x.to_f64().unwrap(), y.to_f64().unwrap());
        // Each product is exact in f64, and the sum far more exact than fp32.
        let product = |left: &[f64], right: &[f64]| {
            let mut sums = vec![0.0; m * n];
            for (sums, row) in sums.chunks_exact_mut(n).zip(left.chunks_exact(k)) {
                for (x, row) in row.iter().zip(right.chunks_exact(n)) {
                    sums.iter_mut().zip(row).for_each(|(sum, y)| *sum += x * y);
                }
            }
            sums
        };
        let exact = product(&left, &right);
        let [second_left, second_right] =
            [&left, &right].map(|x| x.iter().map(|&x| second_part(x)).collect::<Vec<f64>>());
        let [first_left, first_right] =
            [&left, &right].map(|x| x.iter().map(|&x| x - second_part(x)).collect::<Vec<f64>>());
        let (second, rounded) = (product(&second_left, &second_right), product(&first_left, &first_right));
        Case { x, y, exact, second, rounded }
    }

    /// The errors of exact sums of three products of parts, rounded once.
    fn of_three_products(&self) -> Errors {
        let sums: Vec<f64> = self.exact.iter().zip(&self.second).map(|(sum, second)| sum - second).collect();
        Errors::new(
            &Tensor::from_f64(DType::Fp16, &[sums.len()], &sums).unwrap().to_f64().unwrap(),
            &self.exact,
        )
    }

    fn errors(&self, cpu: &Cpu) -> Errors {
        Errors::new(&self.found(cpu), &self.exact)
    }

    fn found(&self, cpu: &Cpu) -> Vec<f64> {
        let inputs = [&self.x, &self.y];
        let mut function = builder();
        let ids = [function.input("x", self.x.ty()), function.input("y", self.y.ty())];
        let product = function
            .bind("z", AnyCall::named("matmul", [("x", ids[0].into()), ("y", ids[1].into())]))
            .unwrap();
        let program = program(function.finish([product]));
        run(prepare(cpu, &program, &inputs).as_mut(), &inputs).remove(0).to_f64().unwrap()
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

fn cpu(path: InstructionPath, products: ProductPrecision) -> Cpu {
    Cpu::with_options(Options { threads: Some(2), path: Some(path), products, ..Options::default() }).unwrap()
}

#[test]
fn products_of_fp16_are_almost_sums_rounded_once() {
    let paths = paths();
    // Of all shapes together: the mean hangs on the few sums that are almost 0, whose last place is small, so that it
    // varies by 0.0013 from one sample of 65,000 results to another.
    let mut together = vec![Errors::default(); paths.len()];
    for shape in SHAPES {
        let case = Case::new(shape);
        // The portable path adds fp32 products, each exact, in fp32.
        let accumulated = case.errors(&cpu(InstructionPath::Portable, ProductPrecision::Exact));
        let three = case.of_three_products();
        for (&path, together) in paths.iter().zip(&mut together) {
            // Only a matrix unit computes products that are less exact.
            let precisions = [ProductPrecision::Full, ProductPrecision::Exact];
            for &products in if path.multiplies_by_unit() { &precisions[..] } else { &precisions[..1] } {
                let exact = products == ProductPrecision::Exact;
                let found = case.errors(&cpu(path, products));
                println!("{shape:?} {path}, {products:?}: {:.5}, {:.2e}", found.mean(), found.largest);
                let expected = if path == InstructionPath::Amx && !exact { three } else { accumulated };
                assert!((found.mean() - expected.mean()).abs() <= 0.001, "{expected:?}, {found:?}");
                assert!(found.largest <= 1.01 * accumulated.largest, "{accumulated:?}, {found:?}");
                if !exact {
                    together.sum += found.sum;
                    together.count += found.count;
                }
            }
        }
    }
    for (path, together) in paths.iter().zip(together) {
        println!("all shapes, {path}: {:.5}", together.mean());
        assert!(together.mean() <= 0.265, "{path}: {}", together.mean());
    }
}

#[test]
fn products_of_bf16_are_those_of_rounded_factors() {
    for shape in SHAPES {
        let case = Case::new(shape);
        let accumulated = case.errors(&cpu(InstructionPath::Portable, ProductPrecision::Exact));
        for path in paths() {
            let found = case.found(&cpu(path, ProductPrecision::Bf16));
            // What does not multiply bf16 faster rounds no factor.
            let [rounded, exact] = [&case.rounded, &case.exact].map(|sums| Errors::new(&found, sums));
            println!(
                "{shape:?} {path}: {:.5} of rounded factors, {:.5} of exact ones",
                rounded.mean(),
                exact.mean()
            );
            let nearer = if rounded.mean() < exact.mean() { rounded } else { exact };
            assert!(nearer.mean() <= accumulated.mean() + 0.001, "{accumulated:?}, {nearer:?}");
            let rounds = path == InstructionPath::Amx;
            assert!(!rounds || rounded.mean() < exact.mean(), "{path} does not round");
        }
    }
}
