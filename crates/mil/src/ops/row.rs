//! The macro that makes entries of the table, structs and typed calls of rows.

use crate::builder::BuildError;
use crate::eval::Evaluation;
use crate::grad::Pullback;
use crate::ops::{Accuracy, Gradient, OpDef, OpError, Operand, Operands, ParameterDef, Variable, Writer};
use crate::program::ValueId;
use crate::tensor::Tensor;
use crate::types::{Opset, TensorType};

/// The gradient rule of a row.
pub type Vjp<R> = fn(&R, &mut Pullback<'_>) -> Result<(), OpError>;

/// What writes an op out as simpler ones; gives a value for each result.
pub type WriteOut<R> = fn(&R, &mut Writer<'_>) -> Result<Vec<ValueId>, BuildError>;

/// A row's typed parameters.
pub trait Row: Sized {
    /// What all signatures have in common.
    const BASE: OpDef;
    /// The type rule.
    const INFER: fn(&Self) -> Result<Vec<TensorType>, OpError>;
    /// The meaning.
    const EVAL: fn(&Self, &mut Evaluation) -> Result<Vec<Tensor>, OpError>;
    /// The gradient, where there is one.
    const VJP: Option<Vjp<Self>>;
    /// The simpler ops that it can be written out as, where there are some.
    const WRITE_OUT: Option<WriteOut<Self>>;
    /// The floating-point operations, where they are not one per element of the result.
    const FLOPS: Option<fn(&Self) -> Option<u64>>;
    /// The parameters of all signatures, those of the first signature first.
    const PARAMETERS: &'static [ParameterDef];
    /// The typed parameters from what an op was given, by the signature of `since`.
    ///
    /// # Errors
    ///
    /// As [`Operands::bind`].
    fn bind(operands: &Operands<'_>, since: Opset) -> Result<Self, OpError>;
    /// The tensor operands in the order of the parameters, tuples spread out, absent ones left out.
    fn operands(&self) -> Vec<&Operand>;
}

/// Declares the rows of one family of ops; see the [module](mod@crate::ops).
///
/// ```text
/// ops! {
///     /// `exp(x − m) / Σ exp(x − m)` along `axis`, with the largest `m`.
///     Softmax = softmax(x: Operand[T]; axis: i32 = -1) since IOS15 where [T: FLOAT]
///         { infer: softmax_type, eval: softmax, accuracy: Accuracy::Ulp(4); vjp: softmax_vjp; flops: of_x::<5> }
/// }
/// ```
///
/// Parameters after the semicolon may be left out. A parameter's Rust type says its form: see
/// [`Parameter`](crate::ops::Parameter). Before a parameter, `#[since = IOS17]` says that older signatures do not have
/// it, `#[constant_until = IOS17]` that they want a constant, and `#[only_before = IOS18]` that they alone have it, and
/// require it. Each `since … where […]` is a signature; a type variable that is another one's equal is written `U = T`. Flags in brackets at the end are `constexpr`, `stateful`,
/// `commutative`, `from_types`, `by_opset` and `elementwise`. A row without a gradient has the reason: `no_vjp: "…"`. One
/// that says how it is written out as simpler ops (`write_out`) has the gradient of those, unless it has its own.
#[macro_export]
macro_rules! ops {
    ($(
        $(#[doc = $doc:literal])*
        $row:ident = $name:ident (
            $( $(#[constant_until = $required_until:ident])?
                $required:ident : $required_ty:ty $([$required_variable:ident])? ),*
            $(; $(
                $(#[since = $parameter_since:ident])? $(#[constant_until = $until:ident])?
                $(#[only_before = $end:ident])?
                $optional:ident : $optional_ty:ty $([$optional_variable:ident])? $(= $default:expr)?
            ),+)? $(,)?
        )
        $( since $since:ident $(where [ $($declared:ident $(= $same:ident)? $(: $set:expr)?),* $(,)? ])? )+
        { infer: $infer:expr, eval: $eval:expr, accuracy: $accuracy:expr
            $(; vjp: $vjp:expr)? $(; no_vjp: $reason:literal)?
            $(; write_out: $write_out:expr)? $(; flops: $flops:expr)?
            $(; blocks: $blocks:expr)? $(; [ $($flag:ident),+ $(,)? ])? $(,)? }
    )*) => {
        /// The rows of this family.
        pub(super) static ROWS: &[$crate::ops::OpDef] = &[$($({
            const SINCE: $crate::types::Opset = $crate::types::Opset::$since;
            const VARIABLES: &[$crate::ops::Variable] = &[$($($crate::ops::Variable {
                name: stringify!($declared),
                set: $crate::ops!(@set $($set)?),
                same_as: $crate::ops!(@text $($same)?),
            }),*)?];
            const PARAMETERS: ([$crate::ops::ParameterDef; <$row as $crate::ops::Row>::PARAMETERS.len()], usize) =
                $crate::ops::of_signature(<$row as $crate::ops::Row>::PARAMETERS, SINCE, VARIABLES);
            $crate::ops::OpDef {
                since: SINCE,
                parameters: PARAMETERS.0.split_at(PARAMETERS.1).0,
                variables: VARIABLES,
                infer: |operands| {
                    (<$row as $crate::ops::Row>::INFER)(&<$row as $crate::ops::Row>::bind(operands, SINCE)?)
                },
                eval: |operands, evaluation| {
                    let row = <$row as $crate::ops::Row>::bind(operands, SINCE)?;
                    (<$row as $crate::ops::Row>::EVAL)(&row, evaluation)
                },
                gradient: match <$row as $crate::ops::Row>::VJP {
                    Some(_) => $crate::ops::Gradient::Rule(|operands, pullback| {
                        let row = <$row as $crate::ops::Row>::bind(operands, SINCE)?;
                        $crate::ops::differentiate(&row, pullback)
                    }),
                    None if <$row as $crate::ops::Row>::WRITE_OUT.is_some() => {
                        $crate::ops::Gradient::Rule(|operands, pullback| {
                            let row = <$row as $crate::ops::Row>::bind(operands, SINCE)?;
                            pullback.through(|writer| $crate::ops::write_out(&row, writer))
                        })
                    }
                    None => <$row as $crate::ops::Row>::BASE.gradient,
                },
                write_out: match <$row as $crate::ops::Row>::WRITE_OUT {
                    Some(_) => Some(|operands, writer| {
                        let row = <$row as $crate::ops::Row>::bind(operands, SINCE);
                        $crate::ops::write_out(&row.map_err(|error| writer.refused(error))?, writer)
                    }),
                    None => None,
                },
                flops: |operands, results| {
                    let row = <$row as $crate::ops::Row>::bind(operands, SINCE).ok()?;
                    $crate::ops::flops(&row, results)
                },
                ..<$row as $crate::ops::Row>::BASE
            }
        }),+),*];

        $(
            #[doc = concat!("`", stringify!($name), "`, since ",
                $("[`", stringify!($since), "`](crate::types::Opset::", stringify!($since), ") ",)+)]
            #[doc = ""]
            $(#[doc = $doc])*
            #[derive(Debug, Clone)]
            pub struct $row {
                /// The first opset of the signature by which the op was bound.
                pub since: $crate::types::Opset,
                $(
                    #[doc = concat!("`", stringify!($required), ": ", stringify!($required_ty)
                        $(, "[", stringify!($required_variable), "]")?, "`"
                        $(, ", a constant before ", stringify!($required_until))?)]
                    pub $required: $required_ty,
                )*
                $($(
                    #[doc = concat!("`", stringify!($optional), ": ", stringify!($optional_ty)
                        $(, "[", stringify!($optional_variable), "]")? $(, " = ", stringify!($default))?, "`"
                        $(, ", since ", stringify!($parameter_since))?
                        $(, ", required before ", stringify!($end), ", which has it no more")?
                        $(, ", a constant before ", stringify!($until))?)]
                    pub $optional: $optional_ty,
                )+)?
            }

            impl $crate::ops::Row for $row {
                const BASE: $crate::ops::OpDef = $crate::ops::OpDef {
                    name: $crate::ops::without_raw(stringify!($name)),
                    documentation: concat!($($doc, "\n"),*),
                    accuracy: $accuracy,
                    gradient: $crate::ops!(@no_gradient $($reason)?),
                    blocks: $crate::ops!(@some $($blocks)?),
                    $($($flag: true,)+)?
                    ..$crate::ops::BLANK_ROW
                };

                const INFER: fn(&$row) -> Result<Vec<$crate::types::TensorType>, $crate::ops::OpError> = $infer;

                const EVAL: fn(
                    &$row,
                    &mut $crate::eval::Evaluation,
                ) -> Result<Vec<$crate::tensor::Tensor>, $crate::ops::OpError> = $eval;

                const VJP: Option<$crate::ops::Vjp<$row>> = $crate::ops!(@some $($vjp)?);

                const WRITE_OUT: Option<$crate::ops::WriteOut<$row>> = $crate::ops!(@some $($write_out)?);

                const FLOPS: Option<fn(&$row) -> Option<u64>> = $crate::ops!(@some $($flops)?);

                const PARAMETERS: &'static [$crate::ops::ParameterDef] = &[
                    $($crate::ops::ParameterDef {
                        name: stringify!($required),
                        kind: <$required_ty as $crate::ops::Parameter>::KIND,
                        variable: $crate::ops!(@text $($required_variable)?),
                        optional: false,
                        default: None,
                        since: $crate::types::Opset::IOS15,
                        constant_until: $crate::ops!(@until $($required_until)?),
                        only_before: None,
                    },)*
                    $($($crate::ops::ParameterDef {
                        name: stringify!($optional),
                        kind: <$optional_ty as $crate::ops::Parameter>::KIND,
                        variable: $crate::ops!(@text $($optional_variable)?),
                        optional: true,
                        default: $crate::ops!(@text $($default)?),
                        since: $crate::ops!(@opset $($parameter_since)?),
                        constant_until: $crate::ops!(@until $($until)?),
                        only_before: $crate::ops!(@until $($end)?),
                    },)+)?
                ];

                fn bind(
                    operands: &$crate::ops::Operands<'_>,
                    since: $crate::types::Opset,
                ) -> Result<Self, $crate::ops::OpError> {
                    Ok($row {
                        since,
                        $($required: operands.bind(stringify!($required), None)?,)*
                        $($($optional: operands.bind(
                            stringify!($optional),
                            $crate::ops!(@default $($default)?),
                        )?,)+)?
                    })
                }

                fn operands(&self) -> Vec<&$crate::ops::Operand> {
                    #[allow(unused_mut)]
                    let mut all = Vec::new();
                    $($crate::ops::Parameter::collect(&self.$required, &mut all);)*
                    $($($crate::ops::Parameter::collect(&self.$optional, &mut all);)+)?
                    all
                }
            }

            $($(
                impl $crate::builder::Call<$row> {
                    #[doc = concat!("Gives `", stringify!($optional), "`.")]
                    #[must_use]
                    pub fn $optional(
                        self,
                        $optional: impl Into<<$optional_ty as $crate::ops::Parameter>::Written>,
                    ) -> Self {
                        self.with(stringify!($optional), $optional.into())
                    }
                }
            )+)?
        )*

        /// Typed calls of the ops of this family.
        // As many arguments as the op requires.
        #[allow(clippy::too_many_arguments)]
        pub(super) mod typed_calls {
            #[allow(unused_imports)]
            use super::*;

            $(
                #[doc = concat!("A call of [`", stringify!($name), "`](", stringify!($row), ").")]
                pub fn $name($($required: impl Into<<$required_ty as $crate::ops::Parameter>::Written>),*)
                    -> $crate::builder::Call<super::$row> {
                    $crate::builder::Call::new()
                        $(.with(stringify!($required), $required.into()))*
                }
            )*
        }
    };
    (@text) => { None::<&'static str> };
    (@text $text:expr) => { Some(stringify!($text)) };
    (@set) => { $crate::ops::DTypeSet::of(&[]) };
    (@set $set:expr) => { $set };
    (@opset) => { $crate::types::Opset::IOS15 };
    (@opset $since:ident) => { $crate::types::Opset::$since };
    (@until) => { None };
    (@until $until:ident) => { Some($crate::types::Opset::$until) };
    (@default) => { None };
    (@default $default:expr) => { Some($default.into()) };
    (@some) => { None };
    (@some $expression:expr) => { Some($expression) };
    (@no_gradient) => { $crate::ops::Gradient::Unsaid };
    (@no_gradient $reason:literal) => { $crate::ops::Gradient::None($reason) };
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
    gradient: Gradient::Unsaid,
    write_out: None,
    flops: |_, _| None,
    accuracy: Accuracy::Exact,
    blocks: None,
    gives_list: false,
    gives_dictionary: false,
    constexpr: false,
    stateful: false,
    commutative: false,
    from_types: false,
    by_opset: false,
    elementwise: false,
};

/// The parameters that a row's signature of `since` has, and how many they are; others fill the array up.
#[doc(hidden)]
pub const fn of_signature<const N: usize>(
    all: &[ParameterDef],
    since: Opset,
    variables: &[Variable],
) -> ([ParameterDef; N], usize) {
    let mut parameters = [all[0]; N];
    let (mut i, mut count) = (0, 0);
    while i < N {
        let mut parameter = all[i];
        if let Some(until) = parameter.constant_until {
            parameter.kind.constant = since.0 < until.0;
        }
        if let Some(name) = parameter.variable {
            let mut v = 0;
            while v < variables.len() {
                if same(variables[v].name, name)
                    && let Some(other) = variables[v].same_as
                {
                    parameter.variable = Some(other);
                }
                v += 1;
            }
        }
        let mut ended = false;
        if let Some(end) = parameter.only_before {
            ended = since.0 >= end.0;
            parameter.optional = false;
        }
        if parameter.since.0 <= since.0 && !ended {
            parameters[count] = parameter;
            count += 1;
        }
        i += 1;
    }
    (parameters, count)
}

/// An identifier without the mark of one that is a keyword too: `mod` of `r#mod`.
#[doc(hidden)]
pub const fn without_raw(identifier: &'static str) -> &'static str {
    match identifier.as_bytes() {
        [b'r', b'#', ..] => identifier.split_at(2).1,
        _ => identifier,
    }
}

/// Whether two texts are the same, in constants.
const fn same(a: &str, b: &str) -> bool {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    if a.len() != b.len() {
        return false;
    }
    let mut i = 0;
    while i < a.len() {
        if a[i] != b[i] {
            return false;
        }
        i += 1;
    }
    true
}

/// Builds the gradient of an op whose row has a rule.
#[doc(hidden)]
pub fn differentiate<R: Row>(row: &R, pullback: &mut Pullback<'_>) -> Result<(), OpError> {
    match R::VJP {
        Some(vjp) => vjp(row, pullback),
        None => Ok(()),
    }
}

/// Writes an op out whose row says how.
#[doc(hidden)]
pub fn write_out<R: Row>(row: &R, writer: &mut Writer<'_>) -> Result<Vec<ValueId>, BuildError> {
    match R::WRITE_OUT {
        Some(write_out) => write_out(row, writer),
        None => Ok(Vec::new()),
    }
}

/// The floating-point operations of an op with results of these types.
#[doc(hidden)]
pub fn flops<R: Row>(row: &R, results: &[TensorType]) -> Option<u64> {
    match R::FLOPS {
        Some(flops) => flops(row),
        None => results.first()?.shape.elements(),
    }
}
