//! Weights in their stored form, of which any elements can be decoded: they need not be dense in memory all at once.
//!
//! What is decoded are the bits that the meaning of the op gives that decompresses the constant.

mod decode;

use std::sync::Arc;

use anemone_mil::error::ErrorKind;
use anemone_mil::ops::{
    ConstexprAffineDequantize, ConstexprBlockwiseShiftScale, ConstexprLutToDense, ConstexprSparseToDense,
    OpDef, OpError, Operand, Operands, Row, block_of,
};
use anemone_mil::tensor::{Data, Tensor};
use anemone_mil::types::{DType, Opset, TensorType};
use anemone_mil::weights::pack;

use crate::element::{Float, is_float};
use crate::threads::Threads;

/// Elements of a sparse constant between two places of which it is known how many are stored before.
const MARKED: usize = 512;
/// Integers up to here, less zero points up to here, times numbers of fp16, are fp32 numbers.
const MOST_SHIFT: f64 = 1024.0;
/// Elements that a thread decodes at once.
const SHARE: usize = 1 << 13;
/// The work of decoding an element, in simple arithmetic steps.
pub(crate) const WORK: usize = 4;

/// A constant as it is stored, and how it is decoded.
pub(crate) struct Compressed {
    dims: Vec<usize>,
    dtype: DType,
    codes: Arc<Codes>,
    groups: Groups,
    form: Form,
}

/// Integers of one to eight bits, without gaps, each byte filled from its lowest bit.
struct Codes {
    bits: u32,
    /// Whether they are two's complements.
    signed: bool,
    bytes: Bytes,
}

enum Bytes {
    Packed(Vec<u8>),
    /// A tensor of bytes, or of signed bytes.
    Tensor(Arc<Tensor>),
}

/// Which elements share parameters.
struct Groups {
    /// Groups along each dimension.
    counts: Vec<usize>,
    /// Neighbours that are of one group: a group's run, or a part of it.
    run: usize,
    /// Whether each run is a group, in order.
    in_order: bool,
}

/// A number for each group, or one for all.
#[derive(Clone)]
struct Parameters(Arc<Tensor>);

/// What the integers stand for.
enum Form {
    /// Entries of a palette for each group, one after the other, in the result's type.
    Palette(Arc<Tensor>),
    /// A scale for each group times the integer less its zero point.
    Scaled {
        scales: Parameters,
        zeros: Parameters,
        /// Whether fp32 numbers hold all that is computed before it is rounded once.
        in_fp32: bool,
    },
    /// Whether an element is stored; the others are 0.
    Sparse {
        /// Those that are stored, in order.
        values: Arc<Tensor>,
        /// How many are stored before every [`MARKED`] elements.
        before: Vec<usize>,
    },
}

impl Compressed {
    /// The constant that an op decompresses whose result has this type; `None` where it is kept in no form that is known
    /// here. Integers whose value is not at hand are those of `old`.
    ///
    /// # Errors
    ///
    /// When the row refuses the operands, or the operands each other.
    pub(crate) fn of(
        row: &OpDef,
        operands: &Operands<'_>,
        ty: &TensorType,
        old: Option<&Compressed>,
    ) -> Result<Option<Compressed>, OpError> {
        let Some(dims) = ty.shape.to_known().filter(|_| is_float(ty.dtype)) else { return Ok(None) };
        let elements = dims.iter().product::<usize>();
        // Before ios18, integers of fewer bits are packed into bytes.
        let packed = row.since < Opset::IOS18;
        let codes = |operand: &Operand, bits: u32| match (&operand.value, old) {
            (None, Some(old)) => Ok(Some(old.codes.clone())),
            _ => Codes::new(operand.tensor()?, (bits, packed), elements).map(|codes| codes.map(Arc::new)),
        };
        let made = match row.name {
            "constexpr_affine_dequantize" => {
                let row = ConstexprAffineDequantize::bind(operands, row.since)?;
                let Some(axis) = position(row.axis, dims.len()) else { return Ok(None) };
                let along = row.scale.shape().elements().max(row.zero_point.shape().elements()) > Some(1);
                let counts =
                    dims.iter().enumerate().map(|(i, &dim)| if along && i == axis { dim } else { 1 });
                let form = scaled(&row.scale, Some(&row.zero_point), old)?;
                codes(&row.quantized_data, 8)?.map(|codes| (codes, counts.collect(), form))
            }
            "constexpr_blockwise_shift_scale" => {
                let row = ConstexprBlockwiseShiftScale::bind(operands, row.since)?;
                let form = scaled(&row.scale, row.offset.as_deref(), old)?;
                let counts = row.scale.shape().to_known().unwrap_or_default();
                codes(&row.data, row.data.dtype().bits())?.map(|codes| (codes, counts, form))
            }
            "constexpr_lut_to_dense" => {
                let row = ConstexprLutToDense::bind(operands, row.since)?;
                let lut = row.lut.tensor()?;
                let (bits, counts) = match lut.shape() {
                    &[entries] if packed => (entries.checked_ilog2().unwrap_or(0), vec![1; dims.len()]),
                    // The numbers of entries that are vectors lie apart.
                    [counts @ .., _, 1] => (row.indices.dtype().bits(), counts.to_vec()),
                    _ => return Ok(None),
                };
                let form = Form::Palette(lut.clone());
                codes(&row.indices, bits)?.map(|codes| (codes, counts, form))
            }
            "constexpr_sparse_to_dense" => {
                let row = ConstexprSparseToDense::bind(operands, row.since)?;
                let values = row.nonzero_data.tensor()?.clone();
                let counts = vec![1; dims.len()];
                let Some(codes) = codes(&row.mask, 1)? else { return Ok(None) };
                let form = Form::Sparse { before: codes.ones_before(elements, values.len())?, values };
                Some((codes, counts, form))
            }
            _ => None,
        };
        let compressed = made.and_then(|(codes, counts, form)| {
            let groups = Groups::new(&dims, counts)?;
            Some(Compressed { dims, dtype: ty.dtype, codes, groups, form })
        });
        Ok(compressed.filter(Compressed::is_whole))
    }

    /// Whether there is a parameter for every group, in the result's type.
    fn is_whole(&self) -> bool {
        let groups = self.groups.counts.iter().product::<usize>();
        let has_type = |tensor: &Tensor| tensor.dtype() == self.dtype;
        match &self.form {
            Form::Palette(lut) => has_type(lut) && lut.len() == groups << self.codes.bits,
            Form::Scaled { scales, zeros, .. } => [scales, zeros].iter().all(|all| all.are_for(groups)),
            Form::Sparse { values, .. } => has_type(values),
        }
    }

    /// Elements.
    pub(crate) fn len(&self) -> usize {
        self.dims.iter().product()
    }

    /// The element type.
    pub(crate) fn dtype(&self) -> DType {
        self.dtype
    }

    /// The dimensions.
    pub(crate) fn dims(&self) -> &[usize] {
        &self.dims
    }

    /// All elements; `None` where there is no memory for them.
    pub(crate) fn dense(&self, threads: &Threads) -> Option<Tensor> {
        let mut tensor = Tensor::zeros(self.dtype, &self.dims)?;
        threads.install(|| match tensor.data_mut() {
            Data::F16(values) => self.decode_all(values, threads),
            Data::F32(values) => self.decode_all(values, threads),
            _ => {}
        });
        Some(tensor)
    }

    /// Decodes all elements, by all threads.
    pub(crate) fn decode_all<T: Float>(&self, to: &mut [T], threads: &Threads) {
        threads.each_chunk(to, SHARE, WORK, |index, part| self.decode(threads.arch(), index * SHARE, part));
    }
}

/// A scale for each group, and a zero point, where there are some; those that are not at hand are those of `old`.
fn scaled(scale: &Operand, zero: Option<&Operand>, old: Option<&Compressed>) -> Result<Form, OpError> {
    let zeros = match (zero, old.map(|old| &old.form)) {
        (None, _) => Parameters(Arc::new(Tensor::scalar(0.0f32))),
        (Some(Operand { value: None, .. }), Some(Form::Scaled { zeros, .. })) => zeros.clone(),
        (Some(zero), _) => Parameters(zero.tensor()?.clone()),
    };
    let is_whole = |zero: f64| zero.fract() == 0.0 && zero.abs() <= MOST_SHIFT;
    let in_fp32 = (0..zeros.0.len()).all(|group| is_whole(zeros.of(group)));
    Ok(Form::Scaled { scales: Parameters(scale.tensor()?.clone()), zeros, in_fp32 })
}

impl Parameters {
    /// That of a group.
    fn of(&self, group: usize) -> f64 {
        let group = if self.0.len() == 1 { 0 } else { group };
        match self.0.data() {
            Data::F16(values) => values[group].to_f64(),
            Data::F32(values) => f64::from(values[group]),
            Data::I8(values) => f64::from(values[group]),
            Data::U8(values) => f64::from(values[group]),
            _ => f64::NAN,
        }
    }

    /// Whether there is one for so many groups, of a type that they have.
    fn are_for(&self, groups: usize) -> bool {
        let known = matches!(self.0.data(), Data::F16(_) | Data::F32(_) | Data::I8(_) | Data::U8(_));
        known && (self.0.len() == groups || self.0.len() == 1)
    }
}

/// The position of an axis, which counts from the end where it is negative.
fn position(axis: i32, rank: usize) -> Option<usize> {
    let axis = i64::from(axis);
    let axis = if axis < 0 { axis.checked_add_unsigned(rank as u64)? } else { axis };
    usize::try_from(axis).ok().filter(|&axis| axis < rank)
}

impl Codes {
    /// So many integers of a tensor, whose bytes hold one each, or, where they are packed, several without gaps; `None`
    /// where they are no integers of at most eight bits.
    fn new(
        tensor: &Arc<Tensor>,
        (bits, packed): (u32, bool),
        count: usize,
    ) -> Result<Option<Codes>, OpError> {
        let signed = matches!(tensor.data(), Data::I8(_));
        let values: &[u8] = match tensor.data() {
            Data::U8(values) => values,
            Data::I8(values) => bytemuck::cast_slice(values),
            _ => return Ok(None),
        };
        let as_they_are = packed || bits == 8;
        let wanted = if packed { count.saturating_mul(bits as usize).div_ceil(8) } else { count };
        if values.len() != wanted {
            let message = format!("must hold {count} integers of {bits} bits");
            return Err(OpError::new(ErrorKind::Rule, None, message).found(tensor.ty().to_string()));
        }
        let bytes =
            if as_they_are { Bytes::Tensor(tensor.clone()) } else { Bytes::Packed(pack(values, bits)) };
        Ok(Some(Codes { bits, signed, bytes }))
    }

    fn bytes(&self) -> &[u8] {
        match &self.bytes {
            Bytes::Packed(bytes) => bytes,
            Bytes::Tensor(tensor) => match tensor.data() {
                Data::U8(values) => values,
                Data::I8(values) => bytemuck::cast_slice(values),
                _ => &[],
            },
        }
    }

    /// Of bits, how many ones stand before every [`MARKED`] of them; there must be so many in all.
    fn ones_before(&self, elements: usize, wanted: usize) -> Result<Vec<usize>, OpError> {
        if self.bytes().last().is_some_and(|last| !elements.is_multiple_of(8) && last >> (elements % 8) > 0) {
            return Err(OpError::rule("mask", "bits that are left over in its last byte must be 0"));
        }
        let (mut before, mut ones) = (Vec::with_capacity(elements.div_ceil(MARKED)), 0);
        for bytes in self.bytes().chunks(MARKED / 8) {
            before.push(ones);
            ones += bytes.iter().map(|byte| byte.count_ones() as usize).sum::<usize>();
        }
        if ones == wanted {
            return Ok(before);
        }
        let message = format!("must hold a number for each of the {ones} ones in `mask`");
        Err(OpError::rule("nonzero_data", message).found(format!("found {wanted}")))
    }
}

impl Groups {
    /// So many groups along each of these dimensions; `None` where they are no whole blocks.
    fn new(dims: &[usize], counts: Vec<usize>) -> Option<Groups> {
        let whole = |(&dim, &count): (&usize, &usize)| count > 0 && dim > 0 && dim % count == 0;
        if dims.len() != counts.len() || !dims.iter().zip(&counts).all(whole) {
            return None;
        }
        let trailing = counts.iter().rev().take_while(|&&count| count == 1).count();
        // The last dimension along which there are several groups, whose blocks are runs.
        let last = (dims.len() - trailing).checked_sub(1);
        let inner: usize = dims[dims.len() - trailing..].iter().product();
        let run = last.map_or(inner, |last| dims[last] / counts[last] * inner);
        let in_order = last.is_none_or(|last| dims[..last] == counts[..last]);
        Some(Groups { counts, run, in_order })
    }

    /// The group of an element.
    fn of(&self, position: usize, dims: &[usize]) -> usize {
        if self.in_order { position / self.run } else { block_of(position, dims, &self.counts) }
    }
}
