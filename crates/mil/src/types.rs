//! Types of MIL values: element types, dimensions, shapes, and the types built from them.

use std::fmt;

/// Element type of a tensor, or the type of a scalar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)] // The variants carry the names that MIL text gives them.
pub enum DType {
    Fp16,
    Fp32,
    Fp64,
    Bf16,
    Int4,
    Int8,
    Int16,
    Int32,
    Int64,
    UInt1,
    UInt2,
    UInt3,
    UInt4,
    UInt6,
    UInt8,
    UInt16,
    UInt32,
    UInt64,
    Bool,
    String,
    Fp8E4M3FN,
    Fp8E5M2,
}

/// One line of the table of element types.
struct DTypeFacts {
    dtype: DType,
    name: &'static str,
    bits: u32,
    class: DTypeClass,
    blob_code: Option<u32>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum DTypeClass {
    Float,
    Signed,
    Unsigned,
    Other,
}

const fn facts(
    dtype: DType,
    name: &'static str,
    bits: u32,
    class: DTypeClass,
    blob_code: Option<u32>,
) -> DTypeFacts {
    DTypeFacts { dtype, name, bits, class, blob_code }
}

/// Every element type, in the order of the enum. `bits` is the size of one value in a blob file;
/// a bool has no blob form, a string neither size nor blob form.
const DTYPES: [DTypeFacts; 22] = {
    use DTypeClass::{Float, Other, Signed, Unsigned};
    [
        facts(DType::Fp16, "fp16", 16, Float, Some(1)),
        facts(DType::Fp32, "fp32", 32, Float, Some(2)),
        facts(DType::Fp64, "fp64", 64, Float, None),
        facts(DType::Bf16, "bf16", 16, Float, Some(5)),
        facts(DType::Int4, "int4", 4, Signed, Some(8)),
        facts(DType::Int8, "int8", 8, Signed, Some(4)),
        facts(DType::Int16, "int16", 16, Signed, Some(6)),
        facts(DType::Int32, "int32", 32, Signed, Some(14)),
        facts(DType::Int64, "int64", 64, Signed, None),
        facts(DType::UInt1, "uint1", 1, Unsigned, Some(9)),
        facts(DType::UInt2, "uint2", 2, Unsigned, Some(10)),
        facts(DType::UInt3, "uint3", 3, Unsigned, Some(12)),
        facts(DType::UInt4, "uint4", 4, Unsigned, Some(11)),
        facts(DType::UInt6, "uint6", 6, Unsigned, Some(13)),
        facts(DType::UInt8, "uint8", 8, Unsigned, Some(3)),
        facts(DType::UInt16, "uint16", 16, Unsigned, Some(7)),
        facts(DType::UInt32, "uint32", 32, Unsigned, Some(15)),
        facts(DType::UInt64, "uint64", 64, Unsigned, None),
        facts(DType::Bool, "bool", 8, Other, None),
        facts(DType::String, "string", 0, Other, None),
        facts(DType::Fp8E4M3FN, "fp8E4M3FN", 8, Float, Some(16)),
        facts(DType::Fp8E5M2, "fp8E5M2", 8, Float, Some(17)),
    ]
};

impl DType {
    /// Every element type.
    pub fn all() -> impl Iterator<Item = DType> {
        DTYPES.iter().map(|facts| facts.dtype)
    }

    fn facts(self) -> &'static DTypeFacts {
        &DTYPES[self as usize]
    }

    /// The name in MIL text, such as `fp16`.
    pub fn name(self) -> &'static str {
        self.facts().name
    }

    /// The type with this name in MIL text.
    pub fn from_name(name: &str) -> Option<DType> {
        DTYPES.iter().find(|facts| facts.name == name).map(|facts| facts.dtype)
    }

    /// Size of one value in bits, as a blob file stores it; 8 for `bool`, 0 for `string`.
    pub fn bits(self) -> u32 {
        self.facts().bits
    }

    /// The code of this type in a blob's metadata record; `None` where blobs cannot hold it.
    pub fn blob_code(self) -> Option<u32> {
        self.facts().blob_code
    }

    /// The type with this code in a blob's metadata record.
    pub fn from_blob_code(code: u32) -> Option<DType> {
        DTYPES.iter().find(|facts| facts.blob_code == Some(code)).map(|facts| facts.dtype)
    }

    /// Floating point of any width.
    pub fn is_float(self) -> bool {
        self.facts().class == DTypeClass::Float
    }

    /// Signed or unsigned integer of any width.
    pub fn is_integer(self) -> bool {
        matches!(self.facts().class, DTypeClass::Signed | DTypeClass::Unsigned)
    }

    /// The least and largest value of an integer type, as wide integers.
    pub fn integer_range(self) -> Option<(i128, i128)> {
        let bits = self.bits();
        match self.facts().class {
            DTypeClass::Signed => Some((-(1i128 << (bits - 1)), (1i128 << (bits - 1)) - 1)),
            DTypeClass::Unsigned => Some((0, (1i128 << bits) - 1)),
            DTypeClass::Float | DTypeClass::Other => None,
        }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One dimension: known, or `?`, which a runtime learns only from its inputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dim {
    /// A known length.
    Known(u64),
    /// `?`: any length.
    Unknown,
}

impl Dim {
    /// The length, where it is known.
    pub fn known(self) -> Option<u64> {
        match self {
            Dim::Known(length) => Some(length),
            Dim::Unknown => None,
        }
    }

    /// Whether one value can have both dimensions: they are equal, or one is `?`.
    pub fn agrees_with(self, other: Dim) -> bool {
        self == other || self == Dim::Unknown || other == Dim::Unknown
    }

    /// The more specific of two dimensions that agree.
    pub fn or(self, other: Dim) -> Dim {
        if self == Dim::Unknown { other } else { self }
    }
}

impl From<u64> for Dim {
    fn from(length: u64) -> Dim {
        Dim::Known(length)
    }
}

impl From<usize> for Dim {
    fn from(length: usize) -> Dim {
        Dim::Known(length as u64)
    }
}

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Dim::Known(length) => write!(f, "{length}"),
            Dim::Unknown => f.write_str("?"),
        }
    }
}

/// The most elements that a tensor can have: no machine addresses more.
const MOST_ELEMENTS: u64 = 1 << 47;

/// The dimensions of a tensor, outermost first.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Shape(pub Vec<Dim>);

impl Shape {
    /// A shape whose dimensions are all known.
    pub fn known(dims: &[usize]) -> Shape {
        Shape(dims.iter().map(|&length| Dim::from(length)).collect())
    }

    /// The number of dimensions.
    pub fn rank(&self) -> usize {
        self.0.len()
    }

    /// The lengths, if all are known and fit this machine's `usize`.
    pub fn to_known(&self) -> Option<Vec<usize>> {
        self.0.iter().map(|dim| dim.known().and_then(|length| usize::try_from(length).ok())).collect()
    }

    /// The number of elements, if all dimensions are known and the product is one that a tensor can have.
    /// Dimensions of length 0 do not excuse the others, so that products of dimensions never overflow.
    pub fn elements(&self) -> Option<u64> {
        let counted = |product: u64, dim: &Dim| product.checked_mul(dim.known()?.max(1));
        let product = self.0.iter().try_fold(1u64, counted).filter(|&product| product <= MOST_ELEMENTS)?;
        Some(if self.0.contains(&Dim::Known(0)) { 0 } else { product })
    }

    /// Whether one tensor can have both shapes: equal rank, and every dimension agrees.
    pub fn agrees_with(&self, other: &Shape) -> bool {
        self.rank() == other.rank() && self.0.iter().zip(&other.0).all(|(a, b)| a.agrees_with(*b))
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for (i, dim) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str(", ")?;
            }
            write!(f, "{dim}")?;
        }
        f.write_str("]")
    }
}

/// A tensor's element type and shape.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TensorType {
    /// Element type.
    pub dtype: DType,
    /// Dimensions, outermost first; rank 0 holds one value.
    pub shape: Shape,
}

impl TensorType {
    /// A tensor type with known dimensions.
    pub fn new(dtype: DType, dims: &[usize]) -> TensorType {
        TensorType { dtype, shape: Shape::known(dims) }
    }
}

impl fmt::Display for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tensor<{}, {}>", self.dtype, self.shape)
    }
}

/// The type of a value.
///
/// `fp16` and `tensor<fp16, []>` are two types that hold the same data: dialect 1.0 knows only the second.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Type {
    /// `fp16`: a bare scalar, dialect 1.3 on.
    Scalar(DType),
    /// `tensor<fp16, [1, ?]>`.
    Tensor(TensorType),
    /// `list<T, 5>` or `list<T, ?>`.
    List(Box<Type>, Dim),
    /// `tuple<T, U>`.
    Tuple(Vec<Type>),
    /// `dict<K, V>`.
    Dict(Box<Type>, Box<Type>),
    /// `state<T>`: a tensor that keeps its value between runs.
    State(Box<Type>),
    /// `tensor_buffer<…>`: a tensor with an explicit memory layout.
    TensorBuffer {
        /// Element type.
        dtype: DType,
        /// Dimensions, outermost first.
        shape: Shape,
        /// Distance between neighbours along each dimension, in elements.
        strides: Vec<i64>,
        /// Interleaving per dimension.
        interleave_factors: Vec<i64>,
    },
}

impl Type {
    /// A tensor type with known dimensions.
    pub fn tensor(dtype: DType, dims: &[usize]) -> Type {
        Type::Tensor(TensorType::new(dtype, dims))
    }

    /// The list that a tensor of this type keeps: its first dimension is the list's length.
    pub fn list_of(kept: TensorType) -> Type {
        let mut dims = kept.shape.0;
        let length = if dims.is_empty() { Dim::Unknown } else { dims.remove(0) };
        Type::List(Box::new(Type::Tensor(TensorType { dtype: kept.dtype, shape: Shape(dims) })), length)
    }

    /// The tensor type that this type's data has: a scalar counts as a tensor of rank 0.
    pub fn as_tensor(&self) -> Option<TensorType> {
        match self {
            Type::Scalar(dtype) => Some(TensorType { dtype: *dtype, shape: Shape::default() }),
            Type::Tensor(tensor) => Some(tensor.clone()),
            _ => None,
        }
    }

    /// The tensor type of the data that a value of this type holds: as [`Type::as_tensor`], of a state, that of the
    /// tensor it keeps, of a list of tensors, that of one with the list's length as its first dimension, and of a
    /// dictionary of numbers, that of a vector of them in the order of their keys.
    pub fn held_tensor(&self) -> Option<TensorType> {
        match self {
            Type::List(element, length) => {
                let TensorType { dtype, shape } = element.as_tensor()?;
                let dims = std::iter::once(*length).chain(shape.0).collect();
                Some(TensorType { dtype, shape: Shape(dims) })
            }
            Type::State(inner) => inner.as_tensor(),
            Type::Dict(_, value) => {
                let TensorType { dtype, .. } = value.as_tensor().filter(|ty| ty.shape.rank() == 0)?;
                Some(TensorType { dtype, shape: Shape(vec![Dim::Unknown]) })
            }
            other => other.as_tensor(),
        }
    }

    /// The element type of a scalar or tensor.
    pub fn dtype(&self) -> Option<DType> {
        match self {
            Type::Scalar(dtype) => Some(*dtype),
            Type::Tensor(tensor) => Some(tensor.dtype),
            _ => None,
        }
    }
}

impl From<TensorType> for Type {
    fn from(tensor: TensorType) -> Type {
        Type::Tensor(tensor)
    }
}

fn write_separated<T: fmt::Display>(f: &mut fmt::Formatter<'_>, items: &[T]) -> fmt::Result {
    for (i, item) in items.iter().enumerate() {
        if i > 0 {
            f.write_str(", ")?;
        }
        write!(f, "{item}")?;
    }
    Ok(())
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Type::Scalar(dtype) => write!(f, "{dtype}"),
            Type::Tensor(tensor) => write!(f, "{tensor}"),
            Type::List(element, length) => write!(f, "list<{element}, {length}>"),
            Type::Tuple(items) => {
                f.write_str("tuple<")?;
                write_separated(f, items)?;
                f.write_str(">")
            }
            Type::Dict(key, value) => write!(f, "dict<{key}, {value}>"),
            Type::State(inner) => write!(f, "state<{inner}>"),
            Type::TensorBuffer { dtype, shape, strides, interleave_factors } => {
                write!(f, "tensor_buffer<{dtype}, shape={shape}, strides=[")?;
                write_separated(f, strides)?;
                f.write_str("], interleave_factors=[")?;
                write_separated(f, interleave_factors)?;
                f.write_str("]>")
            }
        }
    }
}

/// A version of the operation set, such as `ios18`; ordered by age.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Opset(pub u16);

impl Opset {
    /// The oldest operation set that MIL text can name.
    pub const IOS15: Opset = Opset(15);
    /// Weight compression (`constexpr_*`), fp16 inputs and outputs.
    pub const IOS16: Opset = Opset(16);
    /// 8- and 16-bit integers, mixed activation and weight types.
    pub const IOS17: Opset = Opset(17);
    /// State, sub-byte weights, bare scalars in text.
    pub const IOS18: Opset = Opset(18);
    /// The newest one that coremltools 9.0 can aim at; it adds no op.
    pub const IOS26: Opset = Opset(26);

    /// Every operation set that there is, oldest first.
    pub const KNOWN: [Opset; 5] = [Opset::IOS15, Opset::IOS16, Opset::IOS17, Opset::IOS18, Opset::IOS26];

    /// The opset with this name in MIL text: `ios` and a number.
    pub fn from_name(name: &str) -> Option<Opset> {
        let digits = name.strip_prefix("ios")?;
        if digits.starts_with('0') || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        digits.parse().ok().map(Opset)
    }
}

impl fmt::Display for Opset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ios{}", self.0)
    }
}
