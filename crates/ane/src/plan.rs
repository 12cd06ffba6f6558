//! How the classifier head is cut for a chip: tiles of the vocabulary, programs, buffers, bytes, time, and why.
//!
//! A plan is data: it names the programs by what they compute ([`Role`]) and the rows of the vocabulary they take, and
//! whoever builds programs builds them from that.

mod limits;
mod programs;
mod roofline;
mod tiles;

use std::ops::Range;

use serde::Serialize;
use thiserror::Error;

use crate::chips::Chip;
use crate::device::Weights;
pub use limits::Limits;
pub use programs::{Buffer, PlannedProgram, Role};
pub use roofline::Roofline;

/// The dimensions of a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct HeadSizes {
    /// Vocabulary V.
    pub vocab: usize,
    /// Model dimension D.
    pub dim: usize,
    /// Positions S.
    pub positions: usize,
}

/// What leaves the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Form {
    /// Logits, probabilities and their gradients: one program for each step.
    #[default]
    Logits,
    /// Maxima, sums and mixtures of rows: two programs per tile, and logits stay on the engine.
    Fused,
}

/// A plan.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct HeadPlan {
    /// The chip.
    pub chip: Chip,
    /// The head as it was asked for.
    pub head: HeadSizes,
    /// Positions of the programs: those asked for, and filled up to a multiple of 16 (R11).
    pub positions: usize,
    /// How weights come.
    pub weights: Weights,
    /// What leaves the engine.
    pub form: Form,
    /// The tiles of the vocabulary.
    pub tiles: Vec<Range<usize>>,
    /// The programs, in the order in which a step runs them.
    pub programs: Vec<PlannedProgram>,
    /// The most programs that one process can compile or load on the chip (R8, R9, R48).
    pub most_programs: usize,
    /// Dispatches of a training step.
    pub dispatches: usize,
    /// Bytes that a training step moves to and from the engine, weights included.
    pub bytes: u64,
    /// Estimated time of a training step's head on the engine, in milliseconds.
    pub ms: f64,
    /// Why it is so, a sentence for each choice.
    pub reasons: Vec<String>,
}

/// Why there is no plan.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PlanError {
    /// A dimension is 0.
    #[error("the {0} is 0; it must be at least 1")]
    Empty(&'static str),
    /// More tokens than a plan lists the tiles of.
    #[error("the vocabulary is {0}; a plan is made for at most {MOST_TOKENS}")]
    Vocabulary(usize),
    /// A dimension that is not cut is over a limit.
    #[error(
        "no tiling of the vocabulary fits {chip}: the {what} is {length}, and {rule} allows {most}; only the \
         vocabulary is cut in tiles"
    )]
    Length {
        /// The chip.
        chip: Chip,
        /// The dimension.
        what: &'static str,
        /// Its length.
        length: usize,
        /// The limit.
        most: usize,
        /// The rule that has it.
        rule: &'static str,
    },
    /// More programs than a process may have.
    #[error(
        "no tiling of the vocabulary fits {chip} with baked weights: even tiles of {rows} rows need {programs} \
         programs, and a process compiles and loads at most {most} (R8, R9, R48); give the weights as inputs"
    )]
    Programs {
        /// The chip.
        chip: Chip,
        /// Rows of the longest tile.
        rows: usize,
        /// Programs.
        programs: usize,
        /// The limit.
        most: usize,
    },
}

/// The largest vocabulary.
const MOST_TOKENS: usize = 1 << 24;
/// The last axis of what crosses the border is a multiple of this (R11).
const LAST_AXIS: usize = 16;

/// Plans a head for a chip.
///
/// # Errors
///
/// When a dimension is 0, the vocabulary is over 2^24, or no tiling of it keeps the chip's limits.
pub fn head(sizes: HeadSizes, chip: Chip, weights: Weights, form: Form) -> Result<HeadPlan, PlanError> {
    let limits = Limits::of(chip);
    let (positions, padded) = (sizes.positions, padded_positions(sizes, &limits)?);
    let mut reasons = Vec::new();
    let sizes = HeadSizes { positions: padded, ..sizes };
    if padded != positions {
        reasons.push(format!(
            "{positions} positions are filled up to {padded}, a multiple of {LAST_AXIS} (R11)."
        ));
    }
    let tiles = tiles::choose_tiles(sizes, &limits, weights, form, &mut reasons)?;
    let programs = programs::programs(sizes, &Roofline::of(chip), weights, form, &tiles);
    reasons.extend(reasons_for(chip, weights, form, tiles.len()));
    let dispatches = |program: &PlannedProgram| program.tiles.len();
    let step =
        |of: &dyn Fn(&PlannedProgram) -> f64| programs.iter().map(|p| dispatches(p) as f64 * of(p)).sum();
    Ok(HeadPlan {
        chip,
        head: HeadSizes { positions, ..sizes },
        positions: padded,
        weights,
        form,
        most_programs: limits.programs,
        dispatches: programs.iter().map(dispatches).sum(),
        bytes: programs.iter().map(|program| dispatches(program) as u64 * program.bytes).sum(),
        ms: step(&|program| program.ms),
        tiles,
        programs,
        reasons,
    })
}

/// The positions of the programs, where each dimension keeps its limits.
fn padded_positions(sizes: HeadSizes, limits: &Limits) -> Result<usize, PlanError> {
    let HeadSizes { vocab, dim, positions } = sizes;
    let named = [("vocabulary", vocab), ("model dimension", dim), ("number of positions", positions)];
    if let Some((what, _)) = named.into_iter().find(|(_, length)| *length == 0) {
        return Err(PlanError::Empty(what));
    }
    let padded = positions.checked_next_multiple_of(LAST_AXIS).unwrap_or(positions);
    let bounds = [
        ("model dimension", dim, (limits.channels, limits.channels_rule)),
        ("number of positions", padded, (limits.inner, limits.inner_rule)),
    ];
    for (what, length, (most, rule)) in bounds {
        if length > most {
            return Err(PlanError::Length { chip: limits.chip, what, length, most, rule });
        }
    }
    if vocab > MOST_TOKENS {
        return Err(PlanError::Vocabulary(vocab));
    }
    Ok(padded)
}

fn reasons_for(chip: Chip, weights: Weights, form: Form, tiles: usize) -> Vec<String> {
    let mut reasons = Vec::new();
    reasons.push(match weights {
        Weights::Inputs => "Weights are inputs: one program serves all tiles of a size, and nothing is compiled again \
             when they change (R8, R32); the products are `matmul`, for a convolution ignores a weight that is an \
             input (R25)."
            .to_string(),
        Weights::Baked => "Weights are baked: a step moves none, but every change compiles each program again (R8)."
            .to_string(),
    });
    reasons.push(match form {
        Form::Logits if tiles == 1 => "The softmax is one program: the vocabulary is one tile.".to_string(),
        Form::Logits => {
            "The softmax is cut as the logits are; the host merges maxima and sums in fp32.".to_string()
        }
        Form::Fused => {
            "Logits stay on the engine: D + 2 numbers per position and tile come back instead of 2·V, and \
             dE computes the tile's logits again."
                .to_string()
        }
    });
    reasons.push(
        "The RMSNorm's means are convolutions with 1/D, which add up in fixed point: `reduce_sum` does in fp16 (R54)."
            .to_string(),
    );
    reasons.push(
        "The backward is a `matmul`: a convolution of 32000 input channels is refused (R4).".to_string(),
    );
    reasons.push(Roofline::of(chip).source.to_string());
    reasons
}
