//! Convolution with a weight of bytes.
//!
//! The op is marked as experimental where it is documented. Its weight is said to be `scale · byte + bias`; whether the two
//! are numbers or one for each output channel is left open, and both are taken. That its own bias is of bytes too is taken
//! at its word: they are the numbers that are added. What stands in a table that `quantization_type = "lut"` would choose
//! from is said nowhere, no parameter holds one, and it is refused.

use std::sync::Arc;

use crate::eval::{Evaluation, Numbers};
use crate::ops::convolution::{conv, conv_flops, conv_type};
use crate::ops::{Accuracy, Constant, Conv, DTypeSet, FLOAT, OpError, Operand};
use crate::tensor::Tensor;
use crate::types::{DType, Dim, Opset, TensorType};

const BYTE: DTypeSet = DTypeSet::of(&[DType::UInt8]);

crate::ops! {
    /// `conv` with the weight `quant_scale · weight + quant_bias` in the element type of `x`, and the numbers of `bias`.
    /// Scale and bias of the weight are single numbers, or one for each output channel. `quantization_type` is "linear":
    /// "lut" is documented beside it, but no parameter holds a table. The bytes hold `nbits` bits, 1 to 8.
    ConvQuantized = conv_quantized(x: Operand[T], weight: Operand[U], quantization_type: String,
        quant_scale: Constant[T], quant_bias: Constant[T]; bias: Option<Constant>[U], nbits: i32 = 8,
        strides: Option<Vec<i32>>, pad_type: String = "valid", pad: Option<Vec<i32>>, dilations: Option<Vec<i32>>,
        groups: i32 = 1)
        since IOS15 where [T: FLOAT, U: BYTE]
        { infer: conv_quantized_type, eval: conv_quantized, accuracy: Accuracy::Sum(1);
          no_vjp: "gradients do not go through bytes"; flops: conv_quantized_flops }
}

impl ConvQuantized {
    /// The convolution with this weight and this bias.
    fn with(&self, weight: Operand, bias: Option<Operand>) -> Conv {
        Conv {
            since: Opset::IOS15,
            x: self.x.clone(),
            weight,
            bias,
            strides: self.strides.clone(),
            pad_type: self.pad_type.clone(),
            pad: self.pad.clone(),
            dilations: self.dilations.clone(),
            groups: self.groups,
        }
    }

    /// The same, of which only types are known.
    fn of_types(&self) -> Conv {
        let typed = |operand: &Operand| {
            Operand::of_type(TensorType { dtype: self.x.dtype(), shape: operand.shape().clone() })
        };
        self.with(typed(&self.weight), self.bias.as_deref().map(typed))
    }

    fn check(&self) -> Result<(), OpError> {
        if self.quantization_type != "linear" {
            let error = OpError::rule("quantization_type", "must be linear");
            return Err(error.found(format!("found \"{}\"", self.quantization_type)));
        }
        if !(1..=8).contains(&self.nbits) {
            return Err(OpError::rule("nbits", "must be 1 to 8").found(format!("found {}", self.nbits)));
        }
        let channels = self.weight.shape().0.first().copied().unwrap_or(Dim::Unknown);
        for (name, operand) in [("quant_scale", &self.quant_scale), ("quant_bias", &self.quant_bias)] {
            let elements = operand.shape().elements().map_or(Dim::Unknown, Dim::Known);
            if elements != Dim::Known(1) && !elements.agrees_with(channels) {
                let wanted = format!("must be one number, or one for each of {channels} output channels");
                return Err(OpError::rule(name, wanted).found(format!("found {}", operand.ty)));
            }
        }
        Ok(())
    }
}

fn conv_quantized_type(row: &ConvQuantized) -> Result<Vec<TensorType>, OpError> {
    row.check()?;
    conv_type(&row.of_types())
}

fn conv_quantized_flops(row: &ConvQuantized) -> Option<u64> {
    conv_flops(&row.of_types())
}

fn conv_quantized(row: &ConvQuantized, evaluation: &mut Evaluation) -> Result<Vec<Tensor>, OpError> {
    conv_quantized_type(row)?;
    let dims = row.weight.dims()?;
    let (scales, biases) = (row.quant_scale.floats()?, row.quant_bias.floats()?);
    let filter = dims[1..].iter().product::<usize>().max(1);
    let of = |values: &[f64], i: usize| if values.len() == 1 { values[0] } else { values[i / filter] };
    let mut values = row.weight.floats()?;
    for (i, value) in values.iter_mut().enumerate() {
        if *value >= f64::from(1u32 << row.nbits) {
            let error = OpError::rule("weight", format!("must hold numbers of {} bits", row.nbits));
            return Err(error.found(format!("found {value}")));
        }
        *value = of(&scales, i) * *value + of(&biases, i);
    }
    let rounded = |values, dims: &[usize]| {
        let tensor = evaluation.tensor(row.x.dtype(), dims, Numbers::Float(values))?;
        Ok(Operand {
            ty: TensorType { dtype: row.x.dtype(), ..tensor.ty() },
            ..Operand::constant(Arc::new(tensor))
        })
    };
    let weight = rounded(values, dims)?;
    let bias = match &row.bias {
        Some(bias) => Some(rounded(bias.floats()?, bias.dims()?)?),
        None => None,
    };
    conv(&row.with(weight, bias), evaluation)
}

#[cfg(test)]
mod tests {
    use crate::ops::Given;
    use crate::ops::testing::*;
    use crate::tensor::Tensor;
    use crate::types::{DType, Opset};

    fn given(more: &[(&'static str, Given)]) -> Vec<(&'static str, Given)> {
        let mut given = vec![
            ("x", typed(DType::Fp32, &[1, 2, 4])),
            ("weight", typed(DType::UInt8, &[3, 2, 2])),
            ("quantization_type", text("linear")),
            ("quant_scale", typed(DType::Fp32, &[3])),
            ("quant_bias", typed(DType::Fp32, &[])),
        ];
        given.retain(|(name, _)| more.iter().all(|(other, _)| name != other));
        given.extend_from_slice(more);
        given
    }

    #[test]
    fn what_it_is_not_given_to_say_is_refused() {
        assert_eq!(infer("conv_quantized", Opset::IOS16, &given(&[])).unwrap(), "[1, 3, 3]");
        let refuse = |more: &[(&'static str, Given)]| {
            infer("conv_quantized", Opset::IOS16, &given(more)).unwrap_err().to_string()
        };
        assert!(refuse(&[("quantization_type", text("lut"))]).contains("must be linear"));
        assert!(refuse(&[("nbits", int(9))]).contains("must be 1 to 8"));
        assert!(
            refuse(&[("quant_scale", typed(DType::Fp32, &[2]))])
                .contains("one for each of 3 output channels")
        );
        assert!(refuse(&[("weight", typed(DType::UInt8, &[3, 5, 2]))]).contains("must take the 2 channels"));
        assert!(refuse(&[("bias", typed(DType::UInt8, &[2]))]).contains("must have the shape [3]"));
    }

    #[test]
    fn bytes_of_more_bits_are_refused() {
        let known = |dtype, shape: &[usize], values: &[i64]| {
            constant(Tensor::from_i64(dtype, shape, values).unwrap())
        };
        let floats =
            |shape: &[usize], values: &[f64]| constant(Tensor::from_f64(DType::Fp32, shape, values).unwrap());
        let run = |bits| {
            let all = given(&[
                ("x", floats(&[1, 1, 1], &[2.0])),
                ("weight", known(DType::UInt8, &[1, 1, 1], &[16])),
                ("quant_scale", floats(&[], &[0.5])),
                ("quant_bias", floats(&[], &[-1.0])),
                ("nbits", int(bits)),
            ]);
            eval("conv_quantized", Opset::IOS16, &all)
        };
        assert_eq!(run(5).unwrap().to_f64().unwrap(), [14.0]);
        assert!(run(4).unwrap_err().to_string().contains("must hold numbers of 4 bits"));
    }
}
