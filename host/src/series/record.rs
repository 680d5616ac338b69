//! What a scan knows of a series: plain data, without pixels, that can be written down and read back.
//!
//! Everything here may hold patient text (paths, UIDs, descriptions). What may be shown or logged is the input index
//! (`#17`), the `code` and the `text` of a [`Fault`].

use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::input::Stamp;

use super::geometry::Geometry;

/// Codes of faults that a caller may accept: the series is then still what it says, only not what most stages expect.
pub const ALLOWABLE: [&str; 6] =
    ["series-gap", "uneven-spacing", "gantry-tilt", "slice-offset", "rescale-type", "damaged-neighbour"];

/// Something wrong with one input or one series, in words that carry no patient text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// Stable kebab-case name, such as `series-gap`.
    pub code: String,
    /// What is wrong, where (`#17`, slice 4), what was expected and what was found.
    pub text: String,
}

impl Fault {
    /// A fault under a stable code.
    pub fn new(code: &str, text: impl Into<String>) -> Self {
        Self { code: code.to_owned(), text: text.into() }
    }

    /// The same fault, its text led by the place it was found.
    pub fn at(self, place: impl std::fmt::Display) -> Self {
        Self { text: format!("{place}: {}", self.text), code: self.code }
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.text, self.code)
    }
}

impl std::error::Error for Fault {}

/// The format a series comes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SeriesKind {
    /// One or more DICOM image instances.
    Dicom,
    /// One `.nii` or `.nii.gz` file.
    Nifti,
    /// SOP instances of any class: everything of one patient and study.
    Instances,
}

/// One slice of a series: a file, or one frame of a multi-frame file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InstanceRecord {
    /// Where the file lies (private).
    pub path: PathBuf,
    /// Index of the file in the scan, shown to users as `#n`.
    pub input: usize,
    /// What tells its content from another, 64 hexadecimal digits: SHA-256 of the file's bytes. For [`SeriesKind::Instances`]
    /// not all of them need be read: see [`super::instance_file::InstanceFile::digest`].
    pub digest: String,
    /// What the system said of the file when it was scanned; the same words again: the same bytes.
    #[serde(default)]
    pub stamp: Option<Stamp>,
    /// SOP Instance UID; synthetic (`2.25.…`) where the file has none and `repair` allows it.
    pub sop_instance: String,
    /// Instance Number (0020,0013). Never used to order slices.
    pub number: Option<i32>,
    /// Centre of the first voxel, LPS, millimetres.
    pub position_mm: Option<[f64; 3]>,
    /// Frame in the file, counted from 0, for multi-frame instances.
    pub frame: Option<u32>,
}

/// One series: slices that make one volume, ordered ascending along the normal (row x column direction).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SeriesRecord {
    /// The format it comes in.
    pub kind: SeriesKind,
    /// DICOM Modality (`CT`, `MR`), or empty for NIfTI.
    pub modality: String,
    /// Series Description, or the file's name for NIfTI (private).
    pub description: String,
    /// Series Number (0020,0011).
    pub series_number: Option<i32>,
    /// Deepest folder common to all instances (private).
    pub folder: PathBuf,
    /// `folder` below the root of the scan, one component an element, outermost first (private).
    pub folder_parts: Vec<String>,
    /// Study Instance UID, or a synthetic group id.
    pub study: String,
    /// Series Instance UID, or a synthetic group id.
    pub series: String,
    /// Tells the parts of one Series Instance UID apart that were split by orientation, matrix or frame of reference:
    /// 0 for the part with the most slices, then 1, 2, …
    pub part: usize,
    /// Raw patient key: Patient ID and name, or a synthetic one. Private; only ever hashed.
    pub patient: String,
    /// Patient's Names, as the headers spell them, where the key does not hold them (private).
    #[serde(default)]
    pub patient_names: Vec<String>,
    /// SOP Class UID of the instances.
    pub sop_class: String,
    /// Transfer Syntax UID of the first instance.
    pub transfer_syntax: String,
    /// Rows of a slice, pixels.
    pub rows: usize,
    /// Columns of a slice, pixels.
    pub columns: usize,
    /// The slices in order.
    pub instances: Vec<InstanceRecord>,
    /// The grid; `None` where no sound grid exists (then `faults` says why).
    pub geometry: Option<Geometry>,
    /// Written by Gantry itself.
    pub derived_by_gantry: bool,
    /// Image Type says LOCALIZER.
    pub localizer: bool,
    /// Patient Identity Removed (0012,0062) is YES in every instance.
    pub deidentified: bool,
    /// Burned In Annotation (0028,0301) is YES in an instance.
    pub burned_in_annotation: bool,
    /// What keeps the series from being used. Empty for a sound series.
    pub faults: Vec<Fault>,
    /// What is worth saying but does not keep the series from being used.
    pub warnings: Vec<Fault>,
}

impl SeriesRecord {
    /// Number of slices.
    pub fn slices(&self) -> usize {
        match (self.kind, &self.geometry) {
            (SeriesKind::Nifti, Some(geometry)) => geometry.size[0],
            _ => self.instances.len(),
        }
    }

    /// Patient ID and names (private); empty where the key is a synthetic one.
    pub fn patient_id_and_names(&self) -> (&str, Vec<&str>) {
        let known = || {
            let (length, rest) = self.patient.split_once(':')?;
            let (id, rest) = rest.split_at_checked(length.parse().ok()?)?;
            let (length, rest) = rest.strip_prefix('|')?.split_once(':')?;
            let (_, rest) = rest.split_at_checked(length.parse().ok()?)?;
            Some((id, rest.strip_prefix('|')?))
        };
        let (id, name) = match self.kind {
            SeriesKind::Instances => (self.patient.strip_prefix("id:").unwrap_or_default(), ""),
            _ => known().unwrap_or_default(),
        };
        (id, self.patient_names.iter().map(String::as_str).chain([name]).filter(|name| !name.is_empty()).collect())
    }

    /// Refuses a series that must not be used: gives its first fault, passing over those whose code the caller
    /// accepts. Only codes out of [`ALLOWABLE`] can be accepted.
    pub fn check(&self, allow: &[String]) -> Result<(), Fault> {
        let accepted = |f: &&Fault| ALLOWABLE.contains(&f.code.as_str()) && allow.contains(&f.code);
        self.faults.iter().find(|f| !accepted(f)).cloned().map_or(Ok(()), Err)
    }
}

/// A file that the scan passed over, and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Skipped {
    /// Index of the file in the scan, shown to users as `#n`.
    pub input: usize,
    /// Where it lies (private).
    pub path: PathBuf,
    /// Stable kebab-case reason.
    pub code: String,
    /// The reason in words, without patient text.
    pub text: String,
}

/// Everything a scan found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScanReport {
    /// The folders that were scanned, as given.
    pub roots: Vec<PathBuf>,
    /// How many files were indexed; `#n` runs from 0 to `inputs - 1`.
    pub inputs: usize,
    /// The series, in a deterministic order (patient, study, series number, series, part).
    pub series: Vec<SeriesRecord>,
    /// What was passed over.
    pub skipped: Vec<Skipped>,
}

/// Deepest folder that holds all of `paths` (files); empty for no path.
pub(crate) fn common_folder<'a>(paths: impl IntoIterator<Item = &'a Path>) -> PathBuf {
    let mut common: Option<Vec<Component<'a>>> = None;
    for path in paths {
        let folder: Vec<Component<'a>> = path.parent().unwrap_or(Path::new("")).components().collect();
        common = Some(match common {
            None => folder,
            Some(old) => old.into_iter().zip(folder).take_while(|(a, b)| a == b).map(|(a, _)| a).collect(),
        });
    }
    common.unwrap_or_default().into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn common_folder_of_files() {
        let paths = ["/a/b/c/1", "/a/b/d/2", "/a/b/3"].map(Path::new);
        assert_eq!(common_folder(paths), Path::new("/a/b"));
        assert_eq!(common_folder([Path::new("/a/1")]), Path::new("/a"));
        assert_eq!(common_folder([]), PathBuf::new());
    }
}
