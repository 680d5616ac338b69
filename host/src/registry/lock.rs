//! [`Lock`]: `plugins.lock`, the sha256 of every file of every plugin that may run on this machine.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::hashes::FolderHashes;
use super::{PluginFolder, Registry, Site};

/// `plugins.lock`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lock {
    /// Always 1.
    pub lock: u32,
    /// The pinned plugins, by name.
    #[serde(default)]
    pub plugin: Vec<Pinned>,
}

/// One pinned plugin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pinned {
    /// `[plugin] id`.
    pub name: String,
    /// `[plugin] version`.
    pub version: String,
    /// `[plugin] abi`.
    pub abi: u32,
    /// Digest over `files`.
    pub sha256: String,
    /// Path relative to the plugin's folder -> sha256.
    pub files: BTreeMap<String, String>,
}

impl Lock {
    /// Pins every plugin of the registry that is in use; of several with one id the first found.
    ///
    /// # Errors
    /// In words, where a folder cannot be hashed.
    pub fn of(registry: &Registry) -> Result<Self, String> {
        let mut pinned: BTreeMap<&str, Pinned> = BTreeMap::new();
        for plugin in &registry.plugins {
            if !pinned.contains_key(plugin.manifest.id.as_str()) {
                pinned.insert(&plugin.manifest.id, Pinned::of(plugin)?);
            }
        }
        Ok(Self { lock: 1, plugin: pinned.into_values().collect() })
    }

    /// Reads a lock file.
    ///
    /// # Errors
    /// In words.
    pub fn read(path: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
        let lock: Self = toml::from_str(&text).map_err(|e| format!("{}: {e}", path.display()))?;
        if lock.lock != 1 {
            return Err(format!("{}: this version of Gantry reads `lock = 1`", path.display()));
        }
        for plugin in &lock.plugin {
            if FolderHashes::digest_of(&plugin.files) != plugin.sha256 {
                return Err(format!("{}: the digest of `{}` does not fit its files", path.display(), plugin.name));
            }
        }
        Ok(lock)
    }

    /// Writes the lock file: a temporary name, then a rename.
    ///
    /// # Errors
    /// In words.
    pub fn write(&self, path: &Path) -> Result<(), String> {
        let say = |e: std::io::Error| format!("{}: {e}", path.display());
        let body = toml::to_string(self).map_err(|e| e.to_string())?;
        let text = format!("# Written by `gantry plugins lock`: pins the plugins of this machine.\n{body}");
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut file = tempfile::NamedTempFile::new_in(folder).map_err(say)?;
        std::io::Write::write_all(&mut file, text.as_bytes()).map_err(say)?;
        file.as_file().sync_all().map_err(say)?;
        file.persist(path).map_err(|e| say(e.error))?;
        Ok(())
    }

    /// Where the lock file lies: `given`, else beside the site document, else in the working folder.
    pub fn place(given: Option<&Path>, site: &Site) -> PathBuf {
        let beside = site.path.as_deref().and_then(Path::parent).map(|p| p.join("plugins.lock"));
        given.map(Path::to_owned).or(beside).unwrap_or_else(|| PathBuf::from("plugins.lock"))
    }

    /// The entry for a plugin.
    pub fn pinned(&self, id: &str) -> Option<&Pinned> {
        self.plugin.iter().find(|p| p.name == id)
    }
}

impl Pinned {
    /// The entry for `plugin` as it is on disk now.
    ///
    /// # Errors
    /// In words, where the folder cannot be hashed.
    pub fn of(plugin: &PluginFolder) -> Result<Self, String> {
        let hashes = plugin.hashes().map_err(str::to_owned)?;
        Ok(Self {
            name: plugin.manifest.id.clone(),
            version: plugin.manifest.version.clone(),
            abi: plugin.manifest.abi,
            sha256: hashes.digest.clone(),
            files: hashes.files.clone(),
        })
    }

    /// How the files now differ from the pinned ones: `changed`, `missing` and `added` with their paths, in order.
    pub fn differences(&self, now: &FolderHashes) -> Vec<String> {
        let mut out = Vec::new();
        for (name, hash) in &self.files {
            match now.files.get(name) {
                None => out.push(format!("missing {name}")),
                Some(other) if other != hash => out.push(format!("changed {name}")),
                Some(_) => {}
            }
        }
        out.extend(now.files.keys().filter(|n| !self.files.contains_key(*n)).map(|n| format!("added {n}")));
        out
    }
}
