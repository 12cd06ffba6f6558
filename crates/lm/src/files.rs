//! Files that are whole or not there: atomic replacement, and bounded reading; and files that must not be
//! written because they are read.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use anemone_mil::files::{LFS_POINTER, is_lfs_pointer, write_atomically};
use serde::Serializer;
use thiserror::Error;

/// What went wrong with a file, with its path.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum FileError {
    /// The file could not be opened or read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The file could not be written; an earlier file of that name is still whole.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A directory could not be made.
    #[error("cannot make the directory {}: {source}", path.display())]
    MakeDirectory {
        /// The directory.
        path: PathBuf,
        /// The system's reason, or which file is in the way.
        source: io::Error,
    },
    /// A directory where a file belongs.
    #[error("cannot read {}: it is a directory; a file is expected here", .0.display())]
    Directory(PathBuf),
    /// A pointer of Git LFS in the place of the file.
    #[error("cannot read {}: {LFS_POINTER}", .0.display())]
    LfsPointer(PathBuf),
    /// What would be written is a file that is read.
    #[error("cannot write {}: that would replace {}, which is read; choose another place", output.display(), input.display())]
    Overwrites {
        /// The file to be written.
        output: PathBuf,
        /// The file to be read: the same, maybe by another name.
        input: PathBuf,
    },
    /// The file is larger than anything its reader expects.
    #[error("{} is too large: at most {max_bytes} bytes are read", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The reader's limit.
        max_bytes: u64,
    },
}

impl FileError {
    pub(crate) fn read(path: &Path, source: io::Error) -> Self {
        Self::Read { path: path.to_owned(), source }
    }

    pub(crate) fn write(path: &Path, source: io::Error) -> Self {
        Self::Write { path: path.to_owned(), source }
    }
}

/// Writes a file so that at every moment, a crash or a loss of power included, `path` is either what it was
/// before or the whole new file: [`write_atomically`], with a buffer and the path in its errors.
///
/// ```
/// use anemone_lm::files::atomic_write;
/// let path = std::env::temp_dir().join("anemone_lm_atomic_write_example.txt");
/// atomic_write(&path, |writer| writer.write_all(b"whole"))?;
/// assert_eq!(std::fs::read(&path)?, b"whole");
/// # std::fs::remove_file(&path)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`FileError::Write`] for whatever `write` or the system answers.
pub fn atomic_write(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<(), FileError> {
    let replaced: io::Result<()> = write_atomically(path, |file| {
        let mut writer = BufWriter::with_capacity(1 << 16, file);
        write(&mut writer)?;
        writer.flush()
    });
    replaced.map_err(|source| FileError::write(path, source))
}

/// Makes a directory with those above it, unless it is there.
///
/// # Errors
/// [`FileError::MakeDirectory`] when the system refuses, or a file is in its place or in that of one above it.
pub fn make_directory(path: &Path) -> Result<(), FileError> {
    fs::create_dir_all(path).map_err(|error| {
        let in_the_way = path.ancestors().find(|above| above.exists()).filter(|above| !above.is_dir());
        let source = match in_the_way {
            Some(file) if file == path => io::Error::new(error.kind(), "it is a file"),
            Some(file) => io::Error::new(error.kind(), format!("{} is a file", file.display())),
            None => error,
        };
        FileError::MakeDirectory { path: path.to_owned(), source }
    })
}

/// Opens a file for reading; a directory is refused by name.
///
/// # Errors
/// [`FileError::Directory`] for a directory, [`FileError::Read`] for whatever else the system answers.
pub fn open(path: &Path) -> Result<File, FileError> {
    let open = || File::open(path).and_then(|file| Ok((file.metadata()?.is_dir(), file)));
    match open().map_err(|source| FileError::read(path, source))? {
        (true, _) => Err(FileError::Directory(path.to_owned())),
        (false, file) => Ok(file),
    }
}

/// Reads a whole file of at most `max_bytes` bytes. Memory grows with what was actually read, never with a
/// claimed length.
///
/// # Errors
/// As [`open`]; [`FileError::TooLarge`] beyond the limit; [`FileError::LfsPointer`] for such a one.
pub fn read_bounded(path: &Path, max_bytes: u64) -> Result<Vec<u8>, FileError> {
    let file = open(path)?;
    // What a file claims spares reading one that is too large; it does not stand for what is read.
    let claimed_bytes = file.metadata().map_or(0, |metadata| metadata.len());
    let mut bytes = Vec::new();
    if claimed_bytes <= max_bytes {
        let mut bounded = file.take(max_bytes.saturating_add(1));
        bounded.read_to_end(&mut bytes).map_err(|source| FileError::read(path, source))?;
    }
    if claimed_bytes.max(bytes.len() as u64) > max_bytes {
        return Err(FileError::TooLarge { path: path.to_owned(), max_bytes });
    }
    if is_lfs_pointer(&bytes) {
        return Err(FileError::LfsPointer(path.to_owned()));
    }
    Ok(bytes)
}

/// Refuses outputs that are inputs, whatever the names: behind links, and by another spelling of the path.
/// Files that are not there yet are no input's.
///
/// # Errors
/// [`FileError::Overwrites`] for the first output that is an input.
pub fn refuse_overwriting(
    outputs: impl IntoIterator<Item = impl AsRef<Path>>,
    inputs: impl IntoIterator<Item = impl AsRef<Path>>,
) -> Result<(), FileError> {
    let inputs: HashMap<FileId, PathBuf> = inputs
        .into_iter()
        .filter_map(|input| Some((FileId::of(input.as_ref())?, input.as_ref().to_owned())))
        .collect();
    let read = |output: &Path| inputs.get(&FileId::of(output)?).cloned();
    outputs.into_iter().try_for_each(|output| match read(output.as_ref()) {
        Some(input) => Err(FileError::Overwrites { output: output.as_ref().to_owned(), input }),
        None => Ok(()),
    })
}

/// What a file is known by, whatever its names: device and inode where the system has them, else the path
/// without links.
#[derive(PartialEq, Eq, Hash)]
struct FileId {
    #[cfg(unix)]
    device_and_inode: (u64, u64),
    #[cfg(not(unix))]
    path: PathBuf,
}

impl FileId {
    /// `None` for what does not exist.
    fn of(path: &Path) -> Option<FileId> {
        #[cfg(unix)]
        {
            use std::os::unix::fs::MetadataExt;
            let metadata = fs::metadata(path).ok()?;
            Some(FileId { device_and_inode: (metadata.dev(), metadata.ino()) })
        }
        #[cfg(not(unix))]
        fs::canonicalize(path).ok().map(|path| FileId { path })
    }
}

/// A path as a string, for `serde(serialize_with)`: bytes that are not UTF-8 become U+FFFD, where serde's own
/// form of paths fails.
///
/// # Errors
/// Those of the serializer.
pub fn serialize_path<S: Serializer>(path: &impl AsRef<Path>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&path.as_ref().display())
}

/// [`serialize_path`] of a path that may not be.
///
/// # Errors
/// Those of the serializer.
pub fn serialize_optional_path<S: Serializer>(
    path: &Option<impl AsRef<Path>>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match path {
        Some(path) => serialize_path(path, serializer),
        None => serializer.serialize_none(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn replaces_a_file_and_leaves_nothing_beside_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("weights.bin");
        atomic_write(&path, |writer| writer.write_all(b"first")).unwrap();
        let large = vec![7u8; 300_000];
        atomic_write(&path, |writer| writer.write_all(&large)).unwrap();
        assert_eq!(fs::read(&path).unwrap(), large);
        assert_eq!(names(directory.path()), ["weights.bin"]);
    }

    #[test]
    fn a_failing_write_leaves_the_old_file_whole() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("weights.bin");
        atomic_write(&path, |writer| writer.write_all(b"old")).unwrap();
        let failed = atomic_write(&path, |writer| {
            writer.write_all(&[1; 200_000])?;
            Err(io::Error::other("disk on fire"))
        });
        assert!(failed.unwrap_err().to_string().ends_with("weights.bin: disk on fire"));
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(names(directory.path()), ["weights.bin"]);
    }

    /// What a process killed while writing leaves: the temporary. It is neither read nor in the way.
    #[test]
    fn a_leftover_temporary_does_not_matter() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("weights.bin");
        fs::write(directory.path().join(".weights.bin.abc123.tmp"), b"half").unwrap();
        atomic_write(&path, |writer| writer.write_all(b"whole")).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"whole");
    }

    #[cfg(unix)]
    #[test]
    fn the_file_has_ordinary_permissions() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let (path, plain) = (directory.path().join("atomic"), directory.path().join("plain"));
        atomic_write(&path, |_| Ok(())).unwrap();
        fs::write(&plain, b"").unwrap();
        let mode = |path| fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(&path), mode(&plain));
    }

    #[test]
    fn an_output_that_is_an_input_is_refused_by_any_name() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        fs::write(path("input"), b"read").unwrap();
        fs::create_dir(path("within")).unwrap();
        fs::hard_link(path("input"), path("hard")).unwrap();
        let mut names = vec!["input", "within/../input", "./input"];
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink("input", path("soft")).unwrap();
            names.extend(["soft", "hard"]);
        }
        for name in names {
            let refused = refuse_overwriting([path("new"), path(name)], [path("none"), path("input")]);
            assert!(matches!(refused, Err(FileError::Overwrites { .. })), "{name}");
        }
        fs::write(path("other"), b"read").unwrap();
        refuse_overwriting([path("new"), path("other"), path("none")], [path("none"), path("input")])
            .unwrap();
    }

    #[test]
    fn errors_name_the_path() {
        let directory = tempfile::tempdir().unwrap();
        let missing = directory.path().join("no").join("file");
        let message = atomic_write(&missing, |_| Ok(())).unwrap_err().to_string();
        assert!(message.starts_with(&format!("cannot write {}: ", missing.display())), "{message}");
        assert!(atomic_write(Path::new(""), |_| Ok(())).is_err());

        let path = directory.path().join("ten");
        fs::write(&path, [0; 10]).unwrap();
        assert_eq!(read_bounded(&path, 10).unwrap().len(), 10);
        assert!(matches!(read_bounded(&path, 9), Err(FileError::TooLarge { max_bytes: 9, .. })));
        assert!(matches!(read_bounded(&missing, 9), Err(FileError::Read { .. })));
        assert!(matches!(read_bounded(directory.path(), 9), Err(FileError::Directory(_))));
    }
}
