//! Products of which threads take blocks of columns: the left operand is small, and packed whole before; each thread then
//! packs columns of the right one for itself, and waits for nobody. So are low and wide results computed, such as those of
//! convolutions over images: what is packed of each operand is packed once.

use std::ops::Range;

use super::blocks::{Block, depths};
use super::split::{self, Factor};
use super::tile::{self, Left, Sums};
use super::{After, DEPTH, Gemm, MOST_TERMS, Matrix, RightMatrix, Store, Unit, line, pack};
use crate::element::Float;
use crate::simd::matrix_unit::{Found, SIDE};
use crate::threads::Threads;

/// Columns of the result that are as well taken all at once.
const LEAST_COLUMNS: usize = 128;
/// Values of the left operand, at most: packed, all threads read it again for each block.
const MOST_LEFT: usize = 1 << 20;
/// Values of a block's packed columns, and of its sums, at most: both stay in the second cache.
const MOST_VALUES: usize = 1 << 17;
/// Columns of a block at least, and at most.
const BLOCK_COLUMNS: [usize; 2] = [64, 512];
/// Blocks that the columns are cut into at least, where they are enough, so that threads are done almost together.
const LEAST_BLOCKS: usize = 8;
/// Sums of the blocks that are computed before they are written, at most.
const MOST_SUMS: usize = 1 << 19;
/// Elements of a row that are written at a time.
const STRIP: usize = 512;
/// Values in which a panel of rows keeps what packing found of its numbers: a cache line.
const FOUND: usize = 16;

/// Whether a product of these sizes is computed so.
pub(super) fn suit([m, n, k]: [usize; 3]) -> bool {
    k > 0 && n >= LEAST_COLUMNS && m < 2 * n && m.saturating_mul(k) <= MOST_LEFT
}

/// The columns of a block, at most.
pub(super) fn most([m, n, k]: [usize; 3]) -> usize {
    let [least, most] = BLOCK_COLUMNS;
    let values = MOST_VALUES / m.max(k.min(MOST_TERMS)).max(1);
    values.min(n / LEAST_BLOCKS).clamp(least, most)
}

impl Gemm {
    /// The rows of the left operand that are packed, with those that fill the last tile, and those of one group.
    fn groups(&self) -> (usize, usize) {
        let rows = if self.unit.is_some() { SIDE } else { self.block_rows };
        (self.m.next_multiple_of(self.side.rows), rows)
    }

    /// Values of a packed group of rows.
    fn group_values(&self) -> usize {
        match self.unit {
            None => line(self.k.div_ceil(DEPTH) * self.block_rows * tile::ROW),
            Some(unit) => line(split::values(SIDE, self.k, unit.products.parts())) + FOUND,
        }
    }

    /// Values of the packed left operand.
    fn whole_left(&self) -> usize {
        let (rows, group) = self.groups();
        rows.div_ceil(group).saturating_mul(self.group_values())
    }

    /// Values of a block's sums.
    fn sums_of_columns(&self) -> usize {
        line(self.groups().0.saturating_mul(self.block_columns))
    }

    /// Blocks that are computed before they are written.
    fn blocks_at_once(&self) -> usize {
        let all = self.n.div_ceil(self.block_columns).max(1);
        (MOST_SUMS / self.sums_of_columns().max(1)).max(self.threads).min(all)
    }

    /// Values of working memory of one thread: packed columns, and what the matrix unit does not take.
    fn thread_scratch_of_columns(&self) -> usize {
        let packed = line(self.right_values(self.block_columns, self.terms));
        packed.saturating_add(self.refused_values().iter().sum::<usize>())
    }

    /// [`Gemm::scratch`].
    pub(super) fn scratch_of_columns(&self) -> usize {
        let sums = self.blocks_at_once().saturating_mul(self.sums_of_columns());
        let threads = self.thread_scratch_of_columns().saturating_mul(self.threads);
        self.whole_left().saturating_add(sums).saturating_add(threads)
    }

    /// The product, straight to row-major `c`, or added to it.
    pub(super) fn multiply_by_columns<T: Float>(
        &self,
        a: Matrix<'_>,
        b: RightMatrix<'_>,
        after: After<'_>,
        (c, adds): (&mut [T], bool),
        scratch: &mut [f32],
        threads: &Threads,
    ) {
        let (left, rest) = scratch.split_at_mut(self.whole_left());
        let (kept, own) = rest.split_at_mut(self.blocks_at_once() * self.sums_of_columns());
        let own = &mut own[..self.threads * self.thread_scratch_of_columns()];
        self.pack_left(a, left, threads);
        let left = &*left;
        let at_once = self.blocks_at_once() * self.block_columns;
        for first in (0..self.n).step_by(at_once) {
            let columns = first..self.n.min(first + at_once);
            let starts = columns.clone().step_by(self.block_columns);
            let blocks = starts.zip(kept.chunks_exact_mut(self.sums_of_columns()));
            threads.drain(blocks, own, |(start, sums), own| {
                let some = start..columns.end.min(start + self.block_columns);
                self.block_of_columns((left, a), b, some, own, sums, threads);
            });
            threads.each_chunk(c, self.n, 1, |row, c| {
                self.write(row, (kept, &columns), after, (c, adds), threads);
            });
        }
    }

    /// Packs the left operand: group after group of rows.
    fn pack_left(&self, a: Matrix<'_>, left: &mut [f32], threads: &Threads) {
        let (_, group) = self.groups();
        threads.each_chunk(left, self.group_values(), 1, |index, packed| {
            let rows = index * group..self.m.min((index + 1) * group);
            match self.unit {
                None => {
                    pack::left(threads.arch(), a, rows, 0..self.k, self.tile.rows, packed);
                }
                Some(unit) => {
                    let operand = (Factor::Left, unit.products.parts());
                    let (packed, found) = packed.split_at_mut(packed.len() - FOUND);
                    let Found { largest, least } =
                        split::pack(unit.unit, a, rows, 0..self.k, operand, packed);
                    bytemuck::cast_slice_mut(found)[..2].copy_from_slice(&[largest, least]);
                }
            }
        });
    }

    /// Computes the sums of some columns.
    fn block_of_columns(
        &self,
        (left, a): (&[f32], Matrix<'_>),
        b: RightMatrix<'_>,
        columns: Range<usize>,
        own: &mut [f32],
        sums: &mut [f32],
        threads: &Threads,
    ) {
        let padded = columns.len().next_multiple_of(self.side.columns);
        let (right, own) = own.split_at_mut(line(self.right_values(self.block_columns, self.terms)));
        if self.k == 0 {
            sums.fill(0.0);
        }
        for begin in (0..self.k).step_by(self.terms.max(1)) {
            let terms = begin..self.k.min(begin + self.terms);
            let mut found = Found::NOTHING;
            for (start, depth) in depths(&terms) {
                let packed = &mut right[self.right_values(padded, start - begin)..];
                let packed = &mut packed[..self.right_values(padded, depth)];
                let (columns, depth) = (columns.clone(), start..start + depth);
                match self.unit {
                    None => b.panels(threads.arch(), columns, depth, self.tile.columns, packed),
                    Some(Unit { unit, products, .. }) => {
                        found = found.or(b.split(unit, columns, depth, products.parts(), packed));
                    }
                }
            }
            let columns = columns.clone();
            let block = Block { a, b, columns, padded, terms, packed: right, found, threads };
            match self.unit {
                None => self.add_groups(left, &block, sums),
                Some(unit) => self.add_panels(unit, left, &block, own, sums),
            }
        }
    }

    /// Adds the products of packed columns with all groups of packed rows to their sums, by vectors.
    fn add_groups(&self, left: &[f32], block: &Block<'_>, sums: &mut [f32]) {
        let (rows, group) = self.groups();
        let order = pack::order(block.a);
        for (start, k) in depths(&block.terms) {
            let right = start - block.terms.start;
            let right = &block.packed[block.padded * right..block.padded * (right + k)];
            for (index, left) in left.chunks_exact(self.group_values()).enumerate() {
                let height = group.min(rows - index * group);
                let left = &left[start / DEPTH * height * tile::ROW..][..order.values(height, k)];
                let sums = &mut sums[index * group * block.padded..][..height * block.padded];
                let sums = Sums { values: sums, width: block.padded, adds: start > 0 };
                tile::multiply(block.threads.arch(), Left { values: left, order }, right, k, sums);
            }
        }
    }

    /// The same by the matrix unit, where it takes the operands: [`SIDE`] rows at a time.
    fn add_panels(&self, unit: Unit, left: &[f32], block: &Block<'_>, refused: &mut [f32], sums: &mut [f32]) {
        let parts = unit.products.parts();
        let panels = left.chunks_exact(self.group_values()).zip(sums.chunks_mut(SIDE * block.padded));
        for (index, (left, sums)) in panels.enumerate() {
            let (left, found) = left.split_at(left.len() - FOUND);
            let found: &[u32] = bytemuck::cast_slice(found);
            let found = Found { largest: found[0], least: found[1] };
            if !unit.takes(found, block.found) {
                let rows = index * SIDE..self.m.min((index + 1) * SIDE);
                self.add_refused(block, rows, block.terms.clone(), refused, sums);
                continue;
            }
            for (start, k) in depths(&block.terms) {
                let left = &left[split::values(SIDE, start, parts)..][..split::values(SIDE, k, parts)];
                let right = split::values(block.padded, start - block.terms.start, parts);
                let right = &block.packed[right..][..split::values(block.padded, k, parts)];
                let operands = (bytemuck::cast_slice(left), bytemuck::cast_slice(right));
                unit.unit.multiply(unit.products, operands, k, (&mut *sums, block.padded, start > 0));
            }
        }
    }

    /// Writes what some columns of a row of `c` become, from the sums of their blocks.
    fn write<T: Float>(
        &self,
        row: usize,
        (kept, columns): (&[f32], &Range<usize>),
        after: After<'_>,
        (c, adds): (&mut [T], bool),
        threads: &Threads,
    ) {
        let starts = columns.clone().step_by(self.block_columns);
        for (start, sums) in starts.zip(kept.chunks_exact(self.sums_of_columns())) {
            let width = self.block_columns.min(columns.end - start);
            let sums = &sums[row * width.next_multiple_of(self.side.columns)..][..width];
            let mut strip = [0.0; STRIP];
            for (index, sums) in sums.chunks(STRIP).enumerate() {
                let (first, strip) = (start + index * STRIP, &mut strip[..sums.len()]);
                strip.copy_from_slice(sums);
                after.apply(strip, (row, first, self.n));
                let to = &mut c[first..first + sums.len()];
                threads.arch().dispatch(Store { sums: strip, to, adds });
            }
        }
    }
}
