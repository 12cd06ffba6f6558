//! Products of a matrix and a vector: one column, or one row, as when a model reads one token. Each element of the matrix is
//! read once and used once, so that memory decides how long they take.

use anemone_mil::types::DType;
use half::f16;
use pulp::{Arch, Simd, WithSimd};

use super::Kernel;
use super::elementwise::STRIP;
use crate::element::Float;
use crate::gemm::{DEPTH, dispatch, multiply_add};
use crate::memory::{Floats, Sources};
use crate::threads::Threads;

/// Sums that a row's products are added to by turns.
const SUMS: usize = 4;
/// Rows that a thread takes at once.
const ROWS: usize = 16;

/// Multiply-adds that are worth sharing a batch among threads.
const LEAST_WORK: usize = 64 * 1024;

/// An operand with its type.
#[derive(Debug, Clone, Copy)]
pub(super) struct Factor {
    /// Its position among the operands.
    pub operand: usize,
    /// fp16 or fp32.
    pub dtype: DType,
}

/// What the sums of a product go along.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Along {
    /// Along the rows of the matrix, which are long.
    Rows,
    /// Along its columns.
    Columns,
}

/// A batch of products of a row-major matrix and a vector.
pub(super) struct VectorProduct {
    /// The matrices.
    pub matrix: Factor,
    /// The vectors.
    pub vector: Factor,
    /// Terms of each sum.
    pub terms: usize,
    /// Sums.
    pub results: usize,
    /// How the matrix lies in memory.
    pub along: Along,
    /// For each product, which matrix and which vector it takes.
    pub batch: Vec<[usize; 2]>,
    /// The result's type.
    pub dtype: DType,
    /// The threads that share the work.
    pub threads: usize,
}

impl Kernel for VectorProduct {
    fn scratch(&self) -> usize {
        self.thread_scratch().saturating_mul(self.threads).div_ceil(2)
    }

    fn run(&self, operands: Sources<'_>, result: &mut [u8], scratch: &mut [f64], threads: &Threads) {
        let scratch: &mut [f32] = bytemuck::cast_slice_mut(scratch);
        match self.dtype {
            DType::Fp16 => self.each::<f16>(operands, bytemuck::cast_slice_mut(result), scratch, threads),
            _ => self.each::<f32>(operands, bytemuck::cast_slice_mut(result), scratch, threads),
        }
    }
}

/// A product's place in the batch, which matrix and which vector it takes, and where it goes.
type Item<'a, T> = (&'a [usize; 2], &'a mut [T]);

impl VectorProduct {
    /// Values of working memory of one thread: the vector, and along columns the sums and those of some rows, in fp32.
    fn thread_scratch(&self) -> usize {
        let sums = if self.along == Along::Columns { self.results.saturating_mul(2) } else { 0 };
        self.terms.saturating_add(sums)
    }

    fn each<T: Float>(
        &self,
        operands: Sources<'_>,
        result: &mut [T],
        scratch: &mut [f32],
        threads: &Threads,
    ) {
        let run = |(&[m, v], result): Item<'_, T>, scratch: &mut [f32], threads: (Arch, Option<&Threads>)| {
            let size = self.terms * self.results;
            let (vector, sums) = scratch[..self.thread_scratch()].split_at_mut(self.terms);
            match operands.floats(self.vector.operand, self.vector.dtype).from(v * self.terms) {
                Floats::F16(values) => f16::widen(&values[..self.terms], vector),
                Floats::F32(values) => f32::widen(&values[..self.terms], vector),
            }
            match operands.floats(self.matrix.operand, self.matrix.dtype).from(m * size) {
                Floats::F16(matrix) => self.one(&matrix[..size], vector, sums, result, threads),
                Floats::F32(matrix) => self.one(&matrix[..size], vector, sums, result, threads),
            }
        };
        let items = self.batch.iter().zip(result.chunks_exact_mut(self.results));
        let arch = threads.arch();
        if self.batch.len() < threads.count() || self.work() < LEAST_WORK {
            items.for_each(|item| run(item, scratch, (arch, Some(threads))));
        } else {
            let scratch = &mut scratch[..self.thread_scratch() * threads.count()];
            threads.drain(items, scratch, |item, scratch| run(item, scratch, (arch, None)));
        }
    }

    /// Multiply-adds of all products.
    fn work(&self) -> usize {
        self.terms.saturating_mul(self.results).saturating_mul(self.batch.len())
    }

    /// One product, whose rows threads share, if there are any.
    fn one<M: Float, T: Float>(
        &self,
        matrix: &[M],
        vector: &[f32],
        sums: &mut [f32],
        result: &mut [T],
        (arch, threads): (Arch, Option<&Threads>),
    ) {
        match self.along {
            Along::Rows => {
                let rows = |index: usize, result: &mut [T]| {
                    let rows = &matrix[index * ROWS * self.terms..][..result.len() * self.terms];
                    let mut sums = [0.0; ROWS];
                    let sums = &mut sums[..result.len()];
                    if !M::dots(arch, rows, vector, sums) {
                        dispatch(arch, Dots { rows, vector, sums });
                    }
                    T::round(sums, result);
                };
                match threads {
                    Some(threads) => threads.each_chunk(result, ROWS, self.terms, rows),
                    None => {
                        result.chunks_mut(ROWS).enumerate().for_each(|(index, result)| rows(index, result))
                    }
                }
            }
            Along::Columns => {
                let (sums, part) = sums.split_at_mut(self.results);
                combination(arch, matrix, vector, sums, part);
                T::round(sums, result);
            }
        }
    }
}

/// The sum of all rows, each times its element of the vector; `part` is working memory, as long as the sums.
fn combination<M: Float>(arch: Arch, rows: &[M], vector: &[f32], sums: &mut [f32], part: &mut [f32]) {
    sums.fill(0.0);
    // Long sums are added up from sums of some terms, as those of other products are.
    for (rows, vector) in rows.chunks(DEPTH * sums.len()).zip(vector.chunks(DEPTH)) {
        part.fill(0.0);
        if !M::combine(arch, rows, vector, part) {
            dispatch(arch, Combination { rows, vector, part });
        }
        sums.iter_mut().zip(&*part).for_each(|(sum, part)| *sum += part);
    }
}

/// The product of each row and the vector.
struct Dots<'a, M> {
    rows: &'a [M],
    vector: &'a [f32],
    sums: &'a mut [f32],
}

impl<M: Float> WithSimd for Dots<'_, M> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let mut buffer = [0.0; STRIP];
        for (row, sum) in self.rows.chunks_exact(self.vector.len()).zip(self.sums) {
            // Long sums are added up from sums of some terms, as those of other products are.
            let mut total = 0.0;
            for (row, vector) in row.chunks(STRIP).zip(self.vector.chunks(STRIP)) {
                let mut sums = [simd.splat_f32s(0.0); SUMS];
                let row = M::as_wide(row, &mut buffer[..row.len()]);
                let ((row, row_end), (vector, vector_end)) = (S::as_simd_f32s(row), S::as_simd_f32s(vector));
                for (row, vector) in row.chunks(SUMS).zip(vector.chunks(SUMS)) {
                    for ((sum, &row), &vector) in sums.iter_mut().zip(row).zip(vector) {
                        *sum = multiply_add(simd, row, vector, *sum);
                    }
                }
                let rest = row_end.iter().zip(vector_end).map(|(row, vector)| row * vector).sum::<f32>();
                let [a, b, c, d] = sums;
                let part = simd.add_f32s(simd.add_f32s(a, b), simd.add_f32s(c, d));
                total += simd.reduce_sum_f32s(part) + rest;
            }
            *sum = total;
        }
    }
}

/// Adds the rows, each times its element of the vector.
struct Combination<'a, M> {
    rows: &'a [M],
    vector: &'a [f32],
    part: &'a mut [f32],
}

impl<M: Float> WithSimd for Combination<'_, M> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Combination { rows, vector, part } = self;
        let mut buffer = [0.0; STRIP];
        for (row, &factor) in rows.chunks_exact(part.len()).zip(vector) {
            let factors = simd.splat_f32s(factor);
            for (row, part) in row.chunks(STRIP).zip(part.chunks_mut(STRIP)) {
                let row = M::as_wide(row, &mut buffer[..row.len()]);
                let ((row, row_end), (part, part_end)) = (S::as_simd_f32s(row), S::as_mut_simd_f32s(part));
                for (&row, sum) in row.iter().zip(part) {
                    *sum = multiply_add(simd, row, factors, *sum);
                }
                row_end.iter().zip(part_end).for_each(|(row, sum)| *sum += row * factor);
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::path::InstructionPath;

    fn numbers(count: usize, salt: usize) -> Vec<f32> {
        (0..count).map(|i| ((i * 7919 + salt * 104_729) % 2003) as f32 / 1024.0 - 1.0).collect()
    }

    /// Every element is within 4·10⁻⁶ of the sum of the terms' magnitudes, in f64.
    fn check(found: &[f32], term: impl Fn(usize, usize) -> f64, terms: usize, what: &str) {
        for (r, &found) in found.iter().enumerate() {
            let (sum, size) =
                (0..terms).map(|t| term(r, t)).fold((0.0, 0.0), |(s, m), x| (s + x, m + x.abs()));
            assert!(
                (f64::from(found) - sum).abs() <= 4e-6 * size,
                "{what}, {terms} terms, {r}: {found}, not {sum}"
            );
        }
    }

    #[test]
    fn sums_of_any_number_of_terms_on_every_path() {
        for path in InstructionPath::available() {
            let arch = path.instructions().unwrap().arch;
            for (terms, most) in
                [(1, 33), (7, 33), (64, 33), (255, 33), (256, 33), (257, 33), (1000, 33), (1 << 18, 1)]
            {
                for results in [1, 5, 16, 33].into_iter().filter(|&results| results <= most) {
                    let (matrix, vector) = (numbers(terms * results, 1), numbers(terms, 2));
                    let half: Vec<f16> = matrix.iter().map(|&x| f16::from_f32(x)).collect();
                    let product = |m: usize, t: usize| f64::from(matrix[m]) * f64::from(vector[t]);
                    let of_half = |m: usize, t: usize| half[m].to_f64() * f64::from(vector[t]);
                    let (mut sums, mut part) = (vec![7.0; results], vec![7.0; results]);
                    let what = path.name();
                    dispatch(arch, Dots { rows: &matrix, vector: &vector, sums: &mut sums });
                    check(&sums, |r, t| product(r * terms + t, t), terms, what);
                    dispatch(arch, Dots { rows: &half, vector: &vector, sums: &mut sums });
                    check(&sums, |r, t| of_half(r * terms + t, t), terms, what);
                    let by_halves = !matches!(path, InstructionPath::Neon | InstructionPath::Portable);
                    assert_eq!(f16::dots(arch, &half, &vector, &mut sums), by_halves);
                    check(&sums, |r, t| of_half(r * terms + t, t), terms, what);
                    combination(arch, &matrix, &vector, &mut sums, &mut part);
                    check(&sums, |r, t| product(t * results + r, t), terms, what);
                    combination(arch, &half, &vector, &mut sums, &mut part);
                    check(&sums, |r, t| of_half(t * results + r, t), terms, what);
                    part.fill(0.0);
                    if results * terms < 1000 {
                        dispatch(arch, Combination { rows: &half, vector: &vector, part: &mut part });
                        check(&part, |r, t| of_half(t * results + r, t), terms, what);
                    }
                }
            }
        }
    }
}
