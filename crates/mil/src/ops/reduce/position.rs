//! Where the largest and the smallest elements are.

use super::{Grouping, Reduce, ReduceArgmax, ReduceArgmin, Reduction};
use crate::eval::{Evaluation, Numbers, collect, filled};
use crate::ops::{OpError, Operand, rules};
use crate::tensor::Tensor;
use crate::types::{DType, TensorType};

/// A reduction to positions along an axis.
pub(super) trait Position: Reduction {
    /// The name of their element type.
    fn output_dtype(&self) -> &str;
}

/// Implements [`Position`] for rows with the parameters `axis`, `keep_dims` and `output_dtype`.
macro_rules! positions_along_an_axis {
    ($($row:ty),*) => {$(
        impl Reduction for $row {
            fn x(&self) -> &Operand {
                &self.x
            }
            fn axes(&self) -> Result<Vec<usize>, OpError> {
                Ok(vec![rules::axis("axis", self.axis, self.x.rank())?])
            }
            fn keep_dims(&self) -> bool {
                self.keep_dims
            }
        }

        impl Position for $row {
            fn output_dtype(&self) -> &str {
                &self.output_dtype
            }
        }
    )*};
}

positions_along_an_axis!(ReduceArgmax, ReduceArgmin);

/// The element type of positions that a parameter names.
pub(in crate::ops) fn dtype(parameter: &str, name: &str) -> Result<DType, OpError> {
    match name {
        "int32" => Ok(DType::Int32),
        "uint16" => Ok(DType::UInt16),
        other => Err(OpError::rule(parameter, "must be int32 or uint16").found(format!("found \"{other}\""))),
    }
}

pub(super) fn ty<R: Position>(row: &R) -> Result<Vec<TensorType>, OpError> {
    Ok(vec![TensorType { dtype: dtype("output_dtype", row.output_dtype())?, shape: row.shape()? }])
}

/// The positions of the elements that no other is better than; NaN is better than any number.
fn best<R: Position>(
    row: &R,
    evaluation: &Evaluation,
    float: impl Fn(f64, f64) -> bool,
    integer: impl Fn(i64, i64) -> bool,
) -> Result<Vec<Tensor>, OpError> {
    let grouping = row.grouping()?;
    grouping.refuse_empty()?;
    let best = match row.x().numbers()? {
        Numbers::Float(x) => {
            first_best(&grouping, &x, |new, best| float(new, best) || (new.is_nan() && !best.is_nan()))?
        }
        Numbers::Integer(x) => first_best(&grouping, &x, integer)?,
    };
    row.result(evaluation, dtype("output_dtype", row.output_dtype())?, Numbers::Integer(best))
}

pub(super) fn argmax(row: &ReduceArgmax, evaluation: &mut Evaluation) -> Result<Vec<Tensor>, OpError> {
    best(row, evaluation, |new, best| new > best, |new, best| new > best)
}

pub(super) fn argmin(row: &ReduceArgmin, evaluation: &mut Evaluation) -> Result<Vec<Tensor>, OpError> {
    best(row, evaluation, |new, best| new < best, |new, best| new < best)
}

/// For each result, the position among its elements of the first that none after it is better than.
fn first_best<T: Copy>(
    grouping: &Grouping,
    values: &[T],
    better: impl Fn(T, T) -> bool,
) -> Result<Vec<i64>, OpError> {
    let mut seen = filled(grouping.results, 0i64)?;
    let mut best: Vec<Option<(T, i64)>> = filled(grouping.results, None)?;
    grouping.for_each(|element, result| {
        let value = values[element];
        if best[result].is_none_or(|(held, _)| better(value, held)) {
            best[result] = Some((value, seen[result]));
        }
        seen[result] += 1;
    });
    collect(best.into_iter().map(|held| held.map_or(0, |(_, position)| position)))
}
