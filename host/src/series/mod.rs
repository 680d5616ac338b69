//! DICOM and NIfTI in and out: scanning, grouping, order, geometry, pixels, derived headers. A leaf module.

mod facts;
pub mod geometry;
pub mod guard;
pub mod header;
mod inflate;
pub mod input;
mod jpeg2000;
mod jpeg_ls;
pub mod pixel;
pub mod read;
pub mod record;
mod rle;

pub use geometry::Geometry;
pub use read::{DecodedSlice, Padding, SliceReader, read_slice};
pub use record::{Fault, InstanceRecord, ScanReport, SeriesKind, SeriesRecord, Skipped};
