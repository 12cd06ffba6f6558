//! Calling single ops in tests.

use std::sync::Arc;

use crate::eval::{Budget, Evaluation};
use crate::ops::{self, Given, OpError, Operand, Operands};
use crate::tensor::Tensor;
use crate::types::{DType, Dim, Opset, Shape, TensorType};

/// A constant operand.
pub(super) fn constant(tensor: Tensor) -> Given {
    Given::One(Operand::constant(Arc::new(tensor)))
}

/// A constant int32 scalar.
pub(super) fn int(value: i32) -> Given {
    constant(Tensor::scalar(value))
}

/// A constant vector of int32.
pub(super) fn ints(values: &[i32]) -> Given {
    constant(Tensor::vector(values.to_vec()))
}

/// A constant vector of booleans.
pub(super) fn bools(values: &[bool]) -> Given {
    constant(Tensor::vector(values.to_vec()))
}

/// A constant string.
pub(super) fn text(value: &str) -> Given {
    constant(Tensor::scalar(value.to_string()))
}

/// A constant int32 tensor holding 0, 1, 2 and so on.
pub(super) fn counting(dims: &[usize]) -> Given {
    let count = dims.iter().product::<usize>() as i32;
    constant(Tensor::from_values(dims, (0..count).collect()).unwrap())
}

/// An operand of which only the type is known; a dimension of −1 is `?`.
pub(super) fn typed(dtype: DType, dims: &[i64]) -> Given {
    let dims = dims.iter().map(|&dim| u64::try_from(dim).map_or(Dim::Unknown, Dim::Known));
    Given::One(Operand::of_type(TensorType { dtype, shape: Shape(dims.collect()) }))
}

/// The type of an op's result, as text.
pub(super) fn infer(op: &str, opset: Opset, given: &[(&str, Given)]) -> Result<String, OpError> {
    let row = ops::lookup(op, opset).unwrap();
    let types = (row.infer)(&Operands(given.to_vec()))?;
    Ok(types.iter().map(|ty| ty.shape.to_string()).collect::<Vec<_>>().join(" "))
}

/// The single result of an op, run as the interpreter runs it, with a small budget.
pub(super) fn eval(op: &str, opset: Opset, given: &[(&str, Given)]) -> Result<Tensor, OpError> {
    let row = ops::lookup(op, opset).unwrap();
    let operands = Operands(given.to_vec());
    let mut evaluation = Evaluation::new(Budget { elements: 1 << 16, work: 1 << 20 });
    let types = (row.infer)(&operands)?;
    for ty in &types {
        evaluation.allocate(&ty.shape)?;
    }
    let mut results = (row.eval)(&operands, &mut evaluation)?;
    assert_eq!(results.len(), types.len());
    assert_eq!(results[0].dtype(), types[0].dtype);
    assert!(results[0].ty().shape.agrees_with(&types[0].shape), "{:?} {:?}", results[0].ty(), types[0]);
    Ok(results.remove(0))
}

/// The values of an int32 result.
pub(super) fn eval_ints(op: &str, opset: Opset, given: &[(&str, Given)]) -> (Vec<usize>, Vec<i32>) {
    let tensor = eval(op, opset, given).unwrap();
    (tensor.shape().to_vec(), tensor.as_slice::<i32>().unwrap().to_vec())
}

/// The message of the error that an op must give, as text.
pub(super) fn refusal(op: &str, opset: Opset, given: &[(&str, Given)]) -> String {
    match eval(op, opset, given) {
        Ok(tensor) => panic!("{op} accepts it and gives {:?}", tensor.ty()),
        Err(error) => format!("{error} ({})", error.label),
    }
}
