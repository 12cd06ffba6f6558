//! The largest or smallest elements along an axis, their order, and those that are not 0.

use std::cmp::Ordering;

use crate::eval::{Evaluation, Numbers, room};
use crate::grad::Pullback;
use crate::ops::copy::{self, Run};
use crate::ops::reduce::position_type;
use crate::ops::rules::{self, per_element, strides};
use crate::ops::{
    ANY, Accuracy, DTypeSet, INDEX, INT32, NUMBER, OpError, Operand, SMALL_INTEGER, call, movement,
};
use crate::tensor::Tensor;
use crate::types::{DType, Dim, Opset, TensorType};

/// What can be ordered from ios17 on.
const ORDERED: DTypeSet = NUMBER.and(SMALL_INTEGER);

crate::ops! {
    /// The `k` largest of `x` along `axis`, or the smallest if they are to be `ascending`, and where they are, unless
    /// `return_indices` is false. From ios17 on, −1 for `k` means all.
    ///
    /// They are ordered, also where `sort` is false, which promises no order; of equal ones the first comes first, and
    /// NaN counts as larger than any number. Indices are int32, or uint16 as `output_indices_dtype` says; those beyond
    /// the type wrap.
    TopK = topk(x: Operand[T]; k: i32[K] = 1, axis: i32 = -1, ascending: bool = false,
        #[since = IOS16] sort: bool = true, #[since = IOS16] return_indices: bool = true,
        #[since = IOS17] output_indices_dtype: Option<String>)
        since IOS15 where [T: NUMBER, K: INT32]
        since IOS16 where [T: NUMBER, K: INT32]
        since IOS17 where [T: ORDERED, K: INDEX]
        { infer: topk_type, eval: topk, accuracy: Accuracy::Exact; vjp: topk_vjp; flops: per_element::<_, 1> }

    /// The indices along `axis` that put `x` in order, the largest first, or the smallest if it is to be `ascending`. Of
    /// equal ones the first comes first, which coremltools does not say, and NaN counts as larger than any number.
    ArgSort = argsort(x: Operand[T]; axis: i32 = -1, ascending: bool = false) since IOS15 where [T: NUMBER]
        { infer: argsort_type, eval: argsort, accuracy: Accuracy::Exact; flops: per_element::<_, 1> }

    /// The coordinates of the elements of `x` that are not 0, a row for each, in the order in which they stand.
    NonZero = non_zero(x: Operand[T]) since IOS15 where [T: ANY]
        { infer: non_zero_type, eval: non_zero, accuracy: Accuracy::Exact; flops: per_element::<_, 1> }
}

impl TopK {
    fn position(&self) -> Result<usize, OpError> {
        rules::axis("axis", self.axis, self.x.rank())
    }

    /// How many of a dimension are asked for; `None` for all of one that is not known.
    fn count(&self, length: Dim) -> Result<Option<u64>, OpError> {
        if self.k == -1 && self.since >= Opset::IOS17 {
            return Ok(length.known());
        }
        let count = u64::try_from(self.k).ok().filter(|&count| count > 0);
        let fits = |&count: &u64| length.known().is_none_or(|length| count <= length);
        count.filter(fits).map(Some).ok_or_else(|| {
            let most =
                length.known().map_or("the length of the axis".to_string(), |length| length.to_string());
            OpError::rule("k", format!("must lie between 1 and {most}")).found(format!("found {}", self.k))
        })
    }

    /// The element type of the indices.
    fn index_type(&self) -> Result<DType, OpError> {
        position_type("output_indices_dtype", self.output_indices_dtype.as_deref().unwrap_or("int32"))
    }
}

fn topk_type(row: &TopK) -> Result<Vec<TensorType>, OpError> {
    let axis = row.position()?;
    let mut shape = row.x.shape().clone();
    shape.0[axis] = row.count(shape.0[axis])?.map_or(Dim::Unknown, Dim::Known);
    let values = TensorType { dtype: row.x.dtype(), shape };
    if row.return_indices {
        let indices = TensorType { dtype: row.index_type()?, shape: values.shape.clone() };
        return Ok(vec![values, indices]);
    }
    if row.output_indices_dtype.is_some() {
        let error = OpError::rule("output_indices_dtype", "must be left out where no indices are returned");
        return Err(error.found("`return_indices` is false"));
    }
    Ok(vec![values])
}

/// The order of two numbers, of which NaN is the largest.
fn nan_last(a: f64, b: f64) -> Ordering {
    a.partial_cmp(&b).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))
}

/// For each place of the first `count` along an axis of a sorted tensor, row by row, the position of the element that
/// comes there, and its index along the axis. The axis is `length` long, and `inner` elements follow each of its indices.
fn sorted(
    numbers: &Numbers,
    [length, inner]: [usize; 2],
    count: usize,
    ascending: bool,
) -> Result<(Vec<usize>, Vec<i64>), OpError> {
    let compare = |a: usize, b: usize| match numbers {
        Numbers::Float(x) => nan_last(x[a], x[b]),
        Numbers::Integer(x) => x[a].cmp(&x[b]),
    };
    let blocks = numbers.len() / (length * inner).max(1);
    let elements = blocks * count * inner;
    let (mut positions, mut indices) = (room(elements)?, room(elements)?);
    let mut best = Vec::new();
    for outer in 0..blocks {
        // The best of each line beside another, then one place of all lines after the other.
        best.clear();
        for line in 0..inner {
            let at = |i: usize| (outer * length + i) * inner + line;
            let mut order: Vec<usize> = room(length)?;
            order.extend(0..length);
            order.sort_by(|&a, &b| match ascending {
                true => compare(at(a), at(b)),
                false => compare(at(b), at(a)),
            });
            order.truncate(count);
            best.push(order);
        }
        for place in 0..count {
            for (line, order) in best.iter().enumerate() {
                positions.push((outer * length + order[place]) * inner + line);
                indices.push(order[place] as i64);
            }
        }
    }
    Ok((positions, indices))
}

fn topk(row: &TopK, evaluation: &mut Evaluation) -> Result<Vec<Tensor>, OpError> {
    let x = row.x.tensor()?;
    let axis = row.position()?;
    let mut dims = x.shape().to_vec();
    let (length, inner) = (dims[axis], dims[axis + 1..].iter().product::<usize>());
    let count = row.count(Dim::from(length))?.unwrap_or(0) as usize;
    dims[axis] = count;
    let (positions, indices) = sorted(&row.x.numbers()?, [length, inner], count, row.ascending)?;
    let runs = positions.into_iter().map(|position| Run::of(position, 1));
    let mut results = vec![copy::read(&[x], &dims, runs)?];
    if row.return_indices {
        results.push(evaluation.tensor(row.index_type()?, &dims, Numbers::Integer(indices))?);
    }
    Ok(results)
}

fn argsort_type(row: &ArgSort) -> Result<Vec<TensorType>, OpError> {
    rules::axis("axis", row.axis, row.x.rank())?;
    Ok(vec![TensorType { dtype: DType::Int32, shape: row.x.shape().clone() }])
}

fn argsort(row: &ArgSort, evaluation: &mut Evaluation) -> Result<Vec<Tensor>, OpError> {
    let dims = row.x.dims()?;
    let axis = rules::axis("axis", row.axis, dims.len())?;
    let (length, inner) = (dims[axis], dims[axis + 1..].iter().product::<usize>());
    let (_, indices) = sorted(&row.x.numbers()?, [length, inner], length, row.ascending)?;
    Ok(vec![evaluation.tensor(DType::Int32, dims, Numbers::Integer(indices))?])
}

fn non_zero_type(row: &NonZero) -> Result<Vec<TensorType>, OpError> {
    let rows = match &row.x.value {
        Some(_) => Dim::from(non_zeros(row)?.len()),
        None => Dim::Unknown,
    };
    movement::result("x", DType::Int32, vec![rows, Dim::from(row.x.rank())])
}

/// The positions of the elements that are not 0, in order.
fn non_zeros(row: &NonZero) -> Result<Vec<usize>, OpError> {
    let numbers = row.x.numbers()?;
    let is_zero = |&position: &usize| match &numbers {
        Numbers::Float(x) => x[position] == 0.0,
        Numbers::Integer(x) => x[position] == 0,
    };
    Ok((0..numbers.len()).filter(|position| !is_zero(position)).collect())
}

fn non_zero(row: &NonZero, evaluation: &mut Evaluation) -> Result<Vec<Tensor>, OpError> {
    let (positions, dims) = (non_zeros(row)?, row.x.dims()?);
    let steps = strides(dims);
    let mut indices = room(positions.len() * dims.len())?;
    for &position in &positions {
        let coordinates = steps.iter().zip(dims).map(|(step, length)| (position / step % length) as i64);
        indices.extend(coordinates);
    }
    Ok(vec![evaluation.tensor(DType::Int32, &[positions.len(), dims.len()], Numbers::Integer(indices))?])
}

/// `dx` has `dy` where the results were taken from, and 0 elsewhere.
fn topk_vjp(row: &TopK, pullback: &mut Pullback<'_>) -> Result<(), OpError> {
    let (dy, dims) = (pullback.dy()?, pullback.dims(&row.x)?);
    if dims.contains(&0) {
        return Ok(());
    }
    let axis = row.position()? as i32;
    let indices = match row.return_indices && row.index_type()? == DType::Int32 {
        true => pullback.result(1),
        false => {
            let again = call::topk(&row.x).k(row.k).axis(axis).ascending(row.ascending);
            pullback.bind_all(2, again)?[1]
        }
    };
    let zeros = pullback.zeros(row.x.dtype(), &dims)?;
    pullback.give(&row.x, call::scatter_along_axis(zeros, indices, dy).axis(axis).mode("add"))
}
