//! `conv`: products of matrices, the right ones of which are what windows meet; or, where channels do not mix, windows over
//! planes.

use anemone_mil::ops::Convolution;
use anemone_mil::types::Dim;

use super::Choice;
use super::planes::{Finish, Planes, Products};
use super::product::{BiasAlong, Product, Side, float_operands, precision, vector_product};
use crate::element::is_float;
use crate::gemm::WindowShape;
use crate::threads::Threads;

/// A convolution is, per image and group, `weight [C_out, C_in·taps]` times what the windows meet, `[C_in·taps, *D_out]`:
/// the image itself, where windows are single positions.
pub(super) fn convolution(convolution: &Convolution<'_>, threads: &Threads) -> Option<Choice> {
    let weight = convolution.weight;
    let operands = float_operands(weight, convolution.x, convolution.bias)?;
    let dtype = Some(convolution.result.dtype).filter(|&dtype| is_float(dtype))?;
    let sizes = Sizes::of(convolution)?;
    if let Some(kernel) = depthwise(convolution, &sizes, threads) {
        return Some(Choice::finished(kernel, operands));
    }
    let [m, n, k] = sizes.product;
    let sides = [
        Side::new(0, weight.dtype(), m, k, false),
        Side::new(1, convolution.x.dtype(), k, n, false).every(sizes.of_group),
    ];
    let groups = sizes.groups;
    let batch: Vec<[usize; 2]> = (0..sizes.images * groups).map(|index| [index % groups, index]).collect();
    if convolution.bias.is_none()
        && sizes.windows.is_none()
        && let Some(kernel) = vector_product(sizes.product, sides, [false; 2], &batch, dtype, threads)
    {
        return Some(Choice::kernel(kernel, operands));
    }
    let kernel = Product::new(
        sizes.product,
        (sides, sizes.windows),
        convolution.bias.map(|bias| (bias.dtype(), BiasAlong::Rows)),
        batch,
        dtype,
        precision(&operands),
        threads,
    );
    kernel.map(|kernel| Choice::kernel(kernel, operands))
}

/// The sizes of the products that a convolution is.
struct Sizes {
    images: usize,
    groups: usize,
    /// Rows, columns and terms of each.
    product: [usize; 3],
    /// Elements of the channels of a group.
    of_group: usize,
    /// The windows, unless they are single positions.
    windows: Option<WindowShape>,
}

impl Sizes {
    /// `None` where they are not known, or too large.
    fn of(convolution: &Convolution<'_>) -> Option<Sizes> {
        let weight = convolution.weight.shape().to_known()?;
        let x = convolution.x.shape().to_known()?;
        let groups = usize::try_from(convolution.groups).ok()?;
        let shape = window_shape(convolution, [&x, &weight])?;
        let volume = |lengths: &[usize]| lengths.iter().try_fold(1usize, |all, &n| all.checked_mul(n));
        let [positions, windows] = [volume(&shape.input)?, volume(&shape.output)?];
        let terms = volume(&weight[1..])?;
        let single = shape.kernel == [1; 3] && shape.strides == [1; 3] && shape.input == shape.output;
        Some(Sizes {
            images: x[0],
            groups,
            product: [weight[0].checked_div(groups)?, windows, terms],
            of_group: weight[1].checked_mul(positions)?,
            windows: (!single).then_some(shape),
        })
    }
}

/// How the windows of a convolution lie; `None` where lengths are not known, or no `usize`.
fn window_shape(convolution: &Convolution<'_>, [x, weight]: [&[usize]; 2]) -> Option<WindowShape> {
    let known = |&length: &usize| Some(length);
    let length = |&length: &u64| usize::try_from(length).ok();
    let shape = WindowShape {
        input: spatial(&x[2..], 1, known)?,
        output: spatial(&convolution.result.shape.0[2..], 1, dimension)?,
        kernel: spatial(&weight[2..], 1, known)?,
        strides: spatial(&convolution.strides, 1, length)?,
        dilations: spatial(&convolution.dilations, 1, length)?,
        before: spatial(&convolution.pads, 0, before)?,
    };
    Some(shape.without_last_single().0)
}

/// The length of a dimension that is known.
pub(super) fn dimension(dim: &Dim) -> Option<usize> {
    usize::try_from(dim.known()?).ok()
}

/// The zeros before a dimension.
pub(super) fn before(pad: &Option<(u64, u64)>) -> Option<usize> {
    usize::try_from(pad.as_ref()?.0).ok()
}

/// Numbers for up to three spatial dimensions, after others that hold `fill`; `None` where one is not known.
pub(super) fn spatial<T>(
    entries: &[T],
    fill: usize,
    number: impl Fn(&T) -> Option<usize>,
) -> Option<[usize; 3]> {
    let mut all = [fill; 3];
    let missing = all.len().checked_sub(entries.len())?;
    for (to, entry) in all[missing..].iter_mut().zip(entries) {
        *to = number(entry)?;
    }
    Some(all)
}

/// More channels of the result for each of the image are better computed as a product.
const MOST_OF_ONE_CHANNEL: usize = 4;
/// Windows further apart are better gathered one by one.
pub(super) const MOST_STRIDE: usize = 64;

/// The kernel for a convolution of which each channel of the result comes of one channel of the image, over one or two
/// dimensions.
fn depthwise(convolution: &Convolution<'_>, sizes: &Sizes, threads: &Threads) -> Option<Planes<Products>> {
    let [multiplier, _, terms] = sizes.product;
    let shape = sizes.windows.as_ref().filter(|shape| is_planar(shape))?;
    let alone = terms == shape.kernel.iter().product::<usize>() && multiplier <= MOST_OF_ONE_CHANNEL;
    if !alone || shape.strides[2] > MOST_STRIDE {
        return None;
    }
    let dtype = convolution.result.dtype;
    let planes = Planes::new(Products, (shape.clone(), dtype), Finish::None, threads)?;
    let channels = multiplier * sizes.groups;
    let bias = convolution.bias.map(|bias| bias.dtype());
    Some(planes.weighted(convolution.weight.dtype(), bias, (channels, multiplier)))
}

/// Whether windows lie over two dimensions at most.
pub(super) fn is_planar(shape: &WindowShape) -> bool {
    shape.input[0] == 1 && shape.kernel[0] == 1 && shape.output[0] == 1
}
