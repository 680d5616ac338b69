//! A reference to what another node gives: `node`, `node.port` or `node.port.0`.

use crate::diagnostic::{At, Diagnostic};

use super::spanned::TomlValue;

/// `node`, `node.port` or `node.port.index`, and its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// As written.
    pub text: String,
    /// The node's id.
    pub node: String,
    /// The output port, where one is named.
    pub port: Option<String>,
    /// The element of a port that gives several.
    pub element: Option<usize>,
    /// Its place.
    pub at: At,
}

impl Reference {
    /// Reads a reference; a wrong form is reported with code `bad-reference`.
    pub fn read(value: &TomlValue, diagnostics: &mut Vec<Diagnostic>) -> Option<Self> {
        let Some(text) = value.as_str() else {
            diagnostics.push(Diagnostic::error(
                "wrong-type",
                format!("expected the name of a node, found {}", value.kind()),
                value.at.label("expected \"node\", \"node.port\" or \"node.port.0\""),
            ));
            return None;
        };
        Self::parse(text, &value.at).or_else(|| {
            diagnostics.push(Diagnostic::error(
                "bad-reference",
                format!("`{text}` does not name a node's output"),
                value.at.label("expected \"node\", \"node.port\" or \"node.port.0\""),
            ));
            None
        })
    }

    /// Parses `text`, which stands at `at`.
    pub fn parse(text: &str, at: &At) -> Option<Self> {
        let mut parts = text.split('.');
        let node = parts.next().filter(|s| !s.is_empty())?.to_owned();
        let port = parts.next().map(str::to_owned);
        let element = parts.next().map(|e| e.parse::<usize>());
        if port.as_deref() == Some("") || parts.next().is_some() {
            return None;
        }
        Some(Self { text: text.to_owned(), node, port, element: element.transpose().ok()?, at: at.clone() })
    }
}
