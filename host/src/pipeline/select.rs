//! [`Select`]: which of a case's series a source takes.

use serde::{Deserialize, Serialize};

use crate::diagnostic::Diagnostic;

use super::spanned::{Reader, Text, TomlTable};

/// `select` of a source node. Every key given must hold; a case must have exactly one series for which all do.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Select {
    /// DICOM Modality, exactly.
    pub modality: Option<String>,
    /// Name of a folder on the way to the series, exactly.
    pub folder: Option<String>,
    /// No folder on the way to the series has this name.
    pub not_folder: Option<String>,
    /// A regular expression found in the Series Description (NIfTI: in the file's name).
    pub description: Option<String>,
    /// A regular expression not found there.
    pub not_description: Option<String>,
    /// Series Number, exactly.
    pub series_number: Option<i32>,
    /// Fewest slices.
    pub min_slices: Option<usize>,
    /// Localizers, and only them, instead of everything else.
    pub localizer: Option<bool>,
}

impl Select {
    pub(super) fn read(table: &TomlTable, node: &str, diagnostics: &mut Vec<Diagnostic>) -> Self {
        let mut reader = Reader::new(table, format!("`select` of node `{node}`"));
        let text = |t: Option<Text>| t.map(|t| t.text);
        let modality = text(reader.string("modality", diagnostics));
        let folder = text(reader.string("folder", diagnostics));
        let not_folder = text(reader.string("not_folder", diagnostics));
        let mut pattern = |key, diagnostics: &mut Vec<Diagnostic>| {
            let pattern = reader.string(key, diagnostics)?;
            if let Err(error) = regex::Regex::new(&pattern.text) {
                let why = error.to_string();
                let why = why.lines().last().unwrap_or("not a regular expression").trim().to_owned();
                diagnostics.push(Diagnostic::error(
                    "bad-value",
                    format!("`{key}` is not a regular expression"),
                    pattern.at.label(why),
                ));
            }
            Some(pattern.text)
        };
        let description = pattern("description", diagnostics);
        let not_description = pattern("not_description", diagnostics);
        let series_number = reader.take("series_number").and_then(|entry| match entry.value.data {
            super::spanned::Toml::Integer(n) if i32::try_from(n).is_ok() => i32::try_from(n).ok(),
            _ => super::spanned::wrong_type(&entry.value, "series_number", "a whole number", diagnostics),
        });
        let min_slices = reader.unsigned("min_slices", diagnostics).and_then(|n| usize::try_from(n).ok());
        let localizer = reader.boolean("localizer", diagnostics);
        reader.finish(diagnostics);
        Self { modality, folder, not_folder, description, not_description, series_number, min_slices, localizer }
    }
}
