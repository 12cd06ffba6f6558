//! What many type rules and meanings share: broadcasting, axes, and walking over elements.

use crate::error::ErrorKind;
use crate::grad::Pullback;
use crate::ops::{OpError, Operand, Row};
use crate::types::{Dim, Shape, TensorType};

/// The result has the type of the first operand.
pub(super) fn same_as_first<R: Row>(row: &R) -> Result<Vec<TensorType>, OpError> {
    first(row).map(|operand| vec![operand.ty.clone()])
}

/// The gradient of an op that is constant between its steps: zeros, which what nothing is given to has.
pub(super) fn flat<R>(_: &R, _: &mut Pullback<'_>) -> Result<(), OpError> {
    Ok(())
}

/// The floating-point operations of an op that only moves data.
pub(super) fn free<R>(_: &R) -> Option<u64> {
    Some(0)
}

/// `FACTOR` floating-point operations for each element of the first operand.
pub(super) fn per_element<R: Row, const FACTOR: u64>(row: &R) -> Option<u64> {
    first(row).ok()?.shape().elements()?.checked_mul(FACTOR)
}

/// The first operand of a row.
pub(super) fn first<R: Row>(row: &R) -> Result<&Operand, OpError> {
    row.operands()
        .first()
        .copied()
        .ok_or_else(|| OpError::new(ErrorKind::MissingParameter, None, "the op needs at least one operand"))
}

/// The shape that two shapes broadcast to, aligned at their last dimensions.
///
/// A `?` against a known length over 1 gives that length; against 1 or `?` it stays open.
pub(crate) fn broadcast(a: &Shape, b: &Shape) -> Option<Shape> {
    let rank = a.rank().max(b.rank());
    let dim_at = |shape: &Shape, i: usize| match (i + shape.rank()).checked_sub(rank) {
        Some(position) => shape.0[position],
        None => Dim::Known(1),
    };
    let dims = (0..rank).map(|i| match (dim_at(a, i), dim_at(b, i)) {
        (Dim::Known(1), other) | (other, Dim::Known(1)) => Some(other),
        (Dim::Unknown, other) | (other, Dim::Unknown) => Some(other),
        (x, y) => (x == y).then_some(x),
    });
    dims.collect::<Option<_>>().map(Shape)
}

/// As [`broadcast`], refusing with both shapes.
pub(super) fn broadcast_operands(x: &Operand, y: &Operand, y_name: &str) -> Result<Shape, OpError> {
    broadcast(x.shape(), y.shape()).ok_or_else(|| {
        OpError::rule(y_name, format!("{} and {} do not broadcast together", x.shape(), y.shape()))
            .found("each pair of dimensions must be equal, or one of them 1")
    })
}

/// An axis as a position: negative ones count from the last dimension.
pub(super) fn axis(parameter: &str, axis: i32, rank: usize) -> Result<usize, OpError> {
    let position = if axis < 0 { i64::from(axis) + rank as i64 } else { i64::from(axis) };
    usize::try_from(position).ok().filter(|&position| position < rank).ok_or_else(|| {
        let error = OpError::rule(parameter, format!("axis {axis} is out of range for rank {rank}"));
        if rank == 0 {
            error.found("a scalar has no axes")
        } else {
            error.found(format!("expected {} to {}", -(rank as i64), rank - 1))
        }
    })
}

/// Axes as positions, each at most once.
pub(super) fn axes(parameter: &str, given: &[i32], rank: usize) -> Result<Vec<usize>, OpError> {
    let mut seen = vec![false; rank];
    let mut positions = Vec::with_capacity(given.len());
    for &one in given {
        let position = axis(parameter, one, rank)?;
        if std::mem::replace(&mut seen[position], true) {
            let error = OpError::rule(parameter, format!("axis {one} is given twice"));
            return Err(error.found(format!("found {given:?}")));
        }
        positions.push(position);
    }
    Ok(positions)
}

/// The dimensions of a result, which the run has accepted before it asks for the meaning.
pub(super) fn known_dims(shape: &Shape) -> Result<Vec<usize>, OpError> {
    shape.to_known().ok_or_else(|| {
        OpError::new(ErrorKind::Malformed, None, "the shape of a result is not known while running")
    })
}

/// Distance between neighbours along each dimension of a row-major tensor, in elements.
pub(crate) fn strides(dims: &[usize]) -> Vec<usize> {
    let mut strides = vec![1usize; dims.len()];
    for i in (1..dims.len()).rev() {
        strides[i - 1] = strides[i].saturating_mul(dims[i]);
    }
    strides
}

/// For each element of a `dims` tensor in row-major order, the sum of its coordinates times `steps`, plus
/// `start`: the flat positions that reading with those steps visits.
fn positions(dims: &[usize], start: isize, steps: &[isize]) -> Vec<usize> {
    let count = dims.iter().product();
    let mut all = Vec::with_capacity(count);
    let mut coordinates = vec![0usize; dims.len()];
    let mut position = start;
    for _ in 0..count {
        all.push(position as usize);
        for i in (0..dims.len()).rev() {
            coordinates[i] += 1;
            position += steps[i];
            if coordinates[i] < dims[i] {
                break;
            }
            position -= steps[i] * dims[i] as isize;
            coordinates[i] = 0;
        }
    }
    all
}

/// For each element of a tensor of shape `to`, the position of the element of a tensor of shape `from` that
/// broadcasting repeats there.
pub(crate) fn broadcast_positions(from: &[usize], to: &[usize]) -> Vec<usize> {
    let missing = to.len() - from.len();
    let own = strides(from);
    let steps: Vec<isize> = (0..to.len())
        .map(|i| if i < missing || from[i - missing] == 1 { 0 } else { own[i - missing] as isize })
        .collect();
    positions(to, 0, &steps)
}
