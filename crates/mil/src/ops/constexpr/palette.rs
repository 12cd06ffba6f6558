//! Tensors stored as indices into palettes.

use super::blocks::{self, block_of};
use super::sparse::{self, ones};
use super::{ConstexprLutToDense, ConstexprLutToSparse};
use crate::error::ErrorKind;
use crate::eval::{Evaluation, Numbers, filled, room};
use crate::ops::copy::{self, Run};
use crate::ops::{OpError, Operand, movement, rules};
use crate::tensor::Tensor;
use crate::types::{DType, Dim, Opset, Shape, TensorType};

/// The dimensions that an operand holds; `?` where its value is not known.
pub(super) fn dims_in(shape: Option<&Operand>) -> Result<Vec<Dim>, OpError> {
    let shape = shape.ok_or_else(|| {
        OpError::new(ErrorKind::MissingParameter, Some("shape"), "this parameter is required")
    })?;
    if let Some(lengths) = movement::integers("shape", shape, None)? {
        let lengths: Option<Vec<Dim>> =
            lengths.iter().map(|&length| u64::try_from(length).ok().map(Dim::Known)).collect();
        return lengths.ok_or_else(|| OpError::rule("shape", "a length must not be negative"));
    }
    let rank = shape.shape().0[0].known().and_then(|rank| usize::try_from(rank).ok()).unwrap_or(usize::MAX);
    movement::check_rank("shape", rank)?;
    Ok(vec![Dim::Unknown; rank])
}

/// How many bytes so many indices of this many bits are packed into.
pub(super) fn packed_length(elements: u64, bits: u32) -> u64 {
    elements.saturating_mul(u64::from(bits)).div_ceil(8)
}

/// The first `count` numbers of so many bits, at most 8, that are packed into bytes, each filled from its lowest bit.
pub(super) fn unpack(bytes: &[i64], bits: u32, count: u64) -> Result<Vec<i64>, OpError> {
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    let mut numbers = room(count)?;
    for i in 0..count {
        let first = i * bits as usize;
        let byte = |at: usize| bytes.get(at).copied().unwrap_or(0);
        let pair = byte(first / 8) | byte(first / 8 + 1) << 8;
        numbers.push(pair >> (first % 8) & ((1 << bits) - 1));
    }
    Ok(numbers)
}

/// The palettes of a tensor of indices.
struct Palettes {
    /// The dimensions of the indices.
    dims: Vec<usize>,
    /// How many palettes there are along each of them.
    counts: Vec<usize>,
    /// The entries of a palette.
    entries: usize,
    /// The numbers of an entry.
    vector: usize,
    /// The axis along which those follow one another.
    axis: usize,
}

impl Palettes {
    /// The dimensions of what the indices stand for.
    fn expanded(&self) -> Vec<usize> {
        let mut dims = self.dims.clone();
        dims[self.axis] *= self.vector;
        dims
    }

    /// For an element of what the indices stand for, the position of its index, and its place in the entry.
    fn index_of(&self, position: usize) -> (usize, usize) {
        let inner: usize = self.dims[self.axis + 1..].iter().product();
        let (line, column) = (position / inner, position % inner);
        (line / self.vector * inner + column, line % self.vector)
    }

    /// The position in the table of a number of the entry that an index at a position chooses.
    fn in_table(&self, position: usize, index: i64, place: usize) -> Result<usize, OpError> {
        let index = movement::index("indices", index, self.entries, false)?;
        Ok((block_of(position, &self.dims, &self.counts) * self.entries + index) * self.vector + place)
    }
}

/// The position of the axis of vectors of this length.
fn vector_axis(axis: Option<i32>, vector: Dim, rank: usize) -> Result<usize, OpError> {
    match axis {
        Some(axis) => rules::axis("vector_axis", axis, rank),
        None if vector == Dim::Known(1) => Ok(0),
        None => {
            let message = "its entries are vectors: `vector_axis` must say along which axis they lie";
            Err(OpError::rule("lut", message).found(format!("found vectors of {vector} numbers")))
        }
    }
}

/// Checks a table for indices of a shape and an element type; gives the shape of what they stand for.
fn expanded_shape(
    (name, indices, dtype): (&str, &Shape, DType),
    lut: &Operand,
    axis: Option<i32>,
) -> Result<Shape, OpError> {
    let Some((counts, &[entries, vector])) = lut.shape().0.split_last_chunk::<2>() else {
        let message = format!("must have two dimensions more than `{name}`");
        return Err(OpError::rule("lut", message).found(format!("found {}", lut.ty)));
    };
    if counts.len() != indices.rank() {
        let message = format!("must have two dimensions more than `{name}`, {}", indices.rank() + 2);
        return Err(OpError::rule("lut", message).found(format!("found {}", lut.ty)));
    }
    blocks::check("lut", &Shape(counts.to_vec()), name, indices)?;
    if !entries.agrees_with(Dim::Known(1 << dtype.bits().min(8))) {
        let message =
            format!("must have {} entries, as many as {dtype} can choose", 1 << dtype.bits().min(8));
        return Err(OpError::rule("lut", message).found(format!("found {entries} in {}", lut.shape())));
    }
    if vector == Dim::Known(0) {
        let error = OpError::rule("lut", "its entries must hold at least one number");
        return Err(error.found(format!("found {}", lut.shape())));
    }
    let axis = vector_axis(axis, vector, indices.rank())?;
    let mut dims = indices.0.clone();
    dims[axis] = match (dims[axis], vector) {
        (Dim::Known(length), Dim::Known(vector)) => Dim::Known(length.saturating_mul(vector)),
        _ => Dim::Unknown,
    };
    Ok(Shape(dims))
}

/// The palettes of a table that [`expanded_shape`] has accepted.
fn palettes(dims: &[usize], lut: &Operand, axis: Option<i32>) -> Result<Palettes, OpError> {
    let shape = lut.dims()?;
    let (counts, &[entries, vector]) = shape
        .split_last_chunk::<2>()
        .ok_or_else(|| OpError::rule("lut", "must have two dimensions more than the indices"))?;
    let axis = vector_axis(axis, Dim::from(vector), dims.len())?;
    Ok(Palettes { dims: dims.to_vec(), counts: counts.to_vec(), entries, vector, axis })
}

/// The bits of an index into a packed table.
fn packed_bits(lut: &Operand) -> Result<Option<u32>, OpError> {
    let entries = match lut.shape().0[..] {
        [Dim::Unknown] => return Ok(None),
        [Dim::Known(entries)] => entries,
        _ => return Err(OpError::rule("lut", "must be a vector").found(format!("found {}", lut.ty))),
    };
    if [2, 4, 16, 64, 256].contains(&entries) {
        return Ok(Some(entries.ilog2()));
    }
    Err(OpError::rule("lut", "must have 2, 4, 16, 64 or 256 entries").found(format!("found {entries}")))
}

pub(super) fn dense_type(row: &ConstexprLutToDense) -> Result<Vec<TensorType>, OpError> {
    let (indices, lut) = (&row.indices, &row.lut);
    if row.since >= Opset::IOS18 {
        let shape = expanded_shape(("indices", indices.shape(), indices.dtype()), lut, row.vector_axis)?;
        return movement::result("lut", lut.dtype(), shape.0);
    }
    if indices.rank() != 1 {
        return Err(OpError::rule("indices", "must be a vector of packed bits")
            .found(format!("found {}", indices.ty)));
    }
    let bits = packed_bits(lut)?;
    let types = movement::result("shape", lut.dtype(), dims_in(row.shape.as_deref())?)?;
    if let (Some(elements), Some(bits)) = (types[0].shape.elements(), bits) {
        let length = packed_length(elements, bits);
        if !indices.shape().0[0].agrees_with(Dim::Known(length)) {
            let message = format!("must hold {elements} indices of {bits} bits, packed into {length} bytes");
            return Err(OpError::rule("indices", message).found(format!("found {}", indices.ty)));
        }
    }
    Ok(types)
}

pub(super) fn dense(row: &ConstexprLutToDense, _: &mut Evaluation) -> Result<Vec<Tensor>, OpError> {
    let dims = movement::dims(dense_type(row))?;
    let elements: usize = dims.iter().product();
    let mut indices = row.indices.integers()?;
    let palettes = match row.since >= Opset::IOS18 {
        true => palettes(row.indices.dims()?, &row.lut, row.vector_axis)?,
        false => {
            let bits = packed_bits(&row.lut)?.unwrap_or(8);
            indices = unpack(&indices, bits, elements as u64)?;
            Palettes { dims: vec![elements], counts: vec![1], entries: 1 << bits, vector: 1, axis: 0 }
        }
    };
    let mut positions = room(elements)?;
    for position in 0..elements {
        let (at, place) = palettes.index_of(position);
        positions.push(palettes.in_table(at, indices[at], place)?);
    }
    let runs = positions.into_iter().map(|position| Run::of(position, 1));
    Ok(vec![copy::read(&[row.lut.tensor()?], &dims, runs)?])
}

pub(super) fn sparse_type(row: &ConstexprLutToSparse) -> Result<Vec<TensorType>, OpError> {
    let (mask, indices) = (&row.indices_mask, &row.indices_nonzero_data);
    sparse::check("indices_nonzero_data", indices, "indices_mask", mask)?;
    let shape = expanded_shape(("indices_mask", mask.shape(), indices.dtype()), &row.lut, row.vector_axis)?;
    let mut types = movement::result("lut", mask.dtype(), shape.0)?;
    let values = match (indices.shape().0[0], row.lut.shape().0.last()) {
        (Dim::Known(count), Some(&Dim::Known(vector))) => Dim::Known(count.saturating_mul(vector)),
        _ => Dim::Unknown,
    };
    types.extend(movement::result("lut", row.lut.dtype(), vec![values])?);
    Ok(types)
}

pub(super) fn sparse(
    row: &ConstexprLutToSparse,
    evaluation: &mut Evaluation,
) -> Result<Vec<Tensor>, OpError> {
    let mask = row.indices_mask.integers()?;
    let palettes = palettes(row.indices_mask.dims()?, &row.lut, row.vector_axis)?;
    let given = row.indices_nonzero_data.integers()?;
    let count = given.len() * palettes.vector;
    let mut indices = filled(mask.len(), None)?;
    ones(&mask).zip(given).for_each(|(position, index)| indices[position] = Some(index));
    let dims = palettes.expanded();
    let elements: usize = dims.iter().product();
    let (mut longer, mut positions) = (room(elements)?, room(count)?);
    for position in 0..elements {
        let (at, place) = palettes.index_of(position);
        longer.push(i64::from(indices[at].is_some()));
        if let Some(index) = indices[at] {
            positions.push(palettes.in_table(at, index, place)?);
        }
    }
    let runs = positions.into_iter().map(|position| Run::of(position, 1));
    let values = copy::read(&[row.lut.tensor()?], &[count], runs)?;
    let mask = evaluation.tensor(row.indices_mask.dtype(), &dims, Numbers::Integer(longer))?;
    Ok(vec![mask, values])
}
