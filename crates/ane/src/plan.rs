//! How the classifier head is cut for a chip: tiles of the vocabulary, programs, buffers, bytes, time, and why.
//!
//! A plan is data: it names the programs by what they compute ([`Role`]) and the rows of the vocabulary they take, and
//! whoever builds programs builds them from that.

mod limits;
mod roofline;

use std::ops::Range;

use serde::Serialize;
use thiserror::Error;

use crate::chips::Chip;
use crate::device::Weights;
use crate::limits::TILE_MULTIPLE;
pub use limits::Limits;
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

/// What a program computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// The final RMSNorm.
    FinalRmsnorm,
    /// Logits of a tile.
    ClassifierForward,
    /// Softmax over the whole vocabulary.
    Softmax,
    /// Maximum, sum and exponentials of a tile, which the host makes a softmax of.
    SoftmaxTile,
    /// A tile's part of dxn.
    ClassifierBackward,
    /// A tile's rows of dE.
    WeightGradient,
    /// Maximum, sum and mixture of rows of a tile.
    FusedForward,
    /// A tile's rows of dE, from its logits computed again.
    FusedWeightGradient,
    /// dx and the gain's gradient, from dxn.
    RmsnormBackward,
}

impl Role {
    /// The stem of the program's file.
    pub fn stem(self) -> &'static str {
        match self {
            Role::FinalRmsnorm => "final_rmsnorm",
            Role::ClassifierForward => "classifier_forward",
            Role::Softmax => "softmax",
            Role::SoftmaxTile => "softmax_tile",
            Role::ClassifierBackward => "classifier_backward",
            Role::WeightGradient => "weight_gradient",
            Role::FusedForward => "fused_forward",
            Role::FusedWeightGradient => "fused_weight_gradient",
            Role::RmsnormBackward => "rmsnorm_backward",
        }
    }

    /// Whether the program reads rows of E.
    pub fn reads_embedding(self) -> bool {
        use Role::*;
        matches!(self, ClassifierForward | ClassifierBackward | FusedForward | FusedWeightGradient)
    }

    /// Matrix products of V_i × D × S in it.
    fn products(self) -> u64 {
        match self {
            Role::FinalRmsnorm | Role::RmsnormBackward | Role::Softmax | Role::SoftmaxTile => 0,
            Role::ClassifierForward | Role::ClassifierBackward | Role::WeightGradient => 1,
            Role::FusedForward | Role::FusedWeightGradient => 2,
        }
    }
}

/// A tensor that crosses the border of the engine, in fp16.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Buffer {
    /// Its name in the program.
    pub name: &'static str,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its size.
    pub bytes: u64,
}

/// A program, and how often a training step dispatches it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PlannedProgram {
    /// The file's name, without its ending: the stem of the role, and a number where the role has several programs.
    pub name: String,
    /// What it computes.
    pub role: Role,
    /// The tiles that it computes, each by one dispatch.
    pub tiles: Vec<Range<usize>>,
    /// Its inputs.
    pub inputs: Vec<Buffer>,
    /// Its outputs.
    pub outputs: Vec<Buffer>,
    /// Weights in it.
    pub weight_bytes: u64,
    /// Floating-point operations of a dispatch.
    pub flops: u64,
    /// Bytes that a dispatch moves: inputs, outputs and weights.
    pub bytes: u64,
    /// Estimated time of a dispatch, in milliseconds.
    pub ms: f64,
}

impl PlannedProgram {
    /// Rows of the vocabulary in each dispatch.
    pub fn rows(&self) -> usize {
        self.tiles.first().map_or(0, Range::len)
    }
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

/// Bytes of an element in fp16.
const ELEMENT: u64 = 2;
/// The last axis of what crosses the border is a multiple of this (R11).
const LAST_AXIS: usize = 16;

/// Plans a head for a chip.
///
/// # Errors
///
/// When no tiling of the vocabulary keeps the chip's limits.
pub fn head(sizes: HeadSizes, chip: Chip, weights: Weights, form: Form) -> Result<HeadPlan, PlanError> {
    let HeadSizes { vocab, dim, positions } = sizes;
    let named = [("vocabulary", vocab), ("model dimension", dim), ("number of positions", positions)];
    if let Some((what, _)) = named.into_iter().find(|(_, length)| *length == 0) {
        return Err(PlanError::Empty(what));
    }
    let limits = Limits::of(chip);
    let padded = positions.next_multiple_of(LAST_AXIS);
    let inner = (limits.inner.min(limits.axis), limits.inner_rule);
    for (what, length, (most, rule)) in
        [("model dimension", dim, inner), ("number of positions", padded, inner)]
    {
        if length > most {
            return Err(PlanError::Length { chip, what, length, most, rule });
        }
    }
    let mut reasons = Vec::new();
    let sizes = HeadSizes { positions: padded, ..sizes };
    if padded != positions {
        reasons.push(format!(
            "{positions} positions are filled up to {padded}, a multiple of {LAST_AXIS} (R11)."
        ));
    }
    let tiles = choose_tiles(sizes, &limits, weights, form, &mut reasons)?;
    let programs = programs(sizes, &Roofline::of(chip), weights, form, &tiles);
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

/// The roles that work tile by tile.
fn tiled_roles(form: Form, tiles: usize) -> Vec<Role> {
    use Role::*;
    match form {
        Form::Logits if tiles == 1 => vec![ClassifierForward, Softmax, ClassifierBackward, WeightGradient],
        Form::Logits => vec![ClassifierForward, SoftmaxTile, ClassifierBackward, WeightGradient],
        Form::Fused => vec![FusedForward, FusedWeightGradient],
    }
}

/// Programs with weights in them differ from tile to tile; others only by the number of rows.
fn program_count(form: Form, weights: Weights, tiles: &[Range<usize>]) -> usize {
    let shapes = distinct(tiles);
    let count = |role: Role| match weights {
        Weights::Baked if role.reads_embedding() => tiles.len(),
        _ => shapes,
    };
    2 + tiled_roles(form, tiles.len()).into_iter().map(count).sum::<usize>()
}

/// The number of lengths: tiles are alike but for the last.
fn distinct(tiles: &[Range<usize>]) -> usize {
    match (tiles.first(), tiles.last()) {
        (Some(first), Some(last)) if first.len() != last.len() => 2,
        _ => 1,
    }
}

fn choose_tiles(
    sizes: HeadSizes,
    limits: &Limits,
    weights: Weights,
    form: Form,
    reasons: &mut Vec<String>,
) -> Result<Vec<Range<usize>>, PlanError> {
    let column = (sizes.dim + sizes.positions) as u64 * ELEMENT;
    let on_chip = usize::try_from(limits.working_set / column).unwrap_or(usize::MAX);
    let on_chip = (on_chip / TILE_MULTIPLE * TILE_MULTIPLE).max(TILE_MULTIPLE);
    let most = limits.rows.min(on_chip);
    let tiles = crate::limits::tiles(sizes.vocab, most);
    let fits = |tiles: &[Range<usize>]| program_count(form, weights, tiles) <= limits.programs;
    let rows = |tiles: &[Range<usize>]| tiles.first().map_or(0, Range::len);
    if fits(&tiles) {
        let bound = if most < limits.rows {
            format!(
                "{most} rows of E and their logits are about {} MB, what stays on the chip (R34)",
                limits.working_set >> 20
            )
        } else {
            format!(
                "{most} rows are within the axes of products ({}), and below 32768 the sum of as many numbers of at \
                 most 1 does not overflow",
                limits.axis_rule
            )
        };
        reasons.push(format!(
            "The vocabulary is cut in {}, of {} rows at most: {bound}.",
            tile_count(&tiles),
            rows(&tiles)
        ));
        return Ok(tiles);
    }
    let longest = crate::limits::tiles(sizes.vocab, limits.rows);
    if fits(&longest) {
        reasons.push(format!(
            "The vocabulary is cut in {}, of {} rows at most: shorter ones would stay on the chip (R34), but need more \
             than the {} programs that a process compiles and loads (R8, R9, R48).",
            tile_count(&longest), rows(&longest), limits.programs
        ));
        return Ok(longest);
    }
    Err(PlanError::Programs {
        chip: limits.chip,
        rows: rows(&longest),
        programs: program_count(form, weights, &longest),
        most: limits.programs,
    })
}

fn tile_count(tiles: &[Range<usize>]) -> String {
    if tiles.len() == 1 { "one tile".to_string() } else { format!("{} tiles", tiles.len()) }
}

fn programs(
    sizes: HeadSizes,
    roofline: &Roofline,
    weights: Weights,
    form: Form,
    tiles: &[Range<usize>],
) -> Vec<PlannedProgram> {
    let whole = |role| {
        let all_rows = std::iter::once(0..sizes.vocab).collect();
        planned(role, String::new(), all_rows, sizes, roofline, weights)
    };
    let mut all = vec![whole(Role::FinalRmsnorm)];
    for role in tiled_roles(form, tiles.len()) {
        let groups: Vec<Vec<Range<usize>>> = match weights {
            Weights::Baked if role.reads_embedding() => tiles.iter().map(|tile| vec![tile.clone()]).collect(),
            _ => tiles.chunk_by(|a, b| a.len() == b.len()).map(<[_]>::to_vec).collect(),
        };
        let several = groups.len() > 1;
        for (index, group) in groups.into_iter().enumerate() {
            let suffix = if several { format!("_{index}") } else { String::new() };
            all.push(planned(role, suffix, group, sizes, roofline, weights));
        }
    }
    all.push(whole(Role::RmsnormBackward));
    all
}

fn planned(
    role: Role,
    suffix: String,
    tiles: Vec<Range<usize>>,
    sizes: HeadSizes,
    roofline: &Roofline,
    weights: Weights,
) -> PlannedProgram {
    let rows = tiles.first().map_or(0, Range::len);
    let (dim, positions) = (sizes.dim, sizes.positions);
    let activation = |name, channels| buffer(name, &[1, channels, 1, positions]);
    let embed = buffer("embed", &[1, 1, rows, dim]);
    let gain = buffer("gain", &[1, dim, 1, 1]);
    let (xn, logits, dlogits) =
        (activation("xn", dim), activation("logits", rows), activation("dlogits", rows));
    let (largest, sum) = (activation("largest", 1), activation("sum", 1));
    let gradient = buffer("dembed", &[1, 1, rows, dim]);
    let (mut inputs, outputs) = match role {
        Role::FinalRmsnorm => (vec![gain, activation("x", dim)], vec![xn]),
        Role::ClassifierForward => (vec![embed, xn], vec![logits]),
        Role::Softmax => (vec![logits], vec![activation("probabilities", rows)]),
        Role::SoftmaxTile => (vec![logits], vec![largest, sum, activation("weights", rows)]),
        Role::ClassifierBackward => (vec![dlogits, embed], vec![activation("dxn", dim)]),
        Role::WeightGradient => (vec![dlogits, xn], vec![gradient]),
        Role::FusedForward => (vec![embed, xn], vec![largest, sum, activation("mixture", dim)]),
        Role::FusedWeightGradient => (vec![embed, largest, activation("scaled_xn", dim), xn], vec![gradient]),
        Role::RmsnormBackward => (
            vec![activation("dxn", dim), gain, activation("x", dim)],
            vec![activation("dx", dim), buffer("dgain_mean", &[1, 1, 1, dim])],
        ),
    };
    let total = |buffers: &[Buffer]| buffers.iter().map(|buffer| buffer.bytes).sum::<u64>();
    let bytes = total(&inputs) + total(&outputs);
    let is_weight = |buffer: &Buffer| matches!(buffer.name, "embed" | "gain");
    let mut weight_bytes = 0;
    if weights == Weights::Baked {
        weight_bytes = inputs.iter().filter(|buffer| is_weight(buffer)).map(|buffer| buffer.bytes).sum();
        inputs.retain(|buffer| !is_weight(buffer));
    }
    let (rows, dim, positions) = (rows as u64, dim as u64, positions as u64);
    let elementwise = match role {
        // Magnitudes, the largest, products with it, squares, their mean, two products.
        Role::FinalRmsnorm => 8 * dim * positions,
        // The same again, and the gradients' products, means and difference.
        Role::RmsnormBackward => 18 * dim * positions,
        _ => 4 * rows * positions,
    };
    let products = 2 * role.products() * rows * dim * positions;
    PlannedProgram {
        name: format!("{}{suffix}", role.stem()),
        role,
        tiles,
        inputs,
        outputs,
        weight_bytes,
        flops: products + elementwise,
        bytes,
        ms: roofline.milliseconds(products + elementwise, bytes),
    }
}

fn buffer(name: &'static str, shape: &[usize]) -> Buffer {
    let elements: u64 = shape.iter().map(|&length| length as u64).product();
    Buffer { name, shape: shape.to_vec(), bytes: elements * ELEMENT }
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
        "The backward is a `matmul`: a convolution of 32000 input channels is refused (R4).".to_string(),
    );
    reasons.push(Roofline::of(chip).source.to_string());
    reasons
}
