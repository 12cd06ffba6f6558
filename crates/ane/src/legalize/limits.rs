//! How long dimensions may be, and how longer ones are cut.

use anemone_mil::types::{Shape, TensorType};

use crate::chips::{Chip, Chips};
use crate::limits::{self, ANY_AXIS, INNER_DIMENSION, OLDER_AXIS};

/// The longest dimensions that all of some chips take (R1, R2, R3).
#[derive(Debug, Clone, Copy)]
pub(super) struct Longest {
    /// Of the first two axes.
    pub any: u64,
    /// Of axes from the third on.
    pub spatial: u64,
    /// Rows and columns of a matrix product.
    pub product: u64,
    /// Terms of the sums of a matrix product.
    pub inner: u64,
}

impl Longest {
    /// Those of chips.
    pub(super) fn of(chips: Chips) -> Longest {
        match chips.and(Chips::until(Chip::M3)).is_empty() {
            true => Longest { any: ANY_AXIS, spatial: ANY_AXIS, product: ANY_AXIS, inner: INNER_DIMENSION },
            false => Longest { any: ANY_AXIS, spatial: OLDER_AXIS, product: OLDER_AXIS, inner: OLDER_AXIS },
        }
    }

    /// Whether an axis of a tensor is too long.
    pub(super) fn exceeded_at(&self, shape: &Shape, axis: usize) -> bool {
        let most = if axis < 2 { self.any } else { self.spatial };
        shape.0.get(axis).and_then(|dim| dim.known()).is_some_and(|length| length > most)
    }

    /// The first axis of a tensor that is too long.
    pub(super) fn exceeded(&self, ty: &TensorType) -> Option<usize> {
        (0..ty.shape.rank()).find(|&axis| self.exceeded_at(&ty.shape, axis))
    }
}

/// The lengths of the tiles that a dimension of this length is cut into. A length is cut in the same places whatever asks
/// for it.
pub(super) fn tiles(length: usize) -> Vec<i32> {
    let tiles = limits::tiles(length, limits::TILE).into_iter();
    tiles.map(|tile| i32::try_from(tile.len()).unwrap_or(i32::MAX)).collect()
}
