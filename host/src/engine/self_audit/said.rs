//! What this process said on its standard streams, kept within bounds for the self-audit to search.

use std::io::Write;
use std::sync::Mutex;

/// Most bytes that are kept; of more, the later ones.
const KEPT: usize = 8 << 20;

static SAID: Mutex<Vec<u8>> = Mutex::new(Vec::new());

/// Notes what is written to a standard stream.
pub fn note(bytes: &[u8]) {
    let mut said = SAID.lock().unwrap_or_else(|e| e.into_inner());
    said.extend_from_slice(bytes);
    if said.len() > KEPT {
        let older = said.len() - KEPT / 2;
        said.drain(..older);
    }
}

/// Takes what was noted.
pub fn take() -> Vec<u8> {
    std::mem::take(&mut SAID.lock().unwrap_or_else(|e| e.into_inner()))
}

/// A stream whose bytes are noted on their way.
pub struct Noted<W>(pub W);

impl<W: Write> Write for Noted<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.0.write(bytes)?;
        note(bytes.get(..written).unwrap_or(bytes));
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}
