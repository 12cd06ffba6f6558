//! What the processor reaches at most: a loop of nothing but multiply-adds.

use std::hint::black_box;
use std::time::{Duration, Instant};

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use crate::Cpu;

/// Sums that are added to by turns: as many as hide the latency of a multiply-add on every processor.
const SUMS: usize = 10;
/// Rounds of a loop between two looks at the clock.
const ROUNDS: usize = 20_000;

/// Multiply-adds of vectors, which depend on each other only within a sum.
struct MultiplyAdds(f32);

impl WithSimd for MultiplyAdds {
    type Output = (f32, usize);

    /// What was computed, and the FLOPs.
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> (f32, usize) {
        let (factor, term) = (simd.splat_f32s(black_box(self.0)), simd.splat_f32s(black_box(0.5)));
        let mut sums = [term; SUMS];
        for _ in 0..ROUNDS {
            for sum in &mut sums {
                *sum = simd.mul_add_e_f32s(*sum, factor, term);
            }
        }
        let total = sums.into_iter().fold(term, |total, sum| simd.add_f32s(total, sum));
        let lanes = size_of::<S::f32s>() / size_of::<f32>();
        (simd.reduce_sum_f32s(total), 2 * lanes * SUMS * ROUNDS)
    }
}

impl Cpu {
    /// 10⁹ FLOPs per second of a loop of nothing but fp32 multiply-adds in vector registers, on all threads, with the
    /// instructions of the runtime's path; what a matrix unit could do is not in it. Takes as long as `time`.
    pub fn multiply_add_gflops(&self, time: Duration) -> f64 {
        let arch = self.threads.arch();
        let work = |_: usize| {
            let (begin, mut flops) = (Instant::now(), 0usize);
            while begin.elapsed() < time {
                let (result, more) = arch.dispatch(MultiplyAdds(0.5));
                black_box(result);
                flops += more;
            }
            flops as f64 / begin.elapsed().as_secs_f64() / 1e9
        };
        self.threads.install(|| (0..self.threads.count()).into_par_iter().with_max_len(1).map(work).sum())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Options;

    #[test]
    fn some_multiply_adds_are_done_on_every_path() {
        for path in crate::InstructionPath::available() {
            for threads in [1, 2] {
                let options = Options { path: Some(path), threads: Some(threads), ..Options::default() };
                let gflops =
                    Cpu::with_options(options).unwrap().multiply_add_gflops(Duration::from_millis(2));
                assert!(gflops.is_finite() && gflops > 0.0, "{path}: {gflops}");
            }
        }
    }
}
