//! [`Checkpoint`]: a folder with a card and the files it names; [`Staging`]: writing one so that it is there whole or not at
//! all.

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
    pub fn install(checkpoints: &Path, card: Card, weights: &StateDict, replace: bool) -> Result<Self> {
        let mut staging = Staging::begin(checkpoints, &card.name, replace)?;
        staging.add(Self::WEIGHTS, &to_safetensors(weights)?)?;
        staging.finish(card)
    }
}

/// A checkpoint being written beside its place: it appears there complete, by [`Self::finish`], or not at all.
#[derive(Debug)]
pub struct Staging {
    /// Removed with everything in it when this value goes.
    staging: tempfile::TempDir,
    checkpoints: PathBuf,
    /// After `staging`: fields go in this order.
    _made: Option<Made>,
    name: String,
    replace: bool,
    files: Vec<CardFile>,
}

impl Staging {
    /// Begins `<checkpoints>/<name>`.
    ///
    /// # Errors
    /// [`Error::Exists`] if it is there and `replace` is false; with `replace`, a folder without a card is not touched.
    pub fn begin(checkpoints: &Path, name: &str, replace: bool) -> Result<Self> {
        if !Card::is_name(name) {
            return Err(Error::Card(format!("{name:?} cannot be a checkpoint's name")));
        }
        vacant(&checkpoints.join(name), replace)?;
        let made = (!checkpoints.exists()).then(|| Made(checkpoints.to_owned()));
        std::fs::create_dir_all(checkpoints).map_err(io(checkpoints))?;
        // The name begins with a dot, which no checkpoint's name does: what a crash leaves is never taken for one.
        let mut builder = tempfile::Builder::new();
        builder.prefix(".import-");
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o777)); // less the umask, like mkdir
        let staging = builder.tempdir_in(checkpoints).map_err(io(checkpoints))?;
        let new = staging.path().join(name);
        std::fs::create_dir(&new).map_err(io(&new))?;
        let (checkpoints, name) = (checkpoints.to_owned(), name.to_owned());
        Ok(Self { staging, checkpoints, _made: made, name, replace, files: Vec::new() })
    }

    /// Adds a file. `path` is relative, with `/`.
    ///
    /// # Errors
    /// If it cannot be written, or is there already.
    pub fn add(&mut self, path: &str, bytes: &[u8]) -> Result<()> {
        let file = CardFile { path: path.to_owned(), sha256: sha256_hex(bytes) };
        if let Some(problem) = file.misplaced() {
            return Err(Error::Card(problem));
        }
        let target = self.staging.path().join(&self.name).join(path);
        if let Some(parent) = target.parent() {
            std::fs::create_dir_all(parent).map_err(io(parent))?;
        }
        write_synced(&target, bytes)?;
        self.files.push(file);
        Ok(())
    }

    /// Writes the card, with `files` filled in, and moves everything into place.
    ///
    /// # Errors
    /// If the card is not valid or has another name, or somebody else has made the folder meanwhile.
    pub fn finish(self, mut card: Card) -> Result<Checkpoint> {
        if card.name != self.name {
            return Err(Error::Card(format!("calls itself `{}`, but its folder is `{}`", card.name, self.name)));
        }
        card.files = self.files.clone();
        let new = self.staging.path().join(&self.name);
        write_synced(&new.join(Card::FILE), card.to_toml()?.as_bytes())?;
        let folder = self.checkpoints.join(&self.name);
        let present = vacant(&folder, self.replace)?;
        let old = self.staging.path().join("replaced");
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
        std::fs::File::open(&self.checkpoints).and_then(|d| d.sync_all()).map_err(io(&self.checkpoints))?;
        Ok(Checkpoint { folder, card })
    }
}

/// A folder made for a checkpoint that may never come.
#[derive(Debug)]
struct Made(PathBuf);

impl Drop for Made {
    fn drop(&mut self) {
        // Refused by the system where the checkpoint, or anything else, is in it.
        std::fs::remove_dir(&self.0).unwrap_or(());
    }
}

/// Whether there is a checkpoint that may be replaced; an error where there is something that may not.
fn vacant(folder: &Path, replace: bool) -> Result<bool> {
    let present = folder.symlink_metadata().is_ok();
    if present && !replace {
        return Err(Error::Exists(folder.to_owned()));
    }
    if present && !folder.join(Card::FILE).is_file() {
        let problem = "it has no card.toml, so it is no checkpoint and is not replaced";
        return Err(Error::Card(problem.to_owned()).in_file(folder));
    }
    Ok(present)
}

fn write_synced(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = std::fs::File::create_new(path).map_err(io(path))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(io(path))
}
