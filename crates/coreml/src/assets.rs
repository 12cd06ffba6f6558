//! The weight files of a program on their way into a container.

use std::collections::HashMap;
use std::collections::btree_map::{BTreeMap, Entry};
use std::ffi::OsString;
use std::fs;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anemone_mil::program::{Literal, LiteralValue, Op, Program};
use anemone_mil::weights::{BlobError, MODEL_PATH, WeightDirectory, WeightSource};

use crate::container::{ContainerError, MAX_MODEL_BYTES};

/// The directory of a container that weight files are in.
const WEIGHTS: &str = "weights";

/// Weight files, by the path that a container has them under, below what `@model_path` stands for.
#[derive(Debug, Default)]
pub(crate) struct Assets {
    files: BTreeMap<PathBuf, PathBuf>,
    /// The places by what they are where cases are not told apart.
    folded: HashMap<String, PathBuf>,
    /// Programs whose files these are.
    programs: usize,
}

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
            if let Entry::Vacant(place) = assets.files.entry(below) {
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
        let own = Assets::as_named(program, from)?.files;
        let mut taken: HashMap<String, &Path> = HashMap::new();
        for (below, source) in &own {
            let place = place_of(below);
            if let Some(first) = taken.insert(folded(&place), source)
                && first != source
            {
                let (first, second) = (first.to_owned(), source.clone());
                return Err(ContainerError::SameWeights { first, second, place });
            }
        }
        let mut renamed: HashMap<PathBuf, String> = HashMap::new();
        let mut placed = Vec::with_capacity(own.len());
        for (below, source) in &own {
            let mut place = place_of(below);
            if let Some(other) = self.folded.get(&folded(&place)) {
                place = match self.holds(other, source)? {
                    true => other.clone(),
                    false => self.numbered(&place, &taken),
                };
            }
            if place != *below {
                let names: Vec<_> =
                    place.components().map(|name| name.as_os_str().to_string_lossy()).collect();
                renamed.insert(below.clone(), format!("{MODEL_PATH}/{}", names.join("/")));
            }
            placed.push((place, source.clone()));
        }
        self.programs += 1;
        for (place, source) in placed {
            self.folded.entry(folded(&place)).or_insert_with(|| place.clone());
            self.files.entry(place).or_insert(source);
        }
        for literal in literals_mut(program) {
            if let LiteralValue::Blob(blob) = &mut literal.value
                && let Ok(source) = from.path(&blob.path)
                && let Some(path) = renamed.get(source.strip_prefix(from.directory()).unwrap_or(&source))
            {
                blob.path.clone_from(path);
            }
        }
        Ok(())
    }

    /// Whether the file at a place has the contents of another.
    fn holds(&self, place: &Path, source: &Path) -> Result<bool, ContainerError> {
        let Some(file) = self.files.get(place) else { return Ok(false) };
        same_contents(file, source)
            .map_err(|error| ContainerError::Read { path: source.to_owned(), source: error })
    }

    /// A place like this one that neither these files nor the program's own, in `taken`, have: its name after a number,
    /// that of the program unless it is taken.
    fn numbered(&self, place: &Path, taken: &HashMap<String, &Path>) -> PathBuf {
        let name = place.file_name().unwrap_or_default();
        let numbered = (self.programs..).map(|number| {
            let mut name_of = OsString::from(format!("{number}-"));
            name_of.push(name);
            place.with_file_name(name_of)
        });
        let is_free = |place: &PathBuf| {
            let folded = folded(place);
            !self.folded.contains_key(&folded) && !taken.contains_key(&folded)
        };
        // There are more numbers than files.
        numbered.into_iter().find(is_free).unwrap_or_else(|| place.to_owned())
    }

    /// The files' places, and where they come from.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Path, &Path)> {
        self.files.iter().map(|(place, source)| (place.as_path(), source.as_path()))
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Copies the files to where they belong below `directory`.
    pub(crate) fn copy_to(&self, directory: &Path) -> Result<(), ContainerError> {
        for (place, source) in &self.files {
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

/// Where a container has a weight file: that of the same name, where weights had one below a directory for them.
fn place_of(below: &Path) -> PathBuf {
    let mut parts = below.iter().skip_while(|part| *part != WEIGHTS).skip(1).peekable();
    match parts.peek() {
        Some(_) => Path::new(WEIGHTS).join(parts.collect::<PathBuf>()),
        None => Path::new(WEIGHTS).join(below.file_name().unwrap_or_default()),
    }
}

/// A path as file systems have it that do not tell cases apart.
fn folded(path: &Path) -> String {
    path.to_string_lossy().to_lowercase()
}

/// The values that are written in a program.
pub(crate) fn literals_mut(program: &mut Program) -> impl Iterator<Item = &mut Literal> {
    let ops = program.functions.iter_mut().flat_map(|function| &mut function.ops);
    ops.flat_map(Op::literals_mut)
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
    for literal in literals_mut(program) {
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
