//! Matrix products: `matmul` and `linear`.

use crate::error::ErrorKind;
use crate::eval::{Evaluation, Factor, Numbers, Product, Start, Sums, filled, room};
use crate::ops::rules::{self, broadcast, broadcast_positions};
use crate::ops::{Accuracy, Constant, NUMBER, OpError, Operand};
use crate::tensor::Tensor;
use crate::types::{DType, Dim, Shape, TensorType};

mod gradient;

crate::ops! {
    /// `x · y` over the last two dimensions, the others broadcast. A vector `x` counts as a row and a vector
    /// `y` as a column, and that dimension is left out of the result. From ios17 on, where exactly one of `x` and `y` is
    /// a constant, their element types may differ, and the result has that of the other.
    Matmul = matmul(x: Operand[T], y: Operand[U]; transpose_x: bool = false, transpose_y: bool = false)
        since IOS15 where [T: NUMBER, U = T]
        since IOS17 where [T: NUMBER, U: NUMBER]
        { infer: matmul_type, eval: matmul, accuracy: Accuracy::Sum(1); vjp: gradient::matmul;
          flops: matmul_flops }

    /// `x · weightᵀ + bias` with `x [*, D_in]`, `weight [D_out, D_in]`, `bias [D_out]`; without `bias` it is 0. From
    /// ios17 on weight and bias may have another element type than `x`.
    Linear = linear(x: Operand[T], weight: Constant[U]; bias: Option<Constant>[U])
        since IOS15 where [T: NUMBER, U = T]
        since IOS17 where [T: NUMBER, U: NUMBER]
        { infer: linear_type, eval: linear, accuracy: Accuracy::Sum(1); vjp: gradient::linear;
          flops: linear_flops }
}

/// A batch of matrix products, whichever op asks for it: `m × k` by `k × n` each.
#[derive(Debug, Clone)]
pub struct MatrixProduct<'a> {
    /// The left operand: `[*batch, m, k]`, or `[*batch, k, m]` when transposed.
    pub x: &'a Operand,
    /// The right operand: `[*batch, k, n]`, or `[*batch, n, k]` when transposed.
    pub y: &'a Operand,
    /// Whether the last two dimensions of `x` stand the other way round.
    pub transpose_x: bool,
    /// Whether the last two dimensions of `y` stand the other way round.
    pub transpose_y: bool,
    /// `[n]`, added to every row.
    pub bias: Option<&'a Operand>,
    /// The broadcast batch dimensions.
    pub batch: Shape,
    /// Rows of the result.
    pub m: Dim,
    /// Length of the sums.
    pub k: Dim,
    /// Columns of the result.
    pub n: Dim,
    /// The result: `[*batch, m, n]`, without `m` or `n` where an operand is a vector.
    pub result: TensorType,
}

/// The batch dimensions of an operand, and its rows and columns after transposition.
fn matrix(shape: &Shape, transpose: bool, vector_is_row: bool) -> (Shape, Dim, Dim) {
    let one = Dim::Known(1);
    match shape.0.as_slice() {
        [length] if vector_is_row => (Shape::default(), one, *length),
        [length] => (Shape::default(), *length, one),
        [batch @ .., columns, rows] if transpose => (Shape(batch.to_vec()), *rows, *columns),
        [batch @ .., rows, columns] => (Shape(batch.to_vec()), *rows, *columns),
        [] => (Shape::default(), one, one),
    }
}

impl<'a> MatrixProduct<'a> {
    fn new(
        x: (&'a str, &'a Operand, bool),
        y: (&'a str, &'a Operand, bool),
        bias: Option<&'a Operand>,
        dtype: DType,
    ) -> Result<MatrixProduct<'a>, OpError> {
        for (name, operand, transpose) in [x, y] {
            if operand.rank() == 0 {
                return Err(OpError::rule(name, "must have at least rank 1").found("found a scalar"));
            }
            if operand.rank() == 1 && transpose {
                let message = format!("`transpose_{name}` needs a matrix");
                return Err(OpError::rule(name, message).found(format!("found {}", operand.ty)));
            }
        }
        let (x_batch, m, x_k) = matrix(x.1.shape(), x.2, true);
        let (y_batch, y_k, n) = matrix(y.1.shape(), y.2, false);
        if !x_k.agrees_with(y_k) {
            let of = |shape: &Shape, transposed| {
                format!("{shape}{}", if transposed { ", transposed," } else { "" })
            };
            let x_shape = of(x.1.shape(), x.2);
            let message = format!("the inner dimensions must be equal; that of `{}` {x_shape} is {x_k}", x.0);
            return Err(
                OpError::rule(y.0, message).found(format!("that of {} is {y_k}", of(y.1.shape(), y.2)))
            );
        }
        let batch = broadcast(&x_batch, &y_batch).ok_or_else(|| {
            OpError::rule(y.0, format!("the batch dimensions {x_batch} and {y_batch} do not broadcast"))
                .found("each pair must be equal, or one of them 1")
        })?;
        let mut dims = batch.0.clone();
        dims.extend((x.1.rank() > 1).then_some(m));
        dims.extend((y.1.rank() > 1).then_some(n));
        let result = TensorType { dtype, shape: Shape(dims) };
        let (transpose_x, transpose_y) = (x.2, y.2);
        Ok(MatrixProduct {
            x: x.1,
            y: y.1,
            transpose_x,
            transpose_y,
            bias,
            batch,
            m,
            k: x_k.or(y_k),
            n,
            result,
        })
    }

    /// The product that a `matmul` asks for.
    ///
    /// # Errors
    ///
    /// When the operands' shapes or element types do not fit together.
    pub fn of_matmul(row: &'a Matmul) -> Result<MatrixProduct<'a>, OpError> {
        if row.x.constant == row.y.constant && row.x.dtype() != row.y.dtype() {
            let message = format!("must have the element type of `x`, {}", row.x.dtype());
            return Err(OpError::new(ErrorKind::ElementType, Some("y"), message)
                .found(format!("found {}", row.y.dtype()))
                .with_help("they may differ only where one of the two is a constant"));
        }
        let dtype = if row.x.constant { row.y.dtype() } else { row.x.dtype() };
        let (x, y) = (("x", &row.x, row.transpose_x), ("y", &row.y, row.transpose_y));
        MatrixProduct::new(x, y, None, dtype)
    }

    /// The product that a `linear` asks for.
    ///
    /// # Errors
    ///
    /// When the operands' shapes do not fit together.
    pub fn of_linear(row: &'a Linear) -> Result<MatrixProduct<'a>, OpError> {
        linear_product(&row.x, &row.weight, row.bias.as_ref())
    }

    /// Floating-point operations: two for each factor pair, and one for each element of a bias.
    fn flops(&self) -> Option<u64> {
        let sums = self.batch.elements()?.checked_mul(self.m.known()?)?.checked_mul(self.n.known()?)?;
        sum_flops(sums, self.k.known()?, self.bias.is_some())
    }
}

/// Floating-point operations of this many sums of products of `length` terms, each perhaps with a bias.
pub(super) fn sum_flops(sums: u64, length: u64, bias: bool) -> Option<u64> {
    length.checked_mul(2)?.checked_add(u64::from(bias))?.checked_mul(sums)
}

fn matmul_flops(row: &Matmul) -> Option<u64> {
    MatrixProduct::of_matmul(row).ok()?.flops()
}

fn linear_flops(row: &Linear) -> Option<u64> {
    MatrixProduct::of_linear(row).ok()?.flops()
}

fn linear_product<'a>(
    x: &'a Operand,
    weight: &'a Constant,
    bias: Option<&'a Constant>,
) -> Result<MatrixProduct<'a>, OpError> {
    if weight.rank() != 2 {
        return Err(
            OpError::rule("weight", "must have rank 2: [D_out, D_in]").found(format!("found {}", weight.ty))
        );
    }
    if let Some(bias) = bias
        && !(bias.rank() == 1 && bias.shape().0[0].agrees_with(weight.shape().0[0]))
    {
        let message = format!("must have the shape [{}]", weight.shape().0[0]);
        return Err(OpError::rule("bias", message).found(format!("found {}", bias.shape())));
    }
    let bias = bias.map(|bias| &bias.0);
    MatrixProduct::new(("x", x, false), ("weight", &weight.0, true), bias, x.dtype())
}

fn matmul_type(row: &Matmul) -> Result<Vec<TensorType>, OpError> {
    Ok(vec![MatrixProduct::of_matmul(row)?.result])
}

fn linear_type(row: &Linear) -> Result<Vec<TensorType>, OpError> {
    Ok(vec![MatrixProduct::of_linear(row)?.result])
}

fn matmul(row: &Matmul, evaluation: &mut Evaluation) -> Result<Vec<Tensor>, OpError> {
    MatrixProduct::of_matmul(row)?.evaluate(evaluation)
}

fn linear(row: &Linear, evaluation: &mut Evaluation) -> Result<Vec<Tensor>, OpError> {
    MatrixProduct::of_linear(row)?.evaluate(evaluation)
}

/// What sums of products need of a number; integers wrap, as their element type does.
trait Term: Copy {
    const ZERO: Self;
    fn add_product(self, a: Self, b: Self) -> Self;
}

impl Term for f64 {
    const ZERO: f64 = 0.0;
    fn add_product(self, a: f64, b: f64) -> f64 {
        self + a * b
    }
}

impl Term for i64 {
    const ZERO: i64 = 0;
    fn add_product(self, a: i64, b: i64) -> i64 {
        self.wrapping_add(a.wrapping_mul(b))
    }
}

/// One operand's matrices: their values, and which of them each batch index reads.
struct Matrices<'a, T> {
    values: &'a [T],
    at: Vec<usize>,
    transposed: bool,
}

impl Matrices<'_, f64> {
    /// The matrix at a position, of this size.
    fn factor(&self, at: usize, size: usize) -> Factor<'_> {
        Factor { values: &self.values[at * size..][..size], transposed: self.transposed }
    }
}

/// `sums[i, j] += Σ_k x[i, k] y[k, j]`, with the innermost loop along rows of memory.
fn multiply<T: Term>(sums: &mut [T], x: &[T], y: &[T], [m, k, n]: [usize; 3], x_t: bool, y_t: bool) {
    for i in 0..m {
        let row = &mut sums[i * n..(i + 1) * n];
        if y_t {
            for (j, sum) in row.iter_mut().enumerate() {
                let column = &y[j * k..(j + 1) * k];
                *sum = column.iter().enumerate().fold(*sum, |sum, (l, &b)| {
                    let a = if x_t { x[l * m + i] } else { x[i * k + l] };
                    sum.add_product(a, b)
                });
            }
        } else {
            for l in 0..k {
                let a = if x_t { x[l * m + i] } else { x[i * k + l] };
                for (sum, &b) in row.iter_mut().zip(&y[l * n..(l + 1) * n]) {
                    *sum = sum.add_product(a, b);
                }
            }
        }
    }
}

fn multiply_all<T: Term>(
    x: &Matrices<'_, T>,
    y: &Matrices<'_, T>,
    bias: Option<&[T]>,
    [m, k, n]: [usize; 3],
    batches: usize,
) -> Result<Vec<T>, OpError> {
    let mut sums = filled(batches * m * n, T::ZERO)?;
    if let Some(bias) = bias {
        sums.chunks_exact_mut(n.max(1)).for_each(|row| row.copy_from_slice(bias));
    }
    for batch in 0..batches {
        let sums = &mut sums[batch * m * n..(batch + 1) * m * n];
        let x_values = &x.values[x.at[batch] * m * k..][..m * k];
        let y_values = &y.values[y.at[batch] * k * n..][..k * n];
        multiply(sums, x_values, y_values, [m, k, n], x.transposed, y.transposed);
    }
    Ok(sums)
}

/// As [`multiply_all`], in the arithmetic's way to add up.
fn sum_all(
    x: &Matrices<'_, f64>,
    y: &Matrices<'_, f64>,
    (dtype, start): (DType, Start<'_>),
    sizes: [usize; 3],
    sums: &dyn Sums,
) -> Result<Vec<f64>, OpError> {
    let [m, k, n] = sizes;
    if let ([x_at], [y_at]) = (&x.at[..], &y.at[..]) {
        return sums.of_matrices(&Product {
            dtype,
            x: x.factor(*x_at, m * k),
            y: y.factor(*y_at, k * n),
            sizes,
            start,
        });
    }
    let mut all = room(x.at.len() * m * n)?;
    for (&x_at, &y_at) in x.at.iter().zip(&y.at) {
        let (x, y) = (x.factor(x_at, m * k), y.factor(y_at, k * n));
        all.extend(sums.of_matrices(&Product { dtype, x, y, sizes, start })?);
    }
    Ok(all)
}

impl MatrixProduct<'_> {
    fn evaluate(&self, evaluation: &mut Evaluation) -> Result<Vec<Tensor>, OpError> {
        let dims = rules::known_dims(&self.result.shape)?;
        let unknown =
            || OpError::new(ErrorKind::Malformed, None, "the dimensions of a product are not known");
        let sizes = Shape(vec![self.m, self.k, self.n]).to_known().ok_or_else(unknown)?;
        let batch = self.batch.to_known().ok_or_else(unknown)?;
        let batches = batch.iter().product();
        let [m, k, n] = [sizes[0], sizes[1], sizes[2]];
        evaluation.charge((batches as u64).saturating_mul((m * n) as u64).saturating_mul(k as u64))?;
        let at = |operand: &Operand| -> Result<Vec<usize>, OpError> {
            let dims = operand.dims()?;
            Ok(broadcast_positions(&dims[..dims.len().saturating_sub(2)], &batch))
        };
        let (x_at, y_at) = (at(self.x)?, at(self.y)?);
        let bias = self.bias.map(Operand::numbers).transpose()?;
        let all_integers = |bias: &Option<Numbers>| !matches!(bias, Some(Numbers::Float(_)));
        let (x_t, y_t) = (self.transpose_x, self.transpose_y);
        let product = match (self.x.numbers()?, self.y.numbers()?) {
            (Numbers::Integer(x), Numbers::Integer(y)) if all_integers(&bias) => {
                let bias = match &bias {
                    Some(Numbers::Integer(bias)) => Some(bias.as_slice()),
                    _ => None,
                };
                let x = Matrices { values: &x, at: x_at, transposed: x_t };
                let y = Matrices { values: &y, at: y_at, transposed: y_t };
                Numbers::Integer(multiply_all(&x, &y, bias, [m, k, n], batches)?)
            }
            (x, y) => {
                let (x, y) = (x.into_f64(), y.into_f64());
                let bias = bias.map(Numbers::into_f64);
                let x = Matrices { values: &x, at: x_at, transposed: x_t };
                let y = Matrices { values: &y, at: y_at, transposed: y_t };
                let sums = evaluation.arithmetic().sums();
                Numbers::Float(match sums {
                    None => multiply_all(&x, &y, bias.as_deref(), [m, k, n], batches)?,
                    Some(sums) => {
                        let start = bias.as_deref().map_or(Start::Zero, Start::Columns);
                        sum_all(&x, &y, (self.result.dtype, start), [m, k, n], sums)?
                    }
                })
            }
        };
        let numbers = match product {
            // Mixed operands of an integer result: the sum is cut toward zero, as a cast does.
            Numbers::Float(sums) if !self.result.dtype.is_float() => {
                Numbers::Integer(sums.into_iter().map(|sum| sum as i64).collect())
            }
            Numbers::Integer(sums) if self.result.dtype.is_float() => {
                Numbers::Float(sums.into_iter().map(|sum| sum as f64).collect())
            }
            same => same,
        };
        Ok(vec![evaluation.tensor(self.result.dtype, &dims, numbers)?])
    }
}
