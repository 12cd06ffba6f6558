//! Bounds through recurrent layers, whose activations bound their states.

use anemone_mil::ops::{Gru, Lstm, Rnn};

use super::{Interval, Site};

/// What a recurrent layer gives, states and all; `None` for other ops, and for activations without a bound.
pub(super) fn range(site: &Site<'_>) -> Option<Interval> {
    match site.op.name.as_str() {
        // Without a step, the initial state is the last.
        "rnn" => {
            let row = site.bound::<Rnn>()?;
            Some(activation(&row.activation)?.hull(site.range(&row.initial_h)))
        }
        // A mean of the candidate and the state before.
        "gru" => {
            let row = site.bound::<Gru>()?;
            is_gate(&row.recurrent_activation)?;
            Some(activation(&row.activation)?.hull(site.range(&row.initial_h)))
        }
        "lstm" => {
            let row = site.bound::<Lstm>()?;
            is_gate(&row.recurrent_activation)?;
            let steps = row.x.shape().0.first()?.known()? as f64;
            let cell =
                site.range(&row.initial_c).largest() + steps * activation(&row.cell_activation)?.largest();
            let hidden = site.range(&row.initial_h).largest().max(activation(&row.activation)?.largest());
            Some(Interval::symmetric(cell.max(hidden)))
        }
        _ => None,
    }
}

/// What an activation gives, if that is bounded.
fn activation(name: &str) -> Option<Interval> {
    match name.to_ascii_lowercase().as_str() {
        "tanh" | "scaled_tanh" => Some(Interval::symmetric(1.0)),
        "sigmoid" | "hard_sigmoid" | "sigmoid_hard" => Some(Interval::UNIT),
        _ => None,
    }
}

/// Whether an activation gives parts of a whole.
fn is_gate(name: &str) -> Option<()> {
    (activation(name)? == Interval::UNIT).then_some(())
}
