//! Windows over the planes of channels, each of which becomes a plane of its own: depth-wise convolutions and pooling over
//! one or two dimensions.
//!
//! A thread copies some rows of a plane, in fp32 and with the padding, to working memory, there in as many phases as the
//! windows' stride, so that what a tap of neighbouring windows meets are neighbours; and goes through the taps with a few
//! vectors of results in registers.

use anemone_mil::types::DType;
use half::f16;

use super::Elements;
use super::finished::Finished;
use crate::element::{Float, Round};
use crate::gemm::{WindowShape, dispatch, line};
use crate::memory::{Floats, Sources};
use crate::threads::Threads;
pub(super) use fold::{Fold, Largest, Products, Total};
use rows::{LANES, Layout, Pad, Sweep};

mod fold;
mod rows;

/// Results, of one plane or several, that a thread takes at a time, at least.
const LEAST_RESULTS: usize = 1 << 12;

/// What follows the numbers of windows.
#[derive(Debug, Clone)]
pub(super) enum Finish {
    /// Nothing.
    None,
    /// Each is divided by the product of the numbers for its row and its column.
    Divide {
        /// For each row of results.
        rows: Vec<f32>,
        /// For each column.
        columns: Vec<f32>,
    },
}

/// Windows over planes.
#[derive(Debug)]
pub(super) struct Planes<F> {
    fold: F,
    shape: WindowShape,
    dtype: DType,
    /// Planes of results for each plane of the operand.
    multiplier: usize,
    /// Whether each plane of results has weights, and begins at a number of its own.
    weights: Option<DType>,
    bias: Option<DType>,
    /// Planes that weights repeat after.
    channels: usize,
    finish: Finish,
    layout: Layout,
    /// Threads that take planes.
    threads: usize,
}

impl<F: Fold> Planes<F> {
    /// Windows over planes of one or two dimensions, of the type `dtype`; `None` where what they meet would be too large.
    pub(super) fn new(
        fold: F,
        (shape, dtype): (WindowShape, DType),
        finish: Finish,
        threads: &Threads,
    ) -> Option<Planes<F>> {
        let layout = Layout::new(&shape)?;
        let threads = threads.count();
        let (multiplier, channels, weights, bias) = (1, 1, None, None);
        Some(Planes { fold, shape, dtype, multiplier, weights, bias, channels, finish, layout, threads })
    }

    /// The same with the second operand, the third if there is one, in these types, as weights and bias of the channels of
    /// the result, of which there are so many, and so many for each channel of the first.
    pub(super) fn weighted(
        self,
        weights: DType,
        bias: Option<DType>,
        (channels, multiplier): (usize, usize),
    ) -> Planes<F> {
        Planes { weights: Some(weights), bias, channels, multiplier, ..self }
    }

    /// Results of a plane.
    fn plane(&self) -> usize {
        self.shape.output[1] * self.shape.output[2]
    }

    /// Planes that a thread takes at a time.
    fn planes(&self) -> usize {
        LEAST_RESULTS.div_ceil(self.plane().max(1))
    }

    /// Values of working memory of each thread: rows of a plane, one row of it, results, and weights.
    fn parts(&self) -> [usize; 4] {
        let results = self.planes().saturating_mul(self.plane()).saturating_add(LANES);
        let rows = self.layout.rows * self.layout.row();
        [rows, self.shape.input[2], results, self.layout.offsets.len()].map(line)
    }

    /// Computes the results of one plane.
    fn one_plane<T: Float>(
        &self,
        x: &[T],
        (weights, first): (&[f32], f32),
        (padded, one): (&mut [f32], &mut [f32]),
        results: &mut [f32],
        threads: &Threads,
    ) {
        let [_, rows, columns] = self.shape.output;
        for begin in (0..rows).step_by(self.layout.band) {
            let band = self.layout.band.min(rows - begin);
            threads.arch().dispatch(Pad {
                layout: &self.layout,
                shape: &self.shape,
                x,
                first: begin * self.shape.strides[1],
                nothing: F::NOTHING,
                padded: &mut *padded,
                row: &mut one[..self.shape.input[2]],
            });
            let sweep = Sweep {
                fold: self.fold,
                layout: &self.layout,
                padded,
                weights,
                first,
                step: self.shape.strides[1] * self.layout.row(),
                size: [band, columns],
                results: &mut results[begin * columns..][..band * columns + LANES],
            };
            dispatch(threads.arch(), sweep);
        }
        if let Finish::Divide { rows, columns } = &self.finish {
            for (results, row) in results.chunks_mut(columns.len().max(1)).zip(rows) {
                results.iter_mut().zip(columns).for_each(|(result, column)| *result /= row * column);
            }
        }
    }
}

/// Widens as many values as there is room for.
pub(super) fn widen(values: Floats<'_>, to: &mut [f32]) {
    match values {
        Floats::F16(values) => f16::widen(&values[..to.len()], to),
        Floats::F32(values) => f32::widen(&values[..to.len()], to),
    }
}

impl<F: Fold> Finished for Planes<F> {
    fn dtype(&self) -> DType {
        self.dtype
    }

    fn values(&self) -> usize {
        self.parts().iter().sum::<usize>().saturating_mul(self.threads)
    }

    fn compute<T: Float>(
        &self,
        operands: Sources<'_>,
        result: &mut [T],
        scratch: &mut [f32],
        threads: &Threads,
        epilogue: Option<Elements<'_>>,
    ) {
        let x = usize::from(self.weights.is_some());
        let x: &[T] = operands.values(x);
        let weights = self.weights.map(|dtype| operands.floats(0, dtype));
        let bias = self.bias.map(|dtype| operands.floats(2, dtype));
        let input = self.shape.input[1] * self.shape.input[2];
        let [rows, row, results, taps] = self.parts();
        let scratch = &mut scratch[..self.threads * (rows + row + results + taps)];
        let (plane, planes) = (self.plane(), self.planes());
        let items = result.chunks_mut((planes * plane).max(1)).enumerate();
        threads.drain(items, scratch, |(item, result), scratch| {
            let (padded, scratch) = scratch.split_at_mut(rows);
            let (one, scratch) = scratch.split_at_mut(row);
            let (results, taps) = scratch.split_at_mut(results);
            for index in 0..result.len() / plane {
                let number = item * planes + index;
                let x = &x[number / self.multiplier * input..][..input];
                let channel = number % self.channels;
                let taps = &mut taps[..self.layout.offsets.len()];
                if let Some(weights) = weights {
                    widen(weights.from(channel * taps.len()), taps);
                }
                let first = bias.map_or(F::NOTHING, |bias| bias.get(channel));
                let results = &mut results[index * plane..][..plane + LANES];
                self.one_plane(x, (taps, first), (padded, one), results, threads);
            }
            let results = &mut results[..result.len()];
            if let Some(epilogue) = epilogue {
                epilogue(item * planes * plane, results);
            }
            threads.arch().dispatch(Round { results, to: result });
        });
    }
}
