//! Gradients of the normalisations.

use super::{Affine, BatchNorm, InstanceNorm, LayerNorm, Softmax};
use crate::builder::Input;
use crate::grad::{Pullback, lengths};
use crate::ops::{OpError, call};
use crate::program::ValueId;

/// `dx = y · (dy − Σ y · dy)`.
pub(super) fn softmax(row: &Softmax, pullback: &mut Pullback<'_>) -> Result<(), OpError> {
    let (dy, y) = (pullback.dy()?, pullback.y());
    let sum = call::reduce_sum(call::mul(y, dy)).axes([row.axis]).keep_dims(true);
    pullback.give(&row.x, call::mul(y, call::sub(dy, sum)))
}

/// The sum over some axes, of which there may be none.
fn sum(pullback: &mut Pullback<'_>, of: impl Into<Input>, axes: &[i32]) -> Result<ValueId, OpError> {
    let of = pullback.value(of)?;
    if axes.is_empty() { Ok(of) } else { pullback.bind(call::reduce_sum(of).axes(axes)) }
}

pub(super) fn layer_norm(row: &LayerNorm, pullback: &mut Pullback<'_>) -> Result<(), OpError> {
    let (positions, others) = row.split_axes()?;
    normalized(&row.affine(), &positions, (&positions, &others), row.shift(), pullback)
}

pub(super) fn instance_norm(row: &InstanceNorm, pullback: &mut Pullback<'_>) -> Result<(), OpError> {
    let spatial: Vec<usize> = (2..row.x.rank()).collect();
    let others: Vec<usize> = (0..row.x.rank()).filter(|&axis| axis != 1).collect();
    normalized(&row.affine(), &spatial, (&[1], &others), row.shift(), pullback)
}

/// With `n = (x − mean) / σ`, `σ = √(variance + ε)` and `g = dy · gamma`, means over the normalised axes:
/// `dx = (g − mean(g) − n · mean(g · n)) / σ`, `dgamma = Σ dy · n` and `dbeta = Σ dy` over the axes that gamma and beta
/// do not have; `own` are those that they have.
///
/// All of it in fp32: the op itself squares what it normalises in more than fp16.
fn normalized(
    affine: &Affine<'_>,
    axes: &[usize],
    (own, others): (&[usize], &[usize]),
    shift: f64,
    pullback: &mut Pullback<'_>,
) -> Result<(), OpError> {
    let (axes, others) = (lengths(axes)?, lengths(others)?);
    let mean = |of| call::reduce_mean(of).axes(axes.clone()).keep_dims(true);
    let dy = pullback.dy()?;
    if let Some(beta) = affine.beta {
        let dbeta = sum(pullback, dy, &others)?;
        pullback.give(beta, dbeta)?;
    }
    let (x, dy) = (pullback.widen(affine.x)?, pullback.widen(dy)?);
    let centred = pullback.bind(call::sub(x, mean(x)))?;
    let variance = call::reduce_mean(call::square(centred)).axes(axes.clone()).keep_dims(true);
    let sigma = pullback.bind(call::sqrt(call::add(variance, shift)))?;
    let n = pullback.bind(call::real_div(centred, sigma))?;
    let mut g = dy;
    if let Some(gamma) = affine.gamma {
        let dgamma = sum(pullback, call::mul(dy, n), &others)?;
        pullback.give(gamma, dgamma)?;
        let gamma = pullback.along(gamma, own, affine.x.rank())?;
        g = pullback.bind(call::mul(dy, gamma))?;
    }
    let projection = pullback.bind(call::mul(g, n))?;
    let rest = call::sub(call::sub(g, mean(g)), call::mul(n, mean(projection)));
    pullback.give(affine.x, call::real_div(rest, sigma))
}

/// With `n = (x − mean) / σ`, `σ = √(variance + ε)`, sums over all but the channels:
/// `dx = dy · gamma / σ`, `dgamma = Σ dy · n`, `dbeta = Σ dy`, `dmean = −gamma / σ · Σ dy` and
/// `dvariance = −½ gamma / σ² · Σ dy · n`.
pub(super) fn batch_norm(row: &BatchNorm, pullback: &mut Pullback<'_>) -> Result<(), OpError> {
    let rank = row.x.rank();
    let others: Vec<i32> = lengths(&(0..rank).filter(|&axis| axis != 1).collect::<Vec<_>>())?;
    let dy = pullback.dy()?;
    let variance = pullback.widen(&*row.variance)?;
    let sigma = pullback.bind(call::sqrt(call::add(variance, row.shift())))?;
    let slope = match row.gamma.as_deref() {
        Some(gamma) => {
            let gamma = pullback.widen(gamma)?;
            pullback.bind(call::real_div(gamma, sigma))?
        }
        None => pullback.bind(call::real_div(1.0, sigma))?,
    };
    let channels = pullback.dims(&row.variance)?[0];
    let mut dims = vec![1; rank];
    dims[1] = channels;
    let along = pullback.reshape(slope, &dims)?;
    let along = pullback.cast(along, row.x.dtype())?;
    pullback.give(&row.x, call::mul(dy, along))?;
    let total = pullback.bind(call::reduce_sum(dy).axes(others.clone()))?;
    if let Some(beta) = row.beta.as_deref() {
        pullback.give(beta, total)?;
    }
    let total = pullback.widen(total)?;
    pullback.give(&row.mean, call::mul(call::mul(total, slope), -1.0))?;
    let mut n = call::batch_norm(&row.x, &*row.mean, &*row.variance);
    if let Some(epsilon) = row.epsilon {
        n = n.epsilon(epsilon);
    }
    let projection = pullback.bind(call::reduce_sum(call::mul(dy, n)).axes(others))?;
    if let Some(gamma) = row.gamma.as_deref() {
        pullback.give(gamma, projection)?;
    }
    let projection = pullback.widen(projection)?;
    let dvariance = call::real_div(call::mul(call::mul(projection, slope), -0.5), sigma);
    pullback.give(&row.variance, dvariance)
}
