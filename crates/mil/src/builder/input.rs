//! What ops are given while a program is built: values, constants, and calls of other ops.

use std::marker::PhantomData;
use std::sync::Arc;

use crate::ops::{Operand, Row};
use crate::program::{Literal, ValueId};
use crate::tensor::Tensor;

/// What an op is given for one parameter.
#[derive(Debug, Clone)]
pub enum Input {
    /// A value of the function.
    Value(ValueId),
    /// A constant, which the builder names and binds before the op.
    Constant(Arc<Tensor>),
    /// A number, as a constant of the element type that the op's other operands give the parameter; where none does, of
    /// that of the first floating-point operand, or fp32.
    Number(f64),
    /// A literal, which stands in the op itself.
    Literal(Literal),
    /// Several values.
    Tuple(Tuple),
    /// The result of another op, which the builder binds before.
    Call(Box<AnyCall>),
}

/// Several values for one parameter.
#[derive(Debug, Clone, Default)]
pub struct Tuple(pub Vec<Input>);

/// An op to be built, with what it is given by name.
#[derive(Debug, Clone)]
pub struct AnyCall {
    pub(super) op: &'static str,
    pub(super) arguments: Vec<(&'static str, Input)>,
}

impl AnyCall {
    /// The op's name.
    pub fn op(&self) -> &'static str {
        self.op
    }

    /// A call of an op that is known only while running, with arguments by name.
    pub fn named(op: &'static str, arguments: impl IntoIterator<Item = (&'static str, Input)>) -> AnyCall {
        AnyCall { op, arguments: arguments.into_iter().collect() }
    }
}

/// A call of one op, as the functions of [`ops::call`](crate::ops::call) make it.
#[derive(Debug, Clone)]
pub struct Call<R> {
    call: AnyCall,
    row: PhantomData<R>,
}

impl<R: Row> Call<R> {
    /// A call without arguments.
    pub(crate) fn new() -> Call<R> {
        Call { call: AnyCall { op: R::BASE.name, arguments: Vec::new() }, row: PhantomData }
    }

    /// Adds an argument.
    pub(crate) fn with(mut self, parameter: &'static str, input: impl Into<Input>) -> Call<R> {
        self.call.arguments.push((parameter, input.into()));
        self
    }
}

impl<R> From<Call<R>> for AnyCall {
    fn from(call: Call<R>) -> AnyCall {
        call.call
    }
}

impl<R> From<Call<R>> for Input {
    fn from(call: Call<R>) -> Input {
        Input::Call(Box::new(call.call))
    }
}

impl From<AnyCall> for Input {
    fn from(call: AnyCall) -> Input {
        Input::Call(Box::new(call))
    }
}

impl From<ValueId> for Input {
    fn from(id: ValueId) -> Input {
        Input::Value(id)
    }
}

impl From<Tensor> for Input {
    fn from(tensor: Tensor) -> Input {
        Input::Constant(Arc::new(tensor))
    }
}

impl From<Arc<Tensor>> for Input {
    fn from(tensor: Arc<Tensor>) -> Input {
        Input::Constant(tensor)
    }
}

impl From<Literal> for Input {
    fn from(literal: Literal) -> Input {
        Input::Literal(literal)
    }
}

impl From<f64> for Input {
    fn from(number: f64) -> Input {
        Input::Number(number)
    }
}

impl From<Tuple> for Input {
    fn from(tuple: Tuple) -> Input {
        Input::Tuple(tuple)
    }
}

/// A value of the function, or the constant that a literal gave.
impl From<&Operand> for Input {
    fn from(operand: &Operand) -> Input {
        match (operand.id, &operand.value) {
            (Some(id), _) => Input::Value(id),
            (None, Some(value)) => Input::Constant(value.clone()),
            (None, None) => Input::Tuple(Tuple::default()),
        }
    }
}

impl From<&str> for Input {
    fn from(text: &str) -> Input {
        text.to_string().into()
    }
}

impl From<Vec<ValueId>> for Input {
    fn from(ids: Vec<ValueId>) -> Input {
        Input::Tuple(ids.into())
    }
}

impl<T: Into<Input>> FromIterator<T> for Tuple {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Tuple {
        Tuple(items.into_iter().map(Into::into).collect())
    }
}

impl<T: Into<Input>> From<Vec<T>> for Tuple {
    fn from(items: Vec<T>) -> Tuple {
        items.into_iter().collect()
    }
}

impl<T: Into<Input>, const N: usize> From<[T; N]> for Tuple {
    fn from(items: [T; N]) -> Tuple {
        items.into_iter().collect()
    }
}

macro_rules! inputs_from_scalars {
    ($($scalar:ty),*) => {$(
        impl From<$scalar> for Input {
            fn from(value: $scalar) -> Input {
                Tensor::scalar(value).into()
            }
        }
    )*};
}

macro_rules! inputs_from_vectors {
    ($($element:ty),*) => {$(
        impl From<Vec<$element>> for Input {
            fn from(values: Vec<$element>) -> Input {
                Tensor::vector(values).into()
            }
        }
        impl<const N: usize> From<[$element; N]> for Input {
            fn from(values: [$element; N]) -> Input {
                Tensor::vector(values.to_vec()).into()
            }
        }
    )*};
}

inputs_from_scalars!(i32, bool, String);
inputs_from_vectors!(i32, bool);
