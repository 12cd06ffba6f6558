//! Sums over the vocabulary, for every position, and elementwise work on `[V, S]`, both by blocks of rows.

use anemone_mil::linear_cross_entropy::LossOptions;
use rayon::prelude::*;

use super::functions::{exp, soft_cap};
use crate::element::DeviceElement;

/// Elements per block of rows: one block's logits stay in a core's cache between the two looks at them.
const BLOCK_ELEMENTS: usize = 1 << 16;

/// Elements of a block of whole rows.
fn block_elements(positions: usize) -> usize {
    let rows = (BLOCK_ELEMENTS / positions.max(1)).max(1);
    (rows * positions).max(1)
}

/// What is known of each position's logits, after the soft cap.
pub(super) struct Columns {
    /// The greatest logit m; 0 where none is above −∞.
    pub max: Vec<f32>,
    /// Σ_v exp(z − m).
    pub sum: Vec<f64>,
    /// Σ_v z; empty without label smoothing, which alone needs it.
    pub total: Vec<f64>,
}

/// The same of a block of rows.
struct Part {
    max: Vec<f32>,
    sum: Vec<f32>,
    total: Vec<f64>,
}

impl Columns {
    /// Looks at all logits. Each block of rows finds its own greatest logit and sums in fp32; the blocks are joined
    /// in order in f64.
    pub(super) fn new<E: DeviceElement>(logits: &[E], positions: usize, options: &LossOptions) -> Columns {
        let blocks = logits.par_chunks(block_elements(positions));
        let parts: Vec<Part> = blocks.map(|block| Part::new(block, positions, options)).collect();

        let mut max = vec![f32::NEG_INFINITY; positions];
        for part in &parts {
            max.iter_mut().zip(&part.max).for_each(|(max, &z)| *max = max.max(z));
        }
        max.iter_mut().for_each(|max| *max = finite_shift(*max));
        let mut sum = vec![0.0f64; positions];
        let mut total = vec![0.0f64; if options.label_smoothing > 0.0 { positions } else { 0 }];
        for part in &parts {
            for s in 0..positions {
                // exp(−∞) for a part in which nothing can come; the exponent is never above 0.
                let shift = f64::from(part.max[s]) - f64::from(max[s]);
                sum[s] += f64::from(part.sum[s]) * shift.exp();
            }
            total.iter_mut().zip(&part.total).for_each(|(total, part)| *total += part);
        }
        Columns { max, sum, total }
    }
}

impl Part {
    fn new<E: DeviceElement>(logits: &[E], positions: usize, options: &LossOptions) -> Part {
        let mut row = vec![0.0; positions];
        let mut max = vec![f32::NEG_INFINITY; positions];
        for logits in logits.chunks(positions) {
            E::widen(logits, &mut row);
            max.iter_mut().zip(&row).for_each(|(max, &z)| *max = if z > *max { z } else { *max });
        }
        // The cap rises with the logits, so the greatest stays the greatest.
        cap_row(&mut max, options.softcap);
        let shift: Vec<f32> = max.iter().map(|&max| finite_shift(max)).collect();
        let mut sum = vec![0.0f32; positions];
        let mut total = vec![0.0f64; if options.label_smoothing > 0.0 { positions } else { 0 }];
        for logits in logits.chunks(positions) {
            E::widen(logits, &mut row);
            cap_row(&mut row, options.softcap);
            for ((sum, z), shift) in sum.iter_mut().zip(&row).zip(&shift) {
                *sum += exp(z - shift);
            }
            total.iter_mut().zip(&row).for_each(|(total, &z)| *total += f64::from(z));
        }
        Part { max, sum, total }
    }
}

/// What to take out of exponents whose greatest is `max`: itself, or 0 where nothing is above −∞.
fn finite_shift(max: f32) -> f32 {
    if max == f32::NEG_INFINITY { 0.0 } else { max }
}

/// Caps logits in place, where there is a cap.
pub(super) fn cap_row(row: &mut [f32], cap: Option<f32>) {
    if let Some(cap) = cap {
        row.iter_mut().for_each(|z| *z = soft_cap(*z, cap));
    }
}

/// Caps logits, of which there are as many as there is room for.
pub(super) fn cap_all<E: DeviceElement>(logits: &[E], cap: f32, to: &mut [E]) {
    const STRIP: usize = 1024;
    logits.par_chunks(BLOCK_ELEMENTS).zip(to.par_chunks_mut(BLOCK_ELEMENTS)).for_each(|(logits, to)| {
        let mut strip = [0.0; STRIP];
        for (logits, to) in logits.chunks(STRIP).zip(to.chunks_mut(STRIP)) {
            let strip = &mut strip[..logits.len()];
            E::widen(logits, strip);
            cap_row(strip, Some(cap));
            E::narrow(strip, to);
        }
    });
}

/// Calls `apply(v, out, scratch)` for every row v of `[V, S]`, and stores the S values that it puts into `out`;
/// `scratch` is as long.
pub(super) fn for_each_row<E: DeviceElement>(
    to: &mut [E],
    positions: usize,
    apply: impl Fn(usize, &mut [f32], &mut [f32]) + Sync,
) {
    let block = block_elements(positions);
    to.par_chunks_mut(block).enumerate().for_each(|(index, to)| {
        let (mut out, mut scratch) = (vec![0.0; positions], vec![0.0; positions]);
        let first = index * (block / positions);
        for (v, to) in (first..).zip(to.chunks_mut(positions)) {
            apply(v, &mut out, &mut scratch);
            E::narrow(&out, to);
        }
    });
}
