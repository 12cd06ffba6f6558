//! Reading blob files.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use super::BlobError;
use super::packing::{sign_extend, unpack};
use super::record::{ALIGNMENT, Block, Record, align, decode_header};
use crate::mapped::MappedFile;
use crate::tensor::{Data, Tensor};
use crate::types::TensorType;

/// Files below this size are read into memory: mapping them saves nothing, and a copy is out of the reach of
/// whoever truncates the file later.
const MAP_FROM_BYTES: u64 = 1 << 20;

/// A blob file, open for reading.
#[derive(Debug)]
pub struct BlobFile {
    contents: Contents,
    /// The number of blobs that the header claims; nothing relies on it.
    claimed_count: u32,
}

#[derive(Debug)]
enum Contents {
    Memory(Vec<u8>),
    Mapped(MappedFile),
}

impl BlobFile {
    /// Opens a file; one of 1 MiB or more is mapped read-only, with what [`crate::mapped`] says follows if
    /// another process changes it meanwhile.
    ///
    /// # Errors
    ///
    /// When the file does not exist, is not a regular file, cannot be read, or has no header of version 2.
    pub fn open(path: impl AsRef<Path>) -> Result<BlobFile, BlobError> {
        let path = path.as_ref();
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::NotFound => BlobError::Missing { path: path.to_owned() },
            _ => BlobError::Read { path: path.to_owned(), source },
        };
        // Opening a pipe would wait for its writer.
        if !fs::metadata(path).map_err(failed)?.is_file() {
            return Err(BlobError::NotAFile { path: path.to_owned() });
        }
        let file = File::open(path).map_err(failed)?;
        if file.metadata().map_err(failed)?.len() >= MAP_FROM_BYTES {
            return BlobFile::with_contents(Contents::Mapped(MappedFile::new(&file).map_err(failed)?));
        }
        let mut bytes = Vec::new();
        // A file may grow after it was measured, and some systems' files have no length.
        file.take(MAP_FROM_BYTES).read_to_end(&mut bytes).map_err(failed)?;
        BlobFile::from_bytes(bytes)
    }

    /// A file that is in memory.
    ///
    /// # Errors
    ///
    /// When it has no header of version 2.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<BlobFile, BlobError> {
        BlobFile::with_contents(Contents::Memory(bytes))
    }

    fn with_contents(contents: Contents) -> Result<BlobFile, BlobError> {
        let claimed_count = decode_header(&contents.block("the header", 0)?)?;
        Ok(BlobFile { contents, claimed_count })
    }

    /// The file's length in bytes.
    pub fn size_bytes(&self) -> u64 {
        self.contents.size_bytes()
    }

    /// The number of blobs that the header claims. It may be wrong: only [`BlobFile::records`] tells what
    /// the file holds.
    pub fn claimed_count(&self) -> u32 {
        self.claimed_count
    }

    /// Walks over the metadata of all blobs, in the order of the file.
    ///
    /// Ends after the number of blobs that the header claims, or after the first error.
    pub fn records(&self) -> Records<'_> {
        Records { file: self, next: Some(ALIGNMENT), left: self.claimed_count }
    }

    /// The metadata of the blob whose record is at `offset`. Its payload is known to lie in the file.
    ///
    /// # Errors
    ///
    /// When there is no record at `offset`, or the record or its payload is misaligned or out of range.
    pub fn record(&self, offset: u64) -> Result<Record, BlobError> {
        if !offset.is_multiple_of(ALIGNMENT) {
            return Err(BlobError::Misaligned { what: "a blob record", offset });
        }
        let record = Record::decode(offset, &self.contents.block("a blob record", offset)?)?;
        if !record.data_offset.is_multiple_of(ALIGNMENT) {
            return Err(BlobError::Misaligned { what: "blob data", offset: record.data_offset });
        }
        self.contents.check_range("blob data", record.data_offset, record.size_bytes)?;
        Ok(record)
    }

    /// Checks that the record at `offset` is that of a tensor of type `ty`, without reading the values.
    ///
    /// # Errors
    ///
    /// Those of [`BlobFile::record`]; when the blob's dtype, size or unused bits are not those of `ty`; when
    /// `ty` has a `?` or an element type without a blob form.
    pub fn check(&self, offset: u64, ty: &TensorType) -> Result<Record, BlobError> {
        let record = self.record(offset)?;
        record.check_type(ty)?;
        Ok(record)
    }

    /// Reads a tensor of type `ty` from the blob whose record is at `offset`.
    ///
    /// Allocates one value per value of the blob: up to 8 times the blob's size, for `uint1`.
    ///
    /// # Errors
    ///
    /// Those of [`BlobFile::check`].
    pub fn read(&self, offset: u64, ty: &TensorType) -> Result<Tensor, BlobError> {
        let record = self.check(offset, ty)?;
        let unknown_size = || BlobError::UnknownSize(ty.clone());
        let shape = ty.shape.to_known().ok_or_else(unknown_size)?;
        let count = ty.shape.elements().and_then(|count| usize::try_from(count).ok());
        let data = self.contents.data(&record, count.ok_or_else(unknown_size)?)?;
        Tensor::new(ty.dtype, &shape, data).map_err(|_| unknown_size())
    }
}

impl Contents {
    fn size_bytes(&self) -> u64 {
        match self {
            Contents::Memory(bytes) => bytes.len() as u64,
            Contents::Mapped(file) => file.len() as u64,
        }
    }

    fn check_range(&self, what: &'static str, offset: u64, size: u64) -> Result<(), BlobError> {
        let file_bytes = self.size_bytes();
        match offset.checked_add(size) {
            Some(end) if end <= file_bytes => Ok(()),
            _ => Err(BlobError::OutOfRange { what, offset, size, file_bytes }),
        }
    }

    fn copy_to(&self, what: &'static str, offset: u64, target: &mut [u8]) -> Result<(), BlobError> {
        let size = target.len() as u64;
        self.check_range(what, offset, size)?;
        let copied = usize::try_from(offset).is_ok_and(|start| match self {
            Contents::Memory(bytes) => bytes
                .get(start..)
                .and_then(|bytes| bytes.get(..target.len()))
                .map(|bytes| target.copy_from_slice(bytes))
                .is_some(),
            Contents::Mapped(file) => file.copy_to(start, target),
        });
        let file_bytes = self.size_bytes();
        if copied { Ok(()) } else { Err(BlobError::OutOfRange { what, offset, size, file_bytes }) }
    }

    fn block(&self, what: &'static str, offset: u64) -> Result<Block, BlobError> {
        let mut block = [0; ALIGNMENT as usize];
        self.copy_to(what, offset, &mut block)?;
        Ok(block)
    }

    /// The `count` values of a blob whose size is known to be that of so many.
    fn data(&self, record: &Record, count: usize) -> Result<Data, BlobError> {
        let bits = record.dtype.bits();
        let mut data =
            Data::zeros(record.dtype, count).ok_or(BlobError::Memory { elements: count as u64 })?;
        match &mut data {
            Data::U8(values) if bits < 8 => self.unpack(record, bits, values)?,
            Data::I8(values) if bits < 8 => {
                self.unpack(record, bits, bytemuck::cast_slice_mut(values))?;
                for value in values {
                    *value = sign_extend(*value, bits);
                }
            }
            Data::F16(values) => self.copy_values(record, values)?,
            Data::F32(values) => self.copy_values(record, values)?,
            Data::Bf16(values) => self.copy_values(record, values)?,
            Data::I8(values) => self.copy_values(record, values)?,
            Data::I16(values) => self.copy_values(record, values)?,
            Data::I32(values) => self.copy_values(record, values)?,
            Data::U8(values) => self.copy_values(record, values)?,
            Data::U16(values) => self.copy_values(record, values)?,
            Data::U32(values) => self.copy_values(record, values)?,
            Data::F64(_) | Data::I64(_) | Data::U64(_) | Data::Bool(_) | Data::String(_) => {
                return Err(BlobError::NoBlobForm(record.dtype));
            }
        }
        Ok(data)
    }

    fn copy_values<T: bytemuck::Pod>(&self, record: &Record, values: &mut [T]) -> Result<(), BlobError> {
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(values);
        self.copy_to("blob data", record.data_offset, bytes)?;
        if cfg!(target_endian = "big") {
            bytes.chunks_exact_mut(size_of::<T>()).for_each(<[u8]>::reverse);
        }
        Ok(())
    }

    /// Unpacks through a small buffer, so that a large blob is not held twice.
    fn unpack(&self, record: &Record, bits: u32, values: &mut [u8]) -> Result<(), BlobError> {
        /// Values at a time: a multiple of 8, so that each round starts on a whole byte.
        const ROUND: usize = 4096;
        let mut packed = [0; ROUND];
        let mut offset = record.data_offset;
        for round in values.chunks_mut(ROUND) {
            let packed = &mut packed[..(round.len() * bits as usize).div_ceil(8)];
            self.copy_to("blob data", offset, packed)?;
            unpack(packed, bits, round);
            offset = offset.saturating_add(packed.len() as u64);
        }
        Ok(())
    }
}

/// The metadata of a file's blobs, in the order of the file; see [`BlobFile::records`].
#[derive(Debug, Clone)]
pub struct Records<'a> {
    file: &'a BlobFile,
    /// Where the next record starts; `None` after an error.
    next: Option<u64>,
    left: u32,
}

impl Iterator for Records<'_> {
    type Item = Result<Record, BlobError>;

    fn next(&mut self) -> Option<Self::Item> {
        let offset = self.next.take()?;
        self.left = self.left.checked_sub(1)?;
        let record = match self.file.record(offset) {
            Ok(record) => record,
            Err(error) => return Some(Err(error)),
        };
        // Each step leads further into the file, so the walk ends however many blobs the header claims.
        if record.data_offset < offset.saturating_add(ALIGNMENT) {
            return Some(Err(BlobError::Disordered { offset, data_offset: record.data_offset }));
        }
        self.next = record.data_offset.checked_add(record.size_bytes).and_then(align);
        Some(Ok(record))
    }
}
