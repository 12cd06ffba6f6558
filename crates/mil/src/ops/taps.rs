//! What ops that resize make an element of: two elements along each dimension, with their weights.

use crate::eval::{filled, internal, room};
use crate::grad::Pullback;
use crate::ops::{OpError, Operand, call};
use crate::tensor::Tensor;
use crate::types::DType;

/// The elements of a dimension that an element of the result is made of, with their weights.
pub type Taps = [(usize, f64); 2];

/// What the elements of a tensor that is resized along some axes are made of: along each of them, the sums of the elements
/// of two places times their weights. What has no weight has no part, not even an infinity.
#[derive(Debug, Clone)]
pub struct Resampled<'a> {
    /// What is resized; its dimensions are known.
    pub x: &'a Operand,
    /// The result's dimensions.
    pub dims: Vec<usize>,
    /// For each axis that is resized, what each element along it is made of.
    pub along: Vec<(usize, Vec<Taps>)>,
}

/// One element.
pub(super) fn single(at: usize) -> Taps {
    [(at, 1.0), (at, 0.0)]
}

/// The two neighbours of a place among `from` elements, weighted by how near they are; beyond the ends, the end.
pub(super) fn linear(place: f64, from: usize) -> Taps {
    let last = from.saturating_sub(1);
    let place = place.clamp(0.0, last as f64);
    let (low, part) = (place.floor() as usize, place.fract());
    [(low, 1.0 - part), ((low + 1).min(last), part)]
}

/// The values of a tensor of `dims` with the elements along each of some axes replaced by the weighted sums of their
/// taps; `dims` become those of the result. What has no weight has no part, not even an infinity.
///
/// # Errors
///
/// When there is no memory for the result.
pub(super) fn weigh(
    mut values: Vec<f64>,
    dims: &mut [usize],
    mut along: Vec<(usize, Vec<Taps>)>,
) -> Result<Vec<f64>, OpError> {
    // What shrinks comes first: so nothing in between is larger than the operand and the result.
    along.sort_by(|(a, a_taps), (b, b_taps)| {
        (a_taps.len() as u128 * dims[*b] as u128).cmp(&(b_taps.len() as u128 * dims[*a] as u128))
    });
    for (axis, taps) in along {
        let (from, inner) = (dims[axis], dims[axis + 1..].iter().product::<usize>());
        let outer: usize = dims[..axis].iter().product();
        dims[axis] = taps.len();
        let mut sums = room(outer * taps.len() * inner)?;
        for start in (0..outer).map(|i| i * from * inner) {
            for taps in &taps {
                for i in 0..inner {
                    let parts = taps.iter().filter(|(_, weight)| *weight != 0.0);
                    sums.push(parts.map(|(at, weight)| weight * values[start + at * inner + i]).sum());
                }
            }
        }
        values = sums;
    }
    Ok(values)
}

/// The weights `[to, from]` of the elements of a dimension.
fn weights(taps: &[Taps], from: usize) -> Result<Tensor, OpError> {
    let mut values = filled(taps.len() * from, 0.0)?;
    for (i, taps) in taps.iter().enumerate() {
        taps.iter().for_each(|&(at, weight)| values[i * from + at] += weight);
    }
    Tensor::from_f64(DType::Fp32, &[taps.len(), from], &values).map_err(internal)
}

/// Gives `x` its gradient where the result is what [`weigh`] makes of it: along each axis `dx = Aᵀ · dy`, with the
/// weights `A` of the taps there, which `along` gives for the dimensions of `x` and of the result.
///
/// # Errors
///
/// When a dimension is not known.
pub(super) fn give_back(
    x: &Operand,
    pullback: &mut Pullback<'_>,
    along: impl FnOnce(&[usize], &[usize]) -> Result<Vec<(usize, Vec<Taps>)>, OpError>,
) -> Result<(), OpError> {
    let dy = pullback.dy()?;
    let (from, mut dims) = (pullback.dims(x)?, pullback.dims_of(dy)?);
    if from.contains(&0) || dims.contains(&0) {
        return Ok(());
    }
    let mut gradient = pullback.widen(dy)?;
    for (axis, taps) in along(&from, &dims)? {
        let weights = weights(&taps, from[axis])?;
        let (outer, inner) = (dims[..axis].iter().product(), dims[axis + 1..].iter().product());
        let product = if inner == 1 {
            call::matmul(pullback.reshape(gradient, &[outer, taps.len()])?, weights)
        } else {
            let rows = pullback.reshape(gradient, &[outer, taps.len(), inner])?;
            call::matmul(weights, rows).transpose_x(true)
        };
        gradient = pullback.bind(product)?;
        dims[axis] = from[axis];
    }
    let gradient = pullback.reshape(gradient, &from)?;
    pullback.give(x, gradient)
}

/// How places are taken from an interval, by the names that coremltools gives them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SamplingMode {
    StrictAlignCorners,
    AlignCorners,
    Default,
    OffsetCorners,
    UnalignCorners,
}

/// A place in an interval: `start + (span · part + add) / of − shift`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Share {
    pub part: f64,
    pub add: f64,
    pub of: f64,
    pub shift: f64,
}

impl SamplingMode {
    /// The mode with a name.
    ///
    /// # Errors
    ///
    /// When there is none.
    pub(super) fn named(name: &str) -> Result<SamplingMode, OpError> {
        Ok(match name {
            "STRICT_ALIGN_CORNERS" => SamplingMode::StrictAlignCorners,
            "ALIGN_CORNERS" => SamplingMode::AlignCorners,
            "DEFAULT" => SamplingMode::Default,
            "OFFSET_CORNERS" => SamplingMode::OffsetCorners,
            "UNALIGN_CORNERS" => SamplingMode::UnalignCorners,
            other => {
                let modes = "STRICT_ALIGN_CORNERS, ALIGN_CORNERS, DEFAULT, OFFSET_CORNERS or UNALIGN_CORNERS";
                return Err(OpError::rule("sampling_mode", format!("must be {modes}"))
                    .found(format!("found \"{other}\"")));
            }
        })
    }

    /// Where place `i` of `count` lies in an interval.
    pub(super) fn share(self, i: usize, count: usize) -> Share {
        let (i, of) = (i as f64, count as f64);
        let none = Share { part: 0.0, add: 0.0, of, shift: 0.0 };
        match self {
            SamplingMode::StrictAlignCorners | SamplingMode::AlignCorners if count > 1 => {
                Share { part: i, of: of - 1.0, ..none }
            }
            SamplingMode::StrictAlignCorners => none,
            SamplingMode::AlignCorners => Share { part: 1.0, of: 2.0, ..none },
            SamplingMode::Default => Share { part: i, add: i, ..none },
            SamplingMode::OffsetCorners => Share { part: i + 0.5, ..none },
            SamplingMode::UnalignCorners => Share { part: i + 0.5, add: i + 0.5, shift: 0.5, ..none },
        }
    }

    /// Whether an interval counts as at least one element long.
    pub(super) fn least_span(self) -> bool {
        self == SamplingMode::OffsetCorners
    }

    /// Place `i` of `count` in the interval between two places, both of which belong to it; never outside it. NaN where
    /// an end is.
    pub(super) fn place(self, i: usize, count: usize, [start, end]: [f64; 2]) -> f64 {
        if start.is_nan() || end.is_nan() {
            return f64::NAN;
        }
        let span = if self.least_span() { (end - start).max(1.0) } else { end - start };
        let share = self.share(i, count);
        let place = start + (span * share.part + share.add) / share.of - share.shift;
        place.max(start.min(end)).min(start.max(end))
    }
}
