//! Checkpoints: named fp32 tensors and what is needed to go on, in one safetensors file.
//!
//! The file is [safetensors](https://github.com/huggingface/safetensors): the length of a JSON header as a
//! little-endian u64, the header, then the tensors' bytes. Any reader of that format reads it. Metadata (the
//! step, the configuration, the loss scale) are strings in the header's `__metadata__`, which is a map from
//! strings to strings; [`Checkpoint::set`] and [`Checkpoint::get`] put any serde value there as JSON.

use crate::files::{FileError, atomic_write, read_bounded};
use safetensors::{Dtype, SafeTensorError, SafeTensors};
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::ser::{SerializeMap, Serializer};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use thiserror::Error;

/// The largest checkpoint that is read: 64 GiB.
pub const MAX_CHECKPOINT_BYTES: u64 = 64 << 30;
/// The longest header: what the safetensors library reads.
const MAX_HEADER_BYTES: usize = 100_000_000;
/// The most dimensions a tensor may have.
const MAX_RANK: usize = 8;

/// What is wrong with a checkpoint.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// The file could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file is not a whole safetensors file.
    #[error("{} is not a whole safetensors file: {source}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What the safetensors library found.
        source: SafeTensorError,
    },
    /// The header's offsets lie outside the file.
    #[error("{} is not a whole safetensors file: its header describes {claimed_bytes} bytes of data, it has {found_bytes}", path.display())]
    Truncated {
        /// The file.
        path: PathBuf,
        /// The end of the last tensor, as the header has it.
        claimed_bytes: u64,
        /// The bytes after the header.
        found_bytes: u64,
    },
    /// A tensor is not fp32 or has too many dimensions.
    #[error("{}: tensor `{name}` is {found}, at most {MAX_RANK} dimensions of F32 are expected", path.display())]
    Kind {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// Its dtype and shape.
        found: String,
    },
    /// The checkpoint has no tensor of that name.
    #[error("the checkpoint has no tensor `{0}`")]
    MissingTensor(String),
    /// A tensor has another shape than the model.
    #[error("the checkpoint's tensor `{name}` has the shape {found:?}, {expected:?} is expected")]
    Shape {
        /// The tensor.
        name: String,
        /// Its shape in the file.
        found: Vec<usize>,
        /// The model's shape.
        expected: Vec<usize>,
    },
    /// A tensor given to [`Checkpoint::insert`] has not the number of elements of its shape, or its name is
    /// taken or reserved.
    #[error("tensor `{name}` of shape {shape:?} and {elements} elements cannot be stored")]
    Insert {
        /// The tensor.
        name: String,
        /// The shape given.
        shape: Vec<usize>,
        /// The number of values given.
        elements: usize,
    },
    /// The metadata have no such entry.
    #[error("the checkpoint's metadata have no `{0}`")]
    MissingMetadata(String),
    /// An entry of the metadata is not what is expected there.
    #[error("the checkpoint's metadata `{key}`: {source}")]
    Metadata {
        /// The entry.
        key: String,
        /// What serde found.
        source: serde_json::Error,
    },
    /// The header would be longer than a reader accepts.
    #[error("the checkpoint's header would have {0} bytes")]
    HeaderTooLong(usize),
}

/// A named tensor: shape and row-major values.
#[derive(Clone, Debug, PartialEq)]
pub struct NamedTensor {
    /// Its dimensions; their product is the number of values.
    pub shape: Vec<usize>,
    /// Row-major.
    pub values: Vec<f32>,
}

/// The content of a checkpoint.
///
/// ```
/// use anemone_lm::checkpoint::Checkpoint;
/// let path = std::env::temp_dir().join("anemone_lm_checkpoint_example.safetensors");
/// let mut checkpoint = Checkpoint::default();
/// checkpoint.insert("embedding", &[2, 3], vec![0.5; 6])?;
/// checkpoint.set("step", &100u64)?;
/// checkpoint.write(&path)?;
///
/// let again = Checkpoint::read(&path)?;
/// assert_eq!(again.tensor("embedding", &[2, 3])?, [0.5; 6]);
/// assert_eq!(again.get::<u64>("step")?, 100);
/// # std::fs::remove_file(&path)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Checkpoint {
    /// Strings beside the tensors; [`Checkpoint::set`] writes JSON here.
    pub metadata: BTreeMap<String, String>,
    tensors: BTreeMap<String, NamedTensor>,
}

impl Checkpoint {
    /// Adds a tensor.
    ///
    /// # Errors
    /// [`CheckpointError::Insert`] if `values` has not the shape's number of elements, there are more than 8
    /// dimensions, the name is taken, or it is `__metadata__`.
    pub fn insert(&mut self, name: &str, shape: &[usize], values: Vec<f32>) -> Result<(), CheckpointError> {
        let elements = shape.iter().try_fold(1usize, |product, &dim| product.checked_mul(dim));
        let taken = name == METADATA || self.tensors.contains_key(name);
        if taken || elements != Some(values.len()) || shape.len() > MAX_RANK {
            let (name, shape, elements) = (name.to_owned(), shape.to_vec(), values.len());
            return Err(CheckpointError::Insert { name, shape, elements });
        }
        self.tensors.insert(name.to_owned(), NamedTensor { shape: shape.to_vec(), values });
        Ok(())
    }

    /// The values of a tensor of a known shape.
    ///
    /// # Errors
    /// The tensor is missing or has another shape.
    pub fn tensor(&self, name: &str, shape: &[usize]) -> Result<&[f32], CheckpointError> {
        let tensor = self.tensors.get(name).ok_or_else(|| CheckpointError::MissingTensor(name.to_owned()))?;
        if tensor.shape != shape {
            let (found, expected) = (tensor.shape.clone(), shape.to_vec());
            return Err(CheckpointError::Shape { name: name.to_owned(), found, expected });
        }
        Ok(&tensor.values)
    }

    /// All tensors in the order of their names.
    pub fn tensors(&self) -> impl Iterator<Item = (&str, &NamedTensor)> {
        self.tensors.iter().map(|(name, tensor)| (name.as_str(), tensor))
    }

    /// Puts a value into the metadata, as JSON.
    ///
    /// # Errors
    /// A value that JSON cannot hold, as a map whose keys are not strings.
    pub fn set(&mut self, key: &str, value: &impl Serialize) -> Result<(), CheckpointError> {
        let json = serde_json::to_string(value).map_err(|source| metadata_error(key, source))?;
        self.metadata.insert(key.to_owned(), json);
        Ok(())
    }

    /// Reads a value that [`Checkpoint::set`] put into the metadata.
    ///
    /// # Errors
    /// The entry is missing, or not a value of this type.
    pub fn get<T: DeserializeOwned>(&self, key: &str) -> Result<T, CheckpointError> {
        let json = self.metadata.get(key).ok_or_else(|| CheckpointError::MissingMetadata(key.to_owned()))?;
        serde_json::from_str(json).map_err(|source| metadata_error(key, source))
    }

    /// Writes the file, replacing an older one atomically ([`atomic_write`]). The same content gives the same
    /// bytes.
    ///
    /// # Errors
    /// The file cannot be written, or the header is too long to be read again; an older file is then as it was.
    pub fn write(&self, path: &Path) -> Result<(), CheckpointError> {
        let mut header = serde_json::to_vec(&Header(self)).map_err(|source| metadata_error("", source))?;
        // Tensors begin at a multiple of 8; the format allows spaces after the header.
        header.resize(header.len().next_multiple_of(8), b' ');
        if header.len() > MAX_HEADER_BYTES {
            return Err(CheckpointError::HeaderTooLong(header.len()));
        }
        atomic_write(path, |writer| {
            writer.write_all(&(header.len() as u64).to_le_bytes())?;
            writer.write_all(&header)?;
            self.tensors.values().try_for_each(|tensor| write_values(writer, &tensor.values))
        })?;
        Ok(())
    }

    /// Reads and checks a file. A damaged one gives an error, never a panic, and memory is asked for only as
    /// far as the file really goes. The format has no checksum: changed values are not noticed.
    ///
    /// # Errors
    /// The file cannot be read, has more than [`MAX_CHECKPOINT_BYTES`], is not whole, or holds tensors other
    /// than fp32.
    pub fn read(path: &Path) -> Result<Self, CheckpointError> {
        Self::parse(path, &read_bounded(path, MAX_CHECKPOINT_BYTES)?)
    }

    /// The content of a file's bytes; `path` is for the messages.
    fn parse(path: &Path, bytes: &[u8]) -> Result<Self, CheckpointError> {
        check_extent(path, bytes)?;
        let format = |source| CheckpointError::Format { path: path.to_owned(), source };
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(format)?;
        let file = SafeTensors::deserialize(bytes).map_err(format)?;
        let mut checkpoint = Self::default();
        if let Some(metadata) = header.metadata() {
            checkpoint.metadata = metadata.clone().into_iter().collect();
        }
        for (name, view) in file.iter() {
            if view.dtype() != Dtype::F32 || view.shape().len() > MAX_RANK {
                let found = format!("{:?} of shape {:?}", view.dtype(), view.shape());
                return Err(CheckpointError::Kind { path: path.to_owned(), name: name.to_owned(), found });
            }
            let (elements, _) = view.data().as_chunks::<4>();
            let values = elements.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect();
            checkpoint.insert(name, view.shape(), values)?;
        }
        Ok(checkpoint)
    }
}

const METADATA: &str = "__metadata__";

fn metadata_error(key: &str, source: serde_json::Error) -> CheckpointError {
    CheckpointError::Metadata { key: key.to_owned(), source }
}

fn write_values(writer: &mut dyn Write, values: &[f32]) -> io::Result<()> {
    let mut bytes = Vec::with_capacity(4 * 4096);
    for values in values.chunks(4096) {
        bytes.clear();
        values.iter().for_each(|value| bytes.extend_from_slice(&value.to_le_bytes()));
        writer.write_all(&bytes)?;
    }
    Ok(())
}

/// The JSON header of a checkpoint: metadata first, then the tensors in the order of their bytes.
struct Header<'a>(&'a Checkpoint);

#[derive(Serialize)]
struct Entry<'a> {
    dtype: &'static str,
    shape: &'a [usize],
    data_offsets: [usize; 2],
}

impl Serialize for Header<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry(METADATA, &self.0.metadata)?;
        let mut begin = 0;
        for (name, tensor) in &self.0.tensors {
            let end = begin + 4 * tensor.values.len();
            let entry = Entry { dtype: "F32", shape: &tensor.shape, data_offsets: [begin, end] };
            map.serialize_entry(name, &entry)?;
            begin = end;
        }
        map.end()
    }
}

/// Checks that no tensor of the header ends beyond the file, before the safetensors library (0.8) adds offsets
/// up without a check for overflow. Whatever else is wrong is left for the library to find.
fn check_extent(path: &Path, bytes: &[u8]) -> Result<(), CheckpointError> {
    #[derive(Deserialize)]
    struct Header {
        #[serde(rename = "__metadata__")]
        _metadata: Option<IgnoredAny>,
        #[serde(flatten)]
        tensors: HashMap<String, Extent>,
    }
    #[derive(Deserialize)]
    struct Extent {
        data_offsets: (u64, u64),
    }
    let Some((length, rest)) = bytes.split_first_chunk::<8>() else { return Ok(()) };
    let length = usize::try_from(u64::from_le_bytes(*length)).unwrap_or(usize::MAX);
    let Some((header, data)) = rest.split_at_checked(length) else { return Ok(()) };
    if length > MAX_HEADER_BYTES {
        return Ok(());
    }
    let header: Header = serde_json::from_slice(header).map_err(|error| CheckpointError::Format {
        path: path.to_owned(),
        source: SafeTensorError::InvalidHeaderDeserialization(error),
    })?;
    let claimed_bytes = header.tensors.values().map(|extent| extent.data_offsets.1).max().unwrap_or(0);
    let found_bytes = data.len() as u64;
    if claimed_bytes > found_bytes {
        return Err(CheckpointError::Truncated { path: path.to_owned(), claimed_bytes, found_bytes });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optimizer::LossScale;
    use crate::random::Random;
    use std::fs;
    use tempfile::TempDir;

    fn sample() -> Checkpoint {
        let mut checkpoint = Checkpoint::default();
        let special = vec![0.0, -0.0, f32::MIN_POSITIVE / 8.0, f32::MAX, f32::NEG_INFINITY, 1.0 / 3.0];
        checkpoint.insert("embedding", &[2, 3], special).unwrap();
        checkpoint.insert("gain", &[5], vec![1.5; 5]).unwrap();
        checkpoint.insert("scalar", &[], vec![7.0]).unwrap();
        checkpoint.insert("nothing", &[0, 4], vec![]).unwrap();
        checkpoint.set("step", &123u64).unwrap();
        checkpoint.set("loss_scale", &LossScale::dynamic()).unwrap();
        checkpoint.metadata.insert("note".into(), "quotes \" and \u{e9}".into());
        checkpoint
    }

    fn place() -> (TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("model.safetensors");
        (directory, path)
    }

    #[test]
    fn what_was_written_is_read() {
        let (_directory, path) = place();
        sample().write(&path).unwrap();
        let read = Checkpoint::read(&path).unwrap();
        assert_eq!(read, sample());
        assert!(read.tensor("embedding", &[2, 3]).unwrap()[1].is_sign_negative());
        assert_eq!(read.get::<LossScale>("loss_scale").unwrap(), LossScale::dynamic());
        let bytes = fs::read(&path).unwrap();
        sample().write(&path).unwrap();
        assert_eq!(fs::read(&path).unwrap(), bytes);
    }

    /// The safetensors library's own writer as the independent source.
    #[test]
    fn the_library_reads_ours_and_we_read_the_librarys() {
        let (_directory, path) = place();
        sample().write(&path).unwrap();
        let bytes = fs::read(&path).unwrap();
        let theirs = SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(theirs.len(), 4);
        assert_eq!(theirs.tensor("gain").unwrap().data(), [1.5f32.to_le_bytes(); 5].concat());

        let data = [1.0f32.to_le_bytes(), 2.0f32.to_le_bytes()].concat();
        let view = safetensors::tensor::TensorView::new(Dtype::F32, vec![1, 2], &data).unwrap();
        let metadata = HashMap::from([("step".to_owned(), "9".to_owned())]);
        fs::write(&path, safetensors::serialize([("w", view)], Some(metadata)).unwrap()).unwrap();
        let read = Checkpoint::read(&path).unwrap();
        assert_eq!(read.tensor("w", &[1, 2]).unwrap(), [1.0, 2.0]);
        assert_eq!(read.get::<u32>("step").unwrap(), 9);
    }

    #[test]
    fn what_is_asked_for_wrongly_is_a_typed_error() {
        let checkpoint = sample();
        assert!(matches!(checkpoint.tensor("bias", &[1]), Err(CheckpointError::MissingTensor(_))));
        let error = checkpoint.tensor("embedding", &[3, 2]).unwrap_err().to_string();
        assert_eq!(error, "the checkpoint's tensor `embedding` has the shape [2, 3], [3, 2] is expected");
        assert!(matches!(checkpoint.get::<u64>("lr"), Err(CheckpointError::MissingMetadata(_))));
        assert!(matches!(checkpoint.get::<String>("step"), Err(CheckpointError::Metadata { .. })));
        let mut checkpoint = checkpoint;
        for (name, shape, len) in [
            ("gain", &[5][..], 5),
            ("new", &[2, 2], 5),
            ("new", &[usize::MAX, 2], 0),
            ("__metadata__", &[1], 1),
        ] {
            let refused = checkpoint.insert(name, shape, vec![0.0; len]);
            assert!(matches!(refused, Err(CheckpointError::Insert { .. })), "{name} {shape:?}");
        }
    }

    #[test]
    fn a_killed_or_failing_write_leaves_the_last_checkpoint() {
        let (directory, path) = place();
        sample().write(&path).unwrap();
        // What a process killed in the middle of its next write leaves behind.
        let half = &fs::read(&path).unwrap()[..40];
        fs::write(directory.path().join(".model.safetensors.Ab12Cd.tmp"), half).unwrap();
        assert_eq!(Checkpoint::read(&path).unwrap(), sample());
        let mut next = sample();
        next.set("step", &124u64).unwrap();
        next.write(&path).unwrap();
        assert_eq!(Checkpoint::read(&path).unwrap(), next);
        // A write that cannot succeed: its directory is gone, a directory is in its place.
        assert!(matches!(next.write(&path.join("below")), Err(CheckpointError::File(_))));
        assert!(matches!(next.write(directory.path()), Err(CheckpointError::File(_))));
        assert_eq!(Checkpoint::read(&path).unwrap(), next);
    }

    fn read_bytes(bytes: &[u8]) -> Result<Checkpoint, CheckpointError> {
        Checkpoint::parse(Path::new("damaged"), bytes)
    }

    fn with_header(header: &str, data: &[u8]) -> Vec<u8> {
        [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()
    }

    #[test]
    fn absurd_and_truncated_files_are_errors() {
        let (_directory, path) = place();
        assert!(matches!(Checkpoint::read(&path), Err(CheckpointError::File(_))));
        sample().write(&path).unwrap();
        let whole = fs::read(&path).unwrap();
        for len in 0..whole.len() {
            assert!(read_bytes(&whole[..len]).is_err(), "{len} of {} bytes", whole.len());
        }
        assert!(read_bytes(&[&whole[..], &[0]].concat()).is_err());
        for length in [u64::MAX, u64::MAX - 7, 1 << 40, 100_000_001, 0] {
            assert!(read_bytes(&[&length.to_le_bytes(), &whole[8..]].concat()).is_err(), "{length}");
        }
    }

    #[test]
    fn lying_headers_are_errors() {
        let tensor = |dtype: &str, shape: &str, begin: u64, end: u64| {
            format!(r#"{{"w":{{"dtype":"{dtype}","shape":{shape},"data_offsets":[{begin},{end}]}}}}"#)
        };
        assert!(read_bytes(&with_header(&tensor("F32", "[2]", 0, 8), &[0; 8])).is_ok());
        for (dtype, shape, begin, end) in [
            ("F32", "[3]", 0, 8),
            ("F32", "[2]", 8, 0),
            ("F32", "[2]", 4, 12),
            ("F32", "[18446744073709551615,2]", 0, 8),
            ("F32", "[-2]", 0, 8),
            ("F32", "[4611686018427387904]", 0, u64::MAX),
            ("F64", "[1]", 0, 8),
            ("F16", "[4]", 0, 8),
            ("X9", "[2]", 0, 8),
            ("F32", "[1,1,1,1,1,1,1,1,2]", 0, 8),
        ] {
            assert!(
                read_bytes(&with_header(&tensor(dtype, shape, begin, end), &[0; 8])).is_err(),
                "{dtype} {shape}"
            );
        }
        let kind = read_bytes(&with_header(&tensor("F16", "[4]", 0, 8), &[0; 8])).unwrap_err();
        assert!(kind.to_string().contains("tensor `w` is F16 of shape [4]"), "{kind}");
        for header in ["", "[]", "{", r#"{"w":5}"#, r#"{"__metadata__":{"a":1}}"#, "\u{0}\u{0}"] {
            assert!(read_bytes(&with_header(header, &[])).is_err(), "{header}");
        }
        assert!(read_bytes(&[&[2, 0, 0, 0, 0, 0, 0, 0][..], &[0xff, 0xfe]].concat()).is_err());
        assert_eq!(read_bytes(&with_header("{}", &[])).unwrap(), Checkpoint::default());
    }

    /// Tensors that each fit in the address space and together end where the sum of offsets overflows.
    #[test]
    fn offsets_whose_sum_overflows_are_an_error() {
        let mut entries = Vec::new();
        let piece = 1u64 << 61;
        for i in 0..7 {
            entries.push((format!("w{i}"), piece / 4, i * piece, (i + 1) * piece));
        }
        entries.push(("last".to_owned(), (piece - 4) / 4, 7 * piece, u64::MAX - 3));
        let entries: Vec<String> = entries
            .iter()
            .map(|(name, elements, begin, end)| {
                format!(r#""{name}":{{"dtype":"F32","shape":[{elements}],"data_offsets":[{begin},{end}]}}"#)
            })
            .collect();
        let error = read_bytes(&with_header(&format!("{{{}}}", entries.join(",")), &[0; 8])).unwrap_err();
        assert!(matches!(error, CheckpointError::Truncated { found_bytes: 8, .. }), "{error}");
    }

    /// Any damage gives an error or a checkpoint, never a panic.
    #[test]
    fn damaged_files_do_not_panic() {
        let (_directory, path) = place();
        sample().write(&path).unwrap();
        let whole = fs::read(&path).unwrap();
        let mut random = Random::new(5);
        let mut errors = 0;
        for _ in 0..3000 {
            let mut damaged = whole.clone();
            for _ in 0..=random.below(3) {
                let at = random.below(damaged.len());
                match random.below(3) {
                    0 => damaged[at] = random.next_u64() as u8,
                    1 => damaged[at] ^= 1 << random.below(8),
                    _ => drop(damaged.splice(at..at, std::iter::repeat_n(b'9', random.below(20)))),
                }
            }
            errors += usize::from(read_bytes(&damaged).is_err());
        }
        assert!(errors > 1000, "{errors}");
    }
}
