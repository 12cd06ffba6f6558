//! Gradients of reading at indices: what was read more than once adds.

use super::{Gather, GatherAlongAxis, GatherNd};
use crate::grad::{Pullback, lengths};
use crate::ops::{OpError, call, rules};
use crate::program::ValueId;
use crate::tensor::Tensor;
use crate::types::Opset;

/// The numbers 0, `step`, 2 · `step` and so on, along the first dimension of a tensor of this rank.
fn first_of_batches(count: usize, step: usize, rank: usize) -> Result<Tensor, OpError> {
    let values = lengths(&(0..count).map(|number| number * step).collect::<Vec<_>>())?;
    let dims: Vec<usize> = std::iter::once(count).chain(std::iter::repeat_n(1, rank - 1)).collect();
    Tensor::from_values(&dims, values).map_err(crate::eval::internal)
}

pub(super) fn gather(row: &Gather, pullback: &mut Pullback<'_>) -> Result<(), OpError> {
    if !pullback.wants(&row.x) {
        return Ok(());
    }
    let (dims, index_dims) = (pullback.dims(&row.x)?, pullback.dims(&row.indices)?);
    let (axis, batch) = row.slices().axis_and_batch()?;
    if dims.contains(&0) || index_dims.contains(&0) {
        return Ok(());
    }
    let indices = pullback.int32(&row.indices)?;
    let count: usize = index_dims[batch..].iter().product();
    let dy = pullback.dy()?;
    if batch == 0 {
        let indices = pullback.reshape(indices, &[count])?;
        let dy = pullback.reshape(dy, &[&dims[..axis], &[count], &dims[axis + 1..]].concat())?;
        let zeros = pullback.zeros(row.x.dtype(), &dims)?;
        return pullback.give(&row.x, call::scatter(zeros, indices, dy).axis(axis as i32).mode("add"));
    }
    // The batch and the axis as one dimension, in front of all others.
    let [batches, between, inner] =
        [&dims[..batch], &dims[batch..axis], &dims[axis + 1..]].map(|d| d.iter().product());
    let length = dims[axis];
    let mut indices = pullback.reshape(indices, &[batches, count])?;
    if row.since < Opset::IOS17 {
        indices = pullback.wrapped(indices, length)?;
    }
    let indices = pullback.bind(call::add(indices, first_of_batches(batches, length, 2)?))?;
    let indices = pullback.reshape(indices, &[batches * count])?;
    let dy = pullback.reshape(dy, &[batches, between, count, inner])?;
    let dy = pullback.transpose(dy, &[0, 2, 1, 3])?;
    let dy = pullback.reshape(dy, &[batches * count, between * inner])?;
    let zeros = pullback.zeros(row.x.dtype(), &[batches * length, between * inner])?;
    let dx = pullback.bind(call::scatter(zeros, indices, dy).axis(0).mode("add"))?;
    let dx = pullback.reshape(dx, &[batches, length, between, inner])?;
    let dx = pullback.transpose(dx, &[0, 2, 1, 3])?;
    let dx = pullback.reshape(dx, &dims)?;
    pullback.give(&row.x, dx)
}

pub(super) fn along_axis(row: &GatherAlongAxis, pullback: &mut Pullback<'_>) -> Result<(), OpError> {
    if !pullback.wants(&row.x) {
        return Ok(());
    }
    let (dy, dims) = (pullback.dy()?, pullback.dims(&row.x)?);
    let axis = rules::axis("axis", row.axis, dims.len())? as i32;
    let indices = pullback.int32(&row.indices)?;
    let zeros = pullback.zeros(row.x.dtype(), &dims)?;
    pullback.give(&row.x, call::scatter_along_axis(zeros, indices, dy).axis(axis).mode("add"))
}

pub(super) fn nd(row: &GatherNd, pullback: &mut Pullback<'_>) -> Result<(), OpError> {
    if !pullback.wants(&row.x) {
        return Ok(());
    }
    let (dims, index_dims) = (pullback.dims(&row.x)?, pullback.dims(&row.indices)?);
    let batch = row.vectors()?.batch;
    if dims.contains(&0) || index_dims.contains(&0) {
        return Ok(());
    }
    let dy = pullback.dy()?;
    let indices = pullback.int32(&row.indices)?;
    if batch == 0 {
        let zeros = pullback.zeros(row.x.dtype(), &dims)?;
        return pullback.give(&row.x, call::scatter_nd(zeros, indices, dy).mode("add"));
    }
    // The batch becomes the first index of every vector.
    let depth = index_dims[index_dims.len() - 1];
    let batches = dims[..batch].iter().product();
    let count = index_dims[batch..index_dims.len() - 1].iter().product();
    let vectors = pullback.reshape(indices, &[batches, count, depth])?;
    let first: ValueId = pullback.value(first_of_batches(batches, 1, 3)?)?;
    let first = pullback.broadcast(first, &[batches, count, 1])?;
    let vectors = pullback.bind(call::concat(vec![first, vectors], 2).interleave(false))?;
    let dy = pullback.reshape(dy, &[&[batches, count], &dims[batch + depth..]].concat())?;
    let zeros = pullback.zeros(row.x.dtype(), &[&[batches], &dims[batch..]].concat())?;
    let dx = pullback.bind(call::scatter_nd(zeros, vectors, dy).mode("add"))?;
    let dx = pullback.reshape(dx, &dims)?;
    pullback.give(&row.x, dx)
}
