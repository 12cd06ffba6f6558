//! The chips that have the engine, and sets of them.

use std::fmt;
use std::str::FromStr;

/// A chip of Apple's M family. Letters after the number (Pro, Max, Ultra) change the count of cores, not what is
/// supported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Chip {
    /// M1, architecture H13.
    M1,
    /// M2, architecture H14.
    M2,
    /// M3, architecture H15.
    M3,
    /// M4, architecture H16.
    M4,
    /// M5, architecture H17.
    M5,
    /// M6, architecture H18.
    M6,
}

/// A name that is no chip's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no chip; there are m1, m2, m3, m4, m5, m6{1}")]
pub struct UnknownChip(String, &'static str);

impl Chip {
    /// All of them, the oldest first.
    pub const ALL: [Chip; 6] = [Chip::M1, Chip::M2, Chip::M3, Chip::M4, Chip::M5, Chip::M6];

    /// Its name in flags and messages: `m4`.
    pub fn name(self) -> &'static str {
        ["m1", "m2", "m3", "m4", "m5", "m6"][self as usize]
    }

    /// What Apple's compiler calls the engine in it: `H16` in an M4.
    pub fn architecture(self) -> &'static str {
        ["H13", "H14", "H15", "H16", "H17", "H18"][self as usize]
    }

    /// Whether the arithmetic was measured on it, rather than on others of its family.
    pub fn arithmetic_is_measured(self) -> bool {
        matches!(self, Chip::M4 | Chip::M6)
    }
}

impl fmt::Display for Chip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl serde::Serialize for Chip {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl FromStr for Chip {
    type Err = UnknownChip;

    fn from_str(name: &str) -> Result<Chip, UnknownChip> {
        let found = Chip::ALL.into_iter().find(|chip| chip.name().eq_ignore_ascii_case(name));
        found.ok_or_else(|| UnknownChip(name.to_string(), ""))
    }
}

/// A set of chips.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Chips(u8);

impl Chips {
    /// None of them.
    pub const NONE: Chips = Chips(0);
    /// All of them.
    pub const ALL: Chips = Chips(0b11_1111);

    /// These chips.
    pub const fn of(chips: &[Chip]) -> Chips {
        let mut bits = 0;
        let mut index = 0;
        while index < chips.len() {
            bits |= 1 << chips[index] as u8;
            index += 1;
        }
        Chips(bits)
    }

    /// This chip and the newer ones.
    pub const fn since(chip: Chip) -> Chips {
        Chips(Chips::ALL.0 & (0xff << chip as u8))
    }

    /// This chip and the older ones.
    pub const fn until(chip: Chip) -> Chips {
        Chips((2 << chip as u8) - 1)
    }

    /// Whether the chip is among them.
    pub const fn contains(self, chip: Chip) -> bool {
        self.0 & (1 << chip as u8) != 0
    }

    /// Those in both sets.
    #[must_use]
    pub const fn and(self, other: Chips) -> Chips {
        Chips(self.0 & other.0)
    }

    /// Those in either set.
    #[must_use]
    pub const fn or(self, other: Chips) -> Chips {
        Chips(self.0 | other.0)
    }

    /// Those of this set that are not in the other.
    #[must_use]
    pub const fn without(self, other: Chips) -> Chips {
        Chips(self.0 & !other.0)
    }

    /// Whether there are none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The chips, the oldest first.
    pub fn iter(self) -> impl Iterator<Item = Chip> {
        Chip::ALL.into_iter().filter(move |&chip| self.contains(chip))
    }
}

impl From<Chip> for Chips {
    fn from(chip: Chip) -> Chips {
        Chips::of(&[chip])
    }
}

impl fmt::Display for Chips {
    /// `all`, or names with commas between.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Chips::ALL {
            return f.write_str("all");
        }
        let names: Vec<&str> = self.iter().map(Chip::name).collect();
        f.write_str(&names.join(", "))
    }
}

impl fmt::Debug for Chips {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Chips({self})")
    }
}

impl FromStr for Chips {
    type Err = UnknownChip;

    /// A chip's name, or `all`.
    fn from_str(name: &str) -> Result<Chips, UnknownChip> {
        if name.eq_ignore_ascii_case("all") {
            return Ok(Chips::ALL);
        }
        name.parse()
            .map(|chip: Chip| chip.into())
            .map_err(|UnknownChip(name, _)| UnknownChip(name, ", or all"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_made_from_chips_and_named() {
        assert_eq!(Chips::until(Chip::M2), Chips::of(&[Chip::M1, Chip::M2]));
        assert_eq!(Chips::since(Chip::M5), Chips::of(&[Chip::M5, Chip::M6]));
        assert_eq!(Chips::since(Chip::M1), Chips::until(Chip::M6));
        assert_eq!(Chips::of(&[Chip::M4, Chip::M1]).to_string(), "m1, m4");
        assert_eq!("ALL".parse(), Ok(Chips::ALL));
        assert_eq!("M4".parse(), Ok(Chip::M4));
        let unknown = "m7".parse::<Chips>().map_err(|error| error.to_string());
        assert_eq!(unknown, Err("`m7` is no chip; there are m1, m2, m3, m4, m5, m6, or all".to_string()));
    }
}
