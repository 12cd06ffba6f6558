//! `conv_transpose`: what the taps of every filter are multiplied by is a product of matrices; its rows, one for each tap of
//! each channel of the result, are added where the taps lie.

use std::ops::Range;

use anemone_mil::ops::{ConvTranspose, OpDef, OpError, Operands, Row, TransposedConvolution};
use anemone_mil::types::DType;
use pulp::{Simd, WithSimd};

use super::convolution::{before, dimension, spatial};
use super::finished::Finished;
use super::product::{Side, float_operands, precision};
use super::{Choice, Elements};
use crate::element::{Float, Round, is_float};
use crate::gemm::{After, Bias, Gemm, Output, line};
use crate::memory::Sources;
use crate::threads::Threads;

/// Values of products that are kept at a time, unless those of one channel are more.
const MOST_PRODUCTS: usize = 1 << 19;

pub(super) fn transposed(
    row: &OpDef,
    operands: &Operands<'_>,
    threads: &Threads,
) -> Result<Option<Choice>, OpError> {
    let row = ConvTranspose::bind(operands, row.since)?;
    let Some(operands) = float_operands(&row.weight, &row.x, row.bias.as_ref()) else { return Ok(None) };
    let kernel = Transposed::new(&row, &TransposedConvolution::of(&row)?, precision(&operands), threads);
    Ok(kernel.map(|kernel| Choice::finished(kernel, operands)))
}

/// A transposed convolution: for each image and group, `weightᵀ [C_out·taps, C_in] · x [C_in, *D]`, and the sums of its rows.
struct Transposed {
    /// How taps lie: elements of a channel, of one of the result, of a filter, and distances and what is cut off.
    input: [usize; 3],
    output: [usize; 3],
    kernel: [usize; 3],
    strides: [usize; 3],
    dilations: [usize; 3],
    before: [usize; 3],
    images: usize,
    groups: usize,
    /// Channels of the result in each group, and how many of them are computed at a time.
    channels: usize,
    block: usize,
    /// The product for a block of channels, and that for the last, which may have fewer.
    gemms: [Gemm; 2],
    weight: Side,
    x: Side,
    bias: Option<DType>,
    dtype: DType,
    threads: usize,
}

impl Transposed {
    fn new(
        row: &ConvTranspose,
        convolution: &TransposedConvolution,
        precision: crate::gemm::Precision,
        threads: &Threads,
    ) -> Option<Transposed> {
        let (x, weight) = (row.x.shape().to_known()?, row.weight.shape().to_known()?);
        let known = |&length: &usize| Some(length);
        let length = |&length: &u64| usize::try_from(length).ok();
        let groups = usize::try_from(convolution.groups).ok()?;
        let (channels, terms) = (weight[1], weight[0].checked_div(groups)?);
        let (input, kernel) = (spatial(&x[2..], 1, known)?, spatial(&weight[2..], 1, known)?);
        let [positions, taps] = [input, kernel].map(|lengths| lengths.iter().product::<usize>());
        let of_channel = positions.checked_mul(taps)?;
        let block = (MOST_PRODUCTS / of_channel.max(1)).clamp(1, channels.max(1));
        let last = channels - (channels.saturating_sub(1) / block) * block;
        let gemm = |channels: usize| Gemm::new([channels * taps, positions, terms], precision, threads);
        let dtype = Some(convolution.result.dtype).filter(|&dtype| is_float(dtype))?;
        Some(Transposed {
            input,
            output: spatial(&convolution.result.shape.0[2..], 1, dimension)?,
            kernel,
            strides: spatial(&convolution.strides, 1, length)?,
            dilations: spatial(&convolution.dilations, 1, length)?,
            before: spatial(&convolution.pads, 0, before)?,
            images: x[0],
            groups,
            channels,
            block,
            gemms: [gemm(block), gemm(last)],
            weight: Side::new(0, row.weight.dtype(), channels * taps, terms, true),
            x: Side::new(1, row.x.dtype(), terms, positions, false),
            bias: row.bias.as_ref().map(|bias| bias.dtype()),
            dtype,
            threads: threads.count(),
        })
    }

    /// Values of working memory: of the product's own, of its result, and, for each thread, of a channel of the result.
    fn parts(&self) -> [usize; 3] {
        let [positions, taps, plane] =
            [self.input, self.kernel, self.output].map(|lengths| lengths.iter().product::<usize>());
        let own = self.gemms[0].scratch().max(self.gemms[1].scratch());
        [line(own), line(self.block * taps * positions), line(plane)]
    }

    /// Along an axis, the elements of `x` for which a tap lies in the result, and where it lies for the first of them.
    fn met(&self, axis: usize, tap: usize) -> (Range<usize>, usize) {
        let (stride, offset) = (self.strides[axis], tap * self.dilations[axis]);
        let first = self.before[axis].saturating_sub(offset).div_ceil(stride);
        let past = (self.output[axis] + self.before[axis]).saturating_sub(offset).div_ceil(stride);
        let met = first..past.min(self.input[axis]).max(first);
        (met, (first * stride + offset).saturating_sub(self.before[axis]))
    }
}

/// Adds the rows of the products of one channel where the taps lie.
struct Add<'a> {
    of: &'a Transposed,
    products: &'a [f32],
    sums: &'a mut [f32],
}

impl WithSimd for Add<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Add { of, products, sums } = self;
        let ([_, height, width], [_, rows, columns]) = (of.input, of.output);
        let positions = of.input.iter().product::<usize>();
        let taps = (0..of.kernel[0])
            .flat_map(|z| (0..of.kernel[1]).flat_map(move |y| (0..of.kernel[2]).map(move |x| [z, y, x])));
        for (number, [z, y, x]) in taps.enumerate() {
            let products = &products[number * positions..][..positions];
            let ((layers, first_layer), (lines, first_line)) = (of.met(0, z), of.met(1, y));
            let (met, start) = of.met(2, x);
            if met.is_empty() {
                continue;
            }
            for (layer, from_layer) in layers.enumerate() {
                let to_layer = first_layer + layer * of.strides[0];
                for (line, from_line) in lines.clone().enumerate() {
                    let to_line = first_line + line * of.strides[1];
                    let from = &products[(from_layer * height + from_line) * width..][met.clone()];
                    let to = &mut sums[(to_layer * rows + to_line) * columns + start..];
                    match of.strides[2] {
                        1 => to.iter_mut().zip(from).for_each(|(to, from)| *to += from),
                        stride => to.iter_mut().step_by(stride).zip(from).for_each(|(to, from)| *to += from),
                    }
                }
            }
        }
    }
}

impl Finished for Transposed {
    fn dtype(&self) -> DType {
        self.dtype
    }

    fn values(&self) -> usize {
        let [own, products, plane] = self.parts();
        own.saturating_add(products).saturating_add(plane.saturating_mul(self.threads))
    }

    fn compute<T: Float>(
        &self,
        operands: Sources<'_>,
        result: &mut [T],
        scratch: &mut [f32],
        threads: &Threads,
        epilogue: Option<Elements<'_>>,
    ) {
        let [own, products, plane_room] = self.parts();
        let (own, scratch) = scratch.split_at_mut(own);
        let (products, scratch) = scratch.split_at_mut(products);
        let planes = &mut scratch[..self.threads * plane_room];
        let [positions, taps, plane] =
            [self.input, self.kernel, self.output].map(|lengths| lengths.iter().product::<usize>());
        let bias = self.bias.map(|bias| operands.floats(2, bias));
        let groups = result.chunks_mut((self.channels * plane).max(1)).take(self.images * self.groups);
        for (index, result) in groups.enumerate() {
            let group = index % self.groups;
            for (block, result) in result.chunks_mut(self.block * plane).enumerate() {
                let (first, count) = (block * self.block, result.len() / plane);
                let gemm = if count == self.block { &self.gemms[0] } else { &self.gemms[1] };
                let products = &mut products[..count * taps * positions];
                let left = self.weight.part(&operands, group, first * taps);
                let right = self.x.matrix(&operands, index);
                let after = After { bias: Bias::None, epilogue: None };
                gemm.run(left, right.into(), after, Output::F32(&mut *products), &mut *own, threads);
                let channels = result.chunks_mut(plane).enumerate();
                threads.drain(channels, &mut *planes, |(channel, result), sums| {
                    let sums = &mut sums[..plane];
                    let number = group * self.channels + first + channel;
                    sums.fill(bias.map_or(0.0, |bias| bias.get(number)));
                    let products = &products[channel * taps * positions..][..taps * positions];
                    threads.arch().dispatch(Add { of: self, products, sums: &mut *sums });
                    if let Some(epilogue) = epilogue {
                        epilogue((index * self.channels + first + channel) * plane, sums);
                    }
                    threads.arch().dispatch(Round { results: sums, to: result });
                });
            }
        }
    }
}
