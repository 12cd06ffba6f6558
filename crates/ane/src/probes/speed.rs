//! Programs whose time tells of the engine: what a run costs at least, how fast bytes move, and products.

use super::arithmetic::{gives, matmul, program};
use super::{Probe, Subject};

/// The median of so many runs is taken.
const RUNS: u32 = 51;

/// The probes.
pub(super) fn probes() -> Vec<Probe> {
    let add = |ty: &str| program(&format!("{ty} x, {ty} z"), &[gives(ty, "add(x = x, y = z)")]);
    let product =
        matmul("tensor<fp16, [256, 768]>", "tensor<fp16, [768, 2048]>", "tensor<fp16, [256, 2048]>");
    let programs = [
        ("dispatch: add of 32 numbers", add("tensor<fp16, [1, 32]>")),
        ("bandwidth: add of 4194304 numbers", add("tensor<fp16, [1, 64, 256, 256]>")),
        ("products: matmul 256x768 by 768x2048", product),
    ];
    let probe = |(name, text)| Probe { runs: RUNS, ..Probe::new(name, Subject::Speed, text) };
    programs.into_iter().map(probe).collect()
}
