//! Ops on lists: tensors of one type, as loops collect them.
//!
//! A list's value is kept as one tensor whose first dimension is the list's length. A list of a length that is not
//! declared, `list<T, ?>`, grows when an element behind its end is written; what lies between is zero.

use crate::eval::{Evaluation, Numbers};
use crate::ops::copy::{self, Run};
use crate::ops::movement::{self, index};
use crate::ops::rules::{self, free};
use crate::ops::{ANY, Accuracy, INT32, List, OpError, Operand};
use crate::tensor::Tensor;
use crate::types::{DType, Dim, Shape, TensorType};

crate::ops! {
    /// A list of `init_length` (1) zeros of the shape `elem_shape` and the element type `dtype`. It can grow unless
    /// `dynamic_length` is false.
    MakeList = make_list(elem_shape: Vec<Operand>; init_length: Option<Operand>[I], dynamic_length: bool = true,
        dtype: String = "fp32")
        since IOS15 where [I: INT32]
        { infer: made_type, eval: make, accuracy: Accuracy::Exact;
          no_vjp: "gradients do not go through lists"; flops: free; [gives_list] }

    /// The number of elements of `ls`.
    ListLength = list_length(ls: List) since IOS15
        { infer: length_type, eval: length, accuracy: Accuracy::Exact; flops: free }

    /// The element of `ls` at `index`; a negative one counts from the end.
    ListRead = list_read(ls: List, index: Operand[I]) since IOS15 where [I: INT32]
        { infer: read_type, eval: read, accuracy: Accuracy::Exact;
          no_vjp: "gradients do not go through lists"; flops: free }

    /// `ls` with `value` in place of the element at `index`.
    ListWrite = list_write(ls: List, index: Operand[I], value: Operand[T]) since IOS15 where [I: INT32, T: ANY]
        { infer: written_type, eval: write, accuracy: Accuracy::Exact;
          no_vjp: "gradients do not go through lists"; flops: free; [gives_list] }

    /// The elements of `ls` at `indices`, along a new first dimension.
    ListGather = list_gather(ls: List, indices: Operand[I]) since IOS15 where [I: INT32]
        { infer: gathered_type, eval: gather, accuracy: Accuracy::Exact;
          no_vjp: "gradients do not go through lists"; flops: free }

    /// `ls` with the slices of `value` along its first dimension in place of the elements at `indices`.
    ListScatter = list_scatter(ls: List, indices: Operand[I], value: Operand[T])
        since IOS15 where [I: INT32, T: ANY]
        { infer: scattered_type, eval: scatter, accuracy: Accuracy::Exact;
          no_vjp: "gradients do not go through lists"; flops: free; [gives_list] }
}

fn made_type(row: &MakeList) -> Result<Vec<TensorType>, OpError> {
    let dtype = DType::from_name(&row.dtype).filter(|&dtype| ANY.contains(dtype)).ok_or_else(|| {
        OpError::rule("dtype", format!("must be {ANY}")).found(format!("found \"{}\"", row.dtype))
    })?;
    let length = match &row.init_length {
        None => Some(1),
        Some(length) => one_integer("init_length", length)?,
    };
    let mut dims = vec![match length {
        Some(length) if !row.dynamic_length => known_length("init_length", length)?,
        _ => Dim::Unknown,
    }];
    for operand in &row.elem_shape {
        dims.push(match one_integer("elem_shape", operand)? {
            Some(length) => known_length("elem_shape", length)?,
            None => Dim::Unknown,
        });
    }
    movement::result("elem_shape", dtype, dims)
}

/// The value of one int32, where it is known.
fn one_integer(parameter: &str, operand: &Operand) -> Result<Option<i64>, OpError> {
    movement::check_scalar(parameter, operand)?;
    if operand.dtype() != DType::Int32 {
        return Err(OpError::rule(parameter, "must be of int32").found(format!("found {}", operand.ty)));
    }
    Ok(operand.known_integers().and_then(|values| values.first().copied()))
}

fn known_length(parameter: &str, length: i64) -> Result<Dim, OpError> {
    let length = u64::try_from(length);
    length.map(Dim::Known).map_err(|_| OpError::rule(parameter, "must not be negative"))
}

fn make(row: &MakeList, evaluation: &mut Evaluation) -> Result<Vec<Tensor>, OpError> {
    let mut ty = made_type(row)?.remove(0);
    let length = row.init_length.as_ref().map_or(Ok(Some(1)), |length| one_integer("init_length", length))?;
    ty.shape.0[0] = known_length("init_length", length.unwrap_or(0))?;
    let dims = evaluation.allocate(&ty.shape)?;
    let count = dims.iter().product();
    let zeros =
        if ty.dtype.is_float() { Numbers::Float(vec![0.0; count]) } else { Numbers::Integer(vec![0; count]) };
    Ok(vec![evaluation.tensor(ty.dtype, &dims, zeros)?])
}

impl List {
    /// The type of an element.
    fn element(&self) -> TensorType {
        TensorType {
            dtype: self.0.dtype(),
            shape: Shape(self.0.shape().0.get(1..).unwrap_or_default().to_vec()),
        }
    }

    /// The number of elements now.
    fn length(&self) -> Result<usize, OpError> {
        self.0.dims()?.first().copied().ok_or_else(|| OpError::rule("ls", "must be a list"))
    }

    fn check_element(&self, found: &TensorType) -> Result<(), OpError> {
        let element = self.element();
        if found.dtype == element.dtype && found.shape.agrees_with(&element.shape) {
            return Ok(());
        }
        Err(OpError::rule("value", format!("must be what the list holds, {element}"))
            .found(format!("found {found}")))
    }

    /// The list with the elements at some places replaced by the slices of `updates`.
    fn with(
        &self,
        places: &[usize],
        updates: &Tensor,
        evaluation: &mut Evaluation,
    ) -> Result<Tensor, OpError> {
        let (list, length) = (self.0.tensor()?, self.length()?);
        let needed = places.iter().map(|&place| place + 1).max().unwrap_or(0).max(length);
        let mut shape = Shape::known(list.shape());
        shape.0[0] = Dim::from(needed);
        evaluation.allocate(&shape)?;
        let size: usize = list.shape()[1..].iter().product();
        let zero = Tensor::zeros(list.dtype(), &[1]);
        let zero = zero.ok_or_else(|| OpError::rule("ls", "a zero does not fit in memory"))?;
        let dims: Vec<usize> = std::iter::once(needed).chain(list.shape()[1..].iter().copied()).collect();
        let zeros = Run { source: 1, ..Run::repeated(0, (needed - length) * size) };
        let longer = copy::read(&[list, &zero], &dims, [Run::of(0, length * size), zeros].into_iter())?;
        copy::replaced(&longer, updates, places.iter().map(|&place| Run::of(place * size, size)))
    }

    /// The place that an index means; one behind the end of a list that can grow is allowed for writing.
    fn place(&self, position: i64) -> Result<usize, OpError> {
        let length = self.length()?;
        let grows = self.0.shape().0.first() == Some(&Dim::Unknown);
        match usize::try_from(position) {
            Ok(place) if grows && place >= length => Ok(place),
            _ => index("index", position, length, true),
        }
    }
}

fn length_type(_: &ListLength) -> Result<Vec<TensorType>, OpError> {
    Ok(vec![TensorType::new(DType::Int32, &[])])
}

fn length(row: &ListLength, evaluation: &mut Evaluation) -> Result<Vec<Tensor>, OpError> {
    let length = Numbers::Integer(vec![row.ls.length()? as i64]);
    Ok(vec![evaluation.tensor(DType::Int32, &[], length)?])
}

fn read_type(row: &ListRead) -> Result<Vec<TensorType>, OpError> {
    one_integer("index", &row.index)?;
    Ok(vec![row.ls.element()])
}

fn read(row: &ListRead, _: &mut Evaluation) -> Result<Vec<Tensor>, OpError> {
    let (list, length) = (row.ls.0.tensor()?, row.ls.length()?);
    let place = index("index", one_integer("index", &row.index)?.unwrap_or(0), length, true)?;
    let size: usize = list.shape()[1..].iter().product();
    Ok(vec![copy::read(&[list], &list.shape()[1..], std::iter::once(Run::of(place * size, size)))?])
}

fn written_type(row: &ListWrite) -> Result<Vec<TensorType>, OpError> {
    one_integer("index", &row.index)?;
    row.ls.check_element(&row.value.ty)?;
    Ok(vec![row.ls.0.ty.clone()])
}

fn write(row: &ListWrite, evaluation: &mut Evaluation) -> Result<Vec<Tensor>, OpError> {
    let position = one_integer("index", &row.index)?.unwrap_or(0);
    let place = row.ls.place(position)?;
    Ok(vec![row.ls.with(&[place], row.value.tensor()?, evaluation)?])
}

/// How many indices a vector holds.
fn index_count(indices: &Operand) -> Result<Dim, OpError> {
    match indices.shape().0.as_slice() {
        [count] => Ok(*count),
        _ => Err(OpError::rule("indices", "must be a vector").found(format!("found {}", indices.ty))),
    }
}

fn gathered_type(row: &ListGather) -> Result<Vec<TensorType>, OpError> {
    let mut dims = vec![index_count(&row.indices)?];
    dims.extend(row.ls.element().shape.0);
    movement::result("indices", row.ls.0.dtype(), dims)
}

fn gather(row: &ListGather, _: &mut Evaluation) -> Result<Vec<Tensor>, OpError> {
    let dims = rules::known_dims(&gathered_type(row)?.remove(0).shape)?;
    let list = row.ls.0.tensor()?;
    let size: usize = list.shape()[1..].iter().product();
    let mut slices = Vec::new();
    for position in row.indices.integers()? {
        slices.push(Run::of(index("indices", position, row.ls.length()?, true)? * size, size));
    }
    Ok(vec![copy::read(&[list], &dims, slices.into_iter())?])
}

fn scattered_type(row: &ListScatter) -> Result<Vec<TensorType>, OpError> {
    let count = index_count(&row.indices)?;
    match row.value.shape().0.split_first() {
        Some((slices, element)) if slices.agrees_with(count) => {
            row.ls.check_element(&TensorType { dtype: row.value.dtype(), shape: Shape(element.to_vec()) })?;
            Ok(vec![row.ls.0.ty.clone()])
        }
        _ => Err(OpError::rule("value", format!("must have one slice for each of the {count} indices"))
            .found(format!("found {}", row.value.ty))),
    }
}

fn scatter(row: &ListScatter, evaluation: &mut Evaluation) -> Result<Vec<Tensor>, OpError> {
    let mut places = Vec::new();
    for position in row.indices.integers()? {
        places.push(row.ls.place(position)?);
    }
    Ok(vec![row.ls.with(&places, row.value.tensor()?, evaluation)?])
}
