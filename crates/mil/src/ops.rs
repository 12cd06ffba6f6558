//! The table of ops: one row per op, read by everything else.
//!
//! A row of [`ops!`](crate::ops!) names the op, its parameters, its signatures, and the functions behind it: the type
//! rule (`infer`), the meaning (`eval`) and the gradient (`vjp`). From it come the entries of the table, a struct with
//! one typed field per parameter, the generic checks, a typed call for building programs ([`call`]), and a
//! documentation page, which is the struct's. A newer signature says only from which opset on types or parameters
//! widen; the struct says by which signature it was bound.
//!
//! Signatures follow the op registry of coremltools 9.0; meanings its docstrings.

use std::collections::HashMap;
use std::fmt;
use std::sync::LazyLock;

use crate::builder::BuildError;
use crate::error::ErrorKind;
use crate::eval::{Evaluation, ulp};
use crate::grad::Pullback;
use crate::program::ValueId;
use crate::tensor::Tensor;
use crate::types::{Dim, Opset, Shape, TensorType, Type};

mod activation;
mod arrange;
mod attention;
mod batch;
mod blocks;
mod cast;
mod channelwise;
mod classify;
mod constexpr;
mod control;
mod conv_quantized;
mod conv_transpose;
mod convolution;
mod copy;
mod crop;
mod cut;
mod depth;
mod dtypes;
mod einsum;
mod elementwise;
mod flatten;
mod gather;
mod index;
mod join;
mod list;
mod matmul;
mod movement;
mod normalize;
mod one_hot;
mod operand;
mod parameter;
mod pool;
mod quantization;
mod random;
mod rectifier;
mod recurrent;
mod reduce;
mod refusal;
mod repeat;
mod resample;
mod resize;
mod response;
mod row;
pub(crate) mod rules;
mod scatter;
mod sequence;
mod shape;
mod slice;
mod state;
mod suppression;
mod taps;
#[cfg(test)]
mod testing;
mod topk;
mod trigonometry;
mod unary;
mod upsample;
mod windows;
mod writer;

pub use activation::*;
pub use arrange::*;
pub use attention::*;
pub use batch::*;
pub use blocks::{BlockMeaning, BlockRules, BlockType, RunBlocks, join as join_types, refine as refine_type};
pub use cast::*;
pub use channelwise::*;
pub use classify::*;
pub use constexpr::*;
pub use control::*;
pub use conv_quantized::*;
pub use conv_transpose::*;
pub use convolution::*;
pub use copy::{Moved, Run};
pub use crop::*;
pub use cut::Cut;
pub use depth::*;
pub use dtypes::*;
pub use einsum::*;
pub use elementwise::*;
pub use flatten::*;
pub use gather::*;
pub use join::*;
pub use list::*;
pub use matmul::*;
pub use normalize::*;
pub use one_hot::*;
pub use operand::{Given, Operand, Operands};
pub use parameter::{Carried, Constant, List, OperandForm, Parameter, ParameterKind, State};
pub use pool::*;
pub use quantization::*;
pub use random::*;
pub use rectifier::*;
pub use recurrent::*;
pub use reduce::*;
pub use refusal::{BlockFault, OpError};
pub use repeat::*;
pub use resample::*;
pub use resize::*;
pub use response::*;
#[doc(hidden)]
pub use row::{BLANK_ROW, differentiate, flops, of_signature, without_raw, write_out};
pub use row::{Row, Vjp, WriteOut};
pub use scatter::*;
pub use sequence::*;
pub use shape::*;
pub use slice::*;
pub use state::*;
pub use suppression::*;
pub use taps::{Resampled, Taps};
pub use topk::*;
pub use trigonometry::*;
pub use unary::*;
pub use upsample::*;
pub use windows::*;
pub use writer::Writer;

/// Declares the families of ops: the rows of each, and the typed calls that build its ops.
macro_rules! families {
    ($($family:ident),* $(,)?) => {
        /// Every row, family by family.
        static FAMILIES: &[&[OpDef]] = &[$($family::ROWS),*];

        /// Typed calls that build ops: one function per op, which takes what the op requires; what may be left out
        /// is given by methods. A call becomes part of a function by
        /// [`FunctionBuilder::bind`](crate::builder::FunctionBuilder::bind), or is itself an operand of another.
        pub mod call {
            $(pub use super::$family::typed_calls::*;)*
        }
    };
}

families!(
    activation,
    arrange,
    attention,
    batch,
    cast,
    channelwise,
    classify,
    constexpr,
    control,
    conv_quantized,
    conv_transpose,
    convolution,
    crop,
    depth,
    einsum,
    elementwise,
    flatten,
    gather,
    join,
    list,
    matmul,
    normalize,
    one_hot,
    pool,
    quantization,
    random,
    rectifier,
    recurrent,
    reduce,
    repeat,
    resample,
    resize,
    response,
    scatter,
    sequence,
    shape,
    slice,
    state,
    suppression,
    topk,
    trigonometry,
    unary,
    upsample,
    windows,
);

/// By how much a backend's result may differ from the exact one rounded once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accuracy {
    /// Not at all.
    Exact,
    /// By this many units in the last place of the result's type.
    Ulp(u32),
    /// As the order of a sum of k products makes it: `|Δ| ≤ 1e-5 · Σ|x||w|` plus half a unit in the last
    /// place of the result, plus this many units for what happens after the sum.
    Sum(u32),
}

impl Accuracy {
    /// By how much a result of this type may differ from the exact `reference`; `magnitude` is `Σ|x||w|` where the op is
    /// a sum.
    pub fn tolerance(self, ty: &TensorType, reference: f64, magnitude: f64) -> f64 {
        let unit = ulp(ty.dtype, reference).unwrap_or(0.0);
        match self {
            Accuracy::Exact => 0.5 * unit,
            Accuracy::Ulp(units) => (f64::from(units) + 0.5) * unit,
            Accuracy::Sum(units) => 1e-5 * magnitude + (f64::from(units) + 0.5) * unit,
        }
    }
}

/// A parameter in the table.
#[derive(Debug, Clone, Copy)]
pub struct ParameterDef {
    /// Its name.
    pub name: &'static str,
    /// What may be given for it.
    pub kind: ParameterKind,
    /// The type variable that its element type is.
    pub variable: Option<&'static str>,
    /// Whether it may be left out.
    pub optional: bool,
    /// The default, as the row writes it.
    pub default: Option<&'static str>,
    /// The first opset whose signature has it.
    pub since: Opset,
    /// The first opset that does not ask for a constant any more, where the first signature does.
    pub constant_until: Option<Opset>,
    /// The first opset whose signature has it no more; those before it require it.
    pub only_before: Option<Opset>,
}

/// What is known of the gradient of an op.
#[derive(Clone, Copy)]
pub enum Gradient {
    /// The rule that builds it.
    Rule(fn(&Operands<'_>, &mut Pullback<'_>) -> Result<(), OpError>),
    /// There is none, for this reason.
    None(&'static str),
    /// The row says nothing: no operand or no result is of floating point.
    Unsaid,
}

/// What writes an op out as simpler ones.
pub type WrittenOut = fn(&Operands<'_>, &mut Writer<'_>) -> Result<Vec<ValueId>, BuildError>;

/// A type variable of a signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Variable {
    /// Its name.
    pub name: &'static str,
    /// The element types that it ranges over; none, where it is another name.
    pub set: DTypeSet,
    /// The variable that it is another name for in this signature.
    pub same_as: Option<&'static str>,
}

/// One op as one of its signatures has it.
///
/// The signatures of an op differ in `since`, `parameters` and `variables` only.
pub struct OpDef {
    /// The op's name.
    pub name: &'static str,
    /// The first opset with this signature.
    pub since: Opset,
    /// Its parameters.
    pub parameters: &'static [ParameterDef],
    /// Type variables with the element types they range over; parameters that share a variable share an
    /// element type.
    pub variables: &'static [Variable],
    /// What the op computes.
    pub documentation: &'static str,
    /// The type rule: the types of the results, as far as the operands determine them.
    pub infer: fn(&Operands<'_>) -> Result<Vec<TensorType>, OpError>,
    /// The meaning.
    pub eval: fn(&Operands<'_>, &mut Evaluation) -> Result<Vec<Tensor>, OpError>,
    /// The gradient.
    pub gradient: Gradient,
    /// Writes the op out as simpler ones, which compute the same up to its accuracy; gives a value for each result. The
    /// dimensions of the operands must be known.
    pub write_out: Option<WrittenOut>,
    /// The floating-point operations of one run with results of these types: a multiply-add is two, moving data none,
    /// what the row does not say one per element of the first result. `None` where the dimensions do not say.
    pub flops: fn(&Operands<'_>, &[TensorType]) -> Option<u64>,
    /// What a backend's results may differ by.
    pub accuracy: Accuracy,
    /// Whether the op decompresses a constant: its result is a constant, and older opsets write its operands
    /// as attributes.
    pub constexpr: bool,
    /// What the op makes of the blocks nested in it; `None` for an op that has none.
    pub blocks: Option<BlockRules>,
    /// Whether the results are lists; the type rule gives the tensor that keeps each, whose first dimension is the
    /// list's length.
    pub gives_list: bool,
    /// Whether the last result is a dictionary, of which the first is a key; the type rule gives the tensor that keeps its
    /// values, in the order of their keys.
    pub gives_dictionary: bool,
    /// Whether the op reads or writes a state, or draws numbers as if from one, so that it may be neither left out nor
    /// moved.
    pub stateful: bool,
    /// Whether the first two operands may change places without a bit of the result changing, those of a NaN aside.
    pub commutative: bool,
    /// Whether the results follow from the types of the operands alone, as dimensions do.
    pub from_types: bool,
    /// Whether the signatures differ not only in what the op takes, but in what it means.
    pub by_opset: bool,
    /// Whether each element of the result is computed from the elements at its place in the operands, which broadcast.
    pub elementwise: bool,
}

impl fmt::Debug for OpDef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} since {}", self.name, self.since)
    }
}

impl OpDef {
    /// The parameter with this name.
    pub fn parameter(&self, name: &str) -> Option<&'static ParameterDef> {
        self.parameters.iter().find(|parameter| parameter.name == name)
    }

    /// The types of the results of an op with these operands and blocks.
    ///
    /// # Errors
    ///
    /// When the op refuses them.
    pub fn result_types(&self, operands: &Operands<'_>, blocks: &[BlockType]) -> Result<Vec<Type>, OpError> {
        if let Some(rules) = &self.blocks {
            return (rules.infer)(operands, blocks);
        }
        let types = (self.infer)(operands)?;
        if let ([key, values], true) = (types.as_slice(), self.gives_dictionary) {
            let value = TensorType { dtype: values.dtype, shape: Shape(Vec::new()) };
            let [key, value] = [key.clone(), value].map(Type::Tensor);
            return Ok(vec![key.clone(), Type::Dict(Box::new(key), Box::new(value))]);
        }
        Ok(types
            .into_iter()
            .map(|ty| if self.gives_list { Type::list_of(ty) } else { Type::Tensor(ty) })
            .collect())
    }

    /// Results of the op: its meaning, held to its type rule and the budget.
    ///
    /// # Errors
    ///
    /// When the op refuses its operands, or the budget does not suffice.
    pub fn apply(
        &self,
        operands: &Operands<'_>,
        evaluation: &mut Evaluation,
    ) -> Result<Vec<Tensor>, OpError> {
        let types = (self.infer)(operands)?;
        // The length of a list that can grow is not in its type; the meaning asks for what it needs.
        for ty in types.iter().filter(|ty| !(self.gives_list && ty.shape.0.first() == Some(&Dim::Unknown))) {
            evaluation.allocate(&ty.shape)?;
        }
        evaluation.charge(operands.elements())?;
        // Nothing to compute, and so no product of dimensions to overflow.
        if !types.is_empty() && types.iter().all(|ty| ty.shape.elements() == Some(0)) {
            return evaluation.empty_results(&types);
        }
        let results = (self.eval)(operands, evaluation)?;
        let fits = |(ty, tensor): (&TensorType, &Tensor)| ty.shape.agrees_with(&tensor.ty().shape);
        if types.len() == results.len() && types.iter().zip(&results).all(fits) {
            return Ok(results);
        }
        // A meaning must give what its type rule promises; anything else is a fault of the row.
        Err(OpError::new(ErrorKind::Malformed, None, "the results are not of the inferred types"))
    }

    /// The element types that a parameter takes.
    pub fn domain(&self, parameter: &ParameterDef) -> Option<DTypeSet> {
        match parameter.variable {
            Some(name) => self.variables.iter().find(|variable| variable.name == name).map(|v| v.set),
            None => parameter.kind.dtypes,
        }
    }
}

/// Every signature of every op.
pub fn rows() -> impl Iterator<Item = &'static OpDef> {
    FAMILIES.iter().flat_map(|rows| rows.iter())
}

/// The signatures of an op, oldest first.
pub fn signatures(name: &str) -> impl Iterator<Item = &'static OpDef> {
    static BY_NAME: LazyLock<HashMap<&str, Vec<&OpDef>>> = LazyLock::new(|| {
        let mut by_name: HashMap<&str, Vec<&OpDef>> = HashMap::new();
        rows().for_each(|row| by_name.entry(row.name).or_default().push(row));
        by_name
    });
    BY_NAME.get(name).into_iter().flatten().copied()
}

/// The signature of an op that holds in an opset: the newest that is not newer than it.
pub fn lookup(name: &str, opset: Opset) -> Option<&'static OpDef> {
    signatures(name).filter(|row| row.since <= opset).max_by_key(|row| row.since)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_signature_is_there_once() {
        let mut signatures: Vec<(&str, Opset)> = rows().map(|row| (row.name, row.since)).collect();
        let count = signatures.len();
        signatures.sort_unstable();
        signatures.dedup();
        assert_eq!(signatures.len(), count);
    }

    #[test]
    fn signatures_widen() {
        for row in rows() {
            for newer in signatures(row.name).filter(|newer| newer.since > row.since) {
                for parameter in row.parameters {
                    let ended = parameter.only_before.is_some_and(|end| end <= newer.since);
                    let kept = newer.parameter(parameter.name).is_some();
                    assert!(kept != ended, "{newer:?}: {}", parameter.name);
                }
            }
        }
    }
}
