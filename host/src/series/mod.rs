//! DICOM and NIfTI in and out: scanning, grouping, order, geometry, pixels, derived headers. A leaf module.

pub mod geometry;
pub mod record;

pub use geometry::Geometry;
pub use record::{Fault, InstanceRecord, ScanReport, SeriesKind, SeriesRecord, Skipped};
