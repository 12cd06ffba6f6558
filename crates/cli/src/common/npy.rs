//! Arrays in NumPy's `.npy` files, to tensors and back.
//!
//! The layout is that of `numpy.lib.format`. Nothing in a file is trusted: the header is bounded, and memory
//! is asked for only as far as the shape fits what is expected and the file really goes.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use anemone_mil::tensor::{Data, Element, Tensor, TensorError};
use anemone_mil::types::{DType, Shape, TensorType};
use anemone_model::foreign;
use half::f16;
use thiserror::Error;

use super::Failure;
use super::files::{self, FileError};

mod header;

use header::{Header, Kind};

/// What is wrong with an array.
#[derive(Debug, Error)]
pub(crate) enum NpyError {
    /// The file does not begin as `.npy` files do.
    #[error("it is not a .npy file")]
    NotNpy,
    /// The file is one of another known format.
    #[error("it is not a .npy file: {0}")]
    Foreign(&'static str),
    /// The header is longer than any that NumPy writes.
    #[error("its header claims {0} bytes, more than any array needs")]
    HeaderTooLong(u64),
    /// The header does not say what it must.
    #[error("its header is damaged: {0}")]
    Header(String),
    /// Elements that no input takes.
    #[error("its elements are `{0}`; floats, integers and booleans of 1 to 8 bytes can be read")]
    Elements(String),
    /// A shape that the input does not take.
    #[error("its shape is {found}, {expected} is expected")]
    Shape {
        /// The array's.
        found: Shape,
        /// The input's.
        expected: Shape,
    },
    /// Less or more data than the shape takes.
    #[error("it holds {found}{} bytes of data, its shape takes {expected}", if *more { " or more" } else { "" })]
    Length {
        /// What is there.
        found: u64,
        /// Whether there is more than that.
        more: bool,
        /// What the header claims.
        expected: u64,
    },
    /// A float array for an input that is not floating point.
    #[error("its elements are floating point, {0} is expected; convert it first")]
    FloatFor(DType),
    /// A value that the input's element type does not have.
    #[error("its value {value} at index {index} is no {dtype}")]
    Value {
        /// The value.
        value: i128,
        /// Its place in row-major order.
        index: usize,
        /// The input's element type.
        dtype: DType,
    },
    /// An element type without a counterpart in NumPy.
    #[error("{0} has no form in .npy files")]
    NoForm(DType),
    /// The tensor refuses the values.
    #[error(transparent)]
    Tensor(#[from] TensorError),
    /// The system's reason.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// An array that cannot be read as what is asked for.
#[derive(Debug, Error)]
#[error("{} cannot be taken as {what}: {error}", path.display())]
pub(crate) struct ArrayError {
    /// The file.
    path: PathBuf,
    /// What it was to be.
    what: String,
    /// Why not.
    error: NpyError,
}

/// Reads an array as a tensor of a type, whose shape it must have: floats are rounded to its element type
/// once, to nearest even, and integers and booleans must be values of it.
///
/// # Errors
///
/// When the file cannot be read or is damaged, or the array is not one of the type; `what` names the purpose.
pub(crate) fn read(path: &Path, ty: &TensorType, what: &str) -> Result<Tensor, Failure> {
    let file = files::open(path)?;
    read_array(file, ty)
        .map_err(|error| ArrayError { path: path.to_owned(), what: what.to_string(), error }.into())
}

/// As many bytes of a file as tell its format.
const START_BYTES: u64 = 64;

fn read_array(mut file: File, ty: &TensorType) -> Result<Tensor, NpyError> {
    let mut start = Vec::new();
    (&mut file).take(START_BYTES).read_to_end(&mut start)?;
    let mut file = start.as_slice().chain(file);
    let header = Header::read(&mut file).map_err(|error| match (error, foreign::format(&start)) {
        (NpyError::NotNpy, Some(what)) => NpyError::Foreign(what),
        (error, _) => error,
    })?;
    let shape = Shape(header.shape.iter().map(|&length| length.into()).collect());
    if !shape.agrees_with(&ty.shape) {
        return Err(NpyError::Shape { found: shape, expected: ty.shape.clone() });
    }
    let too_many = || NpyError::Header(format!("no array has the shape {shape}"));
    let dims = shape.to_known().ok_or_else(too_many)?;
    let count = shape.elements().ok_or_else(too_many)?;
    let expected = count.checked_mul(header.size as u64).ok_or_else(too_many)?;
    let mut bytes = Vec::new();
    file.take(expected.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 != expected {
        let more = bytes.len() as u64 > expected;
        return Err(NpyError::Length { found: bytes.len() as u64, more, expected });
    }
    let array = Array { header, dims, bytes };
    let data = array.convert(ty.dtype)?;
    Ok(Tensor::new(ty.dtype, &array.dims, data)?)
}

/// An array as it stands in the file.
struct Array {
    header: Header,
    dims: Vec<usize>,
    bytes: Vec<u8>,
}

impl Array {
    /// The number of elements: the bytes are known to be as many as these take.
    fn len(&self) -> usize {
        self.bytes.len() / self.header.size
    }

    /// The elements' positions in the file, in row-major order.
    fn positions(&self) -> Box<dyn Iterator<Item = usize> + '_> {
        if self.header.fortran_order { Box::new(column_major(&self.dims)) } else { Box::new(0..self.len()) }
    }

    /// The bytes of the element at a position, least significant first.
    fn element(&self, position: usize) -> [u8; 8] {
        let size = self.header.size;
        let mut bytes = [0; 8];
        bytes[..size].copy_from_slice(&self.bytes[position * size..][..size]);
        if self.header.big_endian {
            bytes[..size].reverse();
        }
        bytes
    }

    /// An element of a float array, exactly.
    fn float(&self, position: usize) -> f64 {
        let [a, b, c, d, ..] = self.element(position);
        match self.header.size {
            2 => f16::from_le_bytes([a, b]).to_f64(),
            4 => f64::from(f32::from_le_bytes([a, b, c, d])),
            _ => f64::from_le_bytes(self.element(position)),
        }
    }

    /// An element of an integer or boolean array.
    fn integer(&self, position: usize) -> i128 {
        let bits = u64::from_le_bytes(self.element(position));
        match self.header.kind {
            Kind::Signed => {
                let unused = 64 - 8 * self.header.size as u32;
                i128::from((bits << unused) as i64 >> unused)
            }
            // NumPy takes any byte but 0 for true.
            Kind::Bool => i128::from(bits != 0),
            Kind::Unsigned | Kind::Float => i128::from(bits),
        }
    }

    fn convert(&self, dtype: DType) -> Result<Data, NpyError> {
        if self.header.kind == Kind::Float {
            return self.convert_floats(dtype);
        }
        match Data::empty(dtype) {
            Data::I8(_) => self.integers::<i8>(dtype),
            Data::I16(_) => self.integers::<i16>(dtype),
            Data::I32(_) => self.integers::<i32>(dtype),
            Data::I64(_) => self.integers::<i64>(dtype),
            Data::U8(_) if dtype.is_integer() => self.integers::<u8>(dtype),
            Data::U16(_) => self.integers::<u16>(dtype),
            Data::U32(_) => self.integers::<u32>(dtype),
            Data::U64(_) => self.integers::<u64>(dtype),
            Data::Bool(_) => self.each(dtype, |value| match value {
                0 => Some(false),
                1 => Some(true),
                _ => None,
            }),
            Data::F32(_) => self.each(dtype, |v| Some(v as f32).filter(|&float| float as i128 == v)),
            Data::F64(_) => self.each(dtype, |v| Some(v as f64).filter(|&float| float as i128 == v)),
            Data::F16(_) => self.each(dtype, |v| {
                let float = anemone_mil::tensor::round_to_f16(v as f64);
                Some(float).filter(|float| float.to_f64() as i128 == v && float.is_finite())
            }),
            Data::Bf16(_) => self.each(dtype, |v| {
                let float = anemone_mil::tensor::round_to_bf16(v as f64);
                Some(float).filter(|float| float.to_f64() as i128 == v)
            }),
            Data::U8(_) | Data::String(_) => Err(NpyError::NoForm(dtype)),
        }
    }

    fn convert_floats(&self, dtype: DType) -> Result<Data, NpyError> {
        use anemone_mil::tensor::{round_to_bf16, round_to_f16};
        let floats = self.positions().map(|position| self.float(position));
        Ok(match dtype {
            DType::Fp16 => Data::F16(floats.map(round_to_f16).collect()),
            DType::Fp32 => Data::F32(floats.map(|value| value as f32).collect()),
            DType::Fp64 => Data::F64(floats.collect()),
            DType::Bf16 => Data::Bf16(floats.map(round_to_bf16).collect()),
            DType::Fp8E4M3FN | DType::Fp8E5M2 | DType::String => return Err(NpyError::NoForm(dtype)),
            other => return Err(NpyError::FloatFor(other)),
        })
    }

    /// Integers that the element type holds; its range may be narrower than that of its storage.
    fn integers<T: Element + TryFrom<i128>>(&self, dtype: DType) -> Result<Data, NpyError> {
        let (least, most) = dtype.integer_range().unwrap_or((0, 0));
        self.each(dtype, |value| if (least..=most).contains(&value) { T::try_from(value).ok() } else { None })
    }

    fn each<T: Element>(&self, dtype: DType, convert: impl Fn(i128) -> Option<T>) -> Result<Data, NpyError> {
        let mut values = Vec::with_capacity(self.len());
        for (index, position) in self.positions().enumerate() {
            let value = self.integer(position);
            values.push(convert(value).ok_or(NpyError::Value { value, index, dtype })?);
        }
        Ok(T::into_data(values))
    }
}

/// For each index in row-major order, its position in column-major order.
fn column_major(dims: &[usize]) -> impl Iterator<Item = usize> {
    let mut strides = Vec::with_capacity(dims.len());
    let mut stride = 1;
    for &length in dims {
        strides.push(stride);
        // The product of all lengths, zeros aside, is known not to overflow.
        stride *= length.max(1);
    }
    let count = if dims.contains(&0) { 0 } else { stride };
    let (dims, mut index, mut position) = (dims.to_vec(), vec![0; dims.len()], 0);
    (0..count).map(move |_| {
        let current = position;
        for axis in (0..dims.len()).rev() {
            index[axis] += 1;
            position += strides[axis];
            if index[axis] < dims[axis] {
                break;
            }
            position -= strides[axis] * dims[axis];
            index[axis] = 0;
        }
        current
    })
}

/// Whether [`write()`] can write tensors of an element type.
///
/// # Errors
///
/// When it has no counterpart in NumPy.
pub(crate) fn writable(dtype: DType) -> Result<(), NpyError> {
    match dtype {
        DType::String | DType::Fp8E4M3FN | DType::Fp8E5M2 => Err(NpyError::NoForm(dtype)),
        _ => Ok(()),
    }
}

/// Writes a tensor in its own element type; bf16, which NumPy does not have, as fp32.
///
/// # Errors
///
/// When the file cannot be written, or the element type has no counterpart in NumPy.
pub(crate) fn write(path: &Path, tensor: &Tensor) -> Result<(), FileError> {
    files::atomic_write(path, |file| {
        writable(tensor.dtype()).map_err(io::Error::other)?;
        write_array(file, tensor)
    })
}

fn write_array(file: &mut dyn Write, tensor: &Tensor) -> io::Result<()> {
    let shape = tensor.shape();
    match tensor.data() {
        Data::F16(values) => write_values(file, shape, "<f2", values, |value| value.to_le_bytes()),
        Data::F32(values) => write_values(file, shape, "<f4", values, |value| value.to_le_bytes()),
        Data::F64(values) => write_values(file, shape, "<f8", values, |value| value.to_le_bytes()),
        Data::Bf16(values) => write_values(file, shape, "<f4", values, |value| value.to_f32().to_le_bytes()),
        Data::I8(values) => write_values(file, shape, "|i1", values, |value| value.to_le_bytes()),
        Data::I16(values) => write_values(file, shape, "<i2", values, |value| value.to_le_bytes()),
        Data::I32(values) => write_values(file, shape, "<i4", values, |value| value.to_le_bytes()),
        Data::I64(values) => write_values(file, shape, "<i8", values, |value| value.to_le_bytes()),
        Data::U8(values) => write_values(file, shape, "|u1", values, |value| value.to_le_bytes()),
        Data::U16(values) => write_values(file, shape, "<u2", values, |value| value.to_le_bytes()),
        Data::U32(values) => write_values(file, shape, "<u4", values, |value| value.to_le_bytes()),
        Data::U64(values) => write_values(file, shape, "<u8", values, |value| value.to_le_bytes()),
        Data::Bool(values) => write_values(file, shape, "|b1", values, |value| [u8::from(value)]),
        Data::String(_) => Err(io::ErrorKind::InvalidInput.into()),
    }
}

/// Writes version 1.0 of the format: the magic string, the header's length, the header as a Python dictionary,
/// padded so that the values begin at a multiple of 64, and the values row by row.
fn write_values<T: Copy, const N: usize>(
    file: &mut dyn Write,
    shape: &[usize],
    descr: &str,
    values: &[T],
    bytes: impl Fn(T) -> [u8; N],
) -> io::Result<()> {
    const PREFIX_BYTES: usize = 10;
    let lengths: String = shape.iter().map(|length| format!("{length},")).collect();
    let mut header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({lengths}), }}");
    let padded = (PREFIX_BYTES + header.len() + 1).next_multiple_of(64) - PREFIX_BYTES - 1;
    header.extend(std::iter::repeat_n(' ', padded - header.len()));
    header.push('\n');
    let header_bytes = u16::try_from(header.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    file.write_all(b"\x93NUMPY\x01\x00")?;
    file.write_all(&header_bytes.to_le_bytes())?;
    file.write_all(header.as_bytes())?;
    values.iter().try_for_each(|&value| file.write_all(&bytes(value)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_of_column_major_arrays() {
        // As numpy.arange(6).reshape(2, 3) lies in Fortran order: 0 3 1 4 2 5.
        assert_eq!(column_major(&[2, 3]).collect::<Vec<_>>(), [0, 2, 4, 1, 3, 5]);
        assert_eq!(column_major(&[]).collect::<Vec<_>>(), [0]);
        assert_eq!(column_major(&[3, 0, 2]).count(), 0);
        let [d, e, f] = [3, 4, 5];
        let expected = (0..d * e * f).map(|i| i / (e * f) + i / f % e * d + i % f * (d * e));
        assert!(column_major(&[d, e, f]).eq(expected));
    }
}
