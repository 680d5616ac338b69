//! Table E.1-1 of PS3.15 as CSV: what the profile does with an attribute, and which options change that.

use std::collections::BTreeMap;

use dicom_core::Tag;

/// Columns of the table, and the options that they stand for.
const OPTIONS: [(&str, &str); 10] = [
    ("retain_safe_private", "safe-private"),
    ("retain_uids", "uids"),
    ("retain_device_identity", "device"),
    ("retain_institution_identity", "institution"),
    ("retain_patient_characteristics", "patient-characteristics"),
    ("retain_longitudinal_full_dates", "full-dates"),
    ("retain_longitudinal_modified_dates", "modified-dates"),
    ("clean_descriptors", "descriptors"),
    ("clean_structured_content", "structured-content"),
    ("clean_graphics", "graphics"),
];

/// One attribute of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    /// Action of the basic profile: `X`, `Z/D`, …
    pub(super) basic: String,
    /// Options that treat it otherwise.
    pub(super) options: Vec<&'static str>,
}

/// The table.
#[derive(Debug, Clone, Default)]
pub struct Table {
    rows: BTreeMap<Tag, Row>,
}

impl Table {
    /// Reads the CSV text of the table (columns by their names; tags as `(gggg,eeee)`). Rows for repeating groups and for
    /// private attributes are passed over: the profile removes those whatever they are.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn read(csv: &str) -> Result<Self, String> {
        let mut reader = csv::ReaderBuilder::new().flexible(true).trim(csv::Trim::All).from_reader(csv.as_bytes());
        let wrong = |e: csv::Error| format!("the table is no CSV: {e}");
        let head = reader.headers().map_err(wrong)?.clone();
        if head.is_empty() {
            return Err("the table is empty".to_owned());
        }
        let column = |name: &str| head.iter().position(|h| h == name).ok_or(format!("the table has no column {name}"));
        let (tag, basic) = (column("tag")?, column("basic_profile")?);
        let options: Vec<(usize, &'static str)> =
            OPTIONS.iter().map(|&(name, option)| Ok((column(name)?, option))).collect::<Result<_, String>>()?;
        let mut rows = BTreeMap::new();
        for row in reader.records() {
            let row = row.map_err(wrong)?;
            let field = |at: usize| row.get(at).unwrap_or_default();
            let Ok(tag) = field(tag).parse::<Tag>() else { continue };
            let options = options.iter().filter(|(at, _)| !field(*at).is_empty()).map(|&(_, option)| option).collect();
            rows.insert(tag, Row { basic: field(basic).to_owned(), options });
        }
        if rows.is_empty() { Err("the table has no rows".to_owned()) } else { Ok(Self { rows }) }
    }

    /// The row of an attribute.
    pub(super) fn row(&self, tag: Tag) -> Option<&Row> {
        self.rows.get(&tag)
    }

    /// Does this option treat the attribute otherwise than the basic profile?
    pub(super) fn has(&self, tag: Tag, option: &str) -> bool {
        self.row(tag).is_some_and(|row| row.options.contains(&option))
    }
}
