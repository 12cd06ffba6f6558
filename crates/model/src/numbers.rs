//! Numbers of one element type as those of another, as Core ML takes them.

use anemone_mil::tensor::{Data, Tensor, TensorError};
use anemone_mil::types::DType;
use thiserror::Error;

/// Why numbers are not taken.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum NumberError {
    /// A number that the element type does not have.
    #[error("its value {value} at index {index} is no {dtype}")]
    Value {
        /// The value.
        value: f64,
        /// Its place in row-major order.
        index: usize,
        /// The element type.
        dtype: DType,
    },
    /// Elements that are no numbers.
    #[error("its elements are {found}, {expected} is expected")]
    Elements {
        /// What they are.
        found: DType,
        /// What they should be.
        expected: DType,
    },
    /// No memory.
    #[error(transparent)]
    Tensor(#[from] TensorError),
}

/// Numbers in another element type. Floats are rounded once, to nearest even; integers beyond 2⁵³ on their way to fp16
/// and fp32 twice. Floats that are whole become integers; a fraction is refused.
///
/// # Errors
///
/// When there is a number that the element type does not have, either type is none of numbers, or there is no memory.
pub fn convert(tensor: Tensor, dtype: DType) -> Result<Tensor, NumberError> {
    let found = tensor.dtype();
    if found == dtype {
        return Ok(tensor);
    }
    if found == DType::String || dtype == DType::String {
        return Err(NumberError::Elements { found, expected: dtype });
    }
    if dtype.is_float() {
        return Ok(Tensor::from_f64(dtype, tensor.shape(), &floats(&tensor)?)?);
    }
    let (least, most) = if dtype == DType::Bool { (0, 1) } else { dtype.integer_range().unwrap_or_default() };
    let whole = whole(&tensor, dtype)?;
    if let Some((index, &value)) =
        whole.iter().enumerate().find(|&(_, &v)| !(least..=most).contains(&i128::from(v)))
    {
        return Err(NumberError::Value { value: value as f64, index, dtype });
    }
    Ok(Tensor::from_i64(dtype, tensor.shape(), &whole)?)
}

/// The numbers as floats.
fn floats(tensor: &Tensor) -> Result<Vec<f64>, TensorError> {
    let floats = match tensor.data() {
        Data::U64(values) => Some(values.iter().map(|&value| value as f64).collect()),
        _ if tensor.dtype().is_float() => tensor.to_f64(),
        _ => tensor.to_i64().map(|values| values.into_iter().map(|value| value as f64).collect()),
    };
    floats.ok_or_else(|| TensorError::Memory(tensor.ty()))
}

/// The numbers as integers, for elements of a type.
fn whole(tensor: &Tensor, dtype: DType) -> Result<Vec<i64>, NumberError> {
    const LIMIT: f64 = (1u64 << 63) as f64;
    if !tensor.dtype().is_float() && !matches!(tensor.data(), Data::U64(_)) {
        return tensor.to_i64().ok_or_else(|| TensorError::Memory(tensor.ty()).into());
    }
    let one = |(index, value): (usize, f64)| {
        let is_whole = value.fract() == 0.0 && (-LIMIT..LIMIT).contains(&value);
        is_whole.then_some(value as i64).ok_or(NumberError::Value { value, index, dtype })
    };
    match tensor.data() {
        // What fits no int64 fits no element type of models.
        Data::U64(values) => {
            let one = |(index, &value): (usize, &u64)| {
                i64::try_from(value).map_err(|_| NumberError::Value { value: value as f64, index, dtype })
            };
            values.iter().enumerate().map(one).collect()
        }
        _ => floats(tensor)?.into_iter().enumerate().map(one).collect(),
    }
}

#[cfg(test)]
mod tests {
    use half::f16;

    use super::*;

    fn converted(tensor: Tensor, dtype: DType) -> Result<Tensor, String> {
        convert(tensor, dtype).map_err(|error| error.to_string())
    }

    #[test]
    fn floats_are_rounded_and_whole_ones_are_integers() {
        let third = converted(Tensor::vector(vec![1.0f64 / 3.0]), DType::Fp16).unwrap();
        assert_eq!(third, Tensor::vector(vec![f16::from_bits(0x3555)]));
        let whole = Tensor::vector(vec![-3.0f32, 2_000_000_000.0]);
        assert_eq!(converted(whole, DType::Int32), Ok(Tensor::vector(vec![-3i32, 2_000_000_000])));
        let large = converted(Tensor::vector(vec![1.0, 3e9]), DType::Int32).unwrap_err();
        assert_eq!(large, "its value 3000000000 at index 1 is no int32");
        for not_whole in [0.5, f64::NAN, f64::INFINITY, 1e300] {
            assert!(converted(Tensor::vector(vec![not_whole]), DType::Int32).is_err(), "{not_whole}");
        }
    }

    #[test]
    fn integers_become_any_numbers_that_hold_them() {
        assert_eq!(
            converted(Tensor::vector(vec![true, false]), DType::Fp32),
            Ok(Tensor::vector(vec![1f32, 0.0]))
        );
        assert_eq!(converted(Tensor::vector(vec![7u64]), DType::Int8), Ok(Tensor::vector(vec![7i8])));
        assert!(converted(Tensor::vector(vec![u64::MAX]), DType::Int32).is_err());
        assert!(converted(Tensor::vector(vec![300i64]), DType::Int8).unwrap_err().contains("300 at index 0"));
    }

    #[test]
    fn words_are_no_numbers() {
        let words = Tensor::vector(vec!["one".to_string()]);
        assert!(converted(words, DType::Fp32).unwrap_err().contains("string"));
    }
}
