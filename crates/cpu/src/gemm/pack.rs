//! Packing: from an operand of any strides and either element type to fp32 panels in the order in which the
//! tiles read them.

use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};

use super::{DEPTH, Matrix};
use crate::element::Float;
use crate::memory::Floats;

/// Columns whose place in the panel stays in the first cache while rows are interleaved.
const STRIP: usize = 64;

/// Packs `rows` × `columns` of a matrix: panels of `height` rows, each column after column; rows that are
/// missing from the last panel are zero. `columns` holds at most [`DEPTH`].
pub fn panels(
    arch: Arch,
    matrix: Matrix<'_>,
    rows: Range<usize>,
    columns: Range<usize>,
    height: usize,
    packed: &mut [f32],
) {
    let depth = columns.len();
    for (index, panel) in packed.chunks_exact_mut((height * depth).max(1)).enumerate() {
        let first_row = rows.start + index * height;
        let present = height.min(rows.end - first_row);
        if present < height {
            panel.fill(0.0);
        }
        let first = first_row * matrix.row_stride + columns.start * matrix.column_stride;
        let strides = (matrix.row_stride, matrix.column_stride);
        match matrix.values {
            Floats::F16(values) => {
                arch.dispatch(Panel { values: &values[first..], strides, present, height, panel });
            }
            Floats::F32(values) => {
                arch.dispatch(Panel { values: &values[first..], strides, present, height, panel });
            }
        }
    }
}

/// One panel, to be packed with the processor's vectors.
struct Panel<'a, T> {
    /// The elements from the panel's first on.
    values: &'a [T],
    /// Distances between rows and between columns.
    strides: (usize, usize),
    /// Rows that there are.
    present: usize,
    /// Rows of the panel.
    height: usize,
    panel: &'a mut [f32],
}

impl<T: Float> WithSimd for Panel<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        match self.strides {
            (row_stride, 1) => self.along_columns(row_stride),
            (1, column_stride) => self.along_rows(column_stride),
            (row_stride, column_stride) => {
                for (j, column) in self.panel.chunks_exact_mut(self.height).enumerate() {
                    for (i, to) in column[..self.present].iter_mut().enumerate() {
                        *to = self.values[i * row_stride + j * column_stride].wide();
                    }
                }
            }
        }
    }
}

impl<T: Float> Panel<'_, T> {
    /// Neighbours in memory are neighbouring columns: a strip of each row is widened, then interleaved.
    #[inline(always)]
    fn along_columns(self, row_stride: usize) {
        let depth = self.panel.len() / self.height;
        debug_assert!(depth <= DEPTH);
        for (strip, panel) in self.panel.chunks_mut(STRIP * self.height).enumerate() {
            let width = STRIP.min(depth - strip * STRIP);
            let mut widened = [0.0; STRIP];
            for i in 0..self.present {
                let start = i * row_stride + strip * STRIP;
                T::widen(&self.values[start..start + width], &mut widened[..width]);
                for (column, &value) in panel.chunks_exact_mut(self.height).zip(&widened) {
                    column[i] = value;
                }
            }
        }
    }

    /// Neighbours in memory are neighbouring rows: each column of the panel is a run of memory.
    #[inline(always)]
    fn along_rows(self, column_stride: usize) {
        for (j, column) in self.panel.chunks_exact_mut(self.height).enumerate() {
            let start = j * column_stride;
            T::widen(&self.values[start..start + self.present], &mut column[..self.present]);
        }
    }
}
