//! The values of tensors in both forms.
//!
//! Which field holds which element type is what Core ML reads and coremltools writes: 16-bit integers among `ints`,
//! other integers below 64 bits but int32, and floats of other sizes than 32 and 64 bits, as little-endian bytes,
//! several to a byte where they are narrower.

use anemone_mil::tensor::{Data, Tensor};
use anemone_mil::types::{DType, Dim, Shape, TensorType};
use anemone_mil::weights::{pack, sign_extend, unpack};
use half::{bf16, f16};

use super::{ProgramError, Result};
use crate::proto::mil::{self as proto, TensorValues};

/// The most rows of a tensor without elements.
const MOST_EMPTY_LISTS: usize = 1 << 16;

/// The tensor of type `ty` that a message holds. A single `?` of the type is what the number of values makes it.
pub(super) fn decode(value: proto::TensorValue, ty: &TensorType) -> Result<Tensor> {
    let field = value.values.as_ref().map_or("no values", name);
    let stored = match value.values {
        None => Some(Stored::Whole(Data::empty(ty.dtype))),
        Some(values) => stored(values, ty.dtype)?,
    };
    let stored = stored.ok_or_else(|| ProgramError::new(format!("a value of {ty} is kept in `{field}`")))?;
    let shape = settle(ty, &stored)?;
    let count = shape.iter().product::<usize>();
    let data = match stored {
        Stored::Whole(data) => data,
        Stored::Packed(bytes) => unpacked(&bytes, ty.dtype, count),
    };
    Tensor::new(ty.dtype, &shape, data).map_err(|error| ProgramError::new(error.to_string()))
}

/// What a message's field becomes.
enum Stored {
    /// The values.
    Whole(Data),
    /// Values narrower than a byte: how many there are, only the type tells.
    Packed(Vec<u8>),
}

/// The values of a field for an element type; `None` where it is not one for that.
fn stored(values: TensorValues, dtype: DType) -> Result<Option<Stored>> {
    let data = match (values, dtype) {
        (TensorValues::Floats(proto::Floats { values }), DType::Fp32) => Data::F32(values),
        (TensorValues::Doubles(proto::Doubles { values }), DType::Fp64) => Data::F64(values),
        (TensorValues::Bools(proto::Bools { values }), DType::Bool) => Data::Bool(values),
        (TensorValues::Strings(proto::Strings { values }), DType::String) => Data::String(values),
        (TensorValues::Ints(proto::Ints { values }), DType::Int32) => Data::I32(values),
        (TensorValues::Ints(proto::Ints { values }), DType::Int16) => Data::I16(narrow(&values, dtype)?),
        (TensorValues::Ints(proto::Ints { values }), DType::UInt16) => Data::U16(narrow(&values, dtype)?),
        (TensorValues::LongInts(proto::LongInts { values }), DType::Int64) => Data::I64(values),
        (TensorValues::LongInts(proto::LongInts { values }), DType::UInt64) => {
            Data::U64(values.into_iter().map(i64::cast_unsigned).collect())
        }
        (TensorValues::Bytes(proto::Bytes { values }), _) if packs(dtype) => {
            return Ok(Some(Stored::Packed(values)));
        }
        (TensorValues::Bytes(proto::Bytes { values }), _) => match from_bytes(&values, dtype)? {
            Some(data) => data,
            None => return Ok(None),
        },
        _ => return Ok(None),
    };
    Ok(Some(Stored::Whole(data)))
}

/// Whether several values of a type share a byte.
fn packs(dtype: DType) -> bool {
    (1..8).contains(&dtype.bits())
}

fn narrow<T: TryFrom<i32>>(values: &[i32], dtype: DType) -> Result<Vec<T>> {
    let narrow = |&value| T::try_from(value).map_err(|_| ProgramError::new(format!("{value} is no {dtype}")));
    values.iter().map(narrow).collect()
}

/// Values of a whole number of bytes each, little-endian.
fn from_bytes(bytes: &[u8], dtype: DType) -> Result<Option<Data>> {
    let size = dtype.bits() as usize / 8;
    if size > 0 && !bytes.len().is_multiple_of(size) {
        let count = bytes.len();
        return Err(ProgramError::new(format!("{count} bytes are no whole number of values of {dtype}")));
    }
    Ok(Some(match dtype {
        DType::Fp16 => Data::F16(each(bytes, f16::from_le_bytes)),
        DType::Bf16 => Data::Bf16(each(bytes, bf16::from_le_bytes)),
        DType::Int8 => Data::I8(each(bytes, i8::from_le_bytes)),
        DType::Int16 => Data::I16(each(bytes, i16::from_le_bytes)),
        DType::UInt8 | DType::Fp8E4M3FN | DType::Fp8E5M2 => Data::U8(bytes.to_vec()),
        DType::UInt16 => Data::U16(each(bytes, u16::from_le_bytes)),
        DType::UInt32 => Data::U32(each(bytes, u32::from_le_bytes)),
        _ => return Ok(None),
    }))
}

fn each<T, const N: usize>(bytes: &[u8], value: impl Fn([u8; N]) -> T) -> Vec<T> {
    bytes.as_chunks::<N>().0.iter().map(|&bytes| value(bytes)).collect()
}

/// The shape that a type says, with the length of a single `?` found from the number of values.
fn settle(ty: &TensorType, stored: &Stored) -> Result<Vec<usize>> {
    let unknown = ty.shape.0.iter().filter(|dim| **dim == Dim::Unknown).count();
    let known = Shape(ty.shape.0.iter().map(|dim| dim.or(Dim::Known(1))).collect());
    let refused =
        |found: usize| ProgramError::new(format!("{ty} does not hold the {found} values that it is given"));
    let (found, rest) = match (stored, known.elements().and_then(|count| usize::try_from(count).ok())) {
        (Stored::Whole(data), Some(rest)) => (data.len(), rest),
        // A round number of bytes says nothing of the last values: the type must.
        (Stored::Packed(bytes), Some(rest)) if unknown == 0 => {
            let bits = rest.checked_mul(ty.dtype.bits() as usize);
            match bits.is_some_and(|bits| bits.div_ceil(8) == bytes.len()) {
                true => (rest, rest),
                false => {
                    return Err(ProgramError::new(format!("{ty} is not packed in {} bytes", bytes.len())));
                }
            }
        }
        _ => return Err(ProgramError::new(format!("{ty} does not say how many values it has"))),
    };
    let length = match unknown {
        0 if found == rest => 1,
        1 if rest > 0 && found.is_multiple_of(rest) => found / rest,
        _ => return Err(refused(found)),
    };
    let settled = Shape(ty.shape.0.iter().map(|dim| dim.or(Dim::from(length))).collect());
    let shape = settled.elements().and_then(|_| settled.to_known()).ok_or_else(|| refused(found))?;
    // Text has a list for each of these, whatever is in them.
    let lists = shape
        .iter()
        .take_while(|&&length| length > 0)
        .try_fold(1, |product: usize, &length| product.checked_mul(length));
    if shape.contains(&0) && lists.is_none_or(|lists| lists > MOST_EMPTY_LISTS) {
        return Err(ProgramError::new(format!(
            "a value of {ty}, which has no elements but more than {MOST_EMPTY_LISTS} rows"
        )));
    }
    Ok(shape)
}

/// Whether the number of values tells what the `?` of a type are.
pub(super) fn tells_shape(tensor: &Tensor, ty: &TensorType) -> bool {
    match ty.shape.0.iter().filter(|dim| **dim == Dim::Unknown).count() {
        0 => true,
        1 => !tensor.is_empty() && !packs(tensor.dtype()),
        _ => false,
    }
}

/// `count` values narrower than a byte, which `bytes` are known to hold.
fn unpacked(bytes: &[u8], dtype: DType, count: usize) -> Data {
    let mut values = vec![0; count];
    unpack(bytes, dtype.bits(), &mut values);
    match Data::empty(dtype) {
        Data::I8(_) => Data::I8(values.iter().map(|&v| sign_extend(v.cast_signed(), dtype.bits())).collect()),
        _ => Data::U8(values),
    }
}

/// The message for a tensor's values.
pub(super) fn encode(tensor: &Tensor) -> proto::TensorValue {
    let values = match tensor.data() {
        Data::F32(values) => TensorValues::Floats(proto::Floats { values: values.clone() }),
        Data::F64(values) => TensorValues::Doubles(proto::Doubles { values: values.clone() }),
        Data::Bool(values) => TensorValues::Bools(proto::Bools { values: values.clone() }),
        Data::String(values) => TensorValues::Strings(proto::Strings { values: values.clone() }),
        Data::I32(values) => TensorValues::Ints(proto::Ints { values: values.clone() }),
        Data::I16(values) => ints(values),
        Data::U16(values) => ints(values),
        Data::I64(values) => TensorValues::LongInts(proto::LongInts { values: values.clone() }),
        Data::U64(values) => TensorValues::LongInts(proto::LongInts {
            values: values.iter().map(|v| v.cast_signed()).collect(),
        }),
        Data::F16(values) => bytes(values, |value| value.to_le_bytes()),
        Data::Bf16(values) => bytes(values, |value| value.to_le_bytes()),
        Data::U32(values) => bytes(values, |value| value.to_le_bytes()),
        Data::I8(values) if packs(tensor.dtype()) => {
            let values: Vec<u8> = values.iter().map(|value| value.cast_unsigned()).collect();
            TensorValues::Bytes(proto::Bytes { values: pack(&values, tensor.dtype().bits()) })
        }
        Data::U8(values) if packs(tensor.dtype()) => {
            TensorValues::Bytes(proto::Bytes { values: pack(values, tensor.dtype().bits()) })
        }
        Data::I8(values) => bytes(values, |value| value.to_le_bytes()),
        Data::U8(values) => TensorValues::Bytes(proto::Bytes { values: values.clone() }),
    };
    proto::TensorValue { values: Some(values) }
}

fn ints<T: Copy + Into<i32>>(values: &[T]) -> TensorValues {
    TensorValues::Ints(proto::Ints { values: values.iter().map(|&value| value.into()).collect() })
}

fn bytes<T, const N: usize>(values: &[T], bytes: impl Fn(&T) -> [u8; N]) -> TensorValues {
    TensorValues::Bytes(proto::Bytes { values: values.iter().flat_map(bytes).collect() })
}

/// What a field is called.
fn name(values: &TensorValues) -> &'static str {
    match values {
        TensorValues::Floats(_) => "floats",
        TensorValues::Ints(_) => "ints",
        TensorValues::Bools(_) => "bools",
        TensorValues::Strings(_) => "strings",
        TensorValues::LongInts(_) => "longInts",
        TensorValues::Doubles(_) => "doubles",
        TensorValues::Bytes(_) => "bytes",
    }
}
