//! Which parameters ops must be given, may not be given, and how.

use anemone_mil::program::Argument;
use anemone_mil::verify::{Omission, omitted};

use super::{Report, Site};

/// The names in quotes, with commas between.
fn quoted(names: &[&str]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    quoted.join(", ")
}

/// Those of these parameters that are not given as values with a name.
fn unnamed<'n>(site: &Site<'_>, names: impl IntoIterator<Item = &'n str>) -> Vec<&'n str> {
    let is_named = |name: &str| {
        let items = site.op.arguments.get(name).map_or(&[][..], Argument::items);
        !items.is_empty() && items.iter().all(|item| matches!(item, Argument::Value(_)))
    };
    names.into_iter().filter(|name| !is_named(name)).collect()
}

/// The parameters that the op leaves to their defaults, though Core ML's loader wants them written.
fn left_out(site: &Site<'_>) -> Vec<(&'static str, Omission)> {
    let row = site.row.filter(|row| !row.constexpr);
    row.map(|row| omitted(row, &site.operands)).unwrap_or_default()
}

/// Reports the parameters that are left out, with their defaults.
fn report_left_out(site: &Site<'_>, report: &mut Report<'_>) {
    let left_out = left_out(site);
    if left_out.is_empty() {
        return;
    }
    let names: Vec<&str> = left_out.iter().map(|(name, _)| *name).collect();
    let dialect = site.scene.program.version.dialect();
    let defaults: Vec<String> =
        left_out.iter().map(|(name, default)| format!("`{name} = {}`", default.literal(dialect))).collect();
    let message = format!("`{}` is not given {}", site.name(), quoted(&names));
    report.found_with_help(site.here(), message, format!("bind by `const`: {}", defaults.join(", ")));
}

/// R16.
pub(super) fn concat(site: &Site<'_>, report: &mut Report<'_>) {
    if site.name() == "concat" {
        let unnamed = unnamed(site, ["axis", "interleave"]);
        if !unnamed.is_empty() {
            let message = format!("`concat` is not given {} by name", quoted(&unnamed));
            report.found(site.here(), message);
        }
    }
}

/// R17.
pub(super) fn attention_mask(site: &Site<'_>, report: &mut Report<'_>) {
    if site.name() == "scaled_dot_product_attention" && site.op.arguments.get("attn_mask").is_some() {
        report.found(site.argument("attn_mask"), "this mask is ignored");
    }
}

/// R19.
pub(super) fn epsilon(site: &Site<'_>, report: &mut Report<'_>) {
    if ["rsqrt", "log", "inverse"].contains(&site.name()) && site.op.arguments.get("epsilon").is_none() {
        report.found(site.here(), format!("`{}` is not given `epsilon`", site.name()));
    }
}

/// R20.
pub(super) fn bias(site: &Site<'_>, report: &mut Report<'_>) {
    if site.name() == "conv" && site.op.arguments.get("bias").is_some() {
        report.found(site.argument("bias"), "this `conv` has a `bias`");
    }
}

/// The ops that R21 is about.
const PRODUCTS: [&str; 2] = ["conv", "matmul"];

/// R21.
pub(super) fn named_constants(site: &Site<'_>, report: &mut Report<'_>) {
    if !PRODUCTS.contains(&site.name()) {
        return;
    }
    report_left_out(site, report);
    let inline = unnamed(site, site.op.arguments.iter().map(|(name, _)| name));
    if !inline.is_empty() {
        let message =
            format!("`{}` is given {} in place, not as named constants", site.name(), quoted(&inline));
        report.found(site.argument(inline[0]), message);
    }
}

/// R50: of conv and matmul R21 says it. What no name may be, the verifier refuses.
pub(super) fn all_present(site: &Site<'_>, report: &mut Report<'_>) {
    if !PRODUCTS.contains(&site.name()) {
        report_left_out(site, report);
    }
}
