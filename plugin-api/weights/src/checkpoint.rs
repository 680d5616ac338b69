//! [`Checkpoint`]: a folder with a card and the files it names; writing one so that it is there whole or not at all.

use std::io::Write;
use std::path::{Path, PathBuf};

use crate::card::{Card, CardFile, VerifiedFile, sha256_hex};
use crate::error::{Error, Result, io};
use crate::safetensors_file::to_safetensors;
use crate::state::StateDict;

/// A card in its folder.
#[derive(Debug, Clone, PartialEq)]
pub struct Checkpoint {
    /// The folder.
    pub folder: PathBuf,
    /// Its card.
    pub card: Card,
}

impl Checkpoint {
    /// The weights' file in an imported checkpoint.
    pub const WEIGHTS: &str = "weights.safetensors";

    /// Opens a folder by its card. Nothing is hashed yet.
    ///
    /// # Errors
    /// As [`Card::load`]; also if the folder is not called like the card.
    pub fn open(folder: impl Into<PathBuf>) -> Result<Self> {
        let folder = folder.into();
        let card = Card::load(&folder)?;
        // Pipelines find a checkpoint by its folder, manifests call it by its card: the two must agree.
        match folder.file_name().and_then(|n| n.to_str()) {
            Some(name) if name != card.name && !matches!(name, "." | "..") => {
                let problem = format!("calls itself `{}`, but its folder is `{name}`", card.name);
                Err(Error::Card(problem).in_file(&folder.join(Card::FILE)))
            }
            _ => Ok(Self { folder, card }),
        }
    }

    /// Hashes all files: see [`Card::verify`].
    ///
    /// # Errors
    /// As [`Card::verify`].
    pub fn verify(&self) -> Result<Vec<VerifiedFile>> {
        self.card.verify(&self.folder)
    }

    /// Reads and verifies one file: see [`Card::read_file`].
    ///
    /// # Errors
    /// As [`Card::read_file`].
    pub fn read_file(&self, file: &str) -> Result<Vec<u8>> {
        self.card.read_file(&self.folder, file)
    }

    /// Writes `<checkpoints>/<card.name>/{weights.safetensors, card.toml}`, with the card's `files` filled in. The folder
    /// appears complete or not at all.
    ///
    /// # Errors
    /// [`Error::Exists`] if it is there and `replace` is false; with `replace`, a folder without a card is not touched.
    pub fn install(checkpoints: &Path, mut card: Card, weights: &StateDict, replace: bool) -> Result<Self> {
        let bytes = to_safetensors(weights)?;
        card.files = vec![CardFile { path: Self::WEIGHTS.to_owned(), sha256: sha256_hex(&bytes) }];
        let text = card.to_toml()?;
        let folder = checkpoints.join(&card.name);
        let present = folder.symlink_metadata().is_ok();
        if present && !replace {
            return Err(Error::Exists(folder));
        }
        if present && !folder.join(Card::FILE).is_file() {
            return Err(Error::Card("it has no card.toml, so it is no checkpoint and is not replaced".to_owned())
                .in_file(&folder));
        }
        std::fs::create_dir_all(checkpoints).map_err(io(checkpoints))?;
        // The name begins with a dot, which no checkpoint's name does: what a crash leaves is never taken for one.
        let mut builder = tempfile::Builder::new();
        builder.prefix(".import-");
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o777)); // less the umask, like mkdir
        let staging = builder.tempdir_in(checkpoints).map_err(io(checkpoints))?;
        let new = staging.path().join(&card.name);
        std::fs::create_dir(&new).map_err(io(&new))?;
        write_synced(&new.join(Self::WEIGHTS), &bytes)?;
        write_synced(&new.join(Card::FILE), text.as_bytes())?;
        let old = staging.path().join("replaced");
        if present {
            std::fs::rename(&folder, &old).map_err(io(&folder))?;
        }
        // If somebody else made the folder meanwhile, renaming onto it fails: it is not empty.
        if let Err(error) = std::fs::rename(&new, &folder) {
            if present {
                std::fs::rename(&old, &folder).map_err(io(&folder))?;
            }
            return Err(io(&folder)(error));
        }
        #[cfg(unix)] // elsewhere a folder cannot be opened
        std::fs::File::open(checkpoints).and_then(|d| d.sync_all()).map_err(io(checkpoints))?;
        Ok(Self { folder, card })
    }
}

fn write_synced(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = std::fs::File::create_new(path).map_err(io(path))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(io(path))
}
