//! Which series a source node takes: the `select = { … }` of a pipeline.

use serde::{Deserialize, Serialize};

use super::record::{SeriesKind, SeriesRecord};

/// Conditions on a series; all that are given must hold.
///
/// Without any, every series matches that is no localizer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Select {
    /// Modality (`CT`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub modality: Option<String>,
    /// The format: `dicom` or `nifti`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<SeriesKind>,
    /// A folder of exactly this name lies between the input folder and the series (or holds it).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub folder: Option<String>,
    /// No folder of exactly this name does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_folder: Option<String>,
    /// Regular expression that must be found in the Series Description (for NIfTI: in the file name).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<Pattern>,
    /// Regular expression that must not be found there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_description: Option<Pattern>,
    /// Series Number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub series_number: Option<i32>,
    /// Fewest slices.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_slices: Option<usize>,
    /// Take localizers (and only them) instead of leaving them out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub localizer: Option<bool>,
}

/// A regular expression that is known to compile.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Pattern(regex::Regex);

impl Pattern {
    /// Whether the expression is found in `text`.
    pub fn found_in(&self, text: &str) -> bool {
        self.0.is_match(text)
    }
}

impl TryFrom<String> for Pattern {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match regex::RegexBuilder::new(&text).size_limit(1 << 20).build() {
            Ok(regex) => Ok(Self(regex)),
            Err(regex::Error::Syntax(why)) => Err(format!("not a regular expression: {why}")),
            Err(_) => Err("the regular expression is too large".to_owned()),
        }
    }
}

impl From<Pattern> for String {
    fn from(pattern: Pattern) -> Self {
        pattern.0.as_str().to_owned()
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

impl Eq for Pattern {}

impl Select {
    /// Whether the series meets every condition.
    pub fn matches(&self, series: &SeriesRecord) -> bool {
        let in_folder = |name: &String| series.folder_parts.iter().any(|part| part == name);
        let described = |pattern: &Pattern| pattern.found_in(&series.description);
        self.modality.as_ref().is_none_or(|m| *m == series.modality)
            && self.kind.is_none_or(|k| k == series.kind)
            && self.folder.as_ref().is_none_or(in_folder)
            && !self.not_folder.as_ref().is_some_and(in_folder)
            && self.description.as_ref().is_none_or(described)
            && !self.not_description.as_ref().is_some_and(described)
            && self.series_number.is_none_or(|n| Some(n) == series.series_number)
            && self.min_slices.is_none_or(|n| series.slices() >= n)
            && self.localizer.unwrap_or(false) == series.localizer
    }

    /// The series that match, with their place in `series`.
    pub fn candidates<'a>(&self, series: &'a [SeriesRecord]) -> Vec<(usize, &'a SeriesRecord)> {
        series.iter().enumerate().filter(|(_, s)| self.matches(s)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(parts: &[&str], description: &str) -> SeriesRecord {
        SeriesRecord {
            kind: SeriesKind::Dicom,
            modality: "CT".to_owned(),
            description: description.to_owned(),
            series_number: Some(4),
            folder: Default::default(),
            folder_parts: parts.iter().map(|&p| p.to_owned()).collect(),
            study: "1.2".to_owned(),
            series: "1.2.3".to_owned(),
            part: 0,
            patient: String::new(),
            patient_names: Vec::new(),
            sop_class: String::new(),
            transfer_syntax: String::new(),
            rows: 1,
            columns: 1,
            instances: Vec::new(),
            geometry: None,
            derived_by_gantry: false,
            localizer: false,
            deidentified: false,
            burned_in_annotation: false,
            faults: Vec::new(),
            warnings: Vec::new(),
        }
    }

    fn select(text: &str) -> Select {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn folders_match_by_whole_name() {
        let vue = series(&["7", "POST VUE"], "chest");
        assert!(select("folder = 'POST VUE'").matches(&vue));
        assert!(!select("folder = 'POST'").matches(&vue));
        assert!(!select("folder = 'POST STD'").matches(&vue));
        assert!(select("not_folder = 'POST STD'").matches(&vue));
        assert!(!select("not_folder = 'POST VUE'").matches(&vue));
    }

    #[test]
    fn all_conditions_must_hold() {
        let s = series(&[], "Thorax 2.0 B30f");
        assert!(select("modality = 'CT'\ndescription = '(?i)thorax.*b30'\nseries_number = 4").matches(&s));
        assert!(!select("modality = 'MR'").matches(&s));
        assert!(select("kind = 'dicom'").matches(&s) && !select("kind = 'nifti'").matches(&s));
        assert!(!select("not_description = 'B30'").matches(&s));
        assert!(!select("series_number = 5").matches(&s));
        assert!(!select("min_slices = 1").matches(&s));
        assert!(select("").matches(&s));
        let scout = SeriesRecord { localizer: true, ..s };
        assert!(!select("").matches(&scout));
        assert!(select("localizer = true").matches(&scout));
    }

    #[test]
    fn mistakes_are_refused() {
        assert!(toml::from_str::<Select>("folders = 'x'").is_err());
        let error = toml::from_str::<Select>("description = '('").unwrap_err();
        assert!(error.to_string().contains("not a regular expression"), "{error}");
    }
}
