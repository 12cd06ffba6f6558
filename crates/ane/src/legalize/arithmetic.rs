//! Ops that a chip computes otherwise, written with those that it computes right.

use anemone_mil::builder::FunctionBuilder;
use anemone_mil::ops::{Conv, ReduceMean, call};
use anemone_mil::passes::{PassError, Rewritten, Site, replace_ops};
use anemone_mil::verify::{Verified, count};

use super::build::{conv_with, position};
use crate::chips::Chips;

/// Writes the mean as a sum of the n-th parts of what is added (R23): of fp16, the sum of the whole would overflow
/// where the mean does not.
pub(super) fn reduce_mean(program: &Verified, _: Chips) -> Result<Rewritten, PassError> {
    let replace = |site: Site<'_>, build: &mut FunctionBuilder| {
        let Some(row) = site.bound::<ReduceMean>().filter(|row| row.x.dtype().is_float()) else {
            return Ok(None);
        };
        let rank = row.x.rank();
        let all = || (0..rank).map(super::build::axis).collect();
        let axes: Vec<i32> = row.axes.clone().unwrap_or_else(all);
        let lengths = axes.iter().map(|&axis| row.x.shape().0.get(position(axis, rank)?)?.known());
        let number = lengths.map(|length| Some(length? as f64)).product::<Option<f64>>();
        let Some(number) = number.filter(|&number| number > 0.0) else { return Ok(None) };
        let name = site.name();
        let sum = call::reduce_sum(&row.x).axes(axes).keep_dims(row.keep_dims);
        let sum = build.bind(&format!("{name}_sum"), sum)?;
        Ok(Some(vec![build.bind(name, call::mul(sum, 1.0 / number))?]))
    };
    replace_ops(program, replace, |number| format!("{number} `reduce_mean` written as sums times 1/n (R23)"))
}

/// Adds the bias of convolutions apart (R20).
pub(super) fn conv_bias(program: &Verified, _: Chips) -> Result<Rewritten, PassError> {
    let replace = |site: Site<'_>, build: &mut FunctionBuilder| {
        let Some(row) = site.bound::<Conv>() else { return Ok(None) };
        let (Some(bias), Some(ty)) = (&row.bias, site.ty()) else { return Ok(None) };
        let mut shape = vec![1; ty.shape.rank()];
        let Some(channels) = bias.shape().0.first().and_then(|dim| i32::try_from(dim.known()?).ok()) else {
            return Ok(None);
        };
        shape[1] = channels;
        let name = site.name();
        let product = build.bind(&format!("{name}_product"), conv_with(&row, &row.weight, None))?;
        let bias = build.bind(&format!("{name}_b"), call::reshape(bias, shape))?;
        Ok(Some(vec![build.bind(name, call::add(product, bias))?]))
    };
    replace_ops(program, replace, |number| {
        format!("the bias of {} added apart (R20)", count(number, "`conv`"))
    })
}
