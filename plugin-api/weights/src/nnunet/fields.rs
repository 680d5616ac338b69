//! [`Fields`]: one object of a JSON document, read field by field, with errors that name document and field.

use serde_json::{Map, Value};

use crate::error::{Error, Result, printable};

/// The largest document read, in bytes: plans of real models have some ten thousand.
const MAX_BYTES: usize = 16 << 20;
/// The longest list of stages, channels or the like.
const MAX_ITEMS: usize = 4096;

/// An object and where it stands.
#[derive(Debug, Clone)]
pub(super) struct Fields<'a> {
    pub map: &'a Map<String, Value>,
    /// Such as ``plans: configuration `3d_fullres` ``.
    pub place: String,
}

/// Parses a whole document.
pub(super) fn parse(text: &str, what: &str) -> Result<Map<String, Value>> {
    if text.len() > MAX_BYTES {
        return Err(Error::Malformed(format!("{what}: {} bytes; at most {MAX_BYTES} are read", text.len())));
    }
    match serde_json::from_str(text) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(other) => Err(Error::Malformed(format!("{what}: an object expected, found {}", shown(&other)))),
        Err(error) => Err(Error::Malformed(format!("{what}: not valid JSON: {error}"))),
    }
}

/// A value, short enough for an error.
pub(super) fn shown(value: &Value) -> String {
    match value {
        Value::Array(items) if items.len() > 8 => format!("a list of {}", items.len()),
        Value::Object(_) => "an object".to_owned(),
        other => printable(&other.to_string()),
    }
}

impl<'a> Fields<'a> {
    pub fn new(map: &'a Map<String, Value>, place: impl Into<String>) -> Self {
        Self { map, place: place.into() }
    }

    /// An error about the object.
    pub fn wrong(&self, problem: impl std::fmt::Display) -> Error {
        Error::Malformed(format!("{}: {problem}", self.place))
    }

    /// What is well formed and not supported.
    pub fn unsupported(&self, problem: impl std::fmt::Display) -> Error {
        Error::Unsupported(format!("{}: {problem}", self.place))
    }

    /// The field, unless it is absent or null.
    pub fn get(&self, key: &str) -> Option<&'a Value> {
        self.map.get(key).filter(|value| !value.is_null())
    }

    pub fn need(&self, key: &str) -> Result<&'a Value> {
        self.get(key).ok_or_else(|| self.wrong(format!("`{key}` is missing")))
    }

    fn mistyped(&self, key: &str, expected: &str, found: &Value) -> Error {
        self.wrong(format!("`{key}`: {expected} expected, found {}", shown(found)))
    }

    pub fn text(&self, key: &str) -> Result<&'a str> {
        let value = self.need(key)?;
        value.as_str().ok_or_else(|| self.mistyped(key, "text", value))
    }

    pub fn boolean(&self, key: &str, absent: bool) -> Result<bool> {
        match self.get(key) {
            None => Ok(absent),
            Some(value) => value.as_bool().ok_or_else(|| self.mistyped(key, "true or false", value)),
        }
    }

    pub fn object(&self, key: &str) -> Result<&'a Map<String, Value>> {
        let value = self.need(key)?;
        value.as_object().ok_or_else(|| self.mistyped(key, "an object", value))
    }

    pub fn list(&self, key: &str) -> Result<&'a [Value]> {
        let value = self.need(key)?;
        match value.as_array() {
            Some(items) if items.len() <= MAX_ITEMS => Ok(items),
            _ => Err(self.mistyped(key, "a list", value)),
        }
    }

    /// A finite number.
    pub fn number(&self, key: &str) -> Result<f64> {
        let value = self.need(key)?;
        value.as_f64().filter(|n| n.is_finite()).ok_or_else(|| self.mistyped(key, "a number", value))
    }

    /// A whole number in `1..=max`.
    pub fn count(&self, key: &str, max: usize) -> Result<usize> {
        let value = self.need(key)?;
        count(value, max).ok_or_else(|| self.mistyped(key, &format!("a whole number from 1 to {max}"), value))
    }

    /// `n` whole numbers in `1..=max`: a list of as many, or one number for all.
    pub fn counts(&self, key: &str, n: usize, max: usize) -> Result<Vec<usize>> {
        let value = self.need(key)?;
        let wrong = || self.mistyped(key, &format!("{n} whole numbers from 1 to {max}"), value);
        match value {
            Value::Array(items) if items.len() == n => {
                items.iter().map(|item| count(item, max).ok_or_else(wrong)).collect()
            }
            Value::Number(_) => Ok(vec![count(value, max).ok_or_else(wrong)?; n]),
            _ => Err(wrong()),
        }
    }

    /// For each of `n` stages three whole numbers in `1..=max`, `[z, y, x]`; one number stands for three, and one for all
    /// stages.
    pub fn triples(&self, key: &str, n: usize, max: usize) -> Result<Vec<[usize; 3]>> {
        let value = self.need(key)?;
        let expected = format!("for each of {n} stages 3 whole numbers from 1 to {max}");
        let triple = |value: &Value| match value {
            Value::Number(_) => count(value, max).map(|n| [n; 3]),
            Value::Array(items) => match items.as_slice() {
                [z, y, x] => Some([count(z, max)?, count(y, max)?, count(x, max)?]),
                _ => None,
            },
            _ => None,
        };
        match value {
            Value::Array(items) if items.len() == n => {
                let two = |item: &&Value| item.as_array().is_some_and(|axes| axes.len() == 2);
                if let Some(found) = items.iter().find(two) {
                    let found = shown(found);
                    return Err(self.unsupported(format!("`{key}` has {found}: a 2-D network; 3-D ones are run")));
                }
                items.iter().map(|item| triple(item).ok_or_else(|| self.mistyped(key, &expected, item))).collect()
            }
            Value::Number(_) => Ok(vec![triple(value).ok_or_else(|| self.mistyped(key, &expected, value))?; n]),
            _ => Err(self.mistyped(key, &expected, value)),
        }
    }
}

/// A whole number in `1..=max`.
pub(super) fn count(value: &Value, max: usize) -> Option<usize> {
    value.as_u64().and_then(|n| usize::try_from(n).ok()).filter(|n| (1..=max).contains(n))
}

/// The name behind the last dot: modules moved between versions of the libraries, classes did not.
pub(super) fn class(path: &str) -> &str {
    path.rsplit('.').next().unwrap_or(path)
}
