//! Gradients of convolution, which are convolutions again.

use super::{Conv, Convolution};
use crate::grad::{Pullback, lengths};
use crate::ops::{OpError, call};
use crate::program::ValueId;

/// A convolution whose lengths are known, in `i32` as programs write them; one entry per spatial dimension.
pub(crate) struct Sizes {
    /// Images.
    pub n: usize,
    /// Groups.
    pub groups: usize,
    /// Channels of `x` in a group.
    pub c_in: usize,
    /// Channels of the result in a group.
    pub c_out: usize,
    /// Lengths of `x`.
    pub input: Vec<usize>,
    /// Lengths of the kernel.
    pub kernel: Vec<usize>,
    /// Lengths of the result.
    pub output: Vec<usize>,
    /// Distance between neighbouring windows.
    pub strides: Vec<usize>,
    /// Distance between neighbouring taps.
    pub dilations: Vec<usize>,
    /// Zeros before and after each dimension of `x`.
    pub pads: Vec<(usize, usize)>,
}

impl Sizes {
    fn of(row: &Conv, pullback: &Pullback<'_>) -> Result<Sizes, OpError> {
        let (x, weight) = (pullback.dims(&row.x)?, pullback.dims(&row.weight)?);
        let convolution = Convolution::of(row)?;
        let output = crate::ops::rules::known_dims(&convolution.result.shape)?;
        let short = |value: u64| {
            usize::try_from(value)
                .map_err(|_| OpError::rule("pad", "a length of the convolution is too large"))
        };
        let all = |values: &[u64]| values.iter().map(|&value| short(value)).collect::<Result<Vec<_>, _>>();
        let pads = convolution.pads.iter().map(|pad| {
            let (before, after) = pad.unwrap_or_default();
            Ok((short(before)?, short(after)?))
        });
        let groups = short(convolution.groups)?;
        Ok(Sizes {
            n: x[0],
            groups,
            c_in: weight[1],
            c_out: weight[0] / groups,
            input: x[2..].to_vec(),
            kernel: weight[2..].to_vec(),
            output: output[2..].to_vec(),
            strides: all(&convolution.strides)?,
            dilations: all(&convolution.dilations)?,
            pads: pads.collect::<Result<_, OpError>>()?,
        })
    }

    /// Whether each element of the result is a product of a matrix and the channels at one place.
    fn is_pointwise(&self) -> bool {
        let ones = |values: &[usize]| values.iter().all(|&value| value == 1);
        self.groups == 1
            && ones(&self.kernel)
            && ones(&self.strides)
            && self.pads.iter().all(|&p| p == (0, 0))
    }
}

/// These leading dimensions, then the spatial ones.
fn with(leading: [usize; 2], spatial: &[usize]) -> Vec<usize> {
    [&leading, spatial].concat()
}

/// `dx` is a convolution of `dy`, `dW` one of `x` with `dy` as its kernel, `db = Σ dy` over all but the channels.
pub(super) fn conv(row: &Conv, pullback: &mut Pullback<'_>) -> Result<(), OpError> {
    let dy = pullback.dy()?;
    if let Some(bias) = row.bias.as_ref().filter(|bias| pullback.wants(bias)) {
        let axes: Vec<usize> = (0..row.x.rank()).filter(|&axis| axis != 1).collect();
        pullback.give(bias, call::reduce_sum(dy).axes(lengths(&axes)?))?;
    }
    if !pullback.wants(&row.x) && !pullback.wants(&row.weight) {
        return Ok(());
    }
    let sizes = Sizes::of(row, pullback)?;
    if sizes.is_pointwise() {
        return pointwise(row, &sizes, dy, pullback);
    }
    if pullback.wants(&row.x) {
        let weight = |pullback: &mut Pullback<'_>| exchanged_weight(row, &sizes, pullback);
        let dx = input_gradient(weight, &sizes, dy, pullback)?;
        pullback.give(&row.x, dx)?;
    }
    if pullback.wants(&row.weight) {
        let x = pullback.value(&row.x)?;
        let dw = weight_gradient(x, &sizes, dy, pullback)?;
        pullback.give(&row.weight, dw)?;
    }
    Ok(())
}

/// A product of matrices `W [C_out, C_in]` and `x [n, C_in, S]`: `dx = Wᵀ · dy`, `dW = Σ dy · xᵀ` over the images.
fn pointwise(row: &Conv, sizes: &Sizes, dy: ValueId, pullback: &mut Pullback<'_>) -> Result<(), OpError> {
    let places = sizes.input.iter().product();
    let dy = pullback.reshape(dy, &[sizes.n, sizes.c_out, places])?;
    if pullback.wants(&row.x) {
        // A weight under another shape is no constant any more, and the factors of a product then have one type.
        let weight = pullback.cast(&row.weight, row.x.dtype())?;
        let weight = pullback.reshape(weight, &[1, sizes.c_out, sizes.c_in])?;
        let dx = pullback.bind(call::matmul(weight, dy).transpose_x(true))?;
        let dx = pullback.reshape(dx, &with([sizes.n, sizes.c_in], &sizes.input))?;
        pullback.give(&row.x, dx)?;
    }
    if pullback.wants(&row.weight) {
        let x = pullback.reshape(&row.x, &[sizes.n, sizes.c_in, places])?;
        let mut dw = pullback.bind(call::matmul(dy, x).transpose_y(true))?;
        if sizes.n != 1 {
            dw = pullback.bind(call::reduce_sum(dw).axes([0]))?;
        }
        let dw = pullback.reshape(dw, &with([sizes.c_out, sizes.c_in], &sizes.kernel))?;
        pullback.give(&row.weight, dw)?;
    }
    Ok(())
}

/// `dx[j] = Σ_t W[t] · dy[o]` over the taps `t` and windows `o` with `o · stride + t · dilation − before = j`: a
/// convolution of `dy`, with zeros between its elements for strides, with the kernel the other way round and its
/// channels exchanged within each group, `[C_in, C_out / groups, *K]`, which `weight` gives.
pub(crate) fn input_gradient(
    weight: impl FnOnce(&mut Pullback<'_>) -> Result<ValueId, OpError>,
    sizes: &Sizes,
    dy: ValueId,
    pullback: &mut Pullback<'_>,
) -> Result<ValueId, OpError> {
    let channels = sizes.groups * sizes.c_out;
    let (mut dy, mut dims) = (dy, with([sizes.n, channels], &sizes.output));
    let mut pads = Vec::new();
    for axis in 0..sizes.input.len() {
        dy = spread(dy, &mut dims, axis + 2, sizes.strides[axis], pullback)?;
        let (length, reach) = (dims[axis + 2] as i64, (sizes.kernel[axis] - 1) * sizes.dilations[axis]);
        let before = reach as i64 - sizes.pads[axis].0 as i64;
        let after = sizes.input[axis] as i64 + sizes.pads[axis].0 as i64 - length;
        // Where the forward's padding is wider than its kernel, elements of `dy` saw nothing but zeros.
        let (cut_before, cut_after) = ((-before).max(0), (-after).max(0));
        if cut_before + cut_after > 0 {
            let (from, to) = (cut_before as usize, (length - cut_after) as usize);
            dy = slice(dy, &mut dims, axis + 2, from, to, pullback)?;
        }
        pads.extend([before.max(0) as usize, after.max(0) as usize]);
    }
    let weight = weight(pullback)?;
    let dx = call::conv(dy, weight).pad_type("custom").pad(lengths(&pads)?);
    let dx = dx.dilations(lengths(&sizes.dilations)?).strides(vec![1; sizes.input.len()]);
    pullback.bind(dx.groups(group_count(sizes)?))
}

fn group_count(sizes: &Sizes) -> Result<i32, OpError> {
    Ok(lengths(&[sizes.groups])?[0])
}

/// Puts `stride − 1` zeros after every element along an axis.
fn spread(
    x: ValueId,
    dims: &mut [usize],
    axis: usize,
    stride: usize,
    pullback: &mut Pullback<'_>,
) -> Result<ValueId, OpError> {
    if stride == 1 {
        return Ok(x);
    }
    let (outer, inner) = (dims[..axis].iter().product(), dims[axis + 1..].iter().product());
    let x = pullback.reshape(x, &[outer, dims[axis], 1, inner])?;
    let zeros = lengths(&[0, stride - 1, 0, 0])?;
    let x = pullback.bind(call::pad(x, zeros).mode("constant").constant_val(0.0))?;
    dims[axis] *= stride;
    pullback.reshape(x, dims)
}

/// The elements from one place to another along an axis.
fn slice(
    x: ValueId,
    dims: &mut [usize],
    axis: usize,
    from: usize,
    to: usize,
    pullback: &mut Pullback<'_>,
) -> Result<ValueId, OpError> {
    let mut begin = vec![0; dims.len()];
    begin[axis] = from;
    dims[axis] = to - from;
    pullback.bind(call::slice_by_size(x, lengths(&begin)?, lengths(dims)?))
}

/// The weight `[C_in, C_out / groups, *K]` of the gradient, taps the other way round.
fn exchanged_weight(row: &Conv, sizes: &Sizes, pullback: &mut Pullback<'_>) -> Result<ValueId, OpError> {
    let taps = sizes.kernel.iter().product();
    let matrices = [sizes.groups, sizes.c_out, sizes.c_in, taps];
    let mut weight = pullback.reshape(&row.weight, &matrices)?;
    if taps > 1 {
        // In row-major order all spatial dimensions are reversed at once.
        weight = pullback.bind(call::reverse(weight).axes([3]))?;
    }
    if sizes.c_in > 1 && sizes.c_out > 1 {
        weight = pullback.transpose(weight, &[0, 2, 1, 3])?;
    }
    pullback.reshape(weight, &with([sizes.groups * sizes.c_in, sizes.c_out], &sizes.kernel))
}

/// `dW[t] = Σ_o x[o · stride + t · dilation − before] · dy[o]` over images and windows: a convolution of `x` with `dy`
/// as its kernel, in which images and channels, and strides and dilations, change places.
pub(crate) fn weight_gradient(
    x: ValueId,
    sizes: &Sizes,
    dy: ValueId,
    pullback: &mut Pullback<'_>,
) -> Result<ValueId, OpError> {
    let (n, groups) = (sizes.n, sizes.groups);
    let x = pullback.reshape(x, &[n, groups, sizes.c_in, sizes.input.iter().product()])?;
    let x = pullback.transpose(x, &[2, 1, 0, 3])?;
    let x = pullback.reshape(x, &with([sizes.c_in, groups * n], &sizes.input))?;
    let mut order: Vec<usize> = (0..2 + sizes.input.len()).collect();
    order.swap(0, 1);
    let kernel = pullback.transpose(dy, &order)?;
    let pads: Vec<usize> = sizes.pads.iter().flat_map(|&(before, after)| [before, after]).collect();
    let product = call::conv(x, kernel).pad_type("custom").pad(lengths(&pads)?);
    let product = product.strides(lengths(&sizes.dilations)?).dilations(lengths(&sizes.strides)?);
    let mut dw = pullback.bind(product.groups(group_count(sizes)?))?;
    // Where strides leave the end of `x` unseen, there are more places for the kernel than taps.
    let dims = with([sizes.c_in, groups * sizes.c_out], &sizes.kernel);
    if pullback.ty(dw)?.shape.to_known().as_ref() != Some(&dims) {
        dw = pullback.bind(call::slice_by_size(dw, lengths(&vec![0; dims.len()])?, lengths(&dims)?))?;
    }
    pullback.transpose(dw, &order)
}
