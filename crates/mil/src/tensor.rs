//! Tensors: element type, shape, and row-major data.

use half::{bf16, f16};

use crate::mapped::room_for;
use crate::types::{DType, Dim, Shape, TensorType, Type};

/// The values of a tensor, one variant per way of storing them.
///
/// Integers narrower than a byte take one byte each here; blob files pack them.
///
/// Two are equal when they are equal bit for bit, so that NaN equals itself and 0 differs from −0.
#[derive(Debug, Clone)]
#[allow(missing_docs)] // The variants carry the names of their element types.
pub enum Data {
    F16(Vec<f16>),
    F32(Vec<f32>),
    F64(Vec<f64>),
    Bf16(Vec<bf16>),
    I8(Vec<i8>),
    I16(Vec<i16>),
    I32(Vec<i32>),
    I64(Vec<i64>),
    U8(Vec<u8>),
    U16(Vec<u16>),
    U32(Vec<u32>),
    U64(Vec<u64>),
    Bool(Vec<bool>),
    String(Vec<String>),
}

/// Runs `$body` with `$values` bound to the vector inside any numeric or boolean [`Data`].
#[macro_export]
macro_rules! for_each_data {
    ($data:expr, $values:ident => $body:expr, strings $strings:ident => $string_body:expr) => {
        match $data {
            $crate::tensor::Data::F16($values) => $body,
            $crate::tensor::Data::F32($values) => $body,
            $crate::tensor::Data::F64($values) => $body,
            $crate::tensor::Data::Bf16($values) => $body,
            $crate::tensor::Data::I8($values) => $body,
            $crate::tensor::Data::I16($values) => $body,
            $crate::tensor::Data::I32($values) => $body,
            $crate::tensor::Data::I64($values) => $body,
            $crate::tensor::Data::U8($values) => $body,
            $crate::tensor::Data::U16($values) => $body,
            $crate::tensor::Data::U32($values) => $body,
            $crate::tensor::Data::U64($values) => $body,
            $crate::tensor::Data::Bool($values) => $body,
            $crate::tensor::Data::String($strings) => $string_body,
        }
    };
}

impl Data {
    /// The number of values.
    pub fn len(&self) -> usize {
        for_each_data!(self, values => values.len(), strings values => values.len())
    }

    /// Whether there are no values.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// No values, of the variant that stores an element type.
    pub fn empty(dtype: DType) -> Data {
        match dtype {
            DType::Fp16 => Data::F16(Vec::new()),
            DType::Fp32 => Data::F32(Vec::new()),
            DType::Fp64 => Data::F64(Vec::new()),
            DType::Bf16 => Data::Bf16(Vec::new()),
            DType::Int4 | DType::Int8 => Data::I8(Vec::new()),
            DType::Int16 => Data::I16(Vec::new()),
            DType::Int32 => Data::I32(Vec::new()),
            DType::Int64 => Data::I64(Vec::new()),
            DType::UInt1
            | DType::UInt2
            | DType::UInt3
            | DType::UInt4
            | DType::UInt6
            | DType::UInt8
            | DType::Fp8E4M3FN
            | DType::Fp8E5M2 => Data::U8(Vec::new()),
            DType::UInt16 => Data::U16(Vec::new()),
            DType::UInt32 => Data::U32(Vec::new()),
            DType::UInt64 => Data::U64(Vec::new()),
            DType::Bool => Data::Bool(Vec::new()),
            DType::String => Data::String(Vec::new()),
        }
    }

    /// `count` zeros (false, empty strings) of an element type; `None` when there is no memory for them.
    pub fn zeros(dtype: DType, count: usize) -> Option<Data> {
        fn extend<T: Clone + Default>(values: &mut Vec<T>, count: usize) -> Option<()> {
            *values = room_for(count)?;
            values.resize(count, T::default());
            Some(())
        }
        let mut data = Data::empty(dtype);
        for_each_data!(&mut data, values => extend(values, count), strings values => extend(values, count))?;
        Some(data)
    }

    /// Whether values of `dtype` are stored in this variant.
    pub fn stores(&self, dtype: DType) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(&Data::empty(dtype))
    }
}

impl PartialEq for Data {
    fn eq(&self, other: &Data) -> bool {
        fn same<T: bytemuck::NoUninit>(a: &[T], b: &[T]) -> bool {
            bytemuck::cast_slice::<T, u8>(a) == bytemuck::cast_slice::<T, u8>(b)
        }
        match (self, other) {
            (Data::F16(a), Data::F16(b)) => same(a, b),
            (Data::F32(a), Data::F32(b)) => same(a, b),
            (Data::F64(a), Data::F64(b)) => same(a, b),
            (Data::Bf16(a), Data::Bf16(b)) => same(a, b),
            (Data::I8(a), Data::I8(b)) => a == b,
            (Data::I16(a), Data::I16(b)) => a == b,
            (Data::I32(a), Data::I32(b)) => a == b,
            (Data::I64(a), Data::I64(b)) => a == b,
            (Data::U8(a), Data::U8(b)) => a == b,
            (Data::U16(a), Data::U16(b)) => a == b,
            (Data::U32(a), Data::U32(b)) => a == b,
            (Data::U64(a), Data::U64(b)) => a == b,
            (Data::Bool(a), Data::Bool(b)) => a == b,
            (Data::String(a), Data::String(b)) => a == b,
            _ => false,
        }
    }
}

/// A Rust type that tensors store their elements as.
pub trait Element: Sized + Clone {
    /// The values of `data`, if it stores this type.
    fn slice(data: &Data) -> Option<&[Self]>;
    /// The values of `data`, if it stores this type.
    fn slice_mut(data: &mut Data) -> Option<&mut [Self]>;
    /// Takes ownership of values.
    fn into_data(values: Vec<Self>) -> Data;
}

macro_rules! elements {
    ($($variant:ident: $element:ty),* $(,)?) => {$(
        impl Element for $element {
            fn slice(data: &Data) -> Option<&[Self]> {
                if let Data::$variant(values) = data { Some(values) } else { None }
            }
            fn slice_mut(data: &mut Data) -> Option<&mut [Self]> {
                if let Data::$variant(values) = data { Some(values) } else { None }
            }
            fn into_data(values: Vec<Self>) -> Data {
                Data::$variant(values)
            }
        }
    )*};
}

elements!(F16: f16, F32: f32, F64: f64, Bf16: bf16, I8: i8, I16: i16, I32: i32, I64: i64,
          U8: u8, U16: u16, U32: u32, U64: u64, Bool: bool, String: String);

/// Why values cannot become a tensor.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TensorError {
    /// The data's variant is not the one that stores the element type.
    #[error("these values are not stored as {0}")]
    Storage(DType),
    /// The number of values is not the product of the dimensions.
    #[error("shape {shape} does not hold {values} values")]
    Count {
        /// The shape asked for.
        shape: Shape,
        /// The number of values given.
        values: usize,
    },
    /// A value lies outside its element type.
    #[error("a value does not fit {0}")]
    Range(DType),
    /// There is no memory for the tensor.
    #[error("there is no memory for {0}")]
    Memory(TensorType),
}

/// A tensor with its values. Rank 0 holds exactly one.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    dtype: DType,
    shape: Vec<usize>,
    data: Data,
}

impl Tensor {
    /// A tensor of `data`, row-major.
    ///
    /// # Errors
    ///
    /// When `data` does not store `dtype`, holds another number of values than the shape,
    /// or a narrow integer outside its range.
    pub fn new(dtype: DType, shape: &[usize], data: Data) -> Result<Tensor, TensorError> {
        if !data.stores(dtype) {
            return Err(TensorError::Storage(dtype));
        }
        if Shape::known(shape).elements() != Some(data.len() as u64) {
            return Err(TensorError::Count { shape: Shape::known(shape), values: data.len() });
        }
        let narrow_and_wrong = match (&data, dtype.integer_range()) {
            (Data::U8(values), Some((_, most))) => values.iter().any(|&v| i128::from(v) > most),
            (Data::I8(values), Some((least, most))) => {
                values.iter().any(|&v| i128::from(v) < least || i128::from(v) > most)
            }
            _ => false,
        };
        if narrow_and_wrong {
            return Err(TensorError::Range(dtype));
        }
        Ok(Tensor { dtype, shape: shape.to_vec(), data })
    }

    /// Zeros (false, empty strings); `None` when the size overflows, or there is no memory for it.
    pub fn zeros(dtype: DType, shape: &[usize]) -> Option<Tensor> {
        let count = usize::try_from(Shape::known(shape).elements()?).ok()?;
        Some(Tensor { dtype, shape: shape.to_vec(), data: Data::zeros(dtype, count)? })
    }

    /// A rank-0 tensor holding one value of a type that has a single element type.
    pub fn scalar<T: ScalarElement>(value: T) -> Tensor {
        Tensor { dtype: T::DTYPE, shape: Vec::new(), data: T::into_data(vec![value]) }
    }

    /// A rank-1 tensor.
    pub fn vector<T: ScalarElement>(values: Vec<T>) -> Tensor {
        Tensor { dtype: T::DTYPE, shape: vec![values.len()], data: T::into_data(values) }
    }

    /// A tensor of `values` with this shape.
    ///
    /// # Errors
    ///
    /// When the shape holds another number of values.
    pub fn from_values<T: ScalarElement>(shape: &[usize], values: Vec<T>) -> Result<Tensor, TensorError> {
        Tensor::new(T::DTYPE, shape, T::into_data(values))
    }

    /// A tensor of floating-point values, each rounded once to `dtype`, to nearest even.
    ///
    /// # Errors
    ///
    /// When `dtype` is not fp16, fp32, fp64 or bf16, the shape holds another number of values, or there is no memory for
    /// the tensor.
    pub fn from_f64(dtype: DType, shape: &[usize], values: &[f64]) -> Result<Tensor, TensorError> {
        let values = values.iter().copied();
        let data = match dtype {
            DType::Fp16 => collect(values.map(round_to_f16)).map(Data::F16),
            DType::Fp32 => collect(values.map(|v| v as f32)).map(Data::F32),
            DType::Fp64 => collect(values).map(Data::F64),
            DType::Bf16 => collect(values.map(round_to_bf16)).map(Data::Bf16),
            other => return Err(TensorError::Storage(other)),
        };
        Tensor::new(dtype, shape, data.ok_or_else(|| no_memory(dtype, shape))?)
    }

    /// A tensor of integers or booleans (zero is false).
    ///
    /// # Errors
    ///
    /// When a value does not fit `dtype`, `dtype` is neither an integer nor bool, the shape holds another number of
    /// values, or there is no memory for the tensor.
    pub fn from_i64(dtype: DType, shape: &[usize], values: &[i64]) -> Result<Tensor, TensorError> {
        let convert = Integers { dtype, shape, values };
        let data = match Data::empty(dtype) {
            Data::I8(_) => Data::I8(convert.to()?),
            Data::I16(_) => Data::I16(convert.to()?),
            Data::I32(_) => Data::I32(convert.to()?),
            Data::I64(_) => Data::I64(convert.to()?),
            Data::U8(_) if dtype.is_integer() => Data::U8(convert.to()?),
            Data::U16(_) => Data::U16(convert.to()?),
            Data::U32(_) => Data::U32(convert.to()?),
            Data::U64(_) => Data::U64(convert.to()?),
            Data::Bool(_) => {
                let values = collect(values.iter().map(|&v| v != 0));
                Data::Bool(values.ok_or_else(|| no_memory(dtype, shape))?)
            }
            _ => return Err(TensorError::Storage(dtype)),
        };
        Tensor::new(dtype, shape, data)
    }

    /// Element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Dimensions, outermost first.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The number of elements.
    pub fn len(&self) -> usize {
        self.data.len()
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.data.is_empty()
    }

    /// The values, row-major.
    pub fn data(&self) -> &Data {
        &self.data
    }

    /// The values, row-major; their number and variant are to stay as they are.
    pub fn data_mut(&mut self) -> &mut Data {
        &mut self.data
    }

    /// The tensor's type.
    pub fn ty(&self) -> TensorType {
        TensorType::new(self.dtype, &self.shape)
    }

    /// Whether the tensor has exactly this type; allocates nothing.
    pub fn has_type(&self, ty: &TensorType) -> bool {
        let dims = self.shape.iter().map(|&length| Dim::from(length));
        // Whoever had the values for writing may have left others.
        let whole = self.data.stores(self.dtype) && self.data.len() == self.shape.iter().product::<usize>();
        self.dtype == ty.dtype && dims.eq(ty.shape.0.iter().copied()) && whole
    }

    /// Whether the tensor's values can be those of a scalar or tensor type (a `?` takes any length).
    pub fn fits(&self, ty: &Type) -> bool {
        ty.as_tensor().is_some_and(|ty| ty.dtype == self.dtype && ty.shape.agrees_with(&self.ty().shape))
    }

    /// The values, if they are stored as `T`.
    pub fn as_slice<T: Element>(&self) -> Option<&[T]> {
        T::slice(&self.data)
    }

    /// The values, if they are stored as `T`.
    pub fn as_mut_slice<T: Element>(&mut self) -> Option<&mut [T]> {
        T::slice_mut(&mut self.data)
    }

    /// The same values under another shape.
    ///
    /// # Errors
    ///
    /// When the new shape holds another number of values.
    pub fn reshaped(self, shape: &[usize]) -> Result<Tensor, TensorError> {
        Tensor::new(self.dtype, shape, self.data)
    }

    /// Floating-point values as f64, exactly. `None` for other element types, or where there is no memory.
    pub fn to_f64(&self) -> Option<Vec<f64>> {
        match &self.data {
            Data::F16(values) => collect(values.iter().map(|v| v.to_f64())),
            Data::F32(values) => collect(values.iter().map(|&v| f64::from(v))),
            Data::F64(values) => collect(values.iter().copied()),
            Data::Bf16(values) => collect(values.iter().map(|v| v.to_f64())),
            Data::U8(values) => collect_some(values.iter().map(|&v| fp8_to_f64(self.dtype, v))),
            _ => None,
        }
    }

    /// Integers and booleans as i64; `None` for other element types, a `uint64` above `i64::MAX`, or where there is no
    /// memory.
    pub fn to_i64(&self) -> Option<Vec<i64>> {
        if self.dtype.is_float() {
            return None;
        }
        match &self.data {
            Data::I8(values) => collect(values.iter().map(|&v| i64::from(v))),
            Data::I16(values) => collect(values.iter().map(|&v| i64::from(v))),
            Data::I32(values) => collect(values.iter().map(|&v| i64::from(v))),
            Data::I64(values) => collect(values.iter().copied()),
            Data::U8(values) => collect(values.iter().map(|&v| i64::from(v))),
            Data::U16(values) => collect(values.iter().map(|&v| i64::from(v))),
            Data::U32(values) => collect(values.iter().map(|&v| i64::from(v))),
            Data::U64(values) => collect_some(values.iter().map(|&v| i64::try_from(v).ok())),
            Data::Bool(values) => collect(values.iter().map(|&v| i64::from(v))),
            _ => None,
        }
    }
}

/// As many values as an iterator says that it has; `None` when there is no memory for them.
fn collect<T>(values: impl ExactSizeIterator<Item = T>) -> Option<Vec<T>> {
    let mut all = room_for(values.len())?;
    all.extend(values);
    Some(all)
}

/// As [`collect`]; `None` also where one of the values is.
fn collect_some<T>(values: impl ExactSizeIterator<Item = Option<T>>) -> Option<Vec<T>> {
    let mut all = room_for(values.len())?;
    for value in values {
        all.push(value?);
    }
    Some(all)
}

fn no_memory(dtype: DType, shape: &[usize]) -> TensorError {
    TensorError::Memory(TensorType::new(dtype, shape))
}

/// Integers that become a tensor.
struct Integers<'a> {
    dtype: DType,
    shape: &'a [usize],
    values: &'a [i64],
}

impl Integers<'_> {
    /// The values in a narrower type.
    fn to<T: TryFrom<i64>>(&self) -> Result<Vec<T>, TensorError> {
        let mut all = room_for(self.values.len()).ok_or_else(|| no_memory(self.dtype, self.shape))?;
        for &value in self.values {
            all.push(T::try_from(value).map_err(|_| TensorError::Range(self.dtype))?);
        }
        Ok(all)
    }
}

/// A storage type that belongs to one element type, so that values alone determine it.
pub trait ScalarElement: Element {
    /// That element type.
    const DTYPE: DType;
}

macro_rules! scalar_elements {
    ($($element:ty: $dtype:ident),* $(,)?) => {$(
        impl ScalarElement for $element {
            const DTYPE: DType = DType::$dtype;
        }
    )*};
}

scalar_elements!(f16: Fp16, f32: Fp32, f64: Fp64, bf16: Bf16, i8: Int8, i16: Int16, i32: Int32, i64: Int64,
                 u8: UInt8, u16: UInt16, u32: UInt32, u64: UInt64, bool: Bool, String: String);

/// The value of an fp8 element type's bits; `None` for other element types.
pub fn fp8_to_f64(dtype: DType, bits: u8) -> Option<f64> {
    match dtype {
        DType::Fp8E4M3FN => Some(fp8_e4m3fn_to_f64(bits)),
        DType::Fp8E5M2 => Some(fp8_e5m2_to_f64(bits)),
        _ => None,
    }
}

/// fp8 E5M2: the upper byte of an fp16.
fn fp8_e5m2_to_f64(bits: u8) -> f64 {
    f16::from_bits(u16::from(bits) << 8).to_f64()
}

/// fp8 E4M3FN: bias 7, no infinities, NaN only at S.1111.111 (OCP 8-bit floating point, 1.0).
fn fp8_e4m3fn_to_f64(bits: u8) -> f64 {
    let sign = if bits & 0x80 == 0 { 1.0 } else { -1.0 };
    let exponent = i32::from((bits >> 3) & 15);
    let mantissa = f64::from(bits & 7);
    match (exponent, bits & 7) {
        (15, 7) => f64::NAN,
        (0, _) => sign * mantissa / 8.0 * 2f64.powi(-6),
        _ => sign * (1.0 + mantissa / 8.0) * 2f64.powi(exponent - 7),
    }
}

/// The bits of the fp8 value nearest to `value`, ties to even.
///
/// `None` where E4M3FN, which has no infinity, overflows, and for other element types.
pub fn round_to_fp8(dtype: DType, value: f64) -> Option<u8> {
    // The bits below which positive values are finite, and in ascending order; then those of a NaN.
    let (decode, finite, nan): (fn(u8) -> f64, u8, u8) = match dtype {
        DType::Fp8E4M3FN => (fp8_e4m3fn_to_f64, 0x7f, 0x7f),
        DType::Fp8E5M2 => (fp8_e5m2_to_f64, 0x7c, 0x7e),
        _ => return None,
    };
    if value.is_nan() {
        return Some(nan);
    }
    let magnitude = value.abs();
    // The value after the largest finite one, had the format room for it, bounds the last interval.
    let after_largest = 2.0 * decode(finite - 1) - decode(finite - 2);
    let upper = |bits: u8| if bits + 1 < finite { decode(bits + 1) } else { after_largest };
    let (mut low, mut high) = (0, finite);
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        (low, high) = if decode(middle) <= magnitude { (middle, high) } else { (low, middle) };
    }
    let midpoint = (decode(low) + upper(low)) / 2.0;
    let bits = if magnitude > midpoint || (magnitude == midpoint && low % 2 == 1) { low + 1 } else { low };
    let overflows = bits == finite;
    (!overflows || dtype == DType::Fp8E5M2).then_some(bits | if value.is_sign_negative() { 0x80 } else { 0 })
}

/// The fp16 value nearest to `value`, ties to even.
///
/// Rounds to odd in fp32 first, which keeps the second rounding from seeing a tie that is none
/// (Boldo and Melquiond, "Emulation of FMA and correctly rounded sums", 2008).
pub fn round_to_f16(value: f64) -> f16 {
    f16::from_f32(round_to_odd(value))
}

/// The bf16 value nearest to `value`, ties to even.
pub fn round_to_bf16(value: f64) -> bf16 {
    bf16::from_f32(round_to_odd(value))
}

/// `value` in fp32, exactly or else as the neighbour whose last bit is 1.
fn round_to_odd(value: f64) -> f32 {
    let nearest = value as f32;
    if value.is_nan() || f64::from(nearest) == value {
        return nearest;
    }
    let toward_zero =
        if f64::from(nearest).abs() > value.abs() { nearest.to_bits() - 1 } else { nearest.to_bits() };
    f32::from_bits(toward_zero | 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fp16_rounds_once() {
        // 1 + 2^-11 is a tie between 1 and 1 + 2^-10; anything above it rounds up.
        let tie = 1.0 + 2f64.powi(-11);
        assert_eq!(round_to_f16(tie).to_f64(), 1.0);
        assert_eq!(round_to_f16(tie + 2f64.powi(-40)).to_f64(), 1.0 + 2f64.powi(-10));
        assert_eq!(round_to_f16(-tie - 2f64.powi(-52)).to_f64(), -1.0 - 2f64.powi(-10));
        assert_eq!(round_to_f16(65519.999).to_f64(), 65504.0);
        assert_eq!(round_to_f16(65520.0).to_f64(), f64::INFINITY);
        assert_eq!(round_to_f16(2f64.powi(-25)).to_f64(), 0.0);
        assert_eq!(round_to_f16(2f64.powi(-25) * 1.0000001).to_f64(), 2f64.powi(-24));
        assert_eq!(round_to_f16(1e-300).to_bits(), 0);
        assert_eq!(round_to_f16(-1e300).to_f64(), f64::NEG_INFINITY);
        assert!(round_to_f16(f64::NAN).is_nan());
    }

    #[test]
    fn every_fp16_and_every_midpoint_rounds_to_nearest_even() {
        for bits in 0u16..0x7bff {
            let (low, high) = (f16::from_bits(bits).to_f64(), f16::from_bits(bits + 1).to_f64());
            let middle = (low + high) / 2.0;
            let even = if bits % 2 == 0 { bits } else { bits + 1 };
            assert_eq!(round_to_f16(low).to_bits(), bits);
            assert_eq!(round_to_f16(middle).to_bits(), even);
            assert_eq!(round_to_f16(middle.next_up()).to_bits(), bits + 1);
            assert_eq!(round_to_f16(middle.next_down()).to_bits(), bits);
        }
    }

    #[test]
    fn a_tensor_refuses_what_does_not_fit() {
        assert!(Tensor::new(DType::Fp16, &[2], Data::F32(vec![1.0, 2.0])).is_err());
        assert!(Tensor::new(DType::Fp32, &[3], Data::F32(vec![1.0, 2.0])).is_err());
        assert!(Tensor::new(DType::UInt4, &[1], Data::U8(vec![16])).is_err());
        assert!(Tensor::new(DType::Int4, &[1], Data::I8(vec![-9])).is_err());
        assert!(Tensor::from_i64(DType::Int8, &[1], &[128]).is_err());
        assert!(Tensor::zeros(DType::Fp32, &[usize::MAX, 2]).is_none());
        // 2^60 bytes: a size that is a number, but not one that any machine has.
        assert!(Tensor::zeros(DType::Fp16, &[1 << 59]).is_none());
    }

    #[test]
    fn every_fp8_and_every_midpoint_rounds_to_nearest_even() {
        for (dtype, finite) in [(DType::Fp8E4M3FN, 0x7f), (DType::Fp8E5M2, 0x7c)] {
            let all = Tensor::new(dtype, &[finite], Data::U8((0..finite as u8).collect())).unwrap();
            for (bits, pair) in (0u8..).zip(all.to_f64().unwrap().windows(2)) {
                let middle = (pair[0] + pair[1]) / 2.0;
                assert_eq!(round_to_fp8(dtype, pair[0]), Some(bits));
                assert_eq!(round_to_fp8(dtype, -pair[0]), Some(bits | 0x80));
                assert_eq!(round_to_fp8(dtype, middle), Some(if bits % 2 == 0 { bits } else { bits + 1 }));
                assert_eq!(round_to_fp8(dtype, middle.next_up()), Some(bits + 1));
                assert_eq!(round_to_fp8(dtype, middle.next_down()), Some(bits));
            }
        }
        assert_eq!(round_to_fp8(DType::Fp8E4M3FN, 464.0), Some(0x7e));
        assert_eq!(round_to_fp8(DType::Fp8E4M3FN, 464.1), None);
        assert_eq!(round_to_fp8(DType::Fp8E4M3FN, f64::INFINITY), None);
        assert_eq!(round_to_fp8(DType::Fp8E5M2, 61439.9), Some(0x7b));
        assert_eq!(round_to_fp8(DType::Fp8E5M2, -61440.0), Some(0xfc));
        assert_eq!(round_to_fp8(DType::Fp8E5M2, f64::INFINITY), Some(0x7c));
    }

    #[test]
    fn fp8_values_are_those_of_the_standard() {
        let values = Tensor::new(DType::Fp8E4M3FN, &[4], Data::U8(vec![0x7e, 0x01, 0x38, 0x7f])).unwrap();
        let read = values.to_f64().unwrap();
        assert_eq!(&read[..3], &[448.0, 2f64.powi(-9), 1.0]);
        assert!(read[3].is_nan());
        let values = Tensor::new(DType::Fp8E5M2, &[3], Data::U8(vec![0x7b, 0x01, 0x7c])).unwrap();
        assert_eq!(values.to_f64().unwrap(), [57344.0, 2f64.powi(-16), f64::INFINITY]);
    }
}
