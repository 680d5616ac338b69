//! What can be wrong with weights, in words for the person who holds the file.

use std::path::{Path, PathBuf};

use crate::check::Mismatch;

/// The result of everything in this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A dictionary of tensors inside a weight file, as listed to a user who has to choose one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Keys from the top of the file joined by dots; `.` is the top level itself.
    pub name: String,
    /// How many tensors it holds.
    pub tensors: usize,
}

/// Why weights, an architecture or a card were refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused to read or write.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file or folder concerned.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Another error, with the file it was found in.
    #[error("{path}: {error}", path = path.display())]
    InFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        error: Box<Error>,
    },
    /// The bytes are not what their format demands: truncated, corrupt or contradictory.
    #[error("{0}")]
    Malformed(String),
    /// A well-formed file of a kind that is not read.
    #[error("{0}")]
    Unsupported(String),
    /// A pickle asks for something outside the short list of harmless names. Nothing was run.
    #[error(
        "refused: the pickle asks for `{name}` (byte {at}), which is not on the list of harmless names; nothing was executed"
    )]
    ForbiddenGlobal {
        /// Module and name, joined by a dot.
        name: String,
        /// Byte offset within the pickle.
        at: usize,
    },
    /// The file holds several dictionaries of tensors, none, or not the one asked for.
    #[error("{}", part_text(requested.as_deref(), parts))]
    Part {
        /// The name asked for, if any.
        requested: Option<String>,
        /// The dictionaries of tensors there are.
        parts: Vec<Part>,
    },
    /// The weights do not belong to the architecture.
    #[error("{0}")]
    Mismatch(Box<Mismatch>),
    /// An architecture document is wrong or absent.
    #[error("architecture {0}")]
    Architecture(String),
    /// A card is wrong.
    #[error("card: {0}")]
    Card(String),
    /// A file is not the one its card describes.
    #[error("{file}: sha256 is {found}, the card says {expected}")]
    WrongHash {
        /// The file's path as the card writes it.
        file: String,
        /// Lower-case hexadecimal digest in the card.
        expected: String,
        /// Lower-case hexadecimal digest of the bytes found.
        found: String,
    },
    /// A checkpoint of that name is already there.
    #[error("{path} exists already; --force replaces it", path = .0.display())]
    Exists(PathBuf),
}

impl Error {
    /// The same error, naming the file it was found in.
    pub(crate) fn in_file(self, path: &Path) -> Self {
        match self {
            named @ (Self::Io { .. } | Self::InFile { .. } | Self::Exists(_)) => named,
            error => Self::InFile { path: path.to_owned(), error: Box::new(error) },
        }
    }

    /// The error underneath the file's name.
    pub fn root(&self) -> &Self {
        match self {
            Self::InFile { error, .. } => error.root(),
            other => other,
        }
    }
}

/// Wraps an error of the operating system with its path.
pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Error + '_ {
    move |source| Error::Io { path: path.to_owned(), source }
}

/// A name from a file, fit for a terminal: no control characters, bounded.
pub(crate) fn printable(name: &str) -> String {
    name.chars().filter(|c| !c.is_control()).take(200).collect()
}

fn part_text(requested: Option<&str>, parts: &[Part]) -> String {
    const SHOWN: usize = 20;
    let mut list = parts
        .iter()
        .take(SHOWN)
        .map(|p| format!("{} ({} tensor{})", printable(&p.name), p.tensors, if p.tensors == 1 { "" } else { "s" }))
        .collect::<Vec<_>>()
        .join(", ");
    if parts.len() > SHOWN {
        list.push_str(&format!(", and {} more", parts.len() - SHOWN));
    }
    match (requested, parts.is_empty()) {
        (_, true) => "the file holds no dictionary of tensors".to_owned(),
        (Some(name), false) => format!("there is no part `{name}`; the file holds: {list}"),
        (None, false) => format!("the file holds several sets of weights; choose one with --part: {list}"),
    }
}
