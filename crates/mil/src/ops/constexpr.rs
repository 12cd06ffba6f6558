//! Ops that decompress a constant.

use crate::error::ErrorKind;
use crate::eval::{Evaluation, Numbers};
use crate::ops::rules::{self, free};
use crate::ops::{Accuracy, Constant, DTypeSet, FLOAT, OpError};
use crate::tensor::Tensor;
use crate::types::{DType, TensorType};

/// Element types of 8-bit weights.
const BYTE: DTypeSet = DTypeSet::of(&[DType::Int8, DType::UInt8]);
/// Element types of their zero points.
const ZERO_POINT: DTypeSet = DTypeSet::of(&[DType::Fp32, DType::Int8, DType::UInt8]);

crate::ops! {
    /// `scale · (quantized_data − zero_point)`, where scale and zero point are scalars, or vectors along
    /// `axis`. Operands stand in attributes.
    ConstexprAffineDequantize = constexpr_affine_dequantize(quantized_data: Constant[S],
        zero_point: Constant[Z], scale: Constant[T], axis: i32) since IOS16
        where [S: BYTE, Z: ZERO_POINT, T: FLOAT]
        { infer: dequantized_type, eval: dequantize, accuracy: Accuracy::Exact; no_vjp: "it decompresses a constant, whose compressed form is not trained"; flops: free; [constexpr] }
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
