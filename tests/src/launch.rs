//! Starting the staged `gantry` as a user would, and looking at what it leaves.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use sha2::{Digest, Sha256};

use crate::staging::stage;

/// How a program ended.
#[derive(Debug)]
pub struct Ended {
    /// Exit code; of a program ended by a signal, 128 and its number.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// The staged `gantry`, with nothing of this machine's configuration.
pub fn gantry() -> Command {
    let mut command = Command::new(&stage().gantry);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("GANTRY_") {
            command.env_remove(name);
        }
    }
    command.env("XDG_CONFIG_HOME", "/nonexistent").env("XDG_DATA_HOME", "/nonexistent");
    command
}

/// Runs it to its end.
///
/// # Panics
/// If it cannot be started.
pub fn end(command: &mut Command) -> Ended {
    use std::os::unix::process::ExitStatusExt;
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    Ended {
        code: output.status.code().unwrap_or_else(|| 128 + output.status.signal().unwrap_or(0)),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

impl Ended {
    /// Demands an exit code.
    ///
    /// # Panics
    /// If it is another, with all that was said.
    #[track_caller]
    pub fn expect(self, code: i32) -> Ended {
        assert_eq!(self.code, code, "exit code\n--- stdout\n{}\n--- stderr\n{}", self.stdout, self.stderr);
        self
    }
}

/// Every file under `folder`, by relative path, with the SHA-256 of its content.
///
/// # Panics
/// If something cannot be read.
pub fn every_file(folder: &Path) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    walk(folder, &mut |path| {
        let name = path.strip_prefix(folder).unwrap_or(path).to_string_lossy().into_owned();
        let content = std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        all.insert(name, hex::encode(Sha256::digest(content)));
    });
    all
}

/// The results in an output folder: every file but the journal and `run.json` (which hold timings), the staging area
/// and `private`.
pub fn results(out: &Path) -> BTreeMap<String, String> {
    let mut all = every_file(out);
    all.retain(|name, _| {
        let top = name.split('/').next().unwrap_or_default();
        !matches!(top, "journal.jsonl" | "run.json" | ".staging" | "private")
    });
    all
}

/// Calls `each` with every file under `folder`, links not followed.
///
/// # Panics
/// If a folder cannot be read.
pub fn walk(folder: &Path, each: &mut dyn FnMut(&Path)) {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    for path in entries.flatten().map(|e| e.path()) {
        match path.symlink_metadata().is_ok_and(|m| m.is_dir()) {
            true => walk(&path, each),
            false => each(&path),
        }
    }
}

/// `OUT/run.json`.
///
/// # Panics
/// If it is missing or no JSON.
pub fn run_json(out: &Path) -> serde_json::Value {
    let path = out.join("run.json");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Copies a folder with everything in it.
///
/// # Panics
/// If something cannot be copied.
pub fn copy_folder(from: &Path, to: &Path) {
    walk(from, &mut |path| {
        let target = to.join(path.strip_prefix(from).unwrap_or(path));
        let folder = target.parent().unwrap_or(to);
        std::fs::create_dir_all(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
        std::fs::copy(path, &target).unwrap_or_else(|e| panic!("{}: {e}", target.display()));
    });
}
