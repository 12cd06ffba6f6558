//! The weight files of a program on their way into a container.

use std::collections::HashMap;
use std::collections::btree_map::{BTreeMap, Entry};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anemone_mil::program::{LiteralValue, Op, Program};
use anemone_mil::weights::{BlobError, MODEL_PATH, WeightDirectory, WeightSource};

use crate::container::{ContainerError, MAX_MODEL_BYTES};

/// The directory of a container that weight files are in.
const WEIGHTS: &str = "weights";

/// Weight files, by the path that a container has them under, below what `@model_path` stands for.
#[derive(Debug, Default)]
pub(crate) struct Assets(BTreeMap<PathBuf, PathBuf>);

impl Assets {
    /// The weight files of a program, under the paths that it names them by.
    ///
    /// # Errors
    ///
    /// When a file is missing, or none of weights.
    pub(crate) fn as_named(program: &Program, from: &WeightDirectory) -> Result<Assets, ContainerError> {
        let mut assets = Assets::default();
        for blob in program.blobs() {
            let failed = |error: BlobError| ContainerError::Weights { path: blob.path.clone(), error };
            let source = from.path(&blob.path).map_err(failed)?;
            let below = source.strip_prefix(from.directory()).unwrap_or(&source).to_owned();
            if let Entry::Vacant(place) = assets.0.entry(below) {
                from.file(&blob.path).map_err(failed)?;
                place.insert(source);
            }
        }
        Ok(assets)
    }

    /// The weight files of a program, which then refers to them below `weights`: a container's have their place there.
    ///
    /// # Errors
    ///
    /// As [`Assets::as_named`]; when two would have the same name.
    pub(crate) fn gather(program: &mut Program, from: &WeightDirectory) -> Result<Assets, ContainerError> {
        let mut assets = Assets::default();
        let mut renamed: HashMap<PathBuf, String> = HashMap::new();
        for (below, source) in Assets::as_named(program, from)?.0 {
            let place = match below.starts_with(WEIGHTS) {
                true => below.clone(),
                false => Path::new(WEIGHTS).join(below.file_name().unwrap_or_default()),
            };
            if place != below {
                let names: Vec<_> =
                    place.components().map(|name| name.as_os_str().to_string_lossy()).collect();
                renamed.insert(below, format!("{MODEL_PATH}/{}", names.join("/")));
            }
            if let Some(first) = assets.0.insert(place.clone(), source.clone()) {
                return Err(ContainerError::SameWeights { first, second: source, place });
            }
        }
        for value in literals_mut(program) {
            if let LiteralValue::Blob(blob) = value
                && let Ok(source) = from.path(&blob.path)
                && let Some(path) = renamed.get(source.strip_prefix(from.directory()).unwrap_or(&source))
            {
                blob.path.clone_from(path);
            }
        }
        Ok(assets)
    }

    /// The files' places, and where they come from.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Path, &Path)> {
        self.0.iter().map(|(place, source)| (place.as_path(), source.as_path()))
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Copies the files to where they belong below `directory`.
    pub(crate) fn copy_to(&self, directory: &Path) -> Result<(), ContainerError> {
        for (place, source) in &self.0 {
            let target = directory.join(place);
            let failed = |source| ContainerError::Write { path: target.clone(), source };
            if let Some(parent) = target.parent() {
                fs::create_dir_all(parent).map_err(failed)?;
            }
            fs::copy(source, &target).map_err(failed)?;
        }
        Ok(())
    }
}

fn literals_mut(program: &mut Program) -> impl Iterator<Item = &mut LiteralValue> {
    let ops = program.functions.iter_mut().flat_map(|function| &mut function.ops);
    ops.flat_map(Op::literals_mut).map(|literal| &mut literal.value)
}

/// Puts the weights of a program into it.
///
/// # Errors
///
/// When a blob cannot be read, or they are more than one message can hold.
pub(crate) fn inline(program: &mut Program, from: &WeightDirectory) -> Result<(), ContainerError> {
    let mut bytes = 0u64;
    let ops = program.functions.iter_mut().flat_map(|function| &mut function.ops);
    for literal in ops.flat_map(Op::literals_mut) {
        let (LiteralValue::Blob(blob), Some(ty)) = (&literal.value, literal.ty.as_tensor()) else { continue };
        let bits = ty.shape.elements().and_then(|count| count.checked_mul(u64::from(ty.dtype.bits())));
        bytes = bytes.saturating_add(bits.unwrap_or(u64::MAX) / 8);
        if bytes > MAX_MODEL_BYTES {
            return Err(ContainerError::LargeMessage);
        }
        let tensor = from.load(blob, &ty);
        let tensor = tensor.map_err(|error| ContainerError::Weights { path: blob.path.clone(), error })?;
        literal.value = LiteralValue::Tensor(Arc::new(tensor));
    }
    Ok(())
}
