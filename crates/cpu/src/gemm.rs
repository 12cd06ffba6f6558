//! Matrix products: `c[m, n] = a[m, k] · b[k, n] (+ bias)`, for fp16 and fp32 operands of any strides, with
//! sums in fp32, rounded once to the result's type.
//!
//! The loops are those of Goto and van de Geijn, "Anatomy of high-performance matrix multiplication" (2008).
//! For some columns of `b`, all their rows are packed first; then threads take blocks of rows of `c`, and
//! for each pack a block of `a` and multiply tile by tile. The terms of a sum are added in an order that only
//! `k` decides: blocks of [`DEPTH`], one after the other.

mod pack;
mod tile;

use anemone_mil::types::DType;
use half::f16;
use pulp::{Simd, WithSimd};

use crate::element::Float;
use crate::memory::Floats;
use crate::threads::Threads;

pub use tile::TileShape;

/// Terms of a sum that are added up in registers, before they join the terms of other blocks.
pub const DEPTH: usize = 256;
/// Rows of `c` in one block, at most: such a block of `a` stays in the second cache.
const MOST_ROWS: usize = 240;
/// Columns of `c` in one block, at most.
const MOST_COLUMNS: usize = 512;

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
    threads: usize,
    /// Whether the transposed product is computed, because the result is wide and low.
    transposed: bool,
}

impl Gemm {
    /// A product `[m, k] · [k, n]`.
    pub fn new(m: usize, n: usize, k: usize, threads: &Threads) -> Gemm {
        let tile = TileShape::of(threads.arch());
        let transposed = m < n && m.div_ceil(tile.rows) < 4 * threads.count();
        let (rows, columns) = if transposed { (n, m) } else { (m, n) };
        // As many blocks as give each thread the same number of them.
        let blocks = rows.div_ceil(MOST_ROWS).next_multiple_of(threads.count()).max(1);
        let block_rows = rows.div_ceil(blocks).next_multiple_of(tile.rows).max(tile.rows);
        let panels = columns.div_ceil(MOST_COLUMNS).max(1);
        let block_columns = columns.div_ceil(panels).next_multiple_of(tile.columns).max(tile.columns);
        Gemm { m, n, k, tile, block_rows, block_columns, threads: threads.count(), transposed }
    }

    /// Values of working memory for one thread: a block of sums and a packed block of `a`.
    fn thread_scratch(&self) -> usize {
        self.block_rows.saturating_mul(self.block_columns + DEPTH)
    }

    /// Values of working memory for packed columns of `b`.
    fn shared_scratch(&self) -> usize {
        self.block_columns.saturating_mul(self.k)
    }

    /// Values for the transposed result.
    fn turned_scratch(&self) -> usize {
        if self.transposed { self.m.saturating_mul(self.n) } else { 0 }
    }

    /// The fp32 values of working memory that [`Gemm::run`] needs.
    pub fn scratch(&self) -> usize {
        let threads = self.thread_scratch().saturating_mul(self.threads);
        threads.saturating_add(self.shared_scratch()).saturating_add(self.turned_scratch())
    }

    /// Computes the product.
    pub fn run(
        &self,
        a: Matrix<'_>,
        b: Matrix<'_>,
        bias: Bias<'_>,
        output: Output<'_>,
        scratch: &mut [f32],
        threads: &Threads,
    ) {
        if self.m == 0 || self.n == 0 {
            return;
        }
        let (turned, scratch) = scratch.split_at_mut(self.turned_scratch());
        if !self.transposed {
            match output {
                Output::F16(c) => self.multiply(a, b, bias, (c, false), scratch, threads),
                Output::F32(c) => self.multiply(a, b, bias, (c, false), scratch, threads),
                Output::Sum(c) => self.multiply(a, b, bias, (c, true), scratch, threads),
            }
            return;
        }
        self.multiply(b.transposed(), a.transposed(), Bias::None, (&mut *turned, false), scratch, threads);
        let turned = &*turned;
        match output {
            Output::F16(c) => self.turn(turned, bias, (c, false), threads),
            Output::F32(c) => self.turn(turned, bias, (c, false), threads),
            Output::Sum(c) => self.turn(turned, bias, (c, true), threads),
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
        b: Matrix<'_>,
        bias: Bias<'_>,
        (c, adds): (&mut [T], bool),
        scratch: &mut [f32],
        threads: &Threads,
    ) {
        let (rows, columns) = if self.transposed { (self.n, self.m) } else { (self.m, self.n) };
        let (shared, own) = scratch.split_at_mut(self.shared_scratch());
        for first in (0..columns).step_by(self.block_columns) {
            let width = self.block_columns.min(columns - first);
            let padded = width.next_multiple_of(self.tile.columns);
            let packed = &mut shared[..padded * self.k];
            self.pack_columns(b, first, width, packed, threads);
            let packed = &*packed;
            let blocks = c.chunks_mut(self.block_rows * columns).enumerate();
            threads.drain(blocks, &mut own[..self.threads * self.thread_scratch()], |(index, c), own| {
                let height = c.len() / columns;
                let start = index * self.block_rows;
                let (sums, packed_a) = own.split_at_mut(self.block_rows * self.block_columns);
                let sums = &mut sums[..self.block_rows * padded];
                sums.fill(0.0);
                for (depth, k) in depths(self.k) {
                    let packed_a = &mut packed_a[..height.next_multiple_of(self.tile.rows) * k];
                    pack::panels(
                        threads.arch(),
                        a,
                        start..start + height,
                        depth..depth + k,
                        self.tile.rows,
                        packed_a,
                    );
                    let packed_b = &packed[padded * depth..padded * (depth + k)];
                    tile::multiply(threads.arch(), packed_a, packed_b, k, sums, padded);
                }
                for (i, row) in c.chunks_exact_mut(columns).enumerate() {
                    let sums = &mut sums[i * padded..i * padded + width];
                    add_bias(sums, bias, start + i, first);
                    let to = &mut row[first..first + width];
                    threads.arch().dispatch(Store { sums, to, adds });
                }
            });
        }
        debug_assert_eq!(c.len(), rows * columns);
    }

    /// Packs some columns of `b`: block after block of [`DEPTH`] rows, each as panels of a tile's columns.
    fn pack_columns(&self, b: Matrix<'_>, first: usize, width: usize, packed: &mut [f32], threads: &Threads) {
        let padded = width.next_multiple_of(self.tile.columns);
        threads.each_chunk(packed, padded * DEPTH, 1, |index, packed| {
            let depth = index * DEPTH;
            let k = packed.len() / padded;
            pack::panels(
                threads.arch(),
                b.transposed(),
                first..first + width,
                depth..depth + k,
                self.tile.columns,
                packed,
            );
        });
    }
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
