//! Whether the staged installation still is what the checkout would give: one process builds it, the others find it.

use std::fs::File;
use std::path::Path;
use std::time::UNIX_EPOCH;

use sha2::{Digest, Sha256};

/// What is built and staged, relative to the checkout.
const PARTS: [&str; 8] =
    [".cargo", "Cargo.toml", "Cargo.lock", "host/Cargo.toml", "host/src", "plugin-api", "plugins", "checkpoints"];

/// The lock that staging takes: test processes run side by side, and one of them builds.
///
/// # Errors
/// In words.
pub fn lock(target: &Path) -> Result<File, String> {
    let say = |e: std::io::Error| format!("the lock of the staging folder: {e}");
    std::fs::create_dir_all(target).map_err(say)?;
    let file = File::options().create(true).truncate(false).write(true).open(target.join("stage.lock")).map_err(say)?;
    file.lock().map_err(say)?;
    Ok(file)
}

/// A digest of the names, sizes and times of every file that is built or staged.
///
/// # Errors
/// In words.
pub fn fingerprint(workspace: &Path) -> Result<String, String> {
    let mut hash = Sha256::new();
    for part in PARTS {
        let path = workspace.join(part);
        if path.exists() {
            add(&mut hash, &path).map_err(|e| format!("{}: {e}", path.display()))?;
        }
    }
    Ok(hex::encode(hash.finalize()))
}

fn add(hash: &mut Sha256, path: &Path) -> std::io::Result<()> {
    let about = std::fs::metadata(path)?;
    if about.is_dir() {
        let mut entries = std::fs::read_dir(path)?.map(|e| e.map(|e| e.path())).collect::<Result<Vec<_>, _>>()?;
        entries.sort();
        return entries.iter().filter(|e| !e.ends_with("target")).try_for_each(|e| add(hash, e));
    }
    let time = about.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    hash.update(format!("{} {} {time}\n", path.display(), about.len()));
    Ok(())
}

/// Whether `target/stage` was made of what `fingerprint` says.
pub fn is_fresh(target: &Path, fingerprint: &str) -> bool {
    let stamp = target.join("stage.stamp");
    target.join("stage/gantry").is_file() && std::fs::read_to_string(stamp).is_ok_and(|s| s == fingerprint)
}

/// Notes of what `target/stage` was made. An empty `fingerprint` notes that it is being made.
///
/// # Errors
/// In words.
pub fn stamp(target: &Path, fingerprint: &str) -> Result<(), String> {
    std::fs::write(target.join("stage.stamp"), fingerprint).map_err(|e| format!("the stamp of the staging folder: {e}"))
}
