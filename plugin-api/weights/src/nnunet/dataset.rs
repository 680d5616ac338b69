//! [`Dataset`]: `dataset.json`, the channels and labels a model was trained with.

use serde_json::Value;

use crate::error::{Result, printable};

use super::fields::{Fields, parse, shown};

/// What the document is called in errors.
const DOCUMENT: &str = "dataset.json";

/// Channels of an image; nnU-Net's own data sets have up to four.
const MAX_CHANNELS: usize = 64;

/// The largest label value read.
const MAX_LABEL: u32 = u16::MAX as u32;

/// A region: voxels of several labels, predicted by one head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Region {
    /// Its name.
    pub name: String,
    /// The labels of the training data that it unites.
    pub members: Vec<u32>,
    /// The value that its voxels get; a later region overwrites an earlier one (`regions_class_order`).
    pub value: u32,
}

/// What the network's heads stand for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Labels {
    /// Head `i` is label `i`; the largest output wins. Names by value, `background` first.
    Classes(Vec<String>),
    /// Head `i` is region `i`; each is a question of its own (sigmoid above 0.5).
    Regions(Vec<Region>),
}

/// `dataset.json`, as far as running a model depends on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dataset {
    /// Names of the channels, in order, such as `CT`.
    pub channels: Vec<String>,
    /// What the heads stand for.
    pub labels: Labels,
    /// A label of voxels that training left out; it has no head.
    pub ignore: Option<u32>,
}

impl Dataset {
    /// The file's name.
    pub const FILE: &str = "dataset.json";

    /// Reads the text of `dataset.json`.
    ///
    /// # Errors
    /// If it is not JSON, or its channels or labels are not of nnU-Net v2: the background must be 0, the others count from
    /// 1 without a gap, `ignore` comes last, and regions need `regions_class_order`.
    pub fn parse(text: &str) -> Result<Self> {
        let document = parse(text, DOCUMENT)?;
        let top = Fields::new(&document, DOCUMENT);
        let channels = channels(&top)?;
        let own = Fields::new(top.object("labels")?, format!("{DOCUMENT}: `labels`"));
        // nnU-Net version 1 writes {"0": "background"}.
        if own.map.keys().all(|key| key.parse::<u32>().is_ok()) && own.map.values().any(Value::is_string) {
            return Err(own.unsupported("values to names, as in version 1 of nnU-Net; names to values expected"));
        }
        let mut named: Vec<(&str, Vec<u32>)> = Vec::new();
        let mut ignore = None;
        for (name, value) in own.map {
            let values = values(&own, name, value)?;
            match (name.as_str(), values.as_slice()) {
                ("background", [0]) => named.push((name, values)),
                ("background", _) => {
                    return Err(own.wrong(format!("`background` is {}; 0 expected", shown(value))));
                }
                ("ignore", &[value]) => ignore = Some(value),
                ("ignore", _) => return Err(own.wrong(format!("`ignore` is {}; one number expected", shown(value)))),
                _ => named.push((name, values)),
            }
        }
        if !named.iter().any(|(name, _)| *name == "background") {
            return Err(own.wrong("`background` is missing; it must be there and be 0"));
        }
        let regions = named.iter().any(|(_, values)| values.len() > 1);
        let mut all: Vec<u32> = named.iter().flat_map(|(_, values)| values.iter().copied()).collect();
        all.sort_unstable();
        all.dedup();
        if let Some(gap) = all.iter().zip(0..).find(|(value, expected)| **value != *expected) {
            return Err(own.wrong(format!("label {} is missing; the labels must be 0, 1, 2, … without a gap", gap.1)));
        }
        if let Some(ignore) = ignore.filter(|ignore| usize::try_from(*ignore) != Ok(all.len())) {
            return Err(own.wrong(format!("`ignore` is {ignore}; it must be the last, {}", all.len())));
        }
        if all.len() < 2 {
            return Err(own.wrong("there is no label beside the background"));
        }
        let labels = if regions { read_regions(&top, &named)? } else { read_classes(&own, named)? };
        Ok(Self { channels, labels, ignore })
    }

    /// Channels of the network's output.
    pub fn heads(&self) -> usize {
        match &self.labels {
            Labels::Classes(names) => names.len(),
            Labels::Regions(regions) => regions.len(),
        }
    }

    /// Values that the result can hold beside 0, with their names, ascending.
    pub fn values(&self) -> Vec<(u32, &str)> {
        let mut values: Vec<(u32, &str)> = match &self.labels {
            Labels::Classes(names) => (0..).zip(names).skip(1).map(|(value, name)| (value, name.as_str())).collect(),
            Labels::Regions(regions) => regions.iter().map(|r| (r.value, r.name.as_str())).collect(),
        };
        values.sort_by_key(|(value, _)| *value);
        values
    }
}

fn channels(top: &Fields<'_>) -> Result<Vec<String>> {
    let key = if top.get("channel_names").is_some() { "channel_names" } else { "modality" };
    let own = Fields::new(top.object(key)?, format!("{DOCUMENT}: `{key}`"));
    if !(1..=MAX_CHANNELS).contains(&own.map.len()) {
        return Err(own.wrong(format!("{} channels; 1 to {MAX_CHANNELS} expected", own.map.len())));
    }
    (0..own.map.len()).map(|channel| own.text(&channel.to_string()).map(printable)).collect()
}

/// The labels behind a name, each once, ascending.
fn values(own: &Fields<'_>, name: &str, value: &Value) -> Result<Vec<u32>> {
    let one = |value: &Value| {
        // Some writers make them 1.0.
        let whole = value.as_f64().filter(|n| n.fract() == 0.0 && (0.0..=f64::from(MAX_LABEL)).contains(n));
        whole.map(|n| n as u32).ok_or_else(|| {
            let (name, found) = (printable(name), shown(value));
            own.wrong(format!("`{name}`: a whole number from 0 to {MAX_LABEL} expected, found {found}"))
        })
    };
    let mut values = match value {
        Value::Array(items) if !items.is_empty() => items.iter().map(one).collect::<Result<Vec<_>>>()?,
        single => vec![one(single)?],
    };
    values.sort_unstable();
    values.dedup();
    Ok(values)
}

fn read_classes(own: &Fields<'_>, mut named: Vec<(&str, Vec<u32>)>) -> Result<Labels> {
    named.sort_by(|a, b| a.1.cmp(&b.1));
    if let Some(two) = named.windows(2).find(|two| two[0].1 == two[1].1) {
        let (a, b) = (printable(two[0].0), printable(two[1].0));
        return Err(own.wrong(format!("`{a}` and `{b}` have the same value")));
    }
    Ok(Labels::Classes(named.into_iter().map(|(name, _)| printable(name)).collect()))
}

fn read_regions(top: &Fields<'_>, named: &[(&str, Vec<u32>)]) -> Result<Labels> {
    let named: Vec<&(&str, Vec<u32>)> = named.iter().filter(|(_, members)| members.as_slice() != [0]).collect();
    let order = top.list("regions_class_order")?;
    if order.len() != named.len() {
        return Err(top.wrong(format!(
            "`regions_class_order` has {} values; one for each of {} regions expected",
            order.len(),
            named.len()
        )));
    }
    let mut regions: Vec<Region> = Vec::new();
    for ((name, members), value) in named.into_iter().zip(order) {
        let found = value.as_u64().and_then(|n| u32::try_from(n).ok()).filter(|n| (1..=MAX_LABEL).contains(n));
        let Some(value) = found.filter(|n| regions.iter().all(|region| region.value != *n)) else {
            let found = shown(value);
            return Err(
                top.wrong(format!("`regions_class_order`: different whole numbers above 0 expected, found {found}"))
            );
        };
        regions.push(Region { name: printable(name), members: members.clone(), value });
    }
    Ok(Labels::Regions(regions))
}
