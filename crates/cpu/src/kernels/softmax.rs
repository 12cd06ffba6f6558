//! Softmax along any axis.
//!
//! The operand is `[outer, axis, inner]`. Where `inner` is 1, each row of the axis is a run of memory.
//! Otherwise rows are `inner` neighbours, and the axis is cut into groups of rows: each group finds the
//! largest value and the sum of exponentials of every column in one pass, in which sums shrink where a larger value
//! comes up; the groups' findings are merged in order, and a second pass writes the results. Memory is read in order,
//! and sums do not depend on threads.

use anemone_mil::ops::{OpDef, OpError, Operands, Row, Softmax};
use anemone_mil::types::DType;
use half::f16;
use pulp::{Arch, Simd, WithSimd};

use super::elementwise::LEAST_RUN;
use super::{Around, Choice, Elements, Kernel, Only, Surrounded};
use crate::element::{Float, differ, is_float, larger};
use crate::functions::{decay, exp_difference, rough_decay};
use crate::memory::Sources;
use crate::threads::Threads;

/// Groups at most: as many as threads may share, and few enough for merging to be nothing.
const MOST_GROUPS: usize = 64;
/// Rows of a group at least.
const LEAST_GROUP: usize = 64;
/// Rows that are read at once; for fp16, as many terms are added in fp32 before they join a sum in fp64.
const TERMS: usize = 8;
/// Rows of results that a thread takes at a time.
const FINISHED: usize = 16;
/// Columns of which so many rows, in fp32, stay in the first cache.
const STRIP: usize = 256;

pub(super) fn softmax(row: &OpDef, operands: &Operands<'_>) -> Result<Option<Choice>, OpError> {
    let row = Softmax::bind(operands, row.since)?;
    let Some(dims) = row.x.shape().to_known().filter(|_| is_float(row.x.dtype())) else { return Ok(None) };
    let axis = row.position()?;
    if dims.contains(&0) {
        return Ok(None);
    }
    let kernel = SoftmaxKernel {
        dtype: row.x.dtype(),
        outer: dims[..axis].iter().product(),
        axis: dims[axis],
        inner: dims[axis + 1..].iter().product(),
    };
    Ok(Some(Choice::kernel(kernel, vec![row.x])))
}

struct SoftmaxKernel {
    dtype: DType,
    outer: usize,
    axis: usize,
    inner: usize,
}

/// Merges what a group of rows found in one column, the largest value m and Σ exp(x − m), into what earlier
/// groups found.
fn merge(largest: &mut f32, sum: &mut f64, group_largest: f32, group_sum: f64) {
    let both = largest.max(group_largest);
    let scaled = |largest: f32, sum: f64| {
        if largest == both { sum } else { sum * (f64::from(largest) - f64::from(both)).exp() }
    };
    *sum = scaled(*largest, *sum) + scaled(group_largest, group_sum);
    *largest = both;
}

impl SoftmaxKernel {
    /// Rows of a group.
    fn group(&self) -> usize {
        self.axis.div_ceil(MOST_GROUPS).max(LEAST_GROUP)
    }

    fn groups(&self) -> usize {
        self.axis.div_ceil(self.group())
    }

    /// fp64 values that hold a sum and a largest value, the latter in fp32, of every column.
    fn columns(&self) -> usize {
        self.inner.saturating_add(self.inner.div_ceil(2))
    }

    /// The sums and the largest values of [`SoftmaxKernel::columns`].
    fn split<'a>(&self, columns: &'a mut [f64]) -> (&'a mut [f64], &'a mut [f32]) {
        let (sums, largest) = columns.split_at_mut(self.inner);
        (sums, &mut bytemuck::cast_slice_mut(largest)[..self.inner])
    }

    /// Rows that are runs of memory.
    fn rows<T: Float>(&self, x: &[T], result: &mut [T], threads: &Threads) {
        threads.each_chunk(result, self.axis, 16, |index, result| {
            row_softmax(&x[index * self.axis..][..self.axis], result, threads.arch());
        });
    }

    /// Columns.
    fn compute<T: Float>(
        &self,
        x: Only<'_, T>,
        result: &mut [T],
        scratch: &mut [f64],
        threads: &Threads,
        epilogue: Option<Elements<'_>>,
    ) {
        let (found, merged) = scratch.split_at_mut(self.outer * self.groups() * self.columns());
        threads.each_chunk(found, self.columns(), 8 * self.group(), |index, found| {
            let (outer, group) = (index / self.groups(), index % self.groups());
            let first = outer * self.axis + group * self.group();
            let rows = self.group().min(self.axis - group * self.group());
            let (sums, largest) = self.split(found);
            threads.arch().dispatch(Find { x, first: first * self.inner, rows, sums, largest });
        });
        let found = found.chunks_exact_mut(self.groups() * self.columns());
        for (found, merged) in found.zip(merged.chunks_exact_mut(self.columns())) {
            let (sums, largest) = self.split(merged);
            sums.fill(0.0);
            largest.fill(f32::NEG_INFINITY);
            for group in found.chunks_exact_mut(self.columns()) {
                let (group_sums, group_largest) = self.split(group);
                for i in 0..self.inner {
                    merge(&mut largest[i], &mut sums[i], group_largest[i], group_sums[i]);
                }
            }
            // In fp32 from here on, in the same place.
            for i in 0..self.inner {
                let sum = sums[i] as f32;
                bytemuck::cast_slice_mut(sums)[i] = if T::HALF { 1.0 / sum } else { sum };
            }
        }
        let merged = &*merged;
        threads.each_chunk(result, FINISHED * self.inner, 8, |index, result| {
            let first = index * FINISHED;
            let mut done = 0;
            while done * self.inner < result.len() {
                let (outer, row) = ((first + done) / self.axis, (first + done) % self.axis);
                let rows = (self.axis - row).min(result.len() / self.inner - done);
                let part = done * self.inner..(done + rows) * self.inner;
                let position = (first + done) * self.inner;
                let (sums, largest) = merged[outer * self.columns()..].split_at(self.inner);
                let (sums, largest) = (bytemuck::cast_slice(sums), bytemuck::cast_slice(largest));
                let (sums, largest) = (&sums[..self.inner], &largest[..self.inner]);
                let result = &mut result[part];
                threads.arch().dispatch(Finish { x, position, sums, largest, result, epilogue });
                done += rows;
            }
        });
    }
}

/// e^(x − y) for x ≤ y, as good as results of this type are.
#[inline(always)]
pub(super) fn exponential<T: Float, S: Simd>(x: f32, y: f32) -> f32 {
    if T::HALF { rough_decay::<S>(x - y) } else { exp_difference::<S>(x, y) }
}

/// e^(x − y) for x ≤ y, as good as sums of this type are to which 1 belongs: what is far from 0 in them is small.
#[inline(always)]
fn term<T: Float, S: Simd>(x: f32, y: f32) -> f32 {
    if T::HALF { rough_decay::<S>(x - y) } else { decay::<S>(x - y) }
}

/// The columns that are computed with for so many: those past the last one, which are never kept, spare loops their
/// remainders.
fn lanes(width: usize) -> usize {
    width.next_multiple_of(LANES)
}

/// What some rows find in every column.
struct Find<'a, T> {
    x: Only<'a, T>,
    /// Where the first of the rows begins.
    first: usize,
    rows: usize,
    sums: &'a mut [f64],
    largest: &'a mut [f32],
}

impl<T: Float> WithSimd for Find<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Find { x, first, rows, sums, largest } = self;
        let inner = sums.len();
        let strips = sums.chunks_mut(STRIP).zip(largest.chunks_mut(STRIP)).enumerate();
        for (strip, (sums, largest)) in strips {
            let start = strip * STRIP;
            let width = largest.len();
            let (mut wide, mut top, mut all) =
                ([[0.0; STRIP]; TERMS], [f32::NEG_INFINITY; STRIP], [0.0; STRIP]);
            let (top, all) = (&mut top[..lanes(width)], &mut all[..lanes(width)]);
            for done in (0..rows).step_by(TERMS) {
                let count = TERMS.min(rows - done);
                let mut before = [0.0; STRIP];
                let before = &mut before[..top.len()];
                before.copy_from_slice(top);
                for (i, wide) in wide[..count].iter_mut().enumerate() {
                    x.read(first + (done + i) * inner + start, &mut wide[..width]);
                    top.iter_mut().zip(&*wide).for_each(|(top, &x)| *top = if x > *top { x } else { *top });
                }
                if differ(top, before) {
                    for ((sum, &before), &top) in all.iter_mut().zip(&*before).zip(&*top) {
                        let factor = if before == top { 1.0 } else { decay::<S>(before - top) };
                        *sum *= f64::from(factor);
                    }
                }
                // Of −∞ alone the terms are next to 0, not those of −∞ − (−∞).
                for (base, &top) in before.iter_mut().zip(&*top) {
                    *base = if top == f32::NEG_INFINITY { 0.0 } else { top };
                }
                for wide in wide[..count].chunks(if T::HALF { TERMS } else { 2 }) {
                    let mut some = [0.0; STRIP];
                    for wide in wide {
                        for ((sum, &x), &base) in some.iter_mut().zip(wide).zip(&*before) {
                            *sum += term::<T, S>(x, base);
                        }
                    }
                    all.iter_mut().zip(&some).for_each(|(sum, &some)| *sum += f64::from(some));
                }
            }
            sums.copy_from_slice(&all[..width]);
            largest.copy_from_slice(&top[..width]);
        }
    }
}

/// Writes exp(x − m) / Σ of some rows.
struct Finish<'a, T> {
    x: Only<'a, T>,
    /// Where the first of the rows begins.
    position: usize,
    /// Each column's Σ; for fp16, 1 / Σ.
    sums: &'a [f32],
    largest: &'a [f32],
    result: &'a mut [T],
    /// What goes on with the results.
    epilogue: Option<Elements<'a>>,
}

impl<T: Float> WithSimd for Finish<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let inner = self.sums.len();
        let (mut wide, mut sums, mut largest) = ([0.0; STRIP], [1.0; STRIP], [0.0; STRIP]);
        for start in (0..inner).step_by(STRIP) {
            let width = STRIP.min(inner - start);
            sums[..width].copy_from_slice(&self.sums[start..start + width]);
            largest[..width].copy_from_slice(&self.largest[start..start + width]);
            for (row, result) in self.result.chunks_exact_mut(inner).enumerate() {
                let position = self.position + row * inner + start;
                self.x.read(position, &mut wide[..width]);
                let columns = sums[..lanes(width)].iter().zip(&largest);
                for (x, (&sum, &largest)) in wide.iter_mut().zip(columns) {
                    let exponential = exponential::<T, S>(*x, largest);
                    *x = if T::HALF { exponential * sum } else { exponential / sum };
                }
                if let Some(epilogue) = self.epilogue {
                    epilogue(position, &mut wide[..width]);
                }
                T::round(&wide[..width], &mut result[start..start + width]);
            }
        }
    }
}

/// Partial sums of a row, so that its additions do not wait for each other.
const LANES: usize = 16;

/// The largest value of a run of memory.
struct Largest<'a, T>(&'a [T]);

impl<T: Float> WithSimd for Largest<'_, T> {
    type Output = f32;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> f32 {
        let mut lanes = [f32::NEG_INFINITY; LANES];
        for values in self.0.chunks(LANES) {
            lanes.iter_mut().zip(values).for_each(|(largest, x)| *largest = larger(*largest, x.wide()));
        }
        lanes.into_iter().fold(f32::NEG_INFINITY, larger)
    }
}

/// Σ exp(x − m) over a run of memory.
struct Sum<'a, T> {
    x: &'a [T],
    largest: f32,
}

impl<T: Float> WithSimd for Sum<'_, T> {
    type Output = f64;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> f64 {
        let mut lanes = [0.0; LANES];
        for values in self.x.chunks(LANES) {
            for (sum, x) in lanes.iter_mut().zip(values) {
                *sum += f64::from(term::<T, S>(x.wide(), self.largest));
            }
        }
        lanes.into_iter().sum()
    }
}

/// Writes exp(x − m) / Σ of a run of memory.
struct Divide<'a, T> {
    x: &'a [T],
    largest: f32,
    sum: f32,
    result: &'a mut [T],
}

impl<T: Float> WithSimd for Divide<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        for (result, x) in self.result.iter_mut().zip(self.x) {
            *result = T::narrow(exponential::<T, S>(x.wide(), self.largest) / self.sum);
        }
    }
}

/// Softmax of neighbours in memory.
fn row_softmax<T: Float>(x: &[T], result: &mut [T], arch: Arch) {
    let largest = arch.dispatch(Largest(x));
    let sum = arch.dispatch(Sum { x, largest }) as f32;
    arch.dispatch(Divide { x, largest, sum, result });
}

impl Kernel for SoftmaxKernel {
    fn scratch(&self) -> usize {
        if self.inner == 1 {
            return 0;
        }
        self.outer.saturating_mul(self.groups() + 1).saturating_mul(self.columns())
    }

    fn run(&self, operands: Sources<'_>, result: &mut [u8], scratch: &mut [f64], threads: &Threads) {
        self.run_within(operands, result, scratch, threads, Around::default());
    }

    fn surrounded(&self) -> Option<&dyn Surrounded> {
        (self.inner >= LEAST_RUN).then_some(self)
    }
}

impl Surrounded for SoftmaxKernel {
    fn takes_prologue(&self, work: usize) -> bool {
        // It is computed twice.
        work <= 4
    }

    fn run_within(
        &self,
        operands: Sources<'_>,
        result: &mut [u8],
        scratch: &mut [f64],
        threads: &Threads,
        Around { prologue, epilogue }: Around<'_>,
    ) {
        let scratch = &mut scratch[..self.scratch()];
        match (self.dtype, self.inner) {
            (DType::Fp16, 1) => {
                self.rows::<f16>(operands.values(0), bytemuck::cast_slice_mut(result), threads);
            }
            (_, 1) => self.rows::<f32>(operands.values(0), bytemuck::cast_slice_mut(result), threads),
            (DType::Fp16, _) => {
                let x = Only::<f16>::new(operands, prologue);
                self.compute(x, bytemuck::cast_slice_mut(result), scratch, threads, epilogue);
            }
            _ => {
                let x = Only::<f32>::new(operands, prologue);
                self.compute(x, bytemuck::cast_slice_mut(result), scratch, threads, epilogue);
            }
        }
    }
}
