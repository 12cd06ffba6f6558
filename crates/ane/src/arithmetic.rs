//! The engine's arithmetic, over the interpreter's: sums of products in fixed point, sums in fp16, rounding half away
//! from zero, functions from tables, and what single chips get wrong.
//!
//! It was measured on M4 and M6, which agree to the bit; on other chips it is taken to be the same, beside the rules
//! that were found there ([`EngineArithmetic::extrapolation`]). What is not published is computed exactly and rounded once:
//! `softmax` and the normalisations, division, powers, `sin` and `cos`. Only fp16 is the engine's; other element types
//! are computed as declared.

use std::sync::Arc;

use anemone_mil::error::ErrorKind;
use anemone_mil::eval::{Arithmetic, OpInFunction, Product, Start, Sums};
use anemone_mil::mapped::room_for;
use anemone_mil::ops::{OpError, Operands};
use anemone_mil::tensor::{Data, Tensor, TensorError};
use anemone_mil::types::{DType, TensorType};
use half::f16;
use rayon::prelude::*;

use crate::chips::Chip;
use crate::report::{Counts, ProgramReport};
use fixed::Outcome;
use products::{Initial, Matrix};

pub mod fixed;
pub mod products;
mod quirks;
pub mod rounding;
pub mod tables;

/// The arithmetic of a chip's engine.
#[derive(Debug)]
pub struct EngineArithmetic {
    chip: Chip,
    /// What happened in the op at work.
    counts: Counts,
    /// Where it is kept when the op is done.
    report: Arc<ProgramReport>,
}

impl EngineArithmetic {
    /// The arithmetic of this chip; what goes wrong in it is kept in the report.
    pub fn new(chip: Chip, report: Arc<ProgramReport>) -> EngineArithmetic {
        EngineArithmetic { chip, counts: Counts::default(), report }
    }

    /// A sentence that says on which chips the arithmetic was measured, where this is none of them.
    pub fn extrapolation(chip: Chip) -> Option<String> {
        (!chip.arithmetic_is_measured()).then(|| {
            format!("the arithmetic was measured on m4 and m6; on {chip} it is taken to be the same, with what is known to differ")
        })
    }

    fn count(&self, outcome: Outcome) -> f64 {
        self.counts.overflows(u64::from(outcome.saturated));
        self.counts.order_sensitive(u64::from(outcome.order_sensitive));
        self.counts.dropped(u64::from(outcome.dropped));
        outcome.value().to_f64()
    }

    /// Rounds to fp16, and counts what became infinite or zero.
    fn narrow(&self, value: f64) -> f16 {
        let rounded = rounding::to_f16(value);
        if rounded.is_infinite() && !value.is_infinite() {
            self.counts.overflows(1);
        } else if value != 0.0 && rounded.to_bits() << 1 == 0 {
            self.counts.flushed(1);
        }
        rounded
    }
}

impl Arithmetic for EngineArithmetic {
    fn round(&self, dtype: DType, dims: &[usize], values: Vec<f64>) -> Result<Tensor, TensorError> {
        if dtype != DType::Fp16 {
            return Tensor::from_f64(dtype, dims, &values);
        }
        let no_memory = || TensorError::Memory(TensorType::new(dtype, dims));
        let mut rounded = room_for(values.len()).ok_or_else(no_memory)?;
        values.par_iter().with_min_len(4096).map(|&value| self.narrow(value)).collect_into_vec(&mut rounded);
        Tensor::new(dtype, dims, Data::F16(rounded))
    }

    fn sums(&self) -> Option<&dyn Sums> {
        Some(self)
    }

    fn function(&self, op: &str, dtype: DType, x: f64) -> Option<f64> {
        if dtype != DType::Fp16 {
            return None;
        }
        let value = quirks::function(self.chip, op, x).or_else(|| tables::value(op, x))?;
        if value.is_infinite() && x.is_finite() {
            self.counts.overflows(1);
        }
        Some(value)
    }

    fn begin(&self, at: OpInFunction<'_>, operands: &mut Operands<'_>) {
        self.counts.take();
        quirks::before(self.chip, at, operands);
    }

    fn end(&self, at: OpInFunction<'_>, operands: &Operands<'_>, results: &mut [Tensor]) {
        self.counts.overflows(quirks::after(self.chip, at, operands, results));
        let name = at.op.results.first().map_or("", |&result| &at.function.value(result).name);
        self.report.record(name, &at.op.name, self.counts.take());
    }
}

/// Numbers of fp16 from how the interpreter holds them, NaN kept.
fn as_f16(value: f64) -> f16 {
    if value.is_nan() { f16::from_f64(value) } else { rounding::to_f16(value) }
}

fn all_as_f16(values: &[f64]) -> Option<Vec<f16>> {
    let mut narrow = room_for(values.len())?;
    values.par_iter().with_min_len(4096).map(|&value| as_f16(value)).collect_into_vec(&mut narrow);
    Some(narrow)
}

impl Sums for EngineArithmetic {
    fn of_products(&self, dtype: DType, start: f64, x: &[f64], y: &[f64]) -> f64 {
        if dtype != DType::Fp16 {
            return x.iter().zip(y).fold(start, |sum, (x, y)| sum + x * y);
        }
        let [x, y] = [x, y].map(|values| values.iter().map(|&value| as_f16(value)).collect::<Vec<f16>>());
        self.count(fixed::dot(fixed::initial(as_f16(start)), &x, &y))
    }

    /// Accumulates in fp16, term by term.
    fn of_elements(&self, dtype: DType, x: &[f64]) -> f64 {
        if dtype != DType::Fp16 {
            return x.iter().sum();
        }
        let add = |sum: f64, &term: &f64| rounding::to_f16(sum + rounding::to_f16(term).to_f64()).to_f64();
        let sum = x.iter().fold(0.0, add);
        if sum.is_infinite() && x.iter().all(|term| term.is_finite()) {
            self.counts.overflows(1);
        }
        sum
    }

    fn of_matrices(&self, product: &Product<'_>) -> Result<Vec<f64>, OpError> {
        if product.dtype != DType::Fp16 {
            return product.sum_by_sum(|start, x, y| self.of_products(product.dtype, start, x, y));
        }
        self.in_fixed_point(product).ok_or_else(|| {
            OpError::new(ErrorKind::Rule, None, "there is no memory for the product of these matrices")
        })
    }
}

impl EngineArithmetic {
    /// A product of fp16 matrices; `None` where there is no memory for it.
    fn in_fixed_point(&self, product: &Product<'_>) -> Option<Vec<f64>> {
        let (x, y) = (all_as_f16(product.x.values)?, all_as_f16(product.y.values)?);
        let fixed =
            |numbers: &[f64]| -> Vec<i64> { numbers.iter().map(|&n| fixed::initial(as_f16(n))).collect() };
        let numbers;
        let initial = match product.start {
            Start::Zero => Initial::Zero,
            Start::Rows(rows) => {
                numbers = fixed(rows);
                Initial::Rows(&numbers)
            }
            Start::Columns(columns) => {
                numbers = fixed(columns);
                Initial::Columns(&numbers)
            }
        };
        let x = Matrix { values: &x, transposed: product.x.transposed };
        let y = Matrix { values: &y, transposed: product.y.transposed };
        let outcomes = products::multiply(x, y, initial, product.sizes)?;
        let mut values = room_for(outcomes.len())?;
        values.extend(outcomes.into_iter().map(|outcome| self.count(outcome)));
        Some(values)
    }
}
