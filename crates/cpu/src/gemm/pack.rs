//! Packing: from an operand of any strides and either element type to fp32 panels in the order in which the
//! tiles read them.

use std::ops::Range;

use half::slice::HalfFloatSliceExt;

use super::{DEPTH, Matrix};
use crate::memory::Floats;

/// Columns whose place in the panel stays in the first cache while a row is interleaved.
const STRIP: usize = 64;

/// Packs `rows` × `columns` of a matrix: panels of `height` rows, each column after column; rows that are
/// missing from the last panel are zero. `columns` holds at most [`DEPTH`].
pub fn panels(
    matrix: Matrix<'_>,
    rows: Range<usize>,
    columns: Range<usize>,
    height: usize,
    packed: &mut [f32],
) {
    let depth = columns.len();
    for (index, panel) in packed.chunks_exact_mut(height * depth).enumerate() {
        let start = rows.start + index * height;
        let present = height.min(rows.end - start);
        if present < height {
            panel.fill(0.0);
        }
        let first = start * matrix.row_stride + columns.start * matrix.column_stride;
        if matrix.column_stride == 1 {
            along_columns(matrix, first, present, depth, height, panel);
        } else if matrix.row_stride == 1 {
            along_rows(matrix, first, present, height, panel);
        } else {
            for (j, column) in panel.chunks_exact_mut(height).enumerate() {
                for (i, value) in column[..present].iter_mut().enumerate() {
                    *value = matrix.values.get(first + i * matrix.row_stride + j * matrix.column_stride);
                }
            }
        }
    }
}

/// Neighbours in memory are neighbouring columns: rows are read one after the other and interleaved.
fn along_columns(
    matrix: Matrix<'_>,
    first: usize,
    present: usize,
    depth: usize,
    height: usize,
    panel: &mut [f32],
) {
    let mut widened = [0.0; DEPTH];
    for i in 0..present {
        let start = first + i * matrix.row_stride;
        let row = match matrix.values {
            Floats::F32(values) => &values[start..start + depth],
            Floats::F16(values) => {
                values[start..start + depth].convert_to_f32_slice(&mut widened[..depth]);
                &widened[..depth]
            }
        };
        for (strip, values) in row.chunks(STRIP).enumerate() {
            let columns = panel[strip * STRIP * height..].chunks_exact_mut(height);
            for (column, &value) in columns.zip(values) {
                column[i] = value;
            }
        }
    }
}

/// Neighbours in memory are neighbouring rows: each column of the panel is a run of memory.
fn along_rows(matrix: Matrix<'_>, first: usize, present: usize, height: usize, panel: &mut [f32]) {
    for (j, column) in panel.chunks_exact_mut(height).enumerate() {
        let start = first + j * matrix.column_stride;
        match matrix.values {
            Floats::F32(values) => column[..present].copy_from_slice(&values[start..start + present]),
            Floats::F16(values) => {
                values[start..start + present].convert_to_f32_slice(&mut column[..present]);
            }
        }
    }
}
