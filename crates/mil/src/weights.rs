//! Weight blobs: the binary files that `BLOBFILE(path = …, offset = …)` refers to.
//!
//! A file starts with a header; then come blobs, each a metadata record and a payload. Everything is
//! little-endian, and every record and payload starts at a multiple of [`ALIGNMENT`] bytes:
//!
//! | at | field |
//! |---|---|
//! | 0 | header, 64 bytes: u32 number of blobs, u32 version = 2, zeros |
//! | *offset* | record, 64 bytes: u32 sentinel `0xDEADBEEF`, u32 dtype code ([`DType::blob_code`]), u64 size of the payload in bytes, u64 position of the payload in the file, u64 number of unused bits at the payload's end, zeros |
//! | position of the payload | the values, row-major; those narrower than a byte packed from the least significant bit on |
//!
//! The *offset* in a program is the position of the record, not of the values, so a file with one blob has it
//! at 64. The layout is that of `MILBlob/Blob/StorageFormat.hpp` in coremltools.
//!
//! Nothing in a file is trusted: [`BlobFile`] checks every number against the file's length before using it,
//! and allocates at most what the file holds, unpacked.
//!
//! ```
//! use anemone_mil::tensor::Tensor;
//! use anemone_mil::weights::{BlobFile, BlobWriter};
//!
//! let weights = Tensor::vector(vec![1.5f32, -2.0, 0.25]);
//! let mut writer = BlobWriter::new(std::io::Cursor::new(Vec::new()))?;
//! let offset = writer.append(&weights)?;
//! assert_eq!(offset, 64);
//!
//! let file = BlobFile::from_bytes(writer.finish()?.into_inner())?;
//! assert_eq!(file.record(offset)?.data_offset, 128);
//! assert_eq!(file.read(offset, &weights.ty())?, weights);
//! # Ok::<(), anemone_mil::weights::BlobError>(())
//! ```
//!
//! [`DType::blob_code`]: crate::types::DType::blob_code

mod error;
mod packing;
mod reader;
mod record;
mod source;
mod writer;

pub use error::BlobError;
pub use packing::{pack, sign_extend, unpack};
pub use reader::{BlobFile, Records};
pub use record::{ALIGNMENT, Record, SENTINEL, VERSION};
pub use source::{MODEL_PATH, WeightDirectory, WeightMap, WeightSource};
pub use writer::{BlobWriter, write_blob_file};

#[cfg(test)]
mod tests;
