//! Memory for voxels: 64-byte aligned, poisoned, shared between a stage that writes it and stages that read it.
//!
//! The only raw memory of the engine. A buffer is written by stages through the ABI, under the engine's promise that
//! nobody reads a region while a call may write it; so access goes through a pointer and not through `&mut`.
#![allow(unsafe_code)]

use std::alloc::{Layout, alloc, dealloc};
use std::ptr::NonNull;

/// Alignment of every buffer: a cache line, and what vector units want.
pub const ALIGN: usize = 64;

/// From this size on a request is compared with the memory that is available.
const LARGE: usize = 256 << 20;

/// A fixed span of host memory.
pub struct Buffer {
    data: NonNull<u8>,
    len: usize,
}

// SAFETY: the memory is plain bytes; the engine orders writes (calls) before reads (after the call).
unsafe impl Send for Buffer {}
// SAFETY: as above.
unsafe impl Sync for Buffer {}

/// The memory could not be had.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("{0} bytes of memory could not be had")]
pub struct NoMemory(pub usize);

impl Buffer {
    /// Memory of `len` bytes, every byte `fill`.
    ///
    /// # Errors
    /// If the system refuses it.
    pub fn new(len: usize, fill: u8) -> Result<Buffer, NoMemory> {
        // The system grants addresses it has no memory for, and kills when they are touched; so a large request is
        // measured against what there is.
        if len > LARGE {
            let (_, available) = crate::machine::memory();
            if available != 0 && len as u64 > available {
                return Err(NoMemory(len));
            }
        }
        let layout = Layout::from_size_align(len.max(ALIGN), ALIGN).map_err(|_| NoMemory(len))?;
        // SAFETY: the layout is not empty.
        let data = NonNull::new(unsafe { alloc(layout) }).ok_or(NoMemory(len))?;
        // SAFETY: just allocated with this size.
        unsafe { data.as_ptr().write_bytes(fill, layout.size()) };
        Ok(Buffer { data, len })
    }

    /// Bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Address of the byte at `offset`.
    ///
    /// # Panics
    /// If `offset` lies beyond the end.
    pub fn at(&self, offset: usize) -> *mut u8 {
        assert!(offset <= self.len, "offset {offset} of a buffer of {} bytes", self.len);
        // SAFETY: inside the allocation.
        unsafe { self.data.as_ptr().add(offset) }
    }

    /// Overwrites `len` bytes from `offset` with `fill`.
    ///
    /// # Panics
    /// If the span lies beyond the end.
    pub fn fill(&self, offset: usize, len: usize, fill: u8) {
        assert!(offset.checked_add(len).is_some_and(|end| end <= self.len));
        // SAFETY: inside the allocation; the engine does this only between calls.
        unsafe { self.data.as_ptr().add(offset).write_bytes(fill, len) }
    }

    /// Copies `bytes` to `offset`, between calls.
    ///
    /// # Panics
    /// If they do not fit.
    pub fn write(&self, offset: usize, bytes: &[u8]) {
        assert!(offset.checked_add(bytes.len()).is_some_and(|end| end <= self.len));
        // SAFETY: inside the allocation; `bytes` is borrowed elsewhere, so the spans do not overlap.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.data.as_ptr().add(offset), bytes.len()) }
    }

    /// The elements of type `T` in a span of bytes, between calls.
    ///
    /// # Panics
    /// If the span lies beyond the end or is not aligned for `T`.
    pub fn read<T: Plain>(&self, offset: usize, count: usize) -> &[T] {
        let bytes = count.checked_mul(size_of::<T>()).expect("a span of more than the address space");
        assert!(offset.checked_add(bytes).is_some_and(|end| end <= self.len));
        assert!(offset.is_multiple_of(align_of::<T>()));
        // SAFETY: inside the allocation, initialised at creation, aligned, and any bit pattern is a `T`.
        unsafe { std::slice::from_raw_parts(self.data.as_ptr().add(offset).cast(), count) }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // SAFETY: the layout of `new`, which succeeded with it.
        unsafe { dealloc(self.data.as_ptr(), Layout::from_size_align_unchecked(self.len.max(ALIGN), ALIGN)) }
    }
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for u8 {}
    impl Sealed for u16 {}
    impl Sealed for u32 {}
    impl Sealed for u64 {}
    impl Sealed for i8 {}
    impl Sealed for i16 {}
    impl Sealed for i32 {}
    impl Sealed for i64 {}
    impl Sealed for f32 {}
    impl Sealed for f64 {}
}

/// Types for which every bit pattern is a value.
pub trait Plain: sealed::Sealed + Copy {}
impl Plain for u8 {}
impl Plain for u16 {}
impl Plain for u32 {}
impl Plain for u64 {}
impl Plain for i8 {}
impl Plain for i16 {}
impl Plain for i32 {}
impl Plain for i64 {}
impl Plain for f32 {}
impl Plain for f64 {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_aligned_and_filled() {
        let buffer = Buffer::new(1000, 0xA5).unwrap();
        assert_eq!(buffer.at(0) as usize % ALIGN, 0);
        assert!(buffer.read::<u8>(0, 1000).iter().all(|&b| b == 0xA5));
        buffer.fill(10, 5, 1);
        assert_eq!(buffer.read::<u8>(9, 7), [0xA5, 1, 1, 1, 1, 1, 0xA5]);
    }

    #[test]
    fn an_absurd_size_is_an_error_and_not_an_abort() {
        assert!(Buffer::new(usize::MAX / 2, 0).is_err());
        // Linux grants this much address space; it must not be touched.
        assert!(Buffer::new(1 << 44, 0).is_err());
    }
}
