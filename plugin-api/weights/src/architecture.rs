//! [`Architecture`]: a network as data. `arch/<name>.toml` says how to read its sizes off a state dict and which tensors
//! it then has, of which shapes.
//!
//! ```toml
//! architecture = 1
//! name    = "two-layer"
//! summary = "…"
//!
//! [[hyper]]                         # sizes, in the order they are found; later ones may use earlier ones
//! name     = "width"
//! shape_of = "first.weight"         # a length of an axis …
//! axis     = 0
//! min      = 1
//! [[hyper]]
//! name     = "blocks"
//! highest  = ["block.{}.*"]         # … the highest number at {}, counted from `first` (0 if there is none) …
//! first    = 1
//! max      = 64
//! [[hyper]]
//! name     = "gated"
//! present  = "block.{}.gate.*"      # … whether any key is like this (1 or 0) …
//! [[hyper]]
//! name     = "hidden"
//! value    = "width/4"              # … or arithmetic
//!
//! [[layers]]                        # every key is written once; `{}` holds arithmetic
//! key      = "block.{1 + i}.gate"
//! repeat   = "blocks"               # for i = 0 .. blocks-1
//! when     = "gated"                # only if not 0
//! tensors  = { weight = ["hidden", "width", 1, 1], bias = ["hidden"] }     # floating-point
//! integers = { steps = [] }                                                # whole numbers
//!
//! [groups.norm]                     # layers that occur several times, with their own names for sizes
//! sizes  = ["c"]
//! layers = [{ key = "0", tensors = { weight = ["c"] } }]
//! [[layers]]
//! key  = "head"                     # its keys are put before the group's: head.0.weight
//! use  = "norm"
//! with = { c = "2*width" }
//!
//! [card]                            # what a card for such weights says
//! masks = "cin - 1"                 # how many mask names it must list
//! caps.image = { quantity = "normalized" }
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use indexmap::IndexMap;

use crate::architecture_document::Document;
use crate::error::{Error, Result, io};
use crate::expression::{Expression, Lookup, Template};
use crate::pattern::Pattern;
use crate::state::StateDict;

/// Tensors an architecture may have: beyond this the document, or the sizes read off a file, are wrong.
const MAX_TENSORS: usize = 100_000;

/// The sizes of one network, by name, in the architecture's order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Hyper {
    values: IndexMap<String, i64>,
    /// Which of them are yes or no.
    flags: BTreeSet<String>,
}

impl Hyper {
    /// Sizes given by hand, such as those of a network to be made. Yes is 1, no is 0.
    pub fn new<'a>(values: impl IntoIterator<Item = (&'a str, i64)>) -> Self {
        Self { values: values.into_iter().map(|(k, v)| (k.to_owned(), v)).collect(), flags: BTreeSet::new() }
    }

    /// The value under `name`.
    pub fn get(&self, name: &str) -> Option<i64> {
        self.values.get(name).copied()
    }

    /// The value under `name` as a size.
    ///
    /// # Errors
    /// If there is none, or it is negative.
    pub fn size(&self, name: &str) -> Result<usize> {
        let value = self.get(name).ok_or_else(|| Error::Architecture(format!("says nothing about `{name}`")))?;
        usize::try_from(value).map_err(|_| Error::Architecture(format!("gives `{name}` the value {value}")))
    }

    /// Whether the value under `name` is there and not 0.
    pub fn flag(&self, name: &str) -> bool {
        self.get(name).is_some_and(|v| v != 0)
    }

    /// Names and values in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, i64)> {
        self.values.iter().map(|(k, &v)| (k.as_str(), v))
    }
}

impl std::fmt::Display for Hyper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (i, (name, value)) in self.iter().enumerate() {
            let comma = if i > 0 { ", " } else { "" };
            match (self.flags.contains(name), value) {
                (true, 0) => write!(f, "{comma}{name} no")?,
                (true, _) => write!(f, "{comma}{name} yes")?,
                (false, n) => write!(f, "{comma}{name} {n}")?,
            }
        }
        Ok(())
    }
}

/// A tensor that a network must have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// Its key in the state dict.
    pub key: String,
    /// Lengths of its axes, slowest first.
    pub shape: Vec<usize>,
    /// Whether its elements are whole numbers (counters) instead of floating-point numbers.
    pub integer: bool,
}

/// A network as data: see the module's text for the grammar.
#[derive(Debug, Clone)]
pub struct Architecture {
    pub(crate) name: String,
    pub(crate) summary: String,
    pub(crate) hyper: Vec<HyperRule>,
    pub(crate) layers: Vec<Layer>,
    pub(crate) card_masks: Option<Expression>,
    pub(crate) card_caps: BTreeMap<String, toml::Table>,
}

/// How one size is found, and its bounds.
#[derive(Debug, Clone)]
pub(crate) struct HyperRule {
    pub name: String,
    pub source: Source,
    pub min: Option<i64>,
    pub max: Option<i64>,
    pub multiple_of: Option<i64>,
}

/// Where a size is read.
#[derive(Debug, Clone)]
pub(crate) enum Source {
    ShapeOf { key: String, axis: usize },
    Highest { patterns: Vec<(String, Pattern)>, first: i64 },
    Present(Pattern),
    Value(Expression),
}

/// A tensor of a layer: its name below the layer's key, its shape, whether it holds whole numbers.
pub(crate) type NamedTensor = (Template, Vec<Expression>, bool);

/// A layer after groups have been put in.
#[derive(Debug, Clone)]
pub(crate) struct Layer {
    pub key: Template,
    pub repeat: Option<Expression>,
    pub when: Option<Expression>,
    /// Sizes named by the group's caller.
    pub with: BTreeMap<String, Expression>,
    pub tensors: Vec<NamedTensor>,
}

impl Architecture {
    /// Reads a document. `origin` names it in errors.
    ///
    /// # Errors
    /// If it is not TOML, has unknown keys, or uses a name that nothing defines.
    pub fn parse(text: &str, origin: &str) -> Result<Self> {
        let wrong = |problem: String| Error::Architecture(format!("{origin}: {problem}"));
        let document: Document = toml::from_str(text).map_err(|e| wrong(e.to_string().trim_end().to_owned()))?;
        document.build().map_err(wrong)
    }

    /// Reads a file.
    ///
    /// # Errors
    /// As [`Self::parse`]; also if the file cannot be read.
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let text = std::fs::read_to_string(path).map_err(io(path))?;
        Self::parse(&text, &path.display().to_string())
    }

    /// Finds `<folder>/<name>.toml` in the first folder that has it.
    ///
    /// # Errors
    /// If none has it (the error lists those there are), or the document is wrong or calls itself something else.
    pub fn find(name: &str, folders: &[PathBuf]) -> Result<Self> {
        let known = Self::list(folders);
        let Some(path) = known.get(name) else {
            let names: Vec<&str> = known.keys().map(String::as_str).collect();
            let names = if names.is_empty() { "none is installed".to_owned() } else { names.join(", ") };
            return Err(Error::Architecture(format!("`{name}` is not known; there are: {names}")));
        };
        let found = Self::load(path)?;
        if found.name != name {
            return Err(Error::Architecture(format!("{}: calls itself `{}`", path.display(), found.name)));
        }
        Ok(found)
    }

    /// Names and files of all architectures in `folders`; the first folder wins.
    pub fn list(folders: &[PathBuf]) -> BTreeMap<String, PathBuf> {
        let mut known = BTreeMap::new();
        for folder in folders {
            // A folder that is absent holds nothing; one that cannot be read shows as the missing name.
            for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                let path = entry.path();
                let is_document = path.extension().is_some_and(|e| e == "toml");
                if let Some(stem) = path.file_stem().and_then(|s| s.to_str()).filter(|_| is_document) {
                    known.entry(stem.to_owned()).or_insert(path);
                }
            }
        }
        known
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// One line about it.
    pub fn summary(&self) -> &str {
        &self.summary
    }

    /// Reads the sizes off a state dict.
    ///
    /// # Errors
    /// A text that says which size could not be found and why.
    pub(crate) fn sizes(&self, dict: &StateDict) -> Result<Hyper, String> {
        let mut hyper = Hyper::default();
        for rule in &self.hyper {
            let name = &rule.name;
            let (value, seen) = match &rule.source {
                Source::ShapeOf { key, axis } => {
                    let tensor = dict.get(key).ok_or_else(|| format!("`{key}` is missing, which says `{name}`"))?;
                    let length = tensor.shape().get(*axis).ok_or_else(|| {
                        format!("`{key}` has the shape {:?}; its axis {axis} would say `{name}`", tensor.shape())
                    })?;
                    (i64::try_from(*length).unwrap_or(i64::MAX), format!("axis {axis} of `{key}`"))
                }
                Source::Highest { patterns, first } => {
                    let numbers = dict.keys().flat_map(|k| patterns.iter().filter_map(|(_, p)| p.number(k)));
                    let count = numbers.max().map_or(0, |n| n.saturating_sub(*first).saturating_add(1));
                    let texts: Vec<&str> = patterns.iter().map(|(t, _)| t.as_str()).collect();
                    (count, format!("keys like {}", texts.join(", ")))
                }
                Source::Present(pattern) => {
                    hyper.flags.insert(name.clone());
                    (i64::from(dict.keys().any(|k| pattern.number(k).is_some())), String::new())
                }
                Source::Value(expression) => (expression.evaluate(&|n| hyper.get(n))?, "arithmetic".to_owned()),
            };
            rule.within_bounds(value).map_err(|problem| format!("`{name}` would be {value} ({seen}); {problem}"))?;
            hyper.values.insert(name.clone(), value);
        }
        Ok(hyper)
    }

    /// All tensors a network of these sizes has, in the document's order of layers, by name within a layer. Sizes that are arithmetic need not be given.
    ///
    /// # Errors
    /// If a size is missing, out of bounds, or gives a shape that is no shape.
    pub fn expected(&self, hyper: &Hyper) -> Result<Vec<Expected>> {
        let wrong = |problem: String| Error::Architecture(format!("{}: {problem}", self.name));
        let mut hyper = hyper.clone();
        for rule in &self.hyper {
            if let (Source::Value(e), None) = (&rule.source, hyper.get(&rule.name)) {
                let value = e.evaluate(&|n| hyper.get(n)).map_err(wrong)?;
                hyper.values.insert(rule.name.clone(), value);
            }
            let value = hyper.get(&rule.name).ok_or_else(|| wrong(format!("`{}` is not given", rule.name)))?;
            rule.within_bounds(value).map_err(|p| wrong(format!("`{}` is {value}; {p}", rule.name)))?;
        }
        let mut expected = Vec::new();
        for layer in &self.layers {
            layer.expand(&hyper, &mut expected).map_err(wrong)?;
        }
        let mut keys = BTreeSet::new();
        match expected.iter().find(|e| !keys.insert(e.key.as_str())) {
            Some(twice) => Err(wrong(format!("`{}` is described twice", twice.key))),
            None => Ok(expected),
        }
    }

    /// How many mask names a card for such weights must list; `None` if the architecture does not say.
    ///
    /// # Errors
    /// If the arithmetic in the document does not work out.
    pub fn masks(&self, hyper: &Hyper) -> Result<Option<usize>> {
        let Some(expression) = &self.card_masks else { return Ok(None) };
        let wrong = |problem: String| Error::Architecture(format!("{}: {problem}", self.name));
        let n = expression.evaluate(&|name| hyper.get(name)).map_err(wrong)?;
        usize::try_from(n).map(Some).map_err(|_| wrong(format!("{n} masks")))
    }

    /// The caps that every card for such weights has, by port.
    pub fn caps(&self) -> &BTreeMap<String, toml::Table> {
        &self.card_caps
    }
}

impl HyperRule {
    fn within_bounds(&self, value: i64) -> Result<(), String> {
        if let Some(min) = self.min.filter(|&min| value < min) {
            return Err(format!("at least {min} is expected"));
        }
        if let Some(max) = self.max.filter(|&max| value > max) {
            return Err(format!("at most {max} is expected"));
        }
        match self.multiple_of {
            Some(step) if value.checked_rem(step) != Some(0) => Err(format!("a multiple of {step} is expected")),
            _ => Ok(()),
        }
    }
}

impl Layer {
    fn expand(&self, hyper: &Hyper, expected: &mut Vec<Expected>) -> Result<(), String> {
        let when = self.when.as_ref().map(|e| e.evaluate(&|n| hyper.get(n))).transpose()?;
        if when == Some(0) {
            return Ok(());
        }
        let times = self.repeat.as_ref().map_or(Ok(1), |e| e.evaluate(&|n| hyper.get(n)))?;
        for i in 0..times {
            let outer = |name: &str| if name == "i" && self.repeat.is_some() { Some(i) } else { hyper.get(name) };
            let mut own = BTreeMap::new();
            for (name, expression) in &self.with {
                own.insert(name.as_str(), expression.evaluate(&outer)?);
            }
            let inner = |name: &str| own.get(name).copied().or_else(|| outer(name));
            let inner: Lookup<'_> = &inner;
            let prefix = self.key.fill(&outer)?;
            for (name, shape, integer) in &self.tensors {
                if expected.len() >= MAX_TENSORS {
                    return Err(format!("more than {MAX_TENSORS} tensors"));
                }
                let key = format!("{prefix}.{}", name.fill(inner)?);
                let axis = |e: &Expression| {
                    let n = e.evaluate(inner)?;
                    usize::try_from(n).map_err(|_| format!("`{key}` would have an axis of length {n}"))
                };
                let shape = shape.iter().map(axis).collect::<Result<_, _>>()?;
                expected.push(Expected { key, shape, integer: *integer });
            }
        }
        Ok(())
    }
}
