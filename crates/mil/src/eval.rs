//! The reference interpreter: what a program means, computed slowly and readably.
//!
//! Every op computes in f64 (integers in i64) and rounds once to the declared element type, to nearest even.
//! It runs over an [`Arithmetic`]: this one, or the exact one ([`Interpreter::exact`]), in which every value stays in
//! f64, or a backend's own.
//! A budget of elements and of work lets a hostile program end with an error.

use std::collections::HashMap;
use std::sync::Arc;

use crate::error::ErrorKind;
use crate::ops::{Accuracy, OpDef, OpError, Operand, Operands};
use crate::program::ValueId;
use crate::runtime::RuntimeError;
use crate::specialize::Specialized;
use crate::tensor::{Tensor, TensorError};
use crate::types::{DType, Dim, Shape, TensorType};

mod arithmetic;
mod interpreter;
mod numbers;

pub use arithmetic::{Arithmetic, Declared, Exact, Sums};
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

    /// Replaces the tensor that a function's state holds, for `Executable::set_state`.
    ///
    /// # Errors
    ///
    /// When no state has this name, or its type is another.
    pub fn set_state(
        &mut self,
        specialized: &Specialized,
        name: &str,
        value: &Tensor,
    ) -> Result<(), RuntimeError> {
        match specialized.states.iter().find(|(_, port)| port.name == name) {
            Some((id, port)) if port.ty == value.ty() => {
                let value = self.keep(Arc::new(value.clone()));
                self.states.insert(*id, Arc::unwrap_or_clone(value));
                Ok(())
            }
            Some((_, port)) => Err(RuntimeError::Interface(format!(
                "the state `{name}` is {}, {} was given",
                port.ty,
                value.ty()
            ))),
            None => Err(RuntimeError::Interface(format!("no state is named `{name}`"))),
        }
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

    /// Results of an op: its meaning, held to its type rule and the budget.
    ///
    /// # Errors
    ///
    /// When the op refuses its operands, or the budget does not suffice.
    pub fn apply(&mut self, row: &OpDef, operands: &Operands<'_>) -> Result<Vec<Tensor>, OpError> {
        let types = (row.infer)(operands)?;
        // The length of a list that can grow is not in its type; the meaning asks for what it needs.
        for ty in types.iter().filter(|ty| !(row.gives_list && ty.shape.0.first() == Some(&Dim::Unknown))) {
            self.allocate(&ty.shape)?;
        }
        self.charge(operands.elements())?;
        // Nothing to compute, and so no product of dimensions to overflow.
        if !types.is_empty() && types.iter().all(|ty| ty.shape.elements() == Some(0)) {
            return self.empty_results(&types);
        }
        let results = (row.eval)(operands, self)?;
        check_results(&types, &results)?;
        Ok(results)
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

    /// Takes one more round of a loop from the budget: as much as a result of [`ROUND`] elements.
    ///
    /// # Errors
    ///
    /// When the budget does not suffice.
    pub fn charge_round(&mut self) -> Result<(), OpError> {
        self.allocate(&Shape::known(&[ROUND])).map(|_| ())
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
    /// When the number of values is not the shape's.
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
    fn empty_results(&self, types: &[TensorType]) -> Result<Vec<Tensor>, OpError> {
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

/// What one round of a loop counts for, in elements: with an ordinary budget a loop that computes nothing ends after two
/// million rounds.
pub const ROUND: usize = 1024;

/// An error of an op in a block, as one of the op that has the block.
pub fn within_block(error: RuntimeError) -> OpError {
    OpError::new(ErrorKind::NestedBlock, None, error.to_string())
}

/// A meaning must give what its type rule promises; anything else is a fault of the row.
fn check_results(types: &[TensorType], results: &[Tensor]) -> Result<(), OpError> {
    let fits = |ty: &TensorType, tensor: &Tensor| ty.shape.agrees_with(&tensor.ty().shape);
    if types.len() == results.len() && types.iter().zip(results).all(|(ty, tensor)| fits(ty, tensor)) {
        return Ok(());
    }
    Err(OpError::new(ErrorKind::Malformed, None, "the results are not of the inferred types"))
}

fn over_budget(what: &str) -> OpError {
    OpError::new(ErrorKind::Rule, None, format!("the evaluation's budget of {what} does not suffice"))
}

fn no_state() -> OpError {
    OpError::new(ErrorKind::OperandKind, Some("input"), "this is not a state of the running function")
}

/// The error for a result whose values do not fit the shape inferred for it: a fault of the op's row.
pub(crate) fn internal(error: TensorError) -> OpError {
    OpError::new(ErrorKind::Malformed, None, error.to_string())
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

/// By how much a result may differ from the exact `reference`, given the op's accuracy; `magnitude` is
/// `Σ|x||w|` where the op is a sum.
pub fn tolerance(accuracy: Accuracy, ty: &TensorType, reference: f64, magnitude: f64) -> f64 {
    let unit = ulp(ty.dtype, reference).unwrap_or(0.0);
    match accuracy {
        Accuracy::Exact => 0.5 * unit,
        Accuracy::Ulp(units) => (f64::from(units) + 0.5) * unit,
        Accuracy::Sum(units) => 1e-5 * magnitude + (f64::from(units) + 0.5) * unit,
    }
}
