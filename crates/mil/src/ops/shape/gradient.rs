//! Gradients of reshaping: the gradient takes the shape of `x` again.

use super::{ExpandDims, Reshape, Squeeze, Transpose};
use crate::grad::Pullback;
use crate::ops::{OpError, Operand, call};

/// The gradient under the dimensions of `x`.
fn reshaped(x: &Operand, pullback: &mut Pullback<'_>) -> Result<(), OpError> {
    let (dy, dims) = (pullback.dy()?, pullback.dims(x)?);
    let dx = pullback.reshape(dy, &dims)?;
    pullback.give(x, dx)
}

pub(super) fn reshape(row: &Reshape, pullback: &mut Pullback<'_>) -> Result<(), OpError> {
    reshaped(&row.x, pullback)
}

pub(super) fn squeeze(row: &Squeeze, pullback: &mut Pullback<'_>) -> Result<(), OpError> {
    reshaped(&row.x, pullback)
}

pub(super) fn expand_dims(row: &ExpandDims, pullback: &mut Pullback<'_>) -> Result<(), OpError> {
    let dy = pullback.dy()?;
    pullback.give(&row.x, call::squeeze(dy).axes(row.axes.clone()))
}

pub(super) fn transpose(row: &Transpose, pullback: &mut Pullback<'_>) -> Result<(), OpError> {
    let (dy, perm) = (pullback.dy()?, row.permutation()?);
    let mut back = vec![0; perm.len()];
    perm.into_iter().enumerate().for_each(|(to, from)| back[from] = to);
    let dx = pullback.transpose(dy, &back)?;
    pullback.give(&row.x, dx)
}
