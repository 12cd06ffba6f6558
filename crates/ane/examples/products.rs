//! Prints how many multiply-adds per second matrix products in engine arithmetic come to.
//!
//! `cargo run --release -p anemone-ane --example products -- [M K N]`

use std::time::Instant;

use anemone_ane::arithmetic::products::{Initial, Matrix, multiply};
use half::f16;

fn main() {
    let sizes: Vec<usize> = std::env::args().skip(1).filter_map(|size| size.parse().ok()).collect();
    let [m, k, n] = <[usize; 3]>::try_from(sizes).unwrap_or([4096, 768, 256]);
    let mut state = 1u32;
    let mut number = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        f16::from_f32((state >> 8) as f32 / 8_388_608.0 - 1.0)
    };
    let (x, y): (Vec<f16>, Vec<f16>) =
        ((0..m * k).map(|_| number()).collect(), (0..k * n).map(|_| number()).collect());
    for (name, transposed) in [("x · y", false), ("x · yᵀ", true)] {
        let least = (0..5)
            .map(|_| {
                let start = Instant::now();
                let y = Matrix { values: &y, transposed };
                let results = multiply(Matrix { values: &x, transposed: false }, y, Initial::Zero, [m, k, n])
                    .expect("memory");
                let seconds = start.elapsed().as_secs_f64();
                assert!(results.iter().all(|result| !result.saturated));
                seconds
            })
            .fold(f64::INFINITY, f64::min);
        let rate = (m * k * n) as f64 / least / 1e9;
        println!(
            "{name}, {m} × {k} by {k} × {n}: {rate:.2} billion multiply-adds per second, {} threads",
            rayon::current_num_threads()
        );
    }
}
