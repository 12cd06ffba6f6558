//! What a run of a function costs, from its declared types: FLOPs, and bytes held and moved.
//!
//! What an op's FLOPs are its row says: a multiply-add is two, moving data none.

use std::collections::{BTreeSet, HashSet};
use std::fmt;

use anemone_mil::bind::{self, Facts};
use anemone_mil::ops::{self, OpDef, Operands};
use anemone_mil::program::{Function, Literal, LiteralValue, Op, OpId, ValueId};
use anemone_mil::types::TensorType;
use anemone_mil::verify::CONST;
use serde::Serialize;

/// FLOPs of one run.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Flops {
    /// Those that can be counted.
    pub counted: u64,
    /// Whether every op could be counted.
    pub complete: bool,
    /// Ops with a `?` among the dimensions that decide.
    pub ops_of_unknown_size: usize,
    /// Ops in nested blocks, which the run decides how often to run.
    pub ops_in_blocks: usize,
    /// Ops that are not known here, by name.
    pub unknown_ops: BTreeSet<String>,
}

impl fmt::Display for Flops {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.complete {
            return write!(f, "{}", self.counted);
        }
        write!(f, "unknown, at least {}", self.counted)?;
        let mut reasons = Vec::new();
        if self.ops_of_unknown_size > 0 {
            reasons.push(format!("{} ops have unknown dimensions", self.ops_of_unknown_size));
        }
        if self.ops_in_blocks > 0 {
            reasons.push(format!("ops in nested blocks, run as the data decides: {}", self.ops_in_blocks));
        }
        if !self.unknown_ops.is_empty() {
            let names: Vec<&str> = self.unknown_ops.iter().map(String::as_str).collect();
            reasons.push(format!("not known: {}", names.join(", ")));
        }
        write!(f, " ({})", reasons.join("; "))
    }
}

/// The FLOPs of one run of a function.
pub(crate) fn flops(function: &Function) -> Flops {
    flops_where(function, |_| true)
}

/// The FLOPs of a function's products of matrices.
pub(crate) fn flops_of_products(function: &Function) -> Flops {
    flops_where(function, |name| matches!(name, "matmul" | "conv" | "linear"))
}

/// The FLOPs of the ops with such names.
fn flops_where(function: &Function, counts: impl Fn(&str) -> bool) -> Flops {
    let facts = Facts::of(function);
    let mut flops = Flops { complete: true, ..Flops::default() };
    let in_body: HashSet<OpId> = function.body.ops.iter().copied().collect();
    for (id, op) in function.walk().filter(|(_, op)| op.name != CONST && counts(&op.name)) {
        if !in_body.contains(&id) {
            flops.ops_in_blocks += 1;
            flops.complete = false;
            continue;
        }
        let Some(row) = ops::lookup(&op.name, op.opset.unwrap_or(function.opset)) else {
            flops.unknown_ops.insert(op.name.clone());
            flops.complete = false;
            continue;
        };
        match bind::operands(op, row, &facts).ok().and_then(|operands| flops_of(row, op, &operands, &facts)) {
            Some(counted) => flops.counted = flops.counted.saturating_add(counted),
            None => {
                flops.ops_of_unknown_size += 1;
                flops.complete = false;
            }
        }
    }
    flops
}

/// The FLOPs of one op; `None` where its dimensions do not say.
fn flops_of(row: &OpDef, op: &Op, operands: &Operands<'_>, facts: &Facts) -> Option<u64> {
    let results: Option<Vec<TensorType>> =
        op.results.iter().map(|&result| facts.ty(result).held_tensor()).collect();
    (row.flops)(operands, &results?)
}

/// The size of a tensor in bytes, where it is known.
fn bytes(ty: &TensorType) -> Option<u64> {
    let bits = ty.shape.elements()?.checked_mul(u64::from(ty.dtype.bits()))?;
    (ty.dtype.bits() > 0).then(|| bits.div_ceil(8))
}

/// What a function has learned: every tensor that it keeps in a blob file, and floating-point constants of
/// rank 1 or more in its text. A blob that is referred to twice counts once.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Parameters {
    /// Tensors.
    pub tensors: u64,
    /// Their values.
    pub count: u64,
    /// Their size.
    pub bytes: u64,
}

impl fmt::Display for Parameters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tensors = if self.tensors == 1 { "tensor" } else { "tensors" };
        write!(f, "{} in {} {tensors}, {} bytes", self.count, self.tensors, self.bytes)
    }
}

/// The number of a function's operations; constants are not counted.
pub(crate) fn operations(function: &Function) -> usize {
    function.walk().filter(|(_, op)| op.name != CONST).count()
}

/// The parameters of a function.
pub(crate) fn parameters(function: &Function) -> Parameters {
    let mut seen = HashSet::new();
    let mut parameters = Parameters::default();
    let mut add = |literal: &Literal| {
        let Some(ty) = literal.ty.as_tensor() else { return };
        let counts = match &literal.value {
            LiteralValue::Blob(reference) => seen.insert(reference.clone()),
            LiteralValue::Tensor(_) => ty.dtype.is_float() && ty.shape.rank() > 0,
            _ => false,
        };
        if let (true, Some(elements), Some(bytes)) = (counts, ty.shape.elements(), bytes(&ty)) {
            parameters.tensors += 1;
            parameters.count = parameters.count.saturating_add(elements);
            parameters.bytes = parameters.bytes.saturating_add(bytes);
        }
    };
    function.walk().flat_map(|(_, op)| op.literals()).for_each(|(_, literal)| add(literal));
    parameters
}

/// The bytes that one run moves, `None` where a dimension is unknown. Parameters are beside these.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Traffic {
    /// Inputs, read once.
    pub inputs: Option<u64>,
    /// Outputs, written once.
    pub outputs: Option<u64>,
    /// All other results of ops, each written once.
    pub intermediates: Option<u64>,
}

impl fmt::Display for Traffic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown =
            |bytes: Option<u64>| bytes.map_or_else(|| "unknown".to_string(), |bytes| bytes.to_string());
        let (inputs, outputs) = (shown(self.inputs), shown(self.outputs));
        write!(f, "inputs {inputs}, outputs {outputs}, intermediates {}", shown(self.intermediates))
    }
}

/// The bytes that one run of a function moves.
pub(crate) fn traffic(function: &Function) -> Traffic {
    let size = |ids: &[ValueId]| {
        ids.iter().try_fold(0u64, |sum, id| {
            let ty = function.values.get(id.0 as usize)?.ty.held_tensor()?;
            sum.checked_add(bytes(&ty)?)
        })
    };
    let outputs: HashSet<ValueId> = function.body.outputs.iter().copied().collect();
    let computed =
        function.walk().filter(|(_, op)| op.name != CONST).flat_map(|(_, op)| op.results.iter().copied());
    let intermediates: Vec<ValueId> = computed.filter(|id| !outputs.contains(id)).collect();
    Traffic {
        inputs: size(&function.body.inputs),
        outputs: size(&function.body.outputs),
        intermediates: size(&intermediates),
    }
}
