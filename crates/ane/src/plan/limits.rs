//! The limits of a chip that a plan keeps, from the rules.

use std::ops::Range;

use crate::chips::{Chip, Chips};
use crate::device::Budget;

/// Tiles but the last have a multiple of this many rows (R25).
pub(super) const ROWS_MULTIPLE: usize = 32;

/// The limits of a chip.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The chip.
    pub chip: Chip,
    /// The longest axis of a matrix product, and the rules that say so.
    pub axis: usize,
    /// The rules that give `axis`.
    pub axis_rule: &'static str,
    /// The most terms of the sums of a matrix product.
    pub inner: usize,
    /// The rule that gives `inner`.
    pub inner_rule: &'static str,
    /// The most rows of a tile: within the axes of every chip, so that plans differ no more than they must.
    pub rows: usize,
    /// The most programs that a process compiles (R8, R48) and has loaded (R9).
    pub programs: usize,
    /// Bytes past which throughput falls off (R34).
    pub working_set: u64,
}

impl Limits {
    /// Those of a chip.
    pub fn of(chip: Chip) -> Limits {
        let older = Chips::until(Chip::M3).contains(chip);
        let (axis, axis_rule) = if older { (16384, "R1") } else { (65536, "R2") };
        let (inner, inner_rule) = if older { (16384, "R1") } else { (32768, "R3") };
        let compiled = Budget::COMPILATIONS as usize;
        let programs = match chip {
            Chip::M3 => 55,
            Chip::M5 => 110,
            _ => compiled,
        };
        Limits { chip, axis, axis_rule, inner, inner_rule, rows: 16384, programs, working_set: 32 << 20 }
    }
}

/// A vocabulary in as few tiles of at most `most` rows as may be, alike but for the last.
pub(super) fn tiles(vocab: usize, most: usize) -> Vec<Range<usize>> {
    let count = vocab.div_ceil(most);
    let each = vocab.div_ceil(count).next_multiple_of(ROWS_MULTIPLE).min(most);
    (0..vocab).step_by(each).map(|start| start..(start + each).min(vocab)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_cover_the_vocabulary_and_are_alike_but_for_the_last() {
        for vocab in [1, 31, 256, 4096, 16384, 16385, 32000, 50257, 128_256, 151_936, 262_144] {
            for most in [32, 5440, 16384] {
                let tiles = tiles(vocab, most);
                assert_eq!((tiles[0].start, tiles[tiles.len() - 1].end), (0, vocab));
                assert!(tiles.windows(2).all(|pair| pair[0].end == pair[1].start));
                assert!(tiles.iter().all(|tile| (1..=most).contains(&tile.len())));
                assert!(tiles[..tiles.len() - 1].iter().all(|tile| tile.len() == tiles[0].len()));
            }
        }
        assert_eq!(tiles(32000, 16384), [0..16000, 16000..32000]);
    }
}
