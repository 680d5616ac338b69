//! Proof of life: which node a worker is in, and a counter that moves while it works.
//!
//! A small file that the supervisor reads after a worker died (which node was it?) and while it runs (does it move?).
//! Written with plain `pwrite`, a fraction of a microsecond, so that it can be kept up to date for every call.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};

/// No node: the worker is between calls.
pub const IDLE: u64 = u64::MAX;

/// The worker's side.
pub struct Pulse {
    file: Option<File>,
    beats: AtomicU64,
}

impl Pulse {
    /// Writes to `file`; `None` beats for nobody.
    pub fn new(file: Option<File>) -> Pulse {
        Pulse { file, beats: AtomicU64::new(0) }
    }

    /// The worker is now in `node` ([`IDLE`]: in none).
    pub fn enter(&self, node: u64) {
        self.write(0, node);
        self.beat();
    }

    /// A stage reports progress.
    pub fn progress(&self, _done: u64) {
        self.beat();
    }

    fn beat(&self) {
        self.write(8, self.beats.fetch_add(1, Ordering::Relaxed) + 1);
    }

    fn write(&self, at: u64, value: u64) {
        if let Some(file) = &self.file {
            // A pulse that cannot be written is seen by the supervisor as one that stands still.
            let _ = file.write_all_at(&value.to_le_bytes(), at);
        }
    }
}

/// What the supervisor reads: the node, and the count of beats.
pub fn read(file: &File) -> (u64, u64) {
    let mut bytes = [0xff; 16];
    if file.read_exact_at(&mut bytes, 0).is_err() {
        return (IDLE, 0);
    }
    let word = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
    (word(0), word(8))
}
