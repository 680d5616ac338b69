//! Files that sinks emit: written into the case's staging folder under safe names, hashed, and on disk before the case is
//! committed. The disk works while what was written is audited.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};
use std::thread::JoinHandle;

use rustix::fs::Advice;
use sha2::{Digest, Sha256};

use super::failure::Failure;

/// A file of a finished case.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct OutputFile {
    /// Relative to the case's folder, `/`-separated.
    pub path: String,
    /// SHA-256 of its bytes.
    pub sha256: String,
    /// Bytes.
    pub bytes: u64,
}

/// Pieces of this many bytes go to disk while more are computed.
const LARGE: usize = 64 << 10;

/// The files of one case so far. Calls that work at the same time write different files at once.
pub struct SinkFiles {
    staging: PathBuf,
    /// `staging`, opened.
    folder: File,
    /// Hash and bytes of each file so far; `None` while a call writes into it.
    hashes: Mutex<BTreeMap<String, Option<(Sha256, u64)>>>,
}

impl SinkFiles {
    /// Files below `staging`, the case's own folder.
    ///
    /// # Errors
    /// An error of the environment.
    pub fn new(staging: &Path) -> Result<SinkFiles, Failure> {
        // Opened before anything is written: the system tells what could not be written since then (Linux 5.8).
        let folder = File::open(staging).map_err(|e| Failure::environment("opening the staging folder", &e))?;
        Ok(SinkFiles { staging: staging.to_owned(), folder, hashes: Mutex::default() })
    }

    /// Writes bytes to `<node>/<name>`; the same name again appends.
    ///
    /// # Errors
    /// A name that is not safe, a file that another call writes at the same time, or an error of the environment.
    pub fn write(&self, node: &str, name: &str, bytes: &[u8]) -> Result<(), Failure> {
        if !safe(name) || !safe(node) {
            return Err(Failure::host("unsafe-file-name", "a stage emitted a file under a name that is not safe"));
        }
        let folder = self.staging.join(node);
        std::fs::create_dir_all(&folder).map_err(|e| Failure::environment("making a folder for results", &e))?;
        let key = format!("{node}/{name}");
        let mut open = OpenOptions::new();
        let known = match self.hashes().entry(key.clone()).or_insert_with(|| Some(Default::default())).take() {
            Some(known) => known,
            None => return Err(Failure::host("file-in-use", "two calls write into one file at the same time")),
        };
        let (mut hash, len) = known;
        match len {
            0 => open.write(true).create(true).truncate(true),
            _ => open.append(true),
        };
        let file = open.open(folder.join(name)).and_then(|mut file| file.write_all(bytes).map(|()| file));
        let file = file.map_err(|e| Failure::environment("writing a result", &e))?;
        if bytes.len() >= LARGE {
            // Linux begins to write what is not needed soon; where it does not, the sync at the end has more to do.
            let _ = rustix::fs::fadvise(&file, 0, None, Advice::DontNeed);
        }
        hash.update(bytes);
        self.hashes().insert(key, Some((hash, len + bytes.len() as u64)));
        Ok(())
    }

    fn hashes(&self) -> MutexGuard<'_, BTreeMap<String, Option<(Sha256, u64)>>> {
        self.hashes.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Lists the files, and has all of them written to disk: they are there once [`Syncing::wait`] returns.
    ///
    /// # Errors
    /// An error of the environment.
    pub fn finish(&self) -> Result<(Vec<OutputFile>, Syncing), Failure> {
        let syncing = Syncing::begin(&self.folder)?;
        let hashes = std::mem::take(&mut *self.hashes());
        let mut list = Vec::with_capacity(hashes.len());
        for (path, known) in hashes {
            let (hash, bytes) = known.unwrap_or_default();
            list.push(OutputFile { path, sha256: hex::encode(hash.finalize()), bytes });
        }
        Ok((list, syncing))
    }
}

/// The disk at work.
pub struct Syncing {
    thread: JoinHandle<std::io::Result<()>>,
}

impl Syncing {
    /// One call for the whole file system: a study has thousands of files, and each would wait for the disk by itself.
    fn begin(folder: &File) -> Result<Syncing, Failure> {
        let folder = folder.try_clone().map_err(|e| Failure::environment("opening the staging folder", &e))?;
        let sync = move || rustix::fs::syncfs(&folder).map_err(std::io::Error::from);
        let thread = std::thread::Builder::new().name("sync".into()).spawn(sync);
        Ok(Syncing { thread: thread.map_err(|e| Failure::environment("starting a thread", &e))? })
    }

    /// Waits until everything is on disk that was written before.
    ///
    /// # Errors
    /// An error of the environment.
    pub fn wait(self) -> Result<(), Failure> {
        let ended = self.thread.join().unwrap_or_else(|_| Err(std::io::Error::other("the thread panicked")));
        ended.map_err(|e| Failure::environment("syncing results to disk", &e))
    }
}

/// `[A-Za-z0-9._-]{1,128}` without a leading dot.
fn safe(name: &str) -> bool {
    (1..=128).contains(&name.len())
        && !name.starts_with('.')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_leave_the_folder_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let files = SinkFiles::new(folder.path()).unwrap();
        for bad in ["../x", "a/b", "", ".hidden", "a b", "ä", "\0"] {
            assert_eq!(files.write("node", bad, b"x").unwrap_err().code, "unsafe-file-name", "{bad:?}");
        }
        files.write("node", "a.dcm", b"one").unwrap();
        files.write("node", "a.dcm", b"two").unwrap();
        let (list, syncing) = files.finish().unwrap();
        syncing.wait().unwrap();
        assert_eq!(list.len(), 1);
        assert_eq!((list[0].path.as_str(), list[0].bytes), ("node/a.dcm", 6));
        assert_eq!(list[0].sha256, hex::encode(Sha256::digest(b"onetwo")));
    }
}
