//! Bounds through reductions and normalisations.

use anemone_mil::ops::{
    ArgSort, BatchNorm, CumSum, InstanceNorm, L2Norm, L2Pool, LayerNorm, LocalResponseNorm,
    NonMaximumSuppression, Operand, ReduceArgmax, ReduceArgmin, ReduceL1Norm, ReduceL2Norm, ReduceLogSum,
    ReduceLogSumExp, ReduceMax, ReduceMean, ReduceMin, ReduceProd, ReduceSum, ReduceSumSquare, Reduction,
    Row, TopK,
};
use anemone_mil::types::{Dim, Opset};

use super::elementwise::squared;
use super::{Interval, Site};

/// What a reduction or normalisation gives; `None` for other ops.
pub(super) fn range(site: &Site<'_>) -> Option<Interval> {
    match site.op.name.as_str() {
        "reduce_sum" => reduced::<ReduceSum>(site).map(|(x, count)| x.summed(count)),
        "reduce_sum_square" => reduced::<ReduceSumSquare>(site).map(|(x, count)| squared(x).summed(count)),
        "reduce_mean" => mean(site),
        "reduce_max" => reduced::<ReduceMax>(site).map(|(x, _)| x),
        "reduce_min" => reduced::<ReduceMin>(site).map(|(x, _)| x),
        "reduce_prod" => reduced::<ReduceProd>(site).map(|(x, count)| product(x, count)),
        "reduce_log_sum_exp" if site.dtype()?.is_float() => {
            let (x, count) = reduced::<ReduceLogSumExp>(site)?;
            let high = count.map_or(f64::INFINITY, |count| x.high + (count.max(1) as f64).ln());
            Some(Interval::new(x.low, high).widened(x.largest() + 1.0))
        }
        "reduce_l1_norm" => reduced::<ReduceL1Norm>(site).map(|(x, count)| x.magnitude().summed(count)),
        "reduce_l2_norm" => reduced::<ReduceL2Norm>(site).map(|(x, count)| norm(x, count)),
        "reduce_log_sum" if site.dtype()?.is_float() => {
            let (x, count) = reduced::<ReduceLogSum>(site)?;
            let sum = x.summed(count);
            let logarithm = (sum.low > 0.0).then(|| sum.rising(f64::ln))?;
            Some(logarithm.widened(logarithm.largest() + 1.0))
        }
        "reduce_argmax" => {
            let row = site.bound::<ReduceArgmax>()?;
            position(&row.x, row.axis)
        }
        "reduce_argmin" => {
            let row = site.bound::<ReduceArgmin>()?;
            position(&row.x, row.axis)
        }
        // Of the elements, and of where they are.
        "topk" => {
            let row = site.bound::<TopK>()?;
            Some(site.range(&row.x).hull(position(&row.x, row.axis)?))
        }
        "argsort" => {
            let row = site.bound::<ArgSort>()?;
            position(&row.x, row.axis)
        }
        "avg_pool" => {
            // Padding counts as zeros.
            let x = site.parameter("x")?.hull(Interval::ZERO);
            Some(x.widened(x.largest()))
        }
        "l2_pool" => {
            let row = site.bound::<L2Pool>()?;
            let mut lengths = row.kernel_sizes.iter().map(|&length| u64::try_from(length).ok());
            Some(norm(site.range(&row.x), lengths.try_fold(1u64, |count, length| count.checked_mul(length?))))
        }
        "upsample_bilinear" | "resize_bilinear" | "resize" => {
            site.parameter("x").map(|x| x.widened(x.largest()))
        }
        // Of what lies in the image and around it.
        "affine" | "crop_resize" | "resample" => {
            let around = ["pad_value", "padding_value"].into_iter().find_map(|value| site.parameter(value));
            let x = site.parameter("x")?.hull(around.unwrap_or(Interval::ZERO));
            Some(x.widened(x.largest()))
        }
        // Of what is taken, what fills the rest, which it is, and how much.
        "non_maximum_suppression" => {
            let row = site.bound::<NonMaximumSuppression>()?;
            let boxes = *row.boxes.shape().0.get(if row.since >= Opset::IOS17 { 2 } else { 1 })?;
            let taken = site.range(&row.boxes).hull(site.range(&row.scores)).hull(Interval::ZERO);
            Some(taken.hull(Interval::new(-1.0, boxes.known()? as f64)))
        }
        "cumsum" => cumulative(site),
        "softmax" => Some(Interval::UNIT),
        // A mean of the values, weighted by probabilities.
        "scaled_dot_product_attention" => site.parameter("value").map(|value| value.widened(value.largest())),
        "layer_norm" => layer_norm(site),
        "batch_norm" => batch_norm(site),
        "instance_norm" => instance_norm(site),
        "l2_norm" => l2_norm(site),
        "local_response_norm" => local_response_norm(site),
        _ => None,
    }
}

/// How many elements of the operand fall to each result of the reduction, where dimensions say.
pub(super) fn terms<R: Row + Reduction>(row: &R) -> Option<u64> {
    let dims = &row.x().shape().0;
    let mut lengths = row.axes().ok()?.into_iter().map(|axis| dims[axis].known());
    lengths.try_fold(1u64, |count, length| count.checked_mul(length?))
}

/// What is reduced, and how many elements fall to each result.
fn reduced<R: Row + Reduction>(site: &Site<'_>) -> Option<(Interval, Option<u64>)> {
    let row = site.bound::<R>()?;
    Some((site.range(row.x()), terms(&row)))
}

/// Between the least and the largest, but for the roundings of the sum; of integers rounded toward zero.
fn mean(site: &Site<'_>) -> Option<Interval> {
    let (x, _) = reduced::<ReduceMean>(site)?;
    if !site.dtype()?.is_float() {
        return Some(x.hull(Interval::ZERO));
    }
    let wider = x.widened(x.largest());
    let low = if x.low >= 0.0 { wider.low.max(0.0) } else { wider.low };
    let high = if x.high <= 0.0 { wider.high.min(0.0) } else { wider.high };
    Some(Interval::new(low, high))
}

/// The product of so many numbers of an interval.
fn product(x: Interval, count: Option<u64>) -> Interval {
    let Some(count) = count else {
        return if x.low >= 0.0 { Interval::new(0.0, f64::INFINITY) } else { Interval::ALL };
    };
    let power = |x: f64| x.powf(count as f64);
    let product = if x.low >= 0.0 { x.rising(power) } else { Interval::symmetric(power(x.largest())) };
    let slack = 1e-9 * product.largest();
    let low = if x.low >= 0.0 { (product.low - slack).max(0.0) } else { product.low - slack };
    Interval::new(low, product.high + slack)
}

/// Sums of one to all the elements along an axis, or of none to all but one.
fn cumulative(site: &Site<'_>) -> Option<Interval> {
    let row = site.bound::<CumSum>()?;
    let x = site.range(&row.x);
    let axis = if row.axis < 0 { row.x.rank().checked_sub(1)? } else { usize::try_from(row.axis).ok()? };
    let all = x.summed(row.x.shape().0.get(axis)?.known());
    Some(all.hull(x).hull(if row.exclusive { Interval::ZERO } else { x }))
}

/// A position along an axis.
fn position(x: &Operand, axis: i32) -> Option<Interval> {
    let axis = usize::try_from(axis)
        .ok()
        .or_else(|| x.rank().checked_sub(usize::try_from(axis.unsigned_abs()).ok()?))?;
    let length = x.shape().0.get(axis)?.known()?;
    Some(Interval::new(0.0, length.saturating_sub(1) as f64))
}

/// The root of the sum of the squares of so many numbers at most.
fn norm(x: Interval, count: Option<u64>) -> Interval {
    let most = count.map_or(f64::INFINITY, |count| x.largest() * (count.max(1) as f64).sqrt());
    Interval::new(0.0, most + 1e-9 * most)
}

fn layer_norm(site: &Site<'_>) -> Option<Interval> {
    let row = site.bound::<LayerNorm>()?;
    let (axes, _) = row.split_axes().ok()?;
    let parameters = [row.gamma.as_deref(), row.beta.as_deref()];
    normalized(
        site,
        &axes.iter().map(|&axis| row.x.shape().0[axis]).collect::<Vec<_>>(),
        row.shift(),
        parameters,
    )
}

fn instance_norm(site: &Site<'_>) -> Option<Interval> {
    let row = site.bound::<InstanceNorm>()?;
    let parameters = [row.gamma.as_deref(), row.beta.as_deref()];
    normalized(site, row.x.shape().0.get(2..)?, row.shift(), parameters)
}

/// No element is larger than the norm of all of them.
fn l2_norm(site: &Site<'_>) -> Option<Interval> {
    let row = site.bound::<L2Norm>()?;
    let x = site.range(&row.x);
    let sign = Interval::new(if x.low < 0.0 { -1.0 } else { 0.0 }, if x.high > 0.0 { 1.0 } else { 0.0 });
    (row.shift() >= 0.0).then(|| sign.widened(1.0))
}

/// What is divided by at least `k^beta`, where nothing makes that less.
fn local_response_norm(site: &Site<'_>) -> Option<Interval> {
    let row = site.bound::<LocalResponseNorm>()?;
    let [alpha, beta, k] = row.parameters();
    let divisor = k.powf(beta);
    let falls = alpha >= 0.0 && beta >= 0.0 && divisor > 0.0;
    let x = site.range(&row.x).hull(Interval::ZERO);
    falls.then(|| x.over(Interval::point(divisor)).widened(x.largest() / divisor))
}

/// Of the elements that dimensions hold, one lies at most `√n` standard deviations from their mean.
fn normalized(
    site: &Site<'_>,
    dims: &[Dim],
    shift: f64,
    [gamma, beta]: [Option<&Operand>; 2],
) -> Option<Interval> {
    if shift < 0.0 || shift.is_nan() {
        return None;
    }
    let count = dims.iter().try_fold(1u64, |count, dim| count.checked_mul(dim.known()?))?;
    let normal = Interval::symmetric((count as f64).sqrt());
    let parameter = |parameter: Option<&Operand>| parameter.map(|operand| site.range(operand));
    let scaled = parameter(gamma).map_or(normal, |gamma| normal.times(gamma));
    let beta = parameter(beta).unwrap_or(Interval::ZERO);
    let magnitude = scaled.largest() + beta.largest();
    Some(scaled.plus(beta).widened(magnitude))
}

/// Channel by channel, `gamma · (x − mean) / √(variance + epsilon) + beta`.
fn batch_norm(site: &Site<'_>) -> Option<Interval> {
    let row = site.bound::<BatchNorm>()?;
    let x = site.range(&row.x);
    let values = |operand: Option<&Operand>, default: f64| match operand {
        Some(operand) => operand.floats().ok(),
        None => Some(vec![default]),
    };
    let (mean, variance) = (values(Some(&row.mean), 0.0)?, values(Some(&row.variance), 1.0)?);
    let (gamma, beta) = (values(row.gamma.as_deref(), 1.0)?, values(row.beta.as_deref(), 0.0)?);
    let of = |values: &[f64], channel: usize| values.get(channel).or(values.first()).copied();
    let channels = match row.x.shape().0.get(1)? {
        Dim::Known(channels) => usize::try_from(*channels).ok()?,
        Dim::Unknown => mean.len(),
    };
    let mut all: Option<Interval> = None;
    for channel in 0..channels.min(mean.len()) {
        let deviation = (of(&variance, channel)? + row.shift()).sqrt();
        if deviation.is_nan() || deviation == 0.0 {
            return None;
        }
        let (gamma, beta) = (of(&gamma, channel)?, Interval::point(of(&beta, channel)?));
        let mean = Interval::point(of(&mean, channel)?);
        let scaled = x.plus(mean.negated()).times(Interval::point(gamma / deviation));
        let one = scaled.plus(beta);
        let one = one.widened(scaled.largest() + beta.largest());
        all = Some(all.map_or(one, |all| all.hull(one)));
    }
    all
}
