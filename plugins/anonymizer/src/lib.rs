//! De-identification of DICOM headers by PS3.15 Annex E: the stage `anonymizer`.
//!
//! The pure part ([`case`], [`deidentify`]) knows nothing of the plugin interface. Facts are data: [`table`] (what the
//! standard says of each attribute), [`image_types`] (of which Type it is), [`unlisted`] (what else may stay).
#![deny(unsafe_code)]

pub mod audit;
pub mod case;
pub mod codes;
pub mod dataset;
pub mod deidentify;
pub mod dummy;
pub mod echo;
pub mod image_types;
pub mod profile;
pub mod pseudonyms;
pub mod refusal;
pub mod stage;
pub mod strays;
pub mod table;
pub mod unlisted;
pub mod value;
