//! [`Card`]: what a checkpoint's `card.toml` says, with places, and [`CheckpointRef`]: an installed checkpoint.
//!
//! The weights themselves are read by `gantry-weights`; the check needs the words on the card only.

use std::path::{Component, Path, PathBuf};

use indexmap::IndexMap;
use serde_json::Value as Json;
use sha2::{Digest, Sha256};

use crate::diagnostic::{At, Diagnostic, Sources, any_error};
use crate::pipeline::document::read_format;
use crate::pipeline::spanned::{self, Reader, TomlTable, TomlValue, strings, wrong_type};

use super::Refused;
use super::caps::{KEYS, read_card_value};
use super::ports::refuse;

/// What the output of a checkpoint is, which decides the label that is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nature {
    /// Made up: marked SYNTHETIC.
    Synthetic,
    /// The same image, improved.
    Enhanced,
    /// Computed from the image: masks, maps.
    Derived,
}

impl Nature {
    /// As the card writes it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Synthetic => "synthetic",
            Self::Enhanced => "enhanced",
            Self::Derived => "derived",
        }
    }
}

/// A file of weights beside the card.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CardFile {
    /// Relative to the card, with `/`.
    pub path: String,
    /// Lower-case hex.
    pub sha256: String,
    /// Where the file is named.
    pub at: At,
}

/// One cap on a card.
#[derive(Debug, Clone, PartialEq)]
pub struct CardCap {
    /// The value.
    pub value: Json,
    /// Where it stands.
    pub at: At,
}

/// Caps of one port on a card.
pub type CardCaps = IndexMap<String, CardCap>;
/// Names of the elements of a named port, and where they stand.
pub type ElementNames = (Vec<String>, At);

/// `card.toml`.
#[derive(Debug, Clone, PartialEq)]
pub struct Card {
    /// The checkpoint's name.
    pub name: String,
    /// The architecture; must be the one the stage's parameter names.
    pub architecture: String,
    /// Where that stands.
    pub architecture_at: At,
    /// One line for people.
    pub summary: String,
    /// Licence of the weights.
    pub licence: String,
    /// How they were made.
    pub trained_with: String,
    /// A toy runs on phantoms only.
    pub toy: bool,
    /// What its output is.
    pub nature: Nature,
    /// What it is for.
    pub intended_use: String,
    /// The weights.
    pub files: Vec<CardFile>,
    /// `[caps.<port>]`; `out` is an output whose name is an input's too, or the first output.
    pub caps: IndexMap<String, CardCaps>,
    /// `[caps.<port>] names`: the elements of a named port, in order.
    pub names: IndexMap<String, ElementNames>,
    /// `[run.int8]`: the network may be computed in int8.
    pub int8: bool,
    /// The whole card as JSON: what a stage reads as `card.json`.
    pub json: Json,
    /// The start of the card.
    pub at: At,
}

/// An installed checkpoint.
#[derive(Debug, Clone, PartialEq)]
pub struct CheckpointRef {
    /// Its name.
    pub name: String,
    /// The folder with `card.toml` and the weights.
    pub path: PathBuf,
    /// The card.
    pub card: Card,
    /// The card's text, byte for byte.
    pub card_text: String,
}

impl CheckpointRef {
    /// Digest of the card, which holds the digests of all weights.
    pub fn digest(&self) -> String {
        hex::encode(Sha256::digest(self.card_text.as_bytes()))
    }

    /// Reads the checkpoint in `folder`.
    ///
    /// # Errors
    /// Every reason why it is refused, with places.
    pub fn read(folder: &Path, sources: &mut Sources) -> Result<Self, Refused> {
        let path = folder.join("card.toml");
        let mut diagnostics = Vec::new();
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| {
            let label = At::new(sources.add(path.display().to_string(), ""), 0..0).label("cannot be read");
            diagnostics.push(Diagnostic::error("unreadable", format!("{}: {error}", path.display()), label));
            String::new()
        });
        let card = if diagnostics.is_empty() {
            let file = sources.add(path.display().to_string(), text.as_str());
            Card::parse(&text, file, &mut diagnostics)
        } else {
            None
        };
        // The crate that runs the weights reads the card, too: what it would refuse then is refused now.
        if let (Some(card), false) = (&card, any_error(&diagnostics))
            && let Err(error) = gantry_weights::Card::parse(&text)
        {
            refuse(&mut diagnostics, &card.at, error.to_string());
        }
        match card {
            Some(card) if !any_error(&diagnostics) => {
                Ok(Self { name: card.name.clone(), path: folder.to_owned(), card, card_text: text })
            }
            card => {
                let name = card.map(|c| c.name).or_else(|| folder.file_name()?.to_str().map(str::to_owned));
                Err(Refused { path: folder.to_owned(), reasons: diagnostics, would_give: name.into_iter().collect() })
            }
        }
    }

    /// Bytes of the card's files that are there, by the file system's word.
    pub fn bytes_on_disk(&self) -> u64 {
        let length = |file: &CardFile| std::fs::metadata(self.path.join(&file.path)).map_or(0, |m| m.len());
        self.card.files.iter().map(length).sum()
    }

    /// The weight files that are not there.
    pub fn missing_files(&self) -> Vec<&CardFile> {
        self.card.files.iter().filter(|f| !self.path.join(&f.path).is_file()).collect()
    }
}

impl Card {
    /// Reads a card already registered as file `file`.
    pub fn parse(text: &str, file: usize, diagnostics: &mut Vec<Diagnostic>) -> Option<Self> {
        let root = spanned::parse(text, file, diagnostics);
        let mut reader = Reader::new(&root, "a card");
        let format = read_format(&mut reader, "card", diagnostics);
        let name = reader.required_string("name", diagnostics);
        let architecture = reader.required_string("architecture", diagnostics);
        let mut text_of = |key, diagnostics: &mut Vec<Diagnostic>| {
            reader.required_string(key, diagnostics).map(|t| t.text).unwrap_or_default()
        };
        let summary = text_of("summary", diagnostics);
        let licence = text_of("licence", diagnostics);
        let trained_with = text_of("trained_with", diagnostics);
        let intended_use = text_of("intended_use", diagnostics);
        if reader.take("toy").is_none() {
            reader.missing("toy", diagnostics);
        }
        let toy = reader.boolean("toy", diagnostics);
        let nature = reader.required_string("nature", diagnostics).and_then(|t| match t.text.as_str() {
            "synthetic" => Some(Nature::Synthetic),
            "enhanced" => Some(Nature::Enhanced),
            "derived" => Some(Nature::Derived),
            _ => {
                refuse(diagnostics, &t.at, "`nature` is one of \"synthetic\", \"enhanced\", \"derived\"".to_owned());
                None
            }
        });
        let files = read_files(&mut reader, diagnostics);
        let mut caps = IndexMap::new();
        let mut names = IndexMap::new();
        for entry in reader.table("caps", diagnostics).map(|t| t.entries.as_slice()).unwrap_or_default() {
            match entry.value.as_table() {
                Some(table) => {
                    let (keys, list) = read_caps(&entry.key, table, diagnostics);
                    caps.insert(entry.key.clone(), keys);
                    if let Some(list) = list {
                        names.insert(entry.key.clone(), list);
                    }
                }
                None => wrong_type(&entry.value, &entry.key, "a table of caps", diagnostics).unwrap_or(()),
            }
        }
        // What the architecture's own code reads, the host passes on; whether int8 is permitted, `check` must know.
        let run = reader.table("run", diagnostics);
        let int8 = run.and_then(|table| table.get("int8")).is_some_and(|entry| read_int8(&entry.value, diagnostics));
        reader.finish(diagnostics);
        let json = spanned::TomlValue { data: spanned::Toml::Table(root.clone()), at: root.at.clone() }.to_json();
        let name = name?;
        if name.text.is_empty() || name.text.contains(['/', '\\', '\0']) || name.text.starts_with('.') {
            refuse(diagnostics, &name.at, "the name of a checkpoint is a plain file name".to_owned());
        }
        let architecture = architecture?;
        format?;
        Some(Self {
            name: name.text,
            architecture: architecture.text,
            architecture_at: architecture.at,
            summary,
            licence,
            trained_with,
            toy: toy?,
            nature: nature?,
            intended_use,
            files,
            caps,
            names,
            int8,
            json: json?,
            at: name.at,
        })
    }

    /// What the card demands on input port `port`.
    pub fn input_caps(&self, port: &str) -> Option<&CardCaps> {
        self.caps.get(port)
    }

    /// What the card promises for output port `port`, where `shadowed` says that an input has the same name and `first`
    /// that it is the stage's first output.
    pub fn output_caps(&self, port: &str, shadowed: bool, first: bool) -> Option<&CardCaps> {
        let own = if shadowed { None } else { self.caps.get(port) };
        own.or_else(|| if shadowed || first { self.caps.get("out") } else { None })
    }
}

fn read_caps(port: &str, table: &TomlTable, diagnostics: &mut Vec<Diagnostic>) -> (CardCaps, Option<ElementNames>) {
    let mut reader = Reader::new(table, format!("[caps.{port}]"));
    let mut caps = IndexMap::new();
    for key in KEYS.into_iter().filter(|k| *k != "grid" && *k != "identity") {
        if let Some(entry) = reader.take(key)
            && let Some(value) = read_card_value(key, &entry.value, diagnostics)
        {
            caps.insert(key.to_owned(), CardCap { value, at: entry.value.at.clone() });
        }
    }
    let names = reader.take("names").and_then(|entry| {
        let texts = strings(&entry.value, "names", diagnostics)?;
        Some((texts.into_iter().map(|t| t.text).collect(), entry.value.at.clone()))
    });
    reader.finish(diagnostics);
    (caps, names)
}

/// `[run.int8]`: for each layer the largest absolute value of what enters it. True where the table is sound.
fn read_int8(value: &TomlValue, diagnostics: &mut Vec<Diagnostic>) -> bool {
    let before = diagnostics.len();
    let Some(table) = value.as_table() else {
        wrong_type(value, "int8", "a table ([run.int8])", diagnostics).unwrap_or(());
        return false;
    };
    let mut reader = Reader::new(table, "[run.int8]");
    match reader.table("activations", diagnostics) {
        Some(layers) if layers.entries.is_empty() => {
            refuse(diagnostics, &layers.at, "`activations` names at least one layer".to_owned());
        }
        Some(layers) => {
            for entry in &layers.entries {
                let largest = entry.value.as_number().map(|n| n as f32);
                if !largest.is_some_and(|n| n.is_finite() && n > 0.0) {
                    let text = format!("layer `{}`: its largest activation is a finite number above 0", entry.key);
                    refuse(diagnostics, &entry.value.at, text);
                }
            }
        }
        None if table.get("activations").is_none() => reader.missing("activations", diagnostics),
        None => {}
    }
    reader.finish(diagnostics);
    diagnostics.len() == before
}

fn read_files(reader: &mut Reader<'_>, diagnostics: &mut Vec<Diagnostic>) -> Vec<CardFile> {
    let Some(entry) = reader.take("files") else {
        reader.missing("files", diagnostics);
        return Vec::new();
    };
    let mut files = Vec::new();
    let Some(items) = entry.value.as_array() else {
        return wrong_type(&entry.value, "files", "a list of tables ([[files]])", diagnostics).unwrap_or_default();
    };
    for item in items {
        let Some(table) = item.as_table() else {
            wrong_type(item, "files", "a table", diagnostics).unwrap_or(());
            continue;
        };
        let mut inner = Reader::new(table, "a file of the card");
        let path = inner.required_string("path", diagnostics);
        let sha256 = inner.required_string("sha256", diagnostics);
        inner.finish(diagnostics);
        if let (Some(path), Some(sha256)) = (path, sha256) {
            let inside = Path::new(&path.text).components().all(|c| matches!(c, Component::Normal(_)));
            if path.text.is_empty() || !inside {
                refuse(diagnostics, &path.at, format!("`{}` does not lie beside the card", path.text));
            }
            if sha256.text.len() != 64 || !sha256.text.bytes().all(|b| b.is_ascii_hexdigit()) {
                refuse(diagnostics, &sha256.at, "a sha256 has 64 hexadecimal digits".to_owned());
            }
            files.push(CardFile { path: path.text, sha256: sha256.text.to_lowercase(), at: path.at });
        }
    }
    files
}
