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

    /// The position of the largest of `x` along `axis`, the first of several; that of the first NaN if there
    /// is one. Positions are int32, or uint16 as `output_dtype` says; those beyond the type wrap.
    ReduceArgmax = reduce_argmax(x: Operand[T]; axis: i32 = -1, keep_dims: bool = false,
        #[since = IOS17] output_dtype: String = "int32")
        since IOS15 where [T: NUMBER]
        since IOS17 where [T: NUMBER]
        { infer: argmax_type, eval: reduce_argmax, accuracy: Accuracy::Exact;
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
    ReduceSumSquare
);

/// How the elements of a row-major tensor fall to the results of a reduction.
pub(super) struct Grouping {
    /// Length and distance between results, dimension by dimension; the distance is 0 along reduced axes.
    steps: Vec<(usize, usize)>,
    /// The number of results.
    pub results: usize,
    /// The number of elements that fall to each result.
    pub elements_each: usize,
}

impl Grouping {
    /// The grouping of a tensor with these dimensions, reduced over these axes.
    pub(super) fn new(dims: &[usize], axes: &[usize]) -> Grouping {
        let (mut results, mut elements_each) = (1, 1);
        let mut steps = Vec::with_capacity(dims.len());
        for (i, &length) in dims.iter().enumerate().rev() {
            if axes.contains(&i) {
                steps.push((length, 0));
                elements_each *= length;
            } else {
                steps.push((length, results));
                results *= length;
            }
        }
        steps.retain(|&(length, _)| length != 1);
        steps.reverse();
        Grouping { steps, results, elements_each }
    }

    /// Calls `visit(element, result)` for every element in order, with the positions of both.
    pub(super) fn for_each(&self, mut visit: impl FnMut(usize, usize)) {
        fn walk(
            steps: &[(usize, usize)],
            element: &mut usize,
            result: usize,
            visit: &mut impl FnMut(usize, usize),
        ) {
            match steps {
                [] => visit(*element, result),
                &[(length, step)] => {
                    for i in 0..length {
                        visit(*element + i, result + i * step);
                    }
                    *element += length;
                }
                [(length, step), inner @ ..] => {
                    for i in 0..*length {
                        walk(inner, element, result + i * step, visit);
                    }
                }
            }
        }
        // Without elements there may still be many coordinates to walk through.
        if self.elements_each > 0 && self.results > 0 {
            walk(&self.steps, &mut 0, 0, &mut visit);
        }
    }

    /// Folds the elements of each result into one value, beginning with `first`.
    ///
    /// # Errors
    ///
    /// When there is no memory for the results.
    pub(super) fn fold<T: Copy, A: Copy>(
        &self,
        values: &[T],
        first: A,
        combine: impl Fn(A, T) -> A,
    ) -> Result<Vec<A>, OpError> {
        let mut folded = filled(self.results, first)?;
        self.for_each(|element, result| folded[result] = combine(folded[result], values[element]));
        Ok(folded)
    }

    /// Refuses to find the largest of nothing.
    fn refuse_empty(&self) -> Result<(), OpError> {
        if self.elements_each == 0 && self.results > 0 {
            return Err(OpError::rule("x", "there is nothing to reduce: a reduced dimension has length 0"));
        }
        Ok(())
    }
}

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

impl Reduction for ReduceArgmax {
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

/// The element type of the positions.
fn position_type(row: &ReduceArgmax) -> Result<DType, OpError> {
    match row.output_dtype.as_str() {
        "int32" => Ok(DType::Int32),
        "uint16" => Ok(DType::UInt16),
        other => {
            Err(OpError::rule("output_dtype", "must be int32 or uint16").found(format!("found \"{other}\"")))
        }
    }
}

fn argmax_type(row: &ReduceArgmax) -> Result<Vec<TensorType>, OpError> {
    Ok(vec![TensorType { dtype: position_type(row)?, shape: row.shape()? }])
}

fn reduce_argmax(row: &ReduceArgmax, evaluation: &mut Evaluation) -> Result<Vec<Tensor>, OpError> {
    let grouping = row.grouping()?;
    grouping.refuse_empty()?;
    let best = match row.x().numbers()? {
        Numbers::Float(x) => {
            first_best(&grouping, &x, |new, best| new > best || (new.is_nan() && !best.is_nan()))?
        }
        Numbers::Integer(x) => first_best(&grouping, &x, |new, best| new > best)?,
    };
    row.result(evaluation, position_type(row)?, Numbers::Integer(best))
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
