//! Read-only file mappings: the one module of this crate that contains `unsafe`.
//!
//! A mapped file is memory that other processes can change. This module therefore never makes a reference to
//! it: bytes leave only by being copied, through a raw pointer, into memory that the caller owns. So no
//! `&[u8]` exists whose bytes the compiler may assume to stay as they are, and a reader that copies a record
//! before it checks it cannot be shown one thing when checking and another when using it.
//!
//! What another process can still do:
//!
//! - It writes to the file while bytes are copied. The copy then holds old and new bytes mixed, like any
//!   read of a file that is being written; every value of a `u8` is valid, so nothing worse follows.
//! - It truncates the file. Touching a page past the new end makes the system end this process (`SIGBUS` on
//!   Unix; an access violation on Windows, which as a rule refuses to truncate a mapped file). No memory is
//!   read that is not the mapping's, so this is a lost process, not a corrupted one. Files written with
//!   [`crate::weights::write_atomically`] are replaced whole, never truncated: a mapping made before keeps the
//!   old contents.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;

use memmap2::{MmapOptions, MmapRaw};

/// A file mapped read-only, as long as the file was when it was mapped.
#[derive(Debug)]
pub struct MappedFile {
    map: MmapRaw,
}

impl MappedFile {
    /// Maps a whole file.
    ///
    /// # Errors
    ///
    /// When the system refuses, or the file is longer than this machine can address.
    pub fn new(file: &File) -> io::Result<MappedFile> {
        Ok(MappedFile { map: MmapOptions::new().map_raw_read_only(file)? })
    }

    /// The length in bytes.
    pub fn len(&self) -> usize {
        self.map.len()
    }

    /// Whether the file was empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Copies the bytes from position `start` on into `target`, which they fill; returns false, and copies
    /// nothing, when they do not all lie in the file.
    #[must_use]
    pub fn copy_to(&self, start: usize, target: &mut [u8]) -> bool {
        match start.checked_add(target.len()) {
            Some(end) if end <= self.map.len() => {}
            _ => return false,
        }
        // SAFETY: `start + target.len() <= map.len()` was checked above, without overflow, and the mapping
        // is readable for `map.len()` bytes as long as `self.map` lives. `target` is a unique reference to
        // memory of this process, so it cannot overlap the mapping, to which no reference is ever made.
        unsafe {
            std::ptr::copy_nonoverlapping(self.map.as_ptr().add(start), target.as_mut_ptr(), target.len());
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn copies_only_what_lies_in_the_file() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"0123456789").unwrap();
        let mapped = MappedFile::new(&file).unwrap();
        assert_eq!(mapped.len(), 10);
        let mut target = [0; 4];
        assert!(mapped.copy_to(6, &mut target));
        assert_eq!(&target, b"6789");
        for start in [7, 10, 11, usize::MAX - 3, usize::MAX] {
            assert!(!mapped.copy_to(start, &mut target), "{start}");
        }
        assert!(mapped.copy_to(10, &mut []));
        assert!(!mapped.copy_to(11, &mut []));
        assert_eq!(&target, b"6789");
    }

    #[test]
    fn an_empty_file_maps() {
        let file = tempfile::tempfile().unwrap();
        let mapped = MappedFile::new(&file).unwrap();
        assert!(mapped.is_empty());
        assert!(!mapped.copy_to(0, &mut [0]));
    }
}
