//! Options of verbs that de-identify: who gives pseudonyms, and where it is kept what stands for whom.

use std::path::{Path, PathBuf};

use clap::Args;

use super::reply::Reply;
use crate::identity::MappingFile;
use crate::registry::Site;

/// Pseudonyms and their mapping.
#[derive(Debug, Clone, Default, Args)]
pub struct IdentityArgs {
    /// The site's own list of pseudonyms, CSV with the header `patient_id,pseudonym`; a patient who is not on it is
    /// quarantined [default: pseudonyms in the site configuration]
    #[arg(long, value_name = "FILE")]
    pub pseudonyms: Option<PathBuf>,
    /// Write what stands for whom (patients, UIDs, days that dates moved) to this CSV file, outside the output folder or in
    /// OUT/private
    #[arg(long, value_name = "FILE")]
    pub mapping: Option<PathBuf>,
}

impl IdentityArgs {
    /// The list, as named on the command line or by the site.
    pub fn list(&self, site: &Site) -> Option<PathBuf> {
        let named = self.pseudonyms.clone().or_else(|| site.pseudonyms.clone())?;
        Some(std::path::absolute(&named).unwrap_or(named))
    }

    /// Refuses a mapping that is also another file that the command names; `named`: what it is called, and where it lies.
    ///
    /// # Errors
    /// Exit 2, in words.
    pub fn apart(&self, named: &[(&'static str, &Path)]) -> Result<(), Reply> {
        let Some(mapping) = &self.mapping else { return Ok(()) };
        MappingFile::apart(mapping, named).map_err(|e| Reply::refuse(2, e))
    }
}
