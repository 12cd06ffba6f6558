//! Limits of size: dimensions, channels, kernels, ranks, numbers of ops, weights.

use std::collections::HashSet;

use anemone_mil::error::{FunctionPart, OpPart};
use anemone_mil::ops::{Conv, Convolution, LayerNorm, Linear, Matmul, MatrixProduct};
use anemone_mil::program::{LiteralValue, ValueId};
use anemone_mil::tensor::Tensor;
use anemone_mil::types::{Dim, Shape};

use super::{Report, Scene, Site};
use crate::chips::{Chip, Chips};
use crate::limits::{ANY_AXIS, INNER_DIMENSION, MANY_CHANNELS, OLDER_AXIS, WIDE};

/// The rows, inner dimension and columns of the matrix product that an op is.
fn product(site: &Site<'_>) -> Option<[(Axis, Dim); 3]> {
    let named = |product: &MatrixProduct<'_>| {
        [(Axis::Rows, product.m), (Axis::Inner, product.k), (Axis::Columns, product.n)]
    };
    if let Some(row) = site.bound::<Matmul>() {
        return MatrixProduct::of_matmul(&row).ok().as_ref().map(named);
    }
    let row = site.bound::<Linear>()?;
    MatrixProduct::of_linear(&row).ok().as_ref().map(named)
}

/// An axis of a matrix product.
enum Axis {
    Rows,
    Inner,
    Columns,
}

/// The longest of some dimensions that is longer than `most`.
fn longest<N>(dimensions: impl IntoIterator<Item = (N, Dim)>, most: u64) -> Option<(N, u64)> {
    let known = dimensions.into_iter().filter_map(|(name, dim)| Some((name, dim.known()?)));
    known.filter(|(_, length)| *length > most).max_by_key(|(_, length)| *length)
}

/// Reports the axis of a matrix product that is longer than `most`.
fn check_product(
    site: &Site<'_>,
    product: [(Axis, Dim); 3],
    most: u64,
    chips: Chips,
    report: &mut Report<'_>,
) {
    if let Some((axis, length)) = longest(product, most) {
        let what = match axis {
            Axis::Rows => format!("{length} rows"),
            Axis::Inner => format!("an inner dimension of {length}"),
            Axis::Columns => format!("{length} columns"),
        };
        let message = format!("this `{}` has {what}, more than {most}", site.name());
        report.found_on(chips, site.here(), message);
    }
}

/// Reports the longest of these axes of a value, if it is longer than `most`.
fn check_axes(
    (name, shape, part): (&str, &Shape, FunctionPart),
    axes: std::ops::RangeFrom<usize>,
    most: u64,
    chips: Chips,
    report: &mut Report<'_>,
) {
    let dimensions = shape.0.iter().copied().enumerate().skip(axes.start);
    if let Some((axis, length)) = longest(dimensions, most) {
        report.found_on(
            chips,
            part,
            format!("axis {axis} of `{name}` has length {length}, more than {most}"),
        );
    }
}

/// Calls `check` for each input of the function, and for each result of an op that is no matrix product: with its
/// name, its shape and its place.
fn for_values(scene: &Scene<'_>, mut check: impl FnMut(&str, &Shape, FunctionPart)) {
    let mut value = |id: ValueId, part| {
        if let Some(ty) = scene.held(id) {
            check(&scene.function.value(id).name, &ty.shape, part);
        }
    };
    for (position, &input) in scene.function.body.inputs.iter().enumerate() {
        value(input, FunctionPart::Input(position));
    }
    for site in scene.sites().filter(|site| product(site).is_none()) {
        for (position, &result) in site.op.results.iter().enumerate() {
            value(result, FunctionPart::Op(site.id, OpPart::Result(position)));
        }
    }
}

/// R1: the first two axes of a value are batch and channels, those behind them spatial.
pub(super) fn spatial_and_matrix_axes(scene: &Scene<'_>, report: &mut Report<'_>) {
    const MOST: u64 = OLDER_AXIS;
    for_values(scene, |name, shape, part| check_axes((name, shape, part), 2.., MOST, Chips::ALL, report));
    for site in scene.sites() {
        if let Some(product) = product(&site) {
            check_product(&site, product, MOST, Chips::ALL, report);
        }
    }
}

/// R2: on older chips of channels, on newer ones of every axis.
pub(super) fn any_axis(scene: &Scene<'_>, report: &mut Report<'_>) {
    const MOST: u64 = ANY_AXIS;
    const CHANNELS: usize = 1;
    let newer = Chips::since(Chip::M4);
    for_values(scene, |name, shape, part| {
        let channels = shape.0.get(CHANNELS).and_then(|dim| dim.known());
        match channels.filter(|&channels| channels > MOST) {
            Some(channels) => {
                report.found(part, format!("`{name}` has {channels} channels, more than {MOST}"));
            }
            None => check_axes((name, shape, part), 0.., MOST, newer, report),
        }
    });
    for site in scene.sites() {
        if let Some(product) = product(&site) {
            check_product(&site, product, MOST, newer, report);
            continue;
        }
        for (position, (parameter, argument)) in site.op.arguments.iter().enumerate() {
            // The filters of a convolution are the channels of its result.
            let of_conv = site.name() == "conv" && parameter == "weight";
            let constant = argument.values().filter(|&id| scene.facts.is_constant(id) && !of_conv);
            for shape in constant.filter_map(|id| scene.held(id)).map(|ty| ty.shape) {
                let part = FunctionPart::Op(site.id, OpPart::Argument(position));
                check_axes((parameter, &shape, part), 0.., MOST, newer, report);
            }
        }
    }
}

/// R3.
pub(super) fn inner_dimension(site: &Site<'_>, report: &mut Report<'_>) {
    const MOST: u64 = INNER_DIMENSION;
    if let Some([_, (_, Dim::Known(length)), _]) = product(site)
        && length > MOST
    {
        let message = format!("this `{}` has an inner dimension of {length}, more than {MOST}", site.name());
        report.found(site.here(), message);
    }
}

/// The channels that a convolution takes and gives, where they are known.
fn channels(site: &Site<'_>) -> Option<(u64, u64)> {
    let row = site.bound::<Conv>()?;
    let convolution = Convolution::of(&row).ok()?;
    let (taken, given) = (convolution.x.shape().0.get(1)?, convolution.result.shape.0.get(1)?);
    Some((taken.known()?, given.known()?))
}

/// R4.
pub(super) fn input_channels(site: &Site<'_>, report: &mut Report<'_>) {
    if let Some((taken, _)) = channels(site).filter(|&(taken, _)| taken >= MANY_CHANNELS) {
        report.found(
            site.here(),
            format!("this `conv` takes {taken} channels, not fewer than {MANY_CHANNELS}"),
        );
    }
}

/// R5.
pub(super) fn output_channels(site: &Site<'_>, report: &mut Report<'_>) {
    if let Some((taken, given)) = channels(site)
        && taken >= WIDE
        && given >= MANY_CHANNELS
    {
        report.found(site.here(), format!("this `conv` makes {given} channels of {taken}"));
    }
}

/// R6.
pub(super) fn rank(scene: &Scene<'_>, report: &mut Report<'_>) {
    const MOST: usize = 5;
    let mut check = |name: &str, rank: usize, part| {
        if rank > MOST {
            report.found(part, format!("`{name}` has rank {rank}, more than {MOST}"));
        }
    };
    let name = |id: ValueId| scene.function.value(id).name.as_str();
    for (position, &input) in scene.function.body.inputs.iter().enumerate() {
        let rank = scene.held(input).map_or(0, |ty| ty.shape.rank());
        check(name(input), rank, FunctionPart::Input(position));
    }
    for (id, op) in scene.function.walk() {
        for (position, &result) in op.results.iter().enumerate() {
            let rank = scene.held(result).map_or(0, |ty| ty.shape.rank());
            check(name(result), rank, FunctionPart::Op(id, OpPart::Result(position)));
        }
    }
}

/// R7. Of rectangles that are neither of a line nor square nothing is known.
pub(super) fn kernel(site: &Site<'_>, report: &mut Report<'_>) {
    if site.name() == "max_pool" {
        let sizes = site.constant(site.op, "kernel_sizes").and_then(Tensor::to_i64);
        if let Some(width) = sizes.and_then(|sizes| sizes.last().copied()).filter(|&width| width > 8) {
            report.found(
                site.argument("kernel_sizes"),
                format!("this `max_pool` is {width} wide, more than 8"),
            );
        }
    }
    let Some(row) = site.bound::<Conv>() else { return };
    let lengths: Option<Vec<u64>> = row.weight.shape().0.iter().skip(2).map(|dim| dim.known()).collect();
    let (height, width) = match lengths.as_deref() {
        Some(&[width]) => (1, width),
        Some(&[height, width]) => (height, width),
        _ => return,
    };
    let (form, most_on_m1, most) = match (height, width) {
        (1, _) => ("1×K", 13, 15),
        (_, 1) => ("K×1", 31, 31),
        _ if height == width => ("K×K", 16, 16),
        _ => return,
    };
    let longest = height.max(width);
    let chips = match longest {
        _ if longest > most => Chips::ALL,
        _ if longest > most_on_m1 => Chip::M1.into(),
        _ => return,
    };
    let on_m1 = if most_on_m1 < most { format!(", on m1 {most_on_m1}") } else { String::new() };
    let message = format!("this kernel is {height}×{width}; of the form {form} the longest is {most}{on_m1}");
    report.found_on(chips, site.argument("weight"), message);
}

/// R33.
pub(super) fn op_count(scene: &Scene<'_>, report: &mut Report<'_>) {
    const MOST: usize = 3200;
    let count = scene.ops().count();
    if count > MOST {
        report.found(FunctionPart::Name, format!("this function has {count} ops, more than about {MOST}"));
    }
}

/// R40: the values of a weight in a blob file are taken to vary.
pub(super) fn layer_norm(site: &Site<'_>, report: &mut Report<'_>) {
    let Some(row) = site.bound::<LayerNorm>() else { return };
    let varies = |tensor: &Tensor| match tensor.to_f64().as_deref() {
        Some([first, rest @ ..]) => rest.iter().any(|value| value != first),
        Some([]) => false,
        None => true,
    };
    let parameters = [&row.gamma, &row.beta];
    let given = parameters.into_iter().flatten();
    if !given.clone().any(|operand| operand.value.as_deref().is_none_or(varies)) {
        return;
    }
    let Some(length) = given.filter_map(|operand| operand.shape().elements()).max() else { return };
    let fails = [(Chips::until(Chip::M2), 1024), (Chip::M5.into(), 10240)].into_iter();
    let chips =
        fails.filter(|&(_, least)| length >= least).fold(Chips::NONE, |all, (chips, _)| all.or(chips));
    report.found_on(
        chips,
        site.here(),
        format!("gamma or beta of this `layer_norm` vary over {length} elements"),
    );
}

/// R44.
pub(super) fn batch_of_computed_weight(site: &Site<'_>, report: &mut Report<'_>) {
    let Some(row) = site.bound::<Conv>().filter(|row| !site.is_constant(&row.weight)) else { return };
    if let Some(batch) = row.x.shape().0.first().and_then(|dim| dim.known()).filter(|&batch| batch > 1) {
        report.found(site.argument("weight"), format!("this weight is computed, and the batch is {batch}"));
    }
}

/// R45.
pub(super) fn rank_five(site: &Site<'_>, report: &mut Report<'_>) {
    if ["transpose", "matmul"].contains(&site.name()) && site.types().any(|ty| ty.shape.rank() >= 5) {
        report.found(site.here(), format!("this `{}` is of rank 5", site.name()));
    }
}

/// R48: blobs that are referred to twice count once.
pub(super) fn weights(scene: &Scene<'_>, report: &mut Report<'_>) {
    const MOST: u64 = 2_000_000_000;
    let mut seen = HashSet::new();
    let mut bytes = 0u64;
    for (_, literal) in scene.function.walk().flat_map(|(_, op)| op.literals()) {
        let counts = match &literal.value {
            LiteralValue::Blob(reference) => seen.insert(reference),
            LiteralValue::Tensor(_) => true,
            _ => false,
        };
        if let (true, Some(ty)) = (counts, literal.ty.as_tensor()) {
            let bits = ty.shape.elements().unwrap_or(0).saturating_mul(u64::from(ty.dtype.bits()));
            bytes = bytes.saturating_add(bits.div_ceil(8));
        }
    }
    if bytes > MOST {
        let message = format!("this function holds {bytes} bytes of weights, more than about {MOST}");
        report.found(FunctionPart::Name, message);
    }
}
