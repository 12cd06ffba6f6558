//! The weight files of a program on their way into a container.

use std::collections::HashMap;
use std::collections::btree_map::{BTreeMap, Entry};
use std::ffi::OsString;
use std::fs;
use std::io::{self, BufReader, Read};
use std::iter;
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

    /// Adds the weight files of a program, which then refers to them below `weights`: a container's have their place
    /// there. Of a pipeline's programs, those after the first have a file under another name where one of the programs
    /// before has other weights under its own.
    ///
    /// # Errors
    ///
    /// As [`Assets::as_named`]; when two files would have the same name.
    pub(crate) fn gather(
        &mut self,
        program: &mut Program,
        from: &WeightDirectory,
    ) -> Result<(), ContainerError> {
        // Some file systems do not tell cases apart.
        let before: HashMap<OsString, PathBuf> =
            self.0.iter().map(|(place, source)| (folded(place), source.clone())).collect();
        let mut renamed: HashMap<PathBuf, String> = HashMap::new();
        for (below, source) in Assets::as_named(program, from)?.0 {
            // That of the same name, where weights had one below a directory for them.
            let mut parts = below.iter().skip_while(|part| *part != WEIGHTS).skip(1).peekable();
            let place = match parts.peek() {
                Some(_) => Path::new(WEIGHTS).join(parts.collect::<PathBuf>()),
                None => Path::new(WEIGHTS).join(below.file_name().unwrap_or_default()),
            };
            let place = apart(place, &source, &before)?;
            if place != below {
                let names: Vec<_> =
                    place.components().map(|name| name.as_os_str().to_string_lossy()).collect();
                renamed.insert(below, format!("{MODEL_PATH}/{}", names.join("/")));
            }
            match self.0.entry(place.clone()) {
                Entry::Vacant(entry) => drop(entry.insert(source)),
                Entry::Occupied(entry) if before.contains_key(&folded(&place)) || *entry.get() == source => {}
                Entry::Occupied(entry) => {
                    let first = entry.get().clone();
                    return Err(ContainerError::SameWeights { first, second: source, place });
                }
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
        Ok(())
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

/// A path as file systems have it that do not tell cases apart.
fn folded(path: &Path) -> OsString {
    path.as_os_str().to_ascii_lowercase()
}

/// A file's place among those that others have: that of the same weights, or one that nobody has.
fn apart(
    place: PathBuf,
    source: &Path,
    before: &HashMap<OsString, PathBuf>,
) -> Result<PathBuf, ContainerError> {
    let name = place.file_name().unwrap_or_default().to_owned();
    let numbered = (1..).map(|number: u64| {
        let mut name_of = OsString::from(format!("{number}-"));
        name_of.push(&name);
        place.with_file_name(name_of)
    });
    for place in iter::once(place.clone()).chain(numbered) {
        let Some(taken) = before.get(&folded(&place)) else { return Ok(place) };
        let same = same_contents(taken, source);
        if same.map_err(|error| ContainerError::Read { path: source.to_owned(), source: error })? {
            return Ok(place);
        }
    }
    Ok(place)
}

fn literals_mut(program: &mut Program) -> impl Iterator<Item = &mut LiteralValue> {
    let ops = program.functions.iter_mut().flat_map(|function| &mut function.ops);
    ops.flat_map(Op::literals_mut).map(|literal| &mut literal.value)
}

/// Puts the weights of a program into it, and adds their bytes to those that are already in the message.
///
/// # Errors
///
/// When a blob cannot be read, or they are more than one message can hold.
pub(crate) fn inline(
    program: &mut Program,
    from: &WeightDirectory,
    bytes: &mut u64,
) -> Result<(), ContainerError> {
    let ops = program.functions.iter_mut().flat_map(|function| &mut function.ops);
    for literal in ops.flat_map(Op::literals_mut) {
        let (LiteralValue::Blob(blob), Some(ty)) = (&literal.value, literal.ty.as_tensor()) else { continue };
        let bits = ty.shape.elements().and_then(|count| count.checked_mul(u64::from(ty.dtype.bits())));
        *bytes = bytes.saturating_add(bits.unwrap_or(u64::MAX) / 8);
        if *bytes > MAX_MODEL_BYTES {
            return Err(ContainerError::LargeMessage);
        }
        let tensor = from.load(blob, &ty);
        let tensor = tensor.map_err(|error| ContainerError::Weights { path: blob.path.clone(), error })?;
        literal.value = LiteralValue::Tensor(Arc::new(tensor));
    }
    Ok(())
}

/// Whether two files hold the same, or are the same.
pub(crate) fn same_contents(a: &Path, b: &Path) -> io::Result<bool> {
    if fs::canonicalize(a)? == fs::canonicalize(b)? {
        return Ok(true);
    }
    let (a, b) = (fs::File::open(a)?, fs::File::open(b)?);
    let (length, other) = (a.metadata()?, b.metadata()?);
    if !other.is_file() || length.len() != other.len() {
        return Ok(false);
    }
    let (mut a, mut b) = (BufReader::with_capacity(1 << 16, a), BufReader::with_capacity(1 << 16, b));
    let (mut left, mut right) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    loop {
        let count = a.read(&mut left)?;
        if count == 0 {
            return Ok(true);
        }
        b.read_exact(&mut right[..count])?;
        if left[..count] != right[..count] {
            return Ok(false);
        }
    }
}
