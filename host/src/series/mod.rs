//! DICOM and NIfTI in and out: scanning, grouping, order, geometry, pixels, derived headers. A leaf module.

pub mod derive;
pub mod geometry;
pub mod nifti;
pub mod png;
pub mod record;
pub mod uid;
pub mod write;

pub use geometry::Geometry;
pub use record::{Fault, InstanceRecord, ScanReport, SeriesKind, SeriesRecord, Skipped};
