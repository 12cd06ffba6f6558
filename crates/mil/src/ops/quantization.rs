//! Between floating point and integers of eight bits: a scale and a zero point, for all elements or along an axis.

use crate::error::ErrorKind;
use crate::eval::{Evaluation, Numbers, collect, internal};
use crate::grad::{Pullback, lengths};
use crate::ops::reduce::Grouping;
use crate::ops::{Accuracy, Constant, DTypeSet, FLOAT, OpError, Operand, call, rules};
use crate::tensor::Tensor;
use crate::types::{DType, TensorType};

/// Integers of eight bits.
const BYTE: DTypeSet = DTypeSet::of(&[DType::Int8, DType::UInt8]);

crate::ops! {
    /// `input / scale` rounded to the nearest integer, of two equally near the even one, plus `zero_point` (0), and
    /// clamped to what `output_dtype` holds, `int8` or `uint8`. `scale` and `zero_point` are scalars, or vectors with one
    /// entry for each element along `axis`, which only vectors have. NaN becomes 0.
    Quantize = quantize(input: Operand[T], scale: Constant[T], output_dtype: String; zero_point: Option<Constant>[U],
        axis: Option<i32>) since IOS17 where [T: FLOAT, U: BYTE]
        { infer: quantize_type, eval: quantize, accuracy: Accuracy::Exact }

    /// `scale · (input − zero_point)`, in the element type of `scale`; the parameters are as those of `quantize`.
    Dequantize = dequantize(input: Operand[U], scale: Constant[T]; zero_point: Option<Constant>[U], axis: Option<i32>)
        since IOS17 where [T: FLOAT, U: BYTE]
        { infer: dequantize_type, eval: dequantize, accuracy: Accuracy::Exact; vjp: dequantize_vjp }
}

/// The parameters of both.
struct Steps<'a> {
    input: &'a Operand,
    scale: &'a Operand,
    zero_point: Option<&'a Operand>,
    /// The position of the axis along which they are vectors.
    axis: Option<usize>,
}

impl<'a> Steps<'a> {
    fn new(
        input: &'a Operand,
        scale: &'a Operand,
        zero_point: Option<&'a Operand>,
        axis: Option<i32>,
    ) -> Result<Steps<'a>, OpError> {
        let axis = match (scale.rank(), axis) {
            (0, None) => None,
            (0, Some(axis)) => {
                let error = OpError::rule("axis", "must be left out where `scale` is a scalar");
                return Err(error.found(format!("found {axis}")));
            }
            (1, Some(axis)) => Some(rules::axis("axis", axis, input.rank())?),
            (1, None) => {
                let error = OpError::rule("scale", "needs an `axis` where it is a vector");
                return Err(error.found(format!("found {}", scale.ty)));
            }
            _ => {
                let error = OpError::rule("scale", "must be a scalar or a vector");
                return Err(error.found(format!("found {}", scale.ty)));
            }
        };
        let steps = Steps { input, scale, zero_point, axis };
        steps.check("scale", scale)?;
        zero_point.map_or(Ok(()), |zero_point| steps.check("zero_point", zero_point))?;
        Ok(steps)
    }

    /// Refuses a parameter of another shape than it must have.
    fn check(&self, name: &str, parameter: &Operand) -> Result<(), OpError> {
        match (self.axis, &parameter.shape().0[..]) {
            (None, []) => Ok(()),
            (Some(axis), [length]) if length.agrees_with(self.input.shape().0[axis]) => Ok(()),
            (None, _) => {
                let error = OpError::rule(name, "must be a scalar, as `scale` is");
                Err(error.found(format!("found {}", parameter.ty)))
            }
            (Some(axis), _) => {
                let length = self.input.shape().0[axis];
                let message = format!("must be a vector of {length}, the length of `input` along `axis`");
                Err(OpError::rule(name, message).found(format!("found {}", parameter.ty)))
            }
        }
    }

    /// The axes along which the parameters are the same.
    fn others(&self) -> Vec<usize> {
        (0..self.input.rank()).filter(|&axis| Some(axis) != self.axis).collect()
    }

    /// Each element of `input`, with its scale and its zero point.
    fn map(&self, function: impl Fn(f64, f64, f64) -> f64) -> Result<Vec<f64>, OpError> {
        let (mut values, scales) = (self.input.floats()?, self.scale.floats()?);
        let zero_points = self.zero_point.map(Operand::floats).transpose()?;
        Grouping::new(self.input.dims()?, &self.others()).for_each(|element, at| {
            let zero_point = zero_points.as_ref().map_or(0.0, |zero_points| zero_points[at]);
            values[element] = function(values[element], scales[at], zero_point);
        });
        Ok(values)
    }
}

impl Quantize {
    fn steps(&self) -> Result<Steps<'_>, OpError> {
        Steps::new(&self.input, &self.scale, self.zero_point.as_deref(), self.axis)
    }

    /// The element type of the result.
    fn dtype(&self) -> Result<DType, OpError> {
        let dtype = match self.output_dtype.as_str() {
            "int8" => DType::Int8,
            "uint8" => DType::UInt8,
            other => {
                let error = OpError::rule("output_dtype", "must be int8 or uint8");
                return Err(error.found(format!("found \"{other}\"")));
            }
        };
        match self.zero_point.as_deref() {
            Some(zero_point) if zero_point.dtype() != dtype => {
                let message = format!("must be of the `output_dtype`, {dtype}");
                let error = OpError::new(ErrorKind::ElementType, Some("zero_point"), message);
                Err(error.found(format!("found {}", zero_point.dtype())))
            }
            _ => Ok(dtype),
        }
    }
}

fn quantize_type(row: &Quantize) -> Result<Vec<TensorType>, OpError> {
    let dtype = row.dtype()?;
    row.steps()?;
    let scales = row.scale.value.as_ref().and_then(|value| value.to_f64());
    if scales.is_some_and(|scales| !scales.is_empty() && scales.iter().all(|&scale| scale == 0.0)) {
        return Err(OpError::rule("scale", "must not be 0"));
    }
    Ok(vec![TensorType { dtype, shape: row.input.shape().clone() }])
}

fn quantize(row: &Quantize, evaluation: &mut Evaluation) -> Result<Vec<Tensor>, OpError> {
    let dtype = quantize_type(row)?.remove(0).dtype;
    let (least, most) = if dtype == DType::Int8 { (-128.0, 127.0) } else { (0.0, 255.0) };
    let quantized = row.steps()?.map(|input, scale, zero_point| {
        ((input / scale).round_ties_even() + zero_point).clamp(least, most)
    })?;
    // A cast of NaN gives 0.
    let integers = collect(quantized.into_iter().map(|value| value as i64))?;
    Ok(vec![evaluation.tensor(dtype, row.input.dims()?, Numbers::Integer(integers))?])
}

impl Dequantize {
    fn steps(&self) -> Result<Steps<'_>, OpError> {
        Steps::new(&self.input, &self.scale, self.zero_point.as_deref(), self.axis)
    }
}

fn dequantize_type(row: &Dequantize) -> Result<Vec<TensorType>, OpError> {
    row.steps()?;
    Ok(vec![TensorType { dtype: row.scale.dtype(), shape: row.input.shape().clone() }])
}

fn dequantize(row: &Dequantize, evaluation: &mut Evaluation) -> Result<Vec<Tensor>, OpError> {
    let values = row.steps()?.map(|input, scale, zero_point| scale * (input - zero_point))?;
    Ok(vec![evaluation.tensor(row.scale.dtype(), row.input.dims()?, Numbers::Float(values))?])
}

/// `dscale = Σ dy · (input − zero_point)` over all axes but `axis`: integers have no gradient.
fn dequantize_vjp(row: &Dequantize, pullback: &mut Pullback<'_>) -> Result<(), OpError> {
    if !pullback.wants(&row.scale) {
        return Ok(());
    }
    let (steps, dtype) = (row.steps()?, row.scale.dtype());
    let dy = pullback.dy()?;
    let mut distance = pullback.cast(&row.input, dtype)?;
    if let Some(zero_point) = steps.zero_point {
        // As numbers: ops on integers of eight bits there are few.
        let numbers = Tensor::from_f64(dtype, zero_point.dims()?, &zero_point.floats()?).map_err(internal)?;
        let mut dims = vec![1; row.input.rank()];
        if let Some(axis) = steps.axis {
            dims[axis] = numbers.len();
        }
        let zero_point = pullback.reshape(numbers, if steps.axis.is_some() { &dims } else { &[] })?;
        distance = pullback.bind(call::sub(distance, zero_point))?;
    }
    let parts = pullback.bind(call::mul(dy, distance))?;
    let others = lengths(&steps.others())?;
    if others.is_empty() {
        return pullback.give(&row.scale, parts);
    }
    pullback.give(&row.scale, call::reduce_sum(parts).axes(others))
}
