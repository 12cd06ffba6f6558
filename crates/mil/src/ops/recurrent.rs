//! Recurrent layers: `rnn`, `gru` and `lstm`.
//!
//! What a layer is made of is in `recurrent/layer.rs`, its meaning in `recurrent/meaning.rs`; `recurrent/written.rs` writes
//! it out, step by step.

use crate::ops::{Accuracy, Constant, DTypeSet, FLOAT, OpError, Operand};
use crate::types::DType;

mod activation;
mod layer;
mod meaning;
mod written;

use activation::Activation;
use layer::{Cell, Direction, Layer};

/// fp32, the only type of these layers before ios17.
const FP32: DTypeSet = DTypeSet::of(&[DType::Fp32]);

crate::ops! {
    /// `h_t = activation(weight_ih · x_t + weight_hh · h_{t−1} + bias)` for each step of `x [s, b, I]`, from
    /// `initial_h [b, H]` on, with `weight_ih [H, I]`, `weight_hh [H, H]` and `bias [H]`, 0 by default. Gives `[s, b, H]`,
    /// all of them, if `output_sequence`, or else `[1, b, H]`, the last; and the last as `[b, H]`. In the direction
    /// `reverse`, not `forward`, the last step of `x` comes first; `h_t` stands at the place of `x_t`.
    ///
    /// Activations are `relu`, `tanh`, `sigmoid`, `linear`, `scaled_tanh` and `sigmoid_hard`, or `hard_sigmoid`. The
    /// last three have parameters that the op does not name: they are those that the ops of these names have by default,
    /// `tanh(x)` and `min(max(0.2x + 0.5, 0), 1)`. States are not rounded from one step to the next.
    Rnn = rnn(x: Operand[T], initial_h: Operand[T], weight_ih: Constant[T], weight_hh: Constant[T];
        bias: Option<Constant>[T], direction: String = "forward", output_sequence: bool = false,
        activation: String = "tanh")
        since IOS15 where [T: FP32]
        since IOS17 where [T: FLOAT]
        { infer: |row| row.layer()?.types(), eval: |row, evaluation| row.layer()?.evaluate(evaluation),
          accuracy: Accuracy::Sum(4); write_out: |row, writer| Layer::write_out(row.layer(), writer);
          flops: |row| row.layer().ok()?.flops() }

    /// Gated recurrent units, for each step of `x [s, b, I]`, from `initial_h [b, H]` on:
    ///
    /// * `r = recurrent_activation(W_r · x_t + R_r · h_{t−1} + b_r)`
    /// * `z = recurrent_activation(W_z · x_t + R_z · h_{t−1} + b_z)`
    /// * `o = activation(W_o · x_t + R_o · (r * h_{t−1}) + b_o)`
    /// * `h_t = (1 − z) * o + z * h_{t−1}`
    ///
    /// `weight_ih [3H, I]`, `weight_hh [3H, H]` and `bias [3H]` have the parts of `r`, `o` and `z`, in this order.
    /// `input_bias [3H]` is added where `bias` is. With `reset_after`, `o = activation(W_o · x_t + input_b_o +
    /// r * (R_o · h_{t−1} + b_o))`, as PyTorch has it. Results, directions and activations are those of `rnn`.
    ///
    /// coremltools' text leaves open what `r` is multiplied by, and of `reset_after` says the contrary of its name: what
    /// stands here is what Core ML's older format and the system's graphs (`resetAfter`) say of it.
    Gru = gru(x: Operand[T], initial_h: Operand[T], weight_ih: Constant[T], weight_hh: Constant[T];
        bias: Option<Constant>[T], direction: String = "forward", output_sequence: bool = false,
        recurrent_activation: String = "sigmoid", activation: String = "tanh",
        #[since = IOS18] reset_after: bool = false, #[since = IOS18] input_bias: Option<Constant>[T])
        since IOS15 where [T: FP32]
        since IOS17 where [T: FLOAT]
        since IOS18 where [T: FLOAT]
        { infer: |row| row.layer()?.types(), eval: |row, evaluation| row.layer()?.evaluate(evaluation),
          accuracy: Accuracy::Sum(4); write_out: |row, writer| Layer::write_out(row.layer(), writer);
          flops: |row| row.layer().ok()?.flops() }

    /// Long short-term memory, for each step of `x [s, b, I]`, from `initial_h` and `initial_c`, both `[b, H]`, on:
    ///
    /// * `i = recurrent_activation(W_i · x_t + R_i · h_{t−1} + p_i * c_{t−1} + b_i)`
    /// * `f = recurrent_activation(W_f · x_t + R_f · h_{t−1} + p_f * c_{t−1} + b_f)`
    /// * `z = cell_activation(clipped(W_z · x_t + R_z · h_{t−1} + b_z))`
    /// * `c_t = f * c_{t−1} + i * z`
    /// * `o = recurrent_activation(W_o · x_t + R_o · h_{t−1} + p_o * c_t + b_o)`
    /// * `h_t = o * activation(c_t)`
    ///
    /// `weight_ih [4H, I]`, `weight_hh [4H, H]` and `bias [4H]`, 0 by default, have the parts of `i`, `f`, `o` and `z`,
    /// in this order; `peephole [3H]`, 0 by default, those of `i`, `f` and `o`. Results are `h` as those of `rnn`, and
    /// the last `c` as `[b, H]`. In the direction `bidirectional`, a second layer of the weights `…_back` goes through `x`
    /// the other way; its states are those from `H` on in `[b, 2H]` and in `[s, b, 2H]`. Activations are those of `rnn`,
    /// of which only `hard_sigmoid` is so called.
    ///
    /// coremltools' text says only that with `clip` the cell gate lies within ±`clip`; its equations have no peepholes.
    /// Core ML's older format has both, and clips the argument of the activation, as it is done here.
    Lstm = lstm(x: Operand[T], initial_h: Operand[T], initial_c: Operand[T], weight_ih: Constant[T],
        weight_hh: Constant[T];
        bias: Option<Constant>[T], peephole: Option<Constant>[T], weight_ih_back: Option<Constant>[T],
        weight_hh_back: Option<Constant>[T], bias_back: Option<Constant>[T], peephole_back: Option<Constant>[T],
        direction: String = "forward", output_sequence: bool = false, recurrent_activation: String = "sigmoid",
        cell_activation: String = "tanh", activation: String = "tanh", clip: Option<f64>[T])
        since IOS15 where [T: FP32]
        since IOS17 where [T: FLOAT]
        { infer: |row| row.layer()?.types(), eval: |row, evaluation| row.layer()?.evaluate(evaluation),
          accuracy: Accuracy::Sum(4); write_out: |row, writer| Layer::write_out(row.layer(), writer);
          flops: |row| row.layer().ok()?.flops() }
}

impl Rnn {
    fn layer(&self) -> Result<Layer<'_>, OpError> {
        let activation = Activation::of("activation", &self.activation)?;
        let bias = self.bias.as_deref();
        let direction = Direction::new(self.weights(), bias, backwards(&self.direction)?);
        Layer::new(
            &self.x,
            &self.initial_h,
            vec![direction],
            Cell::Plain { activation },
            self.output_sequence,
        )
    }

    fn weights(&self) -> [(&'static str, &Operand); 2] {
        [("weight_ih", &self.weight_ih), ("weight_hh", &self.weight_hh)]
    }
}

impl Gru {
    fn layer(&self) -> Result<Layer<'_>, OpError> {
        let cell = Cell::Gated {
            gate: Activation::of("recurrent_activation", &self.recurrent_activation)?,
            activation: Activation::of("activation", &self.activation)?,
            reset_after: self.reset_after,
        };
        let weights: [(&str, &Operand); 2] = [("weight_ih", &self.weight_ih), ("weight_hh", &self.weight_hh)];
        let mut direction = Direction::new(weights, self.bias.as_deref(), backwards(&self.direction)?);
        direction.input_bias = self.input_bias.as_deref();
        Layer::new(&self.x, &self.initial_h, vec![direction], cell, self.output_sequence)
    }
}

impl Lstm {
    fn layer(&self) -> Result<Layer<'_>, OpError> {
        let cell = Cell::Memory {
            gate: Activation::of_lstm("recurrent_activation", &self.recurrent_activation)?,
            cell: Activation::of_lstm("cell_activation", &self.cell_activation)?,
            activation: Activation::of_lstm("activation", &self.activation)?,
            clip: self.clip_limit()?,
            initial: &self.initial_c,
        };
        let weights: [(&str, &Operand); 2] = [("weight_ih", &self.weight_ih), ("weight_hh", &self.weight_hh)];
        let both = self.direction == "bidirectional";
        let reverse = !both
            && backwards(&self.direction)
                .map_err(|error| error.found(found(&self.direction)).with_help("or bidirectional"))?;
        let mut direction = Direction::new(weights, self.bias.as_deref(), reverse);
        direction.peephole = self.peephole.as_deref();
        let mut directions = vec![direction];
        if both {
            let back = |name: &str, weight: &Option<Constant>| match weight {
                Some(_) => Ok(()),
                None => Err(OpError::rule(name, "must be given for two directions")
                    .found("`direction` is bidirectional")),
            };
            back("weight_ih_back", &self.weight_ih_back)?;
            back("weight_hh_back", &self.weight_hh_back)?;
            if let (Some(input), Some(hidden)) = (&self.weight_ih_back, &self.weight_hh_back) {
                let weights: [(&str, &Operand); 2] = [("weight_ih_back", input), ("weight_hh_back", hidden)];
                let mut second = Direction::new(weights, self.bias_back.as_deref(), true);
                second.peephole = self.peephole_back.as_deref();
                directions.push(second);
            }
        }
        Layer::new(&self.x, &self.initial_h, directions, cell, self.output_sequence)
    }

    /// The largest argument of the cell gate.
    fn clip_limit(&self) -> Result<Option<f64>, OpError> {
        match self.clip {
            Some(limit) if limit.is_nan() || limit < 0.0 => {
                Err(OpError::rule("clip", "must not be negative").found(format!("found {limit}")))
            }
            limit => Ok(limit),
        }
    }
}

/// Whether the last step comes first.
fn backwards(direction: &str) -> Result<bool, OpError> {
    match direction {
        "forward" => Ok(false),
        "reverse" => Ok(true),
        _ => Err(OpError::rule("direction", "must be forward or reverse").found(found(direction))),
    }
}

fn found(text: &str) -> String {
    format!("found \"{text}\"")
}
