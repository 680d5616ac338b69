//! Memory for activations: lines of 64 bytes, aligned, and kept for the next layer instead of going back to the system.
//!
//! A network asks for the same few sizes over and over; fresh memory would be cleared page by page every time, which
//! costs as much as a light layer.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crate::kernels::CELL;

/// 64 bytes at an address that is a multiple of 64.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([f32; 16]);

/// Buffers that are not in use at the moment. Clones share one store.
#[derive(Clone, Default)]
pub(crate) struct Store {
    free: Arc<Mutex<Vec<Vec<Line>>>>,
}

/// Lines after the last: tiles read up to 15 pixels further than they are asked to, each a stride away.
pub(crate) const SPARE: usize = 15 * MOST_STRIDE;
/// Longest stride of a convolution along a row.
pub(crate) const MOST_STRIDE: usize = 16;

/// More free buffers than this are given back: a network alternates between a few.
const KEPT: usize = 12;

/// Bytes of a large page.
#[cfg(target_os = "linux")]
const LARGE: usize = 2 << 20;

impl Store {
    /// The store of this library.
    pub(crate) fn shared() -> Self {
        static SHARED: OnceLock<Store> = OnceLock::new();
        SHARED.get_or_init(Self::default).clone()
    }

    /// A buffer of at least `bytes`, with [`SPARE`] lines for loops that read a little further. Its content is
    /// whatever the last user left.
    pub(crate) fn take(&self, bytes: usize) -> Buffer {
        let lines = bytes.div_ceil(CELL) + SPARE;
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        // The smallest that is large enough, unless it is much too large.
        let best = (0..free.len())
            .filter(|&at| free[at].len() >= lines && free[at].len() <= 2 * lines + 1024)
            .min_by_key(|&at| free[at].len());
        let data = match best {
            Some(at) => free.swap_remove(at),
            None => {
                drop(free);
                let mut data = Vec::with_capacity(lines);
                large_pages(data.as_ptr(), lines);
                data.resize(lines, Line([0.0; 16]));
                data
            }
        };
        Buffer { data, store: self.clone() }
    }

    /// Gives all free memory back.
    pub(crate) fn clear(&self) {
        self.free.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// Asks for large pages before memory is first touched: hundreds of rows are walked at a time, more than a processor
/// remembers small pages, and each small page costs a fault. Where the system refuses, small pages do.
fn large_pages(at: *const Line, lines: usize) {
    #[cfg(target_os = "linux")]
    if lines * CELL >= LARGE {
        let first = (at as usize).next_multiple_of(LARGE);
        let end = (at as usize + lines * CELL) / LARGE * LARGE;
        if first < end {
            // SAFETY: whole pages of an allocation that its holder has not used yet; the advice changes no content.
            unsafe { libc::madvise(first as *mut libc::c_void, end - first, libc::MADV_HUGEPAGE) };
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (at, lines);
}

/// Aligned memory, given back to its store when dropped.
pub(crate) struct Buffer {
    data: Vec<Line>,
    store: Store,
}

impl Buffer {
    pub(crate) fn bytes(&self) -> usize {
        self.data.len() * CELL
    }

    pub(crate) fn as_ptr(&self) -> *const u8 {
        self.data.as_ptr().cast()
    }

    /// For filling; the holder keeps writers apart.
    pub(crate) fn as_mut_ptr(&mut self) -> *mut u8 {
        self.data.as_mut_ptr().cast()
    }

    pub(crate) fn as_f32(&self) -> &[f32] {
        // SAFETY: a line is 16 f32 without padding.
        unsafe { std::slice::from_raw_parts(self.data.as_ptr().cast(), self.data.len() * 16) }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut free = self.store.free.lock().unwrap_or_else(PoisonError::into_inner);
        free.push(std::mem::take(&mut self.data));
        if free.len() > KEPT {
            free.remove(0);
        }
    }
}

/// An address that several threads write to, each its own part.
#[derive(Clone, Copy)]
pub(crate) struct Target<T>(pub(crate) *mut T);

// SAFETY: whoever writes through it keeps the parts apart.
unsafe impl<T> Send for Target<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for Target<T> {}

impl<T> Target<T> {
    /// The address `at` elements further; through a method, so that closures capture the whole.
    #[inline(always)]
    pub(crate) unsafe fn at(self, at: usize) -> *mut T {
        // SAFETY: the caller's contract.
        unsafe { self.0.add(at) }
    }
}
