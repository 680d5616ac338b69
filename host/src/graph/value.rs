//! [`Offer`]: caps while they are being resolved, where a value may be known, known per case only, or spoilt by an error
//! reported elsewhere.

use indexmap::IndexMap;
use serde_json::{Map, Value as Json, json};

use crate::diagnostic::At;

use super::GridToken;

/// The value of a key of caps.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Cap {
    /// Known.
    Value(Json),
    /// Demand: must be known, whatever it is.
    Any,
    /// Known per case only.
    Dynamic,
    /// Spoilt by an error already reported; matches everything.
    Unknown,
}

/// A value, where it was said, and by which card, if by one.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Known {
    pub cap: Cap,
    pub at: At,
    pub card: Option<String>,
}

impl Known {
    pub fn new(cap: Cap, at: &At) -> Self {
        Self { cap, at: at.clone(), card: None }
    }

    pub fn unknown(at: &At) -> Self {
        Self::new(Cap::Unknown, at)
    }
}

/// The grid of an offer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Grid {
    /// The payload has none, or nobody said.
    None,
    /// Spoilt.
    Unknown,
    /// This one.
    Token(GridToken),
}

/// What one element of an output offers.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Offer {
    pub keys: IndexMap<String, Known>,
    pub grid: Grid,
    /// Everything not in `keys` is unknown too.
    pub wild: bool,
}

impl Offer {
    pub fn unknown() -> Self {
        Self { keys: IndexMap::new(), grid: Grid::Unknown, wild: true }
    }

    pub fn empty() -> Self {
        Self { keys: IndexMap::new(), grid: Grid::None, wild: false }
    }

    /// The value under `key`; `None` where nothing is said.
    pub fn cap(&self, key: &str) -> Option<Cap> {
        match self.keys.get(key) {
            Some(known) => Some(known.cap.clone()),
            None if self.wild => Some(Cap::Unknown),
            None => None,
        }
    }

    /// The known text under `key`.
    pub fn text(&self, key: &str) -> Option<&str> {
        match self.keys.get(key).map(|k| &k.cap) {
            Some(Cap::Value(Json::String(text))) => Some(text),
            _ => None,
        }
    }

    /// As the stage and `graph` show it; unknown keys are left out.
    pub fn to_json(&self) -> Json {
        let mut out = Map::new();
        for (key, known) in &self.keys {
            match &known.cap {
                Cap::Value(value) => {
                    out.insert(key.clone(), value.clone());
                }
                Cap::Dynamic | Cap::Any => {
                    out.insert(key.clone(), json!("dynamic"));
                }
                Cap::Unknown => {}
            }
        }
        if let Grid::Token(token) = &self.grid {
            out.insert("grid".to_owned(), json!(token.0));
        }
        Json::Object(out)
    }
}

/// The worst of several identities: `present`, `removed`, `none`; unknown if one of them is and none is `present`.
pub(super) fn worst_identity<'a>(offers: impl IntoIterator<Item = &'a Offer>) -> Option<Cap> {
    let rank = |cap: &Cap| match cap {
        Cap::Value(v) if v == "none" => 0,
        Cap::Value(v) if v == "removed" => 1,
        Cap::Value(_) => 3,
        _ => 2,
    };
    offers.into_iter().map(|o| o.cap("identity").unwrap_or(Cap::Unknown)).max_by_key(rank)
}

/// A value in words, for messages.
pub(super) fn words(value: &Json) -> String {
    match value {
        Json::String(s) => s.clone(),
        Json::Array(items) => format!("[{}]", items.iter().map(words).collect::<Vec<_>>().join(", ")),
        Json::Number(n) => n.as_f64().map_or_else(|| n.to_string(), |f| f.to_string()),
        other => other.to_string(),
    }
}
