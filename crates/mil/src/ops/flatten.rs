//! Ops that give a tensor the dimensions of two, or of others' shapes.

use crate::builder::BuildError;
use crate::error::ErrorKind;
use crate::ops::rules::free;
use crate::ops::{ANY, ANY_17, Accuracy, OpError, Operand, Writer, call, copy, movement};
use crate::program::ValueId;
use crate::tensor::Tensor;
use crate::types::{DType, Dim, Shape, TensorType};

crate::ops! {
    /// `x` as a matrix, whose rows are the dimensions before `axis` and whose columns those from it on. A negative `axis`
    /// counts from the end; one beyond either end counts as that end.
    Flatten2d = flatten2d(x: Operand[T]; axis: i32 = 1) since IOS15 where [T: ANY]
        { infer: |row| row.ty(), eval: |row, _| reshaped(&row.x, row.ty()), accuracy: Accuracy::Exact;
          write_out: |row, writer| reshape(&row.x, row.ty(), writer); flops: free }

    /// The elements of `x` under dimensions of `ref_tensors`: of each, those from the index in `begins` to before that in
    /// `ends`, or to the last where `end_masks` says so, one after the other. Indices are as those of Python's slices.
    ReshapeLike = reshape_like(x: Operand[T], ref_tensors: Vec<Operand>, begins: Vec<Operand>, ends: Vec<Operand>,
        end_masks: Vec<Operand>)
        since IOS16 where [T: ANY]
        since IOS17 where [T: ANY_17]
        { infer: |row| row.ty(), eval: |row, _| reshaped(&row.x, row.ty()), accuracy: Accuracy::Exact;
          write_out: |row, writer| reshape(&row.x, row.ty(), writer); flops: free }
}

/// The elements of `x` under the dimensions of an inferred type.
fn reshaped(x: &Operand, ty: Result<Vec<TensorType>, OpError>) -> Result<Vec<Tensor>, OpError> {
    Ok(vec![copy::whole(x.tensor()?, &movement::dims(ty)?)?])
}

/// The same as a `reshape`.
fn reshape(
    x: &Operand,
    ty: Result<Vec<TensorType>, OpError>,
    writer: &mut Writer<'_>,
) -> Result<Vec<ValueId>, BuildError> {
    let dims = movement::dims(ty).map_err(|error| writer.refused(error))?;
    let dims = writer.lengths(&dims)?;
    Ok(vec![writer.bind("", call::reshape(x, dims))?])
}

impl Flatten2d {
    fn ty(&self) -> Result<Vec<TensorType>, OpError> {
        let dims = &self.x.shape().0;
        let (before, after) = dims.split_at(slice_index(i64::from(self.axis), dims.len()));
        let product = |dims: &[Dim]| match dims.iter().all(|dim| dim.known().is_some()) {
            true => Shape(dims.to_vec()).elements().map(Dim::Known),
            false => Some(Dim::Unknown),
        };
        match (product(before), product(after)) {
            (Some(rows), Some(columns)) => movement::result("x", self.x.dtype(), vec![rows, columns]),
            _ => Err(OpError::rule("x", "is too large").found(format!("found {}", self.x.ty))),
        }
    }
}

/// Where a slice begins or ends that Python writes with this index.
fn slice_index(index: i64, length: usize) -> usize {
    let length = length as i64;
    let position = if index < 0 { index.saturating_add(length) } else { index };
    position.clamp(0, length) as usize
}

impl ReshapeLike {
    fn ty(&self) -> Result<Vec<TensorType>, OpError> {
        let (begins, ends) =
            (constants("begins", &self.begins, DType::Int32)?, constants("ends", &self.ends, DType::Int32)?);
        let masks = constants("end_masks", &self.end_masks, DType::Bool)?;
        let count = self.ref_tensors.len();
        for (name, found) in [("begins", begins.len()), ("ends", ends.len()), ("end_masks", masks.len())] {
            if found != count {
                return Err(OpError::rule(name, format!("must hold as many as `ref_tensors`, {count}"))
                    .found(format!("found {found}")));
            }
        }
        let mut dims: Vec<Dim> = Vec::new();
        for (((reference, begin), end), mask) in self.ref_tensors.iter().zip(begins).zip(ends).zip(masks) {
            let shape = &reference.shape().0;
            let end = if mask == 0 { slice_index(end, shape.len()) } else { shape.len() };
            dims.extend(shape.get(slice_index(begin, shape.len())..end).unwrap_or_default());
            movement::check_rank("ref_tensors", dims.len())?;
        }
        if dims.iter().any(|dim| dim.known().is_none()) {
            return Err(OpError::rule("ref_tensors", "the dimensions that are taken must be known")
                .found(format!("found {}", Shape(dims))));
        }
        let ty = movement::result("ref_tensors", self.x.dtype(), dims)?;
        let (from, to) = (self.x.shape(), &ty[0].shape);
        match from.to_known().is_none() || from.elements() == to.elements() {
            true => Ok(ty),
            false => Err(OpError::rule("x", format!("has not as many elements as {to}"))
                .found(format!("found {from}"))),
        }
    }
}

/// The values of constant scalars.
fn constants(name: &str, operands: &[Operand], dtype: DType) -> Result<Vec<i64>, OpError> {
    let value = |operand: &Operand| {
        if operand.dtype() != dtype {
            let error = OpError::new(ErrorKind::ElementType, Some(name), format!("must hold {dtype}"));
            return Err(error.found(format!("found {}", operand.ty)));
        }
        movement::check_scalar(name, operand)?;
        let known = operand.known_integers().filter(|_| operand.constant);
        known.and_then(|values| values.first().copied()).ok_or_else(|| {
            OpError::new(ErrorKind::NotConstant, Some(name), "must hold constants whose values are written")
        })
    };
    operands.iter().map(value).collect()
}
