//! The metadata record of a blob, and the header of a blob file.

use super::BlobError;
use crate::files::is_lfs_pointer;
use crate::types::{DType, TensorType};

/// Header, records and payloads start at multiples of this many bytes; header and records are as long.
pub const ALIGNMENT: u64 = 64;

/// The first four bytes of every metadata record.
pub const SENTINEL: u32 = 0xDEAD_BEEF;

/// The version of the format that this crate reads and writes.
pub const VERSION: u32 = 2;

/// The bytes of a header or a record.
pub(super) type Block = [u8; ALIGNMENT as usize];

/// A blob's metadata. All sizes and positions are in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record {
    /// Where the record starts: the offset that programs name.
    pub offset: u64,
    /// Element type.
    pub dtype: DType,
    /// Size of the payload.
    pub size_bytes: u64,
    /// Where the payload starts.
    pub data_offset: u64,
    /// Bits at the payload's end that belong to no value. Writers older than ios18 leave any number here,
    /// and only element types narrower than a byte have such bits.
    pub padding_bits: u64,
}

impl Record {
    /// Reads a record, without knowledge of the file it is from.
    pub(super) fn decode(offset: u64, block: &Block) -> Result<Record, BlobError> {
        let found = u32_at(block, 0);
        if found != SENTINEL {
            return Err(BlobError::BadSentinel { offset, found });
        }
        let code = u32_at(block, 4);
        let dtype = DType::from_blob_code(code).ok_or(BlobError::UnknownDType { offset, code })?;
        Ok(Record {
            offset,
            dtype,
            size_bytes: u64_at(block, 8),
            data_offset: u64_at(block, 16),
            padding_bits: u64_at(block, 24),
        })
    }

    /// The bytes of a record; `code` is that of its element type.
    pub(super) fn encode(&self, code: u32) -> Block {
        let mut block = [0; ALIGNMENT as usize];
        block[0..4].copy_from_slice(&SENTINEL.to_le_bytes());
        block[4..8].copy_from_slice(&code.to_le_bytes());
        block[8..16].copy_from_slice(&self.size_bytes.to_le_bytes());
        block[16..24].copy_from_slice(&self.data_offset.to_le_bytes());
        block[24..32].copy_from_slice(&self.padding_bits.to_le_bytes());
        block
    }

    /// Checks that the blob holds values of the declared type: its dtype, its size to the byte, and the
    /// unused bits of a type narrower than a byte.
    pub(super) fn check_type(&self, ty: &TensorType) -> Result<(), BlobError> {
        if self.dtype != ty.dtype {
            return Err(BlobError::WrongDType { offset: self.offset, found: self.dtype, expected: ty.dtype });
        }
        let size = PackedSize::of(ty)?;
        if self.size_bytes != size.bytes {
            return Err(BlobError::WrongSize {
                offset: self.offset,
                found: self.size_bytes,
                expected: size.bytes,
                ty: ty.clone(),
            });
        }
        if ty.dtype.bits() < 8 && self.padding_bits != size.padding_bits {
            return Err(BlobError::WrongPadding {
                offset: self.offset,
                found: self.padding_bits,
                expected: size.padding_bits,
                ty: ty.clone(),
            });
        }
        Ok(())
    }
}

/// The size of a tensor's values in a blob file.
pub(super) struct PackedSize {
    pub(super) bytes: u64,
    /// Unused bits in the last byte.
    pub(super) padding_bits: u64,
}

impl PackedSize {
    /// The size of a type's values, if it has a blob form, known dimensions, and no more bits than a u64
    /// can count.
    pub(super) fn of(ty: &TensorType) -> Result<PackedSize, BlobError> {
        if ty.dtype.blob_code().is_none() {
            return Err(BlobError::NoBlobForm(ty.dtype));
        }
        let bits = ty.shape.elements().and_then(|elements| elements.checked_mul(u64::from(ty.dtype.bits())));
        let bits = bits.ok_or_else(|| BlobError::UnknownSize(ty.clone()))?;
        Ok(PackedSize { bytes: bits.div_ceil(8), padding_bits: (8 - bits % 8) % 8 })
    }
}

/// The bytes of a header.
pub(super) fn encode_header(count: u32) -> Block {
    let mut block = [0; ALIGNMENT as usize];
    block[0..4].copy_from_slice(&count.to_le_bytes());
    block[4..8].copy_from_slice(&VERSION.to_le_bytes());
    block
}

/// The number of blobs that a header claims, once its version is known to be [`VERSION`].
pub(super) fn decode_header(block: &Block) -> Result<u32, BlobError> {
    if is_lfs_pointer(block) {
        return Err(BlobError::LfsPointer);
    }
    let found = u32_at(block, 4);
    if found != VERSION {
        return Err(BlobError::BadHeader { found });
    }
    Ok(u32_at(block, 0))
}

/// The least multiple of [`ALIGNMENT`] that is not below `position`, if a u64 can hold it.
pub(super) fn align(position: u64) -> Option<u64> {
    position.checked_next_multiple_of(ALIGNMENT)
}

fn u32_at(block: &Block, at: usize) -> u32 {
    u32::from_le_bytes(std::array::from_fn(|i| block[at + i]))
}

fn u64_at(block: &Block, at: usize) -> u64 {
    u64::from_le_bytes(std::array::from_fn(|i| block[at + i]))
}
