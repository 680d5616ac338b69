//! Options that say where things are installed and what the site lays down, shared by several verbs.

use std::path::PathBuf;

use clap::Args;

use crate::diagnostic::{Diagnostic, Sources};
use crate::registry::{Places, Registry, Site};

/// Where plugins and checkpoints are looked for.
#[derive(Debug, Clone, Default, Args)]
pub struct PlacesArgs {
    /// Folder of plugins; looked into first (may be given several times)
    #[arg(long, value_name = "DIR")]
    pub plugins: Vec<PathBuf>,
    /// Folder of checkpoints; looked into first (may be given several times)
    #[arg(long, value_name = "DIR")]
    pub checkpoints: Vec<PathBuf>,
}

impl PlacesArgs {
    /// Reads everything installed.
    pub fn open(&self, sources: &mut Sources) -> Registry {
        Registry::open(&Places::find(&self.plugins, &self.checkpoints), sources)
    }
}

/// What the site lays down.
#[derive(Debug, Clone, Default, Args)]
pub struct SiteArgs {
    /// Site configuration [default: the user's, else /etc/gantry/site.toml]
    #[arg(long, value_name = "FILE")]
    pub site: Option<PathBuf>,
}

impl SiteArgs {
    /// Reads the site document.
    ///
    /// # Errors
    /// In words, where the file cannot be read.
    pub fn open(&self, sources: &mut Sources, diagnostics: &mut Vec<Diagnostic>) -> Result<Site, String> {
        Site::find(self.site.as_deref(), sources, diagnostics).map_err(|e| e.to_string())
    }
}
