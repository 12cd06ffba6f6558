//! Ops that decompress a constant.

use crate::error::ErrorKind;
use crate::eval::{Evaluation, Numbers};
use crate::ops::rules::{self, free};
use crate::ops::{Accuracy, Constant, DTypeSet, FLOAT, OpError};
use crate::tensor::Tensor;
use crate::types::{DType, TensorType};

mod blocks;
mod palette;
mod sparse;

pub use blocks::block_of;

/// Element types of 8-bit weights.
const BYTE: DTypeSet = DTypeSet::of(&[DType::Int8, DType::UInt8]);
/// Element types of their zero points.
const ZERO_POINT: DTypeSet = DTypeSet::of(&[DType::Fp32, DType::Int8, DType::UInt8]);
/// fp16.
const FP16: DTypeSet = DTypeSet::of(&[DType::Fp16]);
/// Bits packed into bytes.
const BYTES: DTypeSet = DTypeSet::of(&[DType::UInt8]);
/// The element type of a shape that an attribute holds.
const LENGTHS: DTypeSet = DTypeSet::of(&[DType::UInt32]);
/// Single bits.
const BIT: DTypeSet = DTypeSet::of(&[DType::UInt1]);
/// Element types of indices into a palette.
const PALETTE_INDEX: DTypeSet =
    DTypeSet::of(&[DType::UInt1, DType::UInt2, DType::UInt3, DType::UInt4, DType::UInt6, DType::UInt8]);
/// Element types of what palettes hold.
const PALETTE: DTypeSet = FLOAT.and(BYTE);
/// Element types of quantized data.
const QUANTIZED: DTypeSet = PALETTE.and(DTypeSet::of(&[DType::Int4, DType::UInt4]));

crate::ops! {
    /// `scale · (quantized_data − zero_point)`, where scale and zero point are scalars, or vectors along
    /// `axis`. Operands stand in attributes.
    ConstexprAffineDequantize = constexpr_affine_dequantize(quantized_data: Constant[S],
        zero_point: Constant[Z], scale: Constant[T], axis: i32) since IOS16
        where [S: BYTE, Z: ZERO_POINT, T: FLOAT]
        { infer: dequantized_type, eval: dequantize, accuracy: Accuracy::Exact; no_vjp: "it decompresses a constant, whose compressed form is not trained"; flops: free; [constexpr] }

    /// `source_val` in the element type that `output_dtype` names: only fp32.
    ConstexprCast = constexpr_cast(source_val: Constant[S], output_dtype: String) since IOS16 where [S: FP16]
        { infer: cast_type, eval: cast, accuracy: Accuracy::Exact; no_vjp: "it decompresses a constant, whose compressed form is not trained"; flops: free; [constexpr] }

    /// What each of `indices` stands for in a palette.
    ///
    /// From ios18 on, `lut` is `[*G, P, V]` for `indices [*D]` of as many bits as choose one of `P` entries. Each of `G`
    /// divides that of `D`, and the block of `D / G` neighbours shares a palette. Each index becomes the `V` numbers of
    /// its entry, which follow one another along `vector_axis`; it may be left out where `V` is 1.
    ///
    /// Before, `lut` is `[P]` with 2, 4, 16, 64 or 256 entries, and the result has the dimensions `shape`. Its indices
    /// are packed in row-major order into the bytes of `indices`, each byte filled from its lowest bit.
    ConstexprLutToDense = constexpr_lut_to_dense(indices: Constant[I], lut: Constant[T];
        #[only_before = IOS18] shape: Option<Constant>[N], #[since = IOS18] vector_axis: Option<i32>)
        since IOS16 where [I: BYTES, T: PALETTE, N: LENGTHS]
        since IOS18 where [I: PALETTE_INDEX, T: PALETTE]
        { infer: palette::dense_type, eval: palette::dense, accuracy: Accuracy::Exact; no_vjp: "it decompresses a constant, whose compressed form is not trained"; flops: free; [constexpr, by_opset] }

    /// As `constexpr_lut_to_dense`, only where `indices_mask` is 1: `indices_nonzero_data` are the indices there, in
    /// row-major order. Gives the mask, along `vector_axis` as long as the vectors make it, and what the indices stand
    /// for, in row-major order of the longer mask.
    ConstexprLutToSparse = constexpr_lut_to_sparse(indices_mask: Constant[M], indices_nonzero_data: Constant[I],
        lut: Constant[T]; vector_axis: Option<i32>) since IOS18 where [M: BIT, I: PALETTE_INDEX, T: PALETTE]
        { infer: palette::sparse_type, eval: palette::sparse, accuracy: Accuracy::Exact; no_vjp: "it decompresses a constant, whose compressed form is not trained"; flops: free; [constexpr] }

    /// `nonzero_data` in row-major order where `mask` is 1, and 0 elsewhere.
    ///
    /// Before ios18, the result has the dimensions `shape`, and the bits of the mask are packed in row-major order into
    /// bytes, each filled from its lowest bit; bits that are left over are 0.
    ConstexprSparseToDense = constexpr_sparse_to_dense(nonzero_data: Constant[T], mask: Constant[M];
        #[only_before = IOS18] shape: Option<Constant>[N])
        since IOS16 where [T: PALETTE, M: BYTES, N: LENGTHS]
        since IOS18 where [T: QUANTIZED, M: BIT]
        { infer: sparse::dense_type, eval: sparse::dense, accuracy: Accuracy::Exact; no_vjp: "it decompresses a constant, whose compressed form is not trained"; flops: free; [constexpr, by_opset] }

    /// `scale · (data − offset)`, where each length of `scale` divides that of `data`, and a block of neighbours shares
    /// a scale. `offset`, 0 by default, has the shape of `scale`, and the element type of `data` or one of floating point.
    ConstexprBlockwiseShiftScale = constexpr_blockwise_shift_scale(data: Constant[S], scale: Constant[T];
        offset: Option<Constant>[Z]) since IOS18 where [S: QUANTIZED, T: FLOAT, Z: QUANTIZED]
        { infer: blocks::dense_type, eval: blocks::dense, accuracy: Accuracy::Exact; no_vjp: "it decompresses a constant, whose compressed form is not trained"; flops: free; [constexpr] }

    /// As `constexpr_blockwise_shift_scale`, only where `data_mask` is 1: `nonzero_data` are the numbers there, in
    /// row-major order. Gives the mask, and the numbers shifted and scaled.
    ConstexprSparseBlockwiseShiftScale = constexpr_sparse_blockwise_shift_scale(data_mask: Constant[M],
        nonzero_data: Constant[S], scale: Constant[T]; offset: Option<Constant>[Z])
        since IOS18 where [M: BIT, S: QUANTIZED, T: FLOAT, Z: QUANTIZED]
        { infer: blocks::sparse_type, eval: blocks::sparse, accuracy: Accuracy::Exact; no_vjp: "it decompresses a constant, whose compressed form is not trained"; flops: free; [constexpr] }
}

fn cast_type(row: &ConstexprCast) -> Result<Vec<TensorType>, OpError> {
    if row.output_dtype != DType::Fp32.name() {
        let error = OpError::rule("output_dtype", "must be fp32");
        return Err(error.found(format!("found \"{}\"", row.output_dtype)));
    }
    Ok(vec![TensorType { dtype: DType::Fp32, shape: row.source_val.shape().clone() }])
}

fn cast(row: &ConstexprCast, evaluation: &mut Evaluation) -> Result<Vec<Tensor>, OpError> {
    let values = Numbers::Float(row.source_val.floats()?);
    Ok(vec![evaluation.tensor(DType::Fp32, row.source_val.dims()?, values)?])
}

fn dequantized_type(row: &ConstexprAffineDequantize) -> Result<Vec<TensorType>, OpError> {
    let data = &row.quantized_data;
    let axis = rules::axis("axis", row.axis, data.rank())?;
    for (name, operand) in [("zero_point", &row.zero_point), ("scale", &row.scale)] {
        let fits = match operand.rank() {
            0 => true,
            1 => operand.shape().0[0].agrees_with(data.shape().0[axis]),
            _ => false,
        };
        if !fits {
            let wanted = format!("must be a scalar, or a vector of {} values", data.shape().0[axis]);
            return Err(OpError::rule(name, wanted).found(format!("found {}", operand.ty)));
        }
    }
    let zero = row.zero_point.dtype();
    if zero != DType::Fp32 && zero != data.dtype() {
        let message = format!("must have the element type of `quantized_data`, {}", data.dtype());
        let error = OpError::new(ErrorKind::ElementType, Some("zero_point"), message);
        return Err(error.found(format!("found {zero}")));
    }
    Ok(vec![TensorType { dtype: row.scale.dtype(), shape: data.shape().clone() }])
}

fn dequantize(row: &ConstexprAffineDequantize, evaluation: &mut Evaluation) -> Result<Vec<Tensor>, OpError> {
    let dims = row.quantized_data.dims()?;
    let axis = rules::axis("axis", row.axis, dims.len())?;
    let inner: usize = dims[axis + 1..].iter().product();
    let (zeros, scales) = (row.zero_point.floats()?, row.scale.floats()?);
    let of =
        |values: &[f64], i: usize| if values.len() == 1 { values[0] } else { values[i / inner % dims[axis]] };
    let mut values = row.quantized_data.floats()?;
    for (i, value) in values.iter_mut().enumerate() {
        *value = of(&scales, i) * (*value - of(&zeros, i));
    }
    Ok(vec![evaluation.tensor(row.scale.dtype(), dims, Numbers::Float(values))?])
}
