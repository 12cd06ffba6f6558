//! `.mlpackage`: a directory with a manifest that lists its items, of which one is the model.
//!
//! A package is what somebody else made: the manifest's paths go down only, no part of them is a link, and no two
//! items are the same.

use std::fs;
use std::path::{Path, PathBuf};

use anemone_mil::weights::WeightDirectory;

use crate::assets::Assets;
use crate::container::{Container, ContainerError, make_directory, message_of, read_bounded, read_model};
use crate::container::{refuse_link, refuse_linked_weights, refuse_others, refuse_within};
use crate::container::{write_directory_to, write_file};
use crate::flexible;
use crate::model::Model;
use crate::pipeline::AnyModel;

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

/// The file of a package's model, which may be of any kind.
///
/// # Errors
///
/// When the manifest is none, or names a model that is not there or anything outside the package.
pub fn model_file(directory: &Path) -> Result<PathBuf, ContainerError> {
    root_model(directory).map(|(_, file)| file)
}

impl Package {
    /// The directory that `@model_path` stands for.
    pub fn model_path(&self) -> &Path {
        self.file.parent().unwrap_or(Path::new(""))
    }
}

/// The identifiers of the items that packages are written with: they need only differ within a package.
const MODEL_IDENTIFIER: &str = "9f5c1c2e-5d0b-4f6e-9a53-2f0b6a7c4e11";
const WEIGHTS_IDENTIFIER: &str = "c1d4e0a7-3b62-4a8f-8e1d-70f4b9d25a36";

/// Writes a model as a package, in the place of one that is there.
///
/// # Errors
///
/// When a weight file is missing, the program has no protobuf form, `out` is there and is no package, or a file cannot
/// be written.
pub fn write(
    model: impl Into<AnyModel>,
    weights: &WeightDirectory,
    out: &Path,
) -> Result<(), ContainerError> {
    refuse_others(out, Container::Package)?;
    let mut model = model.into();
    let mut assets = Assets::default();
    for (program, description) in model.programs_mut() {
        flexible::remove(program, description);
        assets.gather(program, weights)?;
    }
    refuse_within(out, assets.iter().map(|(_, source)| source))?;
    let message = message_of(&model, out)?;
    let mut items = vec![item(MODEL_IDENTIFIER, "model.mlmodel", "CoreML Model Specification", MODEL)];
    if !assets.is_empty() {
        items.push(item(WEIGHTS_IDENTIFIER, "weights", "CoreML Model Weights", WEIGHTS));
    }
    let manifest = Manifest { items, root: MODEL_IDENTIFIER.to_string() }.to_json();
    write_directory_to(out, |new| {
        let file = new.join(DATA).join(MODEL);
        let directory = file.parent().unwrap_or(new);
        make_directory(directory)?;
        assets.copy_to(directory)?;
        write_file(&file, &message)?;
        write_file(&new.join(MANIFEST), manifest.as_bytes())
    })
}

fn item(identifier: &str, name: &str, description: &str, path: &str) -> Item {
    Item {
        identifier: identifier.to_string(),
        author: "com.apple.CoreML".to_string(),
        description: description.to_string(),
        name: name.to_string(),
        path: path.to_string(),
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
