//! The tiles of the vocabulary.

use std::ops::Range;

use super::programs::{ELEMENT, tiled_roles};
use super::{Form, HeadSizes, Limits, PlanError, Role};
use crate::device::Weights;
use crate::limits::TILE_MULTIPLE;

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

/// The tiles, and in `reasons` why they are as long.
///
/// # Errors
///
/// When even the longest need more programs than a process may have.
pub(super) fn choose_tiles(
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
