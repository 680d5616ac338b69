//! Sources and sinks that are always there, written with the same traits as any plugin and called through the same ABI.
//!
//! They are thin: reading, geometry, derived headers and encodings are pure functions of `series`. What only the host
//! knows (which series, the run's time, what must be said of a derived object) they ask for through services.

mod derivation;
mod dicom_read;
mod dicom_write;
mod instance_read;
mod instance_write;
mod json_write;
mod labels_read;
mod nifti_read;
mod nifti_write;
pub mod phantom;
mod png_write;
mod seg_write;
mod services;

use gantry_plugin::abi::v1;

/// The entry of every built-in stage: a library without a file.
pub static ENTRY: v1::Entry = gantry_plugin::entry("");
