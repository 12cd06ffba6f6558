//! The limits of a chip that a plan keeps, from the rules.

use crate::chips::{Chip, Chips};
use crate::device::Budget;
use crate::limits::{ANY_AXIS, INNER_DIMENSION, MANY_CHANNELS, OLDER_AXIS, TILE};

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
    /// The most channels: terms of the sums of the forward's product, and inputs of the RMSNorm's convolutions (R4).
    pub channels: usize,
    /// The rule that gives `channels`.
    pub channels_rule: &'static str,
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
        let (axis, axis_rule) = if older { (OLDER_AXIS as usize, "R1") } else { (ANY_AXIS as usize, "R2") };
        let (inner, inner_rule) = if older { (axis, axis_rule) } else { (INNER_DIMENSION as usize, "R3") };
        let channels = MANY_CHANNELS as usize - 1;
        let (channels, channels_rule) =
            if inner <= channels { (inner, inner_rule) } else { (channels, "R4") };
        let compiled = Budget::COMPILATIONS as usize;
        let programs = match chip {
            Chip::M3 => 55,
            Chip::M5 => 110,
            _ => compiled,
        };
        Limits {
            chip,
            axis,
            axis_rule,
            inner,
            inner_rule,
            channels,
            channels_rule,
            rows: TILE,
            programs,
            working_set: 32 << 20,
        }
    }
}
