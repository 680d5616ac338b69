//! Keyed identity: the site's key and the pseudonyms made from it.
//!
//! Pure: reads and writes only the files it is given, knows nothing of pipelines or DICOM files. Plugins never see
//! the key; they ask through the service `gantry.pseudonym/1` ([`serve`]).

pub mod assigned;
pub mod key;
pub mod mapping;
mod owned;
pub mod pseudonym;

pub use assigned::{Assigned, AssignedError};
pub use key::{Key, KeyError};
pub use mapping::{MappingError, MappingFile, MappingRow};
pub use pseudonym::{Served, ServiceError, serve};
