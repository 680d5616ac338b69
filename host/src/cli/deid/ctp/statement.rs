//! The statements of a script, as they stand there.

use dicom_core::Tag;

use super::CtpError;

/// One statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Statement {
    pub(super) line: usize,
    pub(super) enabled: bool,
    pub(super) kind: Kind,
}

/// What a statement is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    /// A named text for other statements.
    Parameter { name: String, value: String },
    /// What to do with an attribute; the tag may be unreadable.
    Attribute { tag: Result<Tag, String>, action: String },
    /// A group that is kept, however it was written.
    Keep { group: String },
    /// A kind of attributes that is removed.
    Remove { what: String },
    /// Something else.
    Unknown,
}

/// Statements of the XML form.
pub(super) fn xml(text: &str) -> Result<Vec<Statement>, CtpError> {
    let document = roxmltree::Document::parse(text)
        .map_err(|e| CtpError { line: e.pos().row as usize, text: "the script is not well-formed XML".to_owned() })?;
    let root = document.root_element();
    let line = |node: roxmltree::Node<'_, '_>| document.text_pos_at(node.range().start).row as usize;
    if !root.has_tag_name("script") {
        let text = "the root element is not `script`: this is no script of CTP".to_owned();
        return Err(CtpError { line: line(root), text });
    }
    let statements = root.children().filter(|node| node.is_element()).map(|node| {
        let attribute = |name| node.attribute(name).unwrap_or_default().trim().to_owned();
        // Text on both sides of a comment is one text.
        let content: String = node.children().filter_map(|n| n.text().filter(|_| n.is_text())).collect();
        let nested = node.children().any(|n| n.is_element());
        let kind = match node.tag_name().name() {
            _ if nested => Kind::Unknown,
            "p" => Kind::Parameter { name: attribute("t"), value: content.trim().to_owned() },
            "e" => Kind::Attribute { tag: tag(&attribute("t")), action: content.trim().to_owned() },
            "k" => Kind::Keep { group: attribute("t") },
            "r" => Kind::Remove { what: attribute("t").to_ascii_lowercase() },
            _ => Kind::Unknown,
        };
        let off = node.attribute("en").is_some_and(|en| matches!(en.trim(), "F" | "f" | "false" | "no"));
        Statement { line: line(node), enabled: !off, kind }
    });
    Ok(statements.collect())
}

/// Statements of the older form, one a line: `set.[gggg,eeee]NAME=`, `keep.groupGGGG=`, `remove.WHAT=`, `param.NAME=`.
pub(super) fn properties(text: &str) -> Result<Vec<Statement>, CtpError> {
    let mut statements = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((index, first)) = lines.next() {
        let mut whole = first.trim().to_owned();
        if whole.is_empty() || whole.starts_with(['#', '!']) {
            continue;
        }
        // A line that ends in a backslash goes on in the next.
        while let Some(begun) = whole.strip_suffix('\\') {
            let next = lines.next().map(|(_, l)| l.trim_start().trim_end()).unwrap_or_default();
            whole = format!("{begun}{next}");
        }
        let (key, value) = whole.split_once('=').unwrap_or((&whole, ""));
        let (key, value) = (key.trim(), value.trim());
        let kind = if let Some(name) = key.strip_prefix("param.") {
            Kind::Parameter { name: name.trim_start_matches('@').to_owned(), value: value.to_owned() }
        } else if let Some(place) = key.strip_prefix("set.") {
            let inner = place.strip_prefix('[').and_then(|p| p.split_once(']')).map_or(place, |(tag, _)| tag);
            Kind::Attribute { tag: tag(inner), action: value.to_owned() }
        } else if let Some(group) = key.strip_prefix("keep.group") {
            Kind::Keep { group: group.to_owned() }
        } else if let Some(what) = key.strip_prefix("remove.") {
            Kind::Remove { what: what.to_ascii_lowercase() }
        } else {
            Kind::Unknown
        };
        statements.push(Statement { line: index + 1, enabled: true, kind });
    }
    if !statements.iter().any(|s| s.kind != Kind::Unknown) {
        let line = statements.first().map_or(1, |s| s.line);
        let text = "no statement of a CTP script is here, neither XML nor properties".to_owned();
        return Err(CtpError { line, text });
    }
    Ok(statements)
}

/// A tag as `ggggeeee`, `gggg,eeee`, `(gggg,eeee)` or `[gggg,eeee]`; else the text.
fn tag(text: &str) -> Result<Tag, String> {
    let bare: String = text.chars().filter(|c| !"()[], ".contains(*c)).collect();
    let number = |at: std::ops::Range<usize>| bare.get(at).and_then(|h| u16::from_str_radix(h, 16).ok());
    match (number(0..4), number(4..8)) {
        (Some(group), Some(element)) if bare.len() == 8 => Ok(Tag(group, element)),
        _ => Err(text.to_owned()),
    }
}
