//! What is known of each position's column of logits, and the elementwise work on tiles of them.

use std::sync::atomic::{AtomicU32, Ordering};

use anemone_mil::runtime::RuntimeError;
use pulp::{Simd, WithSimd};

use crate::element::{differ, larger};
use crate::execution::zeros;
use crate::functions::{decay, tanh};
use crate::memory::FloatsMut;
use crate::threads::Threads;

/// Columns of a strip, the unit in which threads share columns.
const WIDTH: usize = 64;
/// Terms that are added in fp32 before they join a sum in fp64.
const TERMS: usize = 16;

/// What is known of some neighbouring columns.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Strip {
    /// The largest logit m.
    largest: [f32; WIDTH],
    /// Σ exp(z − m).
    sum: [f64; WIDTH],
    /// Σ z.
    total: [f64; WIDTH],
    /// The target's logit.
    target: [f32; WIDTH],
}

impl Strip {
    const EMPTY: Strip = Strip {
        largest: [f32::NEG_INFINITY; WIDTH],
        sum: [0.0; WIDTH],
        total: [0.0; WIDTH],
        target: [0.0; WIDTH],
    };

    /// Takes over larger largest logits.
    fn shrink(&mut self, largest: [f32; WIDTH]) {
        for ((sum, &before), &now) in self.sum.iter_mut().zip(&self.largest).zip(&largest) {
            // Where nothing was added yet, or all of it was exp(−∞), there is nothing to shrink.
            if before != now && *sum != 0.0 {
                *sum *= (f64::from(before) - f64::from(now)).exp();
            }
        }
        self.largest = largest;
    }
}

/// What is known of one column.
#[derive(Debug, Clone, Copy)]
pub(super) struct Column {
    /// The largest logit m.
    pub largest: f64,
    /// ln Σ exp(z − m), so that lse = m + this, which may lose it.
    pub log_sum: f64,
    /// Σ z.
    pub total: f64,
    /// The target's logit.
    pub target: f64,
}

/// What is known of all columns.
#[derive(Debug)]
pub(super) struct Columns {
    strips: Vec<Strip>,
    /// The largest logits, and the gradients' factor of exp(z − m).
    largest: Vec<f32>,
    factor: Vec<f32>,
}

/// What the gradient is made of, besides the logits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slope {
    /// w times the gradients' scale.
    pub weight: f32,
    /// ε.
    pub smoothing: f32,
    /// λ.
    pub z_loss: f32,
    /// c.
    pub softcap: Option<f32>,
    /// V.
    pub vocab: usize,
}

impl Slope {
    /// d(capped z)/dz, from the capped value.
    #[inline(always)]
    fn uncap(self, z: f32) -> f32 {
        self.softcap.map_or(1.0, |cap| 1.0 - (z / cap) * (z / cap))
    }
}

impl Columns {
    /// Room for as many columns.
    pub(super) fn new(count: usize) -> Result<Columns, RuntimeError> {
        let mut strips = Vec::new();
        let strip_count = count.div_ceil(WIDTH);
        strips
            .try_reserve_exact(strip_count)
            .map_err(|_| crate::plan::unsupported(format!("{count} positions")))?;
        strips.resize(strip_count, Strip::EMPTY);
        Ok(Columns { strips, largest: zeros(count)?, factor: zeros(count)? })
    }

    /// Begins with `count` columns of which nothing is known.
    pub(super) fn begin(&mut self, count: usize) {
        self.strips[..count.div_ceil(WIDTH)].fill(Strip::EMPTY);
    }

    /// One column, of whose logits all have been added.
    pub(super) fn column(&self, s: usize) -> Column {
        let (strip, i) = (&self.strips[s / WIDTH], s % WIDTH);
        Column {
            largest: f64::from(strip.largest[i]),
            log_sum: strip.sum[i].ln(),
            total: strip.total[i],
            target: f64::from(strip.target[i]),
        }
    }

    /// Adds a tile of logits `[rows, n]`, the first of which is row `first` of the vocabulary.
    pub(super) fn add(&mut self, z: &[f32], first: usize, counted: &[(usize, usize)], threads: &Threads) {
        let n = counted.len();
        let rows = z.len() / n;
        threads.each_chunk(&mut self.strips[..n.div_ceil(WIDTH)], 1, rows * WIDTH * 8, |index, strip| {
            let start = index * WIDTH;
            let width = WIDTH.min(n - start);
            for strip in strip {
                threads.arch().dispatch(Add { z, n, start, width, strip });
                for (i, &(_, target)) in counted[start..start + width].iter().enumerate() {
                    if (first..first + rows).contains(&target) {
                        strip.target[i] = z[(target - first) * n + start + i];
                    }
                }
            }
        });
    }

    /// Makes ready for [`Columns::gradient`], when all logits of `count` columns have been added.
    pub(super) fn finish(&mut self, count: usize, slope: Slope) {
        for s in 0..count {
            let Column { largest, log_sum, .. } = self.column(s);
            let z_loss = 2.0 * f64::from(slope.z_loss) * (largest + log_sum);
            self.largest[s] = largest as f32;
            self.factor[s] = (f64::from(slope.weight) * (1.0 + z_loss) / log_sum.exp()) as f32;
        }
    }

    /// Makes of a tile of logits the gradient with respect to them, before any soft cap. Without `z` the logits are in
    /// `dz`. Of each row that has a place in `magnitudes` the bits of the largest magnitude go there, of a target's row
    /// all ones.
    pub(super) fn gradient(
        &self,
        (z, dz): (Option<&[f32]>, &mut [f32]),
        first: usize,
        counted: &[(usize, usize)],
        slope: Slope,
        threads: &Threads,
        magnitudes: &mut [AtomicU32],
    ) {
        let n = counted.len();
        let rows = dz.len() / n;
        let even = slope.weight * slope.smoothing / slope.vocab as f32;
        let (largest, factor) = (&self.largest[..n], &self.factor[..n]);
        threads.each_chunk(dz, n, 16, |index, row| {
            if let Some(z) = z {
                row.copy_from_slice(&z[index * n..][..n]);
            }
            threads.arch().dispatch(Gradient { row, largest, factor, even, slope });
            if let Some(magnitude) = magnitudes.get(index) {
                magnitude.store(threads.arch().dispatch(Magnitude(row)), Ordering::Relaxed);
            }
        });
        for (s, &(_, target)) in counted.iter().enumerate() {
            if (first..first + rows).contains(&target) {
                let logit = self.strips[s / WIDTH].target[s % WIDTH];
                dz[(target - first) * n + s] -= slope.weight * (1.0 - slope.smoothing) * slope.uncap(logit);
                if let Some(magnitude) = magnitudes.get_mut(target - first) {
                    *magnitude.get_mut() = u32::MAX;
                }
            }
        }
    }
}

/// Adds rows of logits to what is known of a strip of columns.
struct Add<'a> {
    z: &'a [f32],
    n: usize,
    start: usize,
    width: usize,
    strip: &'a mut Strip,
}

impl Add<'_> {
    /// A row's logits in the strip; columns that are missing from the last strip never become results.
    #[inline(always)]
    fn row(&self, row: &[f32]) -> [f32; WIDTH] {
        let row = &row[self.start..self.start + self.width];
        if let Ok(whole) = row.try_into() {
            return whole;
        }
        let mut values = [0.0; WIDTH];
        values[..row.len()].copy_from_slice(row);
        values
    }
}

impl WithSimd for Add<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let mut largest = self.strip.largest;
        let mut rows = [[0.0; WIDTH]; TERMS];
        for block in self.z.chunks(self.n * TERMS) {
            let count = block.len() / self.n;
            for (values, row) in rows.iter_mut().zip(block.chunks_exact(self.n)) {
                *values = self.row(row);
                for i in 0..WIDTH {
                    largest[i] = larger(largest[i], values[i]);
                }
            }
            if differ(&largest, &self.strip.largest) {
                self.strip.shrink(largest);
            }
            // Of −∞ alone the terms are 0, not those of −∞ − (−∞).
            let base = largest.map(|largest| if largest == f32::NEG_INFINITY { 0.0 } else { largest });
            let (mut sum, mut total) = ([0.0f32; WIDTH], [0.0f32; WIDTH]);
            for values in &rows[..count] {
                for i in 0..WIDTH {
                    sum[i] += decay::<S>(values[i] - base[i]);
                    total[i] += values[i];
                }
            }
            let strip = &mut *self.strip;
            for i in 0..WIDTH {
                strip.sum[i] += f64::from(sum[i]);
                strip.total[i] += f64::from(total[i]);
            }
        }
    }
}

/// One row of the gradient, but for the targets' part.
struct Gradient<'a> {
    row: &'a mut [f32],
    largest: &'a [f32],
    factor: &'a [f32],
    even: f32,
    slope: Slope,
}

impl WithSimd for Gradient<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Gradient { row, largest, factor, even, slope } = self;
        let columns = largest.iter().zip(factor);
        if slope.softcap.is_some() {
            for (z, (&largest, &factor)) in row.iter_mut().zip(columns) {
                *z = (factor * decay::<S>(*z - largest) - even) * slope.uncap(*z);
            }
        } else {
            for (z, (&largest, &factor)) in row.iter_mut().zip(columns) {
                *z = factor * decay::<S>(*z - largest) - even;
            }
        }
    }
}

/// The bits of the largest magnitude; those of NaN are larger than those of numbers.
struct Magnitude<'a>(&'a [f32]);

impl WithSimd for Magnitude<'_> {
    type Output = u32;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> u32 {
        self.0.iter().fold(0, |largest, value| largest.max(value.to_bits() & 0x7fff_ffff))
    }
}

/// z becomes c·tanh(z / c).
pub(super) fn cap(z: &mut [f32], cap: f32, threads: &Threads) {
    struct Cap<'a> {
        z: &'a mut [f32],
        cap: f32,
    }
    impl WithSimd for Cap<'_> {
        type Output = ();

        #[inline(always)]
        fn with_simd<S: Simd>(self, _: S) {
            self.z.iter_mut().for_each(|z| *z = self.cap * tanh::<f32, S>(*z / self.cap));
        }
    }
    threads.each_chunk(z, 4096, 16, |_, z| threads.arch().dispatch(Cap { z, cap }));
}

/// The sum of each row of `z`, which has `n` columns.
pub(super) fn sum_rows(z: &[f32], n: usize, sums: FloatsMut<'_>) {
    let sum = |row: &[f32]| row.iter().map(|&value| f64::from(value)).sum::<f64>();
    let rows = z.chunks_exact(n).map(sum);
    match sums {
        FloatsMut::F16(to) => to.iter_mut().zip(rows).for_each(|(to, sum)| *to = half::f16::from_f64(sum)),
        FloatsMut::F32(to) => to.iter_mut().zip(rows).for_each(|(to, sum)| *to = sum as f32),
    }
}
