//! A disk that really fills up: a small tmpfs in a mount namespace of its own.

use std::path::Path;
use std::process::Command;

use gantry_host::series::write::{WriteErrorKind, write_atomically};

const FOLDER: &str = "GANTRY_TEST_SMALL_DISK";

/// Runs [`on_a_small_disk`] in a new process whose folder is a tmpfs of 64 KiB.
#[test]
fn a_full_disk_leaves_nothing_half() {
    let folder = tempfile::tempdir().unwrap();
    let script =
        format!("mount -t tmpfs -o size=64k none \"${FOLDER}\" && exec \"$0\" --ignored --exact on_a_small_disk");
    let run = |script: &str| {
        Command::new("unshare")
            .args(["--map-root-user", "--mount", "sh", "-c", script])
            .arg(std::env::current_exe().unwrap())
            .env(FOLDER, folder.path())
            .output()
    };
    let can_mount = run(&format!("mount -t tmpfs -o size=64k none \"${FOLDER}\""));
    if !can_mount.is_ok_and(|o| o.status.success()) {
        eprintln!("skipped: this user may not mount a tmpfs in a namespace");
        return;
    }
    let done = run(&script).unwrap();
    let text = String::from_utf8_lossy(&done.stdout);
    assert!(done.status.success() && text.contains("1 passed"), "{text}{}", String::from_utf8_lossy(&done.stderr));
}

#[test]
#[ignore = "needs the small disk that a_full_disk_leaves_nothing_half makes"]
fn on_a_small_disk() {
    let folder = std::env::var_os(FOLDER).expect("run by a_full_disk_leaves_nothing_half");
    let folder = Path::new(&folder);
    let names = || -> Vec<_> { std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name()).collect() };
    write_atomically(folder, "a.dcm", &[1; 32 << 10]).unwrap();
    // Another file, and the same file again: neither fits beside what is there.
    for name in ["b.dcm", "a.dcm"] {
        let error = write_atomically(folder, name, &[2; 40 << 10]).unwrap_err();
        assert_eq!(error.kind, WriteErrorKind::DiskFull, "{error}");
        assert_eq!(names(), ["a.dcm"]);
        assert_eq!(std::fs::read(folder.join("a.dcm")).unwrap(), [1; 32 << 10]);
    }
    std::fs::remove_file(folder.join("a.dcm")).unwrap();
    write_atomically(folder, "b.dcm", &[2; 40 << 10]).unwrap();
    assert_eq!(names(), ["b.dcm"]);
}
