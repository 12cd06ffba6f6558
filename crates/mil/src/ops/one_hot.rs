//! `one_hot`.

use crate::eval::{Evaluation, Numbers};
use crate::grad::Pullback;
use crate::ops::copy::{self, Run};
use crate::ops::rules::{self, free};
use crate::ops::{ANY, Accuracy, Constant, INT32, OpError, Operand, call, movement};
use crate::tensor::Tensor;
use crate::types::{DType, Dim, TensorType};

crate::ops! {
    /// For each index a vector along a new dimension at `axis` of the result, which holds `on_value` (1) at
    /// the index and `off_value` (0) elsewhere; everywhere, where the index is out of range.
    OneHot = one_hot(indices: Operand[I], one_hot_vector_size: Operand[S]; axis: i32 = -1,
        on_value: Option<Constant>[T], off_value: Option<Constant>[T])
        since IOS15 where [I: INT32, S: INT32, T: ANY]
        { infer: one_hot_type, eval: one_hot, accuracy: Accuracy::Exact; vjp: one_hot_vjp; flops: free }
}

fn one_hot_type(row: &OneHot) -> Result<Vec<TensorType>, OpError> {
    movement::check_scalar("one_hot_vector_size", &row.one_hot_vector_size)?;
    for (name, value) in [("on_value", &row.on_value), ("off_value", &row.off_value)] {
        if let Some(value) = value {
            movement::check_scalar(name, value)?;
        }
    }
    let size = match row.one_hot_vector_size.known_integers().as_deref() {
        Some([size]) => Dim::Known(u64::try_from(*size).map_err(|_| {
            OpError::rule("one_hot_vector_size", "must not be negative").found(format!("found {size}"))
        })?),
        _ => Dim::Unknown,
    };
    movement::check_rank("indices", row.indices.rank())?;
    let mut dims = row.indices.shape().0.clone();
    dims.insert(rules::axis("axis", row.axis, dims.len() + 1)?, size);
    let given = row.on_value.as_ref().or(row.off_value.as_ref());
    movement::result("one_hot_vector_size", given.map_or(DType::Int32, |value| value.dtype()), dims)
}

fn one_hot(row: &OneHot, evaluation: &mut Evaluation) -> Result<Vec<Tensor>, OpError> {
    let ty = one_hot_type(row)?.remove(0);
    let dims = rules::known_dims(&ty.shape)?;
    let axis = rules::axis("axis", row.axis, dims.len())?;
    let value = |given: &Option<Constant>, default: i64| match given {
        Some(value) => Ok(value.tensor()?.as_ref().clone()),
        None if ty.dtype.is_float() => evaluation.tensor(ty.dtype, &[], Numbers::Float(vec![default as f64])),
        None => evaluation.tensor(ty.dtype, &[], Numbers::Integer(vec![default])),
    };
    let values = [&value(&row.off_value, 0)?, &value(&row.on_value, 1)?];
    let all = std::iter::once(Run::repeated(0, dims.iter().product()));
    let off = copy::read(&[values[0]], &dims, all)?;
    let inner: usize = dims[axis + 1..].iter().product();
    let indices = row.indices.integers()?;
    let inside = |index: &i64| usize::try_from(*index).ok().filter(|&index| index < dims[axis]);
    let places = || indices.iter().enumerate().filter_map(|(i, index)| Some((i, inside(index)?)));
    let on =
        copy::read(&[values[1]], &[places().count()], std::iter::once(Run::repeated(0, places().count())))?;
    let runs = places().map(|(i, index)| Run::of((i / inner * dims[axis] + index) * inner + i % inner, 1));
    Ok(vec![copy::replaced(&off, &on, runs)?])
}

/// Each value has the sum over the places that hold it.
fn one_hot_vjp(row: &OneHot, pullback: &mut Pullback<'_>) -> Result<(), OpError> {
    let dy = pullback.dy()?;
    for (given, on) in [(&row.on_value, 1.0), (&row.off_value, 0.0)] {
        let Some(value) = given else { continue };
        let number = |number| Tensor::from_f64(value.dtype(), &[], &[number]).map_err(crate::eval::internal);
        let holds = call::one_hot(&row.indices, &row.one_hot_vector_size).axis(row.axis);
        let holds = holds.on_value(number(on)?).off_value(number(1.0 - on)?);
        pullback.give(value, call::mul(dy, holds))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use half::f16;

    use crate::ops::testing::*;
    use crate::tensor::Tensor;
    use crate::types::{DType, Opset};

    #[test]
    fn one_hot_puts_the_new_dimension_anywhere() {
        let given =
            |axis| [("indices", ints(&[1, 0, 5, -1])), ("one_hot_vector_size", int(2)), ("axis", int(axis))];
        let last = eval_ints("one_hot", Opset::IOS15, &given(-1));
        assert_eq!(last, (vec![4, 2], vec![0, 1, 1, 0, 0, 0, 0, 0]));
        assert_eq!(eval_ints("one_hot", Opset::IOS15, &given(1)), last);
        let first = eval_ints("one_hot", Opset::IOS15, &given(0));
        assert_eq!(first, (vec![2, 4], vec![0, 1, 0, 0, 1, 0, 0, 0]));
        for axis in [2, -3, i32::MIN, i32::MAX] {
            assert!(refusal("one_hot", Opset::IOS15, &given(axis)).contains("out of range for rank 2"));
        }
    }

    #[test]
    fn one_hot_of_an_unknown_or_hostile_size() {
        let given = |size| [("indices", int(0)), ("one_hot_vector_size", size)];
        let later = given(typed(DType::Int32, &[]));
        assert_eq!(infer("one_hot", Opset::IOS15, &later).unwrap(), "[?]");
        assert_eq!(eval_ints("one_hot", Opset::IOS15, &given(int(0))), (vec![0], vec![]));
        assert!(refusal("one_hot", Opset::IOS15, &given(int(i32::MIN))).contains("must not be negative"));
        assert!(refusal("one_hot", Opset::IOS15, &given(int(i32::MAX))).contains("budget"));
        assert!(refusal("one_hot", Opset::IOS15, &given(ints(&[3]))).contains("must be a scalar"));
        let half = [
            ("indices", int(0)),
            ("one_hot_vector_size", int(2)),
            ("on_value", constant(Tensor::scalar(f16::from_f64(0.5)))),
        ];
        assert_eq!(eval("one_hot", Opset::IOS15, &half).unwrap().to_f64().unwrap(), [0.5, 0.0]);
    }
}
