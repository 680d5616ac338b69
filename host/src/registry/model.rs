//! [`KnownModel`]: `models/<name>.toml` in a plugin's folder. It says where the weights of a checkpoint come from that the
//! plugin cannot bring along, so that a user who lacks them is told how to get them.
//!
//! ```toml
//! format  = 1
//! name    = "totalseg-heart"      # the checkpoint's name, and the file's
//! title   = "…"                   # what it is
//! size    = 369_000_000           # bytes to fetch; or text, where it is not known exactly
//! licence = "…"
//! source  = "…"                   # where it comes from, in words
//! import  = "gantry weights import …"
//! ```

use std::path::{Path, PathBuf};

use crate::diagnostic::{At, Diagnostic, Sources, any_error};
use crate::pipeline::document::read_format;
use crate::pipeline::spanned::{self, Reader, Toml, wrong_type};

use super::Refused;
use super::ports::refuse;

/// The folder of these documents in a plugin's.
pub const FOLDER: &str = "models";

/// A checkpoint that a user may install.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownModel {
    /// The checkpoint's name.
    pub name: String,
    /// What it is, in a line.
    pub title: String,
    /// How much has to be fetched, in words.
    pub size: String,
    /// Licence of the weights.
    pub licence: String,
    /// Where it comes from, in words.
    pub source: String,
    /// The command that installs it.
    pub import: String,
    /// The document.
    pub path: PathBuf,
}

impl KnownModel {
    /// Reads a document.
    ///
    /// # Errors
    /// Every reason why it is refused, with places.
    pub fn read(path: &Path, sources: &mut Sources) -> Result<Self, Refused> {
        let mut diagnostics = Vec::new();
        let model = match std::fs::read_to_string(path) {
            Ok(text) => {
                let file = sources.add(path.display().to_string(), text.as_str());
                Self::parse(&text, file, path, &mut diagnostics)
            }
            Err(error) => {
                let label = At::new(sources.add(path.display().to_string(), ""), 0..0).label("cannot be read");
                diagnostics.push(Diagnostic::error("unreadable", format!("{}: {error}", path.display()), label));
                None
            }
        };
        match model {
            Some(model) if !any_error(&diagnostics) => Ok(model),
            _ => Err(Refused { path: path.to_owned(), reasons: diagnostics, would_give: Vec::new() }),
        }
    }

    fn parse(text: &str, file: usize, path: &Path, diagnostics: &mut Vec<Diagnostic>) -> Option<Self> {
        let root = spanned::parse(text, file, diagnostics);
        let mut reader = Reader::new(&root, "a model's document");
        let format = read_format(&mut reader, "format", diagnostics);
        let name = reader.required_string("name", diagnostics);
        let size = match reader.take("size") {
            None => {
                reader.missing("size", diagnostics);
                None
            }
            Some(entry) => match &entry.value.data {
                Toml::Integer(bytes) if *bytes > 0 => Some(megabytes(bytes.unsigned_abs())),
                Toml::String(words) if !words.is_empty() => Some(words.clone()),
                _ => wrong_type(&entry.value, "size", "a number of bytes above 0, or text", diagnostics),
            },
        };
        let mut line = |key, diagnostics: &mut Vec<Diagnostic>| reader.required_string(key, diagnostics);
        let (title, licence) = (line("title", diagnostics), line("licence", diagnostics));
        let (source, import) = (line("source", diagnostics), line("import", diagnostics));
        reader.finish(diagnostics);
        let name = name?;
        if path.file_stem().and_then(|stem| stem.to_str()) != Some(&name.text) {
            refuse(diagnostics, &name.at, format!("the document of `{0}` is called {0}.toml", name.text));
        }
        format?;
        Some(Self {
            name: name.text,
            title: title?.text,
            size: size?,
            licence: licence?.text,
            source: source?.text,
            import: import?.text,
            path: path.to_owned(),
        })
    }

    /// What it is and how to get it, in sentences.
    pub fn advice(&self) -> String {
        format!(
            "{} ({}; licence: {}). {} To install it: {}",
            self.title, self.size, self.licence, self.source, self.import
        )
    }
}

/// A size on a disk in words.
pub fn megabytes(bytes: u64) -> String {
    let megabytes = bytes as f64 / 1e6;
    match megabytes {
        m if m >= 1000.0 => format!("{:.1} GB", m / 1000.0),
        m if m >= 10.0 => format!("{m:.0} MB"),
        m => format!("{m:.1} MB"),
    }
}
