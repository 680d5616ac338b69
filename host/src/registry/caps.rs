//! [`CapsSpec`]: what a port demands or offers, as the manifest writes it, before any parameter or card is known.
//!
//! Which keys there are, which values each may have, and which forms (`$param`, `@input.key`, `card`, `any`, `dynamic`)
//! may stand where, is decided here; `graph` resolves them.

use indexmap::IndexMap;
use serde_json::{Value as Json, json};

use crate::diagnostic::{At, Diagnostic, did_you_mean};
use crate::pipeline::spanned::{Toml, TomlTable, TomlValue, strings, wrong_type};

use super::ports::refuse;

/// Input or output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Demands.
    Input,
    /// Offers.
    Output,
}

impl Side {
    /// `input` or `output`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Input => "input",
            Self::Output => "output",
        }
    }
}

/// The keys of caps, in the order in which a mismatch is reported.
pub const KEYS: [&str; 14] = [
    "kind",
    "quantity",
    "modality",
    "channels",
    "window",
    "physical",
    "dtype",
    "spacing_mm",
    "labels",
    "schema",
    "media",
    "identity",
    "synthetic",
    "grid",
];
/// Payload kinds.
pub const KINDS: [&str; 6] = ["image", "labels", "headers", "record", "table", "file"];
/// Element types.
pub const DTYPES: [&str; 11] = ["i8", "i16", "i32", "i64", "u8", "u16", "u32", "f16", "f32", "f64", "bf16"];
/// What a payload says about the patient, best first.
pub const IDENTITIES: [&str; 3] = ["none", "removed", "present"];

/// A value in caps.
#[derive(Debug, Clone, PartialEq)]
pub enum Term {
    /// As it stands: text, number, truth value.
    Literal(Json),
    /// `"$param"`
    Param(String),
    /// `"@input.key"`
    Input {
        /// The input port.
        port: String,
        /// The key taken from what is offered there.
        key: String,
    },
    /// `"card"`: the checkpoint card says.
    Card,
    /// `"any"`: known, whatever it is.
    Any,
    /// `"dynamic"`: known per case only.
    Dynamic,
    /// A list of these.
    List(Vec<Term>),
    /// Grid of an output: a new one.
    NewGrid,
    /// `same:<input>`
    SameGrid(String),
    /// `sub:<input>` (outputs)
    SubGrid(String),
    /// `lattice:<input>` (inputs)
    LatticeGrid(String),
    /// `frame:<input>` (inputs)
    FrameGrid(String),
}

/// One key's value and its place.
#[derive(Debug, Clone, PartialEq)]
pub struct Cap {
    /// The value.
    pub term: Term,
    /// Where the value stands.
    pub at: At,
}

/// Caps of a port as written.
#[derive(Debug, Clone, PartialEq)]
pub struct CapsSpec {
    /// Key -> value.
    pub keys: IndexMap<String, Cap>,
    /// Outputs: copy what is offered on this input.
    pub like: Option<(String, At)>,
    /// Outputs: keys not copied.
    pub without: Vec<String>,
    /// Where the table stands.
    pub at: At,
}

impl CapsSpec {
    /// Caps that say nothing.
    pub fn empty(at: &At) -> Self {
        Self { keys: IndexMap::new(), like: None, without: Vec::new(), at: at.clone() }
    }

    /// The literal texts under `key`: one, or each of a list of alternatives.
    pub fn literal_texts(&self, key: &str) -> Vec<&str> {
        match self.keys.get(key).map(|c| &c.term) {
            Some(Term::Literal(Json::String(s))) => vec![s],
            Some(Term::List(items)) => items
                .iter()
                .filter_map(|t| match t {
                    Term::Literal(Json::String(s)) => Some(s.as_str()),
                    _ => None,
                })
                .collect(),
            _ => Vec::new(),
        }
    }

    /// Every term, lists flattened, with its key.
    pub fn terms(&self) -> Vec<(&str, &Term, &At)> {
        let mut out = Vec::new();
        for (key, cap) in &self.keys {
            match &cap.term {
                Term::List(items) => out.extend(items.iter().map(|t| (key.as_str(), t, &cap.at))),
                term => out.push((key.as_str(), term, &cap.at)),
            }
        }
        out
    }

    pub(super) fn read(table: &TomlTable, side: Side, what: &str, diagnostics: &mut Vec<Diagnostic>) -> Self {
        let mut caps = Self::empty(&table.at);
        for entry in &table.entries {
            match (entry.key.as_str(), side) {
                ("like", Side::Output) => match entry.value.as_str() {
                    Some(input) => caps.like = Some((input.to_owned(), entry.value.at.clone())),
                    None => wrong_type(&entry.value, "like", "the name of an input", diagnostics).unwrap_or(()),
                },
                ("without", Side::Output) => {
                    for key in strings(&entry.value, "without", diagnostics).unwrap_or_default() {
                        if KEYS.contains(&key.text.as_str()) {
                            caps.without.push(key.text);
                        } else {
                            unknown_cap(&key.text, &key.at, what, side, diagnostics);
                        }
                    }
                }
                (key, _) if KEYS.contains(&key) => {
                    // A refused value is known to be there: what else depends on it is not reported as missing.
                    let term = read_term(key, &entry.value, side, diagnostics).unwrap_or(Term::Dynamic);
                    caps.keys.insert(key.to_owned(), Cap { term, at: entry.value.at.clone() });
                }
                (key, _) => unknown_cap(key, &entry.key_at, what, side, diagnostics),
            }
        }
        if let (None, Some(entry)) = (&caps.like, table.get("without")) {
            refuse(diagnostics, &entry.key_at, "`without` needs `like`".to_owned());
        }
        if caps.like.is_none() && !caps.keys.contains_key("kind") {
            diagnostics.push(Diagnostic::error(
                "missing-key",
                format!("caps of {what} do not say `kind`"),
                table.at.label("`kind` is required here"),
            ));
        }
        caps
    }
}

fn unknown_cap(key: &str, at: &At, what: &str, side: Side, diagnostics: &mut Vec<Diagnostic>) {
    let known = KEYS.iter().copied().chain(match side {
        Side::Input => [].iter().copied(),
        Side::Output => ["like", "without"].iter().copied(),
    });
    diagnostics.push(
        Diagnostic::error("unknown-key", format!("caps of {what} have no key `{key}`"), at.label("unknown key"))
            .help_if(did_you_mean(key, "keys of caps", known)),
    );
}

fn read_term(key: &str, value: &TomlValue, side: Side, diagnostics: &mut Vec<Diagnostic>) -> Option<Term> {
    match &value.data {
        Toml::String(text) => read_text_term(key, text, value, side, diagnostics),
        Toml::Array(items) => {
            let list_key = matches!(key, "channels" | "labels" | "window" | "spacing_mm");
            if !list_key && (side == Side::Output || !is_set_key(key)) {
                refuse(diagnostics, &value.at, format!("`{key}` of an {} is one value, not a list", side.word()));
                return None;
            }
            let terms: Vec<Term> = items.iter().map(|v| read_element(key, v, diagnostics)).collect::<Option<_>>()?;
            check_list(key, &terms, value, diagnostics)?;
            Some(Term::List(terms))
        }
        Toml::Boolean(b) if key == "synthetic" => Some(Term::Literal(json!(b))),
        Toml::Integer(_) | Toml::Float(_) if key == "spacing_mm" => read_element(key, value, diagnostics),
        _ => wrong_type(value, key, expected(key), diagnostics),
    }
}

/// True for keys compared as sets: a demand may list alternatives.
pub fn is_set_key(key: &str) -> bool {
    matches!(key, "kind" | "quantity" | "physical" | "dtype" | "modality" | "schema" | "media")
}

fn expected(key: &str) -> &'static str {
    match key {
        "synthetic" => "true or false",
        "window" => "[low, high], \"per-slice\" or \"per-volume\"",
        "spacing_mm" => "a number or [z, y, x]",
        "channels" | "labels" => "a list of names",
        _ => "a string",
    }
}

/// A text that is the whole value of `key`.
fn read_text_term(
    key: &str,
    text: &str,
    value: &TomlValue,
    side: Side,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<Term> {
    if key == "grid" {
        return read_grid(text, value, side, diagnostics);
    }
    match text {
        "card" => return Some(Term::Card),
        "dynamic" => return Some(Term::Dynamic),
        "any" if side == Side::Input => return Some(Term::Any),
        "any" => {
            refuse(diagnostics, &value.at, "\"any\" is a demand; an output offers a value".to_owned());
            return None;
        }
        _ => {}
    }
    if let Some(term) = reference_term(text, value, diagnostics) {
        return term;
    }
    match key {
        "channels" | "labels" | "spacing_mm" | "synthetic" => wrong_type(value, key, expected(key), diagnostics),
        "window" if text != "per-slice" && text != "per-volume" => wrong_type(value, key, expected(key), diagnostics),
        _ => literal_text(key, text, value, diagnostics),
    }
}

/// `$param` and `@input.key`; `None` where the text is neither, `Some(None)` where it is one written wrongly.
fn reference_term(text: &str, value: &TomlValue, diagnostics: &mut Vec<Diagnostic>) -> Option<Option<Term>> {
    if let Some(param) = text.strip_prefix('$') {
        return Some(Some(Term::Param(param.to_owned())));
    }
    let path = text.strip_prefix('@')?;
    match path.split_once('.') {
        Some((port, key)) if KEYS.contains(&key) && key != "grid" => {
            Some(Some(Term::Input { port: port.to_owned(), key: key.to_owned() }))
        }
        _ => {
            refuse(diagnostics, &value.at, format!("`{text}` has not the form \"@input.key\" with a key of caps"));
            Some(None)
        }
    }
}

fn literal_text(key: &str, text: &str, value: &TomlValue, diagnostics: &mut Vec<Diagnostic>) -> Option<Term> {
    if let Some(choices) = closed_set(key)
        && !choices.contains(&text)
    {
        diagnostics.push(
            Diagnostic::error("bad-manifest", format!("`{key}` cannot be \"{text}\""), value.at.label("not allowed"))
                .help_if(did_you_mean(text, "values", choices.iter().copied())),
        );
        return None;
    }
    if text.is_empty() {
        refuse(diagnostics, &value.at, format!("`{key}` is empty"));
        return None;
    }
    Some(Term::Literal(json!(text)))
}

/// The values a key may have, where the grammar closes them.
pub fn closed_set(key: &str) -> Option<&'static [&'static str]> {
    match key {
        "kind" => Some(&KINDS),
        "dtype" => Some(&DTYPES),
        "identity" => Some(&IDENTITIES),
        _ => None,
    }
}

/// An element of a list, or a single number.
fn read_element(key: &str, value: &TomlValue, diagnostics: &mut Vec<Diagnostic>) -> Option<Term> {
    match &value.data {
        Toml::String(text) => {
            if let Some(term) = reference_term(text, value, diagnostics) {
                return term;
            }
            match key {
                "window" | "spacing_mm" => wrong_type(value, key, "a number", diagnostics),
                _ => literal_text(key, text, value, diagnostics),
            }
        }
        Toml::Integer(_) | Toml::Float(_) if matches!(key, "window" | "spacing_mm") => {
            let number = value.as_number().filter(|n| n.is_finite());
            if number.is_none() || (key == "spacing_mm" && number <= Some(0.0)) {
                refuse(diagnostics, &value.at, format!("`{key}` needs finite numbers, a spacing above 0"));
                return None;
            }
            number.map(|n| Term::Literal(json!(n)))
        }
        _ => wrong_type(value, key, expected(key), diagnostics),
    }
}

fn check_list(key: &str, terms: &[Term], value: &TomlValue, diagnostics: &mut Vec<Diagnostic>) -> Option<()> {
    let wanted = match key {
        "window" => Some(2),
        "spacing_mm" => Some(3),
        _ => None,
    };
    if wanted.is_some_and(|n| n != terms.len()) {
        return wrong_type(value, key, expected(key), diagnostics);
    }
    if terms.is_empty() {
        refuse(diagnostics, &value.at, format!("`{key}` is empty"));
        return None;
    }
    if let ("window", [Term::Literal(low), Term::Literal(high)]) = (key, terms)
        && low.as_f64() >= high.as_f64()
    {
        refuse(diagnostics, &value.at, format!("the window starts at {low} and ends at {high}"));
        return None;
    }
    Some(())
}

fn read_grid(text: &str, value: &TomlValue, side: Side, diagnostics: &mut Vec<Diagnostic>) -> Option<Term> {
    let term = match (text.split_once(':'), side) {
        (None, Side::Output) if text == "new" => Term::NewGrid,
        (Some(("same", input)), _) => Term::SameGrid(input.to_owned()),
        (Some(("sub", input)), Side::Output) => Term::SubGrid(input.to_owned()),
        (Some(("lattice", input)), Side::Input) => Term::LatticeGrid(input.to_owned()),
        (Some(("frame", input)), Side::Input) => Term::FrameGrid(input.to_owned()),
        _ => {
            let forms = match side {
                Side::Output => "\"new\", \"same:<input>\" or \"sub:<input>\"",
                Side::Input => "\"same:<input>\", \"lattice:<input>\" or \"frame:<input>\"",
            };
            refuse(diagnostics, &value.at, format!("`grid` of an {} is {forms}", side.word()));
            return None;
        }
    };
    Some(term)
}

/// A value of caps in a checkpoint card: a literal, or for an input a list of alternatives.
pub(super) fn read_card_value(key: &str, value: &TomlValue, diagnostics: &mut Vec<Diagnostic>) -> Option<Json> {
    match read_term(key, value, Side::Input, diagnostics)? {
        Term::Literal(json) => Some(json),
        Term::List(items) => {
            let literals: Option<Vec<Json>> = items
                .into_iter()
                .map(|t| match t {
                    Term::Literal(json) => Some(json),
                    _ => None,
                })
                .collect();
            if literals.is_none() {
                refuse(diagnostics, &value.at, format!("`{key}` of a card must be a plain value"));
            }
            literals.map(Json::Array)
        }
        _ => {
            refuse(diagnostics, &value.at, format!("`{key}` of a card must be a plain value"));
            None
        }
    }
}
