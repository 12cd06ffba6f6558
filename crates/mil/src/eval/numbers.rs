//! The numbers that meanings compute with: f64 for every floating-point type, i64 for every integer and bool.

use crate::error::ErrorKind;
use crate::eval::internal;
use crate::ops::{OpError, Operand};
use crate::tensor::{Data, Tensor, TensorError};
use crate::types::DType;

/// The values of a tensor, widened without loss.
#[derive(Debug, Clone, PartialEq)]
pub enum Numbers {
    /// Floating point.
    Float(Vec<f64>),
    /// Integers; booleans are 0 and 1.
    Integer(Vec<i64>),
}

impl Numbers {
    /// The values of a tensor of numbers or booleans.
    ///
    /// # Errors
    ///
    /// When it holds strings, or a `uint64` beyond i64, or there is no memory for the values.
    pub fn of(tensor: &Tensor) -> Result<Numbers, OpError> {
        let numbers = if tensor.dtype().is_float() {
            tensor.to_f64().map(Numbers::Float)
        } else {
            tensor.to_i64().map(Numbers::Integer)
        };
        numbers.ok_or_else(|| match tensor.data() {
            Data::String(_) | Data::U64(_) => {
                OpError::new(ErrorKind::ElementType, None, format!("cannot compute with {}", tensor.dtype()))
            }
            _ => internal(TensorError::Memory(tensor.ty())),
        })
    }

    /// The number of values.
    pub fn len(&self) -> usize {
        match self {
            Numbers::Float(values) => values.len(),
            Numbers::Integer(values) => values.len(),
        }
    }

    /// Whether there are no values.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The values as f64; integers beyond 2^53 round.
    pub fn into_f64(self) -> Vec<f64> {
        match self {
            Numbers::Float(values) => values,
            Numbers::Integer(values) => values.into_iter().map(|value| value as f64).collect(),
        }
    }
}

impl Operand {
    /// The operand's values, widened.
    ///
    /// # Errors
    ///
    /// When the value is not known, or holds strings.
    pub fn numbers(&self) -> Result<Numbers, OpError> {
        Numbers::of(self.tensor()?)
    }

    /// The operand's values as f64.
    ///
    /// # Errors
    ///
    /// As [`Operand::numbers`].
    pub fn floats(&self) -> Result<Vec<f64>, OpError> {
        Ok(self.numbers()?.into_f64())
    }

    /// The operand's values as integers.
    ///
    /// # Errors
    ///
    /// When the value is not known, or is neither of integers nor of booleans.
    pub fn integers(&self) -> Result<Vec<i64>, OpError> {
        match self.numbers()? {
            Numbers::Integer(values) => Ok(values),
            Numbers::Float(_) => Err(OpError::new(ErrorKind::ElementType, None, "integers are needed here")),
        }
    }

    /// The dimensions of the operand's value.
    ///
    /// # Errors
    ///
    /// When the value is not known.
    pub fn dims(&self) -> Result<&[usize], OpError> {
        Ok(self.tensor()?.shape())
    }
}

/// `value` reduced to the range of an integer type as two's complement does; a bool is whether it is not 0.
pub(super) fn wrap(dtype: DType, value: i64) -> i64 {
    match dtype {
        DType::Bool => i64::from(value != 0),
        _ if dtype.bits() >= 64 => value,
        _ => match dtype.integer_range() {
            Some((least, most)) => {
                let width = most - least + 1;
                let reduced = (i128::from(value) - least).rem_euclid(width) + least;
                i64::try_from(reduced).unwrap_or(value)
            }
            None => value,
        },
    }
}
