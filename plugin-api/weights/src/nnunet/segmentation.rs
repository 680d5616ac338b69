//! [`Segmentation`]: `segmentation.json` of an imported checkpoint. Which models it has, how they are run together, and
//! what the values of the result mean.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::card::Card;
use crate::error::{Error, Result};

/// The largest value a result can hold: it is written as 8-bit numbers.
const MAX_VALUE: u32 = 255;

/// Whose way of running the models is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Way {
    /// nnU-Net's own: one model, which resamples image and result itself.
    Nnunet,
    /// TotalSegmentator's: the image is brought to the models' spacing first, one or several models run on it, and the
    /// united labels are brought back.
    Totalsegmentator,
}

/// One model of a checkpoint: `<folder>/{plans.json, dataset.json, fold_<n>.safetensors}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// Its folder inside the checkpoint.
    pub folder: String,
    /// Name of the data set it was trained on.
    pub dataset: String,
    /// The configuration of its plans that is run.
    pub configuration: String,
    /// The trainer's class.
    pub trainer: String,
    /// Axes along which it may be mirrored (0 to 2, in the network's order); `null`: it must not.
    pub mirror_axes: Option<Vec<usize>>,
    /// Its folds, in the order in which they are averaged.
    pub folds: Vec<u32>,
    /// The model's own values, each with the value it gets in the result. Values that are not listed count as background.
    pub labels: Vec<[u32; 2]>,
    /// Of a rough model: the spacing that the image is brought to for it, mm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spacing_mm: Option<f64>,
}

impl Part {
    /// Path of a document of the model inside the checkpoint, such as `heart/plans.json`.
    pub fn file(&self, name: &str) -> String {
        format!("{}/{name}", self.folder)
    }

    /// Path of a fold's weights inside the checkpoint.
    pub fn weights(&self, fold: u32) -> String {
        format!("{}/fold_{fold}.safetensors", self.folder)
    }
}

/// What a value of the result means.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Label {
    /// The voxel's value, above 0.
    pub value: u32,
    /// Its name, unique.
    pub name: String,
    /// Coding scheme, such as `SCT`; empty where there is no code.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub scheme: String,
    /// Code in the scheme.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub code: String,
    /// The code's meaning.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub meaning: String,
    /// Colour, `0xRRGGBBAA`.
    pub rgba: u32,
}

/// The document `segmentation.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Segmentation {
    /// Version of the document: 1.
    pub format: u32,
    /// How the models are run.
    pub way: Way,
    /// Distance of neighbouring windows as a fraction of the patch, above 0 and at most 1.
    pub step: f64,
    /// TotalSegmentator's way: the spacing that the image is brought to, mm. `null` for nnU-Net's way.
    pub spacing_mm: Option<f64>,
    /// The models; where two of them find something in a voxel, the later one is believed.
    pub parts: Vec<Part>,
    /// The model that finds where to look.
    pub rough: Option<Part>,
    /// Everything the result can hold beside 0, by value.
    pub labels: Vec<Label>,
}

impl Segmentation {
    /// The file's name in a checkpoint.
    pub const FILE: &str = "segmentation.json";

    /// Reads and checks the document.
    ///
    /// # Errors
    /// If it is not JSON of this form, or contradicts itself.
    pub fn parse(text: &str) -> Result<Self> {
        let own: Self = serde_json::from_str(text).map_err(|e| Error::Malformed(format!("{}: {e}", Self::FILE)))?;
        own.validate()?;
        Ok(own)
    }

    /// The document's text.
    ///
    /// # Errors
    /// If it contradicts itself.
    pub fn to_json(&self) -> Result<String> {
        self.validate()?;
        let text = serde_json::to_string_pretty(self);
        text.map(|t| t + "\n").map_err(|e| Error::Malformed(format!("{}: {e}", Self::FILE)))
    }

    /// All models: the parts, then the rough one.
    pub fn models(&self) -> impl Iterator<Item = &Part> {
        self.parts.iter().chain(&self.rough)
    }

    /// The label called `name`.
    pub fn label(&self, name: &str) -> Option<&Label> {
        self.labels.iter().find(|label| label.name == name)
    }

    /// Checks that the document does not contradict itself.
    ///
    /// # Errors
    /// Naming what does.
    pub fn validate(&self) -> Result<()> {
        self.fault().map_or(Ok(()), |fault| Err(Error::Malformed(format!("{}: {fault}", Self::FILE))))
    }

    fn fault(&self) -> Option<String> {
        let length = |mm: f64| mm.is_finite() && mm > 0.0;
        if self.format != 1 {
            return Some(format!("`format` is {}; this program reads 1", self.format));
        }
        if !(self.step > 0.0 && self.step <= 1.0) {
            return Some(format!("`step` is {}; a number above 0 and up to 1 expected", self.step));
        }
        match (self.way, self.spacing_mm) {
            (Way::Nnunet, Some(_)) => return Some("`spacing_mm` is for TotalSegmentator's way; null expected".into()),
            (Way::Totalsegmentator, found) if !found.is_some_and(length) => {
                return Some(format!("`spacing_mm` is {found:?}; a length above 0 expected"));
            }
            _ => {}
        }
        if self.parts.is_empty() {
            return Some("`parts` is empty".to_owned());
        }
        if self.way == Way::Nnunet && (self.parts.len() > 1 || self.rough.is_some()) {
            return Some("nnU-Net's way runs one part and no rough model".to_owned());
        }
        if self.labels.is_empty() {
            return Some("`labels` is empty".to_owned());
        }
        let mut names = BTreeSet::new();
        let mut values = BTreeSet::new();
        for label in &self.labels {
            if !(1..=MAX_VALUE).contains(&label.value) {
                return Some(format!("label {:?} has value {}; 1 to {MAX_VALUE} expected", label.name, label.value));
            }
            if label.name.is_empty() || !names.insert(&label.name) || !values.insert(label.value) {
                return Some(format!("label {} {:?}: a value and a name of its own expected", label.value, label.name));
            }
            if label.scheme.is_empty() != label.code.is_empty() {
                return Some(format!("label {:?}: `scheme` and `code` come together", label.name));
            }
        }
        let mut folders = BTreeSet::new();
        for (i, part) in self.models().enumerate() {
            if !Card::is_name(&part.folder) || !folders.insert(&part.folder) {
                return Some(format!("part folder {:?}: a name of its own expected", part.folder));
            }
            if let Some(fault) = part.fault(&values, i == self.parts.len()) {
                return Some(format!("part `{}`: {fault}", part.folder));
            }
        }
        if let Some(part) = self.parts.iter().find(|part| part.spacing_mm.is_some()) {
            return Some(format!("part `{}`: only the rough model has a spacing of its own", part.folder));
        }
        match &self.rough {
            Some(rough) if !rough.spacing_mm.is_some_and(length) => {
                Some(format!("the rough model's `spacing_mm` is {:?}; a length above 0 expected", rough.spacing_mm))
            }
            _ => None,
        }
    }
}

impl Part {
    fn fault(&self, values: &BTreeSet<u32>, rough: bool) -> Option<String> {
        if self.configuration.is_empty() {
            return Some("`configuration` is empty".to_owned());
        }
        let axes = self.mirror_axes.as_deref().unwrap_or(&[0]);
        if axes.is_empty() || axes.iter().any(|axis| *axis > 2) || axes.windows(2).any(|two| two[0] >= two[1]) {
            return Some(format!("`mirror_axes` is {axes:?}; null or axes from 0 to 2, ascending, expected"));
        }
        let folds: BTreeSet<u32> = self.folds.iter().copied().collect();
        if folds.is_empty() || folds.len() != self.folds.len() {
            return Some(format!("`folds` is {:?}; at least one, each once, expected", self.folds));
        }
        if self.labels.is_empty() {
            return Some("`labels` is empty".to_owned());
        }
        let mut seen = BTreeMap::new();
        for [local, global] in &self.labels {
            if *local == 0 || seen.insert(local, global).is_some() {
                return Some(format!("label {local} is mapped twice, or is the background"));
            }
            // The rough model may know more than the result holds.
            if !rough && !values.contains(global) {
                return Some(format!("label {local} becomes {global}, which `labels` does not have"));
            }
        }
        None
    }
}
