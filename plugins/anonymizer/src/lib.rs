//! De-identification of DICOM objects by PS3.15 Annex E: the stages `anonymizer` and `instance-anonymizer`.
//!
//! The pure part ([`case`], [`mod@deidentify`]) knows nothing of the plugin interface. Facts are data: [`table`] (what the
//! standard says of each attribute), [`iod_types`] (of which Type it is), [`classes`] (which objects can be cleaned),
//! [`unlisted`] (what else may stay).
#![deny(unsafe_code)]

pub mod audit;
pub mod case;
pub mod classes;
pub mod codes;
pub mod content;
pub mod dataset;
pub mod dates;
mod defined_terms;
pub mod deidentify;
pub mod descriptors;
pub mod dummy;
pub mod echo;
pub mod facts;
pub mod fold;
mod graphics;
pub mod iod_types;
mod iso2022;
mod kept;
mod layout;
mod marks;
pub mod options;
mod own_names;
pub mod pixel_rules;
pub mod profile;
pub mod pseudonyms;
pub mod refusal;
pub mod rules;
pub mod safe_private;
mod sequences;
mod sheet;
pub mod stage;
pub mod strays;
mod structured;
pub mod table;
pub mod tag_map;
pub mod unlisted;
mod unspaced;
pub mod value;
