//! Ops on pairs of elements: arithmetic, comparisons, logic and choice, all with broadcasting.
//!
//! `int32` arithmetic wraps, as two's complement does and as numpy computes it. An integer division by zero
//! is an error when it happens, never a made-up value.

use crate::error::ErrorKind;
use crate::eval::{Evaluation, Numbers, collect, room};
use crate::ops::rules::{broadcast, broadcast_operands, flat};
use crate::ops::{ANY, Accuracy, BOOL, NUMBER, OpError, Operand, Row};
use crate::tensor::Tensor;
use crate::types::{DType, TensorType};

mod gradient;

crate::ops! {
    /// `x + y`. Integers wrap.
    Add = add(x: Operand[T], y: Operand[T]) since IOS15 where [T: NUMBER]
        { infer: broadcast_type, eval: add, accuracy: Accuracy::Exact; vjp: gradient::add; [commutative, elementwise] }

    /// `x − y`. Integers wrap.
    Sub = sub(x: Operand[T], y: Operand[T]) since IOS15 where [T: NUMBER]
        { infer: broadcast_type, eval: sub, accuracy: Accuracy::Exact; vjp: gradient::sub; [elementwise] }

    /// `x · y`. Integers wrap.
    Mul = mul(x: Operand[T], y: Operand[T]) since IOS15 where [T: NUMBER]
        { infer: broadcast_type, eval: mul, accuracy: Accuracy::Exact; vjp: gradient::mul; [commutative, elementwise] }

    /// `x / y`. The quotient of integers is rounded toward zero; a zero divisor is then an error.
    RealDiv = real_div(x: Operand[T], y: Operand[T]) since IOS15 where [T: NUMBER]
        { infer: broadcast_type, eval: real_div, accuracy: Accuracy::Exact; vjp: gradient::real_div; [elementwise] }

    /// `x / y` rounded toward negative infinity. For integers, a zero divisor is an error.
    FloorDiv = floor_div(x: Operand[T], y: Operand[T]) since IOS15 where [T: NUMBER]
        { infer: broadcast_type, eval: floor_div, accuracy: Accuracy::Exact; vjp: flat; [elementwise] }

    /// `x − y · ⌊x / y⌋`, which has the sign of `y`, as in Python and numpy; of a zero divisor, and of an infinite `x`,
    /// NaN. For integers, a zero divisor is an error.
    Mod = r#mod(x: Operand[T], y: Operand[T]) since IOS15 where [T: NUMBER]
        { infer: broadcast_type, eval: modulo, accuracy: Accuracy::Exact; vjp: gradient::modulo; [elementwise] }

    /// The larger of `x` and `y`; NaN if either is. Of +0 and −0, `y`.
    Maximum = maximum(x: Operand[T], y: Operand[T]) since IOS15 where [T: NUMBER]
        { infer: broadcast_type, eval: maximum, accuracy: Accuracy::Exact; vjp: gradient::maximum; [elementwise] }

    /// The smaller of `x` and `y`; NaN if either is. Of +0 and −0, `y`.
    Minimum = minimum(x: Operand[T], y: Operand[T]) since IOS15 where [T: NUMBER]
        { infer: broadcast_type, eval: minimum, accuracy: Accuracy::Exact; vjp: gradient::minimum; [elementwise] }

    /// `x` to the power `y`, in the special cases as IEEE 754 defines `pow`. Integers wrap; for them, a
    /// negative exponent is an error.
    Pow = pow(x: Operand[T], y: Operand[T]) since IOS15 where [T: NUMBER]
        { infer: broadcast_type, eval: pow, accuracy: Accuracy::Ulp(4); vjp: gradient::pow; [elementwise] }

    /// Whether `x = y`.
    Equal = equal(x: Operand[T], y: Operand[T]) since IOS15 where [T: NUMBER]
        { infer: bool_type, eval: equal, accuracy: Accuracy::Exact; [commutative, elementwise] }

    /// Whether `x ≠ y`; true where either is NaN.
    NotEqual = not_equal(x: Operand[T], y: Operand[T]) since IOS15 where [T: NUMBER]
        { infer: bool_type, eval: not_equal, accuracy: Accuracy::Exact; [commutative, elementwise] }

    /// Whether `x < y`.
    Less = less(x: Operand[T], y: Operand[T]) since IOS15 where [T: NUMBER]
        { infer: bool_type, eval: less, accuracy: Accuracy::Exact; [elementwise] }

    /// Whether `x ≤ y`.
    LessEqual = less_equal(x: Operand[T], y: Operand[T]) since IOS15 where [T: NUMBER]
        { infer: bool_type, eval: less_equal, accuracy: Accuracy::Exact; [elementwise] }

    /// Whether `x > y`.
    Greater = greater(x: Operand[T], y: Operand[T]) since IOS15 where [T: NUMBER]
        { infer: bool_type, eval: greater, accuracy: Accuracy::Exact; [elementwise] }

    /// Whether `x ≥ y`.
    GreaterEqual = greater_equal(x: Operand[T], y: Operand[T]) since IOS15 where [T: NUMBER]
        { infer: bool_type, eval: greater_equal, accuracy: Accuracy::Exact; [elementwise] }

    /// Whether both are true.
    LogicalAnd = logical_and(x: Operand[T], y: Operand[T]) since IOS15 where [T: BOOL]
        { infer: bool_type, eval: logical_and, accuracy: Accuracy::Exact; [commutative, elementwise] }

    /// Whether at least one is true.
    LogicalOr = logical_or(x: Operand[T], y: Operand[T]) since IOS15 where [T: BOOL]
        { infer: bool_type, eval: logical_or, accuracy: Accuracy::Exact; [commutative, elementwise] }

    /// Whether exactly one is true.
    LogicalXor = logical_xor(x: Operand[T], y: Operand[T]) since IOS15 where [T: BOOL]
        { infer: bool_type, eval: logical_xor, accuracy: Accuracy::Exact; [commutative, elementwise] }

    /// `a` where `cond` is true, `b` where it is false.
    Select = select(cond: Operand[C], a: Operand[T], b: Operand[T]) since IOS15 where [C: BOOL, T: ANY]
        { infer: select_type, eval: select, accuracy: Accuracy::Exact; vjp: gradient::select; [elementwise] }
}

/// The two operands of a row that has just those.
fn pair<R: Row>(row: &R) -> Result<(&Operand, &Operand), OpError> {
    match row.operands()[..] {
        [x, y] => Ok((x, y)),
        _ => Err(OpError::new(ErrorKind::MissingParameter, None, "the op needs two operands")),
    }
}

/// The element type of the operands, in the shape they broadcast to.
fn broadcast_type<R: Row>(row: &R) -> Result<Vec<TensorType>, OpError> {
    let (x, y) = pair(row)?;
    Ok(vec![TensorType { dtype: x.dtype(), shape: broadcast_operands(x, y, "y")? }])
}

/// Booleans, in the shape that the operands broadcast to.
fn bool_type<R: Row>(row: &R) -> Result<Vec<TensorType>, OpError> {
    let (x, y) = pair(row)?;
    Ok(vec![TensorType { dtype: DType::Bool, shape: broadcast_operands(x, y, "y")? }])
}

fn select_type(row: &Select) -> Result<Vec<TensorType>, OpError> {
    let values = broadcast_operands(&row.a, &row.b, "b")?;
    let shape = broadcast(row.cond.shape(), &values).ok_or_else(|| {
        OpError::rule("cond", format!("does not broadcast with {values}, the shape of `a` and `b`"))
            .found(format!("found {}", row.cond.shape()))
    })?;
    Ok(vec![TensorType { dtype: row.a.dtype(), shape }])
}

/// The dimensions of a result of this type, which every operand's value determines.
fn known(types: &[TensorType]) -> Result<Vec<usize>, OpError> {
    let dims = types.first().and_then(|ty| ty.shape.to_known());
    dims.ok_or_else(|| OpError::new(ErrorKind::NotConstant, None, "a dimension is not known"))
}

/// Row-major values of shape `from`, repeated as broadcasting to `to` does.
fn spread<T: Copy>(values: Vec<T>, from: &[usize], to: &[usize]) -> Result<Vec<T>, OpError> {
    fn lay<T: Copy>(values: &[T], from: &[usize], to: &[usize], all: &mut Vec<T>) {
        if from == to {
            all.extend_from_slice(values);
        } else if from[0] == to[0] {
            for part in values.chunks_exact(values.len() / from[0]) {
                lay(part, &from[1..], &to[1..], all);
            }
        } else {
            let start = all.len();
            lay(values, &from[1..], &to[1..], all);
            let end = all.len();
            for _ in 1..to[0] {
                all.extend_from_within(start..end);
            }
        }
    }
    let mut dims = vec![1; to.len() - from.len()];
    dims.extend_from_slice(from);
    if dims == to {
        return Ok(values);
    }
    let count = to.iter().product();
    let mut all = room(count)?;
    if count > 0 {
        lay(&values, &dims, to, &mut all);
    }
    Ok(all)
}

/// An operand's values, repeated as broadcasting to `dims` does.
fn spread_operand(operand: &Operand, dims: &[usize]) -> Result<Numbers, OpError> {
    let from = operand.dims()?;
    Ok(match operand.numbers()? {
        Numbers::Float(values) => Numbers::Float(spread(values, from, dims)?),
        Numbers::Integer(values) => Numbers::Integer(spread(values, from, dims)?),
    })
}

/// The dimensions of the result, and both operands' values in that shape.
fn spread_pair<R: Row>(row: &R, types: &[TensorType]) -> Result<(Vec<usize>, Numbers, Numbers), OpError> {
    let (x, y) = pair(row)?;
    let dims = known(types)?;
    let (x, y) = (spread_operand(x, &dims)?, spread_operand(y, &dims)?);
    Ok((dims, x, y))
}

fn mixed() -> OpError {
    OpError::new(ErrorKind::ElementType, None, "the operands must have one element type")
}

/// Applies the function for the operands' kind of number to each pair of elements.
fn arithmetic<R: Row>(
    row: &R,
    evaluation: &mut Evaluation,
    float: impl Fn(f64, f64) -> f64,
    integer: impl Fn(i64, i64) -> Result<i64, OpError>,
) -> Result<Vec<Tensor>, OpError> {
    let types = broadcast_type(row)?;
    let result = match spread_pair(row, &types)? {
        (dims, Numbers::Float(mut x), Numbers::Float(y)) => {
            x.iter_mut().zip(y).for_each(|(x, y)| *x = float(*x, y));
            (dims, Numbers::Float(x))
        }
        (dims, Numbers::Integer(mut x), Numbers::Integer(y)) => {
            for (x, y) in x.iter_mut().zip(y) {
                *x = integer(*x, y)?;
            }
            (dims, Numbers::Integer(x))
        }
        _ => return Err(mixed()),
    };
    Ok(vec![evaluation.tensor(types[0].dtype, &result.0, result.1)?])
}

/// Whether the relation for the operands' kind of number holds between each pair of elements.
fn relation<R: Row>(
    row: &R,
    evaluation: &mut Evaluation,
    float: impl Fn(&f64, &f64) -> bool,
    integer: impl Fn(&i64, &i64) -> bool,
) -> Result<Vec<Tensor>, OpError> {
    let (dims, holds) = match spread_pair(row, &bool_type(row)?)? {
        (dims, Numbers::Float(x), Numbers::Float(y)) => {
            (dims, collect(x.iter().zip(&y).map(|(x, y)| i64::from(float(x, y))))?)
        }
        (dims, Numbers::Integer(x), Numbers::Integer(y)) => {
            (dims, collect(x.iter().zip(&y).map(|(x, y)| i64::from(integer(x, y))))?)
        }
        _ => return Err(mixed()),
    };
    Ok(vec![evaluation.tensor(DType::Bool, &dims, Numbers::Integer(holds))?])
}

fn add(row: &Add, evaluation: &mut Evaluation) -> Result<Vec<Tensor>, OpError> {
    arithmetic(row, evaluation, |x, y| x + y, |x, y| Ok(x.wrapping_add(y)))
}

fn sub(row: &Sub, evaluation: &mut Evaluation) -> Result<Vec<Tensor>, OpError> {
    arithmetic(row, evaluation, |x, y| x - y, |x, y| Ok(x.wrapping_sub(y)))
}

fn mul(row: &Mul, evaluation: &mut Evaluation) -> Result<Vec<Tensor>, OpError> {
    arithmetic(row, evaluation, |x, y| x * y, |x, y| Ok(x.wrapping_mul(y)))
}

fn divisor(y: i64) -> Result<i64, OpError> {
    if y == 0 { Err(OpError::rule("y", "an integer is divided by zero")) } else { Ok(y) }
}

fn real_div(row: &RealDiv, evaluation: &mut Evaluation) -> Result<Vec<Tensor>, OpError> {
    arithmetic(row, evaluation, |x, y| x / y, |x, y| Ok(x.wrapping_div(divisor(y)?)))
}

fn floor_div(row: &FloorDiv, evaluation: &mut Evaluation) -> Result<Vec<Tensor>, OpError> {
    let integer = |x: i64, y: i64| {
        let quotient = x.wrapping_div(divisor(y)?);
        let inexact = x.wrapping_rem(y) != 0;
        Ok(quotient - i64::from(inexact && (x < 0) != (y < 0)))
    };
    arithmetic(row, evaluation, |x, y| (x / y).floor(), integer)
}

fn modulo(row: &Mod, evaluation: &mut Evaluation) -> Result<Vec<Tensor>, OpError> {
    let float = |x: f64, y: f64| {
        // The remainder is exact, and has the sign of x.
        let rest = x % y;
        if rest == 0.0 {
            0f64.copysign(y)
        } else if (rest < 0.0) != (y < 0.0) {
            rest + y
        } else {
            rest
        }
    };
    let integer = |x: i64, y: i64| {
        let rest = x.wrapping_rem(divisor(y)?);
        Ok(if rest != 0 && (rest < 0) != (y < 0) { rest + y } else { rest })
    };
    arithmetic(row, evaluation, float, integer)
}

/// The larger of two numbers, NaN if either is, `y` if they are equal.
pub(super) fn larger(x: f64, y: f64) -> f64 {
    if x > y || x.is_nan() { x } else { y }
}

/// The smaller of two numbers, NaN if either is, `y` if they are equal.
pub(super) fn smaller(x: f64, y: f64) -> f64 {
    if x < y || x.is_nan() { x } else { y }
}

fn maximum(row: &Maximum, evaluation: &mut Evaluation) -> Result<Vec<Tensor>, OpError> {
    arithmetic(row, evaluation, larger, |x, y| Ok(x.max(y)))
}

fn minimum(row: &Minimum, evaluation: &mut Evaluation) -> Result<Vec<Tensor>, OpError> {
    arithmetic(row, evaluation, smaller, |x, y| Ok(x.min(y)))
}

fn pow(row: &Pow, evaluation: &mut Evaluation) -> Result<Vec<Tensor>, OpError> {
    let integer = |x: i64, y: i64| match u32::try_from(y) {
        Ok(exponent) => Ok(x.wrapping_pow(exponent)),
        Err(_) => Err(OpError::rule("y", "an integer cannot be raised to a negative power")
            .found(format!("found the exponent {y}"))),
    };
    arithmetic(row, evaluation, f64::powf, integer)
}

fn equal(row: &Equal, evaluation: &mut Evaluation) -> Result<Vec<Tensor>, OpError> {
    relation(row, evaluation, f64::eq, i64::eq)
}

fn not_equal(row: &NotEqual, evaluation: &mut Evaluation) -> Result<Vec<Tensor>, OpError> {
    relation(row, evaluation, f64::ne, i64::ne)
}

fn less(row: &Less, evaluation: &mut Evaluation) -> Result<Vec<Tensor>, OpError> {
    relation(row, evaluation, f64::lt, i64::lt)
}

fn less_equal(row: &LessEqual, evaluation: &mut Evaluation) -> Result<Vec<Tensor>, OpError> {
    relation(row, evaluation, f64::le, i64::le)
}

fn greater(row: &Greater, evaluation: &mut Evaluation) -> Result<Vec<Tensor>, OpError> {
    relation(row, evaluation, f64::gt, i64::gt)
}

fn greater_equal(row: &GreaterEqual, evaluation: &mut Evaluation) -> Result<Vec<Tensor>, OpError> {
    relation(row, evaluation, f64::ge, i64::ge)
}

/// Applies a function of truth values to each pair of elements.
fn logic<R: Row>(
    row: &R,
    evaluation: &mut Evaluation,
    function: impl Fn(bool, bool) -> bool,
) -> Result<Vec<Tensor>, OpError> {
    relation(row, evaluation, |_, _| false, |&x, &y| function(x != 0, y != 0))
}

fn logical_and(row: &LogicalAnd, evaluation: &mut Evaluation) -> Result<Vec<Tensor>, OpError> {
    logic(row, evaluation, |x, y| x && y)
}

fn logical_or(row: &LogicalOr, evaluation: &mut Evaluation) -> Result<Vec<Tensor>, OpError> {
    logic(row, evaluation, |x, y| x || y)
}

fn logical_xor(row: &LogicalXor, evaluation: &mut Evaluation) -> Result<Vec<Tensor>, OpError> {
    logic(row, evaluation, |x, y| x != y)
}

fn select(row: &Select, evaluation: &mut Evaluation) -> Result<Vec<Tensor>, OpError> {
    fn choose<T: Copy>(cond: &[i64], mut a: Vec<T>, b: &[T]) -> Vec<T> {
        for (a, (&cond, &b)) in a.iter_mut().zip(cond.iter().zip(b)) {
            if cond == 0 {
                *a = b;
            }
        }
        a
    }
    let dims = known(&select_type(row)?)?;
    let cond = spread(row.cond.integers()?, row.cond.dims()?, &dims)?;
    let chosen = match (spread_operand(&row.a, &dims)?, spread_operand(&row.b, &dims)?) {
        (Numbers::Float(a), Numbers::Float(b)) => Numbers::Float(choose(&cond, a, &b)),
        (Numbers::Integer(a), Numbers::Integer(b)) => Numbers::Integer(choose(&cond, a, &b)),
        _ => return Err(mixed()),
    };
    Ok(vec![evaluation.tensor(row.a.dtype(), &dims, chosen)?])
}
