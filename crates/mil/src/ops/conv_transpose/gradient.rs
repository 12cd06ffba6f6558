//! The gradient of transposed convolution: that of `x` is a convolution, that of the weight is the one of a convolution
//! whose operand and result have changed places.

use super::{ConvTranspose, TransposedConvolution};
use crate::grad::{Pullback, lengths};
use crate::ops::convolution::gradient::{Sizes, weight_gradient};
use crate::ops::{OpError, call, rules};

pub(super) fn conv_transpose(row: &ConvTranspose, pullback: &mut Pullback<'_>) -> Result<(), OpError> {
    let dy = pullback.dy()?;
    if let Some(bias) = row.bias.as_ref().filter(|bias| pullback.wants(bias)) {
        let axes: Vec<usize> = (0..row.x.rank()).filter(|&axis| axis != 1).collect();
        pullback.give(bias, call::reduce_sum(dy).axes(lengths(&axes)?).keep_dims(false))?;
    }
    if !pullback.wants(&row.x) && !pullback.wants(&row.weight) {
        return Ok(());
    }
    let sizes = sizes(row, pullback)?;
    if pullback.wants(&row.x) {
        let pads: Vec<usize> = sizes.pads.iter().flat_map(|&(before, after)| [before, after]).collect();
        let dx = call::conv(dy, &row.weight).pad_type("custom").pad(lengths(&pads)?);
        let dx = dx.strides(lengths(&sizes.strides)?).dilations(lengths(&sizes.dilations)?);
        pullback.give(&row.x, dx.groups(row.groups))?;
    }
    if pullback.wants(&row.weight) {
        let x = pullback.value(&row.x)?;
        let dw = weight_gradient(dy, &sizes, x, pullback)?;
        pullback.give(&row.weight, dw)?;
    }
    Ok(())
}

/// The sizes of the convolution that makes an `x` from the result.
fn sizes(row: &ConvTranspose, pullback: &Pullback<'_>) -> Result<Sizes, OpError> {
    let (x, weight) = (pullback.dims(&row.x)?, pullback.dims(&row.weight)?);
    let transposed = TransposedConvolution::of(row)?;
    let result = rules::known_dims(&transposed.result.shape)?;
    // All are at most the length of a tensor that exists.
    let short = |value: u64| usize::try_from(value).unwrap_or(usize::MAX);
    let all = |values: &[u64]| values.iter().map(|&value| short(value)).collect();
    let groups = short(transposed.groups);
    let pad = |pad: &Option<(u64, u64)>| pad.map_or((0, 0), |(before, after)| (short(before), short(after)));
    Ok(Sizes {
        n: x[0],
        groups,
        c_in: weight[1],
        c_out: x[1] / groups,
        input: result[2..].to_vec(),
        kernel: weight[2..].to_vec(),
        output: x[2..].to_vec(),
        strides: all(&transposed.strides),
        dilations: all(&transposed.dilations),
        pads: transposed.pads.iter().map(pad).collect(),
    })
}
