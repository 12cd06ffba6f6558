//! `layer_norm` over the last dimensions, and `instance_norm`: rows of neighbours, each with its own mean and variance; and
//! `batch_norm`, where these are given.

use anemone_mil::ops::{BatchNorm, InstanceNorm, LayerNorm, OpDef, OpError, Operand, Operands, Row};
use anemone_mil::types::DType;
use pulp::{Simd, WithSimd};

use super::finished::Finished;
use super::planes::widen;
use super::{Choice, Elements};
use crate::element::{Float, Round, is_float};
use crate::gemm::line;
use crate::memory::{Floats, Sources};
use crate::threads::Threads;

/// Partial sums of a row.
const LANES: usize = 64;
/// Elements that a thread takes at a time, at least.
const LEAST_ELEMENTS: usize = 1 << 13;

/// The kernel for a normalization of rows of floating-point values that lie in memory one after the other.
pub(super) fn normalization(
    row: &OpDef,
    operands: &Operands<'_>,
    threads: &Threads,
) -> Result<Option<Choice>, OpError> {
    let mut statistics = None;
    let (x, gamma, beta, epsilon, split, along) = match row.name {
        "layer_norm" => {
            let row = LayerNorm::bind(operands, row.since)?;
            let ((axes, others), epsilon) = (row.split_axes()?, row.shift());
            // The others come first, but for those of one element.
            let dims = row.x.shape().to_known();
            let single = |axis: usize| dims.as_ref().is_some_and(|dims| dims[axis] == 1);
            let first = axes.iter().copied().find(|&axis| !single(axis)).unwrap_or(row.x.rank());
            if others.iter().any(|&axis| axis > first && !single(axis)) {
                return Ok(None);
            }
            (row.x, row.gamma, row.beta, epsilon, first, Along::Elements)
        }
        "batch_norm" => {
            let row = BatchNorm::bind(operands, row.since)?;
            let epsilon = row.shift();
            statistics = Some([&row.mean, &row.variance].map(|given| (**given).clone()));
            (row.x, row.gamma, row.beta, epsilon, 2, Along::Rows)
        }
        _ => {
            let row = InstanceNorm::bind(operands, row.since)?;
            let epsilon = row.shift();
            (row.x, row.gamma, row.beta, epsilon, 2, Along::Rows)
        }
    };
    let (gamma, beta) = (gamma.as_deref().cloned(), beta.as_deref().cloned());
    let Some(dims) = x.shape().to_known() else { return Ok(None) };
    let mut all = vec![x];
    let mut place = |operand: Option<Operand>| {
        operand.map(|operand| {
            let dtype = operand.dtype();
            all.push(operand);
            (all.len() - 1, dtype)
        })
    };
    let (gamma, beta) = (place(gamma), place(beta));
    let [mean, variance] = statistics.map_or([None, None], |both| both.map(Some)).map(&mut place);
    if !all.iter().all(|operand| is_float(operand.dtype())) {
        return Ok(None);
    }
    let kernel = Normalize {
        dtype: all[0].dtype(),
        length: dims[split..].iter().product(),
        gamma,
        beta,
        statistics: mean.zip(variance),
        epsilon,
        along,
        repeats: if along == Along::Rows { dims[1] } else { 1 },
        threads: threads.count(),
    };
    Ok(Some(Choice::finished(kernel, all)))
}

/// What `gamma` and `beta` have a value for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Along {
    /// Each element of a row.
    Elements,
    /// Each row.
    Rows,
}

/// `gamma · (x − mean) / √(variance + epsilon) + beta` of rows.
#[derive(Debug)]
struct Normalize {
    dtype: DType,
    /// Elements of a row.
    length: usize,
    /// The operand and its type.
    gamma: Option<(usize, DType)>,
    beta: Option<(usize, DType)>,
    /// The operands with the mean and the variance of each row, where they are given.
    statistics: Option<((usize, DType), (usize, DType))>,
    epsilon: f64,
    along: Along,
    /// Rows after which `gamma` and `beta` begin anew, where they have a value for each row.
    repeats: usize,
    threads: usize,
}

impl Normalize {
    /// Values of working memory of each thread: some rows, `gamma` and `beta`.
    fn parts(&self) -> [usize; 3] {
        let rows = self.rows().saturating_mul(self.length);
        [line(rows), line(self.length), line(self.length)]
    }

    /// Rows that a thread takes at a time.
    fn rows(&self) -> usize {
        LEAST_ELEMENTS.div_ceil(self.length.max(1))
    }
}

/// Widens a parameter, or fills in its default.
fn fill(parameter: Option<Floats<'_>>, default: f32, to: &mut [f32]) {
    match parameter {
        Some(values) => widen(values, to),
        None => to.fill(default),
    }
}

struct Widen<'a, T> {
    values: &'a [T],
    to: &'a mut [f32],
}

impl<T: Float> WithSimd for Widen<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        T::widen(self.values, self.to);
    }
}

/// Normalizes a row where it is.
struct OneRow<'a> {
    row: &'a mut [f32],
    scale: &'a [f32],
    shift: &'a [f32],
    /// Its mean and variance, where they are given.
    statistics: Option<[f64; 2]>,
    epsilon: f64,
    /// Whether results become fp16, next to whose last place errors of sums in fp32 are nothing.
    half: bool,
}

impl WithSimd for OneRow<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let OneRow { row, scale, shift, statistics, epsilon, half } = self;
        let [mean, variance] = match statistics {
            Some(given) => given,
            None => own_statistics(row, half),
        };
        let inverse = 1.0 / (variance + epsilon).sqrt();
        for ((x, scale), shift) in row.iter_mut().zip(scale).zip(shift) {
            *x = if half {
                (*x - mean as f32) * inverse as f32 * scale + shift
            } else {
                ((f64::from(*x) - mean) * inverse * f64::from(*scale) + f64::from(*shift)) as f32
            };
        }
    }
}

/// The mean and the variance of a row.
#[inline(always)]
fn own_statistics(row: &[f32], half: bool) -> [f64; 2] {
    let count = row.len() as f64;
    let mean = if half { sum_in_fp32(row, |x| x) } else { sum_in_fp64(row, |x| x) } / count;
    let squares = if half {
        let mean = mean as f32;
        sum_in_fp32(row, |x| (x - mean) * (x - mean))
    } else {
        sum_in_fp64(row, |x| (x - mean) * (x - mean))
    };
    [mean, squares / count]
}

/// The sum of a function of each element, in lanes of fp32.
#[inline(always)]
fn sum_in_fp32(row: &[f32], function: impl Fn(f32) -> f32) -> f64 {
    let mut sums = [0.0f32; LANES];
    let (whole, rest) = row.as_chunks::<LANES>();
    for values in whole {
        for (sum, &x) in sums.iter_mut().zip(values) {
            *sum += function(x);
        }
    }
    for (sum, &x) in sums.iter_mut().zip(rest) {
        *sum += function(x);
    }
    sums.iter().map(|&sum| f64::from(sum)).sum()
}

/// The same in fp64.
#[inline(always)]
fn sum_in_fp64(row: &[f32], function: impl Fn(f64) -> f64) -> f64 {
    let mut sums = [0.0f64; LANES];
    let (whole, rest) = row.as_chunks::<LANES>();
    for values in whole {
        for (sum, &x) in sums.iter_mut().zip(values) {
            *sum += function(f64::from(x));
        }
    }
    for (sum, &x) in sums.iter_mut().zip(rest) {
        *sum += function(f64::from(x));
    }
    sums.iter().sum()
}

impl Finished for Normalize {
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
        let x: &[T] = operands.values(0);
        let parameter =
            |given: Option<(usize, DType)>| given.map(|(index, dtype)| operands.floats(index, dtype));
        let (gamma, beta) = (parameter(self.gamma), parameter(self.beta));
        let statistics = self
            .statistics
            .and_then(|(mean, variance)| Some((parameter(Some(mean))?, parameter(Some(variance))?)));
        let [some, one, _] = self.parts();
        let scratch = &mut scratch[..self.threads * (some + 2 * one)];
        let (length, count) = (self.length.max(1), self.rows());
        let items = result.chunks_mut(count * length).enumerate();
        threads.drain(items, scratch, |(item, result), scratch| {
            let (rows, scratch) = scratch.split_at_mut(some);
            let (scale, shift) = scratch.split_at_mut(one);
            let (rows, scale, shift) =
                (&mut rows[..result.len()], &mut scale[..length], &mut shift[..length]);
            if self.along == Along::Elements {
                fill(gamma, 1.0, scale);
                fill(beta, 0.0, shift);
            }
            let first = item * count;
            threads.arch().dispatch(Widen { values: &x[first * length..][..rows.len()], to: &mut *rows });
            for (index, row) in rows.chunks_exact_mut(length).enumerate() {
                let at = (first + index) % self.repeats;
                if self.along == Along::Rows {
                    scale.fill(gamma.map_or(1.0, |gamma| gamma.get(at)));
                    shift.fill(beta.map_or(0.0, |beta| beta.get(at)));
                }
                let statistics =
                    statistics.map(|(mean, variance)| [mean.get(at), variance.get(at)].map(f64::from));
                let (scale, shift, epsilon) = (&*scale, &*shift, self.epsilon);
                threads.arch().dispatch(OneRow { row, scale, shift, statistics, epsilon, half: T::HALF });
            }
            if let Some(epilogue) = epilogue {
                epilogue(first * length, rows);
            }
            threads.arch().dispatch(Round { results: rows, to: result });
        });
    }
}
