//! Options of verbs that run a chain over cases: where results go, which cases run, by how many workers, with which key.

use std::path::PathBuf;

use clap::Args;

use super::identity::IdentityArgs;
use super::places::{PlacesArgs, SiteArgs};
use super::progress::ProgressForm;

/// How a chain is run.
#[derive(Debug, Clone, Default, Args)]
pub struct ChainArgs {
    /// Output folder
    #[arg(short, long, value_name = "DIR")]
    pub output: PathBuf,
    /// Run at most N cases
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
    /// Run only this case, by its name in OUT (may be given several times)
    #[arg(long, value_name = "CASE")]
    pub only: Vec<String>,
    /// Case workers [default: the site's, else 1]
    #[arg(long, value_name = "N")]
    pub jobs: Option<usize>,
    /// CPU threads of each case worker [default: all, divided among the workers]
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
    /// Ignore what an earlier run finished
    #[arg(long)]
    pub fresh: bool,
    /// The site's pseudonym key [default: key_file in the site configuration]
    #[arg(long, value_name = "FILE")]
    pub key: Option<PathBuf>,
    /// Pseudonyms and their mapping.
    #[command(flatten)]
    pub identity: IdentityArgs,
    /// How to tell progress on stderr
    #[arg(long, value_enum, default_value_t = ProgressForm::Auto)]
    pub progress: ProgressForm,
    /// Where things are installed.
    #[command(flatten)]
    pub places: PlacesArgs,
    /// What the site lays down.
    #[command(flatten)]
    pub site: SiteArgs,
}
