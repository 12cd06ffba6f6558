//! The programs of a plan: what they compute, their buffers, and what a dispatch costs.

use std::ops::Range;

use serde::Serialize;

use super::{Form, HeadSizes, Roofline};
use crate::device::Weights;

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

/// Bytes of an element in fp16.
pub(super) const ELEMENT: u64 = 2;

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

/// The roles that work tile by tile.
pub(super) fn tiled_roles(form: Form, tiles: usize) -> Vec<Role> {
    use Role::*;
    match form {
        Form::Logits if tiles == 1 => vec![ClassifierForward, Softmax, ClassifierBackward, WeightGradient],
        Form::Logits => vec![ClassifierForward, SoftmaxTile, ClassifierBackward, WeightGradient],
        Form::Fused => vec![FusedForward, FusedWeightGradient],
    }
}

/// The programs, in the order in which a step runs them.
pub(super) fn programs(
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
