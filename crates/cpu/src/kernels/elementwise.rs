//! Ops that compute each element of the result from one element of each operand.

use anemone_mil::ops::{OpError, Operand, Operands};
use anemone_mil::types::{DType, TensorType};
use bytemuck::Pod;
use half::f16;
use pulp::{Arch, Simd, WithSimd};

use super::broadcast::Broadcast;
use super::{Choice, Kernel};
use crate::element::{Float, is_float, larger, smaller};
use crate::memory::Sources;
use crate::threads::Threads;

/// Elements that are computed together, in memory that the first cache holds.
const BLOCK: usize = 1024;
/// Elements that a thread takes at a time.
pub(super) const CHUNK: usize = 8 * 1024;

/// The kernel for an op of two floating-point operands, and for `select`.
pub fn choose(
    name: &str,
    operands: &Operands<'_>,
    results: &[TensorType],
) -> Result<Option<Choice>, OpError> {
    let Some(result) = results.first() else { return Ok(None) };
    if name == "select" {
        let bind = |name| operands.bind::<Operand>(name, None);
        return Ok(select(bind("cond")?, bind("a")?, bind("b")?, result));
    }
    let (x, y): (Operand, Operand) = (operands.bind("x", None)?, operands.bind("y", None)?);
    if !is_float(x.dtype()) || x.dtype() != y.dtype() {
        return Ok(None);
    }
    Ok(match name {
        "add" => binary(x, y, result, 1, |x, y| x + y),
        "sub" => binary(x, y, result, 1, |x, y| x - y),
        "mul" => binary(x, y, result, 1, |x, y| x * y),
        "real_div" => binary(x, y, result, 1, |x, y| x / y),
        "maximum" => binary(x, y, result, 1, larger),
        "minimum" => binary(x, y, result, 1, smaller),
        // In fp32 the quotient could be rounded up to an integer that it does not reach.
        "floor_div" => binary(x, y, result, 4, |x, y| (f64::from(x) / f64::from(y)).floor() as f32),
        "pow" => binary(x, y, result, 40, |x, y| f64::from(x).powf(f64::from(y)) as f32),
        "equal" => relation(x, y, result, |x, y| x == y),
        "not_equal" => relation(x, y, result, |x, y| x != y),
        "less" => relation(x, y, result, |x, y| x < y),
        "less_equal" => relation(x, y, result, |x, y| x <= y),
        "greater" => relation(x, y, result, |x, y| x > y),
        "greater_equal" => relation(x, y, result, |x, y| x >= y),
        _ => None,
    })
}

/// The walk of operands through a result of known dimensions.
fn walk(operands: &[&Operand], result: &TensorType) -> Option<Broadcast> {
    let dims = result.shape.to_known()?;
    let own: Option<Vec<Vec<usize>>> = operands.iter().map(|operand| operand.shape().to_known()).collect();
    Some(Broadcast::new(&dims, &own?))
}

fn binary<F>(x: Operand, y: Operand, result: &TensorType, work: usize, function: F) -> Option<Choice>
where
    F: Fn(f32, f32) -> f32 + Copy + Send + Sync + 'static,
{
    let walk = walk(&[&x, &y], result)?;
    Some(Choice::kernel(Binary { walk, dtype: x.dtype(), work, function }, vec![x, y]))
}

fn relation<F>(x: Operand, y: Operand, result: &TensorType, holds: F) -> Option<Choice>
where
    F: Fn(f32, f32) -> bool + Copy + Send + Sync + 'static,
{
    let walk = walk(&[&x, &y], result)?;
    Some(Choice::kernel(Relation { walk, dtype: x.dtype(), holds }, vec![x, y]))
}

fn select(cond: Operand, a: Operand, b: Operand, result: &TensorType) -> Option<Choice> {
    if !matches!(result.dtype, DType::Fp16 | DType::Fp32 | DType::Int32) || a.dtype() != b.dtype() {
        return None;
    }
    let walk = walk(&[&cond, &a, &b], result)?;
    Some(Choice::kernel(Select { walk, dtype: result.dtype }, vec![cond, a, b]))
}

/// `function(x, y)` for each pair of elements.
struct Binary<F> {
    walk: Broadcast,
    dtype: DType,
    /// Work of one element, in simple arithmetic steps.
    work: usize,
    function: F,
}

/// Widens elements into a block; a single one fills it.
fn fill<T: Float>(values: &[T], block: &mut [f32]) {
    if let [value] = values {
        let mut wide = [0.0];
        T::widen(std::slice::from_ref(value), &mut wide);
        block.fill(wide[0]);
    } else {
        T::widen(values, block);
    }
}

/// Replaces each `x` by `function(x, y)`, with the processor's vectors.
struct Apply<'a, F> {
    x: &'a mut [f32],
    y: &'a [f32],
    function: F,
}

impl<F: Fn(f32, f32) -> f32> WithSimd for Apply<'_, F> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        for (x, &y) in self.x.iter_mut().zip(self.y) {
            *x = (self.function)(*x, y);
        }
    }
}

impl<F: Fn(f32, f32) -> f32 + Copy + Send + Sync> Binary<F> {
    fn compute<T: Float>(&self, operands: Sources<'_>, result: &mut [T], threads: &Threads) {
        let (x, y) = (operands.values::<T>(0), operands.values::<T>(1));
        threads.each_chunk(result, CHUNK, self.work, |index, result| {
            self.compute_chunk(x, y, index * CHUNK, result, threads.arch());
        });
    }

    fn compute_chunk<T: Float>(&self, x: &[T], y: &[T], first: usize, result: &mut [T], arch: Arch) {
        let (mut x_block, mut y_block) = ([0.0; BLOCK], [0.0; BLOCK]);
        self.walk.parts(first, result.len(), BLOCK, |start, length| {
            let (x_block, y_block) = (&mut x_block[..length], &mut y_block[..length]);
            fill(self.walk.slice(0, x, first + start, length), x_block);
            fill(self.walk.slice(1, y, first + start, length), y_block);
            arch.dispatch(Apply { x: x_block, y: y_block, function: self.function });
            T::round(x_block, &mut result[start..start + length]);
        });
    }
}

impl<F: Fn(f32, f32) -> f32 + Copy + Send + Sync> Kernel for Binary<F> {
    fn run(&self, operands: Sources<'_>, result: &mut [u8], _: &mut [f64], threads: &Threads) {
        match self.dtype {
            DType::Fp16 => self.compute::<f16>(operands, bytemuck::cast_slice_mut(result), threads),
            _ => self.compute::<f32>(operands, bytemuck::cast_slice_mut(result), threads),
        }
    }
}

/// Whether `holds(x, y)` for each pair of elements, as a byte.
struct Relation<F> {
    walk: Broadcast,
    dtype: DType,
    holds: F,
}

impl<F: Fn(f32, f32) -> bool + Copy + Send + Sync> Relation<F> {
    fn compute<T: Float>(&self, operands: Sources<'_>, result: &mut [u8], threads: &Threads) {
        let (x, y) = (operands.values::<T>(0), operands.values::<T>(1));
        threads.each_chunk(result, CHUNK, 1, |index, result| {
            let (mut x_block, mut y_block) = ([0.0; BLOCK], [0.0; BLOCK]);
            let first = index * CHUNK;
            self.walk.parts(first, result.len(), BLOCK, |start, length| {
                let (x_block, y_block) = (&mut x_block[..length], &mut y_block[..length]);
                fill(self.walk.slice(0, x, first + start, length), x_block);
                fill(self.walk.slice(1, y, first + start, length), y_block);
                let pairs = x_block.iter().zip(&*y_block);
                for (to, (&x, &y)) in result[start..start + length].iter_mut().zip(pairs) {
                    *to = u8::from((self.holds)(x, y));
                }
            });
        });
    }
}

impl<F: Fn(f32, f32) -> bool + Copy + Send + Sync> Kernel for Relation<F> {
    fn run(&self, operands: Sources<'_>, result: &mut [u8], _: &mut [f64], threads: &Threads) {
        match self.dtype {
            DType::Fp16 => self.compute::<f16>(operands, result, threads),
            _ => self.compute::<f32>(operands, result, threads),
        }
    }
}

/// `a` where `cond` holds, else `b`.
struct Select {
    walk: Broadcast,
    dtype: DType,
}

impl Select {
    fn compute<T: Pod + Send + Sync>(&self, operands: Sources<'_>, result: &mut [T], threads: &Threads) {
        let (cond, a, b) = (operands.values::<u8>(0), operands.values::<T>(1), operands.values::<T>(2));
        let at = |part: &[T], i: usize| part[if part.len() == 1 { 0 } else { i }];
        threads.each_chunk(result, CHUNK, 1, |index, result| {
            let first = index * CHUNK;
            self.walk.parts(first, result.len(), usize::MAX, |start, length| {
                let cond = self.walk.slice(0, cond, first + start, length);
                let a = self.walk.slice(1, a, first + start, length);
                let b = self.walk.slice(2, b, first + start, length);
                for (i, to) in result[start..start + length].iter_mut().enumerate() {
                    let chosen = cond[if cond.len() == 1 { 0 } else { i }] != 0;
                    *to = if chosen { at(a, i) } else { at(b, i) };
                }
            });
        });
    }
}

impl Kernel for Select {
    fn run(&self, operands: Sources<'_>, result: &mut [u8], _: &mut [f64], threads: &Threads) {
        match self.dtype {
            DType::Fp16 => self.compute::<u16>(operands, bytemuck::cast_slice_mut(result), threads),
            _ => self.compute::<u32>(operands, bytemuck::cast_slice_mut(result), threads),
        }
    }
}
