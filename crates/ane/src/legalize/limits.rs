//! How long dimensions may be, and how longer ones are cut.

use anemone_mil::types::{Shape, TensorType};

use crate::chips::{Chip, Chips};

/// The longest tile that dimensions are cut into: within every limit of every chip.
const TILE: usize = 16384;
/// Tiles but the last are multiples of this.
const MULTIPLE: usize = 32;

/// The longest dimensions that all of some chips take (R1, R2, R3).
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Of axes from the third on.
    pub spatial: u64,
    /// Rows and columns of a matrix product.
    pub product: u64,
    /// Terms of the sums of a matrix product.
    pub inner: u64,
}

/// The longest axis of any kind (R2).
const ANY_AXIS: u64 = 65536;

impl Limits {
    /// Those of chips.
    pub(super) fn of(chips: Chips) -> Limits {
        match chips.and(Chips::until(Chip::M3)).is_empty() {
            true => Limits { spatial: ANY_AXIS, product: ANY_AXIS, inner: 32768 },
            false => Limits { spatial: 16384, product: 16384, inner: 16384 },
        }
    }

    /// Whether an axis of a tensor is too long.
    pub(super) fn exceeded_at(&self, shape: &Shape, axis: usize) -> bool {
        let most = if axis < 2 { ANY_AXIS } else { self.spatial };
        shape.0.get(axis).and_then(|dim| dim.known()).is_some_and(|length| length > most)
    }

    /// The first axis of a tensor that is too long.
    pub(super) fn exceeded(&self, ty: &TensorType) -> Option<usize> {
        (0..ty.shape.rank()).find(|&axis| self.exceeded_at(&ty.shape, axis))
    }
}

/// The lengths of the tiles that a dimension of this length is cut into: as few as may be, alike but for the last. A
/// length is cut in the same places whatever asks for it.
pub(super) fn tiles(length: usize) -> Vec<i32> {
    let count = length.div_ceil(TILE).max(1);
    let each = length.div_ceil(count).next_multiple_of(MULTIPLE).max(1);
    let starts = (0..length).step_by(each);
    starts.map(|start| i32::try_from(each.min(length - start)).unwrap_or(i32::MAX)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_cover_a_length_and_are_short() {
        for length in [1, 31, 16384, 16385, 32000, 50257, 65537, 128_256, 151_936, 262_144, 1_000_003] {
            let tiles = tiles(length);
            let whole: usize = tiles.iter().map(|&tile| usize::try_from(tile).unwrap_or(0)).sum();
            assert_eq!(whole, length);
            assert!(tiles.iter().all(|&tile| tile > 0 && tile <= 16384), "{length}: {tiles:?}");
            assert!(tiles.windows(2).all(|pair| pair[0] >= pair[1]));
        }
        assert_eq!(tiles(32000), [16000, 16000]);
        assert_eq!(tiles(151_936).len(), 10);
    }
}
