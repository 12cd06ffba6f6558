//! The innermost loops: tiles of the result held in vector registers.

use pulp::{Arch, Scalar128b, Simd, WithSimd};

use super::DEPTH;
use crate::functions::fuses;

/// Vectors across a tile.
const VECTORS: usize = 2;

/// The rows and columns of a tile: as many as fill the registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TileShape {
    /// Rows.
    pub rows: usize,
    /// Columns.
    pub columns: usize,
}

impl TileShape {
    /// The shape for a processor.
    pub(super) fn of(arch: Arch) -> TileShape {
        struct Shape;
        impl WithSimd for Shape {
            type Output = TileShape;
            #[inline(always)]
            fn with_simd<S: Simd>(self, _: S) -> TileShape {
                TileShape { rows: rows::<S>(), columns: columns::<S>() }
            }
        }
        dispatch(arch, Shape)
    }
}

/// Runs an operation with vectors of four numbers where the processor is not known to have any: compilers have some
/// for every target.
pub(crate) fn dispatch<O: WithSimd>(arch: Arch, operation: O) -> O::Output {
    match arch {
        Arch::Scalar => operation.with_simd(Scalar128b),
        arch => arch.dispatch(operation),
    }
}

/// `a · b + c`, rounded once or twice, whatever is fast.
#[inline(always)]
pub(crate) fn multiply_add<S: Simd>(simd: S, a: S::f32s, b: S::f32s, c: S::f32s) -> S::f32s {
    if fuses::<S>() { simd.mul_add_e_f32s(a, b, c) } else { simd.add_f32s(simd.mul_f32s(a, b), c) }
}

const fn rows<S: Simd>() -> usize {
    if S::REGISTER_COUNT >= 32 { 12 } else { 6 }
}

const fn columns<S: Simd>() -> usize {
    VECTORS * size_of::<S::f32s>() / size_of::<f32>()
}

/// How a packed panel of the left operand lies in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// Row after row, [`ROW`] apart.
    Rows,
    /// Column after column.
    Columns,
}

impl Order {
    /// The values that `height` rows of depth `k` take.
    pub(super) fn values(self, height: usize, k: usize) -> usize {
        height * if self == Order::Rows { ROW } else { k }
    }
}

/// Distance between the rows of a panel in [`Order::Rows`]: no power of two, so that the rows of a panel lie in
/// different sets of the first cache.
pub(super) const ROW: usize = DEPTH + 16;

/// A packed block of the left operand.
#[derive(Debug, Clone, Copy)]
pub(super) struct Left<'a> {
    /// Its panels.
    pub values: &'a [f32],
    /// How each panel lies in memory.
    pub order: Order,
}

/// Sums in memory.
#[derive(Debug)]
pub(super) struct Sums<'a> {
    /// The sums, row-major.
    pub values: &'a mut [f32],
    /// Columns, a multiple of the tile's.
    pub width: usize,
    /// Whether products are added to what is there, or replace it.
    pub adds: bool,
}

/// Adds the product of packed panels to sums. `k` is the depth of the panels.
pub(super) fn multiply(arch: Arch, a: Left<'_>, b: &[f32], k: usize, sums: Sums<'_>) {
    if k > 0 {
        dispatch(arch, Tiles { a: a.values, order: a.order, b, k, sums });
    }
}

struct Tiles<'a> {
    a: &'a [f32],
    order: Order,
    b: &'a [f32],
    k: usize,
    sums: Sums<'a>,
}

impl WithSimd for Tiles<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        // The number of rows must be a constant for the tile to live in registers.
        let k = self.k;
        match (rows::<S>(), self.order) {
            (12, Order::Rows) => self.multiply::<S, 12, true>(simd, 12 * ROW),
            (12, Order::Columns) => self.multiply::<S, 12, false>(simd, 12 * k),
            (_, Order::Rows) => self.multiply::<S, 6, true>(simd, 6 * ROW),
            (_, Order::Columns) => self.multiply::<S, 6, false>(simd, 6 * k),
        }
    }
}

/// Sums of a tile.
type Tile<S, const ROWS: usize> = [[<S as Simd>::f32s; VECTORS]; ROWS];

impl Tiles<'_> {
    #[inline(always)]
    fn multiply<S: Simd, const ROWS: usize, const BY_ROWS: bool>(self, simd: S, panel: usize) {
        let columns = columns::<S>();
        for (j, b) in self.b.chunks_exact(columns * self.k).enumerate() {
            let (b, _) = S::as_simd_f32s(b);
            for (i, a) in self.a.chunks_exact(panel).enumerate() {
                let tile: Tile<S, ROWS> =
                    if BY_ROWS { by_rows::<S, ROWS>(simd, a, b) } else { by_columns::<S, ROWS>(simd, a, b) };
                for (r, tile) in tile.iter().enumerate() {
                    let start = (i * ROWS + r) * self.sums.width + j * columns;
                    let (row, _) = S::as_mut_simd_f32s(&mut self.sums.values[start..start + columns]);
                    for (sum, &value) in row.iter_mut().zip(tile) {
                        *sum = if self.sums.adds { simd.add_f32s(*sum, value) } else { value };
                    }
                }
            }
        }
    }
}

// Loops, and no closures: nothing makes compilers inline those, and a call for each number would take longer than its
// products.

/// One tile of the product of a panel of each operand, the left one in [`Order::Columns`].
#[inline(always)]
fn by_columns<S: Simd, const ROWS: usize>(simd: S, a: &[f32], b: &[S::f32s]) -> Tile<S, ROWS> {
    let mut tile = [[simd.splat_f32s(0.0); VECTORS]; ROWS];
    for (a, b) in a.as_chunks::<ROWS>().0.iter().zip(b.as_chunks::<VECTORS>().0) {
        for (sums, &a) in tile.iter_mut().zip(a) {
            add(simd, sums, a, b);
        }
    }
    tile
}

/// One tile of the product of a panel of each operand, the left one in [`Order::Rows`].
#[inline(always)]
fn by_rows<S: Simd, const ROWS: usize>(simd: S, a: &[f32], b: &[S::f32s]) -> Tile<S, ROWS> {
    let b = b.as_chunks::<VECTORS>().0;
    let mut rows: [&[f32]; ROWS] = [&[]; ROWS];
    for (r, row) in rows.iter_mut().enumerate() {
        *row = &a[r * ROW..][..b.len()];
    }
    let mut tile = [[simd.splat_f32s(0.0); VECTORS]; ROWS];
    for (k, b) in b.iter().enumerate() {
        for (sums, row) in tile.iter_mut().zip(rows) {
            add(simd, sums, row[k], b);
        }
    }
    tile
}

/// Adds the product of a number of a column and a row to the row's sums.
#[inline(always)]
fn add<S: Simd>(simd: S, sums: &mut [S::f32s; VECTORS], a: f32, b: &[S::f32s; VECTORS]) {
    let value = simd.splat_f32s(a);
    for (sum, &b) in sums.iter_mut().zip(b) {
        *sum = multiply_add(simd, value, b, *sum);
    }
}
