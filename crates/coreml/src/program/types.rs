//! Types in both forms.

use anemone_mil::program::Dialect;
use anemone_mil::types::{DType, Dim, Shape, TensorType, Type};

use super::{MAX_DEPTH, ProgramError, Result};
use crate::proto::mil::{self as proto, DataType, DimensionKind, TypeKind};

/// Every element type with its name in messages.
const DTYPES: [(DType, DataType); 22] = [
    (DType::Bool, DataType::Bool),
    (DType::String, DataType::String),
    (DType::Fp16, DataType::Float16),
    (DType::Fp32, DataType::Float32),
    (DType::Fp64, DataType::Float64),
    (DType::Bf16, DataType::BFloat16),
    (DType::Int4, DataType::Int4),
    (DType::Int8, DataType::Int8),
    (DType::Int16, DataType::Int16),
    (DType::Int32, DataType::Int32),
    (DType::Int64, DataType::Int64),
    (DType::UInt1, DataType::UInt1),
    (DType::UInt2, DataType::UInt2),
    (DType::UInt3, DataType::UInt3),
    (DType::UInt4, DataType::UInt4),
    (DType::UInt6, DataType::UInt6),
    (DType::UInt8, DataType::UInt8),
    (DType::UInt16, DataType::UInt16),
    (DType::UInt32, DataType::UInt32),
    (DType::UInt64, DataType::UInt64),
    (DType::Fp8E4M3FN, DataType::Float8E4M3FN),
    (DType::Fp8E5M2, DataType::Float8E5M2),
];

fn dtype(code: i32) -> Result<DType> {
    let known = DataType::try_from(code).ok();
    let known = known.and_then(|known| DTYPES.iter().find(|(_, data_type)| *data_type == known));
    known
        .map(|(dtype, _)| *dtype)
        .ok_or_else(|| ProgramError::new(format!("no element type has the code {code}")))
}

fn data_type(dtype: DType) -> DataType {
    let known = DTYPES.iter().find(|(known, _)| *known == dtype);
    known.map_or(DataType::Unused, |(_, data_type)| *data_type)
}

/// The type that a message says.
pub(super) fn decode(ty: Option<&proto::ValueType>, dialect: Dialect) -> Result<Type> {
    let kind = ty.and_then(|ty| ty.kind.as_ref()).ok_or_else(|| ProgramError::new("a type is missing"))?;
    let boxed = |ty: Option<&proto::ValueType>| decode(ty, dialect).map(Box::new);
    Ok(match kind {
        TypeKind::Tensor(tensor) => match decode_tensor(tensor)? {
            TensorType { dtype, shape } if shape.rank() == 0 => dialect.scalar_type(dtype),
            tensor => Type::Tensor(tensor),
        },
        TypeKind::List(list) => Type::List(boxed(list.ty.as_ref())?, decode_length(list.length.as_ref())?),
        TypeKind::Tuple(tuple) => {
            Type::Tuple(tuple.types.iter().map(|ty| decode(Some(ty), dialect)).collect::<Result<_>>()?)
        }
        TypeKind::Dictionary(dictionary) => {
            Type::Dict(boxed(dictionary.key.as_ref())?, boxed(dictionary.value.as_ref())?)
        }
        TypeKind::State(state) => Type::State(boxed(state.wrapped.as_ref())?),
    })
}

fn decode_tensor(tensor: &proto::TensorType) -> Result<TensorType> {
    if let Some(name) = tensor.attributes.keys().next() {
        return Err(ProgramError::new(format!("a tensor type with the attribute `{name}` is not known")));
    }
    let dims = tensor.dimensions.iter().map(decode_dimension).collect::<Result<Vec<_>>>()?;
    if usize::try_from(tensor.rank) != Ok(dims.len()) {
        let (rank, count) = (tensor.rank, dims.len());
        return Err(ProgramError::new(format!("a tensor type of rank {rank} with {count} dimensions")));
    }
    Ok(TensorType { dtype: dtype(tensor.data_type)?, shape: Shape(dims) })
}

fn decode_dimension(dimension: &proto::Dimension) -> Result<Dim> {
    match &dimension.kind {
        Some(DimensionKind::Constant(constant)) => Ok(Dim::Known(constant.size)),
        Some(DimensionKind::Unknown(unknown)) if !unknown.variadic => Ok(Dim::Unknown),
        Some(DimensionKind::Unknown(_)) => {
            Err(ProgramError::new("a tensor type with any number of dimensions: its rank must be known"))
        }
        None => Err(ProgramError::new("a dimension is neither a number nor unknown")),
    }
}

fn decode_length(length: Option<&proto::Dimension>) -> Result<Dim> {
    length.map_or_else(|| Err(ProgramError::new("a list type without its length")), decode_dimension)
}

/// The message for a type, which is `depth` levels below the program.
pub(super) fn encode(ty: &Type, depth: usize) -> Result<proto::ValueType> {
    // The deepest message that a type brings itself: tensor type, dimension, constant dimension.
    if depth + 3 > MAX_DEPTH {
        return Err(too_deep());
    }
    let inner = |ty: &Type| encode(ty, depth + 2).map(Some);
    let kind = match ty {
        Type::Scalar(dtype) => tensor(&TensorType { dtype: *dtype, shape: Shape::default() }),
        Type::Tensor(ty) => tensor(ty),
        Type::List(item, length) => {
            let length = Some(dimension(*length));
            TypeKind::List(Box::new(proto::ListType { ty: inner(item)?, length }))
        }
        Type::Tuple(items) => {
            let types = items.iter().map(|ty| encode(ty, depth + 2)).collect::<Result<_>>()?;
            TypeKind::Tuple(proto::TupleType { types })
        }
        Type::Dict(key, value) => {
            TypeKind::Dictionary(Box::new(proto::DictionaryType { key: inner(key)?, value: inner(value)? }))
        }
        Type::State(wrapped) => TypeKind::State(Box::new(proto::StateType { wrapped: inner(wrapped)? })),
        Type::TensorBuffer { .. } => {
            return Err(ProgramError::new(format!(
                "the protobuf form of {ty} is not known: only text has it"
            )));
        }
    };
    Ok(proto::ValueType { kind: Some(kind) })
}

pub(super) fn too_deep() -> ProgramError {
    ProgramError::new(format!(
        "it nests deeper than the {MAX_DEPTH} levels that readers of protocol buffers take"
    ))
}

fn tensor(ty: &TensorType) -> TypeKind {
    TypeKind::Tensor(proto::TensorType {
        data_type: data_type(ty.dtype).into(),
        rank: ty.shape.rank() as i64,
        dimensions: ty.shape.0.iter().map(|&dim| dimension(dim)).collect(),
        ..proto::TensorType::default()
    })
}

fn dimension(dim: Dim) -> proto::Dimension {
    let kind = match dim {
        Dim::Known(size) => DimensionKind::Constant(proto::ConstantDimension { size }),
        Dim::Unknown => DimensionKind::Unknown(proto::UnknownDimension { variadic: false }),
    };
    proto::Dimension { kind: Some(kind) }
}
