//! Packing: from an operand of any strides and either element type to fp32 panels in the order in which the
//! tiles read them.

use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};

use super::tile::{Order, ROW};
use super::{DEPTH, Matrix};
use crate::element::Float;
use crate::memory::{Floats, LINE_BYTES};
use crate::simd;

/// Columns whose place in a panel stays in the first cache while rows are interleaved.
const STRIP: usize = 64;
/// Rows that are interleaved together.
const ROWS: usize = 16;
/// Columns that are gone through together: as many runs of memory as the processor reads ahead at once.
const RUNS: usize = 8;
/// Columns from those that are packed to those that are fetched.
const AHEAD: usize = 2 * RUNS;
/// Strips from the one that is packed to the one that is fetched: as long as memory takes to answer.
const STRIPS_AHEAD: usize = 2;

/// Packs `rows` × `columns` of a matrix: panels of `height` rows, each column after column; rows that are
/// missing from the last panel are zero. `columns` holds at most [`DEPTH`].
pub(super) fn panels(
    arch: Arch,
    matrix: Matrix<'_>,
    rows: Range<usize>,
    columns: Range<usize>,
    height: usize,
    packed: &mut [f32],
) {
    pack(arch, matrix, rows, columns, Form::Panels(height), packed);
}

/// The left operand's rows × columns, in the order that is the quicker to pack: in panels of `height` rows, block
/// after block of [`DEPTH`] columns. A block takes [`ROW`] values for each row of its panels, or less.
pub(super) fn left(
    arch: Arch,
    matrix: Matrix<'_>,
    rows: Range<usize>,
    columns: Range<usize>,
    height: usize,
    packed: &mut [f32],
) -> Order {
    let padded = rows.len().next_multiple_of(height);
    if order(matrix) == Order::Rows {
        pack(arch, matrix, rows, columns, Form::Rows(padded), packed);
        return Order::Rows;
    }
    for (first, packed) in columns.clone().step_by(DEPTH).zip(packed.chunks_mut(padded * ROW)) {
        let columns = first..columns.end.min(first + DEPTH);
        let packed = &mut packed[..padded * columns.len()];
        panels(arch, matrix, rows.clone(), columns, height, packed);
    }
    Order::Columns
}

/// The order in which [`left`] packs an operand.
pub(super) fn order(matrix: Matrix<'_>) -> Order {
    if matrix.column_stride == 1 { Order::Rows } else { Order::Columns }
}

/// The form in which rows are packed.
#[derive(Debug, Clone, Copy)]
enum Form {
    /// Panels of so many rows, column after column.
    Panels(usize),
    /// So many rows one after the other, [`ROW`] apart, of each block of [`DEPTH`] columns; neighbours in memory
    /// are neighbouring columns.
    Rows(usize),
}

fn pack(
    arch: Arch,
    matrix: Matrix<'_>,
    rows: Range<usize>,
    columns: Range<usize>,
    form: Form,
    packed: &mut [f32],
) {
    let first = rows.start * matrix.row_stride + columns.start * matrix.column_stride;
    let strides = (matrix.row_stride, matrix.column_stride);
    let (rows, depth) = (rows.len(), columns.len());
    if rows == 0 || depth == 0 {
        return packed.fill(0.0);
    }
    match matrix.values {
        Floats::F16(values) => {
            arch.dispatch(Pack { values: &values[first..], strides, rows, depth, form, packed });
        }
        Floats::F32(values) => {
            arch.dispatch(Pack { values: &values[first..], strides, rows, depth, form, packed });
        }
    }
}

/// Some rows, to be packed with the processor's vectors.
struct Pack<'a, T> {
    /// The elements from the first on.
    values: &'a [T],
    /// Distances between rows and between columns.
    strides: (usize, usize),
    /// Rows that there are.
    rows: usize,
    /// Columns.
    depth: usize,
    form: Form,
    packed: &'a mut [f32],
}

impl<T: Float> WithSimd for Pack<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        match (self.form, self.strides) {
            (Form::Rows(count), (row_stride, _)) => self.in_order(count, row_stride),
            (Form::Panels(height), (1, column_stride)) => self.along_rows(height, column_stride),
            (Form::Panels(height), (row_stride, 1)) => {
                self.each_panel(height, |values, present, panel| {
                    along_columns(values, row_stride, present, height, panel)
                });
            }
            (Form::Panels(height), (row_stride, column_stride)) => {
                self.each_panel(height, |values, present, panel| {
                    for (j, column) in panel.chunks_exact_mut(height).enumerate() {
                        for (i, to) in column[..present].iter_mut().enumerate() {
                            *to = values[i * row_stride + j * column_stride].wide();
                        }
                    }
                });
            }
        }
    }
}

impl<T: Float> Pack<'_, T> {
    #[inline(always)]
    fn in_order(self, count: usize, row_stride: usize) {
        for i in 0..count {
            for (block, first) in (0..self.depth).step_by(DEPTH).enumerate() {
                let length = DEPTH.min(self.depth - first);
                let row = &mut self.packed[(block * count + i) * ROW..][..length];
                if i < self.rows {
                    T::widen(&self.values[i * row_stride + first..][..length], row);
                } else {
                    row.fill(0.0);
                }
            }
        }
    }

    /// Calls `work` with each panel's elements from the first on, the rows that there are, and the panel.
    #[inline(always)]
    fn each_panel(self, height: usize, work: impl Fn(&[T], usize, &mut [f32])) {
        for (index, panel) in self.packed.chunks_exact_mut(height * self.depth).enumerate() {
            let present = height.min(self.rows - index * height);
            if present < height {
                panel.fill(0.0);
            }
            work(&self.values[index * height * self.strides.0..], present, panel);
        }
    }

    /// Neighbours in memory are neighbouring rows: each column of a panel is a run of memory, and each column of
    /// the matrix, too.
    #[inline(always)]
    fn along_rows(self, height: usize, column_stride: usize) {
        for first in (0..self.depth).step_by(RUNS) {
            let columns = first..self.depth.min(first + RUNS);
            for j in columns.clone() {
                for row in (0..self.rows).step_by(LINE_BYTES / size_of::<T>()) {
                    simd::prefetch(self.values, (j + AHEAD) * column_stride + row);
                }
            }
            for (index, panel) in self.packed.chunks_exact_mut(height * self.depth).enumerate() {
                let present = height.min(self.rows - index * height);
                let panel = &mut panel[columns.start * height..columns.end * height];
                for (j, to) in columns.clone().zip(panel.chunks_exact_mut(height)) {
                    let (to, missing) = to.split_at_mut(present);
                    T::widen(&self.values[j * column_stride + index * height..][..present], to);
                    missing.fill(0.0);
                }
            }
        }
    }
}

/// Neighbours in memory are neighbouring columns: strips of some rows are widened, then interleaved.
#[inline(always)]
fn along_columns<T: Float>(
    values: &[T],
    row_stride: usize,
    present: usize,
    height: usize,
    panel: &mut [f32],
) {
    let depth = panel.len() / height;
    let mut widened = [0.0; ROWS * STRIP];
    // After the last strip come those of the next panel.
    let strips = depth.div_ceil(STRIP);
    let ahead = |strip: usize| match strip + STRIPS_AHEAD < strips {
        true => STRIPS_AHEAD * STRIP,
        false => (height * row_stride).saturating_sub(strips.saturating_sub(STRIPS_AHEAD) * STRIP),
    };
    for (strip, panel) in panel.chunks_mut(STRIP * height).enumerate() {
        let width = STRIP.min(depth - strip * STRIP);
        for first in (0..present).step_by(ROWS) {
            let rows = ROWS.min(present - first);
            for (i, to) in widened.chunks_exact_mut(STRIP).enumerate().take(rows) {
                let start = (first + i) * row_stride + strip * STRIP;
                // Short runs of many rows are nothing that the processor would read ahead.
                for line in (0..STRIP).step_by(LINE_BYTES / size_of::<T>()) {
                    simd::prefetch(values, start + ahead(strip) + line);
                }
                T::widen(&values[start..start + width], &mut to[..width]);
            }
            simd::interleave(&widened, STRIP, [rows, width], &mut panel[first..], height);
        }
    }
}
