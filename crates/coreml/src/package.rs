//! `.mlpackage`: a directory with a manifest that lists its items, of which one is the model.
//!
//! A package is what somebody else made: the manifest's paths go down only, no part of them is a link, and no two
//! items are the same.

use std::fs;
use std::path::{Path, PathBuf};

use crate::container::{ContainerError, read_bounded, read_model, refuse_link, refuse_linked_weights};
use crate::model::Model;

mod manifest;

pub use manifest::{Item, Manifest, ManifestError};

/// The file that lists a package's items.
pub const MANIFEST: &str = "Manifest.json";
/// The directory that the items' paths start from.
pub const DATA: &str = "Data";
/// The path of the model that packages are written with, below [`DATA`].
pub const MODEL: &str = "com.apple.CoreML/model.mlmodel";
/// The path of the weights that packages are written with, below [`DATA`].
pub const WEIGHTS: &str = "com.apple.CoreML/weights";

/// More than any manifest has, in bytes.
const MAX_MANIFEST_BYTES: u64 = 1 << 24;

/// A package that was read.
#[derive(Debug)]
pub struct Package {
    /// The model.
    pub model: Model,
    /// The file that holds it.
    pub file: PathBuf,
    /// What the package holds.
    pub manifest: Manifest,
}

/// Whether a directory is a package: by its ending, or by what it holds.
pub fn is_package(path: &Path) -> bool {
    let ending = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("mlpackage"));
    path.is_dir() && (ending || path.join(MANIFEST).is_file() && path.join(DATA).is_dir())
}

/// Reads a package's model. The weights are left where they are.
///
/// # Errors
///
/// When the manifest is none, names a model that is not there or anything outside the package, or when the model is none of a
/// program.
pub fn read(directory: &Path) -> Result<Package, ContainerError> {
    let (manifest, file) = root_model(directory)?;
    let model = read_model(&file)?;
    refuse_linked_weights(&model.program, file.parent().unwrap_or(directory))?;
    Ok(Package { model, file, manifest })
}

impl Package {
    /// The directory that `@model_path` stands for.
    pub fn model_path(&self) -> &Path {
        self.file.parent().unwrap_or(Path::new(""))
    }
}

/// The manifest of a package, and the file of its model.
fn root_model(directory: &Path) -> Result<(Manifest, PathBuf), ContainerError> {
    let path = directory.join(MANIFEST);
    refuse_link(&path)?;
    let bytes = read_bounded(&path, MAX_MANIFEST_BYTES)?;
    let manifest = Manifest::from_bytes(&bytes);
    let manifest = manifest.map_err(|error| ContainerError::Manifest { path: path.clone(), error })?;
    let data = directory.join(DATA);
    refuse_link(&data)?;
    let mut model = None;
    for item in &manifest.items {
        let place = data.join(&item.path);
        // From the outermost part on, so that nothing is looked at behind a link.
        let mut part = data.clone();
        for name in Path::new(&item.path) {
            part.push(name);
            refuse_link(&part)?;
        }
        // Others than the model may be missing: version control does not keep empty directories.
        if item.identifier == manifest.root {
            if fs::symlink_metadata(&place).is_err() {
                let error = ManifestError::Missing(item.path.clone());
                return Err(ContainerError::Manifest { path, error });
            }
            model = Some(place);
        }
    }
    let missing = || ContainerError::Manifest { path, error: ManifestError::NoRoot };
    let file = model.ok_or_else(missing)?;
    Ok((manifest, file))
}
