//! Ops that a chip, or the compiler behind one of the ways in, does not take.

use std::collections::{BTreeSet, HashMap};
use std::sync::LazyLock;

use anemone_mil::error::{FunctionPart, OpPart};
use anemone_mil::ops::{Mul, Operand};
use anemone_mil::program::{Argument, Op, ValueId};
use anemone_mil::tensor::Tensor;

use super::{Report, Scene, Site};
use crate::chips::{Chip, Chips};

/// Whether an op reduces.
fn is_reduction(op: &Op) -> bool {
    op.name.starts_with("reduce_")
}

/// R18: constants may have been added or multiplied between, in a few steps.
pub(super) fn root_of_reduction(site: &Site<'_>, report: &mut Report<'_>) {
    const STEPS: usize = 4;
    if !["rsqrt", "sqrt"].contains(&site.name()) {
        return;
    }
    let mut value = site.operand("x").and_then(|x| x.id);
    for _ in 0..=STEPS {
        let Some(giver) = value.and_then(|id| site.scene.giver_site(id)) else { return };
        if is_reduction(giver.op) {
            return report.found(site.here(), format!("this `{}` is of a reduction", site.name()));
        }
        let mut computed = giver.operands.iter().filter(|operand| !operand.constant);
        let (only, another) = (computed.next().and_then(|operand| operand.id), computed.next());
        let goes_on = giver.row.is_some_and(|row| row.elementwise) && another.is_none();
        value = only.filter(|_| goes_on);
    }
}

/// R22.
pub(super) fn gelu(site: &Site<'_>, report: &mut Report<'_>) {
    if site.name() == "gelu" {
        report.found(site.here(), "`gelu` is not accepted");
    }
}

/// R23.
pub(super) fn reduce_mean(site: &Site<'_>, report: &mut Report<'_>) {
    if site.name() == "reduce_mean" {
        report.found(site.here(), "`reduce_mean` fails");
    }
}

/// Whether an argument that the op has is computed.
fn is_computed(site: &Site<'_>, parameter: &str) -> bool {
    let values = site.op.arguments.get(parameter).into_iter().flat_map(Argument::values);
    values.into_iter().any(|id| !site.scene.facts.is_constant(id))
}

/// Whether an op cuts out a part that begins where the run says.
fn is_dynamic_slice(site: &Site<'_>) -> bool {
    ["slice_by_index", "slice_by_size", "slice_update"].contains(&site.name()) && is_computed(site, "begin")
}

/// R27.
pub(super) fn by_generation(site: &Site<'_>, report: &mut Report<'_>) {
    match site.name() {
        name @ ("sin" | "cos") => {
            report.found_on(Chips::until(Chip::M2), site.here(), format!("there is no `{name}`"));
        }
        name @ ("topk" | "argsort") => {
            report.found_on(Chip::M1.into(), site.here(), format!("there is no `{name}`"));
        }
        "gather" if is_computed(site, "indices") => {
            report.found(site.argument("indices"), "the indices of this `gather` are computed");
        }
        name if is_dynamic_slice(site) => {
            let message = format!("the start of this `{name}` is computed");
            report.found_on(Chip::M1.into(), site.argument("begin"), message);
        }
        _ => {}
    }
}

/// The ops of R28, with those that are the same by another name.
const NOT_ON_ENGINE: [&str; 25] = [
    "acos",
    "asin",
    "atanh",
    "band_part",
    "cosh",
    "crop_resize",
    "cumsum",
    "gru",
    "lstm",
    "mod",
    "non_zero",
    "one_hot",
    "random_bernoulli",
    "random_categorical",
    "random_normal",
    "random_uniform",
    "range_1d",
    "reduce_prod",
    "rnn",
    "scatter",
    "scatter_along_axis",
    "scatter_nd",
    "sinh",
    "sliding_windows",
    "tan",
];

/// R28.
pub(super) fn not_on_engine(site: &Site<'_>, report: &mut Report<'_>) {
    if NOT_ON_ENGINE.contains(&site.name()) {
        report.found(site.here(), format!("`{}` is not on the engine", site.name()));
    } else if is_dynamic_slice(site) {
        let message = format!("the start of this `{}` is computed", site.name());
        report.found(site.argument("begin"), message);
    }
}

/// R38.
pub(super) fn reduction_times_zero(site: &Site<'_>, report: &mut Report<'_>) {
    let Some(row) = site.bound::<Mul>() else { return };
    let is_zero = |operand: &Operand| {
        let values = operand.value.as_deref().and_then(Tensor::to_f64);
        operand.constant && values.is_some_and(|values| values.iter().all(|&value| value == 0.0))
    };
    for (reduced, factor) in [(&row.x, &row.y), (&row.y, &row.x)] {
        if site.giver(reduced).is_some_and(is_reduction) && is_zero(factor) {
            report.found(site.here(), "this `mul` of a reduction is by 0");
        }
    }
}

/// Ops that the engine computes by tables, and those of their kind.
const ACTIVATIONS: [&str; 18] = [
    "clamped_relu",
    "elu",
    "erf",
    "gelu",
    "leaky_relu",
    "linear_activation",
    "prelu",
    "relu",
    "relu6",
    "scaled_tanh",
    "sigmoid",
    "sigmoid_hard",
    "silu",
    "softplus",
    "softplus_parametric",
    "softsign",
    "tanh",
    "thresholded_relu",
];

/// R39: beside means that one reads the other, or both the same value.
pub(super) fn square_beside_activation(scene: &Scene<'_>, report: &mut Report<'_>) {
    let is_activation = |op: &Op| ACTIVATIONS.contains(&op.name.as_str());
    let activations = scene.ops().filter(|(_, op)| is_activation(op));
    let beside: HashMap<ValueId, &str> = activations
        .flat_map(|(_, op)| op.reads().chain(op.results.iter().copied()).map(|id| (id, op.name.as_str())))
        .collect();
    for (id, op) in scene.ops().filter(|(_, op)| op.name == "square") {
        let activation = op.reads().chain(op.results.iter().copied()).find_map(|id| beside.get(&id));
        let width = op.reads().find_map(|id| scene.held(id)?.shape.0.last()?.known());
        if let (Some(activation), Some(width)) = (activation, width)
            && width % 128 > 64
        {
            let message =
                format!("this `square` is beside `{activation}`, and {width} mod 128 is {}", width % 128);
            report.found(FunctionPart::Op(id, OpPart::Name), message);
        }
    }
}

/// R49.
pub(super) fn topk(site: &Site<'_>, report: &mut Report<'_>) {
    let k = site.constant(site.op, "k").filter(|_| site.name() == "topk").and_then(Tensor::to_i64);
    if let Some(&[k @ (3 | 4)]) = k.as_deref() {
        report.found(site.argument("k"), format!("this `topk` has k = {k}"));
    }
}

/// One line of the table of ops.
struct Swept {
    op: &'static str,
    refused: bool,
}

/// The table of ops: of each what became of its smallest program on the engine alone.
fn sweep() -> impl Iterator<Item = Swept> {
    let lines = include_str!("ops.tsv").lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| {
        let mut columns = line.split('\t');
        Some(Swept { op: columns.next()?, refused: columns.next()? == "refused" })
    })
}

/// Ops of whose forms other rules say more: R15, R27 and R42.
const SAID_ELSEWHERE: [&str; 4] = ["cast", "gather", "read_state", "write_state"];

/// R51: where R28 says it too, it is measured.
pub(super) fn refused_in_sweep(site: &Site<'_>, report: &mut Report<'_>) {
    static REFUSED: LazyLock<BTreeSet<&str>> =
        LazyLock::new(|| sweep().filter(|swept| swept.refused).map(|swept| swept.op).collect());
    let name = site.name();
    if REFUSED.contains(name) && !SAID_ELSEWHERE.contains(&name) {
        let measured = if NOT_ON_ENGINE.contains(&name) { Chip::M4.into() } else { Chips::NONE };
        let message = format!("the smallest program of `{name}` was refused");
        report.found_on(Chips::ALL.without(measured), site.here(), message);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_ops_is_read_whole() {
        let refused: Vec<&str> = sweep().filter(|swept| swept.refused).map(|swept| swept.op).collect();
        assert_eq!((sweep().count(), refused.len()), (166, 50));
        assert!(refused.contains(&"cumsum") && !refused.contains(&"matmul"));
    }
}
