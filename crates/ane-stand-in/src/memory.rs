//! The memory of buffers, to which callers have the address.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ptr::NonNull;

/// Memory that is freed when dropped.
pub(crate) struct Memory {
    data: NonNull<u8>,
    layout: Layout,
}

// SAFETY: the memory is this value's own.
unsafe impl Send for Memory {}

impl Memory {
    /// Zeros, at an address that is a multiple of 64.
    pub(crate) fn new(bytes: u64) -> Option<Memory> {
        let layout = Layout::from_size_align(usize::try_from(bytes).ok()?, 64).ok()?;
        if layout.size() == 0 {
            return None;
        }
        // SAFETY: the size is not 0.
        let data = NonNull::new(unsafe { alloc_zeroed(layout) })?;
        Some(Memory { data, layout })
    }

    /// The address.
    pub(crate) fn address(&self) -> *mut u8 {
        self.data.as_ptr()
    }

    /// The number of bytes.
    pub(crate) fn len(&self) -> usize {
        self.layout.size()
    }

    /// The bytes, for a run, while callers do not touch them.
    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: so many bytes are allocated there and initialised, and callers wait for the run's end.
        unsafe { std::slice::from_raw_parts(self.data.as_ptr(), self.layout.size()) }
    }

    /// The bytes, for a run, while callers do not touch them.
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`; `self` is borrowed alone.
        unsafe { std::slice::from_raw_parts_mut(self.data.as_ptr(), self.layout.size()) }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: it was allocated with this layout, and nothing refers to it any more.
        unsafe { dealloc(self.data.as_ptr(), self.layout) };
    }
}
