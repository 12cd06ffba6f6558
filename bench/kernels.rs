//! Time of each kernel on every path that the processor has, on one thread, beside others' code for the same: the crates
//! `matrixmultiply` and `gemm` for matrix products, and for all else but the fused head plain loops over functions of
//! std and `libm`, in fp32, with each fp16 number converted on its own, compiled for any processor of the target.
//! Elements are those of the tensor, and for products, and the head's three, pairs of numbers multiplied and added.
//!
//! ```sh
//! cargo bench --manifest-path bench/Cargo.toml -- --quick softmax
//! ```

#![allow(missing_docs, unsafe_code, clippy::unwrap_used)] // Criterion's macro; the peers' products take pointers.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use anemone_cpu::{Cpu, InstructionPath, Options};
use anemone_mil::builder::{AnyCall, FunctionBuilder, Input};
use anemone_mil::linear_cross_entropy::{Classifier, LOGITS_BYTES, LossGradients, LossInputs, LossOptions};
use anemone_mil::program::{Program, ValueId, Version};
use anemone_mil::runtime::{Runtime, allocate_outputs};
use anemone_mil::tensor::{ScalarElement, Tensor};
use anemone_mil::types::{Opset, TensorType};
use anemone_mil::verify::verify;
use anemone_mil::weights::WeightMap;
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use half::f16;

/// Channels and positions of the activations, `[1, D, 1, S]`.
const CHANNELS: usize = 768;
const POSITIONS: usize = 256;
/// The side of the matrices.
const SIDE: usize = 512;

type Group<'a> = BenchmarkGroup<'a, WallTime>;
/// Adds ops of these values to a function.
type Body<'a> = &'a dyn Fn(&mut FunctionBuilder, &[ValueId]) -> ValueId;
/// The name of an op, and its parameters other than `x`.
type Op<'a> = (&'static str, &'a [(&'static str, Input)]);

/// An element type of kernels and peers.
trait Number: ScalarElement + Copy + Into<f32> + 'static {
    fn narrow(value: f32) -> Self;
}

impl Number for f32 {
    fn narrow(value: f32) -> f32 {
        value
    }
}

impl Number for f16 {
    fn narrow(value: f32) -> f16 {
        f16::from_f32(value)
    }
}

/// Numbers all over [low, high).
fn numbers<T: Number>(shape: &[usize], low: f32, high: f32) -> Tensor {
    let part = |i: usize| (i * 7919 % 65_521) as f32 / 65_521.0;
    let values = (0..shape.iter().product()).map(|i| T::narrow(low + (high - low) * part(i))).collect();
    Tensor::from_values(shape, values).unwrap()
}

fn group<'a, T: Number>(c: &'a mut Criterion, name: &str, shape: &[usize], elements: usize) -> Group<'a> {
    let mut group = c.benchmark_group(format!("{name} {} {shape:?}", T::DTYPE));
    group.throughput(Throughput::Elements(elements as u64));
    group.sample_size(20).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    group
}

/// A runtime of one thread for each path.
fn runtimes() -> Vec<Cpu> {
    let on = |path| Options { threads: Some(1), path: Some(path), ..Options::default() };
    InstructionPath::available().into_iter().map(|path| Cpu::with_options(on(path)).unwrap()).collect()
}

/// An op of `x` and other parameters.
fn apply(f: &mut FunctionBuilder, op: &'static str, x: ValueId, others: &[(&'static str, Input)]) -> ValueId {
    f.bind(op, AnyCall::named(op, [("x", x.into())].into_iter().chain(others.iter().cloned()))).unwrap()
}

/// Times a function of these inputs on every path.
fn time_paths(group: &mut Group<'_>, inputs: &[&Tensor], body: Body<'_>) {
    let mut function = FunctionBuilder::new("main", Version::V1_3, Opset::IOS18);
    let ids: Vec<ValueId> = inputs.iter().map(|tensor| function.input("input", tensor.ty())).collect();
    let result = body(&mut function, &ids);
    let mut program = Program::new(Version::V1_3);
    program.functions.push(function.finish([result]));
    let program = Arc::new(verify(program).unwrap());
    let types: Vec<TensorType> = inputs.iter().map(|tensor| tensor.ty()).collect();
    for cpu in runtimes() {
        let mut executable = cpu.prepare(&program, "main", &types, &WeightMap::default()).unwrap();
        let mut outputs = allocate_outputs(executable.as_ref()).unwrap();
        let mut run = || executable.run(inputs, &mut outputs).unwrap();
        group.bench_function(cpu.path().name(), |b| b.iter(&mut run));
    }
}

/// Times other code that reads a tensor and writes one of as many numbers.
fn time_peer<T: Number>(group: &mut Group<'_>, name: &str, x: &Tensor, mut peer: impl FnMut(&[T], &mut [T])) {
    let x = x.as_slice::<T>().unwrap();
    let mut result = vec![T::narrow(0.0); x.len()];
    group.bench_function(name, |b| b.iter(|| peer(black_box(x), black_box(&mut result))));
}

/// Times a function of tensors on every path, and a loop over the first of them, with room for as many numbers.
fn compare<T: Number>(
    c: &mut Criterion,
    name: &str,
    inputs: &[&Tensor],
    body: Body<'_>,
    peer: impl FnMut(&[T], &mut [T]),
) {
    let mut group = group::<T>(c, name, inputs[0].shape(), inputs[0].len());
    time_paths(&mut group, inputs, body);
    time_peer(&mut group, "loop", inputs[0], peer);
}

/// An op of one operand, and perhaps other parameters, against a loop over a function of one number.
fn unary<T: Number>(c: &mut Criterion, (op, others): Op<'_>, low: f32, peer: impl Fn(f32) -> f32) {
    let x = numbers::<T>(&[1, CHANNELS, 1, POSITIONS], low, 4.0);
    let body: Body<'_> = &|f, ids| apply(f, op, ids[0], others);
    compare(c, op, &[&x], body, |x: &[T], result| {
        result.iter_mut().zip(x).for_each(|(result, &x)| *result = T::narrow(peer(x.into())));
    });
}

fn elementwise<T: Number>(c: &mut Criterion) {
    let power = Input::from(Tensor::from_f64(T::DTYPE, &[], &[-0.5]).unwrap());
    unary::<T>(c, ("exp", &[]), -4.0, f32::exp);
    unary::<T>(c, ("tanh", &[]), -4.0, f32::tanh);
    unary::<T>(c, ("sigmoid", &[]), -4.0, |x| 1.0 / (1.0 + (-x).exp()));
    unary::<T>(c, ("silu", &[]), -4.0, |x| x / (1.0 + (-x).exp()));
    unary::<T>(c, ("gelu", &[]), -4.0, |x| 0.5 * x * (1.0 + libm::erff(x * std::f32::consts::FRAC_1_SQRT_2)));
    unary::<T>(c, ("erf", &[]), -4.0, libm::erff);
    unary::<T>(c, ("log", &[]), 0.125, f32::ln);
    unary::<T>(c, ("rsqrt", &[]), 0.125, |x| 1.0 / x.sqrt());
    unary::<T>(c, ("pow", &[("y", power)]), 0.125, |x| x.powf(-0.5));
}

/// Adds what a function makes of each number to the sum of its position.
fn sum_channels<T: Number>(x: &[T], function: impl Fn(f32, usize) -> f32) -> [f32; POSITIONS] {
    let mut sums = [0.0; POSITIONS];
    for row in x.as_chunks::<POSITIONS>().0 {
        for (s, (sum, &x)) in sums.iter_mut().zip(row).enumerate() {
            *sum += function(x.into(), s);
        }
    }
    sums
}

/// What goes along the channels, which are not next to one another.
fn along_channels<T: Number>(c: &mut Criterion) {
    let x = numbers::<T>(&[1, CHANNELS, 1, POSITIONS], -4.0, 4.0);
    let gain = numbers::<T>(&[1, CHANNELS, 1, 1], 0.5, 1.5);
    let channels: [(&str, Input); 2] = [("axes", [1].into()), ("keep_dims", true.into())];

    let softmax: Body<'_> = &|f, ids| apply(f, "softmax", ids[0], &[("axis", 1.into())]);
    compare(c, "softmax", &[&x], softmax, |x: &[T], result| {
        let mut largest = [f32::NEG_INFINITY; POSITIONS];
        for row in x.as_chunks::<POSITIONS>().0 {
            largest.iter_mut().zip(row).for_each(|(largest, &x)| *largest = largest.max(x.into()));
        }
        let sums = sum_channels(x, |x, s| (x - largest[s]).exp());
        for (i, (result, &x)) in result.iter_mut().zip(x).enumerate() {
            let s = i % POSITIONS;
            *result = T::narrow((x.into() - largest[s]).exp() / sums[s]);
        }
    });

    let sum: Body<'_> = &|f, ids| apply(f, "reduce_sum", ids[0], &channels);
    compare(c, "reduce_sum", &[&x], sum, |x: &[T], result| {
        let sums = sum_channels(x, |x, _| x);
        result.iter_mut().zip(sums).for_each(|(result, sum)| *result = T::narrow(sum));
    });

    let norm: Body<'_> = &|f, ids| {
        let squares = apply(f, "square", ids[0], &[]);
        let mean = apply(f, "reduce_mean", squares, &channels);
        let reciprocal = apply(f, "rsqrt", mean, &[]);
        let normalized = apply(f, "mul", ids[0], &[("y", reciprocal.into())]);
        apply(f, "mul", normalized, &[("y", ids[1].into())])
    };
    let gains = gain.as_slice::<T>().unwrap();
    compare(c, "RMSNorm", &[&x, &gain], norm, |x: &[T], result| {
        let reciprocals = sum_channels(x, |x, _| x * x).map(|sum| 1.0 / (sum / CHANNELS as f32).sqrt());
        for (i, (result, &x)) in result.iter_mut().zip(x).enumerate() {
            let normalized = x.into() * reciprocals[i % POSITIONS];
            *result = T::narrow(normalized * gains[i / POSITIONS].into());
        }
    });
}

/// A product of square matrices.
#[rustfmt::skip] // Not one line for each of the peers' many operands.
fn product<T: Number>(c: &mut Criterion) {
    let (x, y) = (numbers::<T>(&[SIDE, SIDE], -1.0, 1.0), numbers::<T>(&[SIDE, SIDE], -2.0, 1.0));
    let mut group = group::<T>(c, "matmul", &[SIDE; 3], SIDE * SIDE * SIDE);
    time_paths(&mut group, &[&x, &y], &|f, ids| apply(f, "matmul", ids[0], &[("y", ids[1].into())]));
    let (n, row, zero, one) = (SIDE, SIDE as isize, T::narrow(0.0), T::narrow(1.0));
    let right = y.as_slice::<T>().unwrap().as_ptr();
    time_peer(&mut group, "crate gemm", &x, |left: &[T], result| {
        // SAFETY: all three are matrices of `n` rows and columns, row-major, and `result` is apart from the others.
        unsafe { gemm::gemm(
            n, n, n, result.as_mut_ptr(), 1, row, false, left.as_ptr(), 1, row, right, 1, row,
            zero, one, false, false, false, gemm::Parallelism::None,
        ) };
    });
    // It has no fp16.
    if let Some(right) = y.as_slice::<f32>() {
        let right = right.as_ptr();
        time_peer(&mut group, "crate matrixmultiply", &x, |left: &[f32], result| {
            let (left, result) = (left.as_ptr(), result.as_mut_ptr());
            // SAFETY: as above.
            unsafe { matrixmultiply::sgemm(n, n, n, 1.0, left, row, 1, right, row, 1, 0.0, result, row, 1) };
        });
    }
}

/// A classifier's loss and gradients.
fn head<T: Number>(c: &mut Criterion) {
    let (vocab, dim, positions) = (4096, 256, 128);
    let classifier = Classifier { vocab, dim, positions, dtype: T::DTYPE, logits_bytes: LOGITS_BYTES };
    let (x, embed) =
        (numbers::<T>(&[1, dim, 1, positions], -2.0, 2.0), numbers::<T>(&[vocab, dim], -0.1, 0.1));
    let targets: Vec<i32> = (0..positions).map(|s| (s * 31) as i32).collect();
    let (mut dx, mut dembed) = (x.clone(), embed.clone());
    let mut group = group::<T>(c, "fused head", &[vocab, dim, positions], 3 * vocab * dim * positions);
    for cpu in runtimes() {
        let mut head = cpu.linear_cross_entropy(classifier, LossOptions::default()).unwrap();
        let mut run = || {
            let inputs = LossInputs { x: &x, embed: &embed, bias: None, targets: &targets };
            let gradients = LossGradients { scale: 1024.0, dx: &mut dx, dembed: &mut dembed, dbias: None };
            head.run(inputs, None, Some(gradients)).unwrap()
        };
        group.bench_function(cpu.path().name(), |b| b.iter(&mut run));
    }
}

criterion_group! {
    benches,
    product::<f32>, product::<f16>, along_channels::<f32>, along_channels::<f16>, elementwise::<f32>,
    elementwise::<f16>, head::<f32>, head::<f16>
}
criterion_main!(benches);
