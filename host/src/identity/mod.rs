//! Keyed identity: the site's key and the pseudonyms made from it.
//!
//! Pure: reads and writes only the key file it is given, knows nothing of pipelines or DICOM files. Plugins never see
//! the key; they ask through the service `gantry.pseudonym/1` ([`serve`]).

pub mod key;
pub mod pseudonym;

pub use key::{Key, KeyError};
pub use pseudonym::{ServiceError, serve};
