//! What can be wrong with a blob, a blob file, or a reference to one.

use std::io;
use std::path::PathBuf;

use crate::files::LFS_POINTER;
use crate::types::{DType, TensorType};

/// Why a blob cannot be read or written. Offsets and sizes are in bytes.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// The file does not exist.
    #[error("weight file {} does not exist", path.display())]
    Missing {
        /// The file's path.
        path: PathBuf,
    },
    /// A directory, a device or a pipe.
    #[error("{} is not a regular file", path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// The system cannot read the file.
    #[error("cannot read weight file {}: {source}", path.display())]
    Read {
        /// The file's path.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The system cannot write.
    #[error("cannot write weights: {0}")]
    Write(#[from] io::Error),
    /// A reference whose path may not be followed.
    #[error("weight path {path:?} {reason}")]
    PathRefused {
        /// The path as the program gives it.
        path: String,
        /// What it would have to be.
        reason: &'static str,
    },
    /// A pointer of Git LFS in the place of the file.
    #[error("not a weight file: {LFS_POINTER}")]
    LfsPointer,
    /// The file's header names another version of the format, or the file is no blob file at all.
    #[error("not a weight file: its header has version {found}, expected {expected}", expected = super::VERSION)]
    BadHeader {
        /// The version in the header.
        found: u32,
    },
    /// A record, a payload or the header does not lie in the file.
    #[error("{what} at offset {offset}, {size} bytes, does not lie in the file of {file_bytes} bytes")]
    OutOfRange {
        /// What the bytes are.
        what: &'static str,
        /// Where they should start.
        offset: u64,
        /// How many they should be.
        size: u64,
        /// The file's length.
        file_bytes: u64,
    },
    /// A record or payload does not start at a multiple of 64.
    #[error("{what} at offset {offset} is not on a boundary of {alignment} bytes", alignment = super::ALIGNMENT)]
    Misaligned {
        /// What the bytes are.
        what: &'static str,
        /// Where they start.
        offset: u64,
    },
    /// There is no record at this offset.
    #[error(
        "no blob record at offset {offset}: found {found:#010X}, expected the sentinel {expected:#010X}",
        expected = super::SENTINEL
    )]
    BadSentinel {
        /// Where the record should start.
        offset: u64,
        /// What stands there.
        found: u32,
    },
    /// Whoever reads has set a limit on what may be read.
    #[error("the evaluation's budget of memory does not suffice for its {elements} elements")]
    OverBudget {
        /// How many elements the tensor asked for has.
        elements: u64,
    },
    /// The tensor is larger than the memory that there is.
    #[error("there is no memory for its {elements} elements")]
    Memory {
        /// How many elements the tensor asked for has.
        elements: u64,
    },
    /// The record's dtype code is none that is known.
    #[error("the blob at offset {offset} has the unknown dtype code {code}")]
    UnknownDType {
        /// Where the record starts.
        offset: u64,
        /// The code.
        code: u32,
    },
    /// The blob holds another element type than the program declares.
    #[error("the blob at offset {offset} holds {found}, expected {expected}")]
    WrongDType {
        /// Where the record starts.
        offset: u64,
        /// The blob's element type.
        found: DType,
        /// The declared one.
        expected: DType,
    },
    /// The blob holds more or fewer bytes than the declared type takes.
    #[error("the blob at offset {offset} holds {found} bytes, expected {expected} for {ty}")]
    WrongSize {
        /// Where the record starts.
        offset: u64,
        /// The payload's size.
        found: u64,
        /// The size that the declared type takes.
        expected: u64,
        /// The declared type.
        ty: TensorType,
    },
    /// Of a blob with values narrower than a byte, the number of unused bits at its end is not the one that
    /// the declared type leaves.
    #[error("the blob at offset {offset} has {found} unused bits at its end, expected {expected} for {ty}")]
    WrongPadding {
        /// Where the record starts.
        offset: u64,
        /// The unused bits that the record names.
        found: u64,
        /// Those that the declared type leaves.
        expected: u64,
        /// The declared type.
        ty: TensorType,
    },
    /// A payload that stands before its own record, where no walk over the file can pass.
    #[error("the blob at offset {offset} has its data at {data_offset}, not after its record")]
    Disordered {
        /// Where the record starts.
        offset: u64,
        /// Where the payload starts.
        data_offset: u64,
    },
    /// An element type that blob files cannot hold.
    #[error("a weight file cannot hold {0}")]
    NoBlobForm(DType),
    /// A declared type whose size is not known or overflows.
    #[error("{0} has no known size, so no blob can hold it")]
    UnknownSize(TensorType),
    /// More blobs than the header can count.
    #[error("a weight file holds at most {} blobs", u32::MAX)]
    TooMany,
}
