//! Building the workspace and staging it the way a site has it installed: the program, `plugins/<id>/{plugin.toml,
//! lib….so, …}` beside it, and the checkpoints.
//!
//! `cargo demo` and every whole-system test use this one function, in the one build profile.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::freshness;

/// A staged installation.
#[derive(Debug, Clone)]
pub struct Stage {
    /// Folder that holds everything.
    pub root: PathBuf,
    /// The `gantry` program in it.
    pub gantry: PathBuf,
    /// Parent of the plugin folders.
    pub plugins: PathBuf,
    /// Parent of the checkpoint folders.
    pub checkpoints: PathBuf,
}

/// The checkout.
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the workspace")
}

/// The staged installation of this checkout. It is built and copied only where sources changed since it was last; test
/// processes that run side by side wait for the one that builds.
///
/// # Panics
/// If something does not build or cannot be copied: nothing that follows would mean anything.
pub fn stage() -> &'static Stage {
    static STAGE: OnceLock<Stage> = OnceLock::new();
    STAGE.get_or_init(|| stage_if_stale().unwrap_or_else(|why| panic!("{why}")))
}

/// Whether cargo's own progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quiet {
    /// Not shown.
    Yes,
    /// Shown.
    No,
}

fn stage_if_stale() -> Result<Stage, String> {
    let target = target_folder(workspace())?;
    let _lock = freshness::lock(&target)?;
    match freshness::is_fresh(&target, &freshness::fingerprint(workspace())?) {
        true => Ok(Stage::under(&target)),
        false => build(Quiet::Yes, &target),
    }
}

/// Builds program and plugins, and stages them under `target/stage`.
///
/// # Errors
/// In words, what could not be built or copied.
pub fn build_and_stage(quiet: Quiet) -> Result<Stage, String> {
    let target = target_folder(workspace())?;
    let _lock = freshness::lock(&target)?;
    build(quiet, &target)
}

impl Stage {
    fn under(target: &Path) -> Stage {
        let root = target.join("stage");
        Stage {
            gantry: root.join("gantry"),
            plugins: root.join("plugins"),
            checkpoints: root.join("checkpoints"),
            root,
        }
    }
}

/// The caller holds the lock.
fn build(quiet: Quiet, target: &Path) -> Result<Stage, String> {
    let workspace = workspace();
    // Taken before the build: a source that changes meanwhile makes the stage stale.
    let fingerprint = freshness::fingerprint(workspace)?;
    freshness::stamp(target, "")?;
    let mut build = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    build.current_dir(workspace).args(["build", "--locked", "--workspace"]);
    if quiet == Quiet::Yes {
        build.arg("--quiet");
    }
    let status = build.status().map_err(|e| format!("cargo cannot be started: {e}"))?;
    if !status.success() {
        return Err("the workspace does not build".to_owned());
    }
    let built = target.join("debug");
    let stage = Stage::under(target);
    place(&built.join("gantry"), &stage.gantry)?;
    for folder in folders(&workspace.join("plugins"), "plugin.toml")? {
        stage_plugin(&folder, &built, &stage.plugins)?;
    }
    let checkpoints = workspace.join("checkpoints");
    for folder in if checkpoints.is_dir() { folders(&checkpoints, "card.toml")? } else { Vec::new() } {
        let to = stage.checkpoints.join(folder.file_name().unwrap_or_default());
        for file in files(&folder)? {
            place(&folder.join(&file), &to.join(&file))?;
        }
    }
    freshness::stamp(target, &fingerprint)?;
    Ok(stage)
}

/// Stages one plugin folder of the checkout: its plugin.toml, the library that it names, and its `arch` and `models`.
///
/// # Errors
/// In words.
pub fn stage_plugin(folder: &Path, built: &Path, plugins: &Path) -> Result<(), String> {
    let text = std::fs::read_to_string(folder.join("plugin.toml")).map_err(|e| format!("{}: {e}", folder.display()))?;
    let manifest: toml::Table = toml::from_str(&text).map_err(|e| format!("{}: {e}", folder.display()))?;
    let library = manifest["library"]["linux-x86_64"]["cpu"].as_str().ok_or("plugin.toml names no library")?.to_owned();
    let to = plugins.join(folder.file_name().unwrap_or_default());
    place(&folder.join("plugin.toml"), &to.join("plugin.toml"))?;
    place(&built.join(&library), &to.join(&library))?;
    for documents in ["arch", "models"] {
        let from = folder.join(documents);
        for file in if from.is_dir() { files(&from)? } else { Vec::new() } {
            place(&from.join(&file), &to.join(documents).join(&file))?;
        }
    }
    Ok(())
}

/// Copies a file into place by a rename, and only where it differs: other test processes may be using the stage.
fn place(from: &Path, to: &Path) -> Result<(), String> {
    let say = |e: std::io::Error| format!("{} -> {}: {e}", from.display(), to.display());
    let content = std::fs::read(from).map_err(say)?;
    if std::fs::read(to).is_ok_and(|old| old == content) {
        return Ok(());
    }
    let folder = to.parent().ok_or("a file without a folder")?;
    std::fs::create_dir_all(folder).map_err(say)?;
    // Not beside the target: a plugin folder must never hold a stranger's file.
    let scratch = to.ancestors().find(|a| a.ends_with("stage")).unwrap_or(folder);
    let temporary =
        scratch.join(format!(".new-{}-{}", std::process::id(), to.file_name().unwrap_or_default().to_string_lossy()));
    std::fs::copy(from, &temporary).map_err(say)?;
    std::fs::rename(&temporary, to).map_err(say)
}

fn folders(parent: &Path, with: &str) -> Result<Vec<PathBuf>, String> {
    if !parent.exists() {
        return Ok(Vec::new());
    }
    let entries = std::fs::read_dir(parent).map_err(|e| format!("{}: {e}", parent.display()))?;
    let mut all: Vec<PathBuf> = entries.flatten().map(|e| e.path()).filter(|p| p.join(with).is_file()).collect();
    all.sort();
    Ok(all)
}

fn files(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let entries = std::fs::read_dir(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let mut all: Vec<PathBuf> =
        entries.flatten().filter(|e| e.path().is_file()).map(|e| PathBuf::from(e.file_name())).collect();
    all.sort();
    Ok(all)
}

/// Where cargo builds to, whatever the environment says.
fn target_folder(workspace: &Path) -> Result<PathBuf, String> {
    // This program itself lies in the target folder, at target/<profile>[/deps]/<name>.
    let program = std::env::current_exe().map_err(|e| e.to_string())?;
    let found =
        program.ancestors().find(|a| a.join("CACHEDIR.TAG").is_file() || a.file_name().is_some_and(|n| n == "target"));
    Ok(found.map_or_else(|| workspace.join("target"), Path::to_owned))
}
