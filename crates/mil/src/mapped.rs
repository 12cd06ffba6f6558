//! What this crate asks of the system's memory, read-only file mappings and large pages: its one module that
//! contains `unsafe`.
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
//!   [`crate::files::write_atomically`] are replaced whole, never truncated: a mapping made before keeps the
//!   old contents.
//!
//! What was copied is given back at once, a part at a time: memory then holds a large file's copy, and not the pages
//! that it was copied from as well.
//!
//! Large memory is asked for in [`room_for`], whose pages Linux is told to make huge where it waits to be told
//! (`madvise` in `/sys/kernel/mm/transparent_hugepage/enabled`, the setting of most distributions). A tensor
//! read along its columns touches a page of 4 KiB for every few values, and a processor remembers where some
//! thousand pages are: 4 MiB of small ones, all of a tensor in pages of 2 MiB.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;

use memmap2::{MmapOptions, MmapRaw};

/// Bytes that are copied before their pages are given back: many pages, and little memory.
const COPIED_AT_ONCE: usize = 1 << 20;
/// Fewer bytes stay: giving them back takes as long as copying them.
const LEAST_GIVEN_BACK: usize = 1 << 16;

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
        for (index, target) in target.chunks_mut(COPIED_AT_ONCE).enumerate() {
            let start = start + index * COPIED_AT_ONCE;
            // SAFETY: what `target` was before it was cut lies, from its start on, in the mapping, which was checked
            // above without overflow, so this part does; and the mapping is readable for `map.len()` bytes as long as
            // `self.map` lives. `target` is a unique reference to memory of this process, so it cannot overlap the
            // mapping, to which no reference is ever made.
            unsafe {
                std::ptr::copy_nonoverlapping(
                    self.map.as_ptr().add(start),
                    target.as_mut_ptr(),
                    target.len(),
                );
            }
            if target.len() >= LEAST_GIVEN_BACK {
                self.give_back(start, target.len());
            }
        }
        true
    }

    /// Lets the system take the pages of what was copied from a position on. That they stay, where it refuses, costs
    /// only memory.
    #[cfg(unix)]
    fn give_back(&self, start: usize, length: usize) {
        // SAFETY: the pages of a shared mapping of a file hold what the file does, and are read from it again when they
        // are touched again; no reference to them is ever made.
        let _ = unsafe { self.map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, start, length) };
    }

    /// Other systems take pages back when they are short of them.
    #[cfg(not(unix))]
    fn give_back(&self, _: usize, _: usize) {}
}

/// An empty vector with room for `count` values, in huge pages if there are enough of them and the system has
/// such pages to give; `None` when there is no memory.
///
/// ```
/// let mut values = anemone_mil::mapped::room_for::<f32>(1 << 20).unwrap();
/// values.resize(1 << 20, 0.0);
/// assert!(anemone_mil::mapped::room_for::<f32>(usize::MAX).is_none());
/// ```
pub fn room_for<T>(count: usize) -> Option<Vec<T>> {
    let mut values = Vec::new();
    values.try_reserve_exact(count).ok()?;
    prefer_huge_pages(&mut values);
    Some(values)
}

/// Asks for huge pages where they fit wholly into a vector's memory. A system that has none refuses, which
/// changes nothing.
#[cfg(target_os = "linux")]
fn prefer_huge_pages<T>(values: &mut Vec<T>) {
    /// Huge pages of x86-64, and of AArch64 with pages of 4 KiB; a multiple of every ordinary page.
    const HUGE_PAGE: usize = 2 << 20;
    let start = values.as_mut_ptr().cast::<u8>();
    let bytes = values.capacity() * size_of::<T>();
    let skipped = start.addr().next_multiple_of(HUGE_PAGE) - start.addr();
    let whole = bytes.saturating_sub(skipped) / HUGE_PAGE * HUGE_PAGE;
    if whole == 0 {
        return;
    }
    // SAFETY: `skipped + whole <= bytes`, the size of the allocation that `values` owns, so the range is
    // memory of this process that nothing else refers to. This advice changes how the system backs the pages,
    // never what they hold or who may touch them.
    unsafe {
        libc::madvise(start.add(skipped).cast(), whole, libc::MADV_HUGEPAGE);
    }
}

/// Other systems choose the size of pages themselves.
#[cfg(not(target_os = "linux"))]
fn prefer_huge_pages<T>(_: &mut Vec<T>) {}

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
    fn large_files_are_copied_whole() {
        let mut file = tempfile::tempfile().unwrap();
        let bytes: Vec<u8> = (0..3 * COPIED_AT_ONCE + 12345).map(|i| (i / 3) as u8).collect();
        file.write_all(&bytes).unwrap();
        let mapped = MappedFile::new(&file).unwrap();
        for start in [0, 1, 4095, COPIED_AT_ONCE + 1] {
            let mut target = vec![0; bytes.len() - start];
            assert!(mapped.copy_to(start, &mut target));
            assert!(target == bytes[start..], "from {start} on");
        }
    }

    #[test]
    fn an_empty_file_maps() {
        let file = tempfile::tempfile().unwrap();
        let mapped = MappedFile::new(&file).unwrap();
        assert!(mapped.is_empty());
        assert!(!mapped.copy_to(0, &mut [0]));
    }

    #[test]
    fn room_is_there_at_every_size() {
        for count in [0, 1, (1 << 20) - 1, 1 << 20, (2 << 20) + 3, 5 << 20] {
            let mut values = room_for::<u32>(count).unwrap();
            assert!(values.is_empty() && values.capacity() >= count);
            values.extend((0..count as u32).map(|i| i ^ 0x5a5a));
            prefer_huge_pages(&mut values);
            assert!(values.iter().enumerate().all(|(i, &value)| value == i as u32 ^ 0x5a5a));
        }
        assert!(room_for::<()>(usize::MAX).unwrap().is_empty());
        assert!(room_for::<u16>(usize::MAX / 2).is_none());
    }

    /// The pages of a mapping are huge, or may become so, when its flags in `smaps` have `hg`.
    #[cfg(target_os = "linux")]
    #[test]
    fn large_room_is_marked_for_huge_pages() {
        if !std::fs::exists("/sys/kernel/mm/transparent_hugepage").unwrap() {
            return;
        }
        let values = room_for::<u8>(64 << 20).unwrap();
        let middle = values.as_ptr().addr() + (32 << 20);
        let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let mut inside = false;
        let flags = smaps.lines().find(|line| {
            let bounds = line.split_whitespace().next().and_then(|range| range.split_once('-'));
            let address = |text| usize::from_str_radix(text, 16).ok();
            if let Some((Some(start), Some(end))) = bounds.map(|(start, end)| (address(start), address(end)))
            {
                inside = (start..end).contains(&middle);
            }
            inside && line.starts_with("VmFlags:")
        });
        assert!(flags.unwrap().split_whitespace().any(|flag| flag == "hg"), "{flags:?}");
    }
}
