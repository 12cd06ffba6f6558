//! One side of the comparison with coremltools' blob files; `.ci/interop.py` is the other and calls this one.
//!
//! `blob_interop write DIR` writes blob files and `manifest.txt` into DIR; `blob_interop check DIR` reads the
//! files that a `manifest.txt` there lists and compares every value. A line of the manifest is
//! `FILE DTYPE COUNT OFFSET`, one per blob. Files and values are the same whoever writes them: [`raw`] and
//! [`files`] are stated in both languages.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::ExitCode;

use anemone_mil::files::write_atomically;
use anemone_mil::tensor::{Data, Tensor};
use anemone_mil::types::{DType, TensorType};
use anemone_mil::weights::{BlobFile, write_blob_file};
use half::f16;

/// The element types that coremltools' Python side offers.
const DTYPES: [DType; 14] = [
    DType::Fp16,
    DType::Fp32,
    DType::UInt8,
    DType::Int8,
    DType::Int16,
    DType::UInt16,
    DType::Int4,
    DType::UInt1,
    DType::UInt2,
    DType::UInt4,
    DType::UInt3,
    DType::UInt6,
    DType::Int32,
    DType::UInt32,
];

const COUNTS: [usize; 20] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 15, 16, 17, 31, 33, 63, 64, 65, 127, 1001, 40_003];

/// The bit pattern of value `i` of a blob, of which an element type takes the lowest bits.
fn raw(dtype: DType, i: usize) -> u32 {
    let code = dtype.blob_code().unwrap_or(0);
    let x = (i as u32).wrapping_add(1).wrapping_mul(2_654_435_761).wrapping_add(code.wrapping_mul(40_503));
    x ^ (x >> 15)
}

/// The blobs of each file: one file per element type with all counts, and one with every type and count.
fn files() -> Vec<(String, Vec<(DType, usize)>)> {
    let mut files: Vec<_> = DTYPES
        .iter()
        .map(|&dtype| (format!("{dtype}.bin"), COUNTS.map(|count| (dtype, count)).to_vec()))
        .collect();
    let mixed = COUNTS.iter().flat_map(|&count| DTYPES.map(|dtype| (dtype, count)));
    files.push(("mixed.bin".to_owned(), mixed.collect()));
    files
}

fn tensor(dtype: DType, count: usize) -> Result<Tensor, Box<dyn Error>> {
    let bits = (0..count).map(|i| raw(dtype, i));
    let unused = 8u32.saturating_sub(dtype.bits());
    let data = match Data::empty(dtype) {
        Data::F16(_) => Data::F16(bits.map(|x| f16::from_bits(x as u16)).collect()),
        Data::F32(_) => Data::F32(bits.map(f32::from_bits).collect()),
        Data::U8(_) => Data::U8(bits.map(|x| (x as u8) << unused >> unused).collect()),
        Data::I8(_) => Data::I8(bits.map(|x| (x as i8) << unused >> unused).collect()),
        Data::I16(_) => Data::I16(bits.map(|x| x as i16).collect()),
        Data::U16(_) => Data::U16(bits.map(|x| x as u16).collect()),
        Data::I32(_) => Data::I32(bits.map(|x| x as i32).collect()),
        Data::U32(_) => Data::U32(bits.collect()),
        _ => return Err(format!("{dtype} is not compared").into()),
    };
    Ok(Tensor::new(dtype, &[count], data)?)
}

fn write(directory: &Path) -> Result<(), Box<dyn Error>> {
    let mut manifest = String::new();
    for (file, blobs) in files() {
        let tensors: Vec<Tensor> =
            blobs.iter().map(|&(dtype, count)| tensor(dtype, count)).collect::<Result<_, _>>()?;
        let offsets: Vec<u64> = write_blob_file(directory.join(&file), |writer| {
            tensors.iter().map(|tensor| writer.append(tensor)).collect()
        })?;
        for ((dtype, count), offset) in blobs.iter().zip(offsets) {
            writeln!(manifest, "{file} {dtype} {count} {offset}")?;
        }
    }
    write_atomically(directory.join("manifest.txt"), |out| {
        std::io::Write::write_all(out, manifest.as_bytes())
    })?;
    Ok(())
}

fn check(directory: &Path) -> Result<(), Box<dyn Error>> {
    let manifest = fs::read_to_string(directory.join("manifest.txt"))?;
    let mut lines = manifest.lines();
    for (name, blobs) in files() {
        let file = BlobFile::open(directory.join(&name))?;
        let offsets: Vec<u64> =
            file.records().map(|record| Ok(record?.offset)).collect::<Result<_, Box<dyn Error>>>()?;
        if offsets.len() != blobs.len() {
            return Err(format!("{name}: {} blobs, expected {}", offsets.len(), blobs.len()).into());
        }
        for ((dtype, count), offset) in blobs.into_iter().zip(offsets) {
            let expected_line = format!("{name} {dtype} {count} {offset}");
            if lines.next() != Some(expected_line.as_str()) {
                return Err(format!("the manifest does not say `{expected_line}`").into());
            }
            let found = file.read(offset, &TensorType::new(dtype, &[count]))?;
            if found != tensor(dtype, count)? {
                return Err(format!("{expected_line}: the values differ").into());
            }
        }
    }
    match lines.next() {
        None => Ok(()),
        Some(line) => Err(format!("the manifest also says `{line}`").into()),
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let result = match &arguments[..] {
        [command, directory] if command == "write" => write(Path::new(directory)),
        [command, directory] if command == "check" => check(Path::new(directory)),
        _ => Err("usage: blob_interop write|check DIR".into()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
