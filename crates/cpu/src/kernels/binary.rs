//! Ops of two floating-point operands, and `select`.

use std::sync::Arc;

use anemone_mil::ops::{OpError, Operand, Operands};
use anemone_mil::types::{DType, Dim, TensorType};
use bytemuck::Pod;
use half::f16;
use pulp::{Simd, WithSimd};

use super::broadcast::Broadcast;
use super::elementwise::{CHUNK, StripFunction, Two};
use super::power::power;
use super::{Choice, Kernel};
use crate::element::{Float, is_float, larger, smaller};
use crate::memory::Sources;
use crate::threads::Threads;

/// The kernel for an op of two floating-point operands, and for `select`.
pub(super) fn binary(
    name: &str,
    operands: &Operands<'_>,
    results: &[TensorType],
) -> Result<Option<Choice>, OpError> {
    let Some(result) = results.first() else { return Ok(None) };
    if name == "select" {
        let bind = |name| operands.bind::<Operand>(name, None);
        return Ok(select(bind("cond")?, bind("a")?, bind("b")?, result));
    }
    let second = if name == "threshold" { "alpha" } else { "y" };
    let (x, y): (Operand, Operand) = (operands.bind("x", None)?, operands.bind(second, None)?);
    if !is_float(x.dtype()) || x.dtype() != y.dtype() {
        return Ok(None);
    }
    let function: Arc<dyn StripFunction> = match name {
        "add" => Arc::new(Two(|x, y| x + y)),
        "sub" => Arc::new(Two(|x, y| x - y)),
        "mul" => Arc::new(Two(|x, y| x * y)),
        "real_div" => Arc::new(Two(|x, y| x / y)),
        "maximum" | "threshold" => Arc::new(Two(larger)),
        "minimum" => Arc::new(Two(smaller)),
        // In fp32 the quotient could be rounded up to an integer that it does not reach.
        "floor_div" => Arc::new(Two(|x, y| (f64::from(x) / f64::from(y)).floor() as f32)),
        "mod" => Arc::new(Two(|x, y| modulo(f64::from(x), f64::from(y)) as f32)),
        "pow" => power(&y),
        "equal" => return Ok(relation(x, y, result, |x, y| x == y)),
        "not_equal" => return Ok(relation(x, y, result, |x, y| x != y)),
        "less" => return Ok(relation(x, y, result, |x, y| x < y)),
        "less_equal" => return Ok(relation(x, y, result, |x, y| x <= y)),
        "greater" => return Ok(relation(x, y, result, |x, y| x > y)),
        "greater_equal" => return Ok(relation(x, y, result, |x, y| x >= y)),
        _ => return Ok(None),
    };
    Ok(Some(Choice::Elementwise(function, vec![x, y])))
}

/// `prelu`, whose parameter broadcasts once it has a dimension for each of `x` from the channels on.
pub(super) fn prelu(operands: &Operands<'_>) -> Result<Option<Choice>, OpError> {
    let (x, mut alpha): (Operand, Operand) = (operands.bind("x", None)?, operands.bind("alpha", None)?);
    if !is_float(x.dtype()) || !is_float(alpha.dtype()) || x.rank() < 2 {
        return Ok(None);
    }
    alpha.ty.shape.0.resize(x.rank() - 1, Dim::Known(1));
    let function = Arc::new(Two(|x, alpha| if x > 0.0 { x } else { alpha * x }));
    Ok(Some(Choice::Elementwise(function, vec![x, alpha])))
}

/// `x − y · ⌊x / y⌋`. The remainder is exact, but has the sign of `x`, and its sum with `y` is not rounded to less than fp64.
#[inline(always)]
fn modulo(x: f64, y: f64) -> f64 {
    let rest = x % y;
    if rest == 0.0 {
        0f64.copysign(y)
    } else if (rest < 0.0) != (y < 0.0) {
        rest + y
    } else {
        rest
    }
}

/// The walk of operands through a result of known dimensions.
fn walk(operands: &[&Operand], result: &TensorType) -> Option<Broadcast> {
    let dims = result.shape.to_known()?;
    let own: Option<Vec<Vec<usize>>> = operands.iter().map(|operand| operand.shape().to_known()).collect();
    Some(Broadcast::new(&dims, &own?))
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

/// Writes whether `holds(x, y)` for each pair, as a byte, with the processor's vectors; a single `x` or `y` repeats.
struct Apply<'a, T, F> {
    x: &'a [T],
    y: &'a [T],
    result: &'a mut [u8],
    holds: F,
}

impl<T: Float, F: Fn(f32, f32) -> bool> WithSimd for Apply<'_, T, F> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Apply { x, y, result, holds } = self;
        match (x, y) {
            ([x], y) => {
                let x = x.wide();
                result.iter_mut().zip(y).for_each(|(result, y)| *result = u8::from(holds(x, y.wide())));
            }
            (x, [y]) => {
                let y = y.wide();
                result.iter_mut().zip(x).for_each(|(result, x)| *result = u8::from(holds(x.wide(), y)));
            }
            _ => {
                for (result, (x, y)) in result.iter_mut().zip(x.iter().zip(y)) {
                    *result = u8::from(holds(x.wide(), y.wide()));
                }
            }
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
            let first = index * CHUNK;
            // Along a run, at least one of the two moves, unless there is one element only.
            self.walk.parts(first, result.len(), |start, place, length| {
                let x = self.walk.slice(0, x, place, length);
                let y = self.walk.slice(1, y, place, length);
                let result = &mut result[start..start + length];
                threads.arch().dispatch(Apply { x, y, result, holds: self.holds });
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
            self.walk.parts(first, result.len(), |start, place, length| {
                let cond = self.walk.slice(0, cond, place, length);
                let a = self.walk.slice(1, a, place, length);
                let b = self.walk.slice(2, b, place, length);
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
