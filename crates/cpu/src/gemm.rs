//! Matrix products: `c[m, n] = a[m, k] · b[k, n] (+ bias)`, for fp16 and fp32 operands of any strides, with
//! sums in fp32, rounded once to the result's type.
//!
//! The loops are those of Goto and van de Geijn, "Anatomy of high-performance matrix multiplication" (2008).
//! For some columns of `b`, their rows are packed first (all of them, or some after the others); then threads
//! take blocks of rows of `c`, and for each pack a block of `a` and multiply tile by tile, in vector registers
//! (`tile.rs`) or by the matrix unit (`split.rs`), which leaves the blocks that it cannot multiply to vectors. The
//! terms of a sum are added in an order that only sizes decide: blocks of [`DEPTH`], one after the other.

mod after;
mod blocks;
mod columns;
mod pack;
mod split;
#[cfg(all(test, unix))]
mod tests;
mod tile;
mod windows;

use anemone_mil::types::DType;
use half::f16;
use pulp::{Simd, WithSimd};

use crate::ProductPrecision;
use crate::element::Float;
use crate::memory::{Floats, LINE_BYTES};
use crate::simd::matrix_unit::{Found, MatrixUnit, Products, SIDE};
use crate::threads::Threads;

pub(crate) use after::{After, Bias};
use tile::TileShape;
pub(crate) use tile::{dispatch, multiply_add};
pub(crate) use windows::{RightMatrix, WindowShape, Windows};

/// Terms of a sum that are added up in registers, before they join the terms of other blocks.
pub(crate) const DEPTH: usize = 256;
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
pub(crate) struct Matrix<'a> {
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
    pub(crate) fn transposed(self) -> Self {
        Matrix { row_stride: self.column_stride, column_stride: self.row_stride, ..self }
    }
}

/// A right operand, which is packed in each run, unless it comes packed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Right<'a> {
    /// The matrix.
    pub matrix: RightMatrix<'a>,
    /// The matrix packed, which [`Gemm::pack`] made.
    pub packed: Option<Packed<'a>>,
}

impl<'a> From<Matrix<'a>> for Right<'a> {
    fn from(matrix: Matrix<'a>) -> Right<'a> {
        Right { matrix: RightMatrix::Stored(matrix), packed: None }
    }
}

impl<'a> From<Windows<'a>> for Right<'a> {
    fn from(windows: Windows<'a>) -> Right<'a> {
        Right { matrix: RightMatrix::Windows(windows), packed: None }
    }
}

/// A packed right operand.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Packed<'a> {
    /// Its values.
    pub values: &'a [f32],
    /// What packing found of its numbers.
    pub found: Found,
}

/// What the matrix unit needs to know of the operands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Precision {
    /// They are fp16.
    Half,
    /// They may be rounded to 16 significant bits.
    Rounded,
    /// They are fp32.
    Single,
    /// They are fp32, but numbers below 2⁻¹⁰⁰ may lose bits or count as 0.
    SingleButSmall,
}

/// The matrix unit, and what it computes.
#[derive(Debug, Clone, Copy)]
struct Unit {
    unit: MatrixUnit,
    products: Products,
    /// Whether blocks with small numbers must be left to vectors.
    refuses_small: bool,
}

impl Unit {
    fn new(unit: MatrixUnit, precision: Precision, allowed: ProductPrecision) -> Unit {
        let products = match (precision, allowed) {
            (Precision::Half, _) if unit.multiplies_fp16() => Products::Half,
            (_, ProductPrecision::Bf16) => Products::Nearest,
            (Precision::Half | Precision::Rounded, ProductPrecision::Exact) => Products::Four,
            (Precision::Half | Precision::Rounded, ProductPrecision::Full) => Products::Three,
            (Precision::Single | Precision::SingleButSmall, _) => Products::Six,
        };
        let refuses_small = precision == Precision::Single && products == Products::Six;
        Unit { unit, products, refuses_small }
    }

    /// Whether the unit can multiply blocks of which packing found this.
    fn takes(&self, left: Found, right: Found) -> bool {
        // fp16 numbers have no parts that could be lost, and their infinities are multiplied like other numbers.
        if self.products == Products::Half {
            return true;
        }
        let small = || left.has_small() || right.has_small() || left.underflows(right);
        let large = left.has_large() || right.has_large() || left.overflows(right);
        !(large || self.refuses_small && small())
    }
}

/// Where the product goes, row-major.
#[derive(Debug)]
pub(crate) enum Output<'a> {
    /// fp16.
    F16(&'a mut [f16]),
    /// fp32.
    F32(&'a mut [f32]),
    /// fp32, to which the product is added.
    Sum(&'a mut [f32]),
}

impl<'a> Output<'a> {
    /// The result of this type, fp16 or fp32, in these bytes, which are aligned for it.
    pub(crate) fn new(dtype: DType, bytes: &'a mut [u8]) -> Output<'a> {
        match dtype {
            DType::Fp16 => Output::F16(bytemuck::cast_slice_mut(bytes)),
            _ => Output::F32(bytemuck::cast_slice_mut(bytes)),
        }
    }
}

/// The sizes of a product and how its work is cut up.
#[derive(Debug, Clone)]
pub(crate) struct Gemm {
    m: usize,
    n: usize,
    k: usize,
    /// The matrix unit, if that is what multiplies blocks.
    unit: Option<Unit>,
    /// The tile of vectors.
    tile: TileShape,
    /// Rows and columns that are multiplied at once.
    side: TileShape,
    /// Rows of one block, a multiple of those multiplied at once.
    block_rows: usize,
    /// Columns of one block, a multiple of those multiplied at once.
    block_columns: usize,
    /// Terms that are gone through at once: a multiple of [`DEPTH`], or all.
    terms: usize,
    threads: usize,
    way: Way,
}

/// How the work of a product is shared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Threads pack columns of `b` together, and then take blocks of rows.
    Rows,
    /// The transposed product is computed in this way, because the result is wide and low.
    Transposed,
    /// `a` is packed whole; threads pack blocks of columns of `b` of their own, and multiply them.
    Columns,
}

impl Gemm {
    /// A product `[m, k] · [k, n]`.
    pub(crate) fn new(size: [usize; 3], precision: Precision, threads: &Threads) -> Gemm {
        let [m, n, k] = size;
        let tile = TileShape::of(threads.arch());
        // The matrix unit adds products of parts in an order that is another one for the transposed product: there
        // the number of threads must not matter.
        let few = if threads.unit().is_some() { 8 } else { 4 * threads.count() };
        // All columns of a low product fit one block, where those of a wide one are packed, block after block, from all
        // of many terms.
        let one_block = k > MOST_TERMS && m <= MOST_COLUMNS && n > MOST_COLUMNS;
        let way = match columns::suit(size) {
            true => Way::Columns,
            false if m < n && (m.div_ceil(tile.rows) < few || one_block) => Way::Transposed,
            false => Way::Rows,
        };
        Gemm::of_way(size, way, precision, threads)
    }

    /// The same product, whose right operand may come packed.
    pub(crate) fn for_packed(size: [usize; 3], precision: Precision, threads: &Threads) -> Gemm {
        Gemm::of_way(size, Way::Rows, precision, threads)
    }

    /// The same product, whose right operand is the windows of a convolution.
    pub(crate) fn for_windows(size: [usize; 3], precision: Precision, threads: &Threads) -> Gemm {
        let way = if columns::suit(size) { Way::Columns } else { Way::Rows };
        Gemm::of_way(size, way, precision, threads)
    }

    fn of_way([m, n, k]: [usize; 3], way: Way, precision: Precision, threads: &Threads) -> Gemm {
        let tile = TileShape::of(threads.arch());
        let unit = threads.unit().map(|unit| Unit::new(unit, precision, threads.products()));
        let side = if unit.is_some() { TileShape { rows: SIDE, columns: SIDE } } else { tile };
        let (rows, columns) = if way == Way::Transposed { (n, m) } else { (m, n) };
        let most_rows = MOST_ROWS.min(MOST_LEFT / k.clamp(1, MOST_TERMS));
        let block_rows =
            side.rows * tiles_of_block(rows.div_ceil(side.rows), most_rows / side.rows, threads.count());
        let most_columns = if way == Way::Columns { columns::most([m, n, k]) } else { MOST_COLUMNS };
        let panels = columns.div_ceil(most_columns).max(1);
        let block_columns = columns.div_ceil(panels).next_multiple_of(side.columns).max(side.columns);
        let sums = rows.saturating_mul(block_columns);
        let few_terms = way == Way::Columns || sums <= MOST_SUMS;
        let terms = if k > MOST_TERMS && few_terms { MOST_TERMS } else { k };
        let threads = threads.count();
        Gemm { m, n, k, unit, tile, side, block_rows, block_columns, terms, threads, way }
    }

    /// The threads that share the work.
    pub(crate) fn threads(&self) -> usize {
        self.threads
    }

    /// The rows of the result.
    pub(crate) fn rows(&self) -> usize {
        self.m
    }

    /// The columns of the result.
    pub(crate) fn columns(&self) -> usize {
        self.n
    }

    /// The rows and columns of the product that is computed.
    fn sides(&self) -> (usize, usize) {
        if self.way == Way::Transposed { (self.n, self.m) } else { (self.m, self.n) }
    }

    /// Values of a block's sums.
    fn block_sums(&self) -> usize {
        line(self.block_rows.saturating_mul(self.block_columns))
    }

    /// Values of so many packed columns of `b`, which fill tiles, and so many terms.
    fn right_values(&self, columns: usize, terms: usize) -> usize {
        match self.unit {
            None => columns.saturating_mul(terms),
            Some(unit) => split::values(columns, terms, unit.products.parts()),
        }
    }

    /// Whether the sums of all blocks are kept, and not only those that a thread works on.
    fn keeps_sums(&self) -> bool {
        self.terms < self.k
    }

    /// Values of working memory for the sums of all blocks, where they are kept.
    fn kept_scratch(&self) -> usize {
        if self.keeps_sums() { self.sides().0.div_ceil(self.block_rows) * self.block_sums() } else { 0 }
    }

    /// Values of packed rows of `a`: a block's, or those that the matrix unit takes at once.
    fn left_values(&self) -> usize {
        let terms = self.terms.clamp(1, MOST_TERMS);
        match self.unit {
            None => terms.div_ceil(DEPTH) * self.block_rows * tile::ROW,
            Some(unit) => split::values(SIDE, terms, unit.products.parts()),
        }
    }

    /// Values of what the matrix unit does not take, packed for vectors: rows of `a`, columns of `b`, and sums.
    fn refused_values(&self) -> [usize; 3] {
        if self.unit.is_none() {
            return [0; 3];
        }
        let rows = SIDE.next_multiple_of(self.tile.rows);
        [rows * tile::ROW, line(self.block_columns * DEPTH), line(rows * self.block_columns)]
    }

    /// Values of working memory for one thread: a block of sums, where they are not kept, and packed blocks.
    fn thread_scratch(&self) -> usize {
        let sums = if self.keeps_sums() { 0 } else { self.block_sums() };
        let packed = line(self.left_values()) + self.refused_values().iter().sum::<usize>();
        sums.saturating_add(packed)
    }

    /// Values of working memory for packed columns of `b`.
    fn shared_scratch(&self) -> usize {
        line(self.right_values(self.block_columns, self.terms))
    }

    /// Values for the transposed result.
    fn turned_scratch(&self) -> usize {
        if self.way == Way::Transposed { line(self.m.saturating_mul(self.n)) } else { 0 }
    }

    /// The fp32 values of working memory that [`Gemm::run`] needs, of which the first should begin a cache line.
    pub(crate) fn scratch(&self) -> usize {
        if self.way == Way::Columns {
            return self.scratch_of_columns();
        }
        let threads = self.thread_scratch().saturating_mul(self.threads);
        let shared = self.shared_scratch().saturating_add(self.kept_scratch());
        threads.saturating_add(shared).saturating_add(self.turned_scratch())
    }

    /// Values of the packed right operand of a product that [`Gemm::for_packed`] made.
    pub(crate) fn packed(&self) -> usize {
        let last = self.n - self.n / self.block_columns * self.block_columns;
        let columns = self.n - last + last.next_multiple_of(self.side.columns);
        self.right_values(columns, self.k)
    }

    /// Packs the right operand of products that [`Gemm::for_packed`] made, of any number of rows. Gives what packing
    /// found.
    pub(crate) fn pack(&self, b: Matrix<'_>, packed: &mut [f32], threads: &Threads) -> Found {
        debug_assert!(self.way == Way::Rows);
        let b = RightMatrix::Stored(b);
        let block = self.right_values(self.block_columns, self.k).max(1);
        let blocks = self.column_blocks().zip(packed.chunks_mut(block));
        blocks.fold(Found::NOTHING, |found, (block, packed)| {
            found.or(self.pack_columns(b, block, 0..self.k, packed, threads))
        })
    }

    /// Computes the product.
    pub(crate) fn run(
        &self,
        a: Matrix<'_>,
        b: Right<'_>,
        after: After<'_>,
        output: Output<'_>,
        scratch: &mut [f32],
        threads: &Threads,
    ) {
        if self.m == 0 || self.n == 0 {
            return;
        }
        match output {
            Output::F16(c) => self.run_to(a, b, after, (c, false), scratch, threads),
            Output::F32(c) => self.run_to(a, b, after, (c, false), scratch, threads),
            Output::Sum(c) => self.run_to(a, b, after, (c, true), scratch, threads),
        }
    }

    /// Computes the product to a result, or adds it.
    fn run_to<T: Float>(
        &self,
        a: Matrix<'_>,
        b: Right<'_>,
        after: After<'_>,
        c: (&mut [T], bool),
        scratch: &mut [f32],
        threads: &Threads,
    ) {
        match (self.way, b.matrix) {
            (Way::Columns, b) => self.multiply_by_columns(a, b, after, c, scratch, threads),
            (Way::Transposed, RightMatrix::Stored(b)) => {
                let (turned, scratch) = scratch.split_at_mut(self.turned_scratch());
                let turned = &mut turned[..self.m * self.n];
                let (left, right) = (b.transposed(), a.transposed().into());
                self.multiply(left, right, Bias::None.into(), (&mut *turned, false), scratch, threads);
                self.turn(turned, after, c, threads);
            }
            _ => self.multiply(a, b, after, c, scratch, threads),
        }
    }

    /// Writes the transposed product to the result, or adds it.
    fn turn<T: Float>(
        &self,
        turned: &[f32],
        after: After<'_>,
        (c, adds): (&mut [T], bool),
        threads: &Threads,
    ) {
        const STRIP: usize = 256;
        let (m, n) = (self.m, self.n);
        threads.each_chunk(c, n, 1, |i, row| {
            let mut sums = [0.0; STRIP];
            for (strip, part) in row.chunks_mut(STRIP).enumerate() {
                let sums = &mut sums[..part.len()];
                for (j, sum) in sums.iter_mut().enumerate() {
                    *sum = turned[(strip * STRIP + j) * m + i];
                }
                after.apply(sums, (i, strip * STRIP, n));
                threads.arch().dispatch(Store { sums, to: part, adds });
            }
        });
    }
}

/// How many rows of tiles make a block, so that threads that take block after block are done almost together: the most that
/// keep each from having more than a thirty-second more than its share, or else what leaves the least to the busiest.
fn tiles_of_block(tiles: usize, most: usize, threads: usize) -> usize {
    let share = tiles.div_ceil(threads);
    let busiest = |block: usize| tiles.div_ceil(block).div_ceil(threads) * block;
    let most = most.clamp(1, share.max(1));
    let even = (1..=most).rev().find(|&block| busiest(block) - share <= share / 32);
    even.or_else(|| (1..=most).rev().min_by_key(|&block| busiest(block))).unwrap_or(1)
}

/// Values up to the end of their last cache line.
pub(crate) fn line(values: usize) -> usize {
    values.checked_next_multiple_of(LINE_BYTES / size_of::<f32>()).unwrap_or(values)
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
