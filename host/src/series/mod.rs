//! DICOM and NIfTI in and out: scanning, grouping, order, geometry, pixels, derived headers. A leaf module.

mod facts;
pub mod geometry;
pub mod guard;
pub mod header;
mod inflate;
mod jpeg_ls;
pub mod record;

pub use geometry::Geometry;
pub use record::{Fault, InstanceRecord, ScanReport, SeriesKind, SeriesRecord, Skipped};
