//! DICOM segmentations: label maps as Segmentation (PS3.3 A.51, one bit a voxel and segment) and Label Map Segmentation
//! objects, written for the headers that arrive on an edge and read back onto a grid.
//!
//! Written on the source's own grid: position, orientation and pixel spacing of every frame are those of the arriving
//! header of its slice, so no voxel can lie elsewhere than in the image. The rule for identity is that of `derive`:
//! everything about the patient comes from the headers that arrive, everything else from the host.

mod colour;
mod frames;
mod object;
mod onto;
mod place;
mod read;
mod segments;

use super::derive::DerivationContext;
use super::record::Fault;
pub use object::{Segmented, write};
pub use read::{LabelMap, is_dicom, read};

/// How the labels are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// Segmentation Storage, BINARY: a frame for every segment and slice that has voxels of it, one bit a voxel, frames
    /// one after the other without filling up bytes. Segments are numbered 1, 2, … in rising order of their values.
    Binary,
    /// Label Map Segmentation Storage: a frame for every slice, eight bits a voxel. Segment numbers are the values.
    Labelmap,
}

/// What kind of thing the segments are: Segmented Property Category (PS3.16 CID 7150). Also the type of a segment whose
/// label has no code of its own: as much as is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Category {
    /// Organs, vessels, bones and their parts.
    AnatomicalStructure,
    /// Tissue, such as fat or muscle.
    Tissue,
    /// A lesion.
    MorphologicallyAbnormalStructure,
    /// Something that was put into the body.
    PhysicalObject,
    /// Blood, bile, …
    BodySubstance,
    /// A region that is defined by where it is.
    SpatialAndRelationalConcept,
}

impl Category {
    /// SNOMED CT code and meaning.
    pub fn code(self) -> (&'static str, &'static str) {
        match self {
            Category::AnatomicalStructure => ("91723000", "Anatomical Structure"),
            Category::Tissue => ("85756007", "Tissue"),
            Category::MorphologicallyAbnormalStructure => ("49755003", "Morphologically Abnormal Structure"),
            Category::PhysicalObject => ("260787004", "Physical object"),
            Category::BodySubstance => ("91720002", "Body Substance"),
            Category::SpatialAndRelationalConcept => ("309825002", "Spatial and Relational Concept"),
        }
    }
}

/// Who drew: Segment Algorithm Type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AlgorithmType {
    /// A program by itself.
    Automatic,
    /// A program and a person.
    Semiautomatic,
    /// A person.
    Manual,
}

/// The algorithm, as it is to be named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Algorithm {
    /// Segment Algorithm Type.
    pub kind: AlgorithmType,
    /// Segment Algorithm Name; empty: the networks that took part, else the pipeline.
    pub name: String,
    /// Algorithm Version; empty: the first digits of the networks' hashes.
    pub version: String,
}

/// One row of the label table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// Voxel value, 1 to 255.
    pub value: u8,
    /// Name.
    pub name: String,
    /// Coding scheme designator; empty where there is no code.
    pub scheme: String,
    /// Code of the structure; empty where there is none.
    pub code: String,
    /// `0xRRGGBBAA`; 0: no colour.
    pub rgba: u32,
}

/// What is the same for the whole object.
#[derive(Debug, Clone)]
pub struct SegmentationContext {
    /// As for any derived object: UIDs, time, series, pipeline, models.
    pub derivation: DerivationContext,
    /// How the labels are stored.
    pub encoding: Encoding,
    /// What the segments are.
    pub category: Category,
    /// Content Label (CS): see [`content_label`].
    pub content_label: String,
    /// The algorithm.
    pub algorithm: Algorithm,
    /// Device Serial Number of the equipment: what tells one installed pipeline from another.
    pub serial: String,
}

/// Refuses what is no Content Label: 1 to 16 capital letters, digits, spaces or underscores.
///
/// # Errors
/// `content-label`
pub fn content_label(text: &str) -> Result<(), Fault> {
    let sound = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || matches!(b, b' ' | b'_');
    if (1..=16).contains(&text.len()) && text.trim() == text && text.bytes().all(sound) {
        return Ok(());
    }
    Err(Fault::new("content-label", "a content label has 1 to 16 capital letters, digits, spaces or underscores"))
}
