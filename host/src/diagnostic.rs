//! What is wrong in a document, and where: code, message, the places concerned, and what to do about it.
//!
//! A leaf module. Every document the host reads (pipeline, manifest, card, site, lock) is registered once in [`Sources`];
//! a place in it is an [`At`]. A [`Diagnostic`] names places, [`Sources::render`] draws them, [`Sources::to_json`] lists them.

use std::ops::Range;

use codespan_reporting::diagnostic as codespan;
use codespan_reporting::files::{Files, SimpleFiles};
use codespan_reporting::term;
use serde_json::{Value, json};

/// How bad it is. Only [`Severity::Error`] makes a document unusable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// The document is refused.
    Error,
    /// Usable, but the reader should know.
    Warning,
    /// Information, such as a check that can only be done per case.
    Note,
}

impl Severity {
    /// `error`, `warning` or `note`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Note => "note",
        }
    }
}

/// A place: a file of [`Sources`] and a byte range in it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct At {
    /// Index in [`Sources`].
    pub file: usize,
    /// Bytes.
    pub span: Range<usize>,
}

impl At {
    /// A place in file `file`.
    pub fn new(file: usize, span: Range<usize>) -> Self {
        Self { file, span }
    }

    /// This place with words beside it.
    pub fn label(&self, text: impl Into<String>) -> Label {
        Label { file: self.file, span: self.span.clone(), text: text.into() }
    }
}

/// A place and what is to be said about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    /// Index in [`Sources`].
    pub file: usize,
    /// Bytes.
    pub span: Range<usize>,
    /// Words beside the underlined text; may be empty.
    pub text: String,
}

/// One finding. The first label is the primary place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// Stable kebab-case code, listed in `docs/diagnostics.md`.
    pub code: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// One sentence.
    pub message: String,
    /// Places; the first is the primary one.
    pub labels: Vec<Label>,
    /// What to do.
    pub help: Option<String>,
}

impl Diagnostic {
    /// An error with one place.
    pub fn error(code: &'static str, message: impl Into<String>, label: Label) -> Self {
        Self { code, severity: Severity::Error, message: message.into(), labels: vec![label], help: None }
    }

    /// A warning with one place.
    pub fn warning(code: &'static str, message: impl Into<String>, label: Label) -> Self {
        Self { severity: Severity::Warning, ..Self::error(code, message, label) }
    }

    /// Adds a further place.
    #[must_use]
    pub fn with(mut self, label: Label) -> Self {
        self.labels.push(label);
        self
    }

    /// Sets the help line.
    #[must_use]
    pub fn help(mut self, text: impl Into<String>) -> Self {
        self.help = Some(text.into());
        self
    }

    /// Sets the help line if there is one.
    #[must_use]
    pub fn help_if(mut self, text: Option<String>) -> Self {
        if text.is_some() {
            self.help = text;
        }
        self
    }

    /// True for an error.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

/// True if any of them is an error.
pub fn any_error(diagnostics: &[Diagnostic]) -> bool {
    diagnostics.iter().any(Diagnostic::is_error)
}

/// The documents that places refer to.
#[derive(Debug, Clone)]
pub struct Sources {
    files: SimpleFiles<String, String>,
    names: Vec<String>,
}

impl Default for Sources {
    fn default() -> Self {
        Self { files: SimpleFiles::new(), names: Vec::new() }
    }
}

impl Sources {
    /// No documents yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Registers a document under the name shown to the user and gives its index.
    pub fn add(&mut self, name: impl Into<String>, text: impl Into<String>) -> usize {
        let name = name.into();
        self.names.push(name.clone());
        self.files.add(name, text.into())
    }

    /// The name given to [`Sources::add`].
    pub fn name(&self, file: usize) -> Option<&str> {
        self.names.get(file).map(String::as_str)
    }

    /// Line and column of byte `byte`, both from 1; columns count characters. (1, 1) for an unknown file.
    pub fn line_column(&self, file: usize, byte: usize) -> (usize, usize) {
        match self.files.location(file, byte) {
            Ok(location) => (location.line_number, location.column_number),
            Err(_) => (1, 1),
        }
    }

    /// The diagnostics as text for a terminal or a pipe, one after the other.
    pub fn render(&self, diagnostics: &[Diagnostic], colour: bool) -> String {
        let config = term::Config::default();
        let mut buffer = if colour { term::termcolor::Buffer::ansi() } else { term::termcolor::Buffer::no_color() };
        for diagnostic in diagnostics {
            if term::emit_to_write_style(&mut buffer, &config, &self.files, &to_codespan(diagnostic)).is_err() {
                // A label outside its file: say the words without the drawing rather than nothing.
                use std::io::Write as _;
                let _ =
                    writeln!(buffer, "{}[{}]: {}", diagnostic.severity.as_str(), diagnostic.code, diagnostic.message);
            }
        }
        String::from_utf8_lossy(buffer.as_slice()).into_owned()
    }

    /// One finding as JSON: `code`, `severity`, `message`, `file`, `line`, `column`, `labels`, `help`.
    pub fn to_json(&self, diagnostic: &Diagnostic) -> Value {
        let place = |label: &Label| {
            let (line, column) = self.line_column(label.file, label.span.start);
            let (end_line, end_column) = self.line_column(label.file, label.span.end);
            json!({ "file": self.name(label.file), "line": line, "column": column, "end_line": end_line,
                    "end_column": end_column, "text": label.text })
        };
        let first = diagnostic.labels.first().map(place).unwrap_or(Value::Null);
        json!({
            "code": diagnostic.code,
            "severity": diagnostic.severity.as_str(),
            "message": diagnostic.message,
            "file": first["file"], "line": first["line"], "column": first["column"],
            "labels": diagnostic.labels.iter().map(place).collect::<Vec<_>>(),
            "help": diagnostic.help,
        })
    }
}

fn to_codespan(diagnostic: &Diagnostic) -> codespan::Diagnostic<usize> {
    let severity = match diagnostic.severity {
        Severity::Error => codespan::Severity::Error,
        Severity::Warning => codespan::Severity::Warning,
        Severity::Note => codespan::Severity::Note,
    };
    let labels = diagnostic.labels.iter().enumerate().map(|(i, label)| {
        let style = if i == 0 { codespan::LabelStyle::Primary } else { codespan::LabelStyle::Secondary };
        codespan::Label::new(style, label.file, label.span.clone()).with_message(&label.text)
    });
    let mut out = codespan::Diagnostic::new(severity)
        .with_code(diagnostic.code)
        .with_message(&diagnostic.message)
        .with_labels(labels.collect());
    if let Some(help) = &diagnostic.help {
        out = out.with_note(format!("help: {help}"));
    }
    out
}

/// The candidate closest to a misspelt word, if one is close enough to be meant.
pub fn closest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = (word.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .map(|c| (strsim::damerau_levenshtein(&word.to_lowercase(), &c.to_lowercase()), c))
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, c)| c)
}

/// `did you mean X?` for the closest candidate, else the list of candidates when it is short, else nothing.
pub fn did_you_mean<'a>(word: &str, what: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let all: Vec<&str> = candidates.into_iter().collect();
    if let Some(best) = closest(word, all.iter().copied()) {
        return Some(format!("did you mean `{best}`?"));
    }
    match all.len() {
        0 => None,
        1..=24 => Some(format!("{what}: {}", all.iter().map(|c| format!("`{c}`")).collect::<Vec<_>>().join(", "))),
        n => Some(format!("{n} {what}; `gantry plugins list` shows them")),
    }
}
