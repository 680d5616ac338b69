//! [`Card`]: `card.toml`, the document beside a checkpoint's weights. It says what they are, which files they are in, and
//! what joins the type check of a pipeline.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::{Component, Path};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::{Error, Result, io};

/// The largest card read, in bytes.
const MAX_CARD_BYTES: u64 = 1 << 20;

/// What a network's output is to a reader; decides the label written into the images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Nature {
    /// Made by the network: no scanner measured it.
    Synthetic,
    /// A measured image, improved.
    Enhanced,
    /// Computed from a measured image.
    Derived,
}

/// How Hounsfield units become the network's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Normalisation {
    /// The window, linearly, to [-1, 1].
    #[default]
    Linear,
    /// The published training code's soft squeeze of values near the window's ends.
    Squeezed,
}

/// `[run]`: what the weights were trained to see, beyond the caps, and what they may be run with.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunSettings {
    /// How the input was normalised.
    #[serde(default)]
    pub normalisation: Normalisation,
    /// Rows and columns every slice is resized to; empty = the slice's own size.
    #[serde(default)]
    pub resize: Vec<usize>,
    /// Permission to compute in int8, with what that needs; absent = not permitted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub int8: Option<Int8Settings>,
}

/// `[run.int8]`: what was measured on calibration images, so that the network may run in int8.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Int8Settings {
    /// Layer (the key of its weights without `.weight`) to the largest absolute value of what enters it; finite, above 0.
    /// A layer that is not named stays in a higher precision.
    pub activations: BTreeMap<String, f32>,
}

impl Int8Settings {
    /// Why the table cannot be used.
    fn fault(&self) -> Option<String> {
        if self.activations.is_empty() {
            return Some("`run.int8.activations` is empty; it names at least one layer".to_owned());
        }
        let bad = self.activations.iter().find(|(layer, max)| layer.is_empty() || !max.is_finite() || **max <= 0.0)?;
        Some(format!(
            "`run.int8.activations` says {} for layer {:?}; a finite number above 0 is expected",
            bad.1, bad.0
        ))
    }
}

/// `[[files]]`: one file of the checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CardFile {
    /// Path relative to the card's folder, with `/`; never outside it.
    pub path: String,
    /// SHA-256 of the file, 64 lower-case hexadecimal digits.
    pub sha256: String,
}

/// The document `card.toml`. Unknown keys are errors, except inside `[caps]`, whose keys the host's type check knows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Card {
    /// Version of the document: 1.
    pub card: u32,
    /// Name by which pipelines ask for it: `[A-Za-z0-9._-]{1,64}`, no leading dot.
    pub name: String,
    /// Name of the architecture (`arch/<name>.toml` of the plugin that runs it).
    pub architecture: String,
    /// One line for a reader.
    pub summary: String,
    /// Licence of the weights.
    pub licence: String,
    /// Pipeline digest, data description, command.
    pub trained_with: String,
    /// A toy runs on phantoms only, unless it is explicitly allowed.
    pub toy: bool,
    /// What the output is.
    pub nature: Nature,
    /// What it may be used for.
    pub intended_use: String,
    /// All files, `weights.safetensors` first.
    pub files: Vec<CardFile>,
    /// Capabilities by port (`abi-v1` B2, cap keys).
    #[serde(default)]
    pub caps: BTreeMap<String, toml::Table>,
    /// How it is to be run.
    #[serde(default)]
    pub run: RunSettings,
}

/// A file of a card whose content has been compared with the card.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedFile {
    /// Path relative to the card's folder.
    pub path: String,
    /// Its SHA-256, lower-case hexadecimal.
    pub sha256: String,
    /// Its size in bytes.
    pub bytes: u64,
}

impl Card {
    /// The file's name.
    pub const FILE: &str = "card.toml";

    /// Reads `card.toml` in `folder`. The files it names are not opened: see [`Self::verify`] and [`Self::read_file`].
    ///
    /// # Errors
    /// If it is missing, larger than 1 MiB, not valid, or has unknown keys.
    pub fn load(folder: impl AsRef<Path>) -> Result<Self> {
        let path = folder.as_ref().join(Self::FILE);
        let length = std::fs::metadata(&path).map_err(io(&path))?;
        if !length.is_file() || length.len() > MAX_CARD_BYTES {
            return Err(Error::Card("not a regular file of at most 1 MiB".to_owned()).in_file(&path));
        }
        let text = std::fs::read_to_string(&path).map_err(io(&path))?;
        Self::parse(&text).map_err(|e| e.in_file(&path))
    }

    /// Reads a card's text.
    ///
    /// # Errors
    /// If it is not TOML, lacks a key, has an unknown one, or a value is not permitted.
    pub fn parse(text: &str) -> Result<Self> {
        let card: Self = toml::from_str(text).map_err(|e| Error::Card(e.to_string().trim_end().to_owned()))?;
        card.validate()?;
        Ok(card)
    }

    /// Reads what [`Self::to_json`] wrote: how a stage gets its card.
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub fn from_json(json: &[u8]) -> Result<Self> {
        let card: Self = serde_json::from_slice(json).map_err(|e| Error::Card(e.to_string()))?;
        card.validate()?;
        Ok(card)
    }

    /// The card as one JSON object with the same keys: `card.json`.
    ///
    /// # Errors
    /// If a cap holds a value JSON cannot express.
    pub fn to_json(&self) -> Result<String> {
        serde_json::to_string(self).map_err(|e| Error::Card(e.to_string()))
    }

    /// The card as TOML.
    ///
    /// # Errors
    /// If the card is not valid.
    pub fn to_toml(&self) -> Result<String> {
        self.validate()?;
        toml::to_string(self).map_err(|e| Error::Card(e.to_string()))
    }

    /// SHA-256 over the card's content, and through `files` over the weights: what a run's manifest records. The layout and
    /// comments of the document do not change it.
    ///
    /// # Errors
    /// As [`Self::to_json`].
    pub fn digest(&self) -> Result<String> {
        Ok(sha256_hex(self.to_json()?.as_bytes()))
    }

    /// Hashes every file in `folder` and compares it with the card. Files are streamed.
    ///
    /// # Errors
    /// For the first file that is missing, not a regular file, empty, or not the one described.
    pub fn verify(&self, folder: impl AsRef<Path>) -> Result<Vec<VerifiedFile>> {
        let mut verified = Vec::with_capacity(self.files.len());
        for file in &self.files {
            let path = folder.as_ref().join(&file.path);
            let mut open = open_regular(&path)?;
            let mut hash = Sha256::new();
            let mut bytes = 0u64;
            let mut buffer = vec![0u8; 1 << 16];
            loop {
                let n = open.read(&mut buffer).map_err(io(&path))?;
                let Some(read) = buffer.get(..n).filter(|r| !r.is_empty()) else { break };
                hash.update(read);
                bytes += n as u64;
            }
            file.compare(&hex::encode(hash.finalize()), bytes).map_err(|e| e.in_file(&path))?;
            verified.push(VerifiedFile { path: file.path.clone(), sha256: file.sha256.clone(), bytes });
        }
        Ok(verified)
    }

    /// Reads one of the card's files and proves that the bytes returned are those the card describes.
    ///
    /// # Errors
    /// If the card names no such file, or it is missing or another one.
    pub fn read_file(&self, folder: impl AsRef<Path>, file: &str) -> Result<Vec<u8>> {
        let Some(entry) = self.files.iter().find(|f| f.path == file) else {
            let names: Vec<&str> = self.files.iter().map(|f| f.path.as_str()).collect();
            return Err(Error::Card(format!("{} names no file `{file}`; it names: {}", self.name, names.join(", "))));
        };
        let path = folder.as_ref().join(&entry.path);
        let mut bytes = Vec::new();
        open_regular(&path)?.read_to_end(&mut bytes).map_err(io(&path))?;
        entry.compare(&sha256_hex(&bytes), bytes.len() as u64).map_err(|e| e.in_file(&path))?;
        Ok(bytes)
    }

    /// Whether `name` may be a checkpoint's name: `[A-Za-z0-9._-]{1,64}` and no leading dot.
    pub fn is_name(name: &str) -> bool {
        (1..=64).contains(&name.len())
            && !name.starts_with('.')
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
    }

    fn validate(&self) -> Result<()> {
        let wrong = |problem: String| Err(Error::Card(problem));
        if self.card != 1 {
            return wrong(format!("`card = {}`; this program reads 1", self.card));
        }
        for (key, name) in [("name", &self.name), ("architecture", &self.architecture)] {
            if !Self::is_name(name) {
                return wrong(format!("`{key}` is {name:?}; 1 to 64 of A-Z a-z 0-9 . _ - are expected, no dot first"));
            }
        }
        if !(self.run.resize.is_empty() || self.run.resize.len() == 2 && !self.run.resize.contains(&0)) {
            return wrong(format!("`run.resize` is {:?}; [] or [rows, columns] is expected", self.run.resize));
        }
        if let Some(fault) = self.run.int8.as_ref().and_then(Int8Settings::fault) {
            return wrong(fault);
        }
        if self.files.is_empty() {
            return wrong("`files` is empty".to_owned());
        }
        let mut seen = BTreeSet::new();
        for file in &self.files {
            if let Some(problem) = file.misplaced() {
                return wrong(problem);
            }
            if !seen.insert(&file.path) {
                return wrong(format!("file {:?} is named twice", file.path));
            }
            let digits = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
            if file.sha256.len() != 64 || !file.sha256.bytes().all(digits) {
                return wrong(format!("file {:?}: `sha256` takes 64 lower-case hexadecimal digits", file.path));
            }
        }
        Ok(())
    }
}

impl CardFile {
    /// Why its path is not one inside the card's folder.
    pub(crate) fn misplaced(&self) -> Option<String> {
        let plain = Path::new(&self.path).components().all(|c| matches!(c, Component::Normal(_)));
        let inside =
            plain && !self.path.is_empty() && !self.path.contains(['\\', '\0', ':']) && self.path != Card::FILE;
        (!inside).then(|| format!("file {:?}: a path inside the card's folder is expected", self.path))
    }

    fn compare(&self, found: &str, bytes: u64) -> Result<()> {
        if bytes == 0 {
            return Err(Error::Malformed("the file is empty".to_owned()));
        }
        if found != self.sha256 {
            return Err(Error::WrongHash {
                file: self.path.clone(),
                expected: self.sha256.clone(),
                found: found.to_owned(),
            });
        }
        Ok(())
    }
}

/// Lower-case hexadecimal SHA-256.
pub(crate) fn sha256_hex(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

fn open_regular(path: &Path) -> Result<std::fs::File> {
    // Asked first: opening a pipe would wait for a writer.
    if !std::fs::metadata(path).map_err(io(path))?.is_file() {
        return Err(Error::Unsupported("not a regular file".to_owned()).in_file(path));
    }
    std::fs::File::open(path).map_err(io(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = r#"
card         = 1
name         = "ducosy-soft"
architecture = "ducosy-generator"     # a comment
summary      = "Soft-tissue generator, NCCT to CECT"
licence      = "unknown"
trained_with = "pipeline digest, data description, command"
toy          = false
nature       = "synthetic"
intended_use = "research only"

[[files]]
path   = "weights.safetensors"
sha256 = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"

[caps.image]
quantity = "normalized"
window   = [-150.0, 250.0]
modality = "CT"
[caps.masks]
names    = []
[caps.out]
quantity = "normalized"
[run]
normalisation = "linear"
resize        = []
"#;

    #[test]
    fn the_normative_example_reads_and_survives_toml_and_json() {
        let card = Card::parse(EXAMPLE).unwrap();
        assert_eq!(card.nature, Nature::Synthetic);
        assert_eq!(card.caps["image"]["window"].as_array().unwrap().len(), 2);
        assert_eq!(Card::parse(&card.to_toml().unwrap()).unwrap(), card);
        let json = card.to_json().unwrap();
        assert!(json.contains(r#""window":[-150.0,250.0]"#), "{json}");
        assert_eq!(Card::from_json(json.as_bytes()).unwrap(), card);
        let spaced = Card::parse(&EXAMPLE.replace("\n\n", "\n\n\n")).unwrap();
        assert_eq!(card.digest().unwrap(), spaced.digest().unwrap());
    }

    #[test]
    fn int8_is_permitted_by_a_table_of_its_own() {
        assert_eq!(Card::parse(EXAMPLE).unwrap().run.int8, None);
        let table = "\n[run.int8]\nactivations = { \"model.1\" = 1.0, \"model.10.conv_block.1\" = 37.5 }\n";
        let card = Card::parse(&format!("{EXAMPLE}{table}")).unwrap();
        let int8 = card.run.int8.as_ref().unwrap();
        assert_eq!(int8.activations["model.10.conv_block.1"], 37.5);
        assert_eq!(Card::parse(&card.to_toml().unwrap()).unwrap(), card);
        assert_eq!(Card::from_json(card.to_json().unwrap().as_bytes()).unwrap(), card);
        assert_ne!(card.digest().unwrap(), Card::parse(EXAMPLE).unwrap().digest().unwrap());
        for (wrong, says) in [
            ("activations = {}", "at least one layer"),
            ("activations = { a = 0.0 }", "above 0"),
            ("activations = { a = -1.0 }", "above 0"),
            ("activations = { a = nan }", "above 0"),
            ("activations = { a = 1e300 }", "finite"),
            ("activations = { a = \"x\" }", "invalid type"),
            ("activation = { a = 1.0 }", "unknown field `activation`"),
            ("", "missing field `activations`"),
        ] {
            let error = Card::parse(&format!("{EXAMPLE}\n[run.int8]\n{wrong}\n")).unwrap_err().to_string();
            assert!(error.contains(says), "{wrong}: {error}");
        }
    }

    #[test]
    fn wrong_cards_are_refused() {
        for (from, to, says) in [
            ("toy          = false", "toy = false\ntoyy = 1", "unknown field `toyy`"),
            ("toy          = false", "", "missing field `toy`"),
            ("card         = 1", "card = 2", "this program reads 1"),
            ("resize        = []", "resize = [512]", "[rows, columns]"),
            ("resize        = []", "resize = []\nprecision = 1", "unknown field `precision`"),
            ("\"linear\"", "\"cubic\"", "unknown variant `cubic`"),
            ("\"synthetic\"", "\"real\"", "unknown variant `real`"),
            ("\"ducosy-soft\"", "\"../x\"", "no dot first"),
            ("\"weights.safetensors\"", "\"../weights.safetensors\"", "inside the card's folder"),
            ("\"weights.safetensors\"", "\"/etc/passwd\"", "inside the card's folder"),
            ("\"weights.safetensors\"", "\"card.toml\"", "inside the card's folder"),
            ("2cf24", "2CF24", "lower-case"),
        ] {
            let error = Card::parse(&EXAMPLE.replacen(from, to, 1)).unwrap_err().to_string();
            assert!(error.contains(says), "{to}: {error}");
        }
    }

    #[test]
    fn files_are_verified() {
        let folder = tempfile::tempdir().unwrap();
        let card = Card::parse(EXAMPLE).unwrap();
        let path = folder.path().join("weights.safetensors");
        assert!(matches!(card.verify(folder.path()), Err(Error::Io { .. })));
        std::fs::write(&path, "hello").unwrap();
        assert_eq!(card.verify(folder.path()).unwrap()[0].bytes, 5);
        assert_eq!(card.read_file(folder.path(), "weights.safetensors").unwrap(), b"hello");
        assert!(card.read_file(folder.path(), "other").is_err());
        std::fs::write(&path, "hellp").unwrap();
        let error = card.verify(folder.path()).unwrap_err();
        assert!(matches!(error.root(), Error::WrongHash { .. }), "{error}");
        assert!(card.read_file(folder.path(), "weights.safetensors").is_err());
        std::fs::write(&path, "").unwrap();
        assert!(card.verify(folder.path()).unwrap_err().to_string().contains("empty"));
    }
}
