//! What a recurrent layer is made of, and what must hold of its shapes.

use super::Activation;
use crate::ops::{OpError, Operand};
use crate::types::{DType, Dim, Shape, TensorType};

/// What a step does with its sums.
#[derive(Debug, Clone, Copy)]
pub(super) enum Cell<'a> {
    /// `rnn`.
    Plain { activation: Activation },
    /// `gru`, with gates in the order r, o, z.
    Gated { gate: Activation, activation: Activation, reset_after: bool },
    /// `lstm`, with gates in the order i, f, o, z, and the initial `c`.
    Memory {
        gate: Activation,
        cell: Activation,
        activation: Activation,
        clip: Option<f64>,
        initial: &'a Operand,
    },
}

impl Cell<'_> {
    /// The number of sums for each unit.
    pub(super) fn gates(&self) -> usize {
        match self {
            Cell::Plain { .. } => 1,
            Cell::Gated { .. } => 3,
            Cell::Memory { .. } => 4,
        }
    }
}

/// What goes through the steps one way.
#[derive(Debug, Clone, Copy)]
pub(super) struct Direction<'a> {
    /// The parameters `weight_ih` and `weight_hh`, with their names.
    pub weights: [(&'static str, &'a Operand); 2],
    pub bias: Option<&'a Operand>,
    pub input_bias: Option<&'a Operand>,
    pub peephole: Option<&'a Operand>,
    /// Whether the last step comes first.
    pub backwards: bool,
}

impl<'a> Direction<'a> {
    pub(super) fn new(
        weights: [(&'static str, &'a Operand); 2],
        bias: Option<&'a Operand>,
        backwards: bool,
    ) -> Direction<'a> {
        Direction { weights, bias, input_bias: None, peephole: None, backwards }
    }

    /// The numbers of so many steps, in their order.
    pub(super) fn order(&self, steps: usize) -> impl Iterator<Item = usize> + use<> {
        let backwards = self.backwards;
        (0..steps).map(move |step| if backwards { steps - 1 - step } else { step })
    }
}

/// A recurrent layer whose shapes fit together.
#[derive(Debug, Clone)]
pub(super) struct Layer<'a> {
    pub x: &'a Operand,
    pub initial_h: &'a Operand,
    pub directions: Vec<Direction<'a>>,
    pub cell: Cell<'a>,
    pub output_sequence: bool,
    /// `s`.
    pub steps: Dim,
    /// `b`.
    pub batch: Dim,
    /// `I`.
    pub inputs: Dim,
    /// `H`.
    pub hidden: Dim,
}

impl<'a> Layer<'a> {
    pub(super) fn new(
        x: &'a Operand,
        initial_h: &'a Operand,
        directions: Vec<Direction<'a>>,
        cell: Cell<'a>,
        output_sequence: bool,
    ) -> Result<Layer<'a>, OpError> {
        let [steps, batch, inputs] = x.shape().0[..] else {
            return Err(OpError::rule("x", "must have rank 3: [s, b, I]").found(format!("found {}", x.ty)));
        };
        let (name, recurrent) = directions[0].weights[1];
        let &[_, hidden] = &recurrent.shape().0[..] else {
            let error = OpError::rule(name, "must have rank 2: a row of H weights for each sum");
            return Err(error.found(format!("found {}", recurrent.ty)));
        };
        let layer = Layer { x, initial_h, directions, cell, output_sequence, steps, batch, inputs, hidden };
        layer.check()?;
        Ok(layer)
    }

    /// So many times `H`.
    fn wide(&self, times: usize) -> Result<Dim, OpError> {
        let length = self.hidden.known().map(|hidden| hidden.checked_mul(times as u64));
        match length {
            None => Ok(Dim::Unknown),
            Some(Some(length)) => Ok(Dim::Known(length)),
            Some(None) => Err(OpError::rule(self.directions[0].weights[1].0, "is too large")),
        }
    }

    fn check(&self) -> Result<(), OpError> {
        let sums = self.wide(self.cell.gates())?;
        let states = Shape(vec![self.batch, self.wide(self.directions.len())?]);
        check("initial_h", self.initial_h, &states)?;
        if let Cell::Memory { initial, .. } = self.cell {
            check("initial_c", initial, &states)?;
        }
        for (number, direction) in self.directions.iter().enumerate() {
            let [(input_name, input), (hidden_name, hidden)] = direction.weights;
            check(input_name, input, &Shape(vec![sums, self.inputs]))?;
            check(hidden_name, hidden, &Shape(vec![sums, self.hidden]))?;
            let names = match number {
                0 => ["bias", "input_bias", "peephole"],
                _ => ["bias_back", "input_bias", "peephole_back"],
            };
            let vectors =
                [(direction.bias, sums), (direction.input_bias, sums), (direction.peephole, self.wide(3)?)];
            for (name, (vector, length)) in names.into_iter().zip(vectors) {
                vector.map_or(Ok(()), |vector| check(name, vector, &Shape(vec![length])))?;
            }
        }
        Ok(())
    }

    /// The element type.
    pub(super) fn dtype(&self) -> DType {
        self.x.dtype()
    }

    /// The types of the results.
    pub(super) fn types(&self) -> Result<Vec<TensorType>, OpError> {
        let steps = if self.output_sequence { self.steps } else { Dim::Known(1) };
        let units = self.wide(self.directions.len())?;
        let ty = |dims: Vec<Dim>| TensorType { dtype: self.dtype(), shape: Shape(dims) };
        let state = ty(vec![self.batch, units]);
        let mut types = vec![ty(vec![steps, self.batch, units]), state.clone()];
        types.extend(matches!(self.cell, Cell::Memory { .. }).then_some(state));
        Ok(types)
    }

    /// Two for each product that is added up; what follows the sums is not counted.
    pub(super) fn flops(&self) -> Option<u64> {
        let terms = self.inputs.known()?.checked_add(self.hidden.known()?)?;
        let sums = self.hidden.known()?.checked_mul((self.cell.gates() * self.directions.len()) as u64)?;
        let times = self.steps.known()?.checked_mul(self.batch.known()?)?;
        terms.checked_mul(2)?.checked_mul(sums)?.checked_mul(times)
    }
}

/// Refuses what is given for a parameter where it has another shape.
fn check(name: &str, operand: &Operand, shape: &Shape) -> Result<(), OpError> {
    if operand.shape().agrees_with(shape) {
        return Ok(());
    }
    Err(OpError::rule(name, format!("must have the shape {shape}"))
        .found(format!("found {}", operand.shape())))
}
