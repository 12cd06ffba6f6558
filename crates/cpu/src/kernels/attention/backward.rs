//! The gradients of attention with respect to queries, keys and values.
//!
//! ```text
//! dv = pᵀ·do      dp = do·vᵀ      ds = p ∘ (dp − Σ p ∘ dp)      dq = ds·k      dk = dsᵀ·q
//! ```
//!
//! Probabilities are computed again, for some queries at a time; dp, ds and what they are computed from are rounded as if
//! they were written. The terms of dk and dv, of all queries and of all heads that share a key, are added in fp32, and
//! rounded once. Where few heads share no key, their blocks are dealt out to several tasks, whose sums are added in the
//! end: how many, only sizes decide.

use std::ops::Range;

use anemone_mil::types::DType;
use half::f16;
use pulp::{Simd, WithSimd};

use super::forward::place;
use super::{AttentionForm, Layout, Mask, QUERIES, TERMS, Vectors};
use crate::element::Float;
use crate::gemm::{Bias, Gemm, Matrix, Output, line};
use crate::kernels::Joint;
use crate::memory::{Floats, Sources};
use crate::threads::Threads;

/// Tasks that there should be at least, for threads to share.
const LEAST_TASKS: usize = 16;
/// Positions of dk and dv that are turned at a time.
const TURNED: usize = 16;

/// What backward is to compute.
#[derive(Debug, Clone)]
pub(crate) struct BackwardForm {
    /// Forward. The fourth operand is then do, of which each head has a matrix.
    pub attention: AttentionForm,
    /// do.
    pub d_mixed: Vectors,
    /// How dq, dk and dv lie in memory.
    pub results: [Layout; 3],
    /// For each matrix of dk and dv, the heads whose terms it has.
    pub groups: Vec<Vec<usize>>,
    /// What takes the place of ds where a key comes later, by the position of the operand.
    pub fill: Option<usize>,
}

/// Computes dq, dk and dv.
pub(crate) struct Backward {
    form: BackwardForm,
    /// For each head, its group and its position there.
    places: Vec<(usize, usize)>,
    /// Tasks of each group.
    parts: usize,
    /// Blocks of a task, at most.
    blocks: usize,
    /// Each product is one thread's.
    alone: Threads,
    threads: usize,
    /// Values of working memory of each thread.
    scratch: usize,
}

/// The values that a task leaves: sums of dk and dv, a row for each key, and its blocks of dq.
struct Left<'a> {
    keys: &'a mut [f32],
    values: &'a mut [f32],
    queries: &'a mut [f32],
}

impl Backward {
    pub(crate) fn new(form: BackwardForm, threads: &Threads) -> Backward {
        let largest = form.groups.iter().map(Vec::len).max().unwrap_or(0);
        let blocks = largest.saturating_mul(form.attention.blocks().len()).max(1);
        let parts = LEAST_TASKS.div_ceil(form.groups.len().max(1)).min(blocks);
        let blocks = blocks.div_ceil(parts);
        let (alone, count) = (threads.alone(), threads.count());
        let mut places = vec![(0, 0); form.attention.heads.len()];
        for (group, heads) in form.groups.iter().enumerate() {
            heads.iter().enumerate().for_each(|(index, &head)| places[head] = (group, index));
        }
        let mut backward = Backward { form, places, parts, blocks, alone, threads: count, scratch: 0 };
        let products = backward.form.attention.lengths().flat_map(|lengths| backward.products(lengths));
        let products = products.map(|product| product.scratch()).max().unwrap_or(0);
        backward.scratch = line(backward.scores().saturating_mul(2).saturating_add(products));
        backward
    }

    /// The products of so many keys and queries: scores, dp, dv, dk and dq.
    fn products(&self, [keys, queries]: [usize; 2]) -> [Gemm; 5] {
        let form = &self.form.attention;
        let product = |sizes| Gemm::new(sizes, form.precision(), &self.alone);
        let (channels, value_channels) = (form.q.channels, form.v.channels);
        [
            form.scoring([keys, queries], &self.alone),
            product([keys, queries, value_channels]),
            product([keys, value_channels, queries]),
            product([keys, channels, queries]),
            product(match self.form.results[0] {
                Layout::Channels => [channels, queries, keys],
                Layout::Positions => [queries, channels, keys],
            }),
        ]
    }

    /// Values of a block's scores.
    fn scores(&self) -> usize {
        line(self.form.attention.k.positions.saturating_mul(self.form.attention.queries()))
    }

    /// Values of what a task leaves: dk, dv, and each block of dq.
    fn left(&self) -> [usize; 3] {
        let attention @ AttentionForm { k, v, q, .. } = &self.form.attention;
        let sums = |channels: usize| line(k.positions.saturating_mul(channels));
        [sums(k.channels), sums(v.channels), line(attention.queries().saturating_mul(q.channels))]
    }

    /// Values of all that a task leaves.
    fn task(&self) -> usize {
        let [keys, values, queries] = self.left();
        keys.saturating_add(values).saturating_add(queries.saturating_mul(self.blocks))
    }

    fn parts_of<'a>(&self, task: &'a mut [f32]) -> Left<'a> {
        let [most_keys, most_values, _] = self.left();
        let (keys, rest) = task.split_at_mut(most_keys);
        let (values, queries) = rest.split_at_mut(most_values);
        Left { keys, values, queries }
    }

    /// The heads and blocks of a task, of a group.
    fn dealt(&self, heads: &[usize], part: usize) -> impl Iterator<Item = (usize, Range<usize>)> {
        let blocks = self.form.attention.blocks();
        let all = heads.iter().flat_map(move |&head| blocks.clone().map(move |block| (head, block)));
        all.skip(part).step_by(self.parts)
    }

    fn compute<T: Float>(
        &self,
        operands: Sources<'_>,
        results: &mut [&mut [u8]],
        scratch: &mut [f32],
        threads: &Threads,
    ) {
        let [d_q, d_k, d_v] = results else { return };
        let [d_q, d_k, d_v] = [d_q, d_k, d_v].map(|bytes| bytemuck::cast_slice_mut::<u8, T>(bytes));
        let (own, rest) = scratch.split_at_mut(self.scratch * self.threads);
        let tasks = &mut rest[..self.task() * self.form.groups.len() * self.parts];
        threads.drain(tasks.chunks_exact_mut(self.task()).enumerate(), own, |(task, left), scratch| {
            let (group, part) = (task / self.parts, task % self.parts);
            let left = self.parts_of(left);
            let (keys, values, [.., most]) = (left.keys, left.values, self.left());
            keys.fill(0.0);
            values.fill(0.0);
            let blocks = left.queries.chunks_exact_mut(most);
            for ((head, block), queries) in self.dealt(&self.form.groups[group], part).zip(blocks) {
                let left = Left { keys: &mut *keys, values: &mut *values, queries };
                self.block::<T>(operands, (head, block), left, scratch);
            }
        });
        self.deliver(tasks, [d_q, d_k, d_v], threads);
    }

    /// Adds what some queries of a head give to dk and dv, and computes their dq.
    fn block<T: Float>(
        &self,
        operands: Sources<'_>,
        (head, block): (usize, Range<usize>),
        left: Left<'_>,
        scratch: &mut [f32],
    ) {
        let (form, alone, width) = (&self.form.attention, &self.alone, block.len());
        let (dtype, arch) = (form.dtype, alone.arch());
        let mask = form.mask::<T>(operands, head);
        let fill = self.form.fill.map(|fill| operands.floats(fill, dtype).get(0));
        let keys = match fill {
            Some(fill) if fill != 0.0 => form.k.positions,
            _ => form.reach(mask, &block),
        };
        let (p, rest) = scratch.split_at_mut(self.scores());
        let (d, own) = rest.split_at_mut(self.scores());
        let (p, d) = (&mut p[..keys * width], &mut d[..keys * width]);
        let [_, sloping, valuing, keying, querying] = self.products([keys, width]);
        form.probabilities(operands, (head, &block, mask), p, own, alone);

        let [q, k, v] = form.heads[head];
        let q = form.q.matrix(operands.floats(0, dtype), q, block.start);
        let k = form.k.matrix(operands.floats(1, dtype), k, 0);
        let v = form.v.matrix(operands.floats(2, dtype), v, 0);
        let d_mixed = self.form.d_mixed.matrix(operands.floats(3, dtype), head, block.start);
        let after = || Bias::None.into();
        sloping.run(v, d_mixed.transposed().into(), after(), Output::F32(&mut *d), own, alone);
        T::hold(d);
        let weights = Matrix { values: Floats::F32(p), row_stride: width, column_stride: 1 };
        let sum = Output::Sum(&mut left.values[..keys * form.v.channels]);
        valuing.run(weights, d_mixed.into(), after(), sum, own, alone);

        let scale = form.scale.map(|scale| operands.floats(scale, dtype).get(0));
        arch.dispatch(Slopes { p, d: &mut *d, mask: mask.of(&block), fill, scale, width });
        let slopes = Matrix { values: Floats::F32(d), row_stride: width, column_stride: 1 };
        let sum = Output::Sum(&mut left.keys[..keys * form.k.channels]);
        keying.run(slopes, q.into(), after(), sum, own, alone);
        let (a, b) = match self.form.results[0] {
            Layout::Channels => (k.transposed(), slopes),
            Layout::Positions => (slopes.transposed(), k),
        };
        let to = Output::F32(&mut left.queries[..width * form.q.channels]);
        querying.run(a, b.into(), after(), to, own, alone);
    }

    /// Rounds what tasks left to the results.
    fn deliver<T: Float>(&self, tasks: &[f32], [d_q, d_k, d_v]: [&mut [T]; 3], threads: &Threads) {
        let BackwardForm { attention: form, results, .. } = &self.form;
        let [most_keys, most_values, most_queries] = self.left();
        let of_group = self.task() * self.parts;
        for (to, first, vectors) in [
            (d_k, 0, Vectors { layout: results[1], ..form.k }),
            (d_v, most_keys, Vectors { layout: results[2], ..form.v }),
        ] {
            threads.each_chunk(to, vectors.size(), self.parts, |group, matrix| {
                let sums = &tasks[group * of_group + first..][..of_group - first];
                threads.arch().dispatch(Total { sums, distance: self.task(), vectors, matrix });
            });
        }
        let blocks = form.blocks();
        threads.each_chunk(d_q, form.q.size(), 1, |head, matrix| {
            let (group, index) = self.places[head];
            for (number, block) in blocks.clone().enumerate() {
                let dealt = index * blocks.len() + number;
                let (part, turn) = (dealt % self.parts, dealt / self.parts);
                let first =
                    group * of_group + part * self.task() + most_keys + most_values + turn * most_queries;
                let values = &tasks[first..first + block.len() * form.q.channels];
                place(values, &block, results[0], matrix);
            }
        });
    }
}

/// From p and dp, rows for keys and columns for queries, ds = p ∘ (dp − Σ p ∘ dp) in the place of dp.
struct Slopes<'a, T> {
    p: &'a [f32],
    d: &'a mut [f32],
    mask: Mask<'a, T>,
    /// ds where the mask says that a key comes later.
    fill: Option<f32>,
    /// What ds is multiplied by then.
    scale: Option<f32>,
    /// Queries, at most [`QUERIES`].
    width: usize,
}

impl<T: Float> WithSimd for Slopes<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Slopes { p, d, mask, fill, scale, width } = self;
        let mut all = [0.0f64; QUERIES];
        let mut products = [0.0f32; TERMS * QUERIES];
        for (p, d) in p.chunks(TERMS * width).zip(d.chunks(TERMS * width)) {
            let products = &mut products[..p.len()];
            products.iter_mut().zip(p).zip(d).for_each(|((product, p), d)| *product = p * d);
            T::hold(products);
            let mut some = [0.0f32; QUERIES];
            for row in products.chunks_exact(width) {
                some.iter_mut().zip(row).for_each(|(some, product)| *some += product);
            }
            all.iter_mut().zip(&some).for_each(|(sum, &some)| *sum += f64::from(some));
        }
        let mut sums = all.map(|sum| sum as f32);
        T::hold(&mut sums);
        for (strip, (p, d)) in p.chunks(TERMS * width).zip(d.chunks_mut(TERMS * width)).enumerate() {
            for row in d.chunks_exact_mut(width) {
                row.iter_mut().zip(&sums).for_each(|(d, sum)| *d -= sum);
            }
            T::hold(d);
            d.iter_mut().zip(p).for_each(|(d, p)| *d *= p);
            if let (Mask::Later { keys, queries, .. }, Some(fill)) = (mask, fill) {
                for (row, &key) in d.chunks_exact_mut(width).zip(&keys[strip * TERMS..]) {
                    row.iter_mut()
                        .zip(queries)
                        .for_each(|(d, &query)| *d = if key > query { fill } else { *d });
                }
            }
            T::hold(d);
            if let Some(scale) = scale {
                d.iter_mut().for_each(|d| *d *= scale);
                T::hold(d);
            }
        }
    }
}

/// Adds sums of several tasks, a row for each position, and rounds them to a matrix.
struct Total<'a, T> {
    /// The sums of the first task, and so on, each so far from the one before.
    sums: &'a [f32],
    distance: usize,
    vectors: Vectors,
    matrix: &'a mut [T],
}

impl<T: Float> WithSimd for Total<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Total { sums, distance, vectors: Vectors { layout, positions, channels }, matrix } = self;
        let total = |from: usize, stride: usize, to: &mut [T]| {
            let mut some = [0.0; TURNED];
            for sums in sums.chunks(distance) {
                some[..to.len()].iter_mut().enumerate().for_each(|(i, sum)| *sum += sums[from + i * stride]);
            }
            T::round(&some[..to.len()], to);
        };
        match layout {
            Layout::Positions => {
                matrix.chunks_mut(TURNED).enumerate().for_each(|(strip, to)| total(strip * TURNED, 1, to));
            }
            Layout::Channels => {
                for first in (0..positions).step_by(TURNED) {
                    let next = positions.min(first + TURNED);
                    for channel in 0..channels {
                        let to = channel * positions + first..channel * positions + next;
                        total(first * channels + channel, channels, &mut matrix[to]);
                    }
                }
            }
        }
    }
}

impl Joint for Backward {
    fn scratch(&self) -> usize {
        let tasks = self.form.groups.len().saturating_mul(self.parts);
        let own = self.scratch.saturating_mul(self.threads);
        own.saturating_add(self.task().saturating_mul(tasks)).div_ceil(2)
    }

    fn run(&self, operands: Sources<'_>, results: &mut [&mut [u8]], scratch: &mut [f64], threads: &Threads) {
        let scratch = bytemuck::cast_slice_mut(scratch);
        match self.form.attention.dtype {
            DType::Fp16 => self.compute::<f16>(operands, results, scratch, threads),
            _ => self.compute::<f32>(operands, results, scratch, threads),
        }
    }
}
