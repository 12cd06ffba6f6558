//! Attention, `v · softmax(qᵀk)ᵀ` for each head, without its matrix of probabilities.
//!
//! A thread takes a head, and of it [`QUERIES`] queries at a time. Their scores, one row for each key, are all that is
//! ever in memory: what it takes grows with the number of keys, not with its product with that of the queries. Scores
//! and probabilities are rounded as if they were written. Keys at the end that a mask gives no weight to, for none of the
//! queries, are left out; infinities among their values then leave no NaN.

use std::marker::PhantomData;
use std::ops::Range;

use anemone_mil::types::DType;
use half::f16;
use pulp::{Simd, WithSimd};

use super::Kernel;
use super::softmax::exponential;
use crate::element::{Float, larger};
use crate::gemm::{Bias, Gemm, Matrix, Output, Precision, line};
use crate::memory::{Floats, Sources};
use crate::threads::Threads;

/// Queries of a block.
pub(crate) const QUERIES: usize = 64;
/// Keys are left out in groups of so many.
const KEYS: usize = 128;
/// Exponentials that are added in fp32 before they join a sum in fp64.
const TERMS: usize = 8;

/// The sizes of attention, all of them at least 1.
#[derive(Debug, Clone)]
pub(crate) struct AttentionSizes {
    /// fp16 or fp32: the type of q, k, v and the result.
    pub dtype: DType,
    /// Channels of a head's queries and keys.
    pub channels: usize,
    /// Channels of its values.
    pub value_channels: usize,
    /// Queries of a head.
    pub queries: usize,
    /// Keys of a head.
    pub keys: usize,
    /// For each head of the result, which of the matrices of q, k and v are its own.
    pub heads: Vec<[usize; 3]>,
    /// Whether keys that come later are masked. The positions of keys and queries, int32, and the score of what is
    /// masked are then operands.
    pub masked: bool,
}

/// Computes q `[*, channels, queries]`, k `[*, channels, keys]`, v `[*, value_channels, keys]` →
/// `[*, value_channels, queries]`.
pub(crate) struct Attention {
    sizes: AttentionSizes,
    /// Each product is one thread's.
    alone: Threads,
    /// Threads that take heads.
    threads: usize,
    /// Values of working memory of each.
    scratch: usize,
}

/// Keys whose positions are larger than a query's have this score for it.
#[derive(Clone, Copy)]
struct Mask<'a> {
    keys: &'a [i32],
    queries: &'a [i32],
    score: f32,
}

impl Mask<'_> {
    /// The number of keys after which none has any weight for these queries.
    fn reach(&self, queries: &Range<usize>) -> usize {
        let queries = &self.queries[queries.clone()];
        let (first, last) = (queries.iter().min(), queries.iter().max());
        // A query without any key has the same weight, NaN, for all of them.
        let all_have_some = self.keys.iter().min() <= first;
        if self.score != f32::NEG_INFINITY || !all_have_some {
            return self.keys.len();
        }
        self.keys.iter().rposition(|key| Some(key) <= last).map_or(self.keys.len(), |key| key + 1)
    }
}

impl Attention {
    pub(crate) fn new(sizes: AttentionSizes, threads: &Threads) -> Attention {
        let mut attention = Attention { sizes, alone: threads.alone(), threads: threads.count(), scratch: 0 };
        let AttentionSizes { queries, keys, .. } = attention.sizes;
        let widths = [queries.min(QUERIES), queries % QUERIES];
        let lengths = (KEYS..keys).step_by(KEYS).chain([keys]);
        let products = lengths.flat_map(|keys| widths.map(|width| attention.products(keys, width)));
        let products = products.flatten().map(|product| product.scratch()).max().unwrap_or(0);
        let [scores, mixed] = attention.block_values();
        attention.scratch = line(scores.saturating_add(mixed).saturating_add(products));
        attention
    }

    /// The products of a block: keys with queries, and values with probabilities.
    fn products(&self, keys: usize, queries: usize) -> [Gemm; 2] {
        let AttentionSizes { dtype, channels, value_channels, .. } = self.sizes;
        let [scores, mixed] = match dtype {
            DType::Fp16 => [Precision::Half; 2],
            _ => [Precision::Single; 2],
        };
        [
            Gemm::new([keys, queries, channels], scores, &self.alone),
            Gemm::new([value_channels, queries, keys], mixed, &self.alone),
        ]
    }

    /// Values of a block's scores and results.
    fn block_values(&self) -> [usize; 2] {
        [self.sizes.keys, self.sizes.value_channels].map(|rows| line(rows.saturating_mul(QUERIES)))
    }

    fn compute<T: Float>(
        &self,
        operands: Sources<'_>,
        result: &mut [T],
        scratch: &mut [f32],
        threads: &Threads,
    ) {
        let AttentionSizes { dtype, value_channels, queries, masked, .. } = self.sizes;
        let mask = masked.then(|| Mask {
            keys: operands.values(3),
            queries: operands.values(4),
            score: operands.floats(5, dtype).get(0),
        });
        let scratch = &mut scratch[..self.scratch * self.threads];
        let heads = result.chunks_exact_mut(value_channels * queries).zip(&self.sizes.heads);
        threads.drain(heads, scratch, |(result, &head), scratch| {
            for first in (0..queries).step_by(QUERIES) {
                let block = first..queries.min(first + QUERIES);
                self.block(operands, (head, block), mask, result, scratch);
            }
        });
    }

    /// Computes the results of some queries of a head.
    fn block<T: Float>(
        &self,
        operands: Sources<'_>,
        (head, block): ([usize; 3], Range<usize>),
        mask: Option<Mask<'_>>,
        result: &mut [T],
        scratch: &mut [f32],
    ) {
        let &AttentionSizes { dtype, channels, value_channels, queries, keys, .. } = &self.sizes;
        let (width, arch) = (block.len(), self.alone.arch());
        let matrix = |operand: usize, rows: usize, columns: usize| Matrix {
            values: operands.floats(operand, dtype).from(head[operand] * rows * columns),
            row_stride: columns,
            column_stride: 1,
        };
        let q = matrix(0, channels, queries);
        let q = Matrix { values: q.values.from(block.start), ..q };
        let (k, v) = (matrix(1, channels, keys), matrix(2, value_channels, keys));
        let [most_scores, most_mixed] = self.block_values();
        let (scores, rest) = scratch.split_at_mut(most_scores);
        let (mixed, own) = rest.split_at_mut(most_mixed);

        let reach = mask.map_or(keys, |mask| mask.reach(&block));
        let keys = reach.next_multiple_of(KEYS).min(keys);
        let [product, mixing] = self.products(keys, width);
        let (scores, mixed) = (&mut scores[..keys * width], &mut mixed[..value_channels * width]);
        let (right, after) = (q.into(), Bias::None.into());
        product.run(k.transposed(), right, after, Output::F32(scores), own, &self.alone);
        let mask = mask.map(|mask| Mask { queries: &mask.queries[block.clone()], ..mask });
        T::hold(scores);
        arch.dispatch(Probabilities { scores, mask, width, of: PhantomData::<T> });
        T::hold(scores);
        let weights = Matrix { values: Floats::F32(scores), row_stride: width, column_stride: 1 };
        mixing.run(v, weights.into(), Bias::None.into(), Output::F32(mixed), own, &self.alone);
        for (mixed, result) in mixed.chunks_exact_mut(width).zip(result.chunks_exact_mut(queries)) {
            T::round(mixed, &mut result[block.clone()]);
        }
    }
}

/// Replaces scores, a row for each key and a column for each query, by the softmax of each column.
struct Probabilities<'a, T> {
    scores: &'a mut [f32],
    mask: Option<Mask<'a>>,
    /// Queries, at most [`QUERIES`].
    width: usize,
    /// The type that they are exact enough for.
    of: PhantomData<T>,
}

impl<T: Float> WithSimd for Probabilities<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Probabilities { scores, mask, width, .. } = self;
        let mut largest = [f32::NEG_INFINITY; QUERIES];
        for (key, row) in scores.chunks_exact_mut(width).enumerate() {
            if let Some(Mask { keys, queries, score }) = mask {
                let key = keys[key];
                row.iter_mut().zip(queries).for_each(|(x, &query)| *x = if key > query { score } else { *x });
            }
            largest.iter_mut().zip(&*row).for_each(|(largest, &x)| *largest = larger(*largest, x));
        }
        let mut all = [0.0f64; QUERIES];
        for rows in scores.chunks_mut(TERMS * width) {
            let mut some = [0.0f32; QUERIES];
            for row in rows.chunks_exact_mut(width) {
                for ((x, &largest), some) in row.iter_mut().zip(&largest).zip(&mut some) {
                    *x = exponential::<T, S>(*x, largest);
                    *some += *x;
                }
            }
            all.iter_mut().zip(&some).for_each(|(sum, &some)| *sum += f64::from(some));
        }
        let sums = all.map(|sum| sum as f32);
        for row in scores.chunks_exact_mut(width) {
            row.iter_mut().zip(&sums).for_each(|(x, sum)| *x /= sum);
        }
    }
}

impl Kernel for Attention {
    fn scratch(&self) -> usize {
        self.scratch.saturating_mul(self.threads).div_ceil(2)
    }

    fn run(&self, operands: Sources<'_>, result: &mut [u8], scratch: &mut [f64], threads: &Threads) {
        let scratch = bytemuck::cast_slice_mut(scratch);
        match self.sizes.dtype {
            DType::Fp16 => {
                self.compute::<f16>(operands, bytemuck::cast_slice_mut(result), scratch, threads);
            }
            _ => self.compute::<f32>(operands, bytemuck::cast_slice_mut(result), scratch, threads),
        }
    }
}
