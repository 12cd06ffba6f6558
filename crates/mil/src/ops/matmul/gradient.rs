//! Gradients of the matrix products. Transposition is a flag of the products that they are made of, nothing is
//! transposed in memory.

use super::{Linear, Matmul};
use crate::builder::Input;
use crate::grad::Pullback;
use crate::ops::{OpError, Operand, call};
use crate::program::ValueId;

/// One of the two factors as matrices: a vector has a dimension of length 1 beside its own.
struct Factor<'a> {
    operand: &'a Operand,
    matrices: Input,
    transposed: bool,
}

/// For `z = x · y`, with matrices `X` and `Y` after transposition: `dX = dZ · Yᵀ`, `dY = Xᵀ · dZ`.
pub(super) fn matmul(row: &Matmul, pullback: &mut Pullback<'_>) -> Result<(), OpError> {
    let mut dz = pullback.dy()?;
    let mut x = Factor { operand: &row.x, matrices: (&row.x).into(), transposed: row.transpose_x };
    let mut y = Factor { operand: &row.y, matrices: (&row.y).into(), transposed: row.transpose_y };
    // A vector `x` is a row, and a vector `y` a row that stands for a column.
    if row.y.rank() == 1 {
        dz = pullback.bind(call::expand_dims(dz, [-1]))?;
        y.matrices = pullback.bind(call::expand_dims(&row.y, [0]))?.into();
        y.transposed = true;
    }
    if row.x.rank() == 1 {
        dz = pullback.bind(call::expand_dims(dz, [-2]))?;
        x.matrices = pullback.bind(call::expand_dims(&row.x, [0]))?.into();
    }
    if pullback.wants(&row.x) {
        let dx = match x.transposed {
            false => call::matmul(dz, y.matrices.clone()).transpose_y(!y.transposed),
            true => call::matmul(y.matrices.clone(), dz).transpose_x(y.transposed).transpose_y(true),
        };
        give(&x, dx, pullback)?;
    }
    if pullback.wants(&row.y) {
        let flat = if y.operand.rank() <= 2 && !x.transposed { flat(&x, dz, pullback)? } else { None };
        let (x_matrices, dz) = flat.unwrap_or((x.matrices.clone(), dz));
        let dy = match y.transposed {
            false => call::matmul(x_matrices, dz).transpose_x(!x.transposed),
            true => call::matmul(dz, x_matrices).transpose_x(true).transpose_y(x.transposed),
        };
        give(&y, dy, pullback)?;
    }
    Ok(())
}

/// The matrices of a batch below each other, and their gradients: one product then sums over the batch, where a product
/// for each would have to be kept. `None` where there is no batch, or dimensions are not known.
fn flat(
    x: &Factor<'_>,
    dz: ValueId,
    pullback: &mut Pullback<'_>,
) -> Result<Option<(Input, ValueId)>, OpError> {
    let (Some(dims), true) = (x.operand.shape().to_known(), x.operand.rank() > 2) else { return Ok(None) };
    let Some(dz_dims) = pullback.ty(dz)?.shape.to_known() else { return Ok(None) };
    let x = pullback.reshape(x.matrices.clone(), &below_each_other(&dims))?;
    let dz = pullback.reshape(dz, &below_each_other(&dz_dims))?;
    Ok(Some((x.into(), dz)))
}

/// The rows of all matrices of a batch as those of one.
fn below_each_other(dims: &[usize]) -> [usize; 2] {
    match dims {
        [rows @ .., columns] => [rows.iter().product(), *columns],
        [] => [1, 1],
    }
}

/// Gives a factor its gradient, summed over the batch where the factor was repeated.
fn give(
    factor: &Factor<'_>,
    gradient: crate::builder::Call<Matmul>,
    pullback: &mut Pullback<'_>,
) -> Result<(), OpError> {
    if factor.operand.rank() > 1 {
        return pullback.give(factor.operand, gradient);
    }
    let gradient = pullback.bind(gradient)?;
    // [*batch, 1, length]: the dimension of length 1 goes, the sum over the batch is the operand's.
    pullback.give(factor.operand, call::squeeze(gradient).axes([-2]))
}

/// `dx = dy · W`, `dW = dyᵀ · x` and `db = Σ dy` over all rows.
pub(super) fn linear(row: &Linear, pullback: &mut Pullback<'_>) -> Result<(), OpError> {
    let dy = pullback.dy()?;
    if pullback.wants(&row.x) {
        pullback.give(&row.x, call::matmul(dy, &*row.weight))?;
    }
    if let Some(bias) = row.bias.as_deref() {
        pullback.give(bias, dy)?;
    }
    if !pullback.wants(&row.weight) {
        return Ok(());
    }
    let (mut rows, mut x): (ValueId, Input) = (dy, (&row.x).into());
    if row.x.rank() != 2 {
        let (x_dims, weight) = (pullback.dims(&row.x)?, pullback.dims(&row.weight)?);
        let [count, _] = below_each_other(&x_dims);
        rows = pullback.reshape(dy, &[count, weight[0]])?;
        x = pullback.reshape(&row.x, &[count, weight[1]])?.into();
    }
    pullback.give(&row.weight, call::matmul(rows, x).transpose_x(true))
}
