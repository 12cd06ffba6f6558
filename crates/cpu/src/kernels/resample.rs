//! Ops that resize planes: each element of the result is made of two rows of the operand, and of two of what these are
//! together.

use std::ops::Range;

use anemone_mil::ops::{
    OpDef, OpError, Operands, Resampled, Resize, ResizeBilinear, ResizeNearestNeighbor, Row, Taps,
    UpsampleBilinear, UpsampleNearestNeighbor,
};
use anemone_mil::types::{DType, Dim, TensorType};
use pulp::{Simd, WithSimd};

use super::convolution::dimension;
use super::finished::Finished;
use super::{Choice, Elements, is_decided};
use crate::element::{Float, Round, is_float};
use crate::gemm::line;
use crate::memory::Sources;
use crate::threads::Threads;

/// The longest row or column of a result: what each element of it is made of is kept in memory.
const MOST_ALONG: usize = 1 << 21;
/// Results that a thread takes at a time, at least.
const LEAST_RESULTS: usize = 1 << 12;

pub(super) fn resampling(
    row: &OpDef,
    operands: &Operands<'_>,
    results: &[TensorType],
    threads: &Threads,
) -> Result<Option<Choice>, OpError> {
    let is_short = |dim: &Dim| dimension(dim).is_some_and(|length| length <= MOST_ALONG);
    if !is_decided(row, operands, results)?
        || !results.iter().all(|result| result.shape.0.iter().rev().take(2).all(is_short))
    {
        return Ok(None);
    }
    let since = row.since;
    match row.name {
        "upsample_nearest_neighbor" => {
            Ok(choice(&UpsampleNearestNeighbor::bind(operands, since)?.resampled()?, threads))
        }
        "upsample_bilinear" => Ok(choice(&UpsampleBilinear::bind(operands, since)?.resampled()?, threads)),
        "resize_nearest_neighbor" => {
            Ok(choice(&ResizeNearestNeighbor::bind(operands, since)?.resampled()?, threads))
        }
        "resize_bilinear" => Ok(choice(&ResizeBilinear::bind(operands, since)?.resampled()?, threads)),
        _ => {
            let row = Resize::bind(operands, since)?;
            if row.dimensions()? > 2 {
                return Ok(None);
            }
            Ok(choice(&row.resampled()?, threads))
        }
    }
}

/// The kernel, where no more than the last two dimensions are resized, of floating-point numbers.
fn choice(resampled: &Resampled<'_>, threads: &Threads) -> Option<Choice> {
    let dtype = Some(resampled.x.dtype()).filter(|&dtype| is_float(dtype))?;
    let from = resampled.x.shape().to_known()?;
    let rank = from.len();
    let first = rank.checked_sub(2)?;
    if resampled.along.iter().any(|(axis, _)| *axis < first) {
        return None;
    }
    let along = |axis: usize| {
        let given = resampled.along.iter().find(|(other, _)| *other == axis);
        given.map_or_else(
            || (0..from[axis]).map(itself).collect(),
            |(_, taps)| taps.iter().map(parts).collect(),
        )
    };
    let kernel = Resampling {
        rows: along(first),
        columns: along(rank - 1),
        input: [from[first], from[rank - 1]],
        dtype,
        threads: threads.count(),
    };
    Some(Choice::finished(kernel, vec![resampled.x.clone()]))
}

/// Two places and their weights. What has no weight is read as what has some, so that it has no part.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Parts {
    at: [usize; 2],
    weights: [f32; 2],
}

fn itself(at: usize) -> Parts {
    Parts { at: [at; 2], weights: [1.0, 0.0] }
}

fn parts(taps: &Taps) -> Parts {
    match *taps {
        [(at, _), (_, 0.0)] => itself(at),
        [(first, first_weight), (second, second_weight)] => {
            Parts { at: [first, second], weights: [first_weight as f32, second_weight as f32] }
        }
    }
}

impl Parts {
    fn is_one(self) -> bool {
        self.weights[1] == 0.0
    }
}

/// Planes of another size.
#[derive(Debug)]
struct Resampling {
    /// What each row, and each column, is made of.
    rows: Vec<Parts>,
    columns: Vec<Parts>,
    /// Rows and columns of a plane of the operand.
    input: [usize; 2],
    dtype: DType,
    threads: usize,
}

impl Resampling {
    /// Rows of the result that a thread takes at a time.
    fn band(&self) -> usize {
        LEAST_RESULTS.div_ceil(self.columns.len().max(1))
    }

    /// Values of working memory of each thread: two rows of the operand, what they are together, and results.
    fn parts(&self) -> [usize; 2] {
        [line(self.input[1]), line(self.band().saturating_mul(self.columns.len()))]
    }
}

/// Some rows of the result, of all planes together.
struct Band<'a, T> {
    of: &'a Resampling,
    x: &'a [T],
    numbers: Range<usize>,
    /// Two rows of the operand, and what they are together; `row` values are for each.
    rows: &'a mut [f32],
    row: usize,
    results: &'a mut [f32],
}

impl<T: Float> WithSimd for Band<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Band { of, x, numbers, rows, row, results } = self;
        let [height, width] = of.input;
        let (read, together) = rows.split_at_mut(2 * row);
        let (even, odd) = read.split_at_mut(row);
        let (mut read, together) = ([&mut even[..width], &mut odd[..width]], &mut together[..width]);
        // Which rows of the operand are there: neighbours in the result are mostly made of the same.
        let mut there = [usize::MAX; 2];
        for (number, result) in numbers.zip(results.chunks_exact_mut(of.columns.len())) {
            let (plane, parts) = (number / of.rows.len(), of.rows[number % of.rows.len()]);
            let wanted = parts.at.map(|at| plane * height + at);
            if there[0] != wanted[0] && there[1] == wanted[0] {
                read.swap(0, 1);
                there.swap(0, 1);
            }
            for i in 0..if parts.is_one() { 1 } else { 2 } {
                if there[i] != wanted[i] {
                    T::widen(&x[wanted[i] * width..][..width], read[i]);
                    there[i] = wanted[i];
                }
            }
            let mixed: &[f32] = match parts.is_one() {
                true => read[0],
                false => {
                    let [first, second] = parts.weights;
                    for ((to, a), b) in together.iter_mut().zip(&*read[0]).zip(&*read[1]) {
                        *to = weighed([*a, *b], [first, second]);
                    }
                    together
                }
            };
            for (to, parts) in result.iter_mut().zip(&of.columns) {
                *to = match parts.is_one() {
                    true => mixed[parts.at[0]],
                    false => weighed(parts.at.map(|at| mixed[at]), parts.weights),
                };
            }
        }
    }
}

#[inline(always)]
fn weighed([a, b]: [f32; 2], [first, second]: [f32; 2]) -> f32 {
    a * first + b * second
}

impl Finished for Resampling {
    fn dtype(&self) -> DType {
        self.dtype
    }

    fn values(&self) -> usize {
        let [row, results] = self.parts();
        (3 * row).saturating_add(results).saturating_mul(self.threads)
    }

    fn compute<T: Float>(
        &self,
        operands: Sources<'_>,
        result: &mut [T],
        scratch: &mut [f32],
        threads: &Threads,
        epilogue: Option<Elements<'_>>,
    ) {
        let x: &[T] = operands.values(0);
        let [row, results] = self.parts();
        let band = self.band() * self.columns.len();
        let scratch = &mut scratch[..self.threads * (3 * row + results)];
        threads.drain(result.chunks_mut(band.max(1)).enumerate(), scratch, |(item, result), scratch| {
            let (rows, results) = scratch.split_at_mut(3 * row);
            let results = &mut results[..result.len()];
            let first = item * self.band();
            let numbers = first..first + result.len() / self.columns.len();
            threads.arch().dispatch(Band { of: self, x, numbers, rows, row, results: &mut *results });
            if let Some(epilogue) = epilogue {
                epilogue(item * band, results);
            }
            threads.arch().dispatch(Round { results, to: result });
        });
    }
}
