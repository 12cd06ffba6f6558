//! Ops that join tensors and take them apart.

use crate::error::ErrorKind;
use crate::eval::Evaluation;
use crate::ops::rules::{self, free, strides};
use crate::ops::{ANY, Accuracy, OpError, Operand, copy, movement};
use crate::tensor::Tensor;
use crate::types::{Dim, Shape, TensorType};

mod gradient;

crate::ops! {
    /// Joins `values` along `axis`; they agree in every other dimension. Scalars become a vector. With `interleave`, the
    /// results of `axis` come from the values in turn, which then agree in every dimension.
    Concat = concat(values: Vec<Operand>, axis: i32; interleave: bool = false) since IOS15
        { infer: concat_type, eval: concat, accuracy: Accuracy::Exact; vjp: gradient::concat; flops: free }

    /// Cuts `x` along `axis` into `num_splits` equal parts, or into parts of `split_sizes`.
    Split = split(x: Operand[T], axis: i32; num_splits: Option<i32>, split_sizes: Option<Vec<i32>>)
        since IOS15 where [T: ANY]
        { infer: split_type, eval: split, accuracy: Accuracy::Exact; vjp: gradient::split; flops: free }

    /// The `values`, all of one shape, along a new dimension that stands at `axis` in the result.
    Stack = stack(values: Vec<Operand>, axis: i32) since IOS15
        { infer: stack_type, eval: stack, accuracy: Accuracy::Exact; vjp: gradient::stack; flops: free }
}

/// The most parts that one `split` makes: a bound on what a hostile program can ask the verifier for.
const MOST_PARTS: i32 = 65536;

/// The first of the tensors to join and the others, which have its element type.
fn alike(values: &[Operand]) -> Result<(&Operand, &[Operand]), OpError> {
    let Some((first, rest)) = values.split_first() else {
        return Err(OpError::rule("values", "must hold at least one tensor"));
    };
    if let Some(index) = values.iter().position(|value| value.dtype() != first.dtype()) {
        let message = format!("all must have the element type of the first, {}", first.dtype());
        let error = OpError::new(ErrorKind::ElementType, Some("values"), message);
        return Err(error.found(format!("found {} in place {}", values[index].dtype(), index + 1)));
    }
    Ok((first, rest))
}

impl Concat {
    /// The position of the axis.
    ///
    /// # Errors
    ///
    /// When the values have no such axis, or there are none.
    pub fn position(&self) -> Result<usize, OpError> {
        rules::axis("axis", self.axis, alike(&self.values)?.0.rank().max(1))
    }
}

impl Stack {
    /// The position of the new axis.
    ///
    /// # Errors
    ///
    /// When the result has no such axis, or there are no values.
    pub fn position(&self) -> Result<usize, OpError> {
        rules::axis("axis", self.axis, alike(&self.values)?.0.rank() + 1)
    }
}

impl Split {
    /// The position of the axis.
    ///
    /// # Errors
    ///
    /// When `x` has no such axis.
    pub fn position(&self) -> Result<usize, OpError> {
        rules::axis("axis", self.axis, self.x.rank())
    }
}

fn concat_type(row: &Concat) -> Result<Vec<TensorType>, OpError> {
    let (first, rest) = alike(&row.values)?;
    let axis = row.position()?;
    let mut shape = joinable(first.shape());
    for value in rest {
        if value.rank() != first.rank() {
            return Err(differ(first.shape(), value.shape(), row.interleave));
        }
        shape = join_shapes(&shape, &joinable(value.shape()), axis, row.interleave)?;
    }
    if row.interleave
        && let Dim::Known(length) = shape.0[axis]
    {
        let total = length.checked_mul(row.values.len() as u64);
        shape.0[axis] = Dim::Known(total.ok_or_else(|| too_long("values"))?);
    }
    movement::result("values", first.dtype(), shape.0)
}

/// The shape under which a value is joined: a scalar is a vector of one.
fn joinable(shape: &Shape) -> Shape {
    if shape.rank() == 0 { Shape(vec![Dim::Known(1)]) } else { shape.clone() }
}

fn too_long(parameter: &str) -> OpError {
    OpError::rule(parameter, "the joined dimension is too long")
}

fn differ(a: &Shape, b: &Shape, interleave: bool) -> OpError {
    let but = if interleave { "" } else { " but the axis" };
    OpError::rule("values", format!("all must agree in every dimension{but}"))
        .found(format!("found {a} and {b}"))
}

/// The shape of two joined tensors; interleaved ones must agree along the axis too, and it keeps its length.
fn join_shapes(a: &Shape, b: &Shape, axis: usize, interleave: bool) -> Result<Shape, OpError> {
    let mut dims = Vec::with_capacity(a.rank());
    for (i, (&x, &y)) in a.0.iter().zip(&b.0).enumerate() {
        dims.push(match (x, y) {
            (Dim::Known(x), Dim::Known(y)) if i == axis && !interleave => {
                Dim::Known(x.checked_add(y).ok_or_else(|| too_long("values"))?)
            }
            _ if i == axis && !interleave => Dim::Unknown,
            _ if x.agrees_with(y) => x.or(y),
            _ => return Err(differ(a, b, interleave)),
        });
    }
    Ok(Shape(dims))
}

fn concat(row: &Concat, _: &mut Evaluation) -> Result<Vec<Tensor>, OpError> {
    let dims = movement::dims(concat_type(row))?;
    let axis = row.position()?;
    joined(&row.values, &dims, if row.interleave { axis + 1 } else { axis })
}

/// The values in turn, the elements of their dimensions from `axis` on at a time.
fn joined(values: &[Operand], dims: &[usize], axis: usize) -> Result<Vec<Tensor>, OpError> {
    let tensors: Vec<&Tensor> =
        values.iter().map(|value| value.tensor().map(AsRef::as_ref)).collect::<Result<_, _>>()?;
    let inner = |tensor: &&Tensor| tensor.shape().iter().skip(axis).product::<usize>();
    let lengths: Vec<usize> = tensors.iter().map(inner).collect();
    let outer = tensors[0].shape().iter().take(axis).product();
    let outer = if dims.contains(&0) { 0 } else { outer };
    Ok(vec![copy::read(&tensors, dims, copy::in_turn(outer, &lengths))?])
}

/// The lengths of the parts along the axis.
fn part_lengths(row: &Split, length: Dim) -> Result<Vec<Dim>, OpError> {
    match (&row.split_sizes, row.num_splits) {
        (Some(sizes), number) => {
            if number.is_some_and(|number| usize::try_from(number) != Ok(sizes.len())) {
                let message = format!("must be the number of `split_sizes`, {}", sizes.len());
                return Err(OpError::rule("num_splits", message)
                    .found(format!("found {}", number.unwrap_or_default())));
            }
            let parts: Option<Vec<u64>> = sizes.iter().map(|&size| u64::try_from(size).ok()).collect();
            let Some(parts) = parts else {
                return Err(
                    OpError::rule("split_sizes", "must not be negative").found(format!("found {sizes:?}"))
                );
            };
            let total: u64 = parts.iter().sum();
            match length {
                Dim::Known(length) if length != total => {
                    Err(OpError::rule("split_sizes", format!("must add up to {length}"))
                        .found(format!("they add up to {total}")))
                }
                _ => Ok(parts.into_iter().map(Dim::Known).collect()),
            }
        }
        (None, Some(number)) if (1..=MOST_PARTS).contains(&number) => {
            let part = match length {
                Dim::Known(length) if length % number as u64 != 0 => {
                    return Err(OpError::rule("num_splits", format!("must divide {length}"))
                        .found(format!("found {number}")));
                }
                Dim::Known(length) => Dim::Known(length / number as u64),
                Dim::Unknown => Dim::Unknown,
            };
            Ok(vec![part; number as usize])
        }
        (None, Some(number)) => {
            Err(OpError::rule("num_splits", format!("must lie between 1 and {MOST_PARTS}"))
                .found(format!("found {number}")))
        }
        (None, None) => Err(OpError::new(
            ErrorKind::MissingParameter,
            None,
            "either `num_splits` or `split_sizes` must be given",
        )
        .found("expected one of the two")),
    }
}

fn split_type(row: &Split) -> Result<Vec<TensorType>, OpError> {
    let axis = row.position()?;
    let parts = part_lengths(row, row.x.shape().0[axis])?;
    let part_type = |length| {
        let mut shape = row.x.shape().clone();
        shape.0[axis] = length;
        TensorType { dtype: row.x.dtype(), shape }
    };
    Ok(parts.into_iter().map(part_type).collect())
}

fn split(row: &Split, _: &mut Evaluation) -> Result<Vec<Tensor>, OpError> {
    let axis = row.position()?;
    let x = row.x.tensor()?;
    let steps: Vec<isize> = strides(x.shape()).into_iter().map(|step| step as isize).collect();
    let mut start = 0;
    let mut parts = Vec::new();
    for ty in split_type(row)? {
        let dims = rules::known_dims(&ty.shape)?;
        parts.push(copy::read(&[x], &dims, copy::window(&dims, start, &steps))?);
        start = start.saturating_add(steps[axis].saturating_mul(dims[axis] as isize));
    }
    Ok(parts)
}

fn stack_type(row: &Stack) -> Result<Vec<TensorType>, OpError> {
    let (first, rest) = alike(&row.values)?;
    movement::check_rank("values", first.rank() + 1)?;
    let axis = row.position()?;
    let mut shape = first.shape().clone();
    for value in rest {
        if !shape.agrees_with(value.shape()) {
            return Err(OpError::rule("values", "all must have the same shape")
                .found(format!("found {shape} and {}", value.shape())));
        }
        shape = Shape(shape.0.iter().zip(&value.shape().0).map(|(a, b)| a.or(*b)).collect());
    }
    shape.0.insert(axis, Dim::from(row.values.len()));
    movement::result("values", first.dtype(), shape.0)
}

fn stack(row: &Stack, _: &mut Evaluation) -> Result<Vec<Tensor>, OpError> {
    let dims = movement::dims(stack_type(row))?;
    joined(&row.values, &dims, row.position()?)
}

#[cfg(test)]
mod tests {
    use crate::ops::testing::*;
    use crate::ops::{Given, Operand};
    use crate::tensor::Tensor;
    use crate::types::{DType, Opset};

    fn tuple(values: Vec<Given>) -> Given {
        let one = |given| match given {
            Given::One(operand) => operand,
            Given::Tuple(_) => panic!("tuples do not nest"),
        };
        Given::Tuple(values.into_iter().map(one).collect::<Vec<Operand>>())
    }

    fn stacked(values: Vec<Given>, axis: i32) -> Vec<(&'static str, Given)> {
        vec![("values", tuple(values)), ("axis", int(axis))]
    }

    #[test]
    fn stack_makes_a_dimension_anywhere() {
        let pair = || vec![counting(&[2, 2]), ints_like(&[10, 11, 12, 13])];
        let run = |axis| eval_ints("stack", Opset::IOS15, &stacked(pair(), axis));
        assert_eq!(run(0), (vec![2, 2, 2], vec![0, 1, 2, 3, 10, 11, 12, 13]));
        assert_eq!(run(1), (vec![2, 2, 2], vec![0, 1, 10, 11, 2, 3, 12, 13]));
        assert_eq!(run(-1), (vec![2, 2, 2], vec![0, 10, 1, 11, 2, 12, 3, 13]));
        assert_eq!(
            eval_ints("stack", Opset::IOS15, &stacked(vec![int(4), int(5)], 0)),
            (vec![2], vec![4, 5])
        );
    }

    fn ints_like(values: &[i32]) -> Given {
        constant(Tensor::from_values(&[2, 2], values.to_vec()).unwrap())
    }

    #[test]
    fn stack_joins_what_is_known_of_its_values() {
        let values = vec![typed(DType::Fp16, &[-1, 3]), typed(DType::Fp16, &[2, -1])];
        assert_eq!(infer("stack", Opset::IOS15, &stacked(values, 1)).unwrap(), "[2, 2, 3]");
    }

    #[test]
    fn hostile_stacks_are_refused() {
        let refuse = |values, axis| refusal("stack", Opset::IOS15, &stacked(values, axis));
        assert!(refuse(vec![], 0).contains("at least one"));
        assert!(refuse(vec![int(1), ints(&[1])], 0).contains("found [] and [1]"));
        assert!(refuse(vec![int(1), bools(&[true])], 0).contains("found bool"));
        for axis in [2, -3, i32::MIN, i32::MAX] {
            assert!(refuse(vec![ints(&[1]), ints(&[1])], axis).contains("out of range for rank 2"));
        }
        let huge = || typed(DType::Fp16, &[1 << 46]);
        assert!(refuse(vec![huge(), huge(), huge()], 0).contains("too large"));
    }
}
