//! Opening input files: regular files only, never through a symbolic link.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::record::Fault;

/// Largest file that is read into memory.
pub const MAX_FILE_BYTES: u64 = 4 << 30;

/// Opens a regular file and gives its size. Does not wait on a FIFO, touch a device, or follow a link.
///
/// # Errors
/// `unreadable`, `not-a-file`
pub fn open(path: &Path) -> Result<(File, u64), Fault> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY).bits();
    let file = std::fs::OpenOptions::new().read(true).custom_flags(flags as i32).open(path);
    let file = file.map_err(|e| unreadable(&e))?;
    let about = file.metadata().map_err(|e| unreadable(&e))?;
    if !about.is_file() {
        return Err(Fault::new("not-a-file", "not a regular file"));
    }
    Ok((file, about.len()))
}

/// Reads the first `N` bytes of a file, or all of a shorter one.
///
/// # Errors
/// `unreadable`
pub fn read_head<const N: usize>(file: &File) -> Result<Vec<u8>, Fault> {
    let mut head = Vec::new();
    read_on(file, &mut head, N)?;
    Ok(head)
}

/// Reads on until there are `wanted` bytes, or until the end of a shorter file.
///
/// # Errors
/// `unreadable`
pub fn read_on(mut file: &File, head: &mut Vec<u8>, wanted: usize) -> Result<(), Fault> {
    let mut filled = head.len();
    head.resize(wanted.max(filled), 0);
    while filled < wanted {
        match file.read(head.get_mut(filled..).unwrap_or_default()) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(unreadable(&e)),
        }
    }
    head.truncate(filled);
    Ok(())
}

/// A file that cannot be read, without its path.
pub fn unreadable(error: &std::io::Error) -> Fault {
    Fault::new("unreadable", format!("the file cannot be read: {}", error.kind()))
}

/// What the system says of a file. A file with the same stamp holds the same bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// Device and number of the file there.
    pub place: String,
    /// Size, and the times of the last changes of its content and of itself. The last of them no user can set.
    pub changes: String,
}

/// The stamp of a file now; `None` where the system does not say.
pub fn stamp(file: &File) -> Option<Stamp> {
    let m = file.metadata().ok()?;
    let changes = format!("{}:{}.{:09}:{}.{:09}", m.size(), m.mtime(), m.mtime_nsec(), m.ctime(), m.ctime_nsec());
    Some(Stamp { place: format!("{}:{}", m.dev(), m.ino()), changes })
}

/// Reads a whole file of `size` bytes, led by what has been read already.
///
/// # Errors
/// `too-large`, `unreadable`
pub fn read_rest(mut file: &File, size: u64, mut head: Vec<u8>) -> Result<Vec<u8>, Fault> {
    if size > MAX_FILE_BYTES {
        return Err(Fault::new("too-large", format!("the file has {size} bytes, at most {MAX_FILE_BYTES} are read")));
    }
    head.reserve_exact((size as usize).saturating_sub(head.len()) + 1);
    // In one piece: through `take` it would be read in small ones.
    file.read_to_end(&mut head).map_err(|e| unreadable(&e))?;
    Ok(head)
}

/// Reads a whole file.
///
/// # Errors
/// As [`open`] and [`read_rest`].
pub fn read(path: &Path) -> Result<Vec<u8>, Fault> {
    let (file, size) = open(path)?;
    read_rest(&file, size, Vec::new())
}

/// SHA-256 of a file, read piece by piece, as 64 hexadecimal digits.
///
/// # Errors
/// As [`open`].
pub fn sha256_of(path: &Path) -> Result<String, Fault> {
    let (mut file, _) = open(path)?;
    let mut hash = Sha256::new();
    let mut block = vec![0u8; 1 << 16];
    loop {
        match file.read(&mut block).map_err(|e| unreadable(&e))? {
            0 => return Ok(hex::encode(hash.finalize())),
            n => hash.update(block.get(..n).unwrap_or(&block)),
        }
    }
}

/// SHA-256 as 64 hexadecimal digits.
pub fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}
