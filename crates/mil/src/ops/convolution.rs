//! Convolution.

use crate::eval::{Evaluation, Factor, Numbers, Product, Start, Sums, filled, room};
use crate::ops::matmul::sum_flops;
use crate::ops::{Accuracy, FLOAT, OpError, Operand, rules};
use crate::tensor::Tensor;
use crate::types::{Dim, Shape, TensorType};

pub(super) mod gradient;

crate::ops! {
    /// Cross-correlation of `x [n, C_in, *D]` with `weight [C_out, C_in / groups, *K]`, plus `bias [C_out]`,
    /// over one, two or three spatial dimensions. Without `bias` it is zero. From ios17 on weight and bias may have
    /// another floating-point type than `x`, and the bias need not be a constant.
    Conv = conv(x: Operand[T], weight: Operand[U];
        #[constant_until = IOS17] bias: Option<Operand>[U], strides: Option<Vec<i32>>,
        pad_type: String = "valid", pad: Option<Vec<i32>>, dilations: Option<Vec<i32>>, groups: i32 = 1)
        since IOS15 where [T: FLOAT, U = T]
        since IOS17 where [T: FLOAT, U: FLOAT]
        { infer: conv_type, eval: conv, accuracy: Accuracy::Sum(1); vjp: gradient::conv; flops: conv_flops }
}

/// A convolution's parameters with the defaults filled in, one entry per spatial dimension.
#[derive(Debug, Clone)]
pub struct Convolution<'a> {
    /// `[n, C_in, *D]`.
    pub x: &'a Operand,
    /// `[C_out, C_in / groups, *K]`.
    pub weight: &'a Operand,
    /// `[C_out]`.
    pub bias: Option<&'a Operand>,
    /// Distance between neighbouring windows.
    pub strides: Vec<u64>,
    /// Distance between neighbouring taps of a window.
    pub dilations: Vec<u64>,
    /// Zeros before and after each spatial dimension; `None` where an unknown length decides it.
    pub pads: Vec<Option<(u64, u64)>>,
    /// Groups of channels that see only each other.
    pub groups: u64,
    /// `[n, C_out, *D_out]`.
    pub result: TensorType,
}

impl<'a> Convolution<'a> {
    /// The convolution that an op asks for.
    ///
    /// # Errors
    ///
    /// When shapes and parameters do not fit together.
    pub fn of(row: &'a Conv) -> Result<Convolution<'a>, OpError> {
        let (x, weight) = (&row.x, &row.weight);
        let spatial = spatial_rank(x, weight)?;
        let strides = per_dimension("strides", row.strides.as_deref(), spatial)?;
        let dilations = per_dimension("dilations", row.dilations.as_deref(), spatial)?;
        let groups = check_channels(row)?;
        let kernel = &weight.shape().0[2..];
        let input = &x.shape().0[2..];
        let pads = pads((&row.pad_type, row.pad.as_deref()), input, kernel, &strides, &dilations)?;
        let mut dims = vec![x.shape().0[0], weight.shape().0[0]];
        for i in 0..spatial {
            dims.push(output_length(input[i], kernel[i], strides[i], dilations[i], pads[i])?);
        }
        let result = TensorType { dtype: x.dtype(), shape: Shape(dims) };
        Ok(Convolution { x, weight, bias: row.bias.as_ref(), strides, dilations, pads, groups, result })
    }
}

/// Checks channels, groups and bias; gives the number of groups.
fn check_channels(row: &Conv) -> Result<u64, OpError> {
    let groups = u64::try_from(row.groups).ok().filter(|&groups| groups > 0).ok_or_else(|| {
        OpError::rule("groups", "must be at least 1").found(format!("found {}", row.groups))
    })?;
    let (c_in, c_out) = (row.x.shape().0[1], row.weight.shape().0[0]);
    if let (Dim::Known(c_in), Dim::Known(per_group)) = (c_in, row.weight.shape().0[1])
        && per_group.checked_mul(groups) != Some(c_in)
    {
        let wanted = match groups {
            1 => format!("must take the {c_in} channels of `x`"),
            _ if c_in % groups == 0 => {
                format!("must take {} channels: those of `x`, {c_in}, in {groups} groups", c_in / groups)
            }
            _ => format!("the {c_in} channels of `x` cannot be taken in {groups} groups"),
        };
        return Err(OpError::rule("weight", wanted)
            .found(format!("each filter of {} takes {per_group}", row.weight.shape())));
    }
    if let Dim::Known(c_out) = c_out
        && c_out % groups != 0
    {
        return Err(OpError::rule("groups", format!("must divide the {c_out} output channels"))
            .found(format!("found {groups}")));
    }
    if let Some(bias) = &row.bias
        && !(bias.rank() == 1 && bias.shape().0[0].agrees_with(c_out))
    {
        return Err(OpError::rule("bias", format!("must have the shape [{c_out}]"))
            .found(format!("found {}", bias.shape())));
    }
    Ok(groups)
}

/// The number of spatial dimensions of `x`, `[n, C_in, *D]`, and of a weight of the same rank.
pub(super) fn spatial_rank(x: &Operand, weight: &Operand) -> Result<usize, OpError> {
    if !(3..=5).contains(&x.rank()) {
        let error = OpError::rule("x", "must have rank 3 to 5: [n, C_in, *D]");
        return Err(error.found(format!("found {}", x.ty)));
    }
    if weight.rank() != x.rank() {
        return Err(OpError::rule("weight", format!("must have the rank of `x`, {}", x.rank()))
            .found(format!("found {}", weight.ty)));
    }
    Ok(x.rank() - 2)
}

/// A parameter with one positive entry per spatial dimension; 1 everywhere by default.
pub(super) fn per_dimension(name: &str, given: Option<&[i32]>, spatial: usize) -> Result<Vec<u64>, OpError> {
    let Some(given) = given else { return Ok(vec![1; spatial]) };
    let entries: Vec<u64> =
        given.iter().filter_map(|&entry| u64::try_from(entry).ok().filter(|&entry| entry > 0)).collect();
    if entries.len() != given.len() || entries.len() != spatial {
        return Err(OpError::rule(name, format!("must hold {spatial} positive numbers"))
            .found(format!("found {given:?}")));
    }
    Ok(entries)
}

/// What `pad_type` and `pad` put before and after each spatial dimension; `None` where an unknown length decides it.
pub(super) fn pads(
    (pad_type, pad): (&str, Option<&[i32]>),
    input: &[Dim],
    kernel: &[Dim],
    strides: &[u64],
    dilations: &[u64],
) -> Result<Vec<Option<(u64, u64)>>, OpError> {
    let spatial = input.len();
    let same = |lower: bool| {
        let pad = |i: usize| {
            let (length, kernel) = (input[i].known()?, kernel[i].known()?);
            let output = length.div_ceil(strides[i]);
            let reach = kernel.saturating_sub(1).saturating_mul(dilations[i]).saturating_add(1);
            let total = output.saturating_sub(1).saturating_mul(strides[i]).saturating_add(reach);
            let total = total.saturating_sub(length);
            let (less, more) = (total / 2, total.div_ceil(2));
            Some(if lower { (more, less) } else { (less, more) })
        };
        (0..spatial).map(pad).collect()
    };
    match pad_type {
        "valid" => Ok(vec![Some((0, 0)); spatial]),
        "same" => Ok(same(false)),
        "same_lower" => Ok(same(true)),
        "custom" => {
            let pad = pad.ok_or_else(|| {
                OpError::rule("pad_type", "\"custom\" needs the parameter `pad`").found("`pad` is missing")
            })?;
            let entries: Vec<u64> = pad.iter().filter_map(|&entry| u64::try_from(entry).ok()).collect();
            if entries.len() != pad.len() || entries.len() != 2 * spatial {
                let message = format!("must hold {} numbers, none negative", 2 * spatial);
                return Err(OpError::rule("pad", message)
                    .found(format!("found {pad:?}"))
                    .with_help("two for each spatial dimension: before and after it"));
            }
            Ok(entries.chunks_exact(2).map(|pair| Some((pair[0], pair[1]))).collect())
        }
        other => Err(OpError::rule("pad_type", "must be valid, same, same_lower or custom")
            .found(format!("found \"{other}\""))),
    }
}

/// The number of windows along one dimension.
fn output_length(
    input: Dim,
    kernel: Dim,
    stride: u64,
    dilation: u64,
    pad: Option<(u64, u64)>,
) -> Result<Dim, OpError> {
    let (Dim::Known(input), Dim::Known(kernel), Some((before, after))) = (input, kernel, pad) else {
        return Ok(Dim::Unknown);
    };
    let overflow = || OpError::rule("pad", "the padded input is too long");
    let padded = input.checked_add(before).and_then(|sum| sum.checked_add(after)).ok_or_else(overflow)?;
    let reach =
        kernel.checked_sub(1).and_then(|gaps| gaps.checked_mul(dilation)).and_then(|r| r.checked_add(1));
    let Some(reach) = reach else {
        return Err(OpError::rule("weight", "the kernel must have at least one tap, and not too many"));
    };
    match padded.checked_sub(reach) {
        Some(room) => Ok(Dim::Known(room / stride + 1)),
        None => Err(OpError::rule("weight", format!("the kernel reaches over {reach} positions"))
            .found(format!("the padded input has {padded}"))),
    }
}

/// Two floating-point operations for each product, and one for each element of a bias.
pub(super) fn conv_flops(row: &Conv) -> Option<u64> {
    let convolution = Convolution::of(row).ok()?;
    let taps = Shape(convolution.weight.shape().0.get(1..)?.to_vec()).elements()?;
    sum_flops(convolution.result.shape.elements()?, taps, convolution.bias.is_some())
}

pub(super) fn conv_type(row: &Conv) -> Result<Vec<TensorType>, OpError> {
    Ok(vec![Convolution::of(row)?.result])
}

pub(super) fn conv(row: &Conv, evaluation: &mut Evaluation) -> Result<Vec<Tensor>, OpError> {
    Convolution::of(row)?.evaluate(evaluation)
}

/// A window's extent in three spatial dimensions; missing ones have length 1.
pub(super) type Volume = [usize; 3];

pub(super) fn volume(dims: &[usize]) -> Volume {
    let mut volume = [1; 3];
    volume[3 - dims.len()..].copy_from_slice(dims);
    volume
}

pub(super) fn steps(entries: &[u64], fill: usize) -> Volume {
    let mut steps = [fill; 3];
    for (step, &entry) in steps[3 - entries.len()..].iter_mut().zip(entries) {
        *step = usize::try_from(entry).unwrap_or(usize::MAX);
    }
    steps
}

impl Convolution<'_> {
    fn evaluate(&self, evaluation: &mut Evaluation) -> Result<Vec<Tensor>, OpError> {
        let dims = rules::known_dims(&self.result.shape)?;
        let (x, weight) = (self.x.floats()?, self.weight.floats()?);
        let weight_dims = self.weight.dims()?;
        let taps = weight_dims[1..].iter().product::<usize>() as u64;
        let elements = dims.iter().product::<usize>() as u64;
        evaluation.charge(elements.saturating_mul(taps))?;
        let bias = match self.bias {
            Some(bias) => bias.floats()?,
            None => filled(dims[1], 0.0)?,
        };
        let input = volume(&self.x.dims()?[2..]);
        let output = volume(&dims[2..]);
        let channels_in = self.x.dims()?[1];
        let (input_size, output_size) = (input.iter().product::<usize>(), output.iter().product::<usize>());
        let mut sums = filled(dims.iter().product(), 0.0)?;
        if let Some(own) = evaluation.arithmetic().sums() {
            if self.is_matrix_product(&weight_dims[2..]) {
                sums = self.multiply(own, (&x, &weight, &bias), &dims, weight_dims[1])?;
                return Ok(vec![evaluation.tensor(self.result.dtype, &dims, Numbers::Float(sums))?]);
            }
            let add = |start: f64, x: &[f64], w: &[f64]| own.of_products(self.result.dtype, start, x, w);
            sums = self.sum_windows(&x, &weight, &bias, &dims, add)?;
            return Ok(vec![evaluation.tensor(self.result.dtype, &dims, Numbers::Float(sums))?]);
        }
        let outputs_per_group = (dims[1] / usize::try_from(self.groups).unwrap_or(1)).max(1);
        for (index, plane) in sums.chunks_exact_mut(output_size.max(1)).enumerate() {
            let (image, channel) = (index / dims[1], index % dims[1]);
            plane.fill(bias[channel]);
            let first_channel = channel / outputs_per_group * weight_dims[1];
            for c in 0..weight_dims[1] {
                let from = (image * channels_in + first_channel + c) * input_size;
                let kernel_size = volume(&weight_dims[2..]).iter().product::<usize>();
                let kernel = (channel * weight_dims[1] + c) * kernel_size;
                self.add_channel(
                    plane,
                    output,
                    &x[from..from + input_size],
                    input,
                    &weight[kernel..kernel + kernel_size],
                    volume(&weight_dims[2..]),
                );
            }
        }
        Ok(vec![evaluation.tensor(self.result.dtype, &dims, Numbers::Float(sums))?])
    }

    /// Whether every window is one position, so that images are multiplied by the weight as matrices.
    fn is_matrix_product(&self, kernel: &[usize]) -> bool {
        let unpadded = self.pads.iter().all(|pad| *pad == Some((0, 0)));
        unpadded && kernel.iter().all(|&taps| taps == 1) && self.strides.iter().all(|&stride| stride == 1)
    }

    /// The result as products of matrices, `weight · x` for each image and group.
    fn multiply(
        &self,
        sums: &dyn Sums,
        (x, weight, bias): (&[f64], &[f64], &[f64]),
        dims: &[usize],
        k: usize,
    ) -> Result<Vec<f64>, OpError> {
        let groups = usize::try_from(self.groups).unwrap_or(1);
        let (m, n) = (dims[1] / groups, dims[2..].iter().product::<usize>());
        let mut all = room(dims.iter().product())?;
        for index in 0..dims[0] * groups {
            let group = index % groups;
            let factor = |values, transposed| Factor { values, transposed };
            all.extend(sums.of_matrices(&Product {
                dtype: self.result.dtype,
                x: factor(&weight[group * m * k..][..m * k], false),
                y: factor(&x[index * k * n..][..k * n], false),
                sizes: [m, k, n],
                start: Start::Rows(&bias[group * m..][..m]),
            })?);
        }
        Ok(all)
    }

    /// Every element of the result, added up by `add` from the bias and what its window meets: elements of `x` and of
    /// the weight, channel by channel.
    fn sum_windows(
        &self,
        x: &[f64],
        weight: &[f64],
        bias: &[f64],
        dims: &[usize],
        add: impl Fn(f64, &[f64], &[f64]) -> f64,
    ) -> Result<Vec<f64>, OpError> {
        let (x_dims, weight_dims) = (self.x.dims()?, self.weight.dims()?);
        let (input, output, kernel) = (volume(&x_dims[2..]), volume(&dims[2..]), volume(&weight_dims[2..]));
        let (input_size, taps) = (input.iter().product::<usize>(), kernel.iter().product::<usize>());
        let outputs_per_group = (dims[1] / usize::try_from(self.groups).unwrap_or(1)).max(1);
        let meets = self.meets(input);
        let mut sums = room(dims.iter().product())?;
        let (mut elements, mut factors) = (Vec::new(), Vec::new());
        for index in 0..dims[0] * dims[1] * output.iter().product::<usize>() {
            let (place, plane) =
                (index % output.iter().product::<usize>(), index / output.iter().product::<usize>());
            let (image, channel) = (plane / dims[1], plane % dims[1]);
            let at = [place / (output[1] * output[2]), place / output[2] % output[1], place % output[2]];
            elements.clear();
            factors.clear();
            for c in 0..weight_dims[1] {
                let from = image * x_dims[1] + channel / outputs_per_group * weight_dims[1] + c;
                for tap in 0..taps {
                    let k = [tap / (kernel[1] * kernel[2]), tap / kernel[2] % kernel[1], tap % kernel[2]];
                    let met = [meets(0, at[0], k[0]), meets(1, at[1], k[1]), meets(2, at[2], k[2])];
                    if let [Some(i), Some(j), Some(l)] = met {
                        elements.push(x[from * input_size + (i * input[1] + j) * input[2] + l]);
                        factors.push(weight[(channel * weight_dims[1] + c) * taps + tap]);
                    }
                }
            }
            sums.push(add(bias[channel], &elements, &factors));
        }
        Ok(sums)
    }

    /// The input coordinate that a tap meets along an axis for an output coordinate, unless it lies in the padding.
    fn meets(&self, input: Volume) -> impl Fn(usize, usize, usize) -> Option<usize> {
        let strides = steps(&self.strides, 1);
        let dilations = steps(&self.dilations, 1);
        let before: Vec<u64> = self.pads.iter().map(|pad| pad.map_or(0, |(before, _)| before)).collect();
        let before = steps(&before, 0);
        move |axis, out, tap| {
            let padded = out * strides[axis] + tap * dilations[axis];
            padded.checked_sub(before[axis]).filter(|&at| at < input[axis])
        }
    }

    /// Adds the products of one input channel with one kernel to an output plane, tap by tap.
    fn add_channel(
        &self,
        plane: &mut [f64],
        output: Volume,
        input: &[f64],
        input_dims: Volume,
        kernel: &[f64],
        kernel_dims: Volume,
    ) {
        let meets = self.meets(input_dims);
        for (tap, &w) in kernel.iter().enumerate() {
            let [k0, k1, k2] = [
                tap / (kernel_dims[1] * kernel_dims[2]),
                tap / kernel_dims[2] % kernel_dims[1],
                tap % kernel_dims[2],
            ];
            for o0 in 0..output[0] {
                let Some(i0) = meets(0, o0, k0) else { continue };
                for o1 in 0..output[1] {
                    let Some(i1) = meets(1, o1, k1) else { continue };
                    let row = (i0 * input_dims[1] + i1) * input_dims[2];
                    let sums = &mut plane[(o0 * output[1] + o1) * output[2]..][..output[2]];
                    for (o2, sum) in sums.iter_mut().enumerate() {
                        if let Some(i2) = meets(2, o2, k2) {
                            *sum += w * input[row + i2];
                        }
                    }
                }
            }
        }
    }
}
