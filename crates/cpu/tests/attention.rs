//! Attention as one step, against its definition in fp64.

#![allow(clippy::unwrap_used)]

mod common;

use anemone_mil::builder::Input;
use anemone_mil::ops::call;
use anemone_mil::tensor::Tensor;
use anemone_mil::types::DType;
use common::paths::{cpu_on, paths};
use common::{builder, ordinary, prepare, program, run};

/// The sizes of a case: B·K, G, channels of queries and of values, queries, keys.
type Sizes = [usize; 6];

/// Positions of keys and queries.
type Positions = [Vec<i32>; 2];

fn tensors(seed: u64, dtype: DType, [heads, groups, size, value_size, queries, keys]: Sizes) -> [Tensor; 3] {
    [
        ordinary(seed, dtype, &[heads, groups, size, queries]),
        ordinary(seed ^ 1, dtype, &[heads, 1, size, keys]),
        ordinary(seed ^ 2, dtype, &[heads, 1, value_size, keys]),
    ]
}

fn values(tensor: &Tensor) -> Vec<f64> {
    tensor.to_f64().unwrap()
}

/// Σⱼ pⱼ·v[c, j] with pⱼ = exp(sⱼ) / Σ exp(s) and sⱼ = q·kⱼ, over the keys that do not come later than the query; s and p
/// are rounded to the dtype.
fn expected(inputs: &[Tensor; 3], sizes: Sizes, positions: Option<&Positions>) -> Vec<f64> {
    let is_half = inputs[0].dtype() == DType::Fp16;
    let rounded = |x: f64| if is_half { half::f16::from_f64(x).to_f64() } else { x };
    let [heads, groups, size, value_size, queries, keys] = sizes;
    let [q, k, v] = [0, 1, 2].map(|i| values(&inputs[i]));
    let mut result = vec![0.0; heads * groups * value_size * queries];
    for head in 0..heads * groups {
        let (q, k) = (&q[head * size * queries..], &k[head / groups * size * keys..]);
        for i in 0..queries {
            let seen = |&j: &usize| positions.is_none_or(|[keys, queries]| keys[j] <= queries[i]);
            let seen: Vec<usize> = (0..keys).filter(seen).collect();
            let score = |j: usize| (0..size).map(|c| q[c * queries + i] * k[c * keys + j]).sum::<f64>();
            let weights: Vec<f64> = seen.iter().map(|&j| rounded(score(j)).exp()).collect();
            let sum: f64 = weights.iter().sum();
            for c in 0..value_size {
                let v = &v[(head / groups * value_size + c) * keys..];
                let mixed = seen.iter().zip(&weights).map(|(&j, weight)| v[j] * rounded(weight / sum));
                result[(head * value_size + c) * queries + i] = mixed.sum();
            }
        }
    }
    result
}

/// Runs attention on every path, by one thread and by three, and compares each result.
fn check(seed: u64, dtype: DType, sizes: Sizes, positions: Option<Positions>, score: f64) {
    let [.., queries, keys] = sizes;
    let inputs = tensors(seed, dtype, sizes);
    let mut function = builder();
    let [q, k, v] = [("q", 0), ("k", 1), ("v", 2)].map(|(name, i)| function.input(name, inputs[i].ty()));
    let mut scores: Input = function.bind("scores", call::matmul(q, k).transpose_x(true)).unwrap().into();
    if let Some([key_positions, query_positions]) = &positions {
        let place = |dims: &[usize], values: &[i32]| Tensor::from_values(dims, values.to_vec()).unwrap();
        let key_positions = place(&[1, 1, 1, keys], key_positions);
        let query_positions = place(&[1, 1, queries, 1], query_positions);
        let later = function.bind("later", call::greater(key_positions, query_positions)).unwrap();
        let masked = call::select(later, Tensor::from_f64(dtype, &[], &[score]).unwrap(), scores);
        scores = function.bind("masked", masked).unwrap().into();
    }
    let p = function.bind("p", call::softmax(scores).axis(-1)).unwrap();
    let mixed = function.bind("mixed", call::matmul(v, p).transpose_y(true)).unwrap();
    let program = program(function.finish([mixed]));
    let expected = expected(&inputs, sizes, positions.as_ref());
    // Of values up to 2: the rounding of the result, and of scores and probabilities to another neighbour.
    let bound = if dtype == DType::Fp16 { 1e-3 } else { 1e-5 };
    let inputs: Vec<&Tensor> = inputs.iter().collect();
    for path in paths() {
        let results = [1, 3].map(|threads| {
            let mut executable = prepare(&cpu_on(path, threads), &program, &inputs);
            run(&mut *executable, &inputs).remove(0)
        });
        assert_eq!(results[0], results[1], "{path}: threads make no difference");
        for (i, (ours, expected)) in values(&results[0]).into_iter().zip(&expected).enumerate() {
            assert!((ours - expected).abs() <= bound, "{path} {sizes:?} at {i}: {ours} for {expected}");
        }
    }
}

/// Keys and queries one after the other; the last query is the last key's.
fn causal([.., queries, keys]: Sizes) -> Option<Positions> {
    let shift = keys as i32 - queries as i32;
    Some([(0..keys as i32).collect(), (0..queries as i32).map(|query| (query + shift).max(0)).collect()])
}

const SIZES: [Sizes; 3] = [[2, 2, 8, 16, 67, 67], [1, 2, 7, 5, 70, 270], [3, 1, 8, 24, 9, 1]];
/// More than a block of queries, and two whole ones. In fp32: among so many scores there are some next to the middle between
/// two numbers of fp16, of which the other one makes more of a difference than the bound.
const BLOCKS: [Sizes; 2] = [[1, 2, 7, 5, 131, 270], [1, 1, 8, 8, 256, 65]];

#[test]
fn attention_without_a_mask() {
    for (seed, sizes) in (1..).zip(SIZES) {
        check(seed, DType::Fp32, sizes, None, 0.0);
        check(seed, DType::Fp16, sizes, None, 0.0);
    }
    for (seed, sizes) in (5..).zip(BLOCKS) {
        check(seed, DType::Fp32, sizes, None, 0.0);
    }
}

#[test]
fn causal_attention() {
    for (seed, sizes) in (10..).zip(SIZES) {
        check(seed, DType::Fp32, sizes, causal(sizes), f64::NEG_INFINITY);
        check(seed, DType::Fp16, sizes, causal(sizes), f64::NEG_INFINITY);
    }
    check(20, DType::Fp32, SIZES[1], causal(SIZES[1]), -10000.0);
}

#[test]
fn attention_to_positions_in_any_order() {
    let sizes = [1, 1, 8, 8, 70, 400];
    let key_positions = (0..400).map(|key| key * 7 % 400).collect();
    let query_positions = (0..70).map(|query| query * 31 % 70 * 5).collect();
    check(30, DType::Fp32, sizes, Some([key_positions, query_positions]), f64::NEG_INFINITY);
}
