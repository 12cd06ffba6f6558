//! The innermost loops: tiles of the result held in vector registers.

use pulp::{Arch, Simd, WithSimd};

/// Vectors across a tile.
const VECTORS: usize = 2;

/// The rows and columns of a tile: as many as fill the registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TileShape {
    /// Rows.
    pub rows: usize,
    /// Columns.
    pub columns: usize,
}

impl TileShape {
    /// The shape for a processor.
    pub fn of(arch: Arch) -> TileShape {
        struct Shape;
        impl WithSimd for Shape {
            type Output = TileShape;
            #[inline(always)]
            fn with_simd<S: Simd>(self, _: S) -> TileShape {
                TileShape { rows: rows::<S>(), columns: columns::<S>() }
            }
        }
        arch.dispatch(Shape)
    }
}

const fn rows<S: Simd>() -> usize {
    if S::REGISTER_COUNT >= 32 { 12 } else { 6 }
}

const fn columns<S: Simd>() -> usize {
    VECTORS * size_of::<S::f32s>() / size_of::<f32>()
}

/// Adds the product of packed panels to row-major `sums` with `width` columns, a multiple of the tile's.
/// `k` is the depth of the panels.
pub fn multiply(arch: Arch, a: &[f32], b: &[f32], k: usize, sums: &mut [f32], width: usize) {
    if k > 0 {
        arch.dispatch(Tiles { a, b, k, sums, width });
    }
}

struct Tiles<'a> {
    a: &'a [f32],
    b: &'a [f32],
    k: usize,
    sums: &'a mut [f32],
    width: usize,
}

impl WithSimd for Tiles<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        // The number of rows must be a constant for the tile to live in registers.
        if rows::<S>() == 12 { self.multiply::<S, 12>(simd) } else { self.multiply::<S, 6>(simd) }
    }
}

impl Tiles<'_> {
    #[inline(always)]
    fn multiply<S: Simd, const ROWS: usize>(self, simd: S) {
        let columns = columns::<S>();
        for (j, b) in self.b.chunks_exact(columns * self.k).enumerate() {
            let (b, _) = S::as_simd_f32s(b);
            for (i, a) in self.a.chunks_exact(ROWS * self.k).enumerate() {
                let tile = tile::<S, ROWS>(simd, a, b);
                for (r, tile) in tile.iter().enumerate() {
                    let start = (i * ROWS + r) * self.width + j * columns;
                    let (row, _) = S::as_mut_simd_f32s(&mut self.sums[start..start + columns]);
                    for (sum, &value) in row.iter_mut().zip(tile) {
                        *sum = simd.add_f32s(*sum, value);
                    }
                }
            }
        }
    }
}

/// One tile of the product of a panel of each operand.
#[inline(always)]
fn tile<S: Simd, const ROWS: usize>(simd: S, a: &[f32], b: &[S::f32s]) -> [[S::f32s; VECTORS]; ROWS] {
    let mut tile = [[simd.splat_f32s(0.0); VECTORS]; ROWS];
    for (a, b) in a.as_chunks::<ROWS>().0.iter().zip(b.as_chunks::<VECTORS>().0) {
        for r in 0..ROWS {
            let value = simd.splat_f32s(a[r]);
            for v in 0..VECTORS {
                tile[r][v] = simd.mul_add_e_f32s(value, b[v], tile[r][v]);
            }
        }
    }
    tile
}
