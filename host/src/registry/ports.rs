//! [`PortSpec`]: an input or output of a stage, as its manifest describes it.

use indexmap::IndexMap;

use crate::diagnostic::{At, Diagnostic};
use crate::pipeline::spanned::{Reader, Text, Toml, TomlTable, TomlValue, wrong_type};

use super::caps::{CapsSpec, Side};

/// How many things a port carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Count {
    /// Exactly one.
    One,
    /// One or none. Of an output: computed only where something reads it, and it may be absent in a case.
    Optional,
    /// A list.
    Many,
    /// A set of named things.
    Named,
    /// Every case of the run (trainers).
    Dataset,
    /// Output: as many as the integer parameter says.
    Param(String),
    /// Output: as many as the input has.
    Like(String),
}

/// Which part of an image a port shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum View {
    /// Voxels; no headers.
    Pixels,
    /// Headers; no voxels.
    Headers,
    /// Both.
    Both,
}

/// Names of the elements of a `named` port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Names {
    /// Given in the manifest.
    List(Vec<String>),
    /// The checkpoint card gives them.
    Card,
}

/// One port.
#[derive(Debug, Clone, PartialEq)]
pub struct PortSpec {
    /// Its name.
    pub name: String,
    /// How many things it carries.
    pub count: Count,
    /// Fewest elements of a `many` or `named` port.
    pub min: Option<usize>,
    /// Most elements of a `many` or `named` port.
    pub max: Option<usize>,
    /// Element names of a `named` port; `None`: any.
    pub names: Option<Names>,
    /// What of an image it shows.
    pub view: View,
    /// The bool parameter that decides whether the port exists.
    pub when: Option<String>,
    /// Output: the stage says the size while it runs (`size = "data"`).
    pub size_from_data: bool,
    /// Input: filled by the host (`host = "decision"`).
    pub host: Option<String>,
    /// What is demanded or offered.
    pub caps: CapsSpec,
    /// Where the port's name stands.
    pub at: At,
}

impl PortSpec {
    /// The payload kind, where the manifest says one (inputs may list several: the first is given).
    pub fn kind(&self) -> Option<&str> {
        self.caps.literal_texts("kind").first().copied()
    }

    /// True where the port carries voxels on a grid in every case.
    pub fn is_gridded(&self) -> bool {
        let kinds = self.caps.literal_texts("kind");
        !kinds.is_empty() && kinds.iter().all(|k| *k == "image" || *k == "labels")
    }

    /// True where a node cannot do without this input.
    pub fn is_required(&self) -> bool {
        match self.count {
            Count::Optional => false,
            Count::Many | Count::Named => self.min.unwrap_or(1) > 0,
            _ => true,
        }
    }

    /// True where the stage sees what identifies a patient through this port.
    pub fn sees_headers(&self) -> bool {
        self.view != View::Pixels || self.caps.literal_texts("kind").contains(&"headers")
    }
}

/// Reads `inputs` or `outputs` of a stage.
pub(super) fn read_ports(
    table: Option<&TomlTable>,
    side: Side,
    stage: &str,
    diagnostics: &mut Vec<Diagnostic>,
) -> Vec<PortSpec> {
    let Some(table) = table else { return Vec::new() };
    let mut ports: IndexMap<String, PortSpec> = IndexMap::new();
    for entry in &table.entries {
        let Some(body) = entry.value.as_table() else {
            wrong_type(&entry.value, &entry.key, "a port's table", diagnostics).unwrap_or(());
            continue;
        };
        if !is_port_name(&entry.key) {
            diagnostics.push(Diagnostic::error(
                "bad-name",
                format!("`{}` cannot be the name of a port", entry.key),
                entry.key_at.label("expected small letters, digits, `-` and `_`, starting with a letter"),
            ));
        }
        let what = format!("{} `{}` of stage `{stage}`", side.word(), entry.key);
        let port = read_port(&entry.key, &entry.key_at, body, side, what, diagnostics);
        ports.insert(entry.key.clone(), port);
    }
    ports.into_values().collect()
}

fn is_port_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_')
}

fn read_port(
    name: &str,
    at: &At,
    table: &TomlTable,
    side: Side,
    what: String,
    diagnostics: &mut Vec<Diagnostic>,
) -> PortSpec {
    let mut reader = Reader::new(table, what.clone());
    // A refused count may have been any: what else needs one is then not reported.
    let count = match reader.string("count", diagnostics) {
        Some(text) => read_count(&text, side, diagnostics).unwrap_or(Count::Named),
        None => Count::One,
    };
    let limit = |value: Option<u64>| value.map(|n| usize::try_from(n).unwrap_or(usize::MAX));
    let min = limit(reader.unsigned("min", diagnostics));
    let max = limit(reader.unsigned("max", diagnostics));
    let several = matches!(count, Count::Many | Count::Named);
    for key in ["min", "max"] {
        if let (Some(entry), false) = (table.get(key), several) {
            refuse(diagnostics, &entry.key_at, format!("`{key}` needs `count = \"many\"` or `\"named\"`"));
        }
    }
    if let (Some(low), Some(high), Some(entry)) = (min, max, table.get("max"))
        && low > high
    {
        refuse(diagnostics, &entry.value.at, format!("`max = {high}` is below `min = {low}`"));
    }
    let names = reader.take("names").and_then(|entry| read_names(&entry.value, diagnostics));
    if let (Some(entry), true) = (table.get("names"), count != Count::Named) {
        refuse(diagnostics, &entry.key_at, "`names` needs `count = \"named\"`".to_owned());
    }
    let view = match reader.string("view", diagnostics) {
        None => View::Pixels,
        Some(text) => match text.text.as_str() {
            "pixels" => View::Pixels,
            "headers" => View::Headers,
            "both" => View::Both,
            _ => {
                refuse(diagnostics, &text.at, "`view` is one of \"pixels\", \"headers\", \"both\"".to_owned());
                View::Pixels
            }
        },
    };
    let when = reader.string("when", diagnostics).and_then(|text| match text.text.strip_prefix('$') {
        Some(param) => Some(param.to_owned()),
        None => {
            refuse(diagnostics, &text.at, "`when` names a bool parameter, as in \"$probabilities\"".to_owned());
            None
        }
    });
    let mut size_from_data = false;
    let mut host = None;
    match side {
        Side::Output => {
            if let Some(size) = reader.string("size", diagnostics) {
                match size.text.as_str() {
                    "caps" => {}
                    "data" => size_from_data = true,
                    _ => refuse(diagnostics, &size.at, "`size` is one of \"caps\", \"data\"".to_owned()),
                }
            }
        }
        Side::Input => {
            if let Some(text) = reader.string("host", diagnostics) {
                if text.text != "decision" {
                    refuse(diagnostics, &text.at, "`host` can only be \"decision\"".to_owned());
                }
                host = Some(text.text);
            }
        }
    }
    let caps = match reader.take("caps") {
        Some(entry) => match &entry.value.data {
            Toml::Table(table) => CapsSpec::read(table, side, &what, diagnostics),
            _ => wrong_type(&entry.value, "caps", "a table", diagnostics).unwrap_or_else(|| CapsSpec::empty(at)),
        },
        None => {
            reader.missing("caps", diagnostics);
            CapsSpec::empty(at)
        }
    };
    reader.finish(diagnostics);
    let port = PortSpec {
        name: name.to_owned(),
        count,
        min,
        max,
        names,
        view,
        when,
        size_from_data,
        host,
        caps,
        at: at.clone(),
    };
    if let Some(entry) = table.get("view")
        && port.caps.literal_texts("kind").iter().any(|k| *k != "image")
    {
        refuse(diagnostics, &entry.key_at, "`view` belongs to ports of kind \"image\" only".to_owned());
    }
    port
}

fn read_count(text: &Text, side: Side, diagnostics: &mut Vec<Diagnostic>) -> Option<Count> {
    let count = match (text.text.as_str(), side) {
        ("one", _) => Count::One,
        ("optional", _) => Count::Optional,
        ("many", _) => Count::Many,
        ("named", _) => Count::Named,
        ("dataset", Side::Input) => Count::Dataset,
        (other, Side::Output) if other.starts_with('$') => Count::Param(other[1..].to_owned()),
        (other, Side::Output) if other.starts_with("like:") => Count::Like(other[5..].to_owned()),
        _ => {
            let further = match side {
                Side::Input => "\"dataset\"",
                Side::Output => "\"$param\", \"like:<input>\"",
            };
            let message = format!("`count` is one of \"one\", \"optional\", \"many\", \"named\", {further}");
            refuse(diagnostics, &text.at, message);
            return None;
        }
    };
    Some(count)
}

fn read_names(value: &TomlValue, diagnostics: &mut Vec<Diagnostic>) -> Option<Names> {
    match &value.data {
        Toml::String(s) if s == "card" => Some(Names::Card),
        Toml::Array(_) => {
            let texts = crate::pipeline::spanned::strings(value, "names", diagnostics)?;
            Some(Names::List(texts.into_iter().map(|t| t.text).collect()))
        }
        _ => wrong_type(value, "names", "a list of strings, or \"card\"", diagnostics),
    }
}

pub(super) fn refuse(diagnostics: &mut Vec<Diagnostic>, at: &At, message: String) {
    diagnostics.push(Diagnostic::error("bad-manifest", message, at.label("not allowed")));
}
