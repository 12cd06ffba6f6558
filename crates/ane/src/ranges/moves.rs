//! Bounds through ops that move elements, and put a few others beside them.

use anemone_mil::types::Dim;

use super::{Interval, Site};

/// What an op that moves elements gives; `None` for other ops.
pub(super) fn range(site: &Site<'_>) -> Option<Interval> {
    let text = |parameter: &str| {
        let operand = site.operand(parameter)?;
        operand.value.as_ref()?.as_slice::<String>()?.first().map(String::as_str)
    };
    match site.op.name.as_str() {
        "identity"
        | "reshape"
        | "transpose"
        | "expand_dims"
        | "squeeze"
        | "reverse"
        | "slice_by_index"
        | "slice_by_size"
        | "split"
        | "tile"
        | "gather"
        | "gather_along_axis"
        | "gather_nd"
        | "pixel_shuffle"
        | "pixel_unshuffle"
        | "depth_to_space"
        | "space_to_depth"
        | "batch_to_space"
        | "flatten2d"
        | "reshape_like"
        | "reverse_sequence"
        | "sliding_windows"
        | "upsample_nearest_neighbor"
        | "resize_nearest_neighbor"
        | "crop"
        | "max_pool" => site.parameter("x"),
        "concat" | "stack" => site.parameter("values"),
        "classify" => {
            let (classes, probabilities) = (site.operand("classes")?, site.parameter("probabilities")?);
            let integers = classes.dtype().is_integer();
            Some(if integers { probabilities.hull(site.range(classes)) } else { probabilities })
        }
        "band_part" | "space_to_batch" => site.parameter("x").map(|x| x.hull(Interval::ZERO)),
        "pad" => {
            let x = site.parameter("x")?;
            // An input of which nothing is taken still has its range.
            let constant = text("mode").is_none_or(|mode| mode == "constant");
            let added = site.parameter("constant_val").unwrap_or(Interval::ZERO);
            Some(if constant { x.hull(added) } else { x })
        }
        "slice_update" => Some(site.parameter("x")?.hull(site.parameter("update")?)),
        "scatter" | "scatter_along_axis" | "scatter_nd" => {
            let replaces = text("mode").is_some_and(|mode| matches!(mode, "update" | "max" | "min"));
            replaces.then_some(site.parameter("data")?.hull(site.parameter("updates")?))
        }
        "fill" | "fill_like" => Some(site.parameter("value").unwrap_or(Interval::ZERO)),
        "random_uniform" => {
            let low = site.parameter("low").unwrap_or(Interval::ZERO);
            Some(low.hull(site.parameter("high").unwrap_or(Interval::point(1.0))))
        }
        // The root of −2 log 2⁻⁵³, the least that is drawn, is less than 8.6.
        "random_normal" => {
            let stddev = site.parameter("stddev").unwrap_or(Interval::point(1.0));
            let mean = site.parameter("mean").unwrap_or(Interval::ZERO);
            Some(mean.plus(stddev.times(Interval::symmetric(8.6))))
        }
        "random_bernoulli" => Some(Interval::UNIT),
        "random_categorical" => {
            let classes = site.operand("x")?.shape().0.last()?.known()?;
            Some(Interval::new(0.0, classes.saturating_sub(1) as f64))
        }
        "one_hot" => {
            let on = site.parameter("on_value").unwrap_or(Interval::point(1.0));
            Some(on.hull(site.parameter("off_value").unwrap_or(Interval::ZERO)))
        }
        "non_zero" => {
            let lengths: Option<Vec<u64>> =
                site.operand("x")?.shape().0.iter().map(|dim| dim.known()).collect();
            let last = lengths?.into_iter().max().unwrap_or(0).saturating_sub(1);
            Some(Interval::new(0.0, last as f64))
        }
        "shape" => {
            let lengths = site.operand("x")?.shape().0.iter().copied().map(Dim::known);
            let known: Option<Vec<u64>> = lengths.collect();
            Some(Interval::around(known?.into_iter().map(|length| length as f64)))
        }
        _ => None,
    }
}
