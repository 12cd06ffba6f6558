//! Gradients of pooling, which are convolutions: what windows give back to the elements that they met adds up.

use super::{AvgPool, L2Pool, MaxPool, Pool, PoolWindows};
use crate::eval::{filled, internal};
use crate::grad::{Pullback, lengths};
use crate::ops::convolution::gradient::{Sizes, input_gradient};
use crate::ops::convolution::volume;
use crate::ops::reduce::over_norm;
use crate::ops::{OpError, call, rules};
use crate::program::ValueId;
use crate::tensor::Tensor;
use crate::types::DType;

/// The most elements of the weight that takes windows apart.
const MOST_TAPS_SQUARED: usize = 1 << 22;

/// The windows over each plane of `x` as a convolution with `channels` of them for each result.
fn sizes(windows: &PoolWindows<'_>, channels: usize, pullback: &Pullback<'_>) -> Result<Sizes, OpError> {
    let (x, result) = (pullback.dims(windows.x)?, rules::known_dims(&windows.result.shape)?);
    let short = |value: u64| {
        usize::try_from(value)
            .map_err(|_| OpError::rule("kernel_sizes", "a length of the windows is too large"))
    };
    let all = |values: &[u64]| values.iter().map(|&value| short(value)).collect::<Result<Vec<_>, _>>();
    let (kernel, strides) = (all(&windows.kernel)?, all(&windows.strides)?);
    let mut pads = Vec::new();
    for i in 0..kernel.len() {
        let (before, after) = windows.pads[i].unwrap_or_default();
        // A last window may reach beyond the padding.
        let reach = result[i + 2].saturating_sub(1) * strides[i] + kernel[i];
        pads.push((short(before)?, short(after)?.max(reach.saturating_sub(short(before)? + x[i + 2]))));
    }
    Ok(Sizes {
        n: x[0] * x[1],
        groups: 1,
        c_in: 1,
        c_out: channels,
        input: x[2..].to_vec(),
        dilations: vec![1; kernel.len()],
        kernel,
        output: result[2..].to_vec(),
        strides,
        pads,
    })
}

/// Two leading dimensions, then others.
fn with(leading: [usize; 2], spatial: &[usize]) -> Vec<usize> {
    [&leading, spatial].concat()
}

/// What each element of `x` gets where each window gives every element that it met what `dy [n, C, *D_out]` has for it.
fn spread(windows: &PoolWindows<'_>, dy: ValueId, pullback: &mut Pullback<'_>) -> Result<ValueId, OpError> {
    let sizes = sizes(windows, 1, pullback)?;
    let dims = with([1, 1], &sizes.kernel);
    let ones = filled(dims.iter().product(), 1.0)?;
    let weight = Tensor::from_f64(pullback.ty(dy)?.dtype, &dims, &ones).map_err(internal)?;
    let dy = pullback.reshape(dy, &with([sizes.n, 1], &sizes.output))?;
    let dx = input_gradient(|pullback: &mut Pullback<'_>| pullback.value(weight), &sizes, dy, pullback)?;
    let dims = pullback.dims(windows.x)?;
    pullback.reshape(dx, &dims)
}

/// `dx[i] = Σ_o dy[o] / n[o]` over the windows `o` that meet `i`, of `n` elements each.
pub(super) fn avg_pool(row: &AvgPool, pullback: &mut Pullback<'_>) -> Result<(), OpError> {
    let windows = row.windows()?;
    let (dy, input) = (pullback.dy()?, volume(&pullback.dims(&row.x)?[2..]));
    let dims = rules::known_dims(&windows.result.shape)?;
    if dims.contains(&0) {
        return Ok(());
    }
    let output = volume(&dims[2..]);
    let exclude = row.exclude_padding_from_average;
    let divisors: Vec<f64> = (0..output.iter().product())
        .map(|place: usize| {
            let at = [place / (output[1] * output[2]), place / output[2] % output[1], place % output[2]];
            windows.divisor(at, input, exclude)
        })
        .collect();
    let dy = pullback.widen(dy)?;
    let divisors = Tensor::from_f64(DType::Fp32, &with([1, 1], &dims[2..]), &divisors).map_err(internal)?;
    let each = pullback.bind(call::real_div(dy, divisors))?;
    let dx = spread(&windows, each, pullback)?;
    pullback.give(&row.x, dx)
}

/// `dx[i] = x[i] · Σ_o dy[o] / y[o]` over the windows `o` that meet `i`, without those whose `y` is 0.
pub(super) fn l2_pool(row: &L2Pool, pullback: &mut Pullback<'_>) -> Result<(), OpError> {
    let windows = row.windows()?;
    if rules::known_dims(&windows.result.shape)?.contains(&0) {
        return Ok(());
    }
    let (dy, y) = (pullback.dy()?, pullback.y());
    let slope = over_norm(pullback, dy, y)?;
    let slope = spread(&windows, slope, pullback)?;
    pullback.give(&row.x, call::mul(&row.x, slope))
}

/// `dx[i] = Σ_o dy[o] · [x[i] = y[o]] / n[o]` over the windows `o` that meet `i`, each of which has `n` largest elements.
///
/// A convolution with one channel for each place in a window takes the windows apart, and its gradient puts them together.
pub(super) fn max_pool(row: &MaxPool, pullback: &mut Pullback<'_>) -> Result<(), OpError> {
    let windows = row.windows()?;
    let dims = rules::known_dims(&windows.result.shape)?;
    if dims.contains(&0) {
        return Ok(());
    }
    let (dy, y) = (pullback.dy()?, pullback.y());
    let taps: usize = windows.kernel.iter().map(|&length| length as usize).product();
    let x_dims = pullback.dims(&row.x)?;
    if windows.kernel.iter().zip(&x_dims[2..]).all(|(&kernel, &length)| kernel == length as u64)
        && dims[2..].iter().all(|&length| length == 1)
        && windows.pads.iter().all(|pad| pad.is_none_or(|(before, _)| before == 0))
    {
        return whole(row, dy, y, taps, pullback);
    }
    if taps.saturating_mul(taps) > MOST_TAPS_SQUARED {
        return Err(OpError::rule("kernel_sizes", "the windows are too large to differentiate")
            .found(format!("each has {taps} elements")));
    }
    let sizes = sizes(&windows, taps, pullback)?;
    let dtype = row.x.dtype();
    let x = pullback.reshape(&row.x, &with([sizes.n, 1], &sizes.input))?;
    let pads: Vec<usize> = sizes.pads.iter().flat_map(|&(before, after)| [before, after]).collect();
    let apart = call::conv(x, one_hot(&sizes, taps, dtype, false)?).pad_type("custom").pad(lengths(&pads)?);
    let apart = apart.strides(lengths(&sizes.strides)?);
    let apart = pullback.bind(apart)?;
    let one = with([sizes.n, 1], &sizes.output);
    let (y, dy) = (pullback.reshape(y, &one)?, pullback.reshape(dy, &one)?);
    let largest = pullback.bind(call::cast(call::equal(apart, y), dtype.name()))?;
    // Zeros of the padding may be as large as what is largest.
    let largest = pullback.bind(call::mul(largest, inside(&sizes, taps, dtype)?))?;
    let ties = call::reduce_sum(largest).axes([1]).keep_dims(true);
    let shares = pullback.bind(call::mul(largest, call::real_div(dy, ties)))?;
    let weight = one_hot(&sizes, taps, dtype, true)?;
    let dx = input_gradient(|pullback: &mut Pullback<'_>| pullback.value(weight), &sizes, shares, pullback)?;
    let dx = pullback.reshape(dx, &x_dims)?;
    pullback.give(&row.x, dx)
}

/// The gradient where one window is all of `x`.
fn whole(
    row: &MaxPool,
    dy: ValueId,
    y: ValueId,
    taps: usize,
    pullback: &mut Pullback<'_>,
) -> Result<(), OpError> {
    let dy = if taps > 1 << 11 { pullback.widen(dy)? } else { dy };
    let dtype = pullback.ty(dy)?.dtype;
    let largest = pullback.bind(call::cast(call::equal(&row.x, y), dtype.name()))?;
    let axes: Vec<usize> = (2..row.x.rank()).collect();
    let ties = call::reduce_sum(largest).axes(lengths(&axes)?).keep_dims(true);
    pullback.give(&row.x, call::mul(largest, call::real_div(dy, ties)))
}

/// The weight whose output channel `t` is the tap `t` of a window, or that of its gradient, taps the other way round.
fn one_hot(sizes: &Sizes, taps: usize, dtype: DType, exchanged: bool) -> Result<Tensor, OpError> {
    let mut values = filled(taps * taps, 0.0)?;
    for tap in 0..taps {
        values[tap * taps + if exchanged { taps - 1 - tap } else { tap }] = 1.0;
    }
    let leading = if exchanged { [1, taps] } else { [taps, 1] };
    Tensor::from_f64(dtype, &with(leading, &sizes.kernel), &values).map_err(internal)
}

/// 1 for each tap of each window that meets an element, 0 for each in the padding: `[1, taps, *D_out]`.
fn inside(sizes: &Sizes, taps: usize, dtype: DType) -> Result<Tensor, OpError> {
    let dims = with([1, taps], &sizes.output);
    let places: usize = sizes.output.iter().product();
    let mut values = filled(taps * places, 0.0)?;
    for (i, value) in values.iter_mut().enumerate() {
        let (mut tap, mut place, mut met) = (i / places, i % places, true);
        for axis in (0..sizes.output.len()).rev() {
            let at = place % sizes.output[axis] * sizes.strides[axis] + tap % sizes.kernel[axis];
            met &= (sizes.pads[axis].0..sizes.pads[axis].0 + sizes.input[axis]).contains(&at);
            (tap, place) = (tap / sizes.kernel[axis], place / sizes.output[axis]);
        }
        *value = f64::from(u8::from(met));
    }
    Tensor::from_f64(dtype, &dims, &values).map_err(internal)
}
