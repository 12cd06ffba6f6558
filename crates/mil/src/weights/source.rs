//! Where the blobs that a program refers to come from.

use std::collections::HashMap;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::{BlobError, BlobFile};
use crate::program::BlobReference;
use crate::tensor::Tensor;
use crate::types::TensorType;

/// What stands for the program's directory in the paths of blob references.
pub const MODEL_PATH: &str = "@model_path";

/// Where the blobs that a program refers to come from.
pub trait WeightSource: Send + Sync {
    /// The file that a reference's path names.
    ///
    /// # Errors
    ///
    /// When the path may not be followed, or there is no such blob file.
    fn file(&self, path: &str) -> Result<Arc<BlobFile>, BlobError>;

    /// The tensor of type `ty` that a reference names.
    ///
    /// # Errors
    ///
    /// Those of [`WeightSource::file`] and [`BlobFile::read`].
    fn load(&self, reference: &BlobReference, ty: &TensorType) -> Result<Tensor, BlobError> {
        self.file(&reference.path)?.read(reference.offset, ty)
    }

    /// Checks that a reference names a tensor of type `ty`, without reading the values.
    ///
    /// # Errors
    ///
    /// Those of [`WeightSource::load`].
    fn check(&self, reference: &BlobReference, ty: &TensorType) -> Result<(), BlobError> {
        self.file(&reference.path)?.check(reference.offset, ty).map(drop)
    }
}

/// Blob files under a directory, which [`MODEL_PATH`] stands for. A file that has been opened stays open.
///
/// A program cannot name files outside the directory: its paths start with `@model_path/` and go down only.
/// Symbolic links are the directory's owner's business, and are followed.
#[derive(Debug)]
pub struct WeightDirectory {
    directory: PathBuf,
    opened: Mutex<HashMap<PathBuf, Arc<BlobFile>>>,
}

impl WeightDirectory {
    /// The blob files under `directory`. None is opened before it is asked for.
    pub fn new(directory: impl Into<PathBuf>) -> WeightDirectory {
        WeightDirectory { directory: directory.into(), opened: Mutex::default() }
    }

    /// The directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Where the file of a reference's path lies under the directory.
    ///
    /// # Errors
    ///
    /// When the path leaves the directory, or is otherwise not one that a program may name.
    pub fn path(&self, path: &str) -> Result<PathBuf, BlobError> {
        relative_path(path).map(|relative| self.directory.join(relative))
    }

    /// The files that have been opened so far.
    pub fn opened(&self) -> Vec<PathBuf> {
        let opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        opened.keys().map(|relative| self.directory.join(relative)).collect()
    }
}

impl WeightSource for WeightDirectory {
    fn file(&self, path: &str) -> Result<Arc<BlobFile>, BlobError> {
        let relative = relative_path(path)?;
        // The map is whole after every step, so a panic elsewhere does not spoil it.
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = opened.get(&relative) {
            return Ok(Arc::clone(file));
        }
        let file = Arc::new(BlobFile::open(self.directory.join(&relative))?);
        opened.insert(relative, Arc::clone(&file));
        Ok(file)
    }
}

/// The part of a reference's path after `@model_path/`, if it goes down only, on any system.
fn relative_path(path: &str) -> Result<PathBuf, BlobError> {
    let refused = |reason| Err(BlobError::PathRefused { path: path.to_owned(), reason });
    let Some(rest) = path.strip_prefix(MODEL_PATH).and_then(|rest| rest.strip_prefix('/')) else {
        return refused("does not start with `@model_path/`");
    };
    if rest.starts_with('/') || rest.contains(['\\', ':', '\0']) {
        return refused("is not a relative path of plain names");
    }
    let mut relative = PathBuf::new();
    for component in Path::new(rest).components() {
        match component {
            Component::Normal(name) => relative.push(name),
            Component::CurDir => {}
            _ => return refused("leaves the program's directory"),
        }
    }
    if relative.as_os_str().is_empty() {
        return refused("names no file");
    }
    Ok(relative)
}

/// Blob files in memory, by the path that references give.
///
/// The default is empty: the source for programs without blobs.
#[derive(Debug, Default)]
pub struct WeightMap {
    files: HashMap<String, Arc<BlobFile>>,
}

impl WeightMap {
    /// Adds a file under the whole path that references give, such as `@model_path/weights/weights.bin`;
    /// returns the file that had it.
    pub fn insert(&mut self, path: impl Into<String>, file: BlobFile) -> Option<Arc<BlobFile>> {
        self.files.insert(path.into(), Arc::new(file))
    }
}

impl WeightSource for WeightMap {
    fn file(&self, path: &str) -> Result<Arc<BlobFile>, BlobError> {
        self.files.get(path).cloned().ok_or_else(|| BlobError::Missing { path: path.into() })
    }
}
