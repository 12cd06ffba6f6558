//! The table of ops: one row per op and signature, read by everything else.
//!
//! A row of [`ops!`](crate::ops) names the op, its parameters and the functions behind it: the type rule
//! (`infer`) and the meaning (`eval`). From it come the table entry, a struct with one typed field per
//! parameter, the generic checks, and a documentation page, which is the struct's. A newer signature of the
//! same op is a second row with a later `since`.
//!
//! Signatures follow the op registry of coremltools 9.0; meanings its docstrings.

use std::fmt;
use std::sync::Arc;

use crate::error::ErrorKind;
use crate::eval::Evaluation;
use crate::program::ValueId;
use crate::tensor::Tensor;
use crate::types::{DType, Opset, Shape, TensorType};

mod activation;
mod cast;
mod constexpr;
mod convolution;
mod elementwise;
mod gather;
mod join;
mod matmul;
mod movement;
mod normalize;
mod parameter;
mod reduce;
mod repeat;
pub(crate) mod rules;
mod scatter;
mod sequence;
mod shape;
mod slice;
mod state;
#[cfg(test)]
mod testing;
mod unary;

pub use activation::*;
pub use cast::*;
pub use constexpr::*;
pub use convolution::*;
pub use elementwise::*;
pub use gather::*;
pub use join::*;
pub use matmul::*;
pub use normalize::*;
pub use parameter::{Constant, OperandForm, Parameter, ParameterKind, State};
pub use reduce::*;
pub use repeat::*;
pub use scatter::*;
pub use sequence::*;
pub use shape::*;
pub use slice::*;
pub use state::*;
pub use unary::*;

/// Every row, family by family.
static FAMILIES: &[&[OpDef]] = &[
    activation::ROWS,
    cast::ROWS,
    constexpr::ROWS,
    convolution::ROWS,
    elementwise::ROWS,
    gather::ROWS,
    join::ROWS,
    matmul::ROWS,
    normalize::ROWS,
    reduce::ROWS,
    repeat::ROWS,
    scatter::ROWS,
    sequence::ROWS,
    shape::ROWS,
    slice::ROWS,
    state::ROWS,
    unary::ROWS,
];

/// A set of element types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DTypeSet(u32);

impl DTypeSet {
    /// The set of these types.
    pub const fn of(dtypes: &[DType]) -> DTypeSet {
        let mut bits = 0;
        let mut i = 0;
        while i < dtypes.len() {
            bits |= 1 << dtypes[i] as u32;
            i += 1;
        }
        DTypeSet(bits)
    }

    /// The types of either set.
    pub const fn and(self, other: DTypeSet) -> DTypeSet {
        DTypeSet(self.0 | other.0)
    }

    /// Whether the set holds a type.
    pub const fn contains(self, dtype: DType) -> bool {
        self.0 & (1 << dtype as u32) != 0
    }

    /// The types, in the order of [`DType`].
    pub fn iter(self) -> impl Iterator<Item = DType> {
        DType::all().filter(move |&dtype| self.contains(dtype))
    }
}

impl fmt::Display for DTypeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.iter().map(DType::name).collect();
        match names.split_last() {
            None => f.write_str("nothing"),
            Some((last, [])) => f.write_str(last),
            Some((last, rest)) => write!(f, "{} or {last}", rest.join(", ")),
        }
    }
}

/// fp16 and fp32.
pub const FLOAT: DTypeSet = DTypeSet::of(&[DType::Fp16, DType::Fp32]);
/// int32.
pub const INT32: DTypeSet = DTypeSet::of(&[DType::Int32]);
/// bool.
pub const BOOL: DTypeSet = DTypeSet::of(&[DType::Bool]);
/// string.
pub const STRING: DTypeSet = DTypeSet::of(&[DType::String]);
/// fp16, fp32 and int32: what most arithmetic takes.
pub const NUMBER: DTypeSet = FLOAT.and(INT32);
/// fp16, fp32, int32 and bool: what most data movement takes.
pub const ANY: DTypeSet = NUMBER.and(BOOL);
/// 8- and 16-bit integers, which ios17 added to data movement.
pub const SMALL_INTEGER: DTypeSet = DTypeSet::of(&[DType::Int8, DType::Int16, DType::UInt8, DType::UInt16]);
/// Integers that an index or a shape may have from ios17 on.
pub const INDEX: DTypeSet = DTypeSet::of(&[DType::Int8, DType::Int16, DType::Int32]);

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

/// Why an op refuses its operands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpError {
    /// The kind of mistake.
    pub kind: ErrorKind,
    /// The parameter at fault, where one is.
    pub parameter: Option<String>,
    /// What is wrong.
    pub message: String,
    /// What was found, in a few words.
    pub label: String,
    /// The likely fix.
    pub help: Option<String>,
}

impl OpError {
    /// The op's rule refuses what it was given for `parameter`.
    pub fn rule(parameter: &str, message: impl Into<String>) -> OpError {
        OpError::new(ErrorKind::Rule, Some(parameter), message)
    }

    /// An error of some kind, about a parameter or the whole op.
    pub fn new(kind: ErrorKind, parameter: Option<&str>, message: impl Into<String>) -> OpError {
        OpError {
            kind,
            parameter: parameter.map(str::to_string),
            message: message.into(),
            label: String::new(),
            help: None,
        }
    }

    /// Adds the words shown at the place.
    #[must_use]
    pub fn found(mut self, label: impl Into<String>) -> OpError {
        self.label = label.into();
        self
    }

    /// Adds the likely fix.
    #[must_use]
    pub fn with_help(mut self, help: impl Into<String>) -> OpError {
        self.help = Some(help.into());
        self
    }
}

impl fmt::Display for OpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parameter) = &self.parameter {
            write!(f, "`{parameter}`: ")?;
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for OpError {}

/// One operand as an op's functions see it, whether it came as a value, as a literal in place, or as an
/// attribute.
#[derive(Debug, Clone)]
pub struct Operand {
    /// Element type and shape; of a state, those of the tensor it holds. A scalar has rank 0.
    pub ty: TensorType,
    /// Whether the value is fixed before the program runs.
    pub constant: bool,
    /// The value, where it is known: constants while verifying, everything while running.
    pub value: Option<Arc<Tensor>>,
    /// The value's id, unless the operand is a literal.
    pub id: Option<ValueId>,
    /// Whether the operand is a state.
    pub is_state: bool,
}

impl Operand {
    /// A constant.
    pub fn constant(tensor: Arc<Tensor>) -> Operand {
        Operand { ty: tensor.ty(), constant: true, value: Some(tensor), id: None, is_state: false }
    }

    /// A value of which only the type is known.
    pub fn of_type(ty: TensorType) -> Operand {
        Operand { ty, constant: false, value: None, id: None, is_state: false }
    }

    /// Element type.
    pub fn dtype(&self) -> DType {
        self.ty.dtype
    }

    /// Dimensions, some of them perhaps `?`.
    pub fn shape(&self) -> &Shape {
        &self.ty.shape
    }

    /// The number of dimensions.
    pub fn rank(&self) -> usize {
        self.ty.shape.rank()
    }

    /// The integers of a rank-0 or rank-1 operand whose value is known.
    pub fn known_integers(&self) -> Option<Vec<i64>> {
        self.value.as_ref()?.to_i64()
    }

    /// The value.
    ///
    /// # Errors
    ///
    /// When it is not known yet.
    pub fn tensor(&self) -> Result<&Arc<Tensor>, OpError> {
        self.value
            .as_ref()
            .ok_or_else(|| OpError::new(ErrorKind::NotConstant, None, "an operand's value is not known here"))
    }
}

/// What an op was given for one parameter.
#[derive(Debug, Clone)]
pub enum Given {
    /// One operand.
    One(Operand),
    /// Several, in parentheses.
    Tuple(Vec<Operand>),
}

/// Everything that an op was given, by parameter name.
#[derive(Debug, Clone, Default)]
pub struct Operands<'a>(pub Vec<(&'a str, Given)>);

impl Operands<'_> {
    /// What was given for a parameter.
    pub fn get(&self, parameter: &str) -> Option<&Given> {
        self.0.iter().find(|(name, _)| *name == parameter).map(|(_, given)| given)
    }

    /// The elements of all operands together, of those whose shapes are known.
    pub fn elements(&self) -> u64 {
        let given = self.0.iter().flat_map(|(_, given)| match given {
            Given::One(operand) => std::slice::from_ref(operand),
            Given::Tuple(operands) => operands,
        });
        given.filter_map(|operand| operand.ty.shape.elements()).fold(0, u64::saturating_add)
    }

    /// The typed value of a parameter.
    ///
    /// # Errors
    ///
    /// When it is missing without having a default, or is not of the parameter's form.
    pub fn bind<P: Parameter>(&self, name: &str, default: Option<P>) -> Result<P, OpError> {
        match self.get(name) {
            Some(given) => P::bind(given).map_err(|mut error| {
                error.parameter = Some(name.to_string());
                error
            }),
            None => default.or_else(P::absent).ok_or_else(|| {
                OpError::new(ErrorKind::MissingParameter, Some(name), "this parameter is required")
            }),
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
}

/// One row of the table.
pub struct OpDef {
    /// The op's name.
    pub name: &'static str,
    /// The first opset with this signature.
    pub since: Opset,
    /// Its parameters.
    pub parameters: &'static [ParameterDef],
    /// Type variables with the element types they range over; parameters that share a variable share an
    /// element type.
    pub variables: &'static [(&'static str, DTypeSet)],
    /// What the op computes.
    pub documentation: &'static str,
    /// The type rule: the types of the results, as far as the operands determine them.
    pub infer: fn(&Operands<'_>) -> Result<Vec<TensorType>, OpError>,
    /// The meaning.
    pub eval: fn(&Operands<'_>, &mut Evaluation) -> Result<Vec<Tensor>, OpError>,
    /// What a backend's results may differ by.
    pub accuracy: Accuracy,
    /// Whether the op decompresses a constant: its result is a constant, and older opsets write its operands
    /// as attributes.
    pub constexpr: bool,
    /// Whether the op reads or writes a state, so that it may be neither left out nor moved.
    pub stateful: bool,
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

    /// The element types that a parameter takes.
    pub fn domain(&self, parameter: &ParameterDef) -> Option<DTypeSet> {
        match parameter.variable {
            Some(variable) => self.variables.iter().find(|(name, _)| *name == variable).map(|(_, set)| *set),
            None => parameter.kind.dtypes,
        }
    }
}

/// Every row of the table.
pub fn rows() -> impl Iterator<Item = &'static OpDef> {
    FAMILIES.iter().flat_map(|rows| rows.iter())
}

/// The rows of an op, whatever their opset.
pub fn signatures(name: &str) -> impl Iterator<Item = &'static OpDef> {
    rows().filter(move |row| row.name == name)
}

/// The row of an op that holds in an opset: the newest that is not newer than it.
pub fn lookup(name: &str, opset: Opset) -> Option<&'static OpDef> {
    signatures(name).filter(|row| row.since <= opset).max_by_key(|row| row.since)
}

/// A row's typed parameters.
pub trait Row: Sized {
    /// The table entry.
    const DEF: OpDef;
    /// The typed parameters from what an op was given.
    ///
    /// # Errors
    ///
    /// As [`Operands::bind`].
    fn bind(operands: &Operands<'_>) -> Result<Self, OpError>;
    /// The tensor operands in the order of the parameters, tuples spread out, absent ones left out.
    fn operands(&self) -> Vec<&Operand>;
}

/// Declares the rows of one family of ops; see the [module](crate::ops).
///
/// ```text
/// ops! {
///     /// `exp(x − m) / Σ exp(x − m)` along `axis`, with the largest `m`.
///     Softmax = "softmax"(x: Operand[T], axis: i32 = -1) since IOS15 where [T: FLOAT]
///         { infer: softmax_type, eval: softmax, accuracy: Accuracy::Ulp(4) }
/// }
/// ```
///
/// A parameter's Rust type says its form: see [`Parameter`].
#[macro_export]
macro_rules! ops {
    ($(
        $(#[doc = $doc:literal])*
        $row:ident = $name:literal (
            $( $parameter:ident : $ty:ty $([$variable:ident])? $(= $default:expr)? ),* $(,)?
        ) since $since:ident $(where [ $($declared:ident : $set:expr),* $(,)? ])?
        { infer: $infer:expr, eval: $eval:expr, accuracy: $accuracy:expr $(, $flag:ident : $value:expr)* $(,)? }
    )*) => {
        /// The rows of this family.
        pub(super) static ROWS: &[$crate::ops::OpDef] = &[$(<$row as $crate::ops::Row>::DEF),*];

        $(
            #[doc = concat!("`", $name, "`, since [`", stringify!($since), "`](crate::types::Opset::",
                stringify!($since), ").")]
            #[doc = ""]
            $(#[doc = $doc])*
            #[derive(Debug, Clone)]
            pub struct $row {
                $(
                    #[doc = concat!("`", stringify!($parameter), ": ", stringify!($ty)
                        $(, "[", stringify!($variable), "]")? $(, " = ", stringify!($default))?, "`")]
                    pub $parameter: $ty,
                )*
            }

            impl $crate::ops::Row for $row {
                const DEF: $crate::ops::OpDef = $crate::ops::OpDef {
                    name: $name,
                    since: $crate::types::Opset::$since,
                    parameters: &[$($crate::ops::ParameterDef {
                        name: stringify!($parameter),
                        kind: <$ty as $crate::ops::Parameter>::KIND,
                        variable: $crate::ops!(@text $($variable)?),
                        optional: <$ty as $crate::ops::Parameter>::OPTIONAL
                            || $crate::ops!(@text $($default)?).is_some(),
                        default: $crate::ops!(@text $($default)?),
                    }),*],
                    variables: &[$($((stringify!($declared), $set)),*)?],
                    documentation: concat!($($doc, "\n"),*),
                    infer: |operands| {
                        let infer: fn(&$row) -> Result<Vec<$crate::types::TensorType>, $crate::ops::OpError> =
                            $infer;
                        infer(&<$row as $crate::ops::Row>::bind(operands)?)
                    },
                    eval: |operands, evaluation| {
                        let eval: fn(&$row, &mut $crate::eval::Evaluation)
                            -> Result<Vec<$crate::tensor::Tensor>, $crate::ops::OpError> = $eval;
                        eval(&<$row as $crate::ops::Row>::bind(operands)?, evaluation)
                    },
                    accuracy: $accuracy,
                    ..$crate::ops!(@flags $($flag: $value),*)
                };

                fn bind(operands: &$crate::ops::Operands<'_>) -> Result<Self, $crate::ops::OpError> {
                    Ok($row {
                        $($parameter: operands.bind(
                            stringify!($parameter),
                            $crate::ops!(@default $($default)?),
                        )?),*
                    })
                }

                fn operands(&self) -> Vec<&$crate::ops::Operand> {
                    let mut all = Vec::new();
                    $($crate::ops::Parameter::collect(&self.$parameter, &mut all);)*
                    all
                }
            }
        )*
    };
    (@text) => { None::<&'static str> };
    (@text $text:expr) => { Some(stringify!($text)) };
    (@default) => { None };
    (@default $default:expr) => { Some($default.into()) };
    (@flags $($flag:ident : $value:expr),*) => {
        $crate::ops::OpDef { $($flag: $value,)* ..$crate::ops::BLANK_ROW }
    };
}

/// What rows leave unsaid.
#[doc(hidden)]
pub const BLANK_ROW: OpDef = OpDef {
    name: "",
    since: Opset::IOS15,
    parameters: &[],
    variables: &[],
    documentation: "",
    infer: |_| Ok(Vec::new()),
    eval: |_, _| Ok(Vec::new()),
    accuracy: Accuracy::Exact,
    constexpr: false,
    stateful: false,
};

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
}
