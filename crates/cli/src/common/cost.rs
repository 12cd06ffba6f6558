//! What a run of a function costs, from its declared types: FLOPs, and bytes held and moved.
//!
//! A multiply-add is two FLOPs. Moving data is none. Everything else counts per element:
//!
//! | ops | FLOPs |
//! |---|---|
//! | `matmul`, `linear` | 2·batch·m·k·n, and batch·m·n for a bias |
//! | `conv` | 2·(C_in / groups)·Π K per element of the result, and 1 for a bias |
//! | `reduce_*`, `cumsum` | 1 per element of `x`; 2 for `reduce_sum_square`, `reduce_log_sum_exp` and the norms |
//! | `softmax` | 5 per element: maximum, difference, exponential, sum, quotient |
//! | `layer_norm` | 7 per element: mean, difference, square, sum, and three for scale, gain and bias |
//! | `batch_norm` | 2 per element: statistics are constants, so it is a scale and a shift |
//! | other | 1 per element of the result, whatever the function |

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use anemone_mil::bind::{self, Scope};
use anemone_mil::ops::{
    self, Conv, Conv17, Convolution, Given, Linear, Linear17, Matmul, Matmul17, MatrixProduct, OpDef,
    Operand, Operands, Row,
};
use anemone_mil::program::{Argument, BlobReference, Function, Literal, LiteralValue, Op, ValueId};
use anemone_mil::tensor::Tensor;
use anemone_mil::types::{Dim, Opset, Shape, TensorType, Type};
use anemone_mil::verify::CONST;
use serde::Serialize;

/// Ops that compute nothing.
const MOVEMENT: &[&str] = &[
    "cast",
    "concat",
    "constexpr_affine_dequantize",
    "depth_to_space",
    "expand_dims",
    "fill",
    "fill_like",
    "flatten2d",
    "gather",
    "gather_along_axis",
    "gather_nd",
    "identity",
    "one_hot",
    "pad",
    "pixel_shuffle",
    "pixel_unshuffle",
    "range_1d",
    "read_state",
    "reshape",
    "reshape_like",
    "reverse",
    "scatter",
    "scatter_along_axis",
    "scatter_nd",
    "shape",
    "slice_by_index",
    "slice_by_size",
    "slice_update",
    "sliding_windows",
    "space_to_depth",
    "split",
    "squeeze",
    "stack",
    "tensor_buffer_to_tensor",
    "tensor_to_tensor_buffer",
    "tile",
    "transpose",
    "write_state",
];

/// FLOPs of one run.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub struct Flops {
    /// Those that can be counted.
    pub counted: u64,
    /// Whether every op could be counted.
    pub complete: bool,
    /// Ops with a `?` among the dimensions that decide.
    pub ops_of_unknown_size: usize,
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
        if !self.unknown_ops.is_empty() {
            let names: Vec<&str> = self.unknown_ops.iter().map(String::as_str).collect();
            reasons.push(format!("not known: {}", names.join(", ")));
        }
        write!(f, " ({})", reasons.join("; "))
    }
}

/// The FLOPs of one run of a function.
pub fn flops(function: &Function) -> Flops {
    let scope = Declared::new(function);
    let mut flops = Flops { complete: true, ..Flops::default() };
    for op in function.ops.iter().filter(|op| op.name != CONST) {
        let Some(row) = ops::lookup(&op.name, op.opset.unwrap_or(function.opset)) else {
            flops.unknown_ops.insert(op.name.clone());
            flops.complete = false;
            continue;
        };
        match bind::operands(op, row, &scope).ok().and_then(|operands| flops_of(row, op, &operands, &scope)) {
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
fn flops_of(row: &OpDef, op: &Op, operands: &Operands<'_>, scope: &Declared<'_>) -> Option<u64> {
    let newer = row.since >= Opset::IOS17;
    let of_x = |factor: u64| match operands.get("x")? {
        Given::One(x) => x.shape().elements()?.checked_mul(factor),
        Given::Tuple(_) => None,
    };
    match row.name {
        name if MOVEMENT.contains(&name) => Some(0),
        "matmul" if newer => product(&MatrixProduct::of_matmul_17(&Matmul17::bind(operands).ok()?).ok()?),
        "matmul" => product(&MatrixProduct::of_matmul(&Matmul::bind(operands).ok()?).ok()?),
        "linear" if newer => product(&MatrixProduct::of_linear_17(&Linear17::bind(operands).ok()?).ok()?),
        "linear" => product(&MatrixProduct::of_linear(&Linear::bind(operands).ok()?).ok()?),
        "conv" if newer => convolution(&Convolution::of_17(&Conv17::bind(operands).ok()?).ok()?),
        "conv" => convolution(&Convolution::of(&Conv::bind(operands).ok()?).ok()?),
        "softmax" => of_x(5),
        "layer_norm" => of_x(7),
        "batch_norm" | "reduce_sum_square" | "reduce_log_sum_exp" | "reduce_l2_norm" => of_x(2),
        "cumsum" => of_x(1),
        name if name.starts_with("reduce_") => of_x(1),
        _ => scope.ty(*op.results.first()?)?.shape.elements(),
    }
}

fn product(product: &MatrixProduct<'_>) -> Option<u64> {
    let sums = product.batch.elements()?.checked_mul(product.m.known()?)?.checked_mul(product.n.known()?)?;
    terms(sums, product.k.known()?, product.bias.is_some())
}

fn convolution(convolution: &Convolution<'_>) -> Option<u64> {
    let kernel: &[Dim] = convolution.weight.shape().0.get(1..)?;
    let length = Shape(kernel.to_vec()).elements()?;
    terms(convolution.result.shape.elements()?, length, convolution.bias.is_some())
}

/// FLOPs of sums of products of this length.
fn terms(sums: u64, length: u64, bias: bool) -> Option<u64> {
    length.checked_mul(2)?.checked_add(u64::from(bias))?.checked_mul(sums)
}

/// A function's values as declared.
struct Declared<'a> {
    function: &'a Function,
    constants: HashMap<ValueId, Option<Arc<Tensor>>>,
}

impl<'a> Declared<'a> {
    fn new(function: &'a Function) -> Declared<'a> {
        let constant = |op: &Op| {
            let known = op.attributes.get("val").and_then(Literal::as_tensor).cloned();
            let fixed = op.name == CONST || op.name.starts_with("constexpr_");
            op.results.first().filter(|_| fixed).map(|result| (*result, known))
        };
        Declared { function, constants: function.ops.iter().filter_map(constant).collect() }
    }

    fn ty(&self, id: ValueId) -> Option<TensorType> {
        self.function.values.get(id.0 as usize)?.ty.held_tensor()
    }
}

impl Scope for Declared<'_> {
    fn value(&self, id: ValueId) -> Option<Operand> {
        let is_state = matches!(self.function.values.get(id.0 as usize)?.ty, Type::State(_));
        let constant = self.constants.get(&id);
        let value = constant.cloned().flatten();
        Some(Operand { ty: self.ty(id)?, constant: constant.is_some(), value, id: Some(id), is_state })
    }

    fn blob(&self, _: &BlobReference, _: &TensorType) -> Option<Arc<Tensor>> {
        None
    }
}

/// The size of a tensor in bytes, where it is known.
fn bytes(ty: &TensorType) -> Option<u64> {
    let bits = ty.shape.elements()?.checked_mul(u64::from(ty.dtype.bits()))?;
    (ty.dtype.bits() > 0).then(|| bits.div_ceil(8))
}

/// What a function has learned: every tensor that it keeps in a blob file, and floating-point constants of
/// rank 1 or more in its text. A blob that is referred to twice counts once.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub struct Parameters {
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
pub fn operations(function: &Function) -> usize {
    function.ops.iter().filter(|op| op.name != CONST).count()
}

/// The parameters of a function.
pub fn parameters(function: &Function) -> Parameters {
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
    for op in &function.ops {
        op.attributes.iter().for_each(|(_, literal)| add(literal));
        for (_, argument) in op.arguments.iter() {
            let items = match argument {
                Argument::Tuple(items) => items.as_slice(),
                single => std::slice::from_ref(single),
            };
            for item in items {
                if let Argument::Literal(literal) = item {
                    add(literal);
                }
            }
        }
    }
    parameters
}

/// The bytes that one run moves, `None` where a dimension is unknown. Parameters are beside these.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Traffic {
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
pub fn traffic(function: &Function) -> Traffic {
    let size = |ids: &[ValueId]| {
        ids.iter().try_fold(0u64, |sum, id| {
            let ty = function.values.get(id.0 as usize)?.ty.held_tensor()?;
            sum.checked_add(bytes(&ty)?)
        })
    };
    let outputs: HashSet<ValueId> = function.body.outputs.iter().copied().collect();
    let computed =
        function.ops.iter().filter(|op| op.name != CONST).flat_map(|op| op.results.iter().copied());
    let intermediates: Vec<ValueId> = computed.filter(|id| !outputs.contains(id)).collect();
    Traffic {
        inputs: size(&function.body.inputs),
        outputs: size(&function.body.outputs),
        intermediates: size(&intermediates),
    }
}
