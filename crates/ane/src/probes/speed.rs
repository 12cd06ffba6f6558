//! Programs whose time tells of the engine: what a run costs at least, how fast bytes move, and products, the same as a
//! matrix product of two inputs, one by a constant, and a convolution.

use super::arithmetic::{constant, convolution, gives, matmul, product, program};
use super::{Probe, Subject};

/// The median of so many runs is taken.
const RUNS: u32 = 51;

/// The products: rows, terms of each sum, columns.
const SIZE: [u64; 3] = [256, 768, 2048];

/// The probes.
pub(super) fn probes() -> Vec<Probe> {
    let probe = |name: &str, flops: u64, elements: u64, text: String| {
        let subject = Subject::Speed { flops, bytes: 2 * elements };
        Probe { runs: RUNS, ..Probe::new(name, subject, text) }
    };
    let add = |ty: &str| program(&format!("{ty} x, {ty} z"), &[gives(ty, "add(x = x, y = z)")]);
    let [m, k, n] = SIZE;
    let matrix = |rows: u64, columns: u64| format!("tensor<fp16, [{rows}, {columns}]>");
    let (flops, elements) = (2 * m * k * n, m * k + k * n + m * n);
    let by_inputs = matmul(&matrix(m, k), &matrix(k, n), &matrix(m, n));
    let by_constant = product(&matrix(m, k), &weights(&matrix(k, n)), &matrix(m, n));
    let by_convolution = convolution(
        &format!("tensor<fp16, [1, {k}, 1, {m}]>"),
        &[weights(&format!("tensor<fp16, [{n}, {k}, 1, 1]>"))],
        "",
        &format!("tensor<fp16, [1, {n}, 1, {m}]>"),
    );
    const LONG: u64 = 64 * 256 * 256;
    vec![
        probe("dispatch: add of 32 numbers", 32, 3 * 32, add("tensor<fp16, [1, 32]>")),
        probe("bandwidth: add of 4194304 numbers", LONG, 3 * LONG, add("tensor<fp16, [1, 64, 256, 256]>")),
        probe("products: matmul 256x768 by 768x2048", flops, elements, by_inputs),
        probe("products: matmul by a constant", flops, elements, by_constant),
        probe("products: conv by a constant", flops, elements, by_convolution),
    ]
}

/// A constant `weight` in a file.
fn weights(ty: &str) -> String {
    let file = r#"BLOBFILE(path = tensor<string, []>("@model_path/weights/weight.bin"), offset = tensor<uint64, []>(64))"#;
    constant("weight", ty, file)
}
