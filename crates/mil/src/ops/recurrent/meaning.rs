//! What a recurrent layer computes.

use super::{Activation, Cell, Direction, Layer};
use crate::error::ErrorKind;
use crate::eval::{Evaluation, Numbers, filled, room};
use crate::ops::OpError;
use crate::ops::rules::known_dims;
use crate::tensor::Tensor;
use crate::types::Shape;

/// The weights of one direction, in f64.
struct Weights<'a> {
    /// For each sum, those of the inputs and then those of the states.
    rows: Vec<f64>,
    bias: Vec<f64>,
    input_bias: Vec<f64>,
    peephole: Vec<f64>,
    inputs: usize,
    hidden: usize,
    layer: &'a Layer<'a>,
    evaluation: &'a Evaluation,
}

impl<'a> Weights<'a> {
    fn new(
        layer: &'a Layer<'a>,
        direction: &Direction<'a>,
        [inputs, hidden]: [usize; 2],
        evaluation: &'a Evaluation,
    ) -> Result<Weights<'a>, OpError> {
        let [(_, of_inputs), (_, of_states)] = direction.weights;
        let (of_inputs, of_states) = (of_inputs.floats()?, of_states.floats()?);
        let sums = layer.cell.gates() * hidden;
        let mut rows = room(sums * (inputs + hidden))?;
        for sum in 0..sums {
            rows.extend_from_slice(&of_inputs[sum * inputs..][..inputs]);
            rows.extend_from_slice(&of_states[sum * hidden..][..hidden]);
        }
        let vector = |given: Option<&crate::ops::Operand>, length| match given {
            Some(given) => given.floats(),
            None => filled(length, 0.0),
        };
        let bias = vector(direction.bias, sums)?;
        let input_bias = vector(direction.input_bias, sums)?;
        let peephole = vector(direction.peephole, 3 * hidden)?;
        Ok(Weights { rows, bias, input_bias, peephole, inputs, hidden, layer, evaluation })
    }

    /// `start + Σ w·x` over some of the terms of a sum, of which `x` has all.
    fn sum(&self, sum: usize, start: f64, x: &[f64], terms: std::ops::Range<usize>) -> f64 {
        let (w, x) = (&self.rows[sum * x.len()..][..x.len()][terms.clone()], &x[terms]);
        match self.evaluation.arithmetic().sums() {
            Some(sums) => sums.of_products(self.layer.dtype(), start, x, w),
            None => start + x.iter().zip(w).map(|(x, w)| x * w).sum::<f64>(),
        }
    }

    /// The whole sum of a gate for a unit, with its biases. `joined` are the inputs, and then the states.
    fn whole(&self, gate: usize, unit: usize, joined: &[f64]) -> f64 {
        let sum = gate * self.hidden + unit;
        self.sum(sum, self.bias[sum] + self.input_bias[sum], joined, 0..joined.len())
    }

    fn activated(&self, activation: Activation, x: f64) -> f64 {
        activation.at(x, self.layer.dtype(), self.evaluation)
    }

    /// One step: `joined` are the inputs and the states before it; `h`, and `c` of an `lstm`, become those after it.
    fn step(&self, joined: &mut [f64], h: &mut [f64], c: &mut [f64]) {
        match self.layer.cell {
            Cell::Plain { activation } => {
                for (unit, h) in h.iter_mut().enumerate() {
                    *h = self.activated(activation, self.whole(0, unit, joined));
                }
            }
            Cell::Gated { gate, activation, reset_after } => {
                let gates = |gate_number: usize, joined: &[f64]| -> Vec<f64> {
                    (0..self.hidden)
                        .map(|u| self.activated(gate, self.whole(gate_number, u, joined)))
                        .collect()
                };
                let (r, z) = (gates(0, joined), gates(2, joined));
                if !reset_after {
                    joined[self.inputs..].iter_mut().zip(&r).for_each(|(h, r)| *h *= r);
                }
                for (unit, h) in h.iter_mut().enumerate() {
                    let sum = if reset_after {
                        let at = self.hidden + unit;
                        let of_states = self.sum(at, self.bias[at], joined, self.inputs..joined.len());
                        self.sum(at, self.input_bias[at], joined, 0..self.inputs) + r[unit] * of_states
                    } else {
                        self.whole(1, unit, joined)
                    };
                    *h = (1.0 - z[unit]) * self.activated(activation, sum) + z[unit] * *h;
                }
            }
            Cell::Memory { gate, cell, activation, clip, .. } => {
                let clipped = |x: f64| clip.map_or(x, |clip| x.clamp(-clip, clip));
                let peephole = |number: usize, unit: usize| self.peephole[number * self.hidden + unit];
                for (unit, (h, c)) in h.iter_mut().zip(c).enumerate() {
                    let sum = |number, c: f64| self.whole(number, unit, joined) + peephole(number, unit) * c;
                    let (i, f) = (self.activated(gate, sum(0, *c)), self.activated(gate, sum(1, *c)));
                    let z = self.activated(cell, clipped(self.whole(3, unit, joined)));
                    *c = f * *c + i * z;
                    *h = self.activated(gate, sum(2, *c)) * self.activated(activation, *c);
                }
            }
        }
    }
}

/// The results of a layer, before they are rounded.
struct Results {
    sequence: Vec<f64>,
    h: Vec<f64>,
    c: Vec<f64>,
}

impl Layer<'_> {
    /// The results.
    pub(super) fn evaluate(&self, evaluation: &mut Evaluation) -> Result<Vec<Tensor>, OpError> {
        let lengths = known_dims(&Shape(vec![self.steps, self.batch, self.inputs, self.hidden]))?;
        let [steps, batch, inputs, hidden] = lengths[..] else {
            return Err(OpError::new(ErrorKind::Malformed, None, "a recurrent layer has four lengths"));
        };
        let units = hidden * self.directions.len();
        let products = (inputs + hidden) as u64 * (self.cell.gates() * units) as u64;
        evaluation.charge(products.saturating_mul(steps as u64).saturating_mul(batch as u64))?;
        let c = match self.cell {
            Cell::Memory { initial, .. } => initial.floats()?,
            _ => Vec::new(),
        };
        let kept = if self.output_sequence { steps } else { 1 };
        let h = self.initial_h.floats()?;
        let mut results = Results { sequence: filled(kept * batch * units, 0.0)?, h, c };
        let x = self.x.floats()?;
        for (number, direction) in self.directions.iter().enumerate() {
            let weights = Weights::new(self, direction, [inputs, hidden], evaluation)?;
            for element in 0..batch {
                let at = element * units + number * hidden;
                self.run(&weights, direction, (&x, element, [steps, batch, units]), at, &mut results)?;
            }
        }
        let types = self.types()?;
        let values = [results.sequence, results.h, results.c];
        types
            .iter()
            .zip(values)
            .map(|(ty, values)| evaluation.tensor(ty.dtype, &known_dims(&ty.shape)?, Numbers::Float(values)))
            .collect()
    }

    /// One direction of an element of the batch, whose states stand from a position on.
    fn run(
        &self,
        weights: &Weights<'_>,
        direction: &Direction<'_>,
        (x, element, [steps, batch, units]): (&[f64], usize, [usize; 3]),
        at: usize,
        results: &mut Results,
    ) -> Result<(), OpError> {
        let (inputs, hidden) = (weights.inputs, weights.hidden);
        let mut joined = filled(inputs + hidden, 0.0)?;
        let Results { sequence, h, c } = results;
        let h = &mut h[at..at + hidden];
        let c = if c.is_empty() { &mut [][..] } else { &mut c[at..at + hidden] };
        for step in direction.order(steps) {
            joined[..inputs].copy_from_slice(&x[(step * batch + element) * inputs..][..inputs]);
            joined[inputs..].copy_from_slice(h);
            weights.step(&mut joined, h, c);
            if self.output_sequence {
                sequence[step * batch * units + at..][..hidden].copy_from_slice(h);
            }
        }
        if !self.output_sequence {
            sequence[at..at + hidden].copy_from_slice(h);
        }
        Ok(())
    }
}
