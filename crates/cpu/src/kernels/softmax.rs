//! Softmax along any axis.
//!
//! The operand is `[outer, axis, inner]`. Where `inner` is 1, each row of the axis is a run of memory.
//! Otherwise rows are `inner` neighbours, and the axis is cut into groups of rows: each group finds the
//! largest value and the sum of exponentials of every column, the groups' findings are merged in order, and
//! a second pass writes the results. Memory is read in order, and sums do not depend on threads.

use anemone_mil::ops::{OpError, Operands, Row, Softmax};
use anemone_mil::types::DType;
use half::f16;
use pulp::{Arch, Simd, WithSimd};

use super::{Choice, Kernel};
use crate::element::{Float, exp_difference, is_float, larger};
use crate::memory::Sources;
use crate::threads::Threads;

/// Columns that are computed together.
const BLOCK: usize = 256;
/// Rows of a group.
const GROUP: usize = 64;

pub fn choose(operands: &Operands<'_>) -> Result<Option<Choice>, OpError> {
    let row = Softmax::bind(operands)?;
    let Some(dims) = row.x.shape().to_known().filter(|_| is_float(row.x.dtype())) else { return Ok(None) };
    let axis = if row.axis < 0 { i64::from(row.axis) + dims.len() as i64 } else { i64::from(row.axis) };
    let Some(axis) = usize::try_from(axis).ok().filter(|&axis| axis < dims.len()) else { return Ok(None) };
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

/// What a group of rows, or all rows, found in one column: the largest value m, and Σ exp(x − m).
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
struct Column {
    sum: f64,
    /// The largest value, twice, for the size of two f64.
    largest: [f32; 2],
}

const NOTHING: Column = Column { sum: 0.0, largest: [f32::NEG_INFINITY; 2] };

impl Column {
    fn largest(self) -> f32 {
        self.largest[0]
    }

    /// What both found together.
    fn merge(self, other: Column) -> Column {
        let largest = larger(self.largest(), other.largest());
        let scaled = |column: Column| {
            // A group of −∞ alone found no sum to speak of: 0 beside a finite value.
            if column.largest() == f32::NEG_INFINITY && largest != f32::NEG_INFINITY {
                0.0
            } else {
                column.sum * (f64::from(column.largest()) - f64::from(largest)).exp()
            }
        };
        Column { sum: scaled(self) + scaled(other), largest: [largest; 2] }
    }
}

impl SoftmaxKernel {
    fn groups(&self) -> usize {
        self.axis.div_ceil(GROUP)
    }

    fn compute<T: Float>(&self, x: &[T], result: &mut [T], scratch: &mut [f64], threads: &Threads) {
        if self.inner == 1 {
            return threads.each_chunk(result, self.axis, 16, |index, result| {
                row_softmax(&x[index * self.axis..][..self.axis], result, threads.arch());
            });
        }
        let columns: &mut [Column] = bytemuck::cast_slice_mut(scratch);
        let (found, merged) = columns.split_at_mut(self.outer * self.groups() * self.inner);
        threads.each_chunk(found, self.inner, 8 * GROUP, |index, found| {
            let (outer, group) = (index / self.groups(), index % self.groups());
            let first = outer * self.axis + group * GROUP;
            let rows = GROUP.min(self.axis - group * GROUP);
            let x = &x[first * self.inner..(first + rows) * self.inner];
            self.find(x, found, threads.arch());
        });
        let found = &*found;
        for (outer, merged) in merged.chunks_exact_mut(self.inner).enumerate() {
            merged.fill(NOTHING);
            let found = &found[outer * self.groups() * self.inner..][..self.groups() * self.inner];
            for group in found.chunks_exact(self.inner) {
                merged.iter_mut().zip(group).for_each(|(all, one)| *all = all.merge(*one));
            }
        }
        let merged = &*merged;
        threads.each_chunk(result, self.inner, 8, |row, result| {
            let x = &x[row * self.inner..][..self.inner];
            let columns = &merged[row / self.axis * self.inner..][..self.inner];
            let mut block = [0.0; BLOCK];
            for ((x, result), columns) in
                x.chunks(BLOCK).zip(result.chunks_mut(BLOCK)).zip(columns.chunks(BLOCK))
            {
                let block = &mut block[..x.len()];
                T::widen(x, block);
                threads.arch().dispatch(Finish { values: block, columns });
                T::round(block, result);
            }
        });
    }

    /// What the rows of a group find.
    fn find<T: Float>(&self, x: &[T], found: &mut [Column], arch: Arch) {
        for (index, found) in found.chunks_mut(BLOCK).enumerate() {
            let (mut block, mut largest, mut sums) = ([0.0; BLOCK], [f32::NEG_INFINITY; BLOCK], [0.0; BLOCK]);
            let (block, largest) = (&mut block[..found.len()], &mut largest[..found.len()]);
            let columns = index * BLOCK..index * BLOCK + found.len();
            for row in x.chunks_exact(self.inner) {
                T::widen(&row[columns.clone()], block);
                largest.iter_mut().zip(&*block).for_each(|(largest, &x)| *largest = larger(*largest, x));
            }
            for row in x.chunks_exact(self.inner) {
                T::widen(&row[columns.clone()], block);
                arch.dispatch(AddExponentials { values: block, largest, sums: &mut sums[..found.len()] });
            }
            for ((found, &largest), &sum) in found.iter_mut().zip(&*largest).zip(&sums) {
                *found = Column { sum, largest: [largest; 2] };
            }
        }
    }
}

/// Adds exp(x − m) of each column to its sum.
struct AddExponentials<'a> {
    values: &'a [f32],
    largest: &'a [f32],
    sums: &'a mut [f64],
}

impl WithSimd for AddExponentials<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        for ((sum, &x), &largest) in self.sums.iter_mut().zip(self.values).zip(self.largest) {
            *sum += f64::from(exp_difference(x, largest));
        }
    }
}

/// Replaces each x by exp(x − m) / Σ.
struct Finish<'a> {
    values: &'a mut [f32],
    columns: &'a [Column],
}

impl WithSimd for Finish<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        for (x, column) in self.values.iter_mut().zip(self.columns) {
            *x = exp_difference(*x, column.largest[0]) / column.sum as f32;
        }
    }
}

/// Partial sums of a row, so that its additions do not wait for each other.
const LANES: usize = 8;

/// Replaces each x by exp(x − m), and adds up those at the same position of every [`LANES`] values.
struct Exponentials<'a> {
    values: &'a mut [f32],
    largest: f32,
    sums: &'a mut [f64; LANES],
}

impl WithSimd for Exponentials<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        for values in self.values.chunks_mut(LANES) {
            for (x, sum) in values.iter_mut().zip(self.sums.iter_mut()) {
                *x = exp_difference(*x, self.largest);
                *sum += f64::from(*x);
            }
        }
    }
}

/// Softmax of neighbours in memory.
fn row_softmax<T: Float>(x: &[T], result: &mut [T], arch: Arch) {
    let mut block = [0.0; BLOCK];
    let mut largest = f32::NEG_INFINITY;
    for x in x.chunks(BLOCK) {
        let block = &mut block[..x.len()];
        T::widen(x, block);
        largest = block.iter().fold(largest, |largest, &x| larger(largest, x));
    }
    let mut sums = [0.0; LANES];
    for x in x.chunks(BLOCK) {
        let block = &mut block[..x.len()];
        T::widen(x, block);
        arch.dispatch(Exponentials { values: block, largest, sums: &mut sums });
    }
    let sum = sums.iter().sum::<f64>() as f32;
    let mut ignored = [0.0; LANES];
    for (x, result) in x.chunks(BLOCK).zip(result.chunks_mut(BLOCK)) {
        let block = &mut block[..x.len()];
        T::widen(x, block);
        arch.dispatch(Exponentials { values: block, largest, sums: &mut ignored });
        block.iter_mut().for_each(|x| *x /= sum);
        T::round(block, result);
    }
}

impl Kernel for SoftmaxKernel {
    fn scratch(&self) -> usize {
        if self.inner == 1 {
            return 0;
        }
        let columns = self.outer.saturating_mul(self.groups() + 1).saturating_mul(self.inner);
        columns.saturating_mul(size_of::<Column>() / size_of::<f64>())
    }

    fn run(&self, operands: Sources<'_>, result: &mut [u8], scratch: &mut [f64], threads: &Threads) {
        let scratch = &mut scratch[..self.scratch()];
        match self.dtype {
            DType::Fp16 => {
                self.compute::<f16>(operands.values(0), bytemuck::cast_slice_mut(result), scratch, threads);
            }
            _ => self.compute::<f32>(operands.values(0), bytemuck::cast_slice_mut(result), scratch, threads),
        }
    }
}
