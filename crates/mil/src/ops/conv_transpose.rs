//! Transposed convolution.

use crate::eval::{Evaluation, Numbers, room};
use crate::ops::convolution::{Volume, per_dimension, spatial_rank, steps, volume};
use crate::ops::{Accuracy, FLOAT, OpError, Operand, movement, rules};
use crate::tensor::Tensor;
use crate::types::{Dim, Shape, TensorType};

mod gradient;

crate::ops! {
    /// Each element of `x [n, C_in, *D]` times the filter of its channel, `weight [C_in, C_out / groups, *K]`, added where
    /// the filter lies; plus `bias [C_out]`. It is what takes the gradient through the `conv` that makes an `x` from the
    /// result with these strides, dilations, groups and padding, and has the same `weight`.
    ///
    /// The result is `(D − 1) · stride + (K − 1) · dilation + 1` long, less the padding, which `pad` says with the
    /// `pad_type` `custom`; with `same`, `D · stride`. With `output_shape` it is of that shape, which must be one that the
    /// `conv` makes an `x` from.
    ConvTranspose = conv_transpose(x: Operand[T], #[constant_until = IOS17] weight: Operand[U];
        #[constant_until = IOS17] bias: Option<Operand>[U], pad: Option<Vec<i32>>, output_shape: Option<Vec<i32>>,
        pad_type: String = "valid", strides: Option<Vec<i32>>, dilations: Option<Vec<i32>>, groups: i32 = 1)
        since IOS15 where [T: FLOAT, U = T]
        since IOS17 where [T: FLOAT, U: FLOAT]
        { infer: |row| Ok(vec![TransposedConvolution::of(row)?.result]), eval: |row, e| TransposedConvolution::of(row)?.evaluate(row, e),
          accuracy: Accuracy::Sum(1); vjp: gradient::conv_transpose; flops: transposed_flops }
}

/// A transposed convolution's parameters with the defaults filled in, one entry per spatial dimension.
#[derive(Debug, Clone)]
pub struct TransposedConvolution {
    /// Distance between the places of neighbouring filters.
    pub strides: Vec<u64>,
    /// Distance between neighbouring taps of a filter.
    pub dilations: Vec<u64>,
    /// What is cut off before and after each dimension; `None` where an unknown length decides it.
    pub pads: Vec<Option<(u64, u64)>>,
    /// Groups of channels that see only each other.
    pub groups: u64,
    /// `[n, C_out, *D_out]`.
    pub result: TensorType,
}

impl TransposedConvolution {
    /// The convolution that an op asks for.
    ///
    /// # Errors
    ///
    /// When shapes and parameters do not fit together.
    pub fn of(row: &ConvTranspose) -> Result<TransposedConvolution, OpError> {
        let (x, weight) = (&row.x, &row.weight);
        let spatial = spatial_rank(x, weight)?;
        let strides = per_dimension("strides", row.strides.as_deref(), spatial)?;
        let dilations = per_dimension("dilations", row.dilations.as_deref(), spatial)?;
        let (groups, c_out) = channels(row)?;
        let asked = output_shape(row, c_out)?;
        let given = given_pads(row, spatial)?;
        let n = asked.as_ref().map_or(x.shape().0[0], |shape| Dim::Known(shape[0]));
        let (mut dims, mut pads) = (vec![n, c_out], Vec::with_capacity(spatial));
        for i in 0..spatial {
            let axis = Axis {
                input: x.shape().0[i + 2],
                kernel: weight.shape().0[i + 2],
                stride: strides[i],
                dilation: dilations[i],
                pad: given.as_ref().map(|pads| pads[i]),
                asked: asked.as_ref().map(|shape| shape[i + 2]),
            };
            let (length, pad) = axis.output()?;
            dims.push(length);
            pads.push(pad);
        }
        let result = movement::result("strides", x.dtype(), dims)?.remove(0);
        Ok(TransposedConvolution { strides, dilations, pads, groups, result })
    }
}

/// Checks channels, groups and bias; gives the number of groups and the channels of the result.
fn channels(row: &ConvTranspose) -> Result<(u64, Dim), OpError> {
    let found = |error: OpError| error.found(format!("found {}", row.groups));
    let groups = u64::try_from(row.groups).ok().filter(|&groups| groups > 0);
    let groups = groups.ok_or_else(|| found(OpError::rule("groups", "must be at least 1")))?;
    let (c_in, filters) = (row.x.shape().0[1], row.weight.shape().0[0]);
    if !c_in.agrees_with(filters) {
        let message = format!("must have a filter for each of the {c_in} channels of `x`");
        return Err(OpError::rule("weight", message).found(format!("found {filters}")));
    }
    if let Dim::Known(c_in) = c_in.or(filters)
        && c_in % groups != 0
    {
        return Err(found(OpError::rule("groups", format!("must divide the {c_in} channels of `x`"))));
    }
    let c_out = match row.weight.shape().0[1] {
        Dim::Known(per_group) => Dim::Known(per_group.checked_mul(groups).ok_or_else(|| {
            OpError::rule("groups", "the result has too many channels").found(format!("found {groups}"))
        })?),
        Dim::Unknown => Dim::Unknown,
    };
    if let Some(bias) = &row.bias
        && !(bias.rank() == 1 && bias.shape().0[0].agrees_with(c_out))
    {
        return Err(OpError::rule("bias", format!("must have the shape [{c_out}]"))
            .found(format!("found {}", bias.shape())));
    }
    Ok((groups, c_out))
}

/// The shape that is asked for, whose first two dimensions are no choice.
fn output_shape(row: &ConvTranspose, c_out: Dim) -> Result<Option<Vec<u64>>, OpError> {
    let Some(given) = &row.output_shape else { return Ok(None) };
    let shape: Vec<u64> = given.iter().filter_map(|&length| u64::try_from(length).ok()).collect();
    let n = row.x.shape().0[0];
    let fits = shape.len() == given.len()
        && shape.len() == row.x.rank()
        && n.agrees_with(Dim::Known(shape[0]))
        && c_out.agrees_with(Dim::Known(shape[1]));
    if fits {
        return Ok(Some(shape));
    }
    let message = format!("must hold {} lengths, of which the first are {n} and {c_out}", row.x.rank());
    Err(OpError::rule("output_shape", message).found(format!("found {given:?}")))
}

/// What `pad_type` and `pad` say is cut off before and after each dimension; `None` where the lengths decide it.
fn given_pads(row: &ConvTranspose, spatial: usize) -> Result<Option<Vec<(u64, u64)>>, OpError> {
    match row.pad_type.as_str() {
        "valid" => Ok(Some(vec![(0, 0); spatial])),
        "same" => Ok(None),
        "custom" => {
            let pad = row.pad.clone().unwrap_or_else(|| vec![0; 2 * spatial]);
            let entries: Vec<u64> = pad.iter().filter_map(|&entry| u64::try_from(entry).ok()).collect();
            if entries.len() != pad.len() || entries.len() != 2 * spatial {
                let message = format!("must hold {} numbers, none negative", 2 * spatial);
                return Err(OpError::rule("pad", message)
                    .found(format!("found {pad:?}"))
                    .with_help("two for each spatial dimension: what is cut off before and after it"));
            }
            Ok(Some(entries.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect()))
        }
        other => {
            Err(OpError::rule("pad_type", "must be valid, same or custom")
                .found(format!("found \"{other}\"")))
        }
    }
}

/// One spatial dimension.
struct Axis {
    input: Dim,
    kernel: Dim,
    stride: u64,
    dilation: u64,
    /// What is cut off, unless the lengths decide it.
    pad: Option<(u64, u64)>,
    /// The length that is asked for.
    asked: Option<u64>,
}

impl Axis {
    /// The length of the result, and what is cut off.
    fn output(&self) -> Result<(Dim, Option<(u64, u64)>), OpError> {
        let (Dim::Known(input), Dim::Known(kernel)) = (self.input, self.kernel) else {
            return Ok((self.asked.map_or(Dim::Unknown, Dim::Known), self.pad));
        };
        let too_long = || OpError::rule("strides", "the result is too long");
        let taps = kernel.checked_sub(1).and_then(|gaps| gaps.checked_mul(self.dilation));
        let taps = taps.and_then(|gaps| gaps.checked_add(1)).ok_or_else(|| {
            OpError::rule("weight", "the kernel must have at least one tap, and not too many")
        })?;
        let gaps = input
            .checked_sub(1)
            .ok_or_else(|| OpError::rule("x", "must have elements along every dimension"))?;
        let full =
            gaps.checked_mul(self.stride).and_then(|gaps| gaps.checked_add(taps)).ok_or_else(too_long)?;
        let (length, pad) = match self.pad {
            Some((before, after)) => {
                let cut = before.checked_add(after).ok_or_else(too_long)?;
                let left = full
                    .checked_sub(cut)
                    .ok_or_else(|| OpError::rule("pad", format!("cuts {cut} off a dimension of {full}")));
                (self.asked.map_or_else(|| left, Ok)?, (before, after))
            }
            None => {
                let whole = input.checked_mul(self.stride).ok_or_else(too_long)?;
                let length = self.asked.unwrap_or(whole);
                let cut = full.saturating_sub(length);
                (length, (cut / 2, cut.div_ceil(2)))
            }
        };
        let padded = length.checked_add(pad.0).and_then(|sum| sum.checked_add(pad.1)).ok_or_else(too_long)?;
        let windows = match self.pad {
            Some(_) => padded.checked_sub(taps).map(|room| room / self.stride + 1),
            None => Some(length.div_ceil(self.stride)),
        };
        if windows == Some(input) {
            return Ok((Dim::Known(length), Some(pad)));
        }
        Err(OpError::rule(
            "output_shape",
            format!("a convolution does not make {input} elements from {length}"),
        )
        .found("with these strides, dilations and padding"))
    }
}

/// Two floating-point operations for each product, and one for each element of a bias.
fn transposed_flops(row: &ConvTranspose) -> Option<u64> {
    let taps = Shape(row.weight.shape().0.get(1..)?.to_vec()).elements()?;
    let products = row.x.shape().elements()?.checked_mul(taps)?.checked_mul(2)?;
    let result = TransposedConvolution::of(row).ok()?.result.shape.elements()?;
    products.checked_add(if row.bias.is_some() { result } else { 0 })
}

impl TransposedConvolution {
    fn evaluate(&self, row: &ConvTranspose, evaluation: &mut Evaluation) -> Result<Vec<Tensor>, OpError> {
        let dims = rules::known_dims(&self.result.shape)?;
        let (x_dims, weight_dims) = (row.x.dims()?, row.weight.dims()?);
        let (x, weight) = (row.x.floats()?, row.weight.floats()?);
        let (input, kernel, output) = (volume(&x_dims[2..]), volume(&weight_dims[2..]), volume(&dims[2..]));
        let [input_size, kernel_size, output_size] =
            [input, kernel, output].map(|v| v.iter().product::<usize>());
        let groups = usize::try_from(self.groups).unwrap_or(1);
        let (c_in, per_group) = (x_dims[1] / groups, weight_dims[1]);
        let work = (dims.iter().product::<usize>() as u64).saturating_mul((c_in * kernel_size) as u64);
        evaluation.charge(work)?;
        let bias = row.bias.as_ref().map(Operand::floats).transpose()?;
        let meets = self.meets(input);
        let mut sums = room(dims.iter().product())?;
        let (mut elements, mut factors) = (Vec::new(), Vec::new());
        for index in 0..dims.iter().product() {
            let (plane, place) = (index / output_size, coordinates(index % output_size, output));
            let (image, channel) = (plane / dims[1], plane % dims[1]);
            elements.clear();
            factors.clear();
            let first = channel / per_group * c_in;
            for c in first..first + c_in {
                let from = (image * x_dims[1] + c) * input_size;
                let filter = (c * per_group + channel % per_group) * kernel_size;
                for tap in 0..kernel_size {
                    let at = coordinates(tap, kernel);
                    let met = [0, 1, 2].map(|axis| meets(axis, place[axis], at[axis]));
                    if let [Some(i), Some(j), Some(k)] = met {
                        elements.push(x[from + (i * input[1] + j) * input[2] + k]);
                        factors.push(weight[filter + tap]);
                    }
                }
            }
            let start = bias.as_ref().map_or(0.0, |bias| bias[channel]);
            sums.push(match evaluation.arithmetic().sums() {
                Some(own) => own.of_products(self.result.dtype, start, &elements, &factors),
                None => elements.iter().zip(&factors).fold(start, |sum, (x, w)| sum + x * w),
            });
        }
        Ok(vec![evaluation.tensor(self.result.dtype, &dims, Numbers::Float(sums))?])
    }

    /// The input coordinate whose filter has a tap at an output coordinate, along an axis.
    fn meets(&self, input: Volume) -> impl Fn(usize, usize, usize) -> Option<usize> {
        let (strides, dilations) = (steps(&self.strides, 1), steps(&self.dilations, 1));
        let before: Vec<u64> = self.pads.iter().map(|pad| pad.map_or(0, |(before, _)| before)).collect();
        let before = steps(&before, 0);
        move |axis, place, tap| {
            let from = (place + before[axis]).checked_sub(tap * dilations[axis])?;
            (from % strides[axis] == 0).then_some(from / strides[axis]).filter(|&at| at < input[axis])
        }
    }
}

/// The coordinates of the element at a position of a volume.
fn coordinates(position: usize, dims: Volume) -> Volume {
    [position / (dims[1] * dims[2]), position / dims[2] % dims[1], position % dims[2]]
}

#[cfg(test)]
mod tests {
    use crate::ops::Given;
    use crate::ops::testing::*;
    use crate::types::{DType, Opset};

    fn given(x: &[i64], weight: &[i64], more: &[(&'static str, Given)]) -> Vec<(&'static str, Given)> {
        let fixed = [("x", typed(DType::Fp32, x)), ("weight", typed(DType::Fp32, weight))];
        [&fixed[..], more].concat()
    }

    #[test]
    fn lengths_are_those_that_a_convolution_starts_from() {
        let ty = |x: &[i64], weight: &[i64], more: &[(&'static str, Given)]| {
            infer("conv_transpose", Opset::IOS17, &given(x, weight, more))
        };
        let strides = || ("strides", ints(&[3]));
        assert_eq!(ty(&[1, 2, 4], &[2, 3, 2], &[strides()]).unwrap(), "[1, 3, 11]");
        assert_eq!(
            ty(&[1, 2, 4], &[2, 3, 2], &[strides(), ("pad_type", text("same"))]).unwrap(),
            "[1, 3, 12]"
        );
        let custom = [strides(), ("pad_type", text("custom")), ("pad", ints(&[1, 0]))];
        assert_eq!(ty(&[1, 2, -1], &[2, 3, 2], &custom).unwrap(), "[1, 3, ?]");
        assert_eq!(ty(&[-1, 2, 4], &[2, 3, 2], &custom).unwrap(), "[?, 3, 10]");
        for (asked, good) in [(10, false), (11, true), (12, true), (13, true), (14, false)] {
            let shape = [strides(), ("output_shape", ints(&[1, 3, asked]))];
            assert_eq!(ty(&[1, 2, 4], &[2, 3, 2], &shape).is_ok(), good, "{asked}");
        }
    }

    #[test]
    fn hostile_transposed_convolutions_are_refused() {
        let refuse = |x: &[i64], weight: &[i64], more: &[(&'static str, Given)]| {
            infer("conv_transpose", Opset::IOS17, &given(x, weight, more)).unwrap_err().to_string()
        };
        let (x, weight) = (&[1, 4, 5][..], &[4, 2, 3][..]);
        assert!(refuse(&[1, 4], weight, &[]).contains("must have rank 3 to 5"));
        assert!(refuse(x, &[4, 2, 3, 3], &[]).contains("must have the rank of `x`"));
        assert!(refuse(x, &[3, 2, 3], &[]).contains("a filter for each of the 4 channels"));
        assert!(refuse(x, weight, &[("groups", int(3))]).contains("must divide the 4 channels"));
        assert!(refuse(x, weight, &[("groups", int(0))]).contains("at least 1"));
        assert!(refuse(x, weight, &[("strides", ints(&[0]))]).contains("positive"));
        assert!(refuse(x, weight, &[("pad_type", text("same_lower"))]).contains("valid, same or custom"));
        assert!(refuse(x, &[4, 2, 0], &[]).contains("at least one tap"));
        assert!(refuse(&[1, 4, 0], weight, &[]).contains("must have elements"));
        let pad = |pad: &[i32]| refuse(x, weight, &[("pad_type", text("custom")), ("pad", ints(pad))]);
        assert!(pad(&[4, 4]).contains("cuts 8 off a dimension of 7"));
        assert!(pad(&[1]).contains("must hold 2 numbers"));
        assert!(pad(&[-1, 0]).contains("none negative"));
        let asked = |shape: &[i32]| refuse(x, weight, &[("output_shape", ints(shape))]);
        assert!(asked(&[1, 3, 7]).contains("the first are 1 and 2"));
        assert!(asked(&[1, 2]).contains("must hold 3 lengths"));
        assert!(asked(&[1, 2, 9]).contains("does not make 5 elements from 9"));
        let huge = [("strides", ints(&[i32::MAX])), ("dilations", ints(&[i32::MAX]))];
        assert!(refuse(&[1, 4, i64::MAX], weight, &huge).contains("too long"));
        // No dimension is too long, and all of them together are.
        let strides = [("strides", ints(&[i32::MAX; 3]))];
        assert!(refuse(&[1, 1, 3, 3, 3], &[1, 1, 1, 1, 1], &strides).contains("too large"));
    }
}
