//! Replacing files and directories whole, and files that stand for others.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

mod directory;

pub use directory::write_directory;

/// Writes a file whole or not at all: `write` fills a new file beside `path`, which then goes to the disk and
/// takes the place of `path` in one step. Whoever is killed in between leaves the old file as it was, and at
/// most a `.NAME.XXXXXX.tmp` beside it, which nothing ever reads and [`remove_leftovers`] removes.
///
/// A symbolic link is followed: what it points at is replaced. The new file has the permissions of the one it
/// replaces. Returns what `write` returns.
///
/// ```
/// # let directory = tempfile::tempdir().unwrap();
/// # let path = directory.path().join("notes.txt");
/// use std::io::{Error, Write};
///
/// anemone_mil::files::write_atomically(&path, |file| file.write_all(b"whole"))?;
/// let failed = anemone_mil::files::write_atomically(&path, |file| {
///     file.write_all(b"ha")?;
///     Err::<(), Error>(Error::other("disk full"))
/// });
/// assert!(failed.is_err());
/// assert_eq!(std::fs::read(&path)?, b"whole");
/// # Ok::<(), Error>(())
/// ```
///
/// # Errors
///
/// Those of `write`; when the system refuses; when `path` is a directory, a device or a pipe. `path` is then
/// as it was.
pub fn write_atomically<T, E: From<io::Error>>(
    path: impl AsRef<Path>,
    write: impl FnOnce(&mut File) -> Result<T, E>,
) -> Result<T, E> {
    let place = Destination::of(path.as_ref())?;
    let mut builder = tempfile::Builder::new();
    builder.prefix(&place.prefix).rand_bytes(RANDOM_CHARACTERS).suffix(SUFFIX);
    let new = new_file_permissions(&mut builder).tempfile_in(&place.directory);
    let mut new = new.map_err(|error| place.no_new_file(&error))?;
    let result = write(new.as_file_mut())?;
    if let Some(permissions) = place.old_permissions {
        new.as_file().set_permissions(permissions)?;
    }
    new.as_file().sync_all()?;
    new.persist(&place.path).map_err(|error| error.error)?;
    sync_directory(&place.directory)?;
    Ok(result)
}

/// Removes the `.NAME.XXXXXX.tmp` that killed processes left of writing `path` by [`write_atomically`]. Only for
/// whoever knows that nobody is writing it: the temporary file of a living process goes too.
///
/// # Errors
///
/// When the system refuses, or `path` is one that [`write_atomically`] refuses.
pub fn remove_leftovers(path: impl AsRef<Path>) -> io::Result<()> {
    let place = Destination::of(path.as_ref())?;
    for entry in fs::read_dir(&place.directory)? {
        let entry = entry?;
        if place.is_temporary(&entry.file_name()) && entry.file_type()?.is_file() {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// What is wrong with a file that [`is_lfs_pointer`], and what to do.
pub const LFS_POINTER: &str =
    "it is a pointer that Git LFS left in the file's place; `git lfs pull` fetches the file itself";

/// Whether a file that begins with these bytes is a pointer of Git LFS: a few lines of text in the place of a
/// large file that was not fetched.
pub fn is_lfs_pointer(start: &[u8]) -> bool {
    start.starts_with(b"version https://git-lfs.github.com/spec/")
}

/// Letters and digits between a temporary file's prefix, `.NAME.`, and its [`SUFFIX`].
const RANDOM_CHARACTERS: usize = 6;
const SUFFIX: &str = ".tmp";

/// Where a file is written, and what its temporary files are called.
struct Destination {
    /// The file itself, behind any links.
    path: PathBuf,
    directory: PathBuf,
    /// Of the temporary files' names: `.NAME.`.
    prefix: OsString,
    old_permissions: Option<fs::Permissions>,
}

impl Destination {
    fn of(path: &Path) -> io::Result<Destination> {
        let (path, old_permissions) = match fs::metadata(path) {
            Ok(old) if old.is_file() => (fs::canonicalize(path)?, Some(old.permissions())),
            Ok(_) => return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => (path.to_owned(), None),
            Err(error) => return Err(error),
        };
        let directory = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        let mut prefix = OsString::from(".");
        prefix.push(path.file_name().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?);
        prefix.push(".");
        Ok(Destination { path, directory, prefix, old_permissions })
    }

    /// Why there can be no new file, without the temporary file's name, which nobody has heard of.
    fn no_new_file(&self, error: &io::Error) -> io::Error {
        let directory = self.directory.display();
        io::Error::new(
            error.kind(),
            match error.kind() {
                io::ErrorKind::NotFound => format!("the directory {directory} does not exist"),
                kind => format!("no file can be made in the directory {directory}: {kind}"),
            },
        )
    }

    fn is_temporary(&self, name: &OsStr) -> bool {
        let random = name.as_encoded_bytes().strip_prefix(self.prefix.as_encoded_bytes());
        let random = random.and_then(|rest| rest.strip_suffix(SUFFIX.as_bytes()));
        random.is_some_and(|random| {
            random.len() == RANDOM_CHARACTERS && random.iter().all(u8::is_ascii_alphanumeric)
        })
    }
}

/// Those that any new file gets, where a temporary one would be closed to others.
fn new_file_permissions<'a, 'b>(
    builder: &'a mut tempfile::Builder<'b, 'b>,
) -> &'a mut tempfile::Builder<'b, 'b> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(fs::Permissions::from_mode(0o666));
    }
    builder
}

/// Makes the renaming itself last through a loss of power, where the system lets directories be synced.
fn sync_directory(directory: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(directory)?.sync_all() } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_failed_write_leaves_the_old_file_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        write_atomically(&path, |file| file.write_all(b"old")).unwrap();
        let failed: io::Result<()> = write_atomically(&path, |file| {
            file.write_all(b"new")?;
            Err(io::Error::other("no"))
        });
        assert_eq!(failed.unwrap_err().to_string(), "no");
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
        write_atomically(&path, |file| file.write_all(b"new")).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    /// The name is taken from a write that is under way, not from a guess.
    #[test]
    fn leftovers_are_known_by_their_name() {
        let directory = tempfile::tempdir().unwrap();
        let (path, other) = (directory.path().join("file"), directory.path().join("file.b"));
        let names = || fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name());
        let mut left = Vec::new();
        for path in [&path, &other] {
            write_atomically(path, |_| {
                left.extend(names());
                io::Result::Ok(())
            })
            .unwrap();
        }
        left.retain(|name| name.as_encoded_bytes().starts_with(b"."));
        assert_eq!(left.len(), 2, "{left:?}");
        left.iter().for_each(|name| fs::write(directory.path().join(name), b"half").unwrap());
        fs::create_dir(directory.path().join(".file.Ab12Cd.tmp")).unwrap();
        remove_leftovers(&path).unwrap();
        let mut found: Vec<OsString> = names().collect();
        found.sort();
        assert_eq!(
            found,
            [OsString::from(".file.Ab12Cd.tmp"), left[1].clone(), "file".into(), "file.b".into()]
        );
        assert!(remove_leftovers(directory.path().join("none/file")).is_err());
    }

    #[test]
    fn refuses_a_directory() {
        let directory = tempfile::tempdir().unwrap();
        let result: io::Result<()> = write_atomically(directory.path(), |_| Ok(()));
        assert_eq!(result.unwrap_err().kind(), io::ErrorKind::InvalidInput);
        let result: io::Result<()> = write_atomically(directory.path().join("none/file"), |_| Ok(()));
        let error = result.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert!(error.to_string().ends_with("none does not exist"), "{error}");
        let result: io::Result<()> = write_atomically("", |_| Ok(()));
        assert_eq!(result.unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }

    #[cfg(unix)]
    #[test]
    fn follows_links_and_keeps_permissions() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let directory = tempfile::tempdir().unwrap();
        let (path, link) = (directory.path().join("file"), directory.path().join("link"));
        write_atomically(&path, |file| file.write_all(b"old")).unwrap();
        assert_ne!(fs::metadata(&path).unwrap().permissions().mode() & 0o400, 0);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        symlink("file", &link).unwrap();
        write_atomically(&link, |file| file.write_all(b"new")).unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
    }
}
