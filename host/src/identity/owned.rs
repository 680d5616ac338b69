//! Files that hold identities: ordinary files that only their owner may read or write.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Why a file was refused.
#[derive(Debug, thiserror::Error)]
pub enum OwnedError {
    /// Not an ordinary file.
    #[error("{path}: expected an ordinary file")]
    NotAFile {
        /// The file.
        path: PathBuf,
    },
    /// Group or others may read or write it.
    #[error("{path}: {what} has mode {mode:04o}, but only its owner may have access; run: chmod 600 {path}")]
    TooOpen {
        /// The file.
        path: PathBuf,
        /// What it is.
        what: &'static str,
        /// Its permission bits.
        mode: u32,
    },
    /// Reading failed.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
}

/// Reads a file that its owner alone may read; `what` names it in the refusal.
///
/// # Errors
/// [`OwnedError`].
pub fn read(path: &Path, what: &'static str) -> Result<Vec<u8>, OwnedError> {
    let io = |source| OwnedError::Io { path: path.to_owned(), source };
    // Asked before opening: opening a named pipe would wait for a writer.
    if !std::fs::metadata(path).map_err(io)?.is_file() {
        return Err(OwnedError::NotAFile { path: path.to_owned() });
    }
    let mut file = File::open(path).map_err(io)?;
    let mode = file.metadata().map_err(io)?.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(OwnedError::TooOpen { path: path.to_owned(), what, mode });
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(io)?;
    Ok(bytes)
}
