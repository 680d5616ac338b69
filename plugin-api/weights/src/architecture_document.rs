//! The TOML document of an architecture, and its translation into rules. Grammar: see [`crate::architecture`].

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use crate::architecture::{Architecture, HyperRule, Layer, NamedTensor, Source};
use crate::expression::{Expression, Template};
use crate::pattern::Pattern;

/// The document's text, key by key.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Document {
    architecture: u32,
    name: String,
    summary: String,
    #[serde(default)]
    hyper: Vec<HyperText>,
    #[serde(default)]
    groups: BTreeMap<String, GroupText>,
    layers: Vec<LayerText>,
    #[serde(default)]
    card: CardText,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HyperText {
    name: String,
    shape_of: Option<String>,
    axis: Option<usize>,
    highest: Option<Vec<String>>,
    first: Option<i64>,
    present: Option<String>,
    value: Option<Size>,
    min: Option<i64>,
    max: Option<i64>,
    multiple_of: Option<i64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GroupText {
    sizes: Vec<String>,
    layers: Vec<GroupLayerText>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GroupLayerText {
    key: String,
    #[serde(default)]
    tensors: BTreeMap<String, Vec<Size>>,
    #[serde(default)]
    integers: BTreeMap<String, Vec<Size>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LayerText {
    key: String,
    repeat: Option<Size>,
    when: Option<Size>,
    #[serde(default)]
    tensors: BTreeMap<String, Vec<Size>>,
    #[serde(default)]
    integers: BTreeMap<String, Vec<Size>>,
    #[serde(rename = "use")]
    group: Option<String>,
    #[serde(default)]
    with: BTreeMap<String, Size>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct CardText {
    masks: Option<Size>,
    #[serde(default)]
    caps: BTreeMap<String, toml::Table>,
}

/// A number, or arithmetic.
#[derive(Deserialize)]
#[serde(untagged)]
enum Size {
    Number(i64),
    Text(String),
}

impl Size {
    fn expression(&self) -> Result<Expression, String> {
        match self {
            Self::Number(n) => Expression::parse(&n.to_string()),
            Self::Text(text) => Expression::parse(text),
        }
    }
}

impl Document {
    /// Checks the document and parses its arithmetic; the error says where.
    pub(crate) fn build(self) -> Result<Architecture, String> {
        if self.architecture != 1 {
            return Err(format!("`architecture = {}`; this program reads 1", self.architecture));
        }
        let mut hyper = Vec::new();
        let mut known = BTreeSet::new();
        for text in self.hyper {
            let rule = text.build(&known)?;
            if rule.name == "i" || !known.insert(rule.name.clone()) {
                return Err(format!("hyper `{}`: the name is taken", rule.name));
            }
            hyper.push(rule);
        }
        let mut layers = Vec::new();
        for text in &self.layers {
            let layer = text.build(&self.groups).map_err(|e| format!("layer `{}`: {e}", text.key))?;
            layer.check_names(&known).map_err(|e| format!("layer `{}`: {e}", text.key))?;
            layers.push(layer);
        }
        let card_masks = self.card.masks.as_ref().map(Size::expression).transpose()?;
        if let Some(e) = &card_masks {
            let mut names = BTreeSet::new();
            e.names_into(&mut names);
            all_known(&names, &known).map_err(|e| format!("card: {e}"))?;
        }
        Ok(Architecture {
            name: self.name,
            summary: self.summary,
            hyper,
            layers,
            card_masks,
            card_caps: self.card.caps,
        })
    }
}

impl HyperText {
    fn build(self, known: &BTreeSet<String>) -> Result<HyperRule, String> {
        let of = |e: String| format!("hyper `{}`: {e}", self.name);
        let source = match (&self.shape_of, &self.highest, &self.present, &self.value) {
            (Some(key), None, None, None) => {
                let axis = self.axis.ok_or_else(|| of("`axis` is missing".to_owned()))?;
                Source::ShapeOf { key: key.clone(), axis }
            }
            (None, Some(texts), None, None) => {
                let mut patterns = Vec::new();
                for text in texts {
                    let pattern = Pattern::parse(text).map_err(of)?;
                    if !pattern.has_number() {
                        return Err(of(format!("`{text}` has no `{{}}`")));
                    }
                    patterns.push((text.clone(), pattern));
                }
                Source::Highest { patterns, first: self.first.unwrap_or(0) }
            }
            (None, None, Some(text), None) => Source::Present(Pattern::parse(text).map_err(of)?),
            (None, None, None, Some(size)) => {
                let expression = size.expression().map_err(of)?;
                let mut names = BTreeSet::new();
                expression.names_into(&mut names);
                all_known(&names, known).map_err(of)?;
                Source::Value(expression)
            }
            _ => return Err(of("give exactly one of `shape_of`, `highest`, `present`, `value`".to_owned())),
        };
        if self.axis.is_some() && self.shape_of.is_none() {
            return Err(of("`axis` goes with `shape_of`".to_owned()));
        }
        if self.first.is_some() && self.highest.is_none() {
            return Err(of("`first` goes with `highest`".to_owned()));
        }
        if self.multiple_of.is_some_and(|n| n < 1) {
            return Err(of("`multiple_of` is at least 1".to_owned()));
        }
        let Self { name, min, max, multiple_of, .. } = self;
        Ok(HyperRule { name, source, min, max, multiple_of })
    }
}

impl LayerText {
    fn build(&self, groups: &BTreeMap<String, GroupText>) -> Result<Layer, String> {
        let mut tensors = Vec::new();
        let mut with = BTreeMap::new();
        match &self.group {
            None if !self.with.is_empty() => return Err("`with` goes with `use`".to_owned()),
            None => named_tensors("", &self.tensors, &self.integers, &mut tensors)?,
            Some(_) if !(self.tensors.is_empty() && self.integers.is_empty()) => {
                return Err("give `use`, or `tensors` and `integers`".to_owned());
            }
            Some(name) => {
                let group = groups.get(name).ok_or_else(|| format!("there is no group `{name}`"))?;
                for size in &group.sizes {
                    let value = self.with.get(size).ok_or_else(|| format!("`with` gives no `{size}`"))?;
                    with.insert(size.clone(), value.expression()?);
                }
                if let Some(other) = self.with.keys().find(|k| !group.sizes.contains(k)) {
                    return Err(format!("group `{name}` has no size `{other}`"));
                }
                for layer in &group.layers {
                    named_tensors(&format!("{}.", layer.key), &layer.tensors, &layer.integers, &mut tensors)?;
                }
            }
        }
        if tensors.is_empty() {
            return Err("it has no tensors".to_owned());
        }
        Ok(Layer {
            key: Template::parse(&self.key)?,
            repeat: self.repeat.as_ref().map(Size::expression).transpose()?,
            when: self.when.as_ref().map(Size::expression).transpose()?,
            with,
            tensors,
        })
    }
}

impl Layer {
    /// Every name must be a size found by `hyper`, one given by `with`, or `i` under `repeat`.
    fn check_names(&self, known: &BTreeSet<String>) -> Result<(), String> {
        let mut used = BTreeSet::new();
        self.repeat.iter().chain(&self.when).for_each(|e| e.names_into(&mut used));
        all_known(&used, known)?;
        let mut known = known.clone();
        if self.repeat.is_some() {
            known.insert("i".to_owned());
        }
        let mut used = BTreeSet::new();
        self.with.values().for_each(|e| e.names_into(&mut used));
        self.key.names_into(&mut used);
        all_known(&used, &known)?;
        known.extend(self.with.keys().cloned());
        let mut used = BTreeSet::new();
        for (name, shape, _) in &self.tensors {
            name.names_into(&mut used);
            shape.iter().for_each(|e| e.names_into(&mut used));
        }
        all_known(&used, &known)
    }
}

fn named_tensors(
    prefix: &str,
    floats: &BTreeMap<String, Vec<Size>>,
    integers: &BTreeMap<String, Vec<Size>>,
    into: &mut Vec<NamedTensor>,
) -> Result<(), String> {
    for (map, integer) in [(floats, false), (integers, true)] {
        for (name, shape) in map {
            let shape = shape.iter().map(Size::expression).collect::<Result<_, _>>()?;
            into.push((Template::parse(&format!("{prefix}{name}"))?, shape, integer));
        }
    }
    Ok(())
}

fn all_known(used: &BTreeSet<String>, known: &BTreeSet<String>) -> Result<(), String> {
    match used.difference(known).next() {
        Some(name) => Err(format!("`{name}` is not defined before it is used")),
        None => Ok(()),
    }
}
