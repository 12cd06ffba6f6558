//! The reference interpreter: what a program means, computed slowly and readably.
//!
//! Every op computes in f64 (integers in i64) and rounds once to the declared element type, to nearest even.
//! It runs over an [`Arithmetic`]: this one, or the exact one ([`Interpreter::exact`]), in which every value stays in
//! f64, or a backend's own.
//! A budget of elements and of work lets a hostile program end with an error.

use std::collections::HashMap;
use std::sync::Arc;

use crate::error::ErrorKind;
use crate::mapped::room_for;
use crate::ops::{OpError, Operand};
use crate::program::ValueId;
use crate::tensor::{Tensor, TensorError};
use crate::types::{DType, Shape, TensorType};

mod arithmetic;
mod interpreter;
mod numbers;

pub use arithmetic::{Arithmetic, Declared, Exact, Factor, OpInFunction, Product, Start, Sums};
pub use interpreter::Interpreter;
pub use numbers::Numbers;

/// How much a run may compute and hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Elements of all results together.
    pub elements: u64,
    /// Elements of operands, each time that an op reads them, and elementary steps beyond one per element of
    /// operands and results, such as multiplications in a matrix product.
    pub work: u64,
}

impl Budget {
    /// What suffices for every program that a machine can hold, and stops one that asks for petabytes.
    pub const ORDINARY: Budget = Budget { elements: 1 << 31, work: 1 << 46 };
}

/// What an op's meaning may ask of the run it is part of: rounding, budget and states.
#[derive(Debug)]
pub struct Evaluation {
    arithmetic: Arc<dyn Arithmetic>,
    budget: Budget,
    states: HashMap<ValueId, Tensor>,
}

impl Evaluation {
    /// A run in the declared arithmetic, with this budget.
    pub fn new(budget: Budget) -> Evaluation {
        Evaluation::over(Arc::new(Declared), budget)
    }

    /// A run in an arithmetic, with this budget.
    pub fn over(arithmetic: Arc<dyn Arithmetic>, budget: Budget) -> Evaluation {
        Evaluation { arithmetic, budget, states: HashMap::new() }
    }

    /// The arithmetic of the run.
    pub fn arithmetic(&self) -> &dyn Arithmetic {
        self.arithmetic.as_ref()
    }

    /// The run's states, by the function input that holds each.
    pub fn states_mut(&mut self) -> &mut HashMap<ValueId, Tensor> {
        &mut self.states
    }

    /// The run's states, by the function input that holds each.
    pub fn states(&self) -> &HashMap<ValueId, Tensor> {
        &self.states
    }

    /// Replaces the tensor that a state holds, as [`Specialized::state`](crate::specialize::Specialized::state) found it.
    pub fn set_state(&mut self, id: ValueId, value: &Tensor) {
        let value = self.keep(Arc::new(value.clone()));
        self.states.insert(id, Arc::unwrap_or_clone(value));
    }

    /// Begins another run: the budget is whole again, states stay.
    pub fn reset(&mut self, budget: Budget) {
        self.budget = budget;
    }

    /// A tensor in the element type that the arithmetic keeps it in, so that a run meets one way of storing it.
    pub(crate) fn keep(&self, tensor: Arc<Tensor>) -> Arc<Tensor> {
        let kept = self.arithmetic.kept(tensor.dtype());
        if tensor.dtype() == kept {
            return tensor;
        }
        let values = tensor.to_f64();
        let wide = values.and_then(|values| Tensor::from_f64(kept, tensor.shape(), &values).ok());
        wide.map_or(tensor, Arc::new)
    }

    /// Takes `work` elementary steps from the budget.
    ///
    /// # Errors
    ///
    /// When the budget does not hold as many.
    pub fn charge(&mut self, work: u64) -> Result<(), OpError> {
        match self.budget.work.checked_sub(work) {
            Some(left) => {
                self.budget.work = left;
                Ok(())
            }
            None => Err(over_budget("work")),
        }
    }

    /// Takes from the budget what rounds of loops, and ops in blocks, cost beside the elements of their results: for
    /// each as much as a result of [`OVERHEAD`] elements.
    ///
    /// # Errors
    ///
    /// When the budget does not suffice.
    pub fn charge_overhead(&mut self, count: u64) -> Result<(), OpError> {
        self.charge_elements(count.saturating_mul(OVERHEAD))
    }

    /// Takes elements from the budget that are computed without [`Evaluation::allocate`].
    ///
    /// # Errors
    ///
    /// When the budget does not suffice.
    pub fn charge_elements(&mut self, elements: u64) -> Result<(), OpError> {
        match self.budget.elements.checked_sub(elements) {
            Some(left) => {
                self.budget.elements = left;
                Ok(())
            }
            None => Err(over_budget("work")),
        }
    }

    /// Takes the elements of a result from the budget and gives its dimensions. The interpreter does so for
    /// every result before it asks for an op's meaning.
    ///
    /// # Errors
    ///
    /// When the budget does not hold as many, a dimension is unknown, or the size overflows.
    pub fn allocate(&mut self, shape: &Shape) -> Result<Vec<usize>, OpError> {
        let elements = shape.elements();
        let left = elements.and_then(|elements| self.budget.elements.checked_sub(elements));
        match (left, shape.to_known()) {
            (Some(left), Some(dims)) => {
                self.budget.elements = left;
                Ok(dims)
            }
            _ => Err(over_budget("memory")),
        }
    }

    /// A tensor of an element type from exact values: floating-point ones are rounded as the arithmetic does; integers
    /// wrap.
    ///
    /// # Errors
    ///
    /// When there is no memory for the tensor, or the number of values is not the shape's.
    pub fn tensor(&self, dtype: DType, dims: &[usize], numbers: Numbers) -> Result<Tensor, OpError> {
        let tensor = match numbers {
            Numbers::Float(values) => self.arithmetic.round(dtype, dims, values),
            Numbers::Integer(mut values) => {
                values.iter_mut().for_each(|value| *value = numbers::wrap(dtype, *value));
                Tensor::from_i64(dtype, dims, &values)
            }
        };
        tensor.map_err(internal)
    }

    /// Results of which none has an element.
    pub(crate) fn empty_results(&self, types: &[TensorType]) -> Result<Vec<Tensor>, OpError> {
        let empty = |ty: &TensorType| Tensor::zeros(self.arithmetic.kept(ty.dtype), &ty.shape.to_known()?);
        let results: Option<Vec<Tensor>> = types.iter().map(empty).collect();
        results.ok_or_else(|| OpError::new(ErrorKind::Malformed, None, "an empty result of unknown shape"))
    }

    /// The tensor that a state holds.
    ///
    /// # Errors
    ///
    /// When the operand is not a state of this run.
    pub fn read_state(&self, state: &Operand) -> Result<Tensor, OpError> {
        state.id.and_then(|id| self.states.get(&id)).cloned().ok_or_else(no_state)
    }

    /// Replaces the tensor that a state holds.
    ///
    /// # Errors
    ///
    /// When the operand is not a state of this run.
    pub fn write_state(&mut self, state: &Operand, value: Tensor) -> Result<(), OpError> {
        match state.id.and_then(|id| self.states.get_mut(&id)) {
            Some(held) => {
                *held = value;
                Ok(())
            }
            None => Err(no_state()),
        }
    }
}

/// What one round of a loop counts for, and an op each time that a block runs it, in elements: with an ordinary budget an
/// endless loop ends when it has run two million ops, within seconds.
pub const OVERHEAD: u64 = 1024;

fn over_budget(what: &str) -> OpError {
    OpError::new(ErrorKind::Rule, None, format!("the evaluation's budget of {what} does not suffice"))
}

fn no_state() -> OpError {
    OpError::new(ErrorKind::OperandKind, Some("input"), "this is not a state of the running function")
}

/// The error for a result for which there is no memory, or whose values do not fit the shape inferred for it: a fault of
/// the op's row.
pub(crate) fn internal(error: TensorError) -> OpError {
    let kind = match error {
        TensorError::Memory(_) => ErrorKind::Rule,
        _ => ErrorKind::Malformed,
    };
    OpError::new(kind, None, error.to_string())
}

/// An empty vector with room for `count` values.
///
/// # Errors
///
/// When there is no memory for them.
pub(crate) fn room<T>(count: usize) -> Result<Vec<T>, OpError> {
    room_for(count).ok_or_else(|| {
        let bytes = (count as u128).saturating_mul(size_of::<T>() as u128);
        OpError::new(ErrorKind::Rule, None, format!("there is no memory for {bytes} bytes"))
    })
}

/// One value, so many times.
///
/// # Errors
///
/// When there is no memory for them.
pub(crate) fn filled<T: Clone>(count: usize, value: T) -> Result<Vec<T>, OpError> {
    let mut all = room(count)?;
    all.resize(count, value);
    Ok(all)
}

/// As many values as an iterator says that it has.
///
/// # Errors
///
/// When there is no memory for them.
pub(crate) fn collect<T>(values: impl ExactSizeIterator<Item = T>) -> Result<Vec<T>, OpError> {
    let mut all = room(values.len())?;
    all.extend(values);
    Ok(all)
}

/// The unit in the last place of a floating-point type at a value: the spacing of its values there.
///
/// `None` for types that are not floating point.
pub fn ulp(dtype: DType, value: f64) -> Option<f64> {
    let (mantissa_bits, least_exponent) = match dtype {
        DType::Fp16 => (10, -14),
        DType::Bf16 => (7, -126),
        DType::Fp32 => (23, -126),
        DType::Fp64 => (52, -1022),
        _ => return None,
    };
    let exponent = if value == 0.0 || !value.is_finite() { least_exponent } else { exponent_of(value) };
    Some(2f64.powi(exponent.max(least_exponent) - mantissa_bits))
}

fn exponent_of(value: f64) -> i32 {
    ((value.to_bits() >> 52) & 0x7ff) as i32 - 1023
}
