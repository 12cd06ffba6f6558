//! Arrays of NumPy, to tensors and back.

use anemone_mil::tensor::{Data, Element, Tensor, TensorError};
use anemone_mil::types::DType;
use half::f16;
use numpy::{Element as NumpyElement, PyArray1, PyArrayDyn, PyArrayMethods, PyUntypedArrayMethods};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;

use crate::errors;

/// The tensor of an array that is row-major, in the machine's byte order.
///
/// # Errors
///
/// A `TypeError` when it is no such array, or its elements are none of numbers.
pub(crate) fn to_tensor(array: &Bound<'_, PyAny>) -> PyResult<Tensor> {
    let readers = [
        read::<f32>,
        read::<f16>,
        read::<f64>,
        read::<bool>,
        read::<i8>,
        read::<i16>,
        read::<i32>,
        read::<i64>,
        read::<u8>,
        read::<u16>,
        read::<u32>,
        read::<u64>,
    ];
    let types = [
        DType::Fp32,
        DType::Fp16,
        DType::Fp64,
        DType::Bool,
        DType::Int8,
        DType::Int16,
        DType::Int32,
        DType::Int64,
        DType::UInt8,
        DType::UInt16,
        DType::UInt32,
        DType::UInt64,
    ];
    for (read, dtype) in readers.into_iter().zip(types) {
        if let Some(tensor) = read(array, dtype)? {
            return Ok(tensor);
        }
    }
    Err(PyTypeError::new_err("an array of floats, integers or booleans is expected"))
}

/// The tensor of an array, if its elements are of this type.
fn read<T: NumpyElement + Element + Copy>(
    array: &Bound<'_, PyAny>,
    dtype: DType,
) -> PyResult<Option<Tensor>> {
    let Ok(array) = array.cast::<PyArrayDyn<T>>() else { return Ok(None) };
    if !array.is_c_contiguous() {
        return Err(PyTypeError::new_err("a row-major array is expected"));
    }
    let array = array.try_readonly().map_err(|error| PyTypeError::new_err(error.to_string()))?;
    let values = array.as_slice().map_err(|error| PyTypeError::new_err(error.to_string()))?;
    let mut copied = Vec::new();
    let shape = array.shape().to_vec();
    let no_memory = || TensorError::Memory(anemone_mil::types::TensorType::new(dtype, &shape));
    copied.try_reserve_exact(values.len()).map_err(|_| errors::memory(&no_memory()))?;
    copied.extend_from_slice(values);
    Tensor::new(dtype, &shape, T::into_data(copied)).map(Some).map_err(|error| errors::memory(&error))
}

/// The array of a tensor, in its element type; bf16, which NumPy does not have, as fp32.
///
/// # Errors
///
/// When there is no memory, or the elements are strings.
pub(crate) fn to_numpy<'py>(py: Python<'py>, mut tensor: Tensor) -> PyResult<Bound<'py, PyAny>> {
    let shape = tensor.shape().to_vec();
    let empty = Data::empty(tensor.dtype());
    match std::mem::replace(tensor.data_mut(), empty) {
        Data::F16(values) => shaped(py, values, &shape),
        Data::F32(values) => shaped(py, values, &shape),
        Data::F64(values) => shaped(py, values, &shape),
        Data::Bf16(values) => shaped(py, values.iter().map(|value| value.to_f32()).collect(), &shape),
        Data::I8(values) => shaped(py, values, &shape),
        Data::I16(values) => shaped(py, values, &shape),
        Data::I32(values) => shaped(py, values, &shape),
        Data::I64(values) => shaped(py, values, &shape),
        Data::U8(values) => shaped(py, values, &shape),
        Data::U16(values) => shaped(py, values, &shape),
        Data::U32(values) => shaped(py, values, &shape),
        Data::U64(values) => shaped(py, values, &shape),
        Data::Bool(values) => shaped(py, values, &shape),
        Data::String(_) => Err(PyTypeError::new_err("no array holds strings here")),
    }
}

fn shaped<'py, T: NumpyElement>(
    py: Python<'py>,
    values: Vec<T>,
    shape: &[usize],
) -> PyResult<Bound<'py, PyAny>> {
    Ok(PyArray1::from_vec(py, values).reshape(shape)?.into_any())
}
