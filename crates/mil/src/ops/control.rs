//! Ops that choose what runs: `cond` and `while_loop`.

use std::sync::Arc;

use crate::error::ErrorKind;
use crate::eval::Evaluation;
use crate::ops::blocks::{agree, join};
use crate::ops::rules::free;
use crate::ops::{
    Accuracy, BOOL, BlockFault, BlockRules, BlockType, Carried, OpError, Operand, Operands, RunBlocks,
};
use crate::tensor::Tensor;
use crate::types::{DType, TensorType, Type};

crate::ops! {
    /// What the first block yields where `pred` is true, what the second yields where it is false. The blocks take
    /// nothing and yield values of the same types.
    Cond = cond(pred: Operand[B]) since IOS15 where [B: BOOL]
        { infer: needs_blocks, eval: runs_blocks, accuracy: Accuracy::Exact;
          no_vjp: "what its blocks do depends on the run"; flops: free; blocks: COND }

    /// `loop_vars`, changed by the second block as long as the first yields true. Both blocks take the values as they
    /// are; the first yields a bool, the second the values for the next round.
    WhileLoop = while_loop(loop_vars: Vec<Carried>) since IOS15
        { infer: needs_blocks, eval: runs_blocks, accuracy: Accuracy::Exact;
          no_vjp: "what its blocks do depends on the run"; flops: free; blocks: WHILE_LOOP }
}

/// The rules of `cond`.
const COND: BlockRules =
    BlockRules { names: &["true", "false"], loops: false, infer: cond_types, eval: run_cond };
/// The rules of `while_loop`.
const WHILE_LOOP: BlockRules =
    BlockRules { names: &["condition", "body"], loops: true, infer: loop_types, eval: run_loop };

fn needs_blocks<R>(_: &R) -> Result<Vec<TensorType>, OpError> {
    Err(refuse("the op needs two nested blocks").found("found none"))
}

fn runs_blocks<R>(_: &R, _: &mut Evaluation) -> Result<Vec<Tensor>, OpError> {
    Err(refuse("the op runs only with its blocks"))
}

fn refuse(message: impl Into<String>) -> OpError {
    OpError::new(ErrorKind::NestedBlock, None, message)
}

/// Types as people read them, a tensor of rank 0 as the scalar that it is.
fn written(types: &[Type]) -> String {
    let one = |ty: &Type| match ty.as_tensor() {
        Some(ty) if ty.shape.rank() == 0 => ty.dtype.to_string(),
        _ => ty.to_string(),
    };
    format!("({})", types.iter().map(one).collect::<Vec<_>>().join(", "))
}

fn cond_types(operands: &Operands<'_>, blocks: &[BlockType]) -> Result<Vec<Type>, OpError> {
    let pred: Operand = operands.bind("pred", None)?;
    if pred.rank() != 0 {
        return Err(OpError::rule("pred", "must be one bool").found(format!("found {}", pred.ty)));
    }
    let [yes, no] = blocks else { return needs_blocks(&()).map(|_| Vec::new()) };
    if let Some(index) = blocks.iter().position(|block| !block.inputs.is_empty()) {
        let error = refuse("its blocks take nothing").in_block(BlockFault::Parameters(index));
        return Err(error.found(format!("found {}", written(&blocks[index].inputs))));
    }
    let joined: Option<Vec<Type>> = yes.outputs.iter().zip(&no.outputs).map(|(a, b)| join(a, b)).collect();
    joined.filter(|_| yes.outputs.len() == no.outputs.len()).ok_or_else(|| {
        let found = format!("found {} in place of {}", written(&no.outputs), written(&yes.outputs));
        refuse("both blocks must yield values of the same types")
            .in_block(BlockFault::Outputs(1))
            .found(found)
    })
}

fn run_cond(operands: &Operands<'_>, blocks: &mut dyn RunBlocks) -> Result<Vec<Arc<Tensor>>, OpError> {
    let pred: Operand = operands.bind("pred", None)?;
    blocks.run(usize::from(!truth(pred.tensor()?)?), Vec::new())
}

/// The one bool that a tensor holds.
fn truth(tensor: &Tensor) -> Result<bool, OpError> {
    match tensor.as_slice::<bool>() {
        Some([value]) => Ok(*value),
        _ => Err(refuse("a condition must be one bool").found(format!("found {}", tensor.ty()))),
    }
}

/// The values that a loop changes.
fn carried(operands: &Operands<'_>) -> Result<Vec<Carried>, OpError> {
    operands.bind("loop_vars", None)
}

fn loop_types(operands: &Operands<'_>, blocks: &[BlockType]) -> Result<Vec<Type>, OpError> {
    let given: Vec<Type> = carried(operands)?.iter().map(|carried| carried.0.held_type()).collect();
    let [condition, body] = blocks else { return needs_blocks(&()).map(|_| Vec::new()) };
    let fits = |types: &[Type]| {
        types.len() == given.len()
            && types.iter().zip(&given).all(|(a, b)| join(a, b).is_some() || agree(a, b))
    };
    for (index, name) in WHILE_LOOP.names.iter().enumerate() {
        if !fits(&blocks[index].inputs) {
            let message = format!("the {name} block must take the loop's values, {}", written(&given));
            let error = refuse(message).in_block(BlockFault::Parameters(index));
            return Err(error.found(format!("found {}", written(&blocks[index].inputs))));
        }
    }
    // Also as a tensor of one element: coremltools makes such loops of PyTorch's GRU.
    let one_bool = |ty: &Type| {
        ty.as_tensor().is_some_and(|ty| ty.dtype == DType::Bool && ty.shape.elements() == Some(1))
    };
    if !matches!(condition.outputs.as_slice(), [ty] if one_bool(ty)) {
        let error = refuse("the condition block must yield one bool").in_block(BlockFault::Outputs(0));
        return Err(error.found(format!("found {}", written(&condition.outputs))));
    }
    if !fits(&body.outputs) {
        let message = format!("the body block must yield the loop's values, {}", written(&given));
        let error = refuse(message).in_block(BlockFault::Outputs(1));
        return Err(error.found(format!("found {}", written(&body.outputs))));
    }
    let joined = given.iter().zip(&body.outputs).map(|(a, b)| join(a, b).unwrap_or_else(|| a.clone()));
    Ok(joined.collect())
}

fn run_loop(operands: &Operands<'_>, blocks: &mut dyn RunBlocks) -> Result<Vec<Arc<Tensor>>, OpError> {
    let mut values = Vec::new();
    for Carried(operand) in carried(operands)? {
        values.push(operand.tensor()?.clone());
    }
    loop {
        blocks.round()?;
        let go = blocks.run(0, values.clone())?;
        let go = go.first().map_or(Ok(false), |tensor| truth(tensor))?;
        if !go {
            return Ok(values);
        }
        values = blocks.run(1, values)?;
    }
}
