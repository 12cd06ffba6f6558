//! Reductions over axes.
//!
//! All of them compute in f64, or in i64 for integers, and round once. Of nothing, the sum is 0 and the
//! product 1; the mean is NaN; a largest, smallest or logarithm there is not, which is an error as in numpy.

use crate::eval::{Evaluation, Numbers, collect, filled};
use crate::ops::elementwise::{larger, smaller};
use crate::ops::rules::{self, per_element};
use crate::ops::{Accuracy, NUMBER, OpError, Operand};
use crate::tensor::Tensor;
use crate::types::{DType, Dim, Shape, TensorType};

mod gradient;
mod grouping;
mod position;

pub(super) use gradient::over_norm;
pub(super) use grouping::Grouping;
pub(super) use position::dtype as position_type;

crate::ops! {
    /// The sum of `x` over `axes`, all of them by default. Integers wrap.
    ReduceSum = reduce_sum(x: Operand[T]; axes: Option<Vec<i32>>, keep_dims: bool = false) since IOS15
        where [T: NUMBER]
        { infer: reduced_type, eval: reduce_sum, accuracy: Accuracy::Sum(1); vjp: gradient::reduce_sum;
          flops: per_element::<_, 1> }

    /// The mean of `x` over `axes`, all of them by default. Of integers it is rounded toward zero.
    ReduceMean = reduce_mean(x: Operand[T]; axes: Option<Vec<i32>>, keep_dims: bool = false) since IOS15
        where [T: NUMBER]
        { infer: reduced_type, eval: reduce_mean, accuracy: Accuracy::Sum(1); vjp: gradient::reduce_mean;
          flops: per_element::<_, 1> }

    /// The largest of `x` over `axes`, all of them by default; NaN if any is.
    ReduceMax = reduce_max(x: Operand[T]; axes: Option<Vec<i32>>, keep_dims: bool = false) since IOS15
        where [T: NUMBER]
        { infer: reduced_type, eval: reduce_max, accuracy: Accuracy::Exact; vjp: gradient::reduce_max;
          flops: per_element::<_, 1> }

    /// The smallest of `x` over `axes`, all of them by default; NaN if any is.
    ReduceMin = reduce_min(x: Operand[T]; axes: Option<Vec<i32>>, keep_dims: bool = false) since IOS15
        where [T: NUMBER]
        { infer: reduced_type, eval: reduce_min, accuracy: Accuracy::Exact; vjp: gradient::reduce_min;
          flops: per_element::<_, 1> }

    /// The product of `x` over `axes`, all of them by default. Integers wrap. The order of the factors is as
    /// free as that of a sum's terms, the magnitude being the product's own.
    ReduceProd = reduce_prod(x: Operand[T]; axes: Option<Vec<i32>>, keep_dims: bool = false) since IOS15
        where [T: NUMBER]
        { infer: reduced_type, eval: reduce_prod, accuracy: Accuracy::Sum(1); vjp: gradient::reduce_prod;
          flops: per_element::<_, 1> }

    /// `log Σ exp(x)` over `axes`, all of them by default, as `m + log Σ exp(x − m)` with the largest `m`.
    /// Of integers it is rounded toward zero.
    ReduceLogSumExp = reduce_log_sum_exp(x: Operand[T]; axes: Option<Vec<i32>>, keep_dims: bool = false)
        since IOS15 where [T: NUMBER]
        { infer: reduced_type, eval: reduce_log_sum_exp, accuracy: Accuracy::Sum(2); vjp: gradient::reduce_log_sum_exp;
          flops: per_element::<_, 2> }

    /// `Σ x²` over `axes`, all of them by default. Integers wrap.
    ReduceSumSquare = reduce_sum_square(x: Operand[T]; axes: Option<Vec<i32>>, keep_dims: bool = false)
        since IOS15 where [T: NUMBER]
        { infer: reduced_type, eval: reduce_sum_square, accuracy: Accuracy::Sum(1); vjp: gradient::reduce_sum_square;
          flops: per_element::<_, 2> }

    /// `Σ |x|` over `axes`, all of them by default. Integers wrap.
    ReduceL1Norm = reduce_l1_norm(x: Operand[T]; axes: Option<Vec<i32>>, keep_dims: bool = false)
        since IOS15 where [T: NUMBER]
        { infer: reduced_type, eval: reduce_l1_norm, accuracy: Accuracy::Sum(1); vjp: gradient::reduce_l1_norm;
          flops: per_element::<_, 2> }

    /// `√ Σ x²` over `axes`, all of them by default. Of integers it is rounded toward zero.
    ReduceL2Norm = reduce_l2_norm(x: Operand[T]; axes: Option<Vec<i32>>, keep_dims: bool = false)
        since IOS15 where [T: NUMBER]
        { infer: reduced_type, eval: reduce_l2_norm, accuracy: Accuracy::Sum(2); vjp: gradient::reduce_l2_norm;
          flops: per_element::<_, 2> }

    /// `log Σ x` over `axes`, all of them by default; NaN where the sum is negative. Of integers it is rounded toward zero.
    ReduceLogSum = reduce_log_sum(x: Operand[T]; axes: Option<Vec<i32>>, keep_dims: bool = false)
        since IOS15 where [T: NUMBER]
        { infer: reduced_type, eval: reduce_log_sum, accuracy: Accuracy::Sum(2); vjp: gradient::reduce_log_sum;
          flops: per_element::<_, 1> }

    /// The position of the largest of `x` along `axis`, the first of several; that of the first NaN if there
    /// is one. Positions are int32, or uint16 as `output_dtype` says; those beyond the type wrap.
    ReduceArgmax = reduce_argmax(x: Operand[T]; axis: i32 = -1, keep_dims: bool = false,
        #[since = IOS17] output_dtype: String = "int32")
        since IOS15 where [T: NUMBER]
        since IOS17 where [T: NUMBER]
        { infer: position::ty, eval: position::argmax, accuracy: Accuracy::Exact;
          flops: per_element::<_, 1> }

    /// The position of the smallest of `x` along `axis`, as `reduce_argmax`.
    ReduceArgmin = reduce_argmin(x: Operand[T]; axis: i32 = -1, keep_dims: bool = false,
        #[since = IOS17] output_dtype: String = "int32")
        since IOS15 where [T: NUMBER]
        since IOS17 where [T: NUMBER]
        { infer: position::ty, eval: position::argmin, accuracy: Accuracy::Exact;
          flops: per_element::<_, 1> }
}

/// What a row says about the axes to reduce.
pub trait Reduction {
    /// What is reduced.
    fn x(&self) -> &Operand;
    /// The positions of the reduced axes.
    ///
    /// # Errors
    ///
    /// When `x` has no such axis, or one is given twice.
    fn axes(&self) -> Result<Vec<usize>, OpError>;
    /// Whether the reduced axes stay, with the length 1.
    fn keep_dims(&self) -> bool;
}

/// What follows from the axes to reduce.
trait Reduce: Reduction {
    /// The shape of `x` with the reduced axes removed, or of length 1 where they are kept.
    fn shape(&self) -> Result<Shape, OpError> {
        let axes = self.axes()?;
        let dims = self.x().shape().0.iter().enumerate().filter_map(|(i, &dim)| match axes.contains(&i) {
            false => Some(dim),
            true => self.keep_dims().then_some(Dim::Known(1)),
        });
        Ok(Shape(dims.collect()))
    }

    /// How the elements of the value of `x` fall to results.
    fn grouping(&self) -> Result<Grouping, OpError> {
        Ok(Grouping::new(self.x().dims()?, &self.axes()?))
    }

    /// The result's tensor.
    fn result(
        &self,
        evaluation: &Evaluation,
        dtype: DType,
        numbers: Numbers,
    ) -> Result<Vec<Tensor>, OpError> {
        let axes = self.axes()?;
        let dims = self.x().dims()?.iter().enumerate().filter_map(|(i, &dim)| match axes.contains(&i) {
            false => Some(dim),
            true => self.keep_dims().then_some(1),
        });
        Ok(vec![evaluation.tensor(dtype, &dims.collect::<Vec<_>>(), numbers)?])
    }
}

impl<R: Reduction> Reduce for R {}

/// Implements [`Reduction`] for rows with the parameters `axes` and `keep_dims`.
macro_rules! reduction_over_axes {
    ($($row:ty),*) => {$(
        impl Reduction for $row {
            fn x(&self) -> &Operand {
                &self.x
            }
            fn axes(&self) -> Result<Vec<usize>, OpError> {
                match &self.axes {
                    Some(axes) => rules::axes("axes", axes, self.x.rank()),
                    None => Ok((0..self.x.rank()).collect()),
                }
            }
            fn keep_dims(&self) -> bool {
                self.keep_dims
            }
        }
    )*};
}

reduction_over_axes!(
    ReduceSum,
    ReduceMean,
    ReduceMax,
    ReduceMin,
    ReduceProd,
    ReduceLogSumExp,
    ReduceSumSquare,
    ReduceL1Norm,
    ReduceL2Norm,
    ReduceLogSum
);

fn reduced_type<R: Reduce>(row: &R) -> Result<Vec<TensorType>, OpError> {
    Ok(vec![TensorType { dtype: row.x().dtype(), shape: row.shape()? }])
}

/// Folds with the function for the kind of number that `x` has.
fn fold<R: Reduce>(
    row: &R,
    evaluation: &Evaluation,
    float: (f64, impl Fn(f64, f64) -> f64),
    integer: (i64, impl Fn(i64, i64) -> i64),
) -> Result<Vec<Tensor>, OpError> {
    let grouping = row.grouping()?;
    let folded = match row.x().numbers()? {
        Numbers::Float(x) => Numbers::Float(grouping.fold(&x, float.0, float.1)?),
        Numbers::Integer(x) => Numbers::Integer(grouping.fold(&x, integer.0, integer.1)?),
    };
    row.result(evaluation, row.x().dtype(), folded)
}

/// Floating-point results as those of the row; rounded toward zero where it has integers.
fn toward_zero<R: Reduce>(
    row: &R,
    evaluation: &Evaluation,
    results: Vec<f64>,
) -> Result<Vec<Tensor>, OpError> {
    let dtype = row.x().dtype();
    if dtype.is_float() {
        return row.result(evaluation, dtype, Numbers::Float(results));
    }
    row.result(evaluation, dtype, Numbers::Integer(results.into_iter().map(|value| value as i64).collect()))
}

/// The sums of floating-point elements that fall to each result, as the arithmetic adds up.
fn sums(evaluation: &Evaluation, dtype: DType, grouping: &Grouping, x: &[f64]) -> Result<Vec<f64>, OpError> {
    let Some(sums) = evaluation.arithmetic().sums() else { return grouping.fold(x, 0.0, |sum, x| sum + x) };
    let mut groups = vec![Vec::with_capacity(grouping.elements_each); grouping.results];
    grouping.for_each(|element, result| groups[result].push(x[element]));
    collect(groups.iter().map(|group| sums.of_elements(dtype, group)))
}

fn reduce_sum(row: &ReduceSum, evaluation: &mut Evaluation) -> Result<Vec<Tensor>, OpError> {
    if let Numbers::Float(x) = row.x.numbers()? {
        let sums = sums(evaluation, row.x.dtype(), &row.grouping()?, &x)?;
        return row.result(evaluation, row.x.dtype(), Numbers::Float(sums));
    }
    fold(row, evaluation, (0.0, |sum, x| sum + x), (0, i64::wrapping_add))
}

fn reduce_sum_square(row: &ReduceSumSquare, evaluation: &mut Evaluation) -> Result<Vec<Tensor>, OpError> {
    if let Numbers::Float(mut x) = row.x.numbers()? {
        x.iter_mut().for_each(|x| *x *= *x);
        let sums = sums(evaluation, row.x.dtype(), &row.grouping()?, &x)?;
        return row.result(evaluation, row.x.dtype(), Numbers::Float(sums));
    }
    let integer = |sum: i64, x: i64| sum.wrapping_add(x.wrapping_mul(x));
    fold(row, evaluation, (0.0, |sum, x| sum + x * x), (0, integer))
}

fn reduce_prod(row: &ReduceProd, evaluation: &mut Evaluation) -> Result<Vec<Tensor>, OpError> {
    fold(row, evaluation, (1.0, |product, x| product * x), (1, i64::wrapping_mul))
}

fn reduce_max(row: &ReduceMax, evaluation: &mut Evaluation) -> Result<Vec<Tensor>, OpError> {
    row.grouping()?.refuse_empty()?;
    fold(row, evaluation, (f64::NEG_INFINITY, larger), (i64::MIN, i64::max))
}

fn reduce_min(row: &ReduceMin, evaluation: &mut Evaluation) -> Result<Vec<Tensor>, OpError> {
    row.grouping()?.refuse_empty()?;
    fold(row, evaluation, (f64::INFINITY, smaller), (i64::MAX, i64::min))
}

fn reduce_mean(row: &ReduceMean, evaluation: &mut Evaluation) -> Result<Vec<Tensor>, OpError> {
    let grouping = row.grouping()?;
    if !row.x.dtype().is_float() {
        grouping.refuse_empty()?;
    }
    let mut means = sums(evaluation, row.x.dtype(), &grouping, &row.x.floats()?)?;
    means.iter_mut().for_each(|sum| *sum /= grouping.elements_each as f64);
    toward_zero(row, evaluation, means)
}

fn reduce_log_sum_exp(row: &ReduceLogSumExp, evaluation: &mut Evaluation) -> Result<Vec<Tensor>, OpError> {
    let grouping = row.grouping()?;
    grouping.refuse_empty()?;
    let x = row.x.floats()?;
    // Shifting by an infinity would give NaN; infinite terms need no shift.
    let shifts = grouping.fold(&x, f64::NEG_INFINITY, larger)?;
    let shift = |result: usize| if shifts[result].is_infinite() { 0.0 } else { shifts[result] };
    let mut sums = filled(grouping.results, 0.0)?;
    grouping.for_each(|element, result| sums[result] += (x[element] - shift(result)).exp());
    let logarithms = sums.iter().enumerate().map(|(result, sum)| shift(result) + sum.ln());
    toward_zero(row, evaluation, collect(logarithms)?)
}

fn reduce_l1_norm(row: &ReduceL1Norm, evaluation: &mut Evaluation) -> Result<Vec<Tensor>, OpError> {
    if let Numbers::Float(mut x) = row.x.numbers()? {
        x.iter_mut().for_each(|x| *x = x.abs());
        let sums = sums(evaluation, row.x.dtype(), &row.grouping()?, &x)?;
        return row.result(evaluation, row.x.dtype(), Numbers::Float(sums));
    }
    let integer = |sum: i64, x: i64| sum.wrapping_add(x.wrapping_abs());
    fold(row, evaluation, (0.0, |sum, x| sum + x), (0, integer))
}

fn reduce_l2_norm(row: &ReduceL2Norm, evaluation: &mut Evaluation) -> Result<Vec<Tensor>, OpError> {
    let mut x = row.x.floats()?;
    x.iter_mut().for_each(|x| *x *= *x);
    let mut norms = sums(evaluation, row.x.dtype(), &row.grouping()?, &x)?;
    norms.iter_mut().for_each(|sum| *sum = sum.sqrt());
    toward_zero(row, evaluation, norms)
}

fn reduce_log_sum(row: &ReduceLogSum, evaluation: &mut Evaluation) -> Result<Vec<Tensor>, OpError> {
    let mut logarithms = sums(evaluation, row.x.dtype(), &row.grouping()?, &row.x.floats()?)?;
    logarithms.iter_mut().for_each(|sum| *sum = sum.ln());
    toward_zero(row, evaluation, logarithms)
}
