//! The longest dimensions that rules allow, once for rules, passes and plans, and how longer ones are cut.

use std::ops::Range;

/// The longest axis behind batch and channels, and of a matrix product, on M1 to M3 (R1).
pub(crate) const OLDER_AXIS: u64 = 16384;
/// The longest axis of any kind (R2).
pub(crate) const ANY_AXIS: u64 = 65536;
/// The most terms in the sums of a matrix product (R3).
pub(crate) const INNER_DIMENSION: u64 = 32768;
/// So many channels taken by a convolution are refused (R4), and given by one that takes [`WIDE`] crash (R5).
pub(crate) const MANY_CHANNELS: u64 = 32000;
/// With as many channels taken, [`MANY_CHANNELS`] given crash (R5).
pub(crate) const WIDE: u64 = 2048;

/// The longest tile that dimensions are cut into: within every limit of every chip.
pub(crate) const TILE: usize = 16384;
/// Tiles but the last have a multiple of this length (R25).
pub(crate) const TILE_MULTIPLE: usize = 32;

/// A dimension in as few tiles of at most `most` as may be, alike but for the last. Without a length there are none.
pub(crate) fn tiles(length: usize, most: usize) -> Vec<Range<usize>> {
    let count = length.div_ceil(most).max(1);
    let each = length.div_ceil(count).next_multiple_of(TILE_MULTIPLE).min(most).max(1);
    (0..length).step_by(each).map(|start| start..(start + each).min(length)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_cover_a_length_and_are_alike_but_for_the_last() {
        for length in
            [1, 31, 256, 4096, 16384, 16385, 32000, 50257, 65537, 128_256, 151_936, 262_144, 1_000_003]
        {
            for most in [32, 5440, TILE] {
                let tiles = tiles(length, most);
                assert_eq!((tiles[0].start, tiles[tiles.len() - 1].end), (0, length));
                assert!(tiles.windows(2).all(|pair| pair[0].end == pair[1].start));
                assert!(tiles.iter().all(|tile| (1..=most).contains(&tile.len())));
                assert!(tiles[..tiles.len() - 1].iter().all(|tile| tile.len() == tiles[0].len()));
            }
        }
        assert_eq!(tiles(32000, TILE), [0..16000, 16000..32000]);
        assert_eq!(tiles(151_936, TILE).len(), 10);
        assert!(tiles(0, TILE).is_empty());
    }
}
