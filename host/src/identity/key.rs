//! [`Key`]: the 32 random bytes from which a site makes every pseudonym, and the file they live in.
//!
//! The file holds exactly the 32 bytes and is readable by its owner alone. Whoever holds it can test guesses
//! ("is this pseudonym patient 4711?"), and whoever loses it can never again map new data to the same pseudonyms.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Length of a key in bytes.
pub const KEY_BYTES: usize = 32;

/// A site's pseudonym key. It is never printed: its `Debug` shows no byte of it.
#[derive(Clone)]
pub struct Key([u8; KEY_BYTES]);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(hidden)")
    }
}

/// Why a key file was refused or could not be made.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file to create is already there; a key is never overwritten.
    #[error("{path}: the file exists already; a key is never overwritten, since pseudonyms made with it would be lost")]
    Exists {
        /// The key file.
        path: PathBuf,
    },
    /// Not an ordinary file.
    #[error("{path}: expected an ordinary file with {KEY_BYTES} bytes")]
    NotAFile {
        /// The key file.
        path: PathBuf,
    },
    /// Group or others may read or write the file.
    #[error("{path}: the key file has mode {mode:04o}, but only its owner may have access; run: chmod 600 {path}")]
    TooOpen {
        /// The key file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Not exactly 32 bytes.
    #[error("{path}: a key has exactly {KEY_BYTES} bytes, this file has {found}")]
    WrongLength {
        /// The key file.
        path: PathBuf,
        /// Its length in bytes.
        found: u64,
    },
    /// Every byte is the same, so it is no random key.
    #[error("a key whose bytes are all the same is not random; make one with: gantry key new FILE")]
    NotRandom,
    /// The operating system gave no random bytes.
    #[error("the operating system gave no random bytes: {reason}")]
    NoRandomness {
        /// What the system said.
        reason: String,
    },
    /// Reading or writing failed.
    #[error("{path}: {source}")]
    Io {
        /// The key file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
}

impl Key {
    /// A key from its bytes; refuses bytes that are all the same.
    ///
    /// # Errors
    /// [`KeyError::NotRandom`].
    pub fn from_bytes(bytes: [u8; KEY_BYTES]) -> Result<Self, KeyError> {
        if bytes.iter().all(|&b| b == bytes[0]) { Err(KeyError::NotRandom) } else { Ok(Self(bytes)) }
    }

    /// A new key from the operating system's random source.
    ///
    /// # Errors
    /// [`KeyError::NoRandomness`].
    pub fn generate() -> Result<Self, KeyError> {
        let mut bytes = [0u8; KEY_BYTES];
        getrandom::fill(&mut bytes).map_err(|e| KeyError::NoRandomness { reason: e.to_string() })?;
        Self::from_bytes(bytes)
    }

    /// Makes a new key and writes it to `path` with mode 0600. Never overwrites, not even an empty file.
    ///
    /// # Errors
    /// [`KeyError::Exists`], [`KeyError::Io`] (for example a missing folder), [`KeyError::NoRandomness`].
    pub fn create(path: &Path) -> Result<Self, KeyError> {
        let io = |source| KeyError::Io { path: path.into(), source };
        let key = Self::generate()?;
        let mut file = match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
            Ok(file) => file,
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {
                return Err(KeyError::Exists { path: path.into() });
            }
            Err(e) => return Err(io(e)),
        };
        if let Err(e) = file.write_all(&key.0).and_then(|()| file.sync_all()) {
            // Half a key is worse than none: it would be refused later, and block a second try.
            drop(file);
            let _ = std::fs::remove_file(path);
            return Err(io(e));
        }
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(folder).and_then(|f| f.sync_all()).map_err(io)?;
        Ok(key)
    }

    /// Reads a key file.
    ///
    /// # Errors
    /// [`KeyError::NotAFile`], [`KeyError::TooOpen`], [`KeyError::WrongLength`], [`KeyError::NotRandom`],
    /// [`KeyError::Io`].
    pub fn load(path: &Path) -> Result<Self, KeyError> {
        let io = |source| KeyError::Io { path: path.into(), source };
        // Asked before opening: opening a named pipe would wait for a writer.
        if !std::fs::metadata(path).map_err(io)?.is_file() {
            return Err(KeyError::NotAFile { path: path.into() });
        }
        let mut file = File::open(path).map_err(io)?;
        let meta = file.metadata().map_err(io)?;
        let mode = meta.mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(KeyError::TooOpen { path: path.into(), mode });
        }
        if meta.len() != KEY_BYTES as u64 {
            return Err(KeyError::WrongLength { path: path.into(), found: meta.len() });
        }
        let mut bytes = [0u8; KEY_BYTES];
        file.read_exact(&mut bytes).map_err(io)?;
        Self::from_bytes(bytes)
    }

    /// The bytes, for the message authentication code only.
    pub(super) fn bytes(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn written(bytes: &[u8], mode: u32) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().expect("temporary folder");
        let path = dir.path().join("site.key");
        std::fs::write(&path, bytes).expect("write");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("chmod");
        (dir, path)
    }

    fn counting() -> [u8; KEY_BYTES] {
        std::array::from_fn(|i| i as u8)
    }

    #[test]
    fn a_new_key_is_private_loads_again_and_is_never_overwritten() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let path = dir.path().join("site.key");
        let made = Key::create(&path).expect("create");
        let meta = std::fs::metadata(&path).expect("metadata");
        assert_eq!(meta.len(), 32);
        assert_eq!(meta.mode() & 0o7777, 0o600);
        assert_eq!(Key::load(&path).expect("load").bytes(), made.bytes());
        assert!(matches!(Key::create(&path), Err(KeyError::Exists { .. })));
        assert_eq!(Key::load(&path).expect("load").bytes(), made.bytes());
    }

    #[test]
    fn two_keys_differ() {
        assert_ne!(Key::generate().expect("key").bytes(), Key::generate().expect("key").bytes());
    }

    #[test]
    fn a_key_that_others_may_read_or_write_is_refused() {
        for mode in [0o640, 0o604, 0o660, 0o606, 0o644, 0o620, 0o601] {
            let (_dir, path) = written(&counting(), mode);
            match Key::load(&path) {
                Err(KeyError::TooOpen { mode: found, .. }) => assert_eq!(found, mode),
                other => panic!("mode {mode:o}: {other:?}"),
            }
        }
        for mode in [0o600, 0o400] {
            let (_dir, path) = written(&counting(), mode);
            assert!(Key::load(&path).is_ok(), "mode {mode:o}");
        }
    }

    #[test]
    fn wrong_lengths_and_constant_bytes_are_refused() {
        for length in [0usize, 1, 31, 33, 64] {
            let (_dir, path) = written(&vec![7u8; length], 0o600);
            match Key::load(&path) {
                Err(KeyError::WrongLength { found, .. }) => assert_eq!(found, length as u64),
                other => panic!("{length}: {other:?}"),
            }
        }
        for byte in [0u8, 7, 255] {
            let (_dir, path) = written(&[byte; KEY_BYTES], 0o600);
            assert!(matches!(Key::load(&path), Err(KeyError::NotRandom)), "byte {byte}");
        }
    }

    #[test]
    fn a_folder_or_nothing_is_refused() {
        let dir = tempfile::tempdir().expect("temporary folder");
        assert!(matches!(Key::load(dir.path()), Err(KeyError::NotAFile { .. })));
        assert!(matches!(Key::load(&dir.path().join("absent")), Err(KeyError::Io { .. })));
        assert!(matches!(Key::create(&dir.path().join("absent/site.key")), Err(KeyError::Io { .. })));
    }

    #[test]
    fn debug_shows_no_byte() {
        assert_eq!(format!("{:?}", Key::from_bytes(counting()).expect("key")), "Key(hidden)");
    }
}
