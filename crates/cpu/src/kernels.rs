//! Which ops have kernels. An op that is not listed here, or whose operands its kernel does not take, is run
//! by its meaning in the table.

use std::sync::Arc;

use anemone_mil::ops::{OpDef, OpError, Operand, Operands};
use anemone_mil::program::ValueId;
use anemone_mil::types::TensorType;

use crate::element::Float;
use crate::memory::Sources;
use crate::threads::Threads;
use elementwise::StripFunction;

pub(crate) mod attention;
mod binary;
mod broadcast;
mod convolution;
pub(crate) mod decoding;
pub(crate) mod elementwise;
mod finished;
mod movement;
mod normalize;
mod pad;
mod planes;
mod pool;
mod power;
pub(crate) mod product;
mod reduce;
mod resample;
mod softmax;
mod transposed;
mod unary;
mod vector;

/// Fast code for one result of an op.
pub(crate) trait Kernel: Send + Sync {
    /// The fp64 values of working memory that [`Kernel::run`] needs.
    fn scratch(&self) -> usize {
        0
    }

    /// Computes the result from the operands. `result` is aligned for, and has the size of, the result's
    /// type. Allocates nothing.
    fn run(&self, operands: Sources<'_>, result: &mut [u8], scratch: &mut [f64], threads: &Threads);

    /// The kernel, if ops that compute element by element may be part of its step.
    fn surrounded(&self) -> Option<&dyn Surrounded> {
        None
    }
}

/// Computes the fp32 values of neighbouring elements of an operand, from the one at this position on; or goes on with
/// those that become elements of a result.
pub(crate) type Elements<'a> = &'a (dyn Fn(usize, &mut [f32]) + Sync);

/// What is part of a kernel's step.
#[derive(Clone, Copy, Default)]
pub(crate) struct Around<'a> {
    /// What computes the kernel's only operand, which is nowhere in memory.
    pub prologue: Option<Elements<'a>>,
    /// What goes on with all elements of the result, part by part, before they are rounded.
    pub epilogue: Option<Elements<'a>>,
}

/// A kernel that ops which compute element by element may be part of.
pub(crate) trait Surrounded {
    /// Whether they, with so much work for one element, may compute its only operand, and not only go on with its result.
    fn takes_prologue(&self, _work: usize) -> bool {
        false
    }

    /// [`Kernel::run`], with what is around.
    fn run_within(
        &self,
        operands: Sources<'_>,
        result: &mut [u8],
        scratch: &mut [f64],
        threads: &Threads,
        around: Around<'_>,
    );
}

/// The only operand of a kernel: in memory, or computed where it is read.
#[derive(Clone, Copy)]
pub(crate) struct Only<'a, T> {
    values: &'a [T],
    prologue: Option<Elements<'a>>,
}

impl<'a, T: Float> Only<'a, T> {
    /// The first of these operands, or what `prologue` computes.
    pub(crate) fn new(operands: Sources<'a>, prologue: Option<Elements<'a>>) -> Only<'a, T> {
        // With a prologue, the operands are its own.
        let values = if prologue.is_some() { &[] } else { operands.values(0) };
        Only { values, prologue }
    }

    /// The elements from a position on, in fp32.
    #[inline(always)]
    pub(crate) fn read(&self, position: usize, to: &mut [f32]) {
        match self.prologue {
            Some(prologue) => prologue(position, to),
            None => T::widen(&self.values[position..position + to.len()], to),
        }
    }
}

/// A kernel and the operands that it reads, in its order.
pub(crate) struct Work {
    /// The kernel.
    pub kernel: Box<dyn Kernel>,
    /// Its operands.
    pub operands: Vec<Operand>,
}

/// Results that a step computes at most.
pub(crate) const MOST_RESULTS: usize = 3;

/// Fast code for several results, of several ops.
pub(crate) trait Joint: Send + Sync {
    /// The fp64 values of working memory that [`Joint::run`] needs.
    fn scratch(&self) -> usize;

    /// Computes the results, at most [`MOST_RESULTS`], from the operands: [`Kernel::run`] for each of them.
    fn run(&self, operands: Sources<'_>, results: &mut [&mut [u8]], scratch: &mut [f64], threads: &Threads);
}

/// A kernel of several results, which it computes from its operands whatever the values of constants are.
pub(crate) struct JointWork {
    /// The kernel.
    pub kernel: Box<dyn Joint>,
    /// Its operands, in its order.
    pub operands: Vec<Operand>,
    /// Its results, in its order.
    pub values: Vec<ValueId>,
}

/// How an op is run.
pub(crate) enum Choice {
    /// Its result has the same bytes as this operand.
    Alias(Operand),
    /// By one kernel per result.
    Kernels(Vec<Work>),
    /// Element by element, from these operands, which broadcast.
    Elementwise(Arc<dyn StripFunction>, Vec<Operand>),
}

impl Choice {
    fn kernel(kernel: impl Kernel + 'static, operands: Vec<Operand>) -> Choice {
        Choice::Kernels(vec![Work { kernel: Box::new(kernel), operands }])
    }
}

/// The way to run an op whose operands and results have known dimensions; `None` where it has no kernel.
///
/// The kind of choice and the operands depend on types and structural constants only, so that another value
/// of a constant changes nothing but the kernel itself.
///
/// # Errors
///
/// When the row refuses the operands.
pub(crate) fn choose(
    row: &OpDef,
    operands: &Operands<'_>,
    results: &[TensorType],
    threads: &Threads,
) -> Result<Option<Choice>, OpError> {
    match row.name {
        "identity" | "reshape" | "expand_dims" | "squeeze" => alias(row, operands, results),
        "conv" | "matmul" | "linear" => product::product(row, operands, threads),
        "add" | "sub" | "mul" | "real_div" | "floor_div" | "mod" | "maximum" | "minimum" | "pow"
        | "equal" | "not_equal" | "less" | "less_equal" | "greater" | "greater_equal" | "select"
        | "threshold" => binary::binary(row.name, operands, results),
        "abs" | "sign" | "square" | "sqrt" | "rsqrt" | "inverse" | "log" | "exp" | "exp2" | "sin" | "cos"
        | "tan" | "acos" | "asin" | "atan" | "atanh" | "erf" | "floor" | "ceil" | "round" | "clip"
        | "relu" | "tanh" | "sigmoid" | "silu" | "gelu" | "softplus" | "elu" | "leaky_relu"
        | "linear_activation" | "clamped_relu" | "relu6" | "scaled_tanh" | "sigmoid_hard" | "softsign"
        | "thresholded_relu" => unary::unary(row, operands),
        "prelu" => binary::prelu(operands),
        "reduce_sum" | "reduce_mean" | "reduce_max" | "reduce_min" | "reduce_sum_square" => {
            reduce::reduction(row, operands)
        }
        "softmax" => softmax::softmax(row, operands),
        "layer_norm" | "instance_norm" | "batch_norm" => normalize::normalization(row, operands, threads),
        "max_pool" | "avg_pool" => pool::pool(row, operands, threads),
        "transpose" => movement::transpose(row, operands),
        "split" => movement::split(row, operands, results),
        "slice_by_index" | "slice_by_size" => movement::slice(row, operands),
        "crop" | "reverse" | "tile" | "pixel_shuffle" | "pixel_unshuffle" | "depth_to_space"
        | "space_to_depth" => movement::moved(row, operands, results),
        "pad" => pad::pad(row, operands, results),
        "upsample_nearest_neighbor"
        | "upsample_bilinear"
        | "resize_nearest_neighbor"
        | "resize_bilinear"
        | "resize" => resample::resampling(row, operands, results, threads),
        "conv_transpose" => transposed::transposed(row, operands, threads),
        "concat" => movement::concat(row, operands, results),
        "stack" => movement::stack(row, operands, results),
        "cast" => movement::cast(operands, results),
        _ => Ok(None),
    }
}

/// An op that gives the elements of `x` another shape, or none.
fn alias(row: &OpDef, operands: &Operands<'_>, results: &[TensorType]) -> Result<Option<Choice>, OpError> {
    let x: Operand = operands.bind("x", None)?;
    let same = is_decided(row, operands, results)? && results.len() == 1;
    Ok((same && results[0].dtype == x.dtype() && !x.is_state).then_some(Choice::Alias(x)))
}

/// Whether types and constants decide what the results are. A shape that data decides may be another than the declared
/// one, which only the op's meaning finds out.
fn is_decided(row: &OpDef, operands: &Operands<'_>, results: &[TensorType]) -> Result<bool, OpError> {
    Ok((row.infer)(operands)? == results)
}
