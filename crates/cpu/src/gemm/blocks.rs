//! The loops over blocks of a product.

use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};

use super::split::{self, Factor};
use super::tile::{self, Left, Sums};
use super::windows::RightMatrix;
use super::{After, DEPTH, Gemm, MOST_TERMS, Matrix, Right, Store, Unit, line, pack};
use crate::element::Float;
use crate::simd::matrix_unit::{Found, SIDE};
use crate::threads::Threads;

/// What the blocks of a product have in common.
pub(super) struct Block<'a> {
    pub(super) a: Matrix<'a>,
    pub(super) b: RightMatrix<'a>,
    /// Columns of `b` that there are.
    pub(super) columns: Range<usize>,
    /// Their number, with those that fill the last tile.
    pub(super) padded: usize,
    /// The terms of the sums.
    pub(super) terms: Range<usize>,
    /// The columns packed, for these terms.
    pub(super) packed: &'a [f32],
    /// What packing found of their numbers.
    pub(super) found: Found,
    pub(super) threads: &'a Threads,
}

impl Gemm {
    /// The product, or its transpose, straight to row-major `c`, or added to it.
    pub(super) fn multiply<T: Float>(
        &self,
        a: Matrix<'_>,
        b: Right<'_>,
        after: After<'_>,
        (c, adds): (&mut [T], bool),
        scratch: &mut [f32],
        threads: &Threads,
    ) {
        let (_, columns) = self.sides();
        let (shared, rest) = scratch.split_at_mut(self.shared_scratch());
        let (kept, own) = rest.split_at_mut(self.kept_scratch());
        let own = &mut own[..self.threads * self.thread_scratch()];
        for (first, width) in self.column_blocks() {
            let padded = width.next_multiple_of(self.side.columns);
            // At least once, since no terms at all make sums of 0.
            for begin in (0..self.k.max(1)).step_by(self.terms.max(1)) {
                let terms = begin..self.k.min(begin + self.terms);
                let length = self.right_values(padded, terms.len());
                let (packed, found) = match b.packed {
                    Some(packed) => {
                        let start = self.right_values(first, self.k) + self.right_values(padded, begin);
                        (&packed.values[start..start + length], packed.found)
                    }
                    None => {
                        let packed = &mut shared[..length];
                        let block = (first, width);
                        let found = self.pack_columns(b.matrix, block, terms.clone(), packed, threads);
                        (&*packed, found)
                    }
                };
                let columns_of_b = first..first + width;
                let block =
                    Block { a, b: b.matrix, columns: columns_of_b, padded, terms, packed, found, threads };
                let mut kept = kept.chunks_exact_mut(self.block_sums());
                let blocks =
                    c.chunks_mut(self.block_rows * columns).enumerate().map(|(i, c)| (i, c, kept.next()));
                threads.drain(blocks, own, |(index, c, kept), own| {
                    let start = index * self.block_rows;
                    let rows = start..start + c.len() / columns;
                    let (sums, own) = match kept {
                        Some(kept) => (kept, own),
                        None => own.split_at_mut(self.block_sums()),
                    };
                    self.add_terms(&block, rows, own, sums);
                    if block.terms.end < self.k {
                        return;
                    }
                    for (i, row) in c.chunks_exact_mut(columns).enumerate() {
                        let sums = &mut sums[i * padded..i * padded + width];
                        after.apply(sums, (start + i, first, columns));
                        let to = &mut row[first..first + width];
                        threads.arch().dispatch(Store { sums, to, adds });
                    }
                });
            }
        }
    }

    /// The first column and the width of each block.
    pub(super) fn column_blocks(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        let (columns, most) = (self.sides().1, self.block_columns);
        (0..columns).step_by(most).map(move |first| (first, most.min(columns - first)))
    }

    /// Adds the products of some rows of `a` with packed columns of `b` to their sums; the first of all terms are
    /// written instead.
    fn add_terms(&self, block: &Block<'_>, rows: Range<usize>, own: &mut [f32], sums: &mut [f32]) {
        let terms = block.terms.clone();
        if terms.is_empty() {
            sums.fill(0.0);
        }
        for first in terms.clone().step_by(MOST_TERMS) {
            let some = first..terms.end.min(first + MOST_TERMS);
            match self.unit {
                None => self.add_by_vectors(block, rows.clone(), some, own, sums),
                Some(unit) => self.add_by_unit(unit, block, rows.clone(), some, own, sums),
            }
        }
    }

    /// Adds some terms, by vectors.
    fn add_by_vectors(
        &self,
        block: &Block<'_>,
        rows: Range<usize>,
        terms: Range<usize>,
        own: &mut [f32],
        sums: &mut [f32],
    ) {
        let arch = block.threads.arch();
        let height = rows.len().next_multiple_of(self.tile.rows);
        let order = pack::left(arch, block.a, rows, terms.clone(), self.tile.rows, own);
        for (index, (start, k)) in depths(&terms).enumerate() {
            let values = &own[index * height * tile::ROW..][..order.values(height, k)];
            let depth = start - block.terms.start;
            let right = &block.packed[block.padded * depth..block.padded * (depth + k)];
            let sums = Sums { values: &mut *sums, width: block.padded, adds: start > 0 };
            tile::multiply(arch, Left { values, order }, right, k, sums);
        }
    }

    /// Adds some terms, by the matrix unit where it takes the operands: [`SIDE`] rows at a time, so that what is left
    /// to vectors does not depend on how rows are shared among threads.
    fn add_by_unit(
        &self,
        unit: Unit,
        block: &Block<'_>,
        rows: Range<usize>,
        terms: Range<usize>,
        own: &mut [f32],
        sums: &mut [f32],
    ) {
        let parts = unit.products.parts();
        let (packed, refused) = own.split_at_mut(line(self.left_values()));
        for (first, sums) in rows.clone().step_by(SIDE).zip(sums.chunks_mut(SIDE * block.padded)) {
            let rows = first..rows.end.min(first + SIDE);
            // Nothing goes with infinities on the right.
            let taken = unit.takes(Found::NOTHING, block.found) && {
                let operand = (Factor::Left, parts);
                let found = split::pack(unit.unit, block.a, rows.clone(), terms.clone(), operand, packed);
                unit.takes(found, block.found)
            };
            if !taken {
                self.add_refused(block, rows, terms.clone(), refused, sums);
                continue;
            }
            for (start, k) in depths(&terms) {
                let left = split::values(SIDE, start - terms.start, parts);
                let left = &packed[left..left + split::values(SIDE, k, parts)];
                let right = split::values(block.padded, start - block.terms.start, parts);
                let right = &block.packed[right..right + split::values(block.padded, k, parts)];
                let operands = (bytemuck::cast_slice(left), bytemuck::cast_slice(right));
                unit.unit.multiply(unit.products, operands, k, (&mut *sums, block.padded, start > 0));
            }
        }
    }

    /// Adds some terms that the matrix unit does not take, by vectors.
    pub(super) fn add_refused(
        &self,
        block: &Block<'_>,
        rows: Range<usize>,
        terms: Range<usize>,
        own: &mut [f32],
        sums: &mut [f32],
    ) {
        let arch = block.threads.arch();
        let [left, right, _] = self.refused_values();
        let (left, own) = own.split_at_mut(left);
        let (right, own) = own.split_at_mut(right);
        // Apart, since tiles have other rows than those that are refused.
        let height = rows.len().next_multiple_of(self.tile.rows);
        let some = &mut own[..height * block.padded];
        for (start, k) in depths(&terms) {
            let depth = start..start + k;
            let order = pack::left(arch, block.a, rows.clone(), depth.clone(), self.tile.rows, left);
            let right = &mut right[..block.padded * k];
            let columns = block.columns.clone();
            block.b.panels(arch, columns, depth, self.tile.columns, right);
            let left = Left { values: &left[..order.values(height, k)], order };
            let sums = Sums { values: &mut *some, width: block.padded, adds: start > terms.start };
            tile::multiply(arch, left, right, k, sums);
        }
        for (sum, &some) in sums.iter_mut().zip(&some[..rows.len() * block.padded]) {
            *sum = if terms.start > 0 { *sum + some } else { some };
        }
    }

    /// Packs some columns of `b`: block after block of [`DEPTH`] rows. Gives what packing for the matrix unit found.
    pub(super) fn pack_columns(
        &self,
        b: RightMatrix<'_>,
        (first, width): (usize, usize),
        terms: Range<usize>,
        packed: &mut [f32],
        threads: &Threads,
    ) -> Found {
        let padded = width.next_multiple_of(self.side.columns);
        let columns = first..first + width;
        let [largest, least] = [Found::NOTHING.largest, Found::NOTHING.least].map(AtomicU32::new);
        threads.each_chunk(packed, self.right_values(padded, DEPTH), 1, |index, packed| {
            let depth = terms.start + index * DEPTH;
            let rows = depth..terms.end.min(depth + DEPTH);
            let Some(unit) = self.unit else {
                return b.panels(threads.arch(), columns.clone(), rows, self.tile.columns, packed);
            };
            let found = b.split(unit.unit, columns.clone(), rows, unit.products.parts(), packed);
            largest.fetch_max(found.largest, Ordering::Relaxed);
            least.fetch_min(found.least, Ordering::Relaxed);
        });
        Found { largest: largest.into_inner(), least: least.into_inner() }
    }
}

/// The first term and the length of each block of [`DEPTH`] terms.
pub(super) fn depths(terms: &Range<usize>) -> impl Iterator<Item = (usize, usize)> + use<> {
    let end = terms.end;
    terms.clone().step_by(DEPTH).map(move |start| (start, DEPTH.min(end - start)))
}
