//! Rows of a plane in working memory, padded and in phases, and windows that go over them.

use pulp::{Simd, WithSimd};

use super::Fold;
use crate::element::Float;
use crate::gemm::WindowShape;

/// Vectors of results that are computed together.
const TOGETHER: usize = 8;
/// The lanes of the longest vectors: what is read and written beyond the end of a row, at most.
pub(super) const LANES: usize = 16;
/// Results of a plane that are computed at once, at least where there are as many.
const BAND: usize = 1 << 14;
/// Values of a thread's padded rows, at most: dilation and padding may ask for any number.
const MOST_PADDED: usize = 1 << 22;

/// How rows of a plane lie in working memory.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    /// For each phase, the place of its first element among the columns of a padded row.
    pub(super) phases: Vec<usize>,
    /// Elements of a phase.
    pub(super) phase: usize,
    /// For each tap, its distance from the first.
    pub(super) offsets: Vec<usize>,
    /// Rows of results that are computed at once.
    pub(super) band: usize,
    /// Rows of the operand that these need.
    pub(super) rows: usize,
}

impl Layout {
    /// `None` where it would be too large.
    pub(super) fn new(shape: &WindowShape) -> Option<Layout> {
        let WindowShape { output, kernel, strides, dilations, .. } = shape;
        let place = |tap: usize| {
            let column = tap.checked_mul(dilations[2])?;
            Some((column % strides[2], column / strides[2]))
        };
        let places: Vec<(usize, usize)> = (0..kernel[2]).map(place).collect::<Option<_>>()?;
        let mut phases: Vec<usize> = places.iter().map(|&(phase, _)| phase).collect();
        phases.sort_unstable();
        phases.dedup();
        let furthest = places.iter().map(|&(_, column)| column).max()?;
        let phase = output[2].checked_add(furthest)?.checked_add(LANES)?.checked_next_multiple_of(LANES)?;
        let band = (BAND / output[2].max(1)).clamp(1, output[1].max(1));
        let reach = (kernel[1] - 1).checked_mul(dilations[1])?.checked_add(1)?;
        let rows = (band - 1).checked_mul(strides[1])?.checked_add(reach)?;
        let row = phases.len().checked_mul(phase)?;
        rows.checked_mul(row).filter(|&values| values <= MOST_PADDED)?;
        let column = |&(phase_of, column): &(usize, usize)| {
            phases.iter().position(|&phase| phase == phase_of).map(|index| index * phase + column)
        };
        let columns: Vec<usize> = places.iter().map(column).collect::<Option<_>>()?;
        let offsets = (0..kernel[1])
            .flat_map(|tap| columns.iter().map(move |column| (tap, column)))
            .map(|(tap, column)| tap * dilations[1] * row + column)
            .collect();
        Some(Layout { phases, phase, offsets, band, rows })
    }

    /// Elements of a row.
    pub(super) fn row(&self) -> usize {
        self.phases.len() * self.phase
    }
}

/// Copies rows of a plane to working memory.
pub(super) struct Pad<'a, T> {
    pub(super) layout: &'a Layout,
    pub(super) shape: &'a WindowShape,
    pub(super) x: &'a [T],
    /// The first row, padding counted.
    pub(super) first: usize,
    /// What padding holds.
    pub(super) nothing: f32,
    pub(super) padded: &'a mut [f32],
    /// Room for a row.
    pub(super) row: &'a mut [f32],
}

impl<T: Float> WithSimd for Pad<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Pad { layout, shape, x, first, nothing, padded, row } = self;
        let ([_, rows, columns], stride) = (shape.input, shape.strides[2]);
        for (index, to) in padded.chunks_exact_mut(layout.row()).enumerate() {
            // Rows before the first wrap around, and are none.
            let place = (first + index).wrapping_sub(shape.before[1]);
            if place >= rows {
                to.fill(nothing);
                continue;
            }
            let x = &x[place * columns..][..columns];
            if stride > 1 {
                T::widen(x, row);
            }
            for (&phase, to) in layout.phases.iter().zip(to.chunks_exact_mut(layout.phase)) {
                let missing = shape.before[2].saturating_sub(phase).div_ceil(stride).min(to.len());
                let start = (phase + missing * stride).saturating_sub(shape.before[2]).min(columns);
                let there = (columns - start).div_ceil(stride).min(to.len() - missing);
                let (before, to) = to.split_at_mut(missing);
                let (to, after) = to.split_at_mut(there);
                before.fill(nothing);
                after.fill(nothing);
                if stride == 1 {
                    T::widen(&x[start..start + there], to);
                } else {
                    to.iter_mut().zip(row[start..].iter().step_by(stride)).for_each(|(to, x)| *to = *x);
                }
            }
        }
    }
}

/// Goes through the taps of some rows of windows.
pub(super) struct Sweep<'a, F> {
    pub(super) fold: F,
    pub(super) layout: &'a Layout,
    pub(super) padded: &'a [f32],
    /// The taps' weights.
    pub(super) weights: &'a [f32],
    /// Where each result begins.
    pub(super) first: f32,
    /// From the elements of a row of windows to those of the next.
    pub(super) step: usize,
    /// Rows and columns of results.
    pub(super) size: [usize; 2],
    /// Row-major, with room for a vector after them.
    pub(super) results: &'a mut [f32],
}

impl<F: Fold> WithSimd for Sweep<'_, F> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Sweep { fold, layout, padded, weights, first, step, size: [rows, columns], results } = self;
        let lanes = size_of::<S::f32s>() / size_of::<f32>();
        let across = columns.div_ceil(lanes);
        let (mut row, mut vector) = (0, 0);
        while row < rows {
            // What is written beyond the end of a row is replaced by the next one. The last places may be one and the same.
            let mut places = [(0, 0); TOGETHER];
            let mut last = (0, 0);
            for place in &mut places {
                if row < rows {
                    last = (row * step + vector * lanes, row * columns + vector * lanes);
                    vector += 1;
                    if vector == across {
                        (row, vector) = (row + 1, 0);
                    }
                }
                *place = last;
            }
            let mut folded = [simd.splat_f32s(first); TOGETHER];
            for (&offset, &weight) in layout.offsets.iter().zip(weights) {
                let (padded, weight) = (&padded[offset..], simd.splat_f32s(weight));
                for (folded, &(from, _)) in folded.iter_mut().zip(&places) {
                    let (x, _) = S::as_simd_f32s(&padded[from..from + lanes]);
                    *folded = fold.step(simd, *folded, x[0], weight);
                }
            }
            for (&folded, &(_, to)) in folded.iter().zip(&places) {
                let (to, _) = S::as_mut_simd_f32s(&mut results[to..to + lanes]);
                to[0] = folded;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three by three taps so far apart, with as many zeros around a plane of 5 by 5.
    fn windows(dilation: usize) -> WindowShape {
        WindowShape {
            input: [1, 5, 5],
            output: [1, 5, 5],
            kernel: [1, 3, 3],
            strides: [1; 3],
            dilations: [1, dilation, dilation],
            before: [0, dilation, dilation],
        }
    }

    #[test]
    fn padded_rows_are_bounded() {
        let layout = Layout::new(&windows(2)).expect("this is small");
        assert!(layout.rows * layout.row() <= MOST_PADDED);
        for dilation in [1 << 11, 1 << 21, 1 << 40, usize::MAX] {
            assert!(Layout::new(&windows(dilation)).is_none(), "{dilation}");
        }
    }
}
