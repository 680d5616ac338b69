//! Writing a file so that its final name never stands over half of it: temporary name in the same folder, fsync,
//! rename, fsync of the folder.
//!
//! Works through an open handle of the folder (`openat`, `renameat`), so that exchanging the folder by a symlink while
//! a run is going on leads nowhere. Error texts name the file, never the path of the folder, which may carry names.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags};
use rustix::io::Errno;

/// Leads the name of every unfinished file; a sweep may delete what carries it.
pub const TEMPORARY_PREFIX: &str = ".gantry-tmp-";

/// Why a file could not be written, coarsely: it decides the exit code and what a user can do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteErrorKind {
    /// No space, quota used up, or file size limit reached.
    DiskFull,
    /// Permission denied or file system mounted read-only.
    Permission,
    /// The folder or the file is a symlink, or the file's name is taken by something that is no regular file.
    NotPlain,
    /// The name would leave the folder or is reserved.
    BadName,
    /// The folder does not exist (any more).
    Missing,
    /// Anything else, such as an input/output error of the device.
    Io,
}

/// A file that was not written. Whatever stood under its name before still does.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {name:?}: {reason}")]
pub struct WriteError {
    /// What kind of failure it is.
    pub kind: WriteErrorKind,
    /// The file's name, without its folder; empty for the folder itself.
    pub name: String,
    reason: String,
    #[source]
    source: Option<io::Error>,
}

impl WriteError {
    fn new(kind: WriteErrorKind, name: &str, reason: &str) -> Self {
        Self { kind, name: name.to_owned(), reason: reason.to_owned(), source: None }
    }

    fn from_errno(name: &str, doing: &str, errno: Errno) -> Self {
        let (kind, what) = match errno {
            Errno::NOSPC => (WriteErrorKind::DiskFull, "no space left on the disk".to_owned()),
            Errno::DQUOT => (WriteErrorKind::DiskFull, "the disk quota is used up".to_owned()),
            Errno::FBIG => (WriteErrorKind::DiskFull, "the file size limit is reached".to_owned()),
            Errno::ACCESS | Errno::PERM => (WriteErrorKind::Permission, "permission denied".to_owned()),
            Errno::ROFS => (WriteErrorKind::Permission, "the file system is read-only".to_owned()),
            Errno::LOOP => (WriteErrorKind::NotPlain, "symlinks are not followed".to_owned()),
            Errno::NOTDIR => (WriteErrorKind::NotPlain, "the folder is a symlink or no folder".to_owned()),
            Errno::ISDIR => (WriteErrorKind::NotPlain, "a folder has this name".to_owned()),
            Errno::NOENT => (WriteErrorKind::Missing, "the folder does not exist".to_owned()),
            other => (WriteErrorKind::Io, io::Error::from(other).to_string()),
        };
        let source = Some(io::Error::from(errno));
        Self { kind, name: name.to_owned(), reason: format!("{what} (while {doing})"), source }
    }
}

/// An open folder that files are written into.
#[derive(Debug)]
pub struct Folder {
    handle: OwnedFd,
}

impl Folder {
    /// Opens `dir`, which must exist and must not itself be a symlink (its parents may be).
    ///
    /// # Errors
    /// `NotPlain` for a symlink or a file, `Missing`, `Permission`, `Io`.
    pub fn open(dir: &Path) -> Result<Self, WriteError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let handle = retry(|| rustix::fs::openat(CWD, dir, flags, Mode::empty()))
            .map_err(|e| WriteError::from_errno("", "opening the folder", e))?;
        Ok(Self { handle })
    }

    /// Puts `bytes` under `name`. The file is complete and on the disk before the name appears; an older file of this
    /// name is replaced in one step. The *name* is only sure to survive a power cut after [`Folder::sync`].
    ///
    /// Mode 0640 less the umask.
    ///
    /// # Errors
    /// See [`WriteErrorKind`]; the temporary file is removed and an older file of this name is untouched.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<(), WriteError> {
        check_name(name)?;
        self.refuse_odd_target(name)?;
        let (temporary, file) = self.create_temporary(name)?;
        let done = write_all(&file, bytes)
            .map_err(|e| WriteError::from_errno(name, "writing", e))
            .and_then(|()| retry(|| rustix::fs::fsync(&file)).map_err(|e| WriteError::from_errno(name, "flushing", e)))
            .and_then(|()| {
                rustix::fs::renameat(&self.handle, temporary.as_str(), &self.handle, name)
                    .map_err(|e| WriteError::from_errno(name, "renaming", e))
            });
        if done.is_err() {
            // The first error counts; a temporary file that cannot be removed carries the prefix a sweep looks for.
            let _ = rustix::fs::unlinkat(&self.handle, temporary.as_str(), AtFlags::empty());
        }
        done
    }

    /// Makes the names written so far survive a power cut.
    ///
    /// # Errors
    /// `Io`, `DiskFull`.
    pub fn sync(&self) -> Result<(), WriteError> {
        retry(|| rustix::fs::fsync(&self.handle)).map_err(|e| WriteError::from_errno("", "flushing the folder", e))
    }

    /// A rename would replace a symlink, not follow it; but a run has no business where someone planted one.
    fn refuse_odd_target(&self, name: &str) -> Result<(), WriteError> {
        match rustix::fs::statat(&self.handle, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile => Ok(()),
            Ok(_) => Err(WriteError::new(
                WriteErrorKind::NotPlain,
                name,
                "something that is no regular file (a symlink, a folder or a device) has this name",
            )),
            Err(Errno::NOENT) => Ok(()),
            Err(e) => Err(WriteError::from_errno(name, "looking at the old file", e)),
        }
    }

    fn create_temporary(&self, name: &str) -> Result<(String, OwnedFd), WriteError> {
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR | Mode::RGRP;
        // A name left behind by a process that died and had our id is stepped over.
        loop {
            let n = COUNTER.fetch_add(1, Ordering::Relaxed);
            let temporary = format!("{TEMPORARY_PREFIX}{}-{n}", std::process::id());
            match retry(|| rustix::fs::openat(&self.handle, temporary.as_str(), flags, mode)) {
                Ok(file) => return Ok((temporary, file)),
                Err(Errno::EXIST) => {}
                Err(e) => return Err(WriteError::from_errno(name, "creating the temporary file", e)),
            }
        }
    }
}

/// Puts `bytes` under `dir/name`, all or nothing, and makes it survive a power cut. For many files in one folder,
/// [`Folder`] flushes the folder once.
///
/// # Errors
/// See [`WriteErrorKind`].
pub fn write_atomically(dir: &Path, name: &str, bytes: &[u8]) -> Result<(), WriteError> {
    let folder = Folder::open(dir)?;
    folder.write(name, bytes)?;
    folder.sync()
}

/// One component, not reserved.
fn check_name(name: &str) -> Result<(), WriteError> {
    let bad = name.is_empty()
        || name.len() > 255
        || name == "."
        || name == ".."
        || name.starts_with(TEMPORARY_PREFIX)
        || name.contains(['/', '\0']);
    if bad {
        return Err(WriteError::new(WriteErrorKind::BadName, name, "a file name must be one plain path component"));
    }
    Ok(())
}

fn write_all(file: &OwnedFd, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        let n = retry(|| rustix::io::write(file, bytes))?;
        if n == 0 {
            return Err(Errno::IO);
        }
        bytes = bytes.get(n..).unwrap_or_default();
    }
    Ok(())
}

/// Repeats a call that a signal interrupted.
fn retry<T>(mut call: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            other => return other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn writes_and_replaces() {
        let dir = tempfile::tempdir().unwrap();
        write_atomically(dir.path(), "a.dcm", b"one").unwrap();
        write_atomically(dir.path(), "a.dcm", b"two").unwrap();
        assert_eq!(std::fs::read(dir.path().join("a.dcm")).unwrap(), b"two");
        assert_eq!(names(dir.path()), ["a.dcm"]);
        let mode = std::fs::metadata(dir.path().join("a.dcm")).unwrap().permissions().mode();
        assert_eq!(mode & 0o137, 0, "no rights for others, no execution: {mode:o}");
    }

    #[test]
    fn names_stay_inside() {
        let dir = tempfile::tempdir().unwrap();
        let long = "x".repeat(256);
        for name in ["", ".", "..", "../x", "a/b", "/etc/x", "a\0b", ".gantry-tmp-1-1", &long] {
            assert_eq!(write_atomically(dir.path(), name, b"x").unwrap_err().kind, WriteErrorKind::BadName, "{name:?}");
        }
        assert!(names(dir.path()).is_empty());
    }

    #[test]
    fn symlinks_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (real, link) = (dir.path().join("real"), dir.path().join("link"));
        std::fs::create_dir(&real).unwrap();
        symlink(&real, &link).unwrap();
        assert_eq!(write_atomically(&link, "a", b"x").unwrap_err().kind, WriteErrorKind::NotPlain);
        std::fs::write(dir.path().join("victim"), b"old").unwrap();
        symlink(dir.path().join("victim"), real.join("a")).unwrap();
        assert_eq!(write_atomically(&real, "a", b"x").unwrap_err().kind, WriteErrorKind::NotPlain);
        assert_eq!(std::fs::read(dir.path().join("victim")).unwrap(), b"old");
        std::fs::create_dir(real.join("b")).unwrap();
        assert_eq!(write_atomically(&real, "b", b"x").unwrap_err().kind, WriteErrorKind::NotPlain);
        assert_eq!(names(&real), ["a", "b"]);
    }

    #[test]
    fn a_swapped_folder_leads_nowhere() {
        let dir = tempfile::tempdir().unwrap();
        let (real, other) = (dir.path().join("real"), dir.path().join("other"));
        std::fs::create_dir(&real).unwrap();
        std::fs::create_dir(&other).unwrap();
        let folder = Folder::open(&real).unwrap();
        std::fs::rename(&real, dir.path().join("moved")).unwrap();
        symlink(&other, &real).unwrap();
        folder.write("a", b"x").unwrap();
        assert!(names(&other).is_empty());
        assert_eq!(names(&dir.path().join("moved")), ["a"]);
    }

    #[test]
    fn missing_folder_is_named_without_its_path() {
        let error = write_atomically(Path::new("/nonexistent/Meier^Anna"), "a", b"x").unwrap_err();
        assert_eq!(error.kind, WriteErrorKind::Missing);
        assert!(!error.to_string().contains("Meier"), "{error}");
    }

    /// `/dev/full` answers every write with ENOSPC; the loop that fills files is driven with it directly.
    #[test]
    fn a_full_disk_is_told_apart() {
        let full = rustix::fs::openat(CWD, "/dev/full", OFlags::WRONLY, Mode::empty()).unwrap();
        let errno = write_all(&full, b"x").unwrap_err();
        assert_eq!(WriteError::from_errno("a", "writing", errno).kind, WriteErrorKind::DiskFull);
        assert_eq!(WriteError::from_errno("a", "writing", Errno::ROFS).kind, WriteErrorKind::Permission);
        assert_eq!(WriteError::from_errno("a", "writing", Errno::ACCESS).kind, WriteErrorKind::Permission);
        assert_eq!(WriteError::from_errno("a", "writing", Errno::IO).kind, WriteErrorKind::Io);
    }
}
