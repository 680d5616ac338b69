//! The output folder of a run: its lock, its staging area, and the one way a finished case comes into place.

use std::fs::{DirBuilder, File, OpenOptions};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

/// The locked output folder.
pub struct Output {
    /// Absolute.
    pub folder: PathBuf,
    _lock: File,
}

/// Why the folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// Another run holds it.
    #[error("another run is writing to this output folder")]
    Locked,
    /// The system refuses.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: &'static str,
        /// The system's error.
        source: std::io::Error,
    },
}

fn io(what: &'static str) -> impl FnOnce(std::io::Error) -> OutputError {
    move |source| OutputError::Io { what, source }
}

impl Output {
    /// Makes and locks `folder`, and clears what an interrupted run left in its staging area.
    ///
    /// # Errors
    /// If another run holds it, or the system refuses.
    pub fn open(folder: &Path) -> Result<Output, OutputError> {
        std::fs::create_dir_all(folder).map_err(io("making the output folder"))?;
        let folder = folder.canonicalize().map_err(io("opening the output folder"))?;
        let staging = folder.join(".staging");
        if std::fs::symlink_metadata(&staging).is_ok_and(|m| !m.is_dir()) {
            let wrong = std::io::Error::other(".staging is no folder");
            return Err(OutputError::Io { what: "opening the output folder", source: wrong });
        }
        DirBuilder::new().recursive(true).mode(0o700).create(&staging).map_err(io("making the staging area"))?;
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(staging.join("lock"));
        let lock = lock.map_err(io("opening the lock"))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|e| match e {
            rustix::io::Errno::WOULDBLOCK => OutputError::Locked,
            other => OutputError::Io { what: "locking the output folder", source: other.into() },
        })?;
        for entry in std::fs::read_dir(&staging).map_err(io("reading the staging area"))? {
            let path = entry.map_err(io("reading the staging area"))?.path();
            if path.is_dir() {
                std::fs::remove_dir_all(&path).map_err(io("clearing the staging area"))?;
            } else if path.file_name().is_some_and(|n| n != "lock") {
                std::fs::remove_file(&path).map_err(io("clearing the staging area"))?;
            }
        }
        Ok(Output { folder, _lock: lock })
    }

    /// A fresh staging folder for a case.
    ///
    /// # Errors
    /// The system's.
    pub fn stage(&self, case: &str) -> std::io::Result<PathBuf> {
        let folder = self.scratch(case);
        if folder.exists() {
            std::fs::remove_dir_all(&folder)?;
        }
        DirBuilder::new().mode(0o750).create(&folder)?;
        Ok(folder)
    }

    /// Where a file or a case of the staging area lies.
    pub fn scratch(&self, name: &str) -> PathBuf {
        self.folder.join(".staging").join(name)
    }

    /// The finished case comes into place: a rename in the same file system, then the folder is synced. What an earlier
    /// run left under the name goes out of the way in one rename too, so the name never shows a mixture.
    ///
    /// # Errors
    /// The system's.
    pub fn commit(&self, case: &str) -> std::io::Result<()> {
        let place = self.folder.join(case);
        let old = self.scratch(&format!("old-{case}"));
        if place.symlink_metadata().is_ok() {
            std::fs::rename(&place, &old)?;
        }
        std::fs::rename(self.scratch(case), &place)?;
        File::open(&self.folder)?.sync_all()?;
        if old.exists() {
            std::fs::remove_dir_all(&old)?;
        }
        Ok(())
    }

    /// What a failed case left in staging goes; what stands under its final name from an earlier run goes too, because it
    /// no longer belongs to these inputs.
    ///
    /// # Errors
    /// The system's.
    pub fn discard(&self, case: &str) -> std::io::Result<()> {
        for folder in [self.scratch(case), self.folder.join(case)] {
            match std::fs::remove_dir_all(&folder) {
                Ok(()) => {}
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Writes a document of the run atomically.
    ///
    /// # Errors
    /// The system's.
    pub fn write(&self, name: &str, bytes: &[u8]) -> std::io::Result<()> {
        let temporary = self.scratch(&format!("{name}.new"));
        {
            use std::io::Write;
            let mut file = File::create(&temporary)?;
            file.write_all(bytes)?;
            file.sync_all()?;
        }
        std::fs::rename(&temporary, self.folder.join(name))?;
        File::open(&self.folder)?.sync_all()
    }

    /// The folder for what only the site may read (mode 0700).
    ///
    /// # Errors
    /// The system's.
    pub fn private(&self) -> std::io::Result<PathBuf> {
        let folder = self.folder.join("private");
        match DirBuilder::new().mode(0o700).create(&folder) {
            Ok(()) => Ok(folder),
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => Ok(folder),
            Err(e) => Err(e),
        }
    }
}
