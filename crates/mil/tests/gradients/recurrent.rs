//! Cases of recurrent layers.

use anemone_mil::builder::{AnyCall, BuildError};
use anemone_mil::ops::call;
use anemone_mil::program::ValueId;
use anemone_mil::types::{DType, Opset};

use super::case::{Case, Maker};

/// The cases.
pub const CASES: &[(&str, Maker)] =
    &[("rnn", rnn), ("gru", gru), ("lstm", lstm), ("lstm", lstm_of_two_directions)];

/// The inputs and weights of a layer with so many sums for each unit, and states of so many directions.
struct Layer {
    x: ValueId,
    states: [ValueId; 2],
    weight_ih: ValueId,
    weight_hh: ValueId,
    bias: ValueId,
    sizes: [usize; 4],
}

/// Before ios17 these layers are fp32.
fn settle(case: &mut Case) {
    if case.opset < Opset::IOS17 {
        case.dtype = DType::Fp32;
    }
}

fn layer(case: &mut Case, gates: usize, directions: usize) -> Layer {
    settle(case);
    let sizes = [
        1 + case.random.below(2),
        1 + case.random.below(2),
        1 + case.random.below(2),
        1 + case.random.below(2),
    ];
    let [steps, batch, inputs, units] = sizes;
    let x = case.input(&[steps, batch, inputs]);
    let states = [(); 2].map(|()| [batch, directions * units]);
    let states = states.map(|dims| case.input_between(&dims, -1.0, 1.0));
    let [weight_ih, weight_hh, bias] = weights(case, gates, sizes);
    Layer { x, states, weight_ih, weight_hh, bias, sizes }
}

fn weights(case: &mut Case, gates: usize, [_, _, inputs, units]: [usize; 4]) -> [ValueId; 3] {
    let mut weight = |dims: &[usize]| case.constant_of(case.dtype, dims, |random| random.between(-1.0, 1.0));
    [weight(&[gates * units, inputs]), weight(&[gates * units, units]), weight(&[gates * units])]
}

fn bind(case: &mut Case, results: usize, call: impl Into<AnyCall>) -> Result<Vec<ValueId>, BuildError> {
    case.builder.bind_all(&["y", "h", "c"][..results], call)
}

/// An activation, of those whose kinks the sums of a case keep clear of.
fn smooth(case: &mut Case) -> &'static str {
    case.pick(&["tanh", "sigmoid", "scaled_tanh", "linear"])
}

fn rnn(case: &mut Case) -> Result<Vec<ValueId>, BuildError> {
    let Layer { x, states: [h, _], weight_ih, weight_hh, bias, .. } = layer(case, 1, 1);
    let (direction, all, activation) = (case.pick(&["forward", "reverse"]), case.coin(), smooth(case));
    let op = call::rnn(x, h, weight_ih, weight_hh).bias(bias);
    bind(case, 2, op.direction(direction).output_sequence(all).activation(activation))
}

fn gru(case: &mut Case) -> Result<Vec<ValueId>, BuildError> {
    // The factor 0.2 of the hard sigmoid.
    case.has_rounded_factors();
    let Layer { x, states: [h, _], weight_ih, weight_hh, bias, sizes } = layer(case, 3, 1);
    let (direction, all, activation) = (case.pick(&["forward", "reverse"]), case.coin(), smooth(case));
    let mut op = call::gru(x, h, weight_ih, weight_hh).bias(bias);
    op = op.direction(direction).output_sequence(all).activation(activation);
    if case.opset >= Opset::IOS18 {
        let input_bias = case.constant_of(case.dtype, &[3 * sizes[3]], |random| random.between(-1.0, 1.0));
        op = op.input_bias(input_bias).reset_after(case.coin());
    }
    bind(case, 2, op)
}

fn lstm(case: &mut Case) -> Result<Vec<ValueId>, BuildError> {
    let Layer { x, states: [h, c], weight_ih, weight_hh, bias, sizes } = layer(case, 4, 1);
    let (direction, all) = (case.pick(&["forward", "reverse"]), case.coin());
    let peephole = case.constant_of(case.dtype, &[3 * sizes[3]], |random| random.between(-1.0, 1.0));
    let mut op = call::lstm(x, h, c, weight_ih, weight_hh).bias(bias).peephole(peephole);
    op = op.direction(direction).output_sequence(all);
    op = op.cell_activation(smooth(case)).activation(smooth(case));
    if case.coin() {
        // Beyond all sums, where there is no kink.
        op = op.clip(64.0);
    }
    bind(case, 3, op)
}

fn lstm_of_two_directions(case: &mut Case) -> Result<Vec<ValueId>, BuildError> {
    let Layer { x, states: [h, c], weight_ih, weight_hh, bias, sizes } = layer(case, 4, 2);
    let [back_ih, back_hh, back_bias] = weights(case, 4, sizes);
    let op = call::lstm(x, h, c, weight_ih, weight_hh).bias(bias).direction("bidirectional");
    let op = op.weight_ih_back(back_ih).weight_hh_back(back_hh).bias_back(back_bias);
    let all = case.coin();
    bind(case, 3, op.output_sequence(all))
}
