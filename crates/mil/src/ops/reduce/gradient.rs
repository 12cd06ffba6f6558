//! Gradients of the reductions.

use super::{
    Reduce, ReduceL1Norm, ReduceL2Norm, ReduceLogSum, ReduceLogSumExp, ReduceMax, ReduceMean, ReduceMin,
    ReduceProd, ReduceSum, ReduceSumSquare, Reduction,
};
use crate::grad::{Pullback, lengths};
use crate::ops::{OpError, Operand, call};
use crate::program::ValueId;

/// A value of the shape of a row's result with the reduced axes kept, so that it broadcasts with `x`.
fn kept<R: Reduce>(row: &R, pullback: &mut Pullback<'_>, y: ValueId) -> Result<ValueId, OpError> {
    let axes = reduced(row)?;
    if row.keep_dims() || axes.is_empty() {
        return Ok(y);
    }
    pullback.bind(call::expand_dims(y, axes))
}

/// The reduced axes, as programs write them.
fn reduced<R: Reduce>(row: &R) -> Result<Vec<i32>, OpError> {
    lengths(&row.axes()?)
}

/// The number of elements that fall to each result.
fn count<R: Reduce>(row: &R, pullback: &Pullback<'_>) -> Result<usize, OpError> {
    let dims = pullback.dims(row.x())?;
    Ok(row.axes()?.iter().map(|&axis| dims[axis]).product())
}

/// A value in an element type that holds every whole number up to `count`.
fn holding(pullback: &mut Pullback<'_>, x: ValueId, count: usize) -> Result<ValueId, OpError> {
    if count > 1 << 11 { pullback.widen(x) } else { Ok(x) }
}

/// `dx = dy`.
pub(super) fn reduce_sum(row: &ReduceSum, pullback: &mut Pullback<'_>) -> Result<(), OpError> {
    let dy = pullback.dy()?;
    let dy = kept(row, pullback, dy)?;
    let dims = pullback.dims(&row.x)?;
    let dx = pullback.broadcast(dy, &dims)?;
    pullback.give(&row.x, dx)
}

/// `dx = dy / n`.
pub(super) fn reduce_mean(row: &ReduceMean, pullback: &mut Pullback<'_>) -> Result<(), OpError> {
    let dy = pullback.dy()?;
    let (dy, n) = (kept(row, pullback, dy)?, count(row, pullback)?);
    let dy = holding(pullback, dy, n)?;
    let each = pullback.bind(call::real_div(dy, n as f64))?;
    let dims = pullback.dims(&row.x)?;
    let dx = pullback.broadcast(each, &dims)?;
    pullback.give(&row.x, dx)
}

/// `dx = 2x · dy`.
pub(super) fn reduce_sum_square(row: &ReduceSumSquare, pullback: &mut Pullback<'_>) -> Result<(), OpError> {
    let dy = pullback.dy()?;
    let dy = kept(row, pullback, dy)?;
    pullback.give(&row.x, call::mul(call::mul(dy, &row.x), 2.0))
}

/// `dx = sign(x) · dy`.
pub(super) fn reduce_l1_norm(row: &ReduceL1Norm, pullback: &mut Pullback<'_>) -> Result<(), OpError> {
    let dy = pullback.dy()?;
    let dy = kept(row, pullback, dy)?;
    pullback.give(&row.x, call::mul(call::sign(&row.x), dy))
}

/// `dx = x · dy / y`, and 0 where y is.
pub(super) fn reduce_l2_norm(row: &ReduceL2Norm, pullback: &mut Pullback<'_>) -> Result<(), OpError> {
    let (dy, y) = (pullback.dy()?, pullback.y());
    let (dy, y) = (kept(row, pullback, dy)?, kept(row, pullback, y)?);
    let slope = over_norm(pullback, dy, y)?;
    pullback.give(&row.x, call::mul(&row.x, slope))
}

/// `dy / y` for a root `y` of a sum of squares, and 0 where it is 0.
pub(in crate::ops) fn over_norm(
    pullback: &mut Pullback<'_>,
    dy: ValueId,
    y: ValueId,
) -> Result<ValueId, OpError> {
    let nothing = pullback.bind(call::equal(y, 0.0))?;
    let divisor = call::select(nothing, 1.0, y);
    pullback.bind(call::select(nothing, 0.0, call::real_div(dy, divisor)))
}

/// `dx = dy / Σ x`, whose sum fp16 may not hold.
pub(super) fn reduce_log_sum(row: &ReduceLogSum, pullback: &mut Pullback<'_>) -> Result<(), OpError> {
    let (dy, axes) = (pullback.dy()?, reduced(row)?);
    let dy = kept(row, pullback, dy)?;
    let (dy, x) = (pullback.widen(dy)?, pullback.widen(&row.x)?);
    let each = match axes.is_empty() {
        true => pullback.bind(call::real_div(dy, x))?,
        false => pullback.bind(call::real_div(dy, call::reduce_sum(x).axes(axes).keep_dims(true)))?,
    };
    let dims = pullback.dims(&row.x)?;
    let dx = pullback.broadcast(each, &dims)?;
    pullback.give(&row.x, dx)
}

/// `dy`, shared evenly by the elements of `x` that are equal to the result.
fn extremum<R: Reduce>(row: &R, x: &Operand, pullback: &mut Pullback<'_>) -> Result<(), OpError> {
    let (dy, y) = (pullback.dy()?, pullback.y());
    let (dy, y) = (kept(row, pullback, dy)?, kept(row, pullback, y)?);
    let (n, axes) = (count(row, pullback)?, reduced(row)?);
    let dy = holding(pullback, dy, n)?;
    let dtype = pullback.ty(dy)?.dtype;
    let is_y = pullback.bind(call::cast(call::equal(x, y), dtype.name()))?;
    let ties = call::reduce_sum(is_y).axes(axes).keep_dims(true);
    pullback.give(x, call::mul(is_y, call::real_div(dy, ties)))
}

/// `dx = dy · [x = y] / Σ [x = y]`.
pub(super) fn reduce_max(row: &ReduceMax, pullback: &mut Pullback<'_>) -> Result<(), OpError> {
    extremum(row, &row.x, pullback)
}

/// `dx = dy · [x = y] / Σ [x = y]`.
pub(super) fn reduce_min(row: &ReduceMin, pullback: &mut Pullback<'_>) -> Result<(), OpError> {
    extremum(row, &row.x, pullback)
}

/// `dx = dy · p` with `p = exp(x − y)`, whose sum is 1 but for the rounding of `y`: dividing by it takes that out.
pub(super) fn reduce_log_sum_exp(row: &ReduceLogSumExp, pullback: &mut Pullback<'_>) -> Result<(), OpError> {
    let (dy, y) = (pullback.dy()?, pullback.y());
    let (dy, y) = (kept(row, pullback, dy)?, kept(row, pullback, y)?);
    let axes = reduced(row)?;
    let p = match axes[..] {
        [axis] => pullback.bind(call::softmax(&row.x).axis(axis))?,
        _ => {
            let p = pullback.bind(call::exp(call::sub(&row.x, y)))?;
            let sum = call::reduce_sum(p).axes(axes).keep_dims(true);
            pullback.bind(call::real_div(p, sum))?
        }
    };
    pullback.give(&row.x, call::mul(dy, p))
}

/// `dx_i = dy · Π_{j≠i} x_j`.
pub(super) fn reduce_prod(row: &ReduceProd, pullback: &mut Pullback<'_>) -> Result<(), OpError> {
    let (dims, mut order) = (pullback.dims(&row.x)?, row.axes()?);
    let n = count(row, pullback)?;
    if dims.contains(&0) {
        return Ok(());
    }
    // The reduced axes last.
    let others: Vec<usize> = (0..dims.len()).filter(|axis| !order.contains(axis)).collect();
    order.splice(0..0, others);
    let ordered: Vec<usize> = order.iter().map(|&axis| dims[axis]).collect();
    let matrix = [ordered.iter().product::<usize>() / n, n];
    let x = pullback.widen(&row.x)?;
    let x = pullback.transpose(x, &order)?;
    let x = pullback.reshape(x, &matrix)?;
    let dy = pullback.dy()?;
    let dy = pullback.widen(dy)?;
    let dy = pullback.reshape(dy, &[matrix[0], 1])?;
    let gradient = other_factors(pullback, x, dy, n)?;
    let gradient = pullback.reshape(gradient, &ordered)?;
    let mut back = vec![0; order.len()];
    order.iter().enumerate().for_each(|(to, &from)| back[from] = to);
    let dx = pullback.transpose(gradient, &back)?;
    pullback.give(&row.x, dx)
}

/// For each of `n` factors in a row of `x`, the product of the others and `dy [*, 1]`.
///
/// Factors are multiplied in pairs, level by level, and on the way back each takes its partner: nothing is divided, so
/// that zeros need no care, and second derivatives are right at them.
fn other_factors(pullback: &mut Pullback<'_>, x: ValueId, dy: ValueId, n: usize) -> Result<ValueId, OpError> {
    if n == 1 {
        return Ok(dy);
    }
    let even = match n % 2 {
        0 => x,
        _ => pullback.bind(call::pad(x, [0, 1]).constant_val(1.0))?,
    };
    let halves = pullback.bind_all(2, call::split(even, 1).num_splits(2))?;
    let products = pullback.bind(call::mul(halves[0], halves[1]))?;
    let others = other_factors(pullback, products, dy, n.div_ceil(2))?;
    let both = [call::mul(others, halves[1]), call::mul(others, halves[0])];
    let both = pullback.bind(call::concat(both, 1))?;
    match n % 2 {
        0 => Ok(both),
        _ => pullback.bind(call::slice_by_size(both, [0, 0], [-1, i32::try_from(n).unwrap_or(-1)])),
    }
}
