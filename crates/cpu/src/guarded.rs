//! Buffers for tests that end, or begin, at a page that may not be touched: inline assembly and intrinsics that read
//! or write beyond a slice end the test there, which no sanitizer would see.
#![allow(unsafe_code)]

use std::ops::{Deref, DerefMut};

use bytemuck::Pod;

/// Which end of a buffer is guarded without a gap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// The first element follows a forbidden page.
    First,
    /// A forbidden page follows the last element.
    Last,
}

/// Elements between two forbidden pages.
pub(crate) struct Guarded<T> {
    map: *mut libc::c_void,
    bytes: usize,
    first: *mut T,
    length: usize,
}

impl<T: Pod> Guarded<T> {
    /// A copy of these elements.
    pub(crate) fn new(values: &[T], end: End) -> Guarded<T> {
        // SAFETY: this only reads a number.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as usize;
        let inner = size_of_val(values).next_multiple_of(page).max(page);
        let bytes = inner + 2 * page;
        // SAFETY: a new private mapping, of which all but the first and the last page are then made accessible.
        let map = unsafe {
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            let map = libc::mmap(std::ptr::null_mut(), bytes, libc::PROT_NONE, flags, -1, 0);
            assert_ne!(map, libc::MAP_FAILED);
            let inside = map.byte_add(page);
            assert_eq!(libc::mprotect(inside, inner, libc::PROT_READ | libc::PROT_WRITE), 0);
            map
        };
        let offset = if end == End::First { page } else { page + inner - size_of_val(values) };
        // SAFETY: the offset is within the mapping, and a multiple of the element's size, as pages are.
        let first = unsafe { map.byte_add(offset) }.cast::<T>();
        // SAFETY: there is room for all elements from there on, and both buffers are apart.
        unsafe { std::ptr::copy_nonoverlapping(values.as_ptr(), first, values.len()) };
        Guarded { map, bytes, first, length: values.len() }
    }
}

impl<T: Pod> Deref for Guarded<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: the elements have been written, and live as long as the mapping, which `self` owns.
        unsafe { std::slice::from_raw_parts(self.first, self.length) }
    }
}

impl<T: Pod> DerefMut for Guarded<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as above, and borrowed from `self` alone.
        unsafe { std::slice::from_raw_parts_mut(self.first, self.length) }
    }
}

impl<T> Drop for Guarded<T> {
    fn drop(&mut self) {
        // SAFETY: the mapping is `self`'s, and nothing borrows it any more.
        unsafe { libc::munmap(self.map, self.bytes) };
    }
}
