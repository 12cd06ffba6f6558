//! What heads mix from their values.

use std::ops::Range;

use anemone_mil::types::DType;
use half::f16;

use super::{AttentionForm, Layout};
use crate::element::Float;
use crate::gemm::{Bias, Gemm, Matrix, Output, line};
use crate::kernels::Kernel;
use crate::memory::{Floats, Sources};
use crate::threads::Threads;

/// Computes the mixed values of each query: a thread takes a head.
pub(crate) struct Forward {
    form: AttentionForm,
    /// How the results of a head lie in memory.
    layout: Layout,
    /// Each product is one thread's.
    alone: Threads,
    /// Threads that take heads.
    threads: usize,
    /// Values of working memory of each.
    scratch: usize,
}

impl Forward {
    pub(crate) fn new(form: AttentionForm, layout: Layout, threads: &Threads) -> Forward {
        let mut forward =
            Forward { form, layout, alone: threads.alone(), threads: threads.count(), scratch: 0 };
        let products = forward
            .form
            .lengths()
            .flat_map(|lengths| [forward.form.scoring(lengths, &forward.alone), forward.mixing(lengths)]);
        let products = products.map(|product| product.scratch()).max().unwrap_or(0);
        let [scores, mixed] = forward.block_values();
        forward.scratch = line(scores.saturating_add(mixed).saturating_add(products));
        forward
    }

    /// Products of values with the probabilities of so many keys and queries.
    fn mixing(&self, [keys, queries]: [usize; 2]) -> Gemm {
        let channels = self.form.v.channels;
        let sizes = match self.layout {
            Layout::Channels => [channels, queries, keys],
            Layout::Positions => [queries, channels, keys],
        };
        Gemm::new(sizes, self.form.precision(), &self.alone)
    }

    /// Values of a block's scores and results.
    fn block_values(&self) -> [usize; 2] {
        [self.form.k.positions, self.form.v.channels]
            .map(|rows| line(rows.saturating_mul(self.form.queries())))
    }

    fn compute<T: Float>(
        &self,
        operands: Sources<'_>,
        result: &mut [T],
        scratch: &mut [f32],
        threads: &Threads,
    ) {
        let form = &self.form;
        let scratch = &mut scratch[..self.scratch * self.threads];
        let heads = result.chunks_exact_mut(form.v.channels * form.q.positions).enumerate();
        threads.drain(heads, scratch, |(head, result), scratch| {
            form.blocks().for_each(|block| self.block(operands, (head, block), result, scratch));
        });
    }

    /// Computes the results of some queries of a head.
    fn block<T: Float>(
        &self,
        operands: Sources<'_>,
        (head, block): (usize, Range<usize>),
        result: &mut [T],
        scratch: &mut [f32],
    ) {
        let (form, alone, width) = (&self.form, &self.alone, block.len());
        let mask = form.mask::<T>(operands, head);
        let keys = form.reach(mask, &block);
        let [most_scores, most_mixed] = self.block_values();
        let (scores, rest) = scratch.split_at_mut(most_scores);
        let (mixed, own) = rest.split_at_mut(most_mixed);
        let (scores, mixed) = (&mut scores[..keys * width], &mut mixed[..form.v.channels * width]);
        form.probabilities(operands, (head, &block, mask), scores, own, alone);
        let weights = Matrix { values: Floats::F32(scores), row_stride: width, column_stride: 1 };
        let v = form.v.matrix(operands.floats(2, form.dtype), form.heads[head][2], 0);
        let (left, right) = match self.layout {
            Layout::Channels => (v.transposed(), weights),
            Layout::Positions => (weights.transposed(), v),
        };
        let mixing = self.mixing([keys, width]);
        mixing.run(left, right.into(), Bias::None.into(), Output::F32(&mut *mixed), own, alone);
        place(mixed, &block, self.layout, result);
    }
}

/// Rounds what is computed of some positions to where it belongs in a matrix, both of which have this layout.
pub(super) fn place<T: Float>(block: &[f32], positions: &Range<usize>, layout: Layout, matrix: &mut [T]) {
    let channels = block.len() / positions.len();
    match layout {
        Layout::Channels => {
            let rows = matrix.chunks_exact_mut(matrix.len() / channels);
            for (row, block) in rows.zip(block.chunks_exact(positions.len())) {
                T::round(block, &mut row[positions.clone()]);
            }
        }
        Layout::Positions => {
            T::round(block, &mut matrix[positions.start * channels..positions.end * channels]);
        }
    }
}

impl Kernel for Forward {
    fn scratch(&self) -> usize {
        self.scratch.saturating_mul(self.threads).div_ceil(2)
    }

    fn run(&self, operands: Sources<'_>, result: &mut [u8], scratch: &mut [f64], threads: &Threads) {
        let scratch = bytemuck::cast_slice_mut(scratch);
        match self.form.dtype {
            DType::Fp16 => {
                self.compute::<f16>(operands, bytemuck::cast_slice_mut(result), scratch, threads);
            }
            _ => self.compute::<f32>(operands, bytemuck::cast_slice_mut(result), scratch, threads),
        }
    }
}
