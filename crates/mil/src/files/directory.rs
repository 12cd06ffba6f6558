//! Replacing directories whole.

use std::fs;
use std::io;
use std::path::Path;

use super::{RANDOM_CHARACTERS, SUFFIX};

/// Writes a directory whole or not at all: `write` fills a new one beside `path`, which then takes its place. A
/// directory that is there is moved aside first, and removed at the end; whoever is killed in between leaves it, or
/// the new one, as `.NAME.XXXXXX.tmp` beside `path`. Whether the old directory may be replaced is for the caller to
/// know. Returns what `write` returns.
///
/// ```
/// # let directory = tempfile::tempdir().unwrap();
/// # let path = directory.path().join("model");
/// use std::{fs, io};
///
/// anemone_mil::files::write_directory(&path, |new| fs::write(new.join("a"), b"old"))?;
/// anemone_mil::files::write_directory(&path, |new| fs::write(new.join("b"), b"new"))?;
/// assert!(path.join("b").exists() && !path.join("a").exists());
/// let failed = anemone_mil::files::write_directory(&path, |_| Err::<(), _>(io::Error::other("disk full")));
/// assert!(failed.is_err() && path.join("b").exists());
/// # Ok::<(), io::Error>(())
/// ```
///
/// # Errors
///
/// Those of `write`; when the system refuses; when `path` is a file. What was at `path` is then as it was.
pub fn write_directory<T, E: From<io::Error>>(
    path: impl AsRef<Path>,
    write: impl FnOnce(&Path) -> Result<T, E>,
) -> Result<T, E> {
    let path = path.as_ref();
    let old = match fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => Some(fs::canonicalize(path)?),
        Ok(_) => return Err(io::Error::new(io::ErrorKind::NotADirectory, "a file is in its place").into()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error.into()),
    };
    // Behind a link, as files are replaced.
    let path = old.as_deref().unwrap_or(path);
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let temporary = |name: &std::ffi::OsStr| {
        let mut prefix = std::ffi::OsString::from(".");
        prefix.push(name);
        prefix.push(".");
        tempfile::Builder::new()
            .prefix(&prefix)
            .rand_bytes(RANDOM_CHARACTERS)
            .suffix(SUFFIX)
            .tempdir_in(parent)
    };
    let name = path.file_name().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
    let place = temporary(name)?;
    // Within it, so that the directory has the permissions of any other, and not those of a temporary one.
    let (new, aside) = (place.path().join("new"), place.path().join("old"));
    fs::create_dir(&new)?;
    let result = write(&new)?;
    sync(&new)?;
    if old.is_some() {
        fs::rename(path, &aside)?;
    }
    if let Err(error) = fs::rename(&new, path) {
        if old.is_some() && fs::rename(&aside, path).is_err() {
            // What was there is still there, under the temporary name.
            let _ = place.keep();
        }
        return Err(error.into());
    }
    super::sync_directory(parent)?;
    place.close()?;
    Ok(result)
}

/// Sends the files below a directory to the disk.
fn sync(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        match entry.file_type()? {
            kind if kind.is_dir() => sync(&entry.path())?,
            kind if kind.is_file() => fs::File::open(entry.path())?.sync_all()?,
            _ => {}
        }
    }
    super::sync_directory(directory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_replaced_whole_or_not_at_all() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("model");
        write_directory(&path, |new| {
            fs::create_dir(new.join("inner"))?;
            fs::write(new.join("inner/a"), b"old")
        })
        .unwrap();
        let failed: io::Result<()> = write_directory(&path, |new| {
            fs::write(new.join("b"), b"half")?;
            Err(io::Error::other("no"))
        });
        assert_eq!(failed.unwrap_err().to_string(), "no");
        assert_eq!(fs::read(path.join("inner/a")).unwrap(), b"old");
        write_directory(&path, |new| fs::write(new.join("b"), b"new")).unwrap();
        assert!(!path.join("inner").exists());
        assert_eq!(fs::read(path.join("b")).unwrap(), b"new");
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1);
        let file = path.join("b");
        let refused: io::Result<()> = write_directory(&file, |_| Ok(()));
        assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::NotADirectory);
        assert_eq!(fs::read(file).unwrap(), b"new");
    }

    #[cfg(unix)]
    #[test]
    fn a_link_is_followed() {
        let place = tempfile::tempdir().unwrap();
        let (path, link) = (place.path().join("model"), place.path().join("link"));
        fs::create_dir(&path).unwrap();
        std::os::unix::fs::symlink("model", &link).unwrap();
        write_directory(&link, |new| fs::write(new.join("a"), b"new")).unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read(path.join("a")).unwrap(), b"new");
    }
}
