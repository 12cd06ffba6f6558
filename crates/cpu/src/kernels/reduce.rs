//! Sums, means and extremes over neighbouring axes, or the first and the last ones, accumulated in fp64.

use anemone_mil::ops::{
    OpDef, OpError, Operand, Operands, ReduceMax, ReduceMean, ReduceMin, ReduceSum, ReduceSumSquare,
    Reduction, Row,
};
use anemone_mil::types::DType;
use half::f16;
use pulp::{Simd, WithSimd};

use super::elementwise::{LEAST_RUN, STRIP};
use super::{Around, Choice, Elements, Kernel, Only, Surrounded};
use crate::element::{Float, is_float};
use crate::memory::Sources;
use crate::threads::Threads;

/// Neighbouring results that a thread computes together, at most.
const COLUMNS: usize = STRIP;
/// Partial results of a run of memory.
const LANES: usize = 16;

/// The kernel for a reduction of floating-point values over neighbouring axes, or the first and the last ones.
pub(super) fn reduction(row: &OpDef, operands: &Operands<'_>) -> Result<Option<Choice>, OpError> {
    /// Binds a row and takes `x` and the axes from it.
    macro_rules! of {
        ($row:ty) => {{
            let row = <$row>::bind(operands, row.since)?;
            let axes = Reduction::axes(&row)?;
            (row.x, axes)
        }};
    }
    let (x, axes) = match row.name {
        "reduce_sum" => of!(ReduceSum),
        "reduce_mean" => of!(ReduceMean),
        "reduce_max" => of!(ReduceMax),
        "reduce_min" => of!(ReduceMin),
        "reduce_sum_square" => of!(ReduceSumSquare),
        _ => return Ok(None),
    };
    let Some(shape) = Reduced::new(&x, &axes) else { return Ok(None) };
    let count = (shape.parts * shape.axis) as f64;
    let add = |sum: f64, x: f64| sum + x;
    Ok(match row.name {
        "reduce_sum" => reduce(x, shape, 0.0, add, add, |sum| sum),
        "reduce_mean" => reduce(x, shape, 0.0, add, add, move |sum| sum / count),
        "reduce_sum_square" => reduce(x, shape, 0.0, |sum, x| sum + x * x, add, |sum| sum),
        // Nothing has no extreme: the op's meaning says so.
        _ if shape.parts * shape.axis == 0 => None,
        "reduce_max" => reduce(x, shape, f64::NEG_INFINITY, larger, larger, |x| x),
        _ => reduce(x, shape, f64::INFINITY, smaller, smaller, |x| x),
    })
}

#[inline(always)]
fn larger(x: f64, y: f64) -> f64 {
    if x > y || x.is_nan() { x } else { y }
}

#[inline(always)]
fn smaller(x: f64, y: f64) -> f64 {
    if x < y || x.is_nan() { x } else { y }
}

/// An operand as `[outer, axis, inner]`, to be reduced over `axis`, or as `[parts, outer, axis]`, over both of the others.
#[derive(Debug, Clone, Copy)]
struct Reduced {
    parts: usize,
    /// Elements of a part.
    part: usize,
    axis: usize,
    inner: usize,
}

impl Reduced {
    /// `None` where the reduced axes are others, or `x` is not of floating point.
    fn new(x: &Operand, axes: &[usize]) -> Option<Reduced> {
        let dims = x.shape().to_known().filter(|_| is_float(x.dtype()))?;
        let long: Vec<(usize, bool)> = (0..dims.len())
            .map(|i| (dims[i], axes.contains(&i)))
            .filter(|&(length, _)| length != 1)
            .collect();
        let runs: Vec<&[(usize, bool)]> = long.chunk_by(|a, b| a.1 == b.1).collect();
        let product = |run: usize| runs[run].iter().map(|&(length, _)| length).product::<usize>();
        let reduced: Vec<usize> = (0..runs.len()).filter(|&run| runs[run][0].1).collect();
        Some(match (reduced.as_slice(), runs.len()) {
            ([], _) => Reduced { parts: 1, part: 0, axis: 1, inner: 1 },
            ([axis], count) => {
                let inner = if axis + 1 < count { product(axis + 1) } else { 1 };
                Reduced { parts: 1, part: 0, axis: product(*axis), inner }
            }
            ([0, 2], 3) => {
                let part = product(1).checked_mul(product(2))?;
                Reduced { parts: product(0), part, axis: product(2), inner: 1 }
            }
            _ => return None,
        })
    }
}

fn reduce(
    x: Operand,
    shape: Reduced,
    first: f64,
    step: impl Fn(f64, f64) -> f64 + Copy + Send + Sync + 'static,
    merge: impl Fn(f64, f64) -> f64 + Copy + Send + Sync + 'static,
    finish: impl Fn(f64) -> f64 + Copy + Send + Sync + 'static,
) -> Option<Choice> {
    Some(Choice::kernel(Reduce { dtype: x.dtype(), shape, first, step, merge, finish }, vec![x]))
}

struct Reduce<S, M, F> {
    dtype: DType,
    shape: Reduced,
    /// The result of nothing.
    first: f64,
    /// A result and one more element.
    step: S,
    /// Two results of different elements.
    merge: M,
    /// From the result of all elements to the op's.
    finish: F,
}

/// Steps each result with the value at its position.
struct Accumulate<'a, S> {
    results: &'a mut [f64],
    /// As many as there are results, or several times as many.
    values: &'a [f32],
    step: S,
}

impl<S: Fn(f64, f64) -> f64> WithSimd for Accumulate<'_, S> {
    type Output = ();

    #[inline(always)]
    fn with_simd<V: Simd>(self, _: V) {
        for values in self.values.chunks(self.results.len()) {
            for (result, value) in self.results.iter_mut().zip(values) {
                *result = (self.step)(*result, f64::from(*value));
            }
        }
    }
}

impl<S, M, F> Reduce<S, M, F>
where
    S: Fn(f64, f64) -> f64 + Copy + Send + Sync,
    M: Fn(f64, f64) -> f64 + Copy + Send + Sync,
    F: Fn(f64) -> f64 + Copy + Send + Sync,
{
    fn compute<T: Float>(
        &self,
        x: Only<'_, T>,
        result: &mut [T],
        threads: &Threads,
        epilogue: Option<Elements<'_>>,
    ) {
        let Reduced { parts, axis, inner, .. } = self.shape;
        if inner == 1 {
            return threads.each_chunk(result, 1, parts * axis, |index, result| {
                result[0] = self.runs_of_memory(x, index * axis, threads);
            });
        }
        // Two threads have a part in few results, too.
        let columns = if result.len() < 2 * COLUMNS { COLUMNS / 2 } else { COLUMNS };
        threads.each_chunk(result, columns, axis, |index, result| {
            let mut done = 0;
            while done < result.len() {
                let position = index * columns + done;
                let (outer, column) = (position / inner, position % inner);
                let width = (inner - column).min(result.len() - done);
                let result = &mut result[done..done + width];
                self.columns(x, outer * axis * inner + column, result, threads);
                if let Some(epilogue) = epilogue {
                    let mut values = [0.0; COLUMNS];
                    let values = &mut values[..width];
                    T::widen(result, values);
                    epilogue(position, values);
                    T::round(values, result);
                }
                done += width;
            }
        });
    }

    /// What is reduced from a position on, and from the same position of the other parts.
    fn runs_of_memory<T: Float>(&self, x: Only<'_, T>, first: usize, threads: &Threads) -> T {
        let (mut results, mut buffer) = ([self.first; LANES], [0.0; STRIP]);
        let Reduced { parts, part, axis, .. } = self.shape;
        for first in (0..parts).map(|index| first + index * part) {
            for start in (0..axis).step_by(STRIP) {
                let values = &mut buffer[..STRIP.min(axis - start)];
                x.read(first + start, values);
                threads.arch().dispatch(Accumulate { results: &mut results, values, step: self.step });
            }
        }
        let merged = results.iter().fold(self.first, |merged, &one| (self.merge)(merged, one));
        T::from_f64((self.finish)(merged))
    }

    /// Some neighbouring columns of rows `[axis, inner]`, the first of which begins at a position.
    fn columns<T: Float>(&self, x: Only<'_, T>, first: usize, result: &mut [T], threads: &Threads) {
        let (mut results, mut buffer) = ([self.first; COLUMNS], [0.0; COLUMNS]);
        let (results, values) = (&mut results[..result.len()], &mut buffer[..result.len()]);
        for row in 0..self.shape.axis {
            x.read(first + row * self.shape.inner, values);
            threads.arch().dispatch(Accumulate { results, values, step: self.step });
        }
        for (to, &value) in result.iter_mut().zip(&*results) {
            *to = T::from_f64((self.finish)(value));
        }
    }
}

impl<S, M, F> Kernel for Reduce<S, M, F>
where
    S: Fn(f64, f64) -> f64 + Copy + Send + Sync,
    M: Fn(f64, f64) -> f64 + Copy + Send + Sync,
    F: Fn(f64) -> f64 + Copy + Send + Sync,
{
    fn run(&self, operands: Sources<'_>, result: &mut [u8], scratch: &mut [f64], threads: &Threads) {
        self.run_within(operands, result, scratch, threads, Around::default());
    }

    fn surrounded(&self) -> Option<&dyn Surrounded> {
        (self.shape.inner >= LEAST_RUN).then_some(self)
    }
}

impl<S, M, F> Surrounded for Reduce<S, M, F>
where
    S: Fn(f64, f64) -> f64 + Copy + Send + Sync,
    M: Fn(f64, f64) -> f64 + Copy + Send + Sync,
    F: Fn(f64) -> f64 + Copy + Send + Sync,
{
    fn takes_prologue(&self, _: usize) -> bool {
        true
    }

    fn run_within(
        &self,
        operands: Sources<'_>,
        result: &mut [u8],
        _: &mut [f64],
        threads: &Threads,
        Around { prologue, epilogue }: Around<'_>,
    ) {
        match self.dtype {
            DType::Fp16 => {
                let x = Only::<f16>::new(operands, prologue);
                self.compute(x, bytemuck::cast_slice_mut(result), threads, epilogue);
            }
            _ => {
                let x = Only::<f32>::new(operands, prologue);
                self.compute(x, bytemuck::cast_slice_mut(result), threads, epilogue);
            }
        }
    }
}
