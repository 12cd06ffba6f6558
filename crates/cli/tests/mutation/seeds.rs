//! What is mutated: every program under `tests/`, and weight files made to fit their references.

use std::collections::BTreeMap;
use std::fs;
use std::io::Cursor;
use std::path::{Path, PathBuf};

use anemone_mil::program::{Argument, Literal, LiteralValue, Program};
use anemone_mil::tensor::Tensor;
use anemone_mil::text;
use anemone_mil::types::TensorType;
use anemone_mil::weights::{BlobFile, BlobWriter, WeightMap};

/// Texts above this length are cut into their functions, and what is still longer is left out.
const LONGEST_SEED_BYTES: usize = 8 << 10;

/// Programs with larger weight files go without.
const LARGEST_WEIGHTS_BYTES: usize = 64 << 10;

/// A program's text and the weight files that it refers to.
pub struct Seed {
    pub text: String,
    /// Contents of files by the path in the program.
    pub files: BTreeMap<String, Vec<u8>>,
    /// The same, open.
    pub weights: WeightMap,
}

/// Every seed, in an order that does not depend on the file system.
pub fn load() -> Vec<Seed> {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests");
    let texts =
        programs(&tests).into_iter().map(|path| fs::read_to_string(path).expect("a readable program"));
    texts.flat_map(pieces).map(seed).collect()
}

fn programs(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).expect("a readable directory");
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("a readable entry").path()).collect();
    paths.sort();
    let is_program = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "mil");
    let below = |path: PathBuf| if path.is_dir() { programs(&path) } else { vec![path] };
    paths.into_iter().flat_map(below).filter(is_program).collect()
}

/// The text itself if it is short, else one text for each function that is.
fn pieces(text: String) -> Vec<String> {
    if text.len() <= LONGEST_SEED_BYTES {
        return vec![text];
    }
    let Ok(parsed) = text::parse(&text) else { return Vec::new() };
    let program = parsed.program;
    let alone = program.functions.iter().map(|function| {
        text::write(&Program {
            version: program.version,
            attributes: program.attributes.clone(),
            functions: vec![function.clone()],
        })
    });
    alone.filter(|text| text.len() <= LONGEST_SEED_BYTES).collect()
}

fn seed(text: String) -> Seed {
    let files = text::parse(&text).map(|parsed| files(&parsed.program)).unwrap_or_default();
    let mut weights = WeightMap::default();
    for (path, bytes) in &files {
        weights.insert(path.clone(), BlobFile::from_bytes(bytes.clone()).expect("a file made here"));
    }
    Seed { text, files, weights }
}

/// For every file that a program names, one with the blobs that it expects where it expects them.
fn files(program: &Program) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for op in program.functions.iter().flat_map(|function| &function.ops) {
        let attributes = op.attributes.iter().map(|(_, literal)| literal);
        let arguments = op.arguments.iter().filter_map(|(_, argument)| match argument {
            Argument::Literal(literal) => Some(literal),
            _ => None,
        });
        for Literal { ty, value } in attributes.chain(arguments) {
            if let (LiteralValue::Blob(reference), Some(ty)) = (value, ty.as_tensor()) {
                let file = files.entry(reference.path.clone()).or_default();
                place(file, reference.offset, &ty);
            }
        }
    }
    files.retain(|_, file| !file.is_empty());
    files
}

/// Puts a tensor's record at `offset` of a file and its values behind, unless the file would grow too large.
fn place(file: &mut Vec<u8>, offset: u64, ty: &TensorType) {
    let small = ty.shape.elements().is_some_and(|count| count as usize <= LARGEST_WEIGHTS_BYTES);
    let dims = ty.shape.to_known().filter(|_| small);
    let Some(tensor) = dims.and_then(|dims| Tensor::zeros(ty.dtype, &dims)) else { return };
    let Some(one) = write(&tensor) else { return };
    let Ok(offset) = usize::try_from(offset) else { return };
    let length = offset.saturating_add(one.len() - 64);
    if length > LARGEST_WEIGHTS_BYTES {
        return;
    }
    if file.len() < length {
        file.resize(length, 0);
    }
    if file[4] == 0 {
        file[..64].copy_from_slice(&one[..64]);
    }
    file[offset..length].copy_from_slice(&one[64..]);
    let data_offset = offset as u64 + 64;
    file[offset + 16..offset + 24].copy_from_slice(&data_offset.to_le_bytes());
    // Values that are not zeros, in the order of their bits: of any element type, all are values.
    for (i, byte) in file[offset + 64..length].iter_mut().enumerate() {
        *byte = (i as u8).wrapping_mul(37);
    }
}

/// A file with one blob.
fn write(tensor: &Tensor) -> Option<Vec<u8>> {
    let mut writer = BlobWriter::new(Cursor::new(Vec::new())).ok()?;
    writer.append(tensor).ok()?;
    Some(writer.finish().ok()?.into_inner())
}
