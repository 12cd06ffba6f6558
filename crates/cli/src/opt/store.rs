//! Constants on their way into files and out of them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anemone_mil::passes::{Unbaked, store_constants};
use anemone_mil::program::{BlobReference, Literal, LiteralValue, Program};
use anemone_mil::tensor::Tensor;
use anemone_mil::weights::{BlobError, MODEL_PATH, WeightDirectory, WeightSource, write_blob_file};
use thiserror::Error;

use crate::common::files::refuse_overwriting;
use crate::common::{Failure, Output};

/// Constants from this size on go into a weight file.
const LARGE_BYTES: u64 = 1 << 16;

/// Why a constant cannot be read or written.
#[derive(Debug, Error)]
enum StoreError {
    /// One that cannot be read.
    #[error("the weight `{name}` cannot be read: {error}")]
    Read { name: String, error: BlobError },
    /// A value that is no tensor.
    #[error("`{0}` is no tensor, so no .npy file can hold it")]
    NotATensor(String),
    /// A weight file that cannot be written.
    #[error("cannot write {}: {error}", path.display())]
    Write { path: PathBuf, error: BlobError },
    /// A name that text cannot refer to.
    #[error("no program can refer to weights beside {}: the name must be UTF-8 without `\\` and `:`", .0.display())]
    Name(PathBuf),
}

/// Puts the large constants of a program that the one before did not have into a file beside `out`.
pub(super) fn large_constants(
    program: &mut Program,
    before: &Program,
    out: &Path,
    read: &[PathBuf],
    output: &Output,
) -> Result<(), Failure> {
    let mut found = false;
    store_constants::<BlobError>(&mut program.clone(), before, |_, tensor| {
        found |= is_large(tensor);
        Ok(None)
    })?;
    if !found {
        return Ok(());
    }
    let stem = out.file_stem().and_then(|stem| stem.to_str()).filter(|stem| !stem.contains(['\\', ':']));
    let name = format!("{}.weights.bin", stem.ok_or_else(|| StoreError::Name(out.to_owned()))?);
    let path = out.with_file_name(&name);
    refuse_overwriting([&path], read)?;
    let dialect = program.version.dialect();
    write_blob_file(&path, |writer| {
        store_constants(program, before, |_, tensor| {
            if !is_large(tensor) {
                return Ok(None);
            }
            let offset = writer.append(tensor)?;
            Ok::<_, BlobError>(Some(BlobReference { path: format!("{MODEL_PATH}/{name}"), offset, dialect }))
        })
    })
    .map_err(|error| StoreError::Write { path: path.clone(), error })?;
    output.message(format_args!("the large constants are in {}", path.display()));
    Ok(())
}

fn is_large(tensor: &Tensor) -> bool {
    let bytes = (tensor.len() as u64).saturating_mul(u64::from(tensor.dtype().bits())) / 8;
    tensor.dtype().blob_code().is_some() && bytes >= LARGE_BYTES
}

/// What a constant was that became an input.
pub(super) fn describe(unbaked: &Unbaked) -> String {
    let Literal { ty, value } = &unbaked.value;
    match value {
        LiteralValue::Blob(reference) => {
            format!(
                "the input `{}` was {ty} in {} at offset {}",
                unbaked.name, reference.path, reference.offset
            )
        }
        _ => format!("the input `{}` was {ty} in the text", unbaked.name),
    }
}

/// The value that a constant had which became an input.
pub(super) fn value(unbaked: &Unbaked, weights: &WeightDirectory) -> Result<Arc<Tensor>, Failure> {
    let name = || unbaked.name.clone();
    match (&unbaked.value.value, unbaked.value.ty.as_tensor()) {
        (LiteralValue::Tensor(tensor), _) => Ok(tensor.clone()),
        (LiteralValue::Blob(reference), Some(ty)) => {
            let tensor = weights.load(reference, &ty);
            Ok(Arc::new(tensor.map_err(|error| StoreError::Read { name: name(), error })?))
        }
        _ => Err(StoreError::NotATensor(name()).into()),
    }
}
