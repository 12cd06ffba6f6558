//! Tensors as bytes in the engine's buffers: row-major, in the machine's byte order, from byte 0.

use anemone_mil::tensor::{Data, Tensor};
use anemone_mil::types::{DType, TensorType};
use bytemuck::{cast_slice, cast_slice_mut};

use super::DeviceError;

/// What the sizes of buffers are multiples of.
pub(super) const ALIGNMENT: usize = 64;

/// The bytes that a tensor of this type takes.
///
/// # Errors
///
/// When a dimension is not known, or the element type is not one that buffers hold in whole bytes.
pub(super) fn size_bytes(name: &str, ty: &TensorType) -> Result<usize, DeviceError> {
    let width = match ty.dtype {
        DType::Fp16 | DType::Int16 | DType::UInt16 | DType::Bf16 => 2,
        DType::Int8 | DType::UInt8 => 1,
        DType::Fp32 | DType::Int32 | DType::UInt32 => 4,
        _ => {
            return Err(DeviceError::Unsupported(format!(
                "`{name}` is {ty}, which no buffer of it can hold"
            )));
        }
    };
    let bytes = ty.shape.elements().and_then(|elements| elements.checked_mul(width));
    bytes.and_then(|bytes| usize::try_from(bytes).ok()).ok_or_else(|| {
        DeviceError::Unsupported(format!("the size of `{name}`, {ty}, is not known before it runs"))
    })
}

/// The size of a buffer that holds so many bytes: a multiple of [`ALIGNMENT`], and not 0.
pub(super) fn buffer_bytes(bytes: usize) -> Option<usize> {
    bytes.max(1).checked_next_multiple_of(ALIGNMENT)
}

/// A tensor's values, if [`size_bytes`] has a size for its type.
fn bytes(tensor: &Tensor) -> Option<&[u8]> {
    Some(match tensor.data() {
        Data::F16(values) => cast_slice(values),
        Data::F32(values) => cast_slice(values),
        Data::Bf16(values) => cast_slice(values),
        Data::I8(values) => cast_slice(values),
        Data::I16(values) => cast_slice(values),
        Data::I32(values) => cast_slice(values),
        Data::U8(values) => values,
        Data::U16(values) => cast_slice(values),
        Data::U32(values) => cast_slice(values),
        _ => return None,
    })
}

fn bytes_mut(tensor: &mut Tensor) -> Option<&mut [u8]> {
    Some(match tensor.data_mut() {
        Data::F16(values) => cast_slice_mut(values),
        Data::F32(values) => cast_slice_mut(values),
        Data::Bf16(values) => cast_slice_mut(values),
        Data::I8(values) => cast_slice_mut(values),
        Data::I16(values) => cast_slice_mut(values),
        Data::I32(values) => cast_slice_mut(values),
        Data::U8(values) => values,
        Data::U16(values) => cast_slice_mut(values),
        Data::U32(values) => cast_slice_mut(values),
        _ => return None,
    })
}

/// Copies a tensor to the beginning of a buffer.
///
/// # Errors
///
/// When the buffer is too small.
pub(crate) fn pack(tensor: &Tensor, buffer: &mut [u8]) -> Result<(), DeviceError> {
    let from = bytes(tensor);
    match from.and_then(|from| Some((from, buffer.get_mut(..from.len())?))) {
        Some((from, to)) => to.copy_from_slice(from),
        None => return Err(misfit(tensor, buffer.len())),
    }
    Ok(())
}

/// Fills a tensor from the beginning of a buffer.
///
/// # Errors
///
/// When the buffer is too small.
pub(crate) fn unpack(buffer: &[u8], tensor: &mut Tensor) -> Result<(), DeviceError> {
    let error = misfit(tensor, buffer.len());
    let to = bytes_mut(tensor);
    match to.and_then(|to| Some((buffer.get(..to.len())?, to))) {
        Some((from, to)) => to.copy_from_slice(from),
        None => return Err(error),
    }
    Ok(())
}

fn misfit(tensor: &Tensor, bytes: usize) -> DeviceError {
    DeviceError::Run(format!("{} does not fit a buffer of {bytes} bytes", tensor.ty()))
}

#[cfg(test)]
mod tests {
    use half::f16;

    use super::*;

    #[test]
    fn what_is_packed_comes_back_and_no_byte_behind_it_is_touched() {
        let tensors = [
            Tensor::from_values(&[2, 1], vec![f16::from_f32(1.5), f16::NEG_INFINITY]).unwrap(),
            Tensor::from_values(&[1, 1], vec![-3i8]).unwrap(),
            Tensor::vector(vec![1.0f32, f32::NAN]),
            Tensor::vector(vec![7u16, 65535]),
        ];
        for tensor in tensors {
            let size = size_bytes("x", &tensor.ty()).unwrap();
            let mut buffer = vec![0xaa; buffer_bytes(size).unwrap()];
            assert_eq!(buffer.len(), 64);
            pack(&tensor, &mut buffer).unwrap();
            assert!(buffer[size..].iter().all(|byte| *byte == 0xaa));
            let mut back = Tensor::zeros(tensor.dtype(), tensor.shape()).unwrap();
            unpack(&buffer, &mut back).unwrap();
            assert_eq!(back, tensor);
            assert!(pack(&tensor, &mut buffer[..size - 1]).is_err());
            assert!(unpack(&buffer[..size - 1], &mut back).is_err());
        }
        assert_eq!([0, 64, 65].map(buffer_bytes), [Some(64), Some(64), Some(128)]);
        assert_eq!(buffer_bytes(usize::MAX), None);
    }

    #[test]
    fn types_that_no_buffer_holds_are_refused() {
        for ty in [TensorType::new(DType::Bool, &[2]), TensorType::new(DType::Int4, &[2])] {
            assert!(matches!(size_bytes("x", &ty), Err(DeviceError::Unsupported(_))), "{ty}");
        }
        let large = TensorType::new(DType::Fp16, &[usize::MAX]);
        assert!(size_bytes("x", &large).is_err());
    }
}
