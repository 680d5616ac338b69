//! Whether a state dict is exactly the weights of an architecture, and in what it differs if not.

use std::collections::HashSet;

use crate::architecture::{Architecture, Expected, Hyper};
use crate::error::{Error, Result, printable};
use crate::state::StateDict;

/// How many keys of each kind a message names.
const SHOWN: usize = 5;

/// A tensor of another shape or kind than the architecture says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misshaped {
    /// Its key.
    pub key: String,
    /// The shape (or kind of number) the architecture demands.
    pub expected: String,
    /// The shape (or element type) in the file.
    pub found: String,
}

/// All differences between a state dict and an architecture. Its text names the first five of each kind, with totals.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Mismatch {
    /// The architecture's name.
    pub architecture: String,
    /// The sizes read off the file, as far as that was possible.
    pub hyper: Option<Hyper>,
    /// Why the sizes could not be read off the file; the lists below are then empty, but `unexpected` holds all keys.
    pub undetermined: Option<String>,
    /// Keys the architecture has and the file has not.
    pub missing: Vec<String>,
    /// Keys the file has and the architecture has not.
    pub unexpected: Vec<String>,
    /// Tensors of a wrong shape or kind.
    pub misshaped: Vec<Misshaped>,
    /// Tensors with values that are NaN or infinite: key, how many such values.
    pub not_finite: Vec<(String, usize)>,
}

impl Mismatch {
    /// Whether there is no difference.
    pub(crate) fn is_empty(&self) -> bool {
        self.undetermined.is_none()
            && self.missing.is_empty()
            && self.unexpected.is_empty()
            && self.misshaped.is_empty()
            && self.not_finite.is_empty()
    }
}

impl std::fmt::Display for Mismatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "these are not the weights of a {}", self.architecture)?;
        if let Some(hyper) = &self.hyper {
            write!(f, " ({hyper})")?;
        }
        if let Some(why) = &self.undetermined {
            write!(f, ": {why}")?;
            return list(f, "the file holds", &self.unexpected);
        }
        list(f, "missing", &self.missing)?;
        list(f, "unexpected", &self.unexpected)?;
        let shapes: Vec<String> =
            self.misshaped.iter().map(|m| format!("{}: expected {}, found {}", m.key, m.expected, m.found)).collect();
        list(f, "wrong shape", &shapes)?;
        let values: Vec<String> = self.not_finite.iter().map(|(k, n)| format!("{k} ({n} values)")).collect();
        list(f, "NaN or infinite", &values)
    }
}

fn list(f: &mut std::fmt::Formatter<'_>, title: &str, items: &[String]) -> std::fmt::Result {
    if items.is_empty() {
        return Ok(());
    }
    write!(f, "\n  {title} ({}):", items.len())?;
    for item in items.iter().take(SHOWN) {
        write!(f, "\n    {}", printable(item))?;
    }
    if items.len() > SHOWN {
        write!(f, "\n    … and {} more", items.len() - SHOWN)?;
    }
    Ok(())
}

/// All differences between a state dict and the tensors expected: missing, superfluous and mis-shaped ones, integers where
/// floating-point numbers belong and the other way round, and values that are NaN or infinite.
pub(crate) fn compare(architecture: &str, expected: &[Expected], dict: &StateDict) -> Mismatch {
    let mut mismatch = Mismatch { architecture: architecture.to_owned(), ..Mismatch::default() };
    for e in expected {
        let Some(tensor) = dict.get(&e.key) else {
            mismatch.missing.push(e.key.clone());
            continue;
        };
        if tensor.shape() != e.shape {
            mismatch.misshaped.push(Misshaped {
                key: e.key.clone(),
                expected: format!("{:?}", e.shape),
                found: format!("{:?}", tensor.shape()),
            });
        } else if tensor.dtype().is_float() == e.integer {
            let kind = if e.integer { "whole numbers" } else { "floating-point numbers" };
            mismatch.misshaped.push(Misshaped {
                key: e.key.clone(),
                expected: kind.to_owned(),
                found: tensor.dtype().to_string(),
            });
        }
    }
    let known: HashSet<&str> = expected.iter().map(|e| e.key.as_str()).collect();
    for (key, tensor) in dict.iter() {
        if !known.contains(key) {
            mismatch.unexpected.push(key.to_owned());
        }
        let bad = tensor.count_non_finite();
        if bad > 0 {
            mismatch.not_finite.push((key.to_owned(), bad));
        }
    }
    mismatch
}

impl Architecture {
    /// Reads the sizes of the network off its weights, without checking that the weights are complete.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if a size cannot be found or is out of the architecture's bounds.
    pub fn infer(&self, dict: &StateDict) -> Result<Hyper> {
        self.sizes(dict).map_err(|why| {
            Error::Mismatch(Box::new(Mismatch {
                architecture: self.name().to_owned(),
                undetermined: Some(why),
                unexpected: dict.keys().map(str::to_owned).collect(),
                ..Mismatch::default()
            }))
        })
    }

    /// Demands exactly the tensors of the architecture: every key, no other key, every shape, floating-point weights, and no
    /// NaN or infinity.
    ///
    /// # Errors
    /// [`Error::Mismatch`] with all differences; [`Error::Architecture`] if the document itself does not work out.
    pub fn check(&self, dict: &StateDict) -> Result<Hyper> {
        let hyper = self.infer(dict)?;
        let mut mismatch = compare(self.name(), &self.expected(&hyper)?, dict);
        if mismatch.is_empty() {
            return Ok(hyper);
        }
        mismatch.hyper = Some(hyper);
        Err(Error::Mismatch(Box::new(mismatch)))
    }
}
