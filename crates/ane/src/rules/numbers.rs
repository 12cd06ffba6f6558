//! What runs and gives wrong numbers without a word.

use anemone_mil::ops::{Clip, Conv, Matmul, Minimum, Mul, Operand, SliceByIndex, SliceBySize};
use anemone_mil::types::DType;

use super::{Report, Site};
use crate::chips::Chip;

/// R25.
pub(super) fn computed_weight(site: &Site<'_>, report: &mut Report<'_>) {
    if site.bound::<Conv>().is_some_and(|row| !site.is_constant(&row.weight)) {
        report.found(site.argument("weight"), "this weight is no constant, and is ignored");
    }
}

/// R29: what is lost on M1 depends on the values.
pub(super) fn slice_of_last_axis(site: &Site<'_>, report: &mut Report<'_>) {
    let (x, begin, masked) = if let Some(row) = site.bound::<SliceByIndex>() {
        let masked = row.begin_mask.as_ref().and_then(|mask| mask.last().copied()).unwrap_or(false);
        (row.x, row.begin, masked)
    } else if let Some(row) = site.bound::<SliceBySize>() {
        (row.x, row.begin, false)
    } else {
        return;
    };
    let last = begin.known_integers().and_then(|begin| begin.last().copied());
    let length = x.shape().0.last().and_then(|dim| dim.known());
    let Some(start) = last.filter(|&start| start != 0 && !masked) else { return };
    if start < 0 && length == Some(start.unsigned_abs()) {
        return;
    }
    let message = format!("this slice of the last axis begins at {start}, not at 0");
    report.found_for_values(Chip::M1.into(), site.argument("begin"), message.clone());
    report.found_on(Chip::M2.into(), site.argument("begin"), message);
}

/// Whether an operand is known to hold one value only.
fn is_scalar(operand: &Operand) -> bool {
    operand.constant && operand.shape().elements() == Some(1)
}

/// R35.
pub(super) fn scaled_rounding(site: &Site<'_>, report: &mut Report<'_>) {
    let Some(row) = site.bound::<Mul>() else { return };
    for (rounded, factor) in [(&row.x, &row.y), (&row.y, &row.x)] {
        let giver = site.giver(rounded).filter(|op| ["floor", "ceil", "round"].contains(&op.name.as_str()));
        if let Some(op) = giver.filter(|_| is_scalar(factor) && rounded.shape().elements() != Some(1)) {
            report.found(site.here(), format!("this `mul` of a `{}` is by a scalar constant", op.name));
        }
    }
}

/// R36.
pub(super) fn round(site: &Site<'_>, report: &mut Report<'_>) {
    if site.name() == "round" {
        report.found(site.here(), "`round` is not to nearest even");
    }
}

/// R37: one whose operand is cut to 10 at most, by a scalar, is right.
pub(super) fn softplus(site: &Site<'_>, report: &mut Report<'_>) {
    /// Below where the first of the tables that were measured fails.
    const MOST: f64 = 10.4;
    if site.name() != "softplus" {
        return;
    }
    let cut_to = |operand: &Operand| {
        let giver = site.scene.giver_site(operand.id?)?;
        if let Some(row) = giver.bound::<Clip>() {
            return Some(row.beta);
        }
        let row = giver.bound::<Minimum>()?;
        let bound = [&row.x, &row.y].into_iter().find(|operand| is_scalar(operand))?;
        bound.value.as_ref()?.to_f64()?.first().copied()
    };
    let most = site.operand("x").and_then(cut_to);
    if most.is_none_or(|most| most > MOST) {
        report.found_for_values(report.chips(), site.here(), "`softplus` overflows above about 10.4");
    }
}

/// R46.
pub(super) fn int8_weights(site: &Site<'_>, report: &mut Report<'_>) {
    let Some(row) = site.bound::<Matmul>() else { return };
    for (parameter, operand) in [("x", &row.x), ("y", &row.y)] {
        let is_int8 = |dtype: DType| [DType::Int8, DType::UInt8].contains(&dtype);
        let giver = operand.id.and_then(|id| site.scene.giver_site(id));
        let stored = giver.filter(|giver| giver.row.is_some_and(|row| row.constexpr));
        let decompressed =
            stored.is_some_and(|giver| giver.operands.iter().any(|operand| is_int8(operand.dtype())));
        if operand.constant && (is_int8(operand.dtype()) || decompressed) {
            report.found_for_values(report.chips(), site.argument(parameter), "these weights are int8");
        }
    }
}
