//! [`FolderHashes`]: the sha256 of every file in a folder, and one digest over all of them.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use sha2::{Digest, Sha256};

/// The sha256 of every file below a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FolderHashes {
    /// Path relative to the folder, with `/` -> lower-case hex.
    pub files: BTreeMap<String, String>,
    /// sha256 over the lines `<hash>  <path>\n`, in order of the paths.
    pub digest: String,
}

impl FolderHashes {
    /// Hashes every file below `folder`.
    ///
    /// # Errors
    /// In words: a file that cannot be read, a name that is not UTF-8, or something that is neither file nor folder. A
    /// symbolic link is refused, because what it points to can change without the folder changing.
    pub fn of(folder: &Path) -> Result<Self, String> {
        let mut files = BTreeMap::new();
        for entry in walkdir::WalkDir::new(folder).follow_links(false) {
            let entry = entry.map_err(|e| e.to_string())?;
            let path = entry.path();
            if entry.file_type().is_dir() || entry.depth() == 0 {
                continue;
            }
            if !entry.file_type().is_file() {
                return Err(format!("{} is neither a file nor a folder", path.display()));
            }
            let relative = path.strip_prefix(folder).map_err(|e| e.to_string())?;
            let parts: Option<Vec<&str>> = relative.components().map(|c| c.as_os_str().to_str()).collect();
            let name = parts.ok_or_else(|| format!("{}: the name is not UTF-8", path.display()))?.join("/");
            files.insert(name, sha256_file(path)?);
        }
        let digest = Self::digest_of(&files);
        Ok(Self { files, digest })
    }

    /// The digest over a list of files and hashes.
    pub fn digest_of(files: &BTreeMap<String, String>) -> String {
        let mut all = Sha256::new();
        for (name, hash) in files {
            all.update(format!("{hash}  {name}\n"));
        }
        hex::encode(all.finalize())
    }
}

/// The sha256 of one file, lower-case hex.
///
/// # Errors
/// In words, where it cannot be read.
pub fn sha256_file(path: &Path) -> Result<String, String> {
    let say = |e: std::io::Error| format!("{}: {e}", path.display());
    let mut file = std::fs::File::open(path).map_err(say)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0_u8; 1 << 20];
    loop {
        let n = file.read(&mut buffer).map_err(say)?;
        if n == 0 {
            return Ok(hex::encode(hash.finalize()));
        }
        hash.update(buffer.get(..n).unwrap_or_default());
    }
}

/// The sha256 of bytes, lower-case hex.
pub fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}
