//! TOML with the place of every key and value, in document order, and a reader that refuses unknown keys.
//!
//! [`parse`] turns text into a [`TomlTable`]; [`Reader`] takes keys out of a table one by one, remembers which names were
//! asked for, and [`Reader::finish`] reports every key nobody asked for, with a guess at what was meant.

use std::collections::BTreeMap;

use serde_json::Value as Json;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::diagnostic::{At, Diagnostic, did_you_mean};

/// A TOML value and its place.
#[derive(Debug, Clone, PartialEq)]
pub struct TomlValue {
    /// The value.
    pub data: Toml,
    /// Where it stands.
    pub at: At,
}

/// What a TOML value is.
#[derive(Debug, Clone, PartialEq)]
pub enum Toml {
    /// Text.
    String(String),
    /// A whole number.
    Integer(i64),
    /// A number with a point; may be infinite or NaN, as TOML allows.
    Float(f64),
    /// True or false.
    Boolean(bool),
    /// A date or time, as written.
    Datetime(String),
    /// A list.
    Array(Vec<TomlValue>),
    /// A table.
    Table(TomlTable),
}

/// A table in document order.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TomlTable {
    /// The entries in document order.
    pub entries: Vec<TomlEntry>,
    /// Where the table starts: its header, or its braces.
    pub at: At,
}

/// One key and its value.
#[derive(Debug, Clone, PartialEq)]
pub struct TomlEntry {
    /// The key.
    pub key: String,
    /// Where the key stands.
    pub key_at: At,
    /// The value.
    pub value: TomlValue,
}

/// A piece of text and where it stands.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Text {
    /// The text.
    pub text: String,
    /// Its place.
    pub at: At,
}

impl TomlTable {
    /// The entry under `key`.
    pub fn get(&self, key: &str) -> Option<&TomlEntry> {
        self.entries.iter().find(|e| e.key == key)
    }
}

impl TomlValue {
    /// What it is, for messages: `a string`, `a table`...
    pub fn kind(&self) -> &'static str {
        match self.data {
            Toml::String(_) => "a string",
            Toml::Integer(_) => "an integer",
            Toml::Float(_) => "a float",
            Toml::Boolean(_) => "a boolean",
            Toml::Datetime(_) => "a date",
            Toml::Array(_) => "a list",
            Toml::Table(_) => "a table",
        }
    }

    /// The text, if it is text.
    pub fn as_str(&self) -> Option<&str> {
        match &self.data {
            Toml::String(s) => Some(s),
            _ => None,
        }
    }

    /// The number, whole or not.
    pub fn as_number(&self) -> Option<f64> {
        match self.data {
            Toml::Integer(i) => Some(i as f64),
            Toml::Float(f) => Some(f),
            _ => None,
        }
    }

    /// The table, if it is one.
    pub fn as_table(&self) -> Option<&TomlTable> {
        match &self.data {
            Toml::Table(t) => Some(t),
            _ => None,
        }
    }

    /// The list, if it is one.
    pub fn as_array(&self) -> Option<&[TomlValue]> {
        match &self.data {
            Toml::Array(a) => Some(a),
            _ => None,
        }
    }

    /// As JSON, whole numbers whole and floats floats; `None` where JSON has no such value (infinity, NaN).
    pub fn to_json(&self) -> Option<Json> {
        Some(match &self.data {
            Toml::String(s) | Toml::Datetime(s) => Json::String(s.clone()),
            Toml::Integer(i) => Json::from(*i),
            Toml::Float(f) => Json::Number(serde_json::Number::from_f64(*f)?),
            Toml::Boolean(b) => Json::Bool(*b),
            Toml::Array(items) => Json::Array(items.iter().map(Self::to_json).collect::<Option<_>>()?),
            Toml::Table(table) => Json::Object(
                table.entries.iter().map(|e| Some((e.key.clone(), e.value.to_json()?))).collect::<Option<_>>()?,
            ),
        })
    }
}

/// Parses a document already registered as file `file`. Syntax errors are reported with code `toml-syntax`; what could be
/// read is returned all the same, so that later checks can go on.
pub fn parse(text: &str, file: usize, diagnostics: &mut Vec<Diagnostic>) -> TomlTable {
    if let Some(place) = too_deep(text) {
        let label = At::new(file, place..place).label(format!("more than {DEEPEST} levels"));
        diagnostics.push(Diagnostic::error("toml-syntax", "these keys are nested too deeply", label));
        return TomlTable { entries: Vec::new(), at: At::new(file, 0..0) };
    }
    let (root, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        let span = error.span().unwrap_or(0..0);
        diagnostics.push(Diagnostic::error(
            "toml-syntax",
            error.message().to_owned(),
            At::new(file, span).label("here"),
        ));
    }
    let span = root.span();
    table(root.get_ref(), At::new(file, span), diagnostics)
}

/// Parses one value, as given on the command line after `=`: TOML if it is TOML, else the bare text as a string.
pub fn parse_value(text: &str, file: usize, offset: usize, diagnostics: &mut Vec<Diagnostic>) -> TomlValue {
    let at = At::new(file, offset..offset + text.len());
    // Not even parsed where too deep: what was parsed must be dropped again.
    let parsed = if too_deep(text).is_none() { DeValue::parse(text).ok() } else { None };
    match parsed {
        Some(parsed) => {
            let mut out = value(&parsed, file, diagnostics);
            shift(&mut out, offset);
            out
        }
        None => TomlValue { data: Toml::String(text.to_owned()), at },
    }
}

/// Deepest nesting of dotted keys that is read. Reading is recursive, and the parser limits brackets only.
const DEEPEST: usize = 128;

/// Where a dotted key has more than [`DEEPEST`] parts. Counts points between the signs that end a key, so that a line of
/// text with as many points is refused, too.
fn too_deep(text: &str) -> Option<usize> {
    let mut points = 0;
    for (place, byte) in text.bytes().enumerate() {
        match byte {
            b'.' => points += 1,
            b'=' | b',' | b'{' | b'}' | b'[' | b']' | b'\n' => points = 0,
            _ => {}
        }
        if points > DEEPEST {
            return Some(place);
        }
    }
    None
}

fn shift(value: &mut TomlValue, offset: usize) {
    let move_at = |at: &mut At| at.span = at.span.start + offset..at.span.end + offset;
    move_at(&mut value.at);
    match &mut value.data {
        Toml::Array(items) => items.iter_mut().for_each(|v| shift(v, offset)),
        Toml::Table(table) => {
            move_at(&mut table.at);
            for entry in &mut table.entries {
                move_at(&mut entry.key_at);
                shift(&mut entry.value, offset);
            }
        }
        _ => {}
    }
}

fn table(source: &DeTable<'_>, at: At, diagnostics: &mut Vec<Diagnostic>) -> TomlTable {
    let mut entries: Vec<TomlEntry> = source
        .iter()
        .map(|(key, v)| TomlEntry {
            key: key.get_ref().to_string(),
            key_at: At::new(at.file, key.span()),
            value: value(v, at.file, diagnostics),
        })
        .collect();
    entries.sort_by_key(|e| e.key_at.span.start);
    TomlTable { entries, at }
}

fn value(source: &Spanned<DeValue<'_>>, file: usize, diagnostics: &mut Vec<Diagnostic>) -> TomlValue {
    let at = At::new(file, source.span());
    let data = match source.get_ref() {
        DeValue::String(s) => Toml::String(s.to_string()),
        DeValue::Integer(i) => Toml::Integer(i64::from_str_radix(i.as_str(), i.radix()).unwrap_or_else(|_| {
            diagnostics.push(Diagnostic::error(
                "toml-syntax",
                "this whole number does not fit 64 bits",
                at.label("here"),
            ));
            0
        })),
        DeValue::Float(f) => Toml::Float(f.as_str().parse().unwrap_or_else(|_| {
            diagnostics.push(Diagnostic::error("toml-syntax", "this is not a number", at.label("here")));
            0.0
        })),
        DeValue::Boolean(b) => Toml::Boolean(*b),
        DeValue::Datetime(d) => Toml::Datetime(d.to_string()),
        DeValue::Array(items) => Toml::Array(items.iter().map(|v| value(v, file, diagnostics)).collect()),
        DeValue::Table(t) => Toml::Table(table(t, at.clone(), diagnostics)),
    };
    TomlValue { data, at }
}

/// Takes keys out of one table and reports what is missing, of the wrong type, or unknown.
pub struct Reader<'a> {
    table: &'a TomlTable,
    what: String,
    asked: BTreeMap<&'static str, ()>,
}

impl<'a> Reader<'a> {
    /// Reads `table`, called `what` in messages ("node `soft`", "the manifest").
    pub fn new(table: &'a TomlTable, what: impl Into<String>) -> Self {
        Self { table, what: what.into(), asked: BTreeMap::new() }
    }

    /// The entry under `key`, if present; the key counts as known from now on.
    pub fn take(&mut self, key: &'static str) -> Option<&'a TomlEntry> {
        self.asked.insert(key, ());
        self.table.get(key)
    }

    /// Reports a missing required key.
    pub fn missing(&self, key: &str, diagnostics: &mut Vec<Diagnostic>) {
        diagnostics.push(Diagnostic::error(
            "missing-key",
            format!("{} has no `{key}`", self.what),
            self.table.at.label(format!("`{key}` is required here")),
        ));
    }

    /// Text under `key`, or `None` where absent or of another type (which is reported).
    pub fn string(&mut self, key: &'static str, diagnostics: &mut Vec<Diagnostic>) -> Option<Text> {
        let entry = self.take(key)?;
        match &entry.value.data {
            Toml::String(text) => Some(Text { text: text.clone(), at: entry.value.at.clone() }),
            _ => wrong_type(&entry.value, key, "a string", diagnostics),
        }
    }

    /// Text under `key`; absence is reported too.
    pub fn required_string(&mut self, key: &'static str, diagnostics: &mut Vec<Diagnostic>) -> Option<Text> {
        if self.take(key).is_none() {
            self.missing(key, diagnostics);
        }
        self.string(key, diagnostics)
    }

    /// True or false under `key`.
    pub fn boolean(&mut self, key: &'static str, diagnostics: &mut Vec<Diagnostic>) -> Option<bool> {
        let entry = self.take(key)?;
        match entry.value.data {
            Toml::Boolean(b) => Some(b),
            _ => wrong_type(&entry.value, key, "true or false", diagnostics),
        }
    }

    /// A whole number of at least 0 under `key`.
    pub fn unsigned(&mut self, key: &'static str, diagnostics: &mut Vec<Diagnostic>) -> Option<u64> {
        let entry = self.take(key)?;
        match entry.value.data {
            Toml::Integer(i) if i >= 0 => u64::try_from(i).ok(),
            _ => wrong_type(&entry.value, key, "a whole number of at least 0", diagnostics),
        }
    }

    /// A number under `key`.
    pub fn number(&mut self, key: &'static str, diagnostics: &mut Vec<Diagnostic>) -> Option<f64> {
        let entry = self.take(key)?;
        match entry.value.as_number() {
            Some(n) => Some(n),
            None => wrong_type(&entry.value, key, "a number", diagnostics),
        }
    }

    /// A table under `key`.
    pub fn table(&mut self, key: &'static str, diagnostics: &mut Vec<Diagnostic>) -> Option<&'a TomlTable> {
        let entry = self.take(key)?;
        match &entry.value.data {
            Toml::Table(t) => Some(t),
            _ => wrong_type(&entry.value, key, "a table", diagnostics),
        }
    }

    /// A list of texts under `key`.
    pub fn strings(&mut self, key: &'static str, diagnostics: &mut Vec<Diagnostic>) -> Option<Vec<Text>> {
        let entry = self.take(key)?;
        strings(&entry.value, key, diagnostics)
    }

    /// Reports every key nobody asked for.
    pub fn finish(self, diagnostics: &mut Vec<Diagnostic>) {
        for entry in &self.table.entries {
            if !self.asked.contains_key(entry.key.as_str()) {
                diagnostics.push(
                    Diagnostic::error(
                        "unknown-key",
                        format!("{} has no key `{}`", self.what, entry.key),
                        entry.key_at.label("unknown key"),
                    )
                    .help_if(did_you_mean(
                        &entry.key,
                        "keys that may stand here",
                        self.asked.keys().copied(),
                    )),
                );
            }
        }
    }
}

/// A list of texts; anything else is reported.
pub fn strings(value: &TomlValue, key: &str, diagnostics: &mut Vec<Diagnostic>) -> Option<Vec<Text>> {
    let Some(items) = value.as_array() else { return wrong_type(value, key, "a list of strings", diagnostics) };
    let texts: Vec<Text> = items
        .iter()
        .filter_map(|item| match &item.data {
            Toml::String(text) => Some(Text { text: text.clone(), at: item.at.clone() }),
            _ => wrong_type(item, key, "a string", diagnostics),
        })
        .collect();
    (texts.len() == items.len()).then_some(texts)
}

/// Reports a value of the wrong type and gives `None`.
pub fn wrong_type<T>(value: &TomlValue, key: &str, expected: &str, diagnostics: &mut Vec<Diagnostic>) -> Option<T> {
    diagnostics.push(Diagnostic::error(
        "wrong-type",
        format!("`{key}` must be {expected}, but is {}", value.kind()),
        value.at.label(format!("expected {expected}")),
    ));
    None
}
