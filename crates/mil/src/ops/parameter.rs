//! The Rust types that a row's parameters may have, and how each takes what an op was given.

use crate::builder::{Input, Tuple};
use crate::error::ErrorKind;
use crate::ops::{BOOL, DTypeSet, FLOAT, Given, INT32, OpError, Operand, STRING};

/// Whether a parameter takes one tensor, several, or a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OperandForm {
    /// One tensor or scalar.
    Tensor,
    /// A tuple of tensors.
    Tuple,
    /// A state.
    State,
    /// A list.
    List,
    /// A tuple of tensors and lists.
    TensorsAndLists,
}

/// What may be given for a parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParameterKind {
    /// One tensor, several, or a state.
    pub form: OperandForm,
    /// Whether its value must be fixed before the program runs.
    pub constant: bool,
    /// The rank it must have.
    pub rank: Option<usize>,
    /// Its element types, where the Rust type says them and no type variable does.
    pub dtypes: Option<DTypeSet>,
}

const fn kind(
    form: OperandForm,
    constant: bool,
    rank: Option<usize>,
    dtypes: Option<DTypeSet>,
) -> ParameterKind {
    ParameterKind { form, constant, rank, dtypes }
}

/// A Rust type that a row's parameter can have.
///
/// | type | takes |
/// |---|---|
/// | [`Operand`] | a tensor or scalar, constant or not |
/// | [`Constant`] | a constant tensor or scalar |
/// | [`State`] | a state |
/// | [`List`] | a list |
/// | `Vec<`[`Carried`]`>` | a tuple of tensors and lists |
/// | `Vec<Operand>` | a tuple |
/// | `i32`, `bool`, `String`, `f64` | a constant scalar: int32, bool, string, fp16 or fp32 |
/// | `Vec<i32>`, `Vec<bool>` | a constant vector |
/// | `Option<…>` of these | the same, or nothing |
pub trait Parameter: Sized {
    /// What may be given.
    const KIND: ParameterKind;
    /// What a typed call takes for it.
    type Written: Into<Input>;
    /// Whether the parameter may be left out without a default.
    const OPTIONAL: bool = false;
    /// The parameter's value when nothing is given.
    fn absent() -> Option<Self> {
        None
    }
    /// Takes what was given.
    ///
    /// # Errors
    ///
    /// When its form or element type is another, or a needed value is not known.
    fn bind(given: &Given) -> Result<Self, OpError>;
    /// Appends the tensor operands.
    fn collect<'a>(&'a self, _all: &mut Vec<&'a Operand>) {}
}

fn single(given: &Given) -> Result<&Operand, OpError> {
    match given {
        Given::One(operand) => Ok(operand),
        Given::Tuple(_) => Err(OpError::new(ErrorKind::OperandKind, None, "must be one value, not a tuple")),
    }
}

fn known<T>(value: Option<T>, what: &str) -> Result<T, OpError> {
    value.ok_or_else(|| {
        OpError::new(ErrorKind::NotConstant, None, format!("must be a constant {what}"))
            .found("found one whose value is not written in the program")
    })
}

impl Parameter for Operand {
    type Written = Input;
    const KIND: ParameterKind = kind(OperandForm::Tensor, false, None, None);
    fn bind(given: &Given) -> Result<Self, OpError> {
        single(given).cloned()
    }
    fn collect<'a>(&'a self, all: &mut Vec<&'a Operand>) {
        all.push(self);
    }
}

/// A tensor that must be a constant, such as a weight.
#[derive(Debug, Clone)]
pub struct Constant(pub Operand);

impl std::ops::Deref for Constant {
    type Target = Operand;
    fn deref(&self) -> &Operand {
        &self.0
    }
}

impl Parameter for Constant {
    type Written = Input;
    const KIND: ParameterKind = kind(OperandForm::Tensor, true, None, None);
    fn bind(given: &Given) -> Result<Self, OpError> {
        single(given).cloned().map(Constant)
    }
    fn collect<'a>(&'a self, all: &mut Vec<&'a Operand>) {
        all.push(&self.0);
    }
}

/// A state: a tensor that keeps its value between runs.
#[derive(Debug, Clone)]
pub struct State(pub Operand);

impl Parameter for State {
    type Written = Input;
    const KIND: ParameterKind = kind(OperandForm::State, false, None, None);
    fn bind(given: &Given) -> Result<Self, OpError> {
        single(given).cloned().map(State)
    }
    fn collect<'a>(&'a self, all: &mut Vec<&'a Operand>) {
        all.push(&self.0);
    }
}

/// A list.
#[derive(Debug, Clone)]
pub struct List(pub Operand);

impl Parameter for List {
    const KIND: ParameterKind = kind(OperandForm::List, false, None, None);
    type Written = Input;
    fn bind(given: &Given) -> Result<Self, OpError> {
        match single(given)? {
            // What keeps a list has its length as the first dimension.
            list if list.rank() > 0 => Ok(List(list.clone())),
            _ => Err(OpError::new(ErrorKind::OperandKind, None, "must be a list")),
        }
    }
    fn collect<'a>(&'a self, all: &mut Vec<&'a Operand>) {
        all.push(&self.0);
    }
}

/// A tensor or list that goes from one round of a loop to the next.
#[derive(Debug, Clone)]
pub struct Carried(pub Operand);

impl Parameter for Vec<Carried> {
    const KIND: ParameterKind = kind(OperandForm::TensorsAndLists, false, None, None);
    type Written = Tuple;
    fn bind(given: &Given) -> Result<Self, OpError> {
        Vec::<Operand>::bind(given).map(|operands| operands.into_iter().map(Carried).collect())
    }
    fn collect<'a>(&'a self, all: &mut Vec<&'a Operand>) {
        all.extend(self.iter().map(|carried| &carried.0));
    }
}

impl Parameter for Vec<Operand> {
    type Written = Tuple;
    const KIND: ParameterKind = kind(OperandForm::Tuple, false, None, None);
    fn bind(given: &Given) -> Result<Self, OpError> {
        match given {
            Given::Tuple(operands) => Ok(operands.clone()),
            Given::One(_) => {
                Err(OpError::new(ErrorKind::OperandKind, None, "must be a tuple, not one value"))
            }
        }
    }
    fn collect<'a>(&'a self, all: &mut Vec<&'a Operand>) {
        all.extend(self);
    }
}

impl<P: Parameter> Parameter for Option<P> {
    type Written = P::Written;
    const KIND: ParameterKind = P::KIND;
    const OPTIONAL: bool = true;
    fn absent() -> Option<Self> {
        Some(None)
    }
    fn bind(given: &Given) -> Result<Self, OpError> {
        P::bind(given).map(Some)
    }
    fn collect<'a>(&'a self, all: &mut Vec<&'a Operand>) {
        if let Some(parameter) = self {
            parameter.collect(all);
        }
    }
}

/// Implements [`Parameter`] for a Rust type that holds the known value of a constant.
macro_rules! constant_parameter {
    ($ty:ty, $rank:expr, $dtypes:expr, $what:literal, $read:expr) => {
        impl Parameter for $ty {
            type Written = $ty;
            const KIND: ParameterKind = kind(OperandForm::Tensor, true, Some($rank), Some($dtypes));
            fn bind(given: &Given) -> Result<Self, OpError> {
                let read: fn(&Operand) -> Option<$ty> = $read;
                known(read(single(given)?), $what)
            }
        }
    };
}

constant_parameter!(i32, 0, INT32, "int32", |operand| i32::try_from(*operand.known_integers()?.first()?)
    .ok());
constant_parameter!(bool, 0, BOOL, "bool", |operand| operand
    .value
    .as_ref()?
    .as_slice::<bool>()?
    .first()
    .copied());
constant_parameter!(String, 0, STRING, "string", |operand| {
    operand.value.as_ref()?.as_slice::<String>()?.first().cloned()
});
constant_parameter!(f64, 0, FLOAT, "fp16 or fp32", |operand| operand
    .value
    .as_ref()?
    .to_f64()?
    .first()
    .copied());
constant_parameter!(Vec<i32>, 1, INT32, "vector of int32", |operand| {
    operand.known_integers()?.into_iter().map(|value| i32::try_from(value).ok()).collect()
});
constant_parameter!(Vec<bool>, 1, BOOL, "vector of bool", |operand| {
    operand.value.as_ref()?.as_slice::<bool>().map(<[bool]>::to_vec)
});
