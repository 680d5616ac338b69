//! DICOM and NIfTI in and out: scanning, grouping, order, geometry, pixels, derived headers. A leaf module.

pub mod blank;
pub mod derive;
pub mod elements;
mod facts;
pub mod geometry;
mod group;
pub mod guard;
pub mod header;
pub mod identifying;
mod inflate;
mod input;
pub mod instance;
mod instances;
mod jpeg;
mod jpeg2000;
mod jpeg_colour;
mod jpeg_ls;
pub mod marks;
pub mod nifti;
mod nifti_probe;
pub mod pixel;
pub mod png;
pub mod read;
pub mod record;
mod rle;
pub mod scan;
pub mod segmentation;
pub mod select;
pub mod text_like;
pub mod uid;
pub mod write;

pub use geometry::Geometry;
pub use read::{DecodedSlice, Padding, SliceReader, read_slice};
pub use record::{Fault, InstanceRecord, ScanReport, SeriesKind, SeriesRecord, Skipped};
pub use scan::{Repair, ScanOptions, scan};
pub use select::Select;
