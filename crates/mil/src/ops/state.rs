//! Ops on states: tensors that keep their values between runs.

use crate::error::ErrorKind;
use crate::eval::Evaluation;
use crate::ops::rules::free;
use crate::ops::{Accuracy, OpError, Operand, State};
use crate::tensor::Tensor;
use crate::types::TensorType;

crate::ops! {
    /// The tensor that the state `input` holds at this point of the run.
    ReadState = read_state(input: State) since IOS18
        { infer: read_type, eval: read, accuracy: Accuracy::Exact; no_vjp: "a state holds what an earlier op or run wrote, and gradients do not go through it"; flops: free; [stateful] }

    /// Makes the state `input` hold `data` from this point of the run on.
    WriteState = write_state(input: State, data: Operand) since IOS18
        { infer: write_type, eval: write, accuracy: Accuracy::Exact; no_vjp: "it has no result: what a state holds has no gradient"; flops: free; [stateful] }
}

fn read_type(row: &ReadState) -> Result<Vec<TensorType>, OpError> {
    Ok(vec![row.input.0.ty.clone()])
}

fn read(row: &ReadState, evaluation: &mut Evaluation) -> Result<Vec<Tensor>, OpError> {
    Ok(vec![evaluation.read_state(&row.input.0)?])
}

fn write_type(row: &WriteState) -> Result<Vec<TensorType>, OpError> {
    let held = &row.input.0.ty;
    if row.data.dtype() != held.dtype || !row.data.shape().agrees_with(&held.shape) {
        let kind = if row.data.dtype() == held.dtype { ErrorKind::Rule } else { ErrorKind::ElementType };
        return Err(OpError::new(kind, Some("data"), format!("must be what the state holds, {held}"))
            .found(format!("found {}", row.data.ty)));
    }
    Ok(Vec::new())
}

fn write(row: &WriteState, evaluation: &mut Evaluation) -> Result<Vec<Tensor>, OpError> {
    evaluation.write_state(&row.input.0, row.data.tensor()?.as_ref().clone())?;
    Ok(Vec::new())
}
