//! The counted positions of x.

use anemone_mil::runtime::RuntimeError;

use super::grow;
use crate::execution::zeros;
use crate::gemm::{Gemm, Matrix, Packed, Right, RightMatrix};
use crate::memory::{Floats, Line};
use crate::simd::matrix_unit::Found;
use crate::threads::Threads;

/// Positions that a thread takes over at a time.
const GATHERED: usize = 16;

/// A product that x is the right operand of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HeadProduct {
    /// E·x, with x `[D, n]`.
    Logits,
    /// dz·xᵀ, with xᵀ `[n, D]`.
    Dembed,
}

/// x of the counted positions.
#[derive(Debug)]
pub(super) struct Positions {
    dim: usize,
    /// The counted positions.
    count: usize,
    /// x in fp32, `[n, D]`.
    x: Vec<f32>,
    /// x packed for each [`HeadProduct`].
    packed: [Vec<Line>; 2],
    /// What packing found of them.
    found: [Found; 2],
}

impl Positions {
    /// Room for so many positions.
    pub(super) fn new(dim: usize, values: usize) -> Result<Positions, RuntimeError> {
        let x = zeros(values)?;
        Ok(Positions { dim, count: 0, x, packed: Default::default(), found: [Found::NOTHING; 2] })
    }

    /// Takes the counted positions of x `[D, S]` over.
    pub(super) fn gather(
        &mut self,
        x: Floats<'_>,
        positions: usize,
        counted: &[(usize, usize)],
        threads: &Threads,
    ) {
        let dim = self.dim;
        self.count = counted.len();
        threads.each_chunk(&mut self.x[..self.count * dim], GATHERED * dim, 4, |index, rows| {
            let counted = &counted[index * GATHERED..];
            for d in 0..dim {
                for (row, &(position, _)) in rows.chunks_exact_mut(dim).zip(counted) {
                    row[d] = x.get(d * positions + position);
                }
            }
        });
    }

    /// Packs x for a product.
    pub(super) fn pack(
        &mut self,
        product: HeadProduct,
        gemm: &Gemm,
        threads: &Threads,
    ) -> Result<(), RuntimeError> {
        let x = matrix(&self.x[..self.count * self.dim], self.dim, product);
        let packed = &mut self.packed[product as usize];
        grow(packed, gemm.packed())?;
        let packed = &mut bytemuck::cast_slice_mut(packed)[..gemm.packed()];
        self.found[product as usize] = gemm.pack(x, packed, threads);
        Ok(())
    }

    /// x as an operand of a product for which it has been packed.
    pub(super) fn operand(&self, product: HeadProduct, gemm: &Gemm) -> Right<'_> {
        let matrix = matrix(&self.x[..self.count * self.dim], self.dim, product);
        let values = &bytemuck::cast_slice(&self.packed[product as usize])[..gemm.packed()];
        let matrix = RightMatrix::Stored(matrix);
        Right { matrix, packed: Some(Packed { values, found: self.found[product as usize] }) }
    }
}

fn matrix(x: &[f32], dim: usize, product: HeadProduct) -> Matrix<'_> {
    let rows = Matrix { values: Floats::F32(x), row_stride: dim, column_stride: 1 };
    if product == HeadProduct::Logits { rows.transposed() } else { rows }
}
