//! Windows over the planes of channels, each of which becomes a plane of its own: depth-wise convolutions and pooling over
//! one or two dimensions.
//!
//! A thread copies some rows of a plane, in fp32 and with the padding, to working memory, there in as many phases as the
//! windows' stride, so that what a tap of neighbouring windows meets are neighbours; and goes through the taps with a few
//! vectors of results in registers.

use half::f16;
use pulp::{Simd, WithSimd};

use anemone_mil::types::DType;

use super::{Around, Elements, Kernel, Surrounded};
use crate::element::Float;
use crate::gemm::{WindowShape, dispatch, line, multiply_add};
use crate::memory::{Floats, Sources};
use crate::threads::Threads;

/// Vectors of results that are computed together.
const TOGETHER: usize = 8;
/// The lanes of the longest vectors: what is read and written beyond the end of a row, at most.
const LANES: usize = 16;
/// Results of a plane that are computed at once, at least where there are as many.
const BAND: usize = 1 << 14;
/// Results, of one plane or several, that a thread takes at a time, at least.
const LEAST_RESULTS: usize = 1 << 12;

/// Values of a thread's padded rows, at most: dilation and padding may ask for any number.
const MOST_PADDED: usize = 1 << 22;

/// How a window's elements become one number.
pub(super) trait Fold: Copy + Send + Sync {
    /// The number of nothing, and what padding holds.
    const NOTHING: f32;
    /// With one more element, and the weight of its tap.
    fn step<S: Simd>(self, simd: S, result: S::f32s, x: S::f32s, weight: S::f32s) -> S::f32s;
}

/// `Σ x·weight`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Products;

impl Fold for Products {
    const NOTHING: f32 = 0.0;

    #[inline(always)]
    fn step<S: Simd>(self, simd: S, result: S::f32s, x: S::f32s, weight: S::f32s) -> S::f32s {
        multiply_add(simd, x, weight, result)
    }
}

/// `Σ x`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Total;

impl Fold for Total {
    const NOTHING: f32 = 0.0;

    #[inline(always)]
    fn step<S: Simd>(self, simd: S, result: S::f32s, x: S::f32s, _: S::f32s) -> S::f32s {
        simd.add_f32s(result, x)
    }
}

/// The largest; NaN if any is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Largest;

impl Fold for Largest {
    const NOTHING: f32 = f32::NEG_INFINITY;

    #[inline(always)]
    fn step<S: Simd>(self, simd: S, result: S::f32s, x: S::f32s, _: S::f32s) -> S::f32s {
        let number = simd.equal_f32s(x, x);
        let smaller = simd.less_than_or_equal_f32s(x, result);
        // What is not smaller is larger, or there is a NaN, which stays.
        let is_result = simd.equal_f32s(result, result);
        let kept = simd.select_f32s(is_result, simd.select_f32s(smaller, result, x), result);
        simd.select_f32s(number, kept, x)
    }
}

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

/// How rows of a plane lie in working memory.
#[derive(Debug, Clone)]
struct Layout {
    /// For each phase, the place of its first element among the columns of a padded row.
    phases: Vec<usize>,
    /// Elements of a phase.
    phase: usize,
    /// For each tap, its distance from the first.
    offsets: Vec<usize>,
    /// Rows of results that are computed at once.
    band: usize,
    /// Rows of the operand that these need.
    rows: usize,
}

impl Layout {
    /// `None` where it would be too large.
    fn new(shape: &WindowShape) -> Option<Layout> {
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
    fn row(&self) -> usize {
        self.phases.len() * self.phase
    }
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

/// Rounds results.
struct Round<'a, T> {
    results: &'a [f32],
    to: &'a mut [T],
}

impl<T: Float> WithSimd for Round<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        T::round(self.results, self.to);
    }
}

/// Copies rows of a plane to working memory.
struct Pad<'a, T> {
    layout: &'a Layout,
    shape: &'a WindowShape,
    x: &'a [T],
    /// The first row, padding counted.
    first: usize,
    /// What padding holds.
    nothing: f32,
    padded: &'a mut [f32],
    /// Room for a row.
    row: &'a mut [f32],
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
struct Sweep<'a, F> {
    fold: F,
    layout: &'a Layout,
    padded: &'a [f32],
    /// The taps' weights.
    weights: &'a [f32],
    /// Where each result begins.
    first: f32,
    /// From the elements of a row of windows to those of the next.
    step: usize,
    /// Rows and columns of results.
    size: [usize; 2],
    /// Row-major, with room for a vector after them.
    results: &'a mut [f32],
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

impl<F: Fold> Kernel for Planes<F> {
    fn scratch(&self) -> usize {
        self.parts().iter().sum::<usize>().saturating_mul(self.threads).div_ceil(2)
    }

    fn run(&self, operands: Sources<'_>, result: &mut [u8], scratch: &mut [f64], threads: &Threads) {
        self.run_within(operands, result, scratch, threads, Around::default());
    }

    fn surrounded(&self) -> Option<&dyn Surrounded> {
        Some(self)
    }
}

impl<F: Fold> Surrounded for Planes<F> {
    fn run_within(
        &self,
        operands: Sources<'_>,
        result: &mut [u8],
        scratch: &mut [f64],
        threads: &Threads,
        around: Around<'_>,
    ) {
        let scratch: &mut [f32] = bytemuck::cast_slice_mut(scratch);
        let epilogue = around.epilogue;
        match self.dtype {
            DType::Fp16 => {
                let result = bytemuck::cast_slice_mut(result);
                self.compute::<f16>(operands, result, scratch, threads, epilogue);
            }
            _ => {
                let result = bytemuck::cast_slice_mut(result);
                self.compute::<f32>(operands, result, scratch, threads, epilogue);
            }
        }
    }
}
