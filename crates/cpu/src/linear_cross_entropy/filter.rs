//! The rows of a tile of dz that are worth their products.

use std::sync::atomic::AtomicU32;

use anemone_mil::runtime::RuntimeError;

use crate::element::Float;
use crate::execution::zeros;
use crate::memory::Floats;

/// Which of a tile's rows are kept, and working memory for these alone.
#[derive(Debug)]
pub(super) struct Filter {
    /// F of [`LossOptions::filter`](anemone_mil::linear_cross_entropy::LossOptions::filter).
    threshold: f32,
    dim: usize,
    /// The bits of each row's largest magnitude; none where nothing is filtered.
    magnitudes: Vec<AtomicU32>,
    /// The rows that are kept, in order.
    kept: Vec<usize>,
    /// Their rows of E, or of dE.
    rows: Vec<f32>,
}

impl Filter {
    /// A filter of tiles of at most `rows` rows.
    pub(super) fn new(threshold: f32, rows: usize, dim: usize) -> Result<Filter, RuntimeError> {
        let rows = if threshold > 0.0 { rows } else { 0 };
        let magnitudes = std::iter::repeat_with(AtomicU32::default).take(rows).collect();
        Ok(Filter {
            threshold,
            dim,
            magnitudes,
            kept: Vec::with_capacity(rows),
            rows: zeros(rows.saturating_mul(dim))?,
        })
    }

    /// Where the largest magnitudes of rows go.
    pub(super) fn magnitudes(&mut self) -> &mut [AtomicU32] {
        &mut self.magnitudes
    }

    /// Moves the rows, of `n` columns, of which a magnitude reaches F times the weight, to the first ones; gives their
    /// number.
    pub(super) fn keep(&mut self, dz: &mut [f32], n: usize, weight: f32) -> usize {
        let rows = dz.len() / n;
        if self.threshold == 0.0 {
            return rows;
        }
        let limit = (self.threshold * weight.abs()).to_bits();
        self.kept.clear();
        for (row, magnitude) in self.magnitudes[..rows].iter_mut().enumerate() {
            if *magnitude.get_mut() >= limit {
                dz.copy_within(row * n..(row + 1) * n, self.kept.len() * n);
                self.kept.push(row);
            }
        }
        self.kept.len()
    }

    /// The kept ones of the tile's rows of E.
    pub(super) fn gather(&mut self, embed: Floats<'_>) -> &[f32] {
        let dim = self.dim;
        let rows = &mut self.rows[..self.kept.len() * dim];
        for (to, row) in rows.chunks_exact_mut(dim).zip(&self.kept) {
            match embed {
                Floats::F16(values) => Float::widen(&values[row * dim..(row + 1) * dim], to),
                Floats::F32(values) => Float::widen(&values[row * dim..(row + 1) * dim], to),
            }
        }
        rows
    }

    /// Room for the kept rows.
    pub(super) fn rows(&mut self) -> &mut [f32] {
        &mut self.rows[..self.kept.len() * self.dim]
    }

    /// Rounds the kept rows to their places, and makes all others 0.
    pub(super) fn scatter<T: Float>(&self, to: &mut [T]) {
        to.fill(T::narrow(0.0));
        for (from, row) in self.rows.chunks_exact(self.dim).zip(&self.kept) {
            T::round(from, &mut to[row * self.dim..(row + 1) * self.dim]);
        }
    }
}
