//! Matrix products: `c[m, n] = a[m, k] · b[k, n] (+ bias)`, for fp16 and fp32 operands of any strides, with
//! sums in fp32, rounded once to the result's type.
//!
//! The loops are those of Goto and van de Geijn, "Anatomy of high-performance matrix multiplication" (2008).
//! For some columns of `b`, their rows are packed first (all of them, or some after the others); then threads
//! take blocks of rows of `c`, and for each pack a block of `a` and multiply tile by tile. The terms of a sum are added in an order that only
//! `k` decides: blocks of [`DEPTH`], one after the other.

mod pack;
mod tile;

use std::ops::Range;

use anemone_mil::types::DType;
use half::f16;
use pulp::{Simd, WithSimd};

use crate::element::Float;
use crate::memory::{Floats, LINE_BYTES};
use crate::threads::Threads;

pub use tile::{Left, Sums, TileShape};

/// Terms of a sum that are added up in registers, before they join the terms of other blocks.
pub const DEPTH: usize = 256;
/// Rows of `c` in one block, at most.
const MOST_ROWS: usize = 240;
/// Values of a packed block of `a`, at most: it stays in the second cache.
const MOST_LEFT: usize = 240 * DEPTH;
/// Columns of `c` in one block, at most.
const MOST_COLUMNS: usize = 512;
/// Terms for which columns of `b` are packed at once, a multiple of [`DEPTH`]: more would leave the caches.
const MOST_TERMS: usize = 4 * DEPTH;
/// Sums of `c` that are kept while the terms are gone through [`MOST_TERMS`] at a time, at most.
const MOST_SUMS: usize = 1 << 20;

/// One operand: `values[i · row_stride + j · column_stride]` at row `i`, column `j`.
#[derive(Debug, Clone, Copy)]
pub struct Matrix<'a> {
    /// The elements, from the matrix's first on.
    pub values: Floats<'a>,
    /// Distance between rows, in elements.
    pub row_stride: usize,
    /// Distance between columns, in elements.
    pub column_stride: usize,
}

impl Matrix<'_> {
    /// The same matrix with rows and columns exchanged.
    #[must_use]
    pub fn transposed(self) -> Self {
        Matrix { row_stride: self.column_stride, column_stride: self.row_stride, ..self }
    }
}

/// A right operand: a matrix, which is packed anew in each run, or what [`Gemm::pack`] made of one.
#[derive(Debug, Clone, Copy)]
pub enum Right<'a> {
    /// The matrix.
    Matrix(Matrix<'a>),
    /// The matrix packed.
    Packed(&'a [f32]),
}

/// What is added to the product.
#[derive(Debug, Clone, Copy)]
pub enum Bias<'a> {
    /// Nothing.
    None,
    /// One value per row of the result.
    Rows(Floats<'a>),
    /// One value per column of the result.
    Columns(Floats<'a>),
}

/// Where the product goes, row-major.
#[derive(Debug)]
pub enum Output<'a> {
    /// fp16.
    F16(&'a mut [f16]),
    /// fp32.
    F32(&'a mut [f32]),
    /// fp32, to which the product is added.
    Sum(&'a mut [f32]),
}

impl<'a> Output<'a> {
    /// The result of this type, fp16 or fp32, in these bytes, which are aligned for it.
    pub fn new(dtype: DType, bytes: &'a mut [u8]) -> Output<'a> {
        match dtype {
            DType::Fp16 => Output::F16(bytemuck::cast_slice_mut(bytes)),
            _ => Output::F32(bytemuck::cast_slice_mut(bytes)),
        }
    }
}

/// The sizes of a product and how its work is cut up.
#[derive(Debug, Clone)]
pub struct Gemm {
    m: usize,
    n: usize,
    k: usize,
    tile: TileShape,
    /// Rows of one block, a multiple of the tile's.
    block_rows: usize,
    /// Columns of one block, a multiple of the tile's.
    block_columns: usize,
    /// Terms that are gone through at once: a multiple of [`DEPTH`], or all.
    terms: usize,
    threads: usize,
    /// Whether the transposed product is computed, because the result is wide and low.
    transposed: bool,
}

impl Gemm {
    /// A product `[m, k] · [k, n]`.
    pub fn new(m: usize, n: usize, k: usize, threads: &Threads) -> Gemm {
        let tile = TileShape::of(threads.arch());
        let transposed = m < n && m.div_ceil(tile.rows) < 4 * threads.count();
        Gemm::of_sides(m, n, k, transposed, threads)
    }

    fn of_sides(m: usize, n: usize, k: usize, transposed: bool, threads: &Threads) -> Gemm {
        let tile = TileShape::of(threads.arch());
        let (rows, columns) = if transposed { (n, m) } else { (m, n) };
        let most_rows = MOST_ROWS.min(MOST_LEFT / k.clamp(1, MOST_TERMS));
        // As many blocks as give each thread the same number of them.
        let blocks = rows.div_ceil(most_rows).next_multiple_of(threads.count()).max(1);
        let block_rows = rows.div_ceil(blocks).next_multiple_of(tile.rows).max(tile.rows);
        let panels = columns.div_ceil(MOST_COLUMNS).max(1);
        let block_columns = columns.div_ceil(panels).next_multiple_of(tile.columns).max(tile.columns);
        let sums = rows.div_ceil(block_rows).saturating_mul(block_rows).saturating_mul(block_columns);
        let terms = if k > MOST_TERMS && sums <= MOST_SUMS { MOST_TERMS } else { k };
        let threads = threads.count();
        Gemm { m, n, k, tile, block_rows, block_columns, terms, threads, transposed }
    }

    /// The same product, whose right operand may come packed.
    pub fn for_packed(m: usize, n: usize, k: usize, threads: &Threads) -> Gemm {
        Gemm::of_sides(m, n, k, false, threads)
    }

    /// The rows and columns of the product that is computed.
    fn sides(&self) -> (usize, usize) {
        if self.transposed { (self.n, self.m) } else { (self.m, self.n) }
    }

    /// Values of a block's sums.
    fn block_sums(&self) -> usize {
        line(self.block_rows.saturating_mul(self.block_columns))
    }

    /// Whether the sums of all blocks are kept, and not only those that a thread works on.
    fn keeps_sums(&self) -> bool {
        self.terms < self.k
    }

    /// Values of working memory for the sums of all blocks, where they are kept.
    fn kept_scratch(&self) -> usize {
        if self.keeps_sums() { self.sides().0.div_ceil(self.block_rows) * self.block_sums() } else { 0 }
    }

    /// Blocks of [`DEPTH`] terms of `a` that are packed at once.
    fn left_blocks(&self) -> usize {
        self.terms.clamp(1, MOST_TERMS).div_ceil(DEPTH)
    }

    /// Values of working memory for one thread: a block of sums, where they are not kept, and a packed block of `a`.
    fn thread_scratch(&self) -> usize {
        let sums = if self.keeps_sums() { 0 } else { self.block_sums() };
        sums.saturating_add(self.left_blocks() * self.block_rows * tile::ROW)
    }

    /// Values of working memory for packed columns of `b`.
    fn shared_scratch(&self) -> usize {
        line(self.block_columns.saturating_mul(self.terms))
    }

    /// Values for the transposed result.
    fn turned_scratch(&self) -> usize {
        if self.transposed { line(self.m.saturating_mul(self.n)) } else { 0 }
    }

    /// The fp32 values of working memory that [`Gemm::run`] needs, of which the first should begin a cache line.
    pub fn scratch(&self) -> usize {
        let threads = self.thread_scratch().saturating_mul(self.threads);
        let shared = self.shared_scratch().saturating_add(self.kept_scratch());
        threads.saturating_add(shared).saturating_add(self.turned_scratch())
    }

    /// Values of the packed right operand of a product that [`Gemm::for_packed`] made.
    pub fn packed(&self) -> usize {
        let last = self.n - self.n / self.block_columns * self.block_columns;
        let columns = self.n - last + last.next_multiple_of(self.tile.columns);
        columns.saturating_mul(self.k)
    }

    /// Packs the right operand of products that [`Gemm::for_packed`] made, of any number of rows.
    pub fn pack(&self, b: Matrix<'_>, packed: &mut [f32], threads: &Threads) {
        debug_assert!(!self.transposed);
        for (first, packed) in self.column_blocks().zip(packed.chunks_mut(self.block_columns * self.k)) {
            self.pack_columns(b, first, 0..self.k, packed, threads);
        }
    }

    /// Computes the product.
    pub fn run(
        &self,
        a: Matrix<'_>,
        b: Right<'_>,
        bias: Bias<'_>,
        output: Output<'_>,
        scratch: &mut [f32],
        threads: &Threads,
    ) {
        if self.m == 0 || self.n == 0 {
            return;
        }
        let (turned, scratch) = scratch.split_at_mut(self.turned_scratch());
        let b = match b {
            Right::Matrix(b) if self.transposed => {
                let turned = &mut turned[..self.m * self.n];
                let (left, right) = (b.transposed(), Right::Matrix(a.transposed()));
                self.multiply(left, right, Bias::None, (&mut *turned, false), scratch, threads);
                return match output {
                    Output::F16(c) => self.turn(turned, bias, (c, false), threads),
                    Output::F32(c) => self.turn(turned, bias, (c, false), threads),
                    Output::Sum(c) => self.turn(turned, bias, (c, true), threads),
                };
            }
            b => b,
        };
        match output {
            Output::F16(c) => self.multiply(a, b, bias, (c, false), scratch, threads),
            Output::F32(c) => self.multiply(a, b, bias, (c, false), scratch, threads),
            Output::Sum(c) => self.multiply(a, b, bias, (c, true), scratch, threads),
        }
    }

    /// Writes the transposed product to the result, or adds it.
    fn turn<T: Float>(&self, turned: &[f32], bias: Bias<'_>, (c, adds): (&mut [T], bool), threads: &Threads) {
        const STRIP: usize = 256;
        let (m, n) = (self.m, self.n);
        threads.each_chunk(c, n, 1, |i, row| {
            let mut sums = [0.0; STRIP];
            for (strip, part) in row.chunks_mut(STRIP).enumerate() {
                let sums = &mut sums[..part.len()];
                for (j, sum) in sums.iter_mut().enumerate() {
                    *sum = turned[(strip * STRIP + j) * m + i];
                }
                add_bias(sums, bias, i, strip * STRIP);
                threads.arch().dispatch(Store { sums, to: part, adds });
            }
        });
    }

    /// The product, or its transpose, straight to row-major `c`, or added to it.
    fn multiply<T: Float>(
        &self,
        a: Matrix<'_>,
        b: Right<'_>,
        bias: Bias<'_>,
        (c, adds): (&mut [T], bool),
        scratch: &mut [f32],
        threads: &Threads,
    ) {
        let (_, columns) = self.sides();
        let (shared, rest) = scratch.split_at_mut(self.shared_scratch());
        let (kept, own) = rest.split_at_mut(self.kept_scratch());
        let own = &mut own[..self.threads * self.thread_scratch()];
        for (first, width) in self.column_blocks() {
            let padded = width.next_multiple_of(self.tile.columns);
            // At least once, since no terms at all make sums of 0.
            for begin in (0..self.k.max(1)).step_by(self.terms.max(1)) {
                let terms = begin..self.k.min(begin + self.terms);
                let packed = match b {
                    Right::Packed(packed) => {
                        &packed[first * self.k + padded * begin..][..padded * terms.len()]
                    }
                    Right::Matrix(b) => {
                        let packed = &mut shared[..padded * terms.len()];
                        self.pack_columns(b, (first, width), terms.clone(), packed, threads);
                        &*packed
                    }
                };
                let block = Block { a, packed, terms, padded, threads };
                let mut kept = kept.chunks_exact_mut(self.block_sums());
                let blocks =
                    c.chunks_mut(self.block_rows * columns).enumerate().map(|(i, c)| (i, c, kept.next()));
                threads.drain(blocks, own, |(index, c, kept), own| {
                    let start = index * self.block_rows;
                    let rows = start..start + c.len() / columns;
                    let (sums, packed_a) = match kept {
                        Some(kept) => (kept, own),
                        None => own.split_at_mut(self.block_sums()),
                    };
                    let sums = &mut sums[..self.block_rows * padded];
                    self.add_terms(&block, rows, packed_a, sums);
                    if block.terms.end < self.k {
                        return;
                    }
                    for (i, row) in c.chunks_exact_mut(columns).enumerate() {
                        let sums = &mut sums[i * padded..i * padded + width];
                        add_bias(sums, bias, start + i, first);
                        let to = &mut row[first..first + width];
                        threads.arch().dispatch(Store { sums, to, adds });
                    }
                });
            }
        }
    }

    /// The first column and the width of each block.
    fn column_blocks(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        let (columns, most) = (self.sides().1, self.block_columns);
        (0..columns).step_by(most).map(move |first| (first, most.min(columns - first)))
    }

    /// Adds the products of some rows of `a` with packed columns of `b` to their sums; the first of all terms are
    /// written instead.
    fn add_terms(&self, block: &Block<'_>, rows: Range<usize>, packed_a: &mut [f32], sums: &mut [f32]) {
        let Block { a, packed, ref terms, padded, threads } = *block;
        if terms.is_empty() {
            sums.fill(0.0);
        }
        let height = rows.len().next_multiple_of(self.tile.rows);
        for first in terms.clone().step_by(MOST_TERMS) {
            let some = first..terms.end.min(first + MOST_TERMS);
            let order = pack::left(threads.arch(), a, rows.clone(), some.clone(), self.tile.rows, packed_a);
            for (index, (depth, k)) in depths(some.len()).enumerate() {
                let values = &packed_a[index * height * tile::ROW..][..order.values(height, k)];
                let depth = first - terms.start + depth;
                let right = &packed[padded * depth..padded * (depth + k)];
                let sums = Sums { values: &mut *sums, width: padded, adds: terms.start + depth > 0 };
                tile::multiply(threads.arch(), Left { values, order }, right, k, sums);
            }
        }
    }

    /// Packs some columns of `b`: block after block of [`DEPTH`] rows, each as panels of a tile's columns.
    fn pack_columns(
        &self,
        b: Matrix<'_>,
        (first, width): (usize, usize),
        terms: Range<usize>,
        packed: &mut [f32],
        threads: &Threads,
    ) {
        let padded = width.next_multiple_of(self.tile.columns);
        threads.each_chunk(packed, padded * DEPTH, 1, |index, packed| {
            let depth = terms.start + index * DEPTH;
            let rows = depth..depth + packed.len() / padded;
            let columns = first..first + width;
            pack::panels(threads.arch(), b.transposed(), columns, rows, self.tile.columns, packed);
        });
    }
}

/// What the blocks of a product have in common.
struct Block<'a> {
    a: Matrix<'a>,
    /// Packed columns of `b`.
    packed: &'a [f32],
    /// The terms for which they are packed.
    terms: Range<usize>,
    /// Their number, with those that fill the last tile.
    padded: usize,
    threads: &'a Threads,
}

/// Values up to the end of their last cache line.
fn line(values: usize) -> usize {
    values.checked_next_multiple_of(LINE_BYTES / size_of::<f32>()).unwrap_or(values)
}

/// The start and length of each block of terms.
fn depths(k: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..k).step_by(DEPTH).map(move |start| (start, DEPTH.min(k - start)))
}

/// Rounds sums, or sums and what is there together, to the result, with the processor's vectors.
struct Store<'a, T> {
    sums: &'a mut [f32],
    to: &'a mut [T],
    adds: bool,
}

impl<T: Float> WithSimd for Store<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        if self.adds {
            self.sums.iter_mut().zip(&*self.to).for_each(|(sum, to)| *sum += to.wide());
        }
        T::round(self.sums, self.to);
    }
}

fn add_bias(sums: &mut [f32], bias: Bias<'_>, row: usize, first_column: usize) {
    match bias {
        Bias::None => {}
        Bias::Rows(values) => {
            let value = values.get(row);
            sums.iter_mut().for_each(|sum| *sum += value);
        }
        Bias::Columns(values) => {
            for (j, sum) in sums.iter_mut().enumerate() {
                *sum += values.get(first_column + j);
            }
        }
    }
}
