//! Ops that make sequences: running sums, ranges, and one value repeated.

use crate::eval::{Evaluation, Numbers, collect, filled};
use crate::ops::rules::{self, free, per_element};
use crate::ops::{ANY, Accuracy, Constant, INT32, NUMBER, OpError, Operand, copy, movement};
use crate::tensor::{Tensor, round_to_f16};
use crate::types::{DType, Dim, TensorType};

mod gradient;

crate::ops! {
    /// Running sums of `x` along `axis`: each element is the sum of itself and those before it, or with
    /// `exclusive` of those before it only. With `reverse`, those after it count instead. Integers wrap. Of the
    /// negative axes only -1, the last dimension, can be written.
    CumSum = cumsum(x: Operand[T]; axis: i32 = 0, exclusive: bool = false, reverse: bool = false)
        since IOS15 where [T: NUMBER]
        { infer: cumsum_type, eval: cumsum, accuracy: Accuracy::Sum(0); vjp: gradient::cumsum; flops: per_element::<_, 1> }

    /// `start, start + step, …` before `end`, a vector. Its length is `(end − start) / step`, rounded in the
    /// element type at every step, and then up.
    Range1d = range_1d(end: Operand[T], start: Operand[T], step: Operand[T]) since IOS15 where [T: NUMBER]
        { infer: range_type, eval: range, accuracy: Accuracy::Ulp(1); vjp: gradient::range_1d; flops: free }

    /// A tensor of this `shape` that holds `value` everywhere, fp32 zeros without it.
    Fill = fill(shape: Operand[U]; value: Option<Constant>[T]) since IOS15 where [T: ANY, U: INT32]
        { infer: fill_type, eval: fill, accuracy: Accuracy::Exact; vjp: gradient::fill; flops: free }

    /// A tensor of the shape of `ref_tensor` that holds `value` everywhere, fp32 zeros without it.
    FillLike = fill_like(ref_tensor: Operand[T]; value: Option<Constant>[U]) since IOS16 where [T: ANY, U: ANY]
        { infer: fill_like_type, eval: fill_like, accuracy: Accuracy::Exact; vjp: gradient::fill_like; flops: free }
}

fn cumsum_type(row: &CumSum) -> Result<Vec<TensorType>, OpError> {
    let last = rules::axis("axis", row.axis, row.x.rank())?;
    if row.axis < -1 {
        let message = format!("axis {} is out of range: of negative axes this op takes only -1", row.axis);
        return Err(OpError::rule("axis", message).found(format!("this is axis {last}")));
    }
    rules::same_as_first(row)
}

fn cumsum(row: &CumSum, evaluation: &mut Evaluation) -> Result<Vec<Tensor>, OpError> {
    let dims = row.x.dims()?.to_vec();
    let axis = rules::axis("axis", row.axis, dims.len())?;
    let inner = dims[axis + 1..].iter().product();
    let sums = match row.x.numbers()? {
        Numbers::Float(mut values) => {
            running_sums(row, &mut values, dims[axis], inner, 0.0, |sum, value| sum + value)?;
            Numbers::Float(values)
        }
        Numbers::Integer(mut values) => {
            running_sums(row, &mut values, dims[axis], inner, 0, i64::wrapping_add)?;
            Numbers::Integer(values)
        }
    };
    Ok(vec![evaluation.tensor(row.x.dtype(), &dims, sums)?])
}

/// Replaces `values`, blocks of `length` rows of `inner` elements each, by their running sums over the rows.
fn running_sums<N: Copy>(
    row: &CumSum,
    values: &mut [N],
    length: usize,
    inner: usize,
    zero: N,
    add: impl Fn(N, N) -> N,
) -> Result<(), OpError> {
    let block_length = (length * inner).max(1);
    let mut sums = filled(inner, zero)?;
    for block in values.chunks_exact_mut(block_length) {
        sums.fill(zero);
        for number in 0..length {
            let position = if row.reverse { length - 1 - number } else { number };
            for (sum, value) in sums.iter_mut().zip(&mut block[position * inner..][..inner]) {
                let before = *sum;
                *sum = add(*sum, *value);
                *value = if row.exclusive { before } else { *sum };
            }
        }
    }
    Ok(())
}

/// A range's bounds and step, widened.
enum Range {
    Float { start: f64, end: f64, step: f64 },
    Integer { start: i64, end: i64, step: i64 },
}

impl Range {
    /// The range, once all three operands are known.
    fn of(row: &Range1d) -> Result<Option<Range>, OpError> {
        let mut floats = Vec::with_capacity(3);
        let mut integers = Vec::with_capacity(3);
        for (name, operand) in [("start", &row.start), ("end", &row.end), ("step", &row.step)] {
            movement::check_scalar(name, operand)?;
            if operand.value.is_none() {
                continue;
            }
            match operand.numbers()? {
                Numbers::Float(values) if values.iter().all(|value| value.is_finite()) => {
                    floats.extend(values);
                }
                Numbers::Float(values) => {
                    return Err(OpError::rule(name, "must be finite").found(format!("found {values:?}")));
                }
                Numbers::Integer(values) => integers.extend(values),
            }
        }
        let range = match (floats.as_slice(), integers.as_slice()) {
            (&[start, end, step], []) => Range::Float { start, end, step },
            ([], &[start, end, step]) => Range::Integer { start, end, step },
            _ => return Ok(None),
        };
        if matches!(range, Range::Float { step: 0.0, .. } | Range::Integer { step: 0, .. }) {
            return Err(OpError::rule("step", "must not be 0"));
        }
        Ok(Some(range))
    }

    /// The number of elements; a range that ends before it begins has none.
    ///
    /// coremltools computes it in the element type, and declares the result accordingly: in fp32,
    /// `0.3 / 0.1` is 3, though the exact quotient of the two rounded numbers is a little more.
    fn length(&self, dtype: DType) -> u64 {
        let rounded = |value: f64| match dtype {
            DType::Fp16 => round_to_f16(value).to_f64(),
            _ => f64::from(value as f32),
        };
        match *self {
            // The conversion saturates: at 0, and where no machine has the memory.
            Range::Float { start, end, step } => rounded(rounded(end - start) / step).ceil() as u64,
            Range::Integer { start, end, step } => {
                let (distance, step) = (i128::from(end) - i128::from(start), i128::from(step));
                let count =
                    distance / step + i128::from(distance % step != 0 && (distance < 0) == (step < 0));
                u64::try_from(count.max(0)).unwrap_or(u64::MAX)
            }
        }
    }
}

fn range_type(row: &Range1d) -> Result<Vec<TensorType>, OpError> {
    let length = match Range::of(row)? {
        Some(range) => Dim::Known(range.length(row.start.dtype())),
        None => Dim::Unknown,
    };
    movement::result("end", row.start.dtype(), vec![length])
}

fn range(row: &Range1d, evaluation: &mut Evaluation) -> Result<Vec<Tensor>, OpError> {
    let dims = movement::dims(range_type(row))?;
    let numbers = match Range::of(row)? {
        Some(Range::Float { start, step, .. }) => {
            Numbers::Float(collect((0..dims[0]).map(|i| start + i as f64 * step))?)
        }
        Some(Range::Integer { start, step, .. }) => {
            let value = |i: usize| start.wrapping_add(step.wrapping_mul(i as i64));
            Numbers::Integer(collect((0..dims[0]).map(value))?)
        }
        None => Numbers::Integer(Vec::new()),
    };
    Ok(vec![evaluation.tensor(row.start.dtype(), &dims, numbers)?])
}

/// The element type of what is repeated.
fn filling(value: Option<&Constant>) -> Result<DType, OpError> {
    match value {
        Some(value) => {
            movement::check_scalar("value", value)?;
            Ok(value.dtype())
        }
        None => Ok(DType::Fp32),
    }
}

fn fill_type(row: &Fill) -> Result<Vec<TensorType>, OpError> {
    movement::of_lengths("shape", &row.shape, filling(row.value.as_ref())?)
}

/// A value, or zero, so often.
fn repeated(
    value: Option<&Constant>,
    dims: &[usize],
    evaluation: &Evaluation,
) -> Result<Vec<Tensor>, OpError> {
    let zero = evaluation.tensor(DType::Fp32, &[], Numbers::Float(vec![0.0]))?;
    let value = match value {
        Some(value) => value.tensor()?.as_ref(),
        None => &zero,
    };
    let count = dims.iter().product();
    Ok(vec![copy::read(&[value], dims, std::iter::once(copy::Run::repeated(0, count)))?])
}

fn fill(row: &Fill, evaluation: &mut Evaluation) -> Result<Vec<Tensor>, OpError> {
    let dims = movement::dims(fill_type(row))?;
    repeated(row.value.as_ref(), &dims, evaluation)
}

fn fill_like_type(row: &FillLike) -> Result<Vec<TensorType>, OpError> {
    let dtype = filling(row.value.as_ref())?;
    Ok(vec![TensorType { dtype, shape: row.ref_tensor.shape().clone() }])
}

fn fill_like(row: &FillLike, evaluation: &mut Evaluation) -> Result<Vec<Tensor>, OpError> {
    fill_like_type(row)?;
    repeated(row.value.as_ref(), row.ref_tensor.dims()?, evaluation)
}

#[cfg(test)]
mod tests {
    use half::f16;

    use crate::ops::testing::*;
    use crate::ops::{Given, OpError};
    use crate::tensor::{ScalarElement, Tensor};
    use crate::types::{DType, Opset};

    #[test]
    fn cumsum_counts_before_and_after() {
        let run = |dims: &[usize], axis, exclusive, reverse| {
            let given = [
                ("x", counting(dims)),
                ("axis", int(axis)),
                ("exclusive", constant(Tensor::scalar(exclusive))),
                ("reverse", constant(Tensor::scalar(reverse))),
            ];
            eval_ints("cumsum", Opset::IOS15, &given).1
        };
        // Each as tf.cumsum of tf.range.
        assert_eq!(run(&[2, 3], 0, false, false), [0, 1, 2, 3, 5, 7]);
        assert_eq!(run(&[2, 3], -1, true, false), [0, 0, 1, 0, 3, 7]);
        assert_eq!(run(&[2, 3], 1, false, true), [3, 3, 2, 12, 9, 5]);
        assert_eq!(run(&[2, 2, 2], 1, true, true), [2, 3, 0, 0, 6, 7, 0, 0]);
        assert_eq!(run(&[3, 0], 0, false, false), [0; 0]);
        assert_eq!(run(&[0, 3], 0, true, true), [0; 0]);
    }

    #[test]
    fn cumsum_wraps_and_refuses_other_axes() {
        let given = |x, axis| [("x", x), ("axis", int(axis))];
        let wrapped = eval_ints("cumsum", Opset::IOS15, &given(ints(&[i32::MAX, 1, i32::MIN]), 0)).1;
        assert_eq!(wrapped, [i32::MAX, i32::MIN, 0]);
        for axis in [1, -2, i32::MIN, i32::MAX] {
            assert!(refusal("cumsum", Opset::IOS15, &given(ints(&[1]), axis)).contains("out of range"));
        }
        assert!(refusal("cumsum", Opset::IOS15, &given(int(1), 0)).contains("no axes"));
        let matrix = || typed(DType::Fp16, &[2, 2]);
        assert!(infer("cumsum", Opset::IOS15, &given(matrix(), -1)).is_ok());
        assert!(refusal("cumsum", Opset::IOS15, &given(matrix(), -2)).contains("`axis`: axis -2"));
        let unknown = given(typed(DType::Fp16, &[-1, 2]), 1);
        assert_eq!(infer("cumsum", Opset::IOS15, &unknown).unwrap(), "[?, 2]");
    }

    fn range<T: ScalarElement>(start: T, end: T, step: T) -> Result<Tensor, OpError> {
        let scalar = |value| constant(Tensor::scalar(value));
        eval(
            "range_1d",
            Opset::IOS15,
            &[("end", scalar(end)), ("start", scalar(start)), ("step", scalar(step))],
        )
    }

    #[test]
    fn a_range_stops_before_its_end() {
        let ints = |start, end, step| range::<i32>(start, end, step).unwrap().to_i64().unwrap();
        assert_eq!(ints(0, 7, 3), [0, 3, 6]);
        assert_eq!(ints(5, -1, -2), [5, 3, 1]);
        assert_eq!(ints(5, 5, 1), [0; 0]);
        assert_eq!(ints(5, 0, 1), [0; 0]);
        assert_eq!(ints(0, 5, -1), [0; 0]);
        assert_eq!(ints(i32::MIN, i32::MAX, i32::MAX), [-2147483648, -1, 2147483646]);
        // numpy.arange of float32 scalars.
        assert_eq!(range(0.0f32, 0.3, 0.1).unwrap().as_slice::<f32>().unwrap(), [0.0, 0.1, 0.2]);
        assert_eq!(range(1.0f32, -0.5, -0.5).unwrap().as_slice::<f32>().unwrap(), [1.0, 0.5, 0.0]);
    }

    #[test]
    fn hostile_ranges_are_refused() {
        let refuse = |result: Result<Tensor, OpError>| result.unwrap_err().to_string();
        assert!(refuse(range(0, 5, 0)).contains("`step`: must not be 0"));
        assert!(refuse(range(0.0f32, 5.0, -0.0)).contains("`step`: must not be 0"));
        assert!(refuse(range(0.0f32, f32::NAN, 1.0)).contains("`end`: must be finite"));
        assert!(refuse(range(0.0f32, f32::INFINITY, 1.0)).contains("`end`: must be finite"));
        assert!(refuse(range(-f32::MAX, f32::MAX, f32::MIN_POSITIVE)).contains("too large"));
        assert!(refuse(range(f16::MIN, f16::MAX, f16::ONE)).contains("too large"));
        assert!(refuse(range(i32::MIN, i32::MAX, 1)).contains("budget"));
        let later = [("end", typed(DType::Fp16, &[])), ("start", typed(DType::Fp16, &[]))];
        let later = [&later[..], &[("step", typed(DType::Fp16, &[]))]].concat();
        assert_eq!(infer("range_1d", Opset::IOS15, &later).unwrap(), "[?]");
        let vector = [("end", ints(&[3])), ("start", int(0)), ("step", int(1))];
        assert!(refusal("range_1d", Opset::IOS15, &vector).contains("`end`: must be a scalar"));
    }

    #[test]
    fn fill_repeats_the_bits_of_its_value() {
        let given = [("shape", ints(&[2, 1])), ("value", constant(Tensor::scalar(f16::from_bits(0xfd01))))];
        let filled = eval("fill", Opset::IOS15, &given).unwrap();
        assert!(filled.as_slice::<f16>().unwrap().iter().all(|value| value.to_bits() == 0xfd01));
        let zeros = eval("fill", Opset::IOS15, &[("shape", ints(&[3]))]).unwrap();
        assert_eq!(zeros.as_slice::<f32>().unwrap(), [0.0; 3]);
        assert_eq!(eval("fill", Opset::IOS15, &[("shape", ints(&[]))]).unwrap().shape(), [0usize; 0]);
    }

    #[test]
    fn hostile_fills_are_refused() {
        let refuse = |shape: Given| refusal("fill", Opset::IOS15, &[("shape", shape)]);
        assert!(refuse(ints(&[3, -1])).contains("found [3, -1]"));
        assert!(refuse(ints(&[i32::MIN])).contains("must not be negative"));
        assert!(refuse(ints(&[i32::MAX; 3])).contains("too large"));
        assert!(refuse(ints(&[i32::MAX, 1])).contains("budget"));
        assert!(refuse(ints(&[1; 65])).contains("at most 64 dimensions"));
        assert!(refuse(int(3)).contains("must be a vector"));
        assert!(infer("fill", Opset::IOS15, &[("shape", typed(DType::Int32, &[-1]))]).is_err());
        assert_eq!(infer("fill", Opset::IOS15, &[("shape", typed(DType::Int32, &[2]))]).unwrap(), "[?, ?]");
        let vector = [("shape", ints(&[1])), ("value", ints(&[1]))];
        assert!(refusal("fill", Opset::IOS15, &vector).contains("must be a scalar"));
    }
}
