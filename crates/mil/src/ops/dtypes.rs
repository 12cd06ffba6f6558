//! Sets of element types, and those that rows name.

use std::fmt;

use crate::types::DType;

/// A set of element types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DTypeSet(u32);

impl DTypeSet {
    /// The set of these types.
    pub const fn of(dtypes: &[DType]) -> DTypeSet {
        let mut bits = 0;
        let mut i = 0;
        while i < dtypes.len() {
            bits |= 1 << dtypes[i] as u32;
            i += 1;
        }
        DTypeSet(bits)
    }

    /// The types of either set.
    pub const fn and(self, other: DTypeSet) -> DTypeSet {
        DTypeSet(self.0 | other.0)
    }

    /// Whether the set holds a type.
    pub const fn contains(self, dtype: DType) -> bool {
        self.0 & (1 << dtype as u32) != 0
    }

    /// The types, in the order of [`DType`].
    pub fn iter(self) -> impl Iterator<Item = DType> {
        DType::all().filter(move |&dtype| self.contains(dtype))
    }
}

impl fmt::Display for DTypeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.iter().map(DType::name).collect();
        match names.split_last() {
            None => f.write_str("nothing"),
            Some((last, [])) => f.write_str(last),
            Some((last, rest)) => write!(f, "{} or {last}", rest.join(", ")),
        }
    }
}

/// fp16 and fp32.
pub const FLOAT: DTypeSet = DTypeSet::of(&[DType::Fp16, DType::Fp32]);
/// int32.
pub const INT32: DTypeSet = DTypeSet::of(&[DType::Int32]);
/// bool.
pub const BOOL: DTypeSet = DTypeSet::of(&[DType::Bool]);
/// string.
pub const STRING: DTypeSet = DTypeSet::of(&[DType::String]);
/// fp16, fp32 and int32: what most arithmetic takes.
pub const NUMBER: DTypeSet = FLOAT.and(INT32);
/// fp16, fp32, int32 and bool: what most data movement takes.
pub const ANY: DTypeSet = NUMBER.and(BOOL);
/// 8- and 16-bit integers, which ios17 added to data movement.
pub const SMALL_INTEGER: DTypeSet = DTypeSet::of(&[DType::Int8, DType::Int16, DType::UInt8, DType::UInt16]);
/// What most data movement takes from ios17 on.
pub const ANY_17: DTypeSet = ANY.and(SMALL_INTEGER);
/// Integers that an index or a shape may have from ios17 on.
pub const INDEX: DTypeSet = DTypeSet::of(&[DType::Int8, DType::Int16, DType::Int32]);
