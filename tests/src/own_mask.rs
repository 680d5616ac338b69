//! The main chain of a site that has masks of its own: as configured, but for the node `heart`, which reads a file.

use std::path::{Path, PathBuf};

use crate::staging::workspace;

/// Writes `config/pipelines/ducosy.toml` into a folder, with `heart.nii.gz` beside the series as its optional mask.
///
/// # Panics
/// If the chain has no such node any more, or the file cannot be written.
pub fn ducosy(folder: &Path) -> PathBuf {
    let path = workspace().join("config/pipelines/ducosy.toml");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let model =
        "stage  = \"heart-mask\"\nfrom   = \"ncct\"\nparams = { checkpoint = \"totalseg-heart\", optional = true }\n";
    assert!(text.contains(model), "{} has another node `heart`", path.display());
    let file = "stage  = \"labels-read\"\nparams = { of = \"ncct\", path = \"../heart.nii.gz\", optional = true }\n";
    let written = folder.join("ducosy-own-mask.toml");
    std::fs::write(&written, text.replace(model, file)).unwrap_or_else(|e| panic!("{}: {e}", written.display()));
    written
}
