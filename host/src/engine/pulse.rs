//! Proof of life: which nodes a worker is in, and a counter that moves while it works.
//!
//! A small file that the supervisor reads after a worker died (which node was it?) and while it runs (does it move?).
//! Written with plain `pwrite`, a fraction of a microsecond, so that it can be kept up to date for every call. Nodes that
//! work at the same time have a lane each.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};

/// No node: the lane is between calls.
pub const IDLE: u64 = u64::MAX;
/// Nodes that may work at the same time.
pub const LANES: usize = 3;
/// Eight bytes for the beats and for each lane, little-endian.
const WORDS: usize = 1 + LANES;

/// The worker's side.
pub struct Pulse {
    file: Option<File>,
    beats: AtomicU64,
}

impl Pulse {
    /// Writes to `file`; `None` beats for nobody.
    pub fn new(file: Option<File>) -> Pulse {
        let pulse = Pulse { file, beats: AtomicU64::new(0) };
        for lane in 0..LANES {
            pulse.enter(lane, IDLE);
        }
        pulse
    }

    /// A lane of the worker is now in `node` ([`IDLE`]: in none).
    pub fn enter(&self, lane: usize, node: u64) {
        self.write(1 + lane.min(LANES - 1), node);
        self.beat();
    }

    /// A stage reports progress.
    pub fn progress(&self, _done: u64) {
        self.beat();
    }

    fn beat(&self) {
        self.write(0, self.beats.fetch_add(1, Ordering::Relaxed) + 1);
    }

    fn write(&self, word: usize, value: u64) {
        if let Some(file) = &self.file {
            // A pulse that cannot be written is seen by the supervisor as one that stands still.
            let _ = file.write_all_at(&value.to_le_bytes(), word as u64 * 8);
        }
    }
}

/// What the supervisor reads: the nodes at work, and the count of beats.
pub fn read(file: &File) -> (Vec<u64>, u64) {
    let mut bytes = [0xff; WORDS * 8];
    if file.read_exact_at(&mut bytes, 0).is_err() {
        return (Vec::new(), 0);
    }
    let word = |i: usize| u64::from_le_bytes(std::array::from_fn(|k| bytes[i * 8 + k]));
    ((1..WORDS).map(word).filter(|node| *node != IDLE).collect(), word(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_lane_says_where_it_is() {
        let path = tempfile::tempdir().unwrap();
        let path = path.path().join("pulse");
        let open = || File::options().read(true).write(true).create(true).truncate(false).open(&path).unwrap();
        let reader = open();
        assert_eq!(read(&reader), (Vec::new(), 0));
        let pulse = Pulse::new(Some(open()));
        let (nodes, before) = read(&reader);
        assert_eq!(nodes, Vec::<u64>::new());
        pulse.enter(0, 7);
        pulse.enter(2, 0);
        assert_eq!(read(&reader), (vec![7, 0], before + 2));
        pulse.enter(0, IDLE);
        pulse.progress(1);
        assert_eq!(read(&reader), (vec![0], before + 4));
    }
}
