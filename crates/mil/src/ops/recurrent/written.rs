//! A recurrent layer as products and elementwise ops: one product for the inputs of all steps, then one for each step.

use super::{Cell, Direction, Layer};
use crate::builder::{BuildError, Input};
use crate::ops::{OpError, Operand, Writer, call};
use crate::program::ValueId;
use crate::types::DType;

/// All that is computed is fp32: states would lose in fp16 what the op keeps from step to step.
const INNER: DType = DType::Fp32;

/// The most steps that are written out: each is as many as twenty ops.
const MOST_STEPS: usize = 4096;

/// What a direction's steps read beside states.
struct Parts {
    /// For each step, `[b, G·H]`: the products with the inputs, and the biases.
    inputs: Vec<ValueId>,
    weight_hh: Input,
    /// With `reset_after`, what is added to the product with the states.
    hidden_bias: Option<Input>,
    /// For `i`, `f` and `o`, where they are given.
    peepholes: Option<Vec<ValueId>>,
}

impl Layer<'_> {
    /// Writes a layer out.
    pub(super) fn write_out(
        layer: Result<Layer<'_>, OpError>,
        writer: &mut Writer<'_>,
    ) -> Result<Vec<ValueId>, BuildError> {
        let layer = layer.map_err(|error| writer.refused(error))?;
        let [steps, batch, _] = writer.dims("x", layer.x)?[..] else { return Ok(Vec::new()) };
        if !(1..=MOST_STEPS).contains(&steps) {
            let message = format!("must have 1 to {MOST_STEPS} steps, to be written out");
            return Err(writer.refused(OpError::rule("x", message).found(format!("found {steps}"))));
        }
        let h = layer.initial(writer, "initial_h", layer.initial_h)?;
        let c = match layer.cell {
            Cell::Memory { initial, .. } => layer.initial(writer, "initial_c", initial)?,
            _ => Vec::new(),
        };
        let (mut sequences, mut last_h, mut last_c) = (Vec::new(), Vec::new(), Vec::new());
        for (number, direction) in layer.directions.iter().enumerate() {
            let parts = layer.parts(writer, direction, [steps, batch])?;
            let (mut h, mut c) = (h[number], c.get(number).copied());
            let mut states = vec![h; steps];
            for step in direction.order(steps) {
                (h, c) = layer.step(writer, &parts, step, h, c)?;
                states[step] = h;
            }
            sequences.push(states);
            last_h.push(h);
            last_c.extend(c);
        }
        layer.results(writer, sequences, last_h, last_c)
    }

    /// The initial states of each direction.
    fn initial(
        &self,
        writer: &mut Writer<'_>,
        name: &str,
        given: &Operand,
    ) -> Result<Vec<ValueId>, BuildError> {
        let states = writer.cast(name, given, INNER)?;
        let count = self.directions.len();
        writer.bind_all(&format!("{name}_of"), count, call::split(states, 1).num_splits(count as i32))
    }

    fn parts(
        &self,
        writer: &mut Writer<'_>,
        direction: &Direction<'_>,
        [steps, batch]: [usize; 2],
    ) -> Result<Parts, BuildError> {
        let [(_, weight_ih), (_, weight_hh)] = direction.weights;
        let inputs = writer.dims("x", self.x)?[2];
        let x = writer.cast("x", self.x, INNER)?;
        let rows = writer.lengths(&[steps * batch, inputs])?;
        let x = writer.bind("rows", call::reshape(x, rows))?;
        let weight_ih = writer.cast("weight_ih", weight_ih, INNER)?;
        let mut sums = writer.bind("inputs", call::matmul(x, weight_ih).transpose_y(true))?;
        let after = matches!(self.cell, Cell::Gated { reset_after: true, .. });
        let added = [direction.input_bias, direction.bias.filter(|_| !after)];
        for bias in added.into_iter().flatten() {
            let bias = writer.cast("bias", bias, INNER)?;
            sums = writer.bind("biased", call::add(sums, bias))?;
        }
        let each = call::split(sums, 0).num_splits(steps as i32);
        let inputs = writer.bind_all("input", steps, each)?;
        let weight_hh = writer.cast("weight_hh", weight_hh, INNER)?;
        let hidden_bias = match direction.bias.filter(|_| after) {
            Some(bias) => Some(writer.cast("bias", bias, INNER)?),
            None => None,
        };
        let peepholes = match direction.peephole {
            Some(peephole) => {
                let all = writer.cast("peephole", peephole, INNER)?;
                Some(writer.bind_all("peephole", 3, call::split(all, 0).num_splits(3))?)
            }
            None => None,
        };
        Ok(Parts { inputs, weight_hh, hidden_bias, peepholes })
    }

    /// The states after a step.
    fn step(
        &self,
        writer: &mut Writer<'_>,
        parts: &Parts,
        step: usize,
        h: ValueId,
        c: Option<ValueId>,
    ) -> Result<(ValueId, Option<ValueId>), BuildError> {
        let inputs = parts.inputs[step];
        match (self.cell, c) {
            (Cell::Plain { activation }, _) => {
                let product = call::matmul(h, parts.weight_hh.clone()).transpose_y(true);
                let sum = writer.bind("sum", call::add(product, inputs))?;
                Ok((activation.write_out("h", sum, writer)?, None))
            }
            (Cell::Gated { .. }, _) => Ok((self.gated_step(writer, parts, inputs, h)?, None)),
            (Cell::Memory { .. }, Some(c)) => {
                let (h, c) = self.memory_step(writer, parts, inputs, h, c)?;
                Ok((h, Some(c)))
            }
            (Cell::Memory { .. }, None) => Ok((h, None)),
        }
    }

    fn gated_step(
        &self,
        writer: &mut Writer<'_>,
        parts: &Parts,
        inputs: ValueId,
        h: ValueId,
    ) -> Result<ValueId, BuildError> {
        let Cell::Gated { gate, activation, reset_after } = self.cell else { return Ok(h) };
        let of_inputs = writer.bind_all("of_inputs", 3, call::split(inputs, 1).num_splits(3))?;
        let weight = parts.weight_hh.clone();
        let (of_states, candidate) = if reset_after {
            let mut products = writer.bind("of_states", call::matmul(h, weight).transpose_y(true))?;
            if let Some(bias) = &parts.hidden_bias {
                products = writer.bind("of_states", call::add(products, bias.clone()))?;
            }
            let each = writer.bind_all("of_state", 3, call::split(products, 1).num_splits(3))?;
            ([each[0], each[2]], Candidate::Sum(each[1]))
        } else {
            let each = writer.bind_all("weight", 3, call::split(weight, 0).num_splits(3))?;
            let mut product = |w| writer.bind("of_states", call::matmul(h, w).transpose_y(true));
            ([product(each[0])?, product(each[2])?], Candidate::Weight(each[1]))
        };
        let mut gates = [h; 2];
        for (number, (gate_input, state)) in
            [of_inputs[0], of_inputs[2]].into_iter().zip(of_states).enumerate()
        {
            let sum = writer.bind("sum", call::add(gate_input, state))?;
            gates[number] = gate.write_out(["r", "z"][number], sum, writer)?;
        }
        let [r, z] = gates;
        let of_states = match candidate {
            Candidate::Sum(sum) => writer.bind("reset", call::mul(r, sum))?,
            Candidate::Weight(weight) => {
                let reset = writer.bind("reset", call::mul(r, h))?;
                writer.bind("of_states", call::matmul(reset, weight).transpose_y(true))?
            }
        };
        let sum = writer.bind("sum", call::add(of_inputs[1], of_states))?;
        let o = activation.write_out("o", sum, writer)?;
        // (1 − z)·o + z·h, with one product less.
        writer.bind("h", call::add(o, call::mul(z, call::sub(h, o))))
    }

    fn memory_step(
        &self,
        writer: &mut Writer<'_>,
        parts: &Parts,
        inputs: ValueId,
        h: ValueId,
        c: ValueId,
    ) -> Result<(ValueId, ValueId), BuildError> {
        let Cell::Memory { gate, cell, activation, clip, .. } = self.cell else { return Ok((h, c)) };
        let product = call::matmul(h, parts.weight_hh.clone()).transpose_y(true);
        let sums = writer.bind("sums", call::add(product, inputs))?;
        let sums = writer.bind_all("sum", 4, call::split(sums, 1).num_splits(4))?;
        let peep = |writer: &mut Writer<'_>, number: usize, c: ValueId| match &parts.peepholes {
            Some(peepholes) => writer.bind("seen", call::add(sums[number], call::mul(peepholes[number], c))),
            None => Ok(sums[number]),
        };
        let (i, f) = (peep(writer, 0, c)?, peep(writer, 1, c)?);
        let (i, f) = (gate.write_out("i", i, writer)?, gate.write_out("f", f, writer)?);
        let z = match clip {
            Some(clip) if clip.is_finite() => writer.bind("clipped", clipped(sums[3], clip))?,
            _ => sums[3],
        };
        let z = cell.write_out("z", z, writer)?;
        let c = writer.bind("c", call::add(call::mul(f, c), call::mul(i, z)))?;
        let o = peep(writer, 2, c)?;
        let o = gate.write_out("o", o, writer)?;
        let active = activation.write_out("active", c, writer)?;
        Ok((writer.bind("h", call::mul(o, active))?, c))
    }

    /// The results, of all directions beside one another.
    fn results(
        &self,
        writer: &mut Writer<'_>,
        sequences: Vec<Vec<ValueId>>,
        last_h: Vec<ValueId>,
        last_c: Vec<ValueId>,
    ) -> Result<Vec<ValueId>, BuildError> {
        let mut whole = Vec::with_capacity(sequences.len());
        for (states, &last) in sequences.into_iter().zip(&last_h) {
            let states = if self.output_sequence { states } else { vec![last] };
            whole.push(writer.bind("states", call::stack(states, 0))?);
        }
        let mut results = vec![self.result(writer, whole, 2)?, self.result(writer, last_h, 1)?];
        if !last_c.is_empty() {
            results.push(self.result(writer, last_c, 1)?);
        }
        Ok(results)
    }

    /// A result, whose parts are joined along an axis.
    fn result(&self, writer: &mut Writer<'_>, parts: Vec<ValueId>, axis: i32) -> Result<ValueId, BuildError> {
        let joined = match parts[..] {
            [one] => one,
            _ => writer.bind("both", call::concat(parts, axis))?,
        };
        match self.dtype() {
            INNER => writer.bind("", call::identity(joined)),
            dtype => writer.bind("", call::cast(joined, dtype.name())),
        }
    }
}

/// The argument of the cell gate within a limit, as `clip` does not take an empty interval.
fn clipped(x: ValueId, limit: f64) -> crate::builder::AnyCall {
    call::maximum(call::minimum(x, limit), -limit).into()
}

/// What the states' part of a candidate is computed from.
enum Candidate {
    /// Their product, which the reset gate is still to multiply.
    Sum(ValueId),
    /// The weights, for states that the reset gate has multiplied.
    Weight(ValueId),
}
