//! Writing blob files.

use std::fs::File;
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::Path;

use super::BlobError;
use super::packing::pack;
use super::record::{ALIGNMENT, PackedSize, Record, align, encode_header};
use crate::files::write_atomically;
use crate::tensor::{Data, Tensor};

/// Writes blobs one after the other.
///
/// The file is whole only after [`BlobWriter::finish`], which puts the number of blobs into its header.
#[derive(Debug)]
pub struct BlobWriter<W> {
    target: W,
    /// Bytes written so far.
    position: u64,
    count: u32,
}

impl<W: Write + Seek> BlobWriter<W> {
    /// Starts a file on an empty target that stands at its start.
    ///
    /// # Errors
    ///
    /// When the target refuses.
    pub fn new(mut target: W) -> Result<BlobWriter<W>, BlobError> {
        target.write_all(&encode_header(0))?;
        Ok(BlobWriter { target, position: ALIGNMENT, count: 0 })
    }

    /// Appends a tensor and returns the offset of its record, which is what a program's `BLOBFILE` names.
    ///
    /// The payload goes out in pieces, so that at most a small part is held twice.
    ///
    /// # Errors
    ///
    /// When no blob can hold the tensor's element type (`bool`, `string` and 64-bit types), or the target
    /// refuses; the file is then not to be used.
    pub fn append(&mut self, tensor: &Tensor) -> Result<u64, BlobError> {
        let dtype = tensor.dtype();
        let code = dtype.blob_code().ok_or(BlobError::NoBlobForm(dtype))?;
        let size = PackedSize::of(&tensor.ty())?;
        let too_long = || BlobError::Write(io::ErrorKind::FileTooLarge.into());
        let offset = align(self.position).ok_or_else(too_long)?;
        let data_offset = offset.checked_add(ALIGNMENT).ok_or_else(too_long)?;
        let end = data_offset.checked_add(size.bytes).ok_or_else(too_long)?;
        let count = self.count.checked_add(1).ok_or(BlobError::TooMany)?;

        let record =
            Record { offset, dtype, size_bytes: size.bytes, data_offset, padding_bits: size.padding_bits };
        // Less than `ALIGNMENT`, as `align` gives the next multiple.
        let gap = (offset - self.position) as usize;
        self.target.write_all(&[0; ALIGNMENT as usize][..gap])?;
        self.target.write_all(&record.encode(code))?;
        write_data(&mut self.target, tensor)?;
        self.position = end;
        self.count = count;
        Ok(offset)
    }

    /// Completes the header and returns the target.
    ///
    /// # Errors
    ///
    /// When the target refuses.
    pub fn finish(mut self) -> Result<W, BlobError> {
        self.target.seek(SeekFrom::Start(0))?;
        self.target.write_all(&encode_header(self.count))?;
        self.target.seek(SeekFrom::Start(self.position))?;
        self.target.flush()?;
        Ok(self.target)
    }
}

/// Writes a blob file whole or not at all: what `build` appends becomes the file at `path` when all of it is
/// safely on the disk (see [`write_atomically`]). Returns what `build` returns.
///
/// # Errors
///
/// Those of `build`, and when the system refuses to write; `path` is then as it was.
pub fn write_blob_file<T>(
    path: impl AsRef<Path>,
    build: impl FnOnce(&mut BlobWriter<BufWriter<&mut File>>) -> Result<T, BlobError>,
) -> Result<T, BlobError> {
    write_atomically(path, |file| {
        let mut writer = BlobWriter::new(BufWriter::new(file))?;
        let result = build(&mut writer)?;
        writer.finish()?;
        Ok(result)
    })
}

fn write_data(target: &mut impl Write, tensor: &Tensor) -> Result<(), BlobError> {
    let bits = tensor.dtype().bits();
    match tensor.data() {
        Data::U8(values) if bits < 8 => write_packed(target, values, bits)?,
        Data::I8(values) if bits < 8 => write_packed(target, bytemuck::cast_slice(values), bits)?,
        Data::F16(values) => write_values(target, values)?,
        Data::F32(values) => write_values(target, values)?,
        Data::Bf16(values) => write_values(target, values)?,
        Data::I8(values) => write_values(target, values)?,
        Data::I16(values) => write_values(target, values)?,
        Data::I32(values) => write_values(target, values)?,
        Data::U8(values) => write_values(target, values)?,
        Data::U16(values) => write_values(target, values)?,
        Data::U32(values) => write_values(target, values)?,
        Data::F64(_) | Data::I64(_) | Data::U64(_) | Data::Bool(_) | Data::String(_) => {
            return Err(BlobError::NoBlobForm(tensor.dtype()));
        }
    }
    Ok(())
}

/// Values at a time, where they do not go out as they are: a multiple of 8, so that each round of packed
/// values ends on a whole byte.
const ROUND: usize = 4096;

fn write_packed(target: &mut impl Write, values: &[u8], bits: u32) -> io::Result<()> {
    values.chunks(ROUND).try_for_each(|round| target.write_all(&pack(round, bits)))
}

fn write_values<T: bytemuck::NoUninit>(target: &mut impl Write, values: &[T]) -> io::Result<()> {
    if cfg!(target_endian = "little") {
        return target.write_all(bytemuck::cast_slice(values));
    }
    values.chunks(ROUND).try_for_each(|round| {
        let mut bytes = bytemuck::cast_slice::<T, u8>(round).to_vec();
        bytes.chunks_exact_mut(size_of::<T>()).for_each(<[u8]>::reverse);
        target.write_all(&bytes)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Keeps the blocks that start on a boundary, by position, and forgets everything else.
    #[derive(Default)]
    struct Sparse {
        position: u64,
        writes: Vec<(u64, Vec<u8>)>,
    }

    impl Write for Sparse {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.writes.push((self.position, bytes.to_vec()));
            self.position += bytes.len() as u64;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Seek for Sparse {
        fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
            let SeekFrom::Start(position) = to else { panic!("only from the start") };
            self.position = position;
            Ok(position)
        }
    }

    #[test]
    fn positions_above_4_gib_are_kept_whole() {
        let start = 5 << 32;
        let target = Sparse { position: start, ..Sparse::default() };
        let mut writer = BlobWriter { target, position: start, count: 7 };
        let offset = writer.append(&Tensor::vector(vec![1u8, 2, 3])).unwrap();
        assert_eq!(offset, start);
        let target = writer.finish().unwrap();
        let find =
            |at: u64| &target.writes.iter().find(|(p, bytes)| *p == at && !bytes.is_empty()).unwrap().1;
        let record = Record::decode(offset, find(offset).as_slice().try_into().unwrap()).unwrap();
        assert_eq!(record.data_offset, start + 64);
        assert_eq!(find(start + 64), &[1, 2, 3]);
        assert_eq!(find(0)[..8], [8, 0, 0, 0, 2, 0, 0, 0]);
    }

    #[test]
    fn a_position_past_the_last_is_an_error() {
        let position = u64::MAX - 70;
        let mut writer = BlobWriter { target: Sparse::default(), position, count: 0 };
        assert!(matches!(writer.append(&Tensor::vector(vec![1u8])), Err(BlobError::Write(_))));
        let mut writer = BlobWriter { target: Sparse::default(), position: 64, count: u32::MAX };
        assert!(matches!(writer.append(&Tensor::vector(vec![1u8])), Err(BlobError::TooMany)));
    }
}
