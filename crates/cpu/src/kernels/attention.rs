//! Attention, `softmax(q·kᵀ)·v` for each head, and its gradients, without matrices of probabilities.
//!
//! Of a head, up to [`QUERIES`] queries are taken at a time. Their scores, a row for each key, are all that is ever in memory:
//! what attention takes grows with the number of keys, not with its product with that of the queries. Scores and
//! probabilities are rounded as if they were written. Keys at the end that a mask gives no weight to, for none of the
//! queries, are left out; infinities among their values then leave no NaN.

use std::ops::Range;

use anemone_mil::types::DType;
use pulp::{Simd, WithSimd};

use super::softmax::exponential;
use crate::element::{Float, larger};
use crate::gemm::{After, Bias, Gemm, Matrix, Output, Precision};
use crate::memory::{Floats, Sources};
use crate::threads::Threads;

mod backward;
mod forward;

pub(crate) use backward::{Backward, BackwardForm};
pub(crate) use forward::Forward;

/// Queries of a block, at most. Keys and values are packed for each block again.
pub(crate) const QUERIES: usize = 128;
/// Queries of a block that may see other keys each: of more, many would be given to some for nothing.
const QUERIES_IN_ORDER: usize = 64;
/// Keys are left out in groups of so many.
const KEYS: usize = 64;
/// Terms that are added in fp32 before they join a sum in fp64.
const TERMS: usize = 8;
/// Keys whose scores a mask is added to at a time.
const LANES: usize = 16;

/// How the channels of some positions lie in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    /// A row for each channel.
    Channels,
    /// A row for each position.
    Positions,
}

impl Layout {
    /// Whether positions have rows.
    pub(crate) fn of(positions: bool) -> Layout {
        if positions { Layout::Positions } else { Layout::Channels }
    }
}

/// Matrices of one operand, each of which has some channels of some positions.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Vectors {
    /// How each lies in memory.
    pub layout: Layout,
    /// Positions of each.
    pub positions: usize,
    /// Channels of each.
    pub channels: usize,
}

impl Vectors {
    /// Elements of a matrix.
    fn size(self) -> usize {
        self.positions * self.channels
    }

    /// The matrix at an index, from a position on: a row for each position.
    fn matrix(self, values: Floats<'_>, index: usize, first: usize) -> Matrix<'_> {
        let (row_stride, column_stride) = match self.layout {
            Layout::Channels => (1, self.positions),
            Layout::Positions => (self.channels, 1),
        };
        Matrix { values: values.from(index * self.size() + first * row_stride), row_stride, column_stride }
    }
}

/// The sizes of attention, all of them at least 1, and its operands: q, k and v, of which each head has a matrix, and then
/// those that are named here by their positions.
#[derive(Debug, Clone)]
pub(crate) struct AttentionForm {
    /// fp16 or fp32: the type of all but positions.
    pub dtype: DType,
    /// Queries.
    pub q: Vectors,
    /// Keys.
    pub k: Vectors,
    /// Values.
    pub v: Vectors,
    /// For each head, which of the matrices of q, k and v are its own.
    pub heads: Vec<[usize; 3]>,
    /// What scores are multiplied by.
    pub scale: Option<usize>,
    /// What happens to them then.
    pub mask: Option<MaskForm>,
}

/// What a mask does to scores; operands by their positions.
#[derive(Debug, Clone)]
pub(crate) enum MaskForm {
    /// Keys whose position is larger than a query's have this score for it. Positions are int32.
    Later {
        /// The positions of keys.
        keys: usize,
        /// The positions of queries.
        queries: usize,
        /// The score.
        score: usize,
    },
    /// Matrices that are added to scores.
    Added {
        /// The operand.
        operand: usize,
        /// Which of its matrices each head has.
        heads: Vec<usize>,
        /// Elements of a matrix.
        size: usize,
        /// Distances between neighbours, of queries and of keys.
        strides: [usize; 2],
    },
}

/// A mask of a head.
#[derive(Clone, Copy)]
enum Mask<'a, T> {
    None,
    Later { keys: &'a [i32], queries: &'a [i32], score: f32 },
    Added { values: &'a [T], strides: [usize; 2] },
}

impl<T: Float> Mask<'_, T> {
    /// The number of keys, of so many, after which none has any weight for these queries.
    fn reach(&self, queries: &Range<usize>, all: usize) -> usize {
        match *self {
            Mask::None => all,
            Mask::Later { keys, queries: positions, score } => {
                let positions = &positions[queries.clone()];
                let (first, last) = (positions.iter().min(), positions.iter().max());
                // A query without any key has the same weight, NaN, for all of them.
                let all_have_some = keys.iter().min() <= first;
                if score != f32::NEG_INFINITY || !all_have_some {
                    return all;
                }
                keys.iter().rposition(|key| Some(key) <= last).map_or(all, |key| key + 1)
            }
            Mask::Added { values, strides: [of_query, of_key] } => {
                let seen = |query: usize, key: usize| {
                    values[query * of_query + key * of_key].wide() != f32::NEG_INFINITY
                };
                let reach = |query| (0..all).rposition(|key| seen(query, key)).map_or(all, |key| key + 1);
                queries.clone().map(reach).max().unwrap_or(all)
            }
        }
    }

    /// The mask of some queries.
    fn of(self, block: &Range<usize>) -> Self {
        match self {
            Mask::None => self,
            Mask::Later { keys, queries, score } => {
                Mask::Later { keys, queries: &queries[block.clone()], score }
            }
            Mask::Added { values, strides } => {
                Mask::Added { values: &values[block.start * strides[0]..], strides }
            }
        }
    }
}

impl AttentionForm {
    /// The queries of each block.
    fn blocks(&self) -> impl ExactSizeIterator<Item = Range<usize>> + Clone + use<> {
        let (queries, most) = (self.q.positions, self.queries());
        (0..queries.div_ceil(most)).map(move |block| block * most..queries.min((block + 1) * most))
    }

    /// Queries of a block.
    fn queries(&self) -> usize {
        match self.mask {
            None | Some(MaskForm::Added { strides: [0, _], .. }) => QUERIES,
            Some(_) => QUERIES_IN_ORDER,
        }
    }

    /// The numbers of keys and of queries that products have: of blocks, and of keys that are reached.
    fn lengths(&self) -> impl Iterator<Item = [usize; 2]> {
        let (keys, queries) = (self.k.positions, self.q.positions);
        let widths = [queries.min(self.queries()), queries % self.queries()];
        let lengths = (KEYS..keys).step_by(KEYS).chain([keys]);
        lengths.flat_map(move |keys| widths.map(|width| [keys, width]))
    }

    /// The precision that products of operands, scores and probabilities ask for.
    fn precision(&self) -> Precision {
        match self.dtype {
            DType::Fp16 => Precision::Half,
            _ => Precision::Single,
        }
    }

    /// Products of keys and queries: the scores of so many of both.
    fn scoring(&self, [keys, queries]: [usize; 2], alone: &Threads) -> Gemm {
        Gemm::new([keys, queries, self.q.channels], self.precision(), alone)
    }

    /// The mask of a head.
    fn mask<'a, T: Float>(&self, operands: Sources<'a>, head: usize) -> Mask<'a, T> {
        match &self.mask {
            None => Mask::None,
            Some(MaskForm::Later { keys, queries, score }) => Mask::Later {
                keys: operands.values(*keys),
                queries: operands.values(*queries),
                score: operands.floats(*score, self.dtype).get(0),
            },
            Some(MaskForm::Added { operand, heads, size, strides }) => Mask::Added {
                values: &operands.values(*operand)[heads[head] * size..][..*size],
                strides: *strides,
            },
        }
    }

    /// The number of keys that a block needs.
    fn reach<T: Float>(&self, mask: Mask<'_, T>, block: &Range<usize>) -> usize {
        let keys = self.k.positions;
        mask.reach(block, keys).next_multiple_of(KEYS).min(keys)
    }

    /// The probabilities of some queries of a head, a row for each key that they reach.
    fn probabilities<T: Float>(
        &self,
        operands: Sources<'_>,
        (head, block, mask): (usize, &Range<usize>, Mask<'_, T>),
        scores: &mut [f32],
        scratch: &mut [f32],
        alone: &Threads,
    ) {
        let (width, arch) = (block.len(), alone.arch());
        let keys = scores.len() / width;
        let [q, k, _] = self.heads[head];
        let q = self.q.matrix(operands.floats(0, self.dtype), q, block.start);
        let k = self.k.matrix(operands.floats(1, self.dtype), k, 0);
        let scale = self.scale.map(|scale| operands.floats(scale, self.dtype).get(0));
        // While they are at hand, score by score as if each were written and read.
        let finish = |_: usize, scores: &mut [f32]| {
            T::hold(scores);
            if let Some(scale) = scale {
                arch.dispatch(|| scores.iter_mut().for_each(|x| *x *= scale));
                T::hold(scores);
            }
        };
        let after = After { bias: Bias::None, epilogue: Some(&finish) };
        let product = self.scoring([keys, width], alone);
        product.run(k, q.transposed().into(), after, Output::F32(&mut *scores), scratch, alone);
        let mask = mask.of(block);
        if let Mask::Added { values, strides } = mask {
            arch.dispatch(Addition { scores: &mut *scores, width, values, strides });
            T::hold(scores);
        }
        arch.dispatch(Probabilities { scores, mask, width });
    }
}

/// Adds a mask to scores, a row for each key and a column for each query.
struct Addition<'a, T> {
    scores: &'a mut [f32],
    /// Queries.
    width: usize,
    values: &'a [T],
    strides: [usize; 2],
}

impl<T: Float> WithSimd for Addition<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Addition { scores, width, values, strides: [of_query, of_key] } = self;
        for (strip, rows) in scores.chunks_mut(LANES * width).enumerate() {
            let keys = rows.len() / width;
            for query in 0..width {
                let mut some = [0.0; LANES];
                let first = query * of_query + strip * LANES * of_key;
                if of_key == 1 {
                    T::widen(&values[first..first + keys], &mut some[..keys]);
                } else {
                    some = [values[first].wide(); LANES];
                }
                rows.iter_mut().skip(query).step_by(width).zip(&some).for_each(|(x, some)| *x += some);
            }
        }
    }
}

/// Replaces scores, a row for each key and a column for each query, by the softmax of each column, rounded.
struct Probabilities<'a, T> {
    scores: &'a mut [f32],
    /// What masks them, but for what is already added.
    mask: Mask<'a, T>,
    /// Queries, at most [`QUERIES`].
    width: usize,
}

impl<T: Float> WithSimd for Probabilities<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Probabilities { scores, mask, width } = self;
        let mut largest = [f32::NEG_INFINITY; QUERIES];
        for (key, row) in scores.chunks_exact_mut(width).enumerate() {
            if let Mask::Later { keys, queries, score } = mask {
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
            T::hold(row);
        }
    }
}
