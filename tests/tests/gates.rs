//! What stands between a plugin folder and the first call into it: each gate refuses in words, with exit 4, before any
//! case; and whatever can be refused before the loader runs a constructor is refused before.

mod bench;

use std::path::{Path, PathBuf};
use std::process::Command;

use bench::{Run, build_c, cohort, run, sources, words};
use gantry_host::registry::library::{FolderBytes, Gate, LibraryError};
use gantry_tests::staging::stage;
use tempfile::TempDir;

const CHAIN: &str = r#"
format = 1
name = "gates"
[nodes.ct]
stage  = "dicom-read"
select = { modality = "CT" }
params = { modality = "CT", quantity = "hu" }
[nodes.bad]
stage  = "org.example.hostile"
from   = "ct"
params = { mode = "none" }
[nodes.file]
stage = "nifti-write"
from  = "bad"
"#;

fn manifest() -> String {
    std::fs::read_to_string(sources().join("hostile.toml")).unwrap()
}

/// A plugin folder of its own, whose library leaves a trace when the loader runs its constructor.
struct Bait {
    plugins: TempDir,
    library: PathBuf,
    trace: PathBuf,
}

impl Bait {
    fn new(flags: &[&str]) -> Bait {
        let plugins = tempfile::tempdir().unwrap();
        let trace = plugins.path().join("the-constructor-ran");
        let define = format!("-DTRACE=\"{}\"", trace.display());
        let mut all = vec![define.as_str()];
        all.extend(flags);
        let library = build_c(&sources().join("hostile.c"), &manifest(), plugins.path(), "hostile", &all);
        Bait { plugins, library, trace }
    }

    fn folder(&self) -> &Path {
        self.library.parent().unwrap()
    }

    fn run(&self, more: &[&str]) -> Run {
        run(CHAIN, &[self.plugins.path()], &cohort().1, more)
    }

    /// The run is refused with words, before any case; whether the constructor ran.
    fn refused(&self, gate: &str, says: &str) -> bool {
        let run = self.run(&[]).ended(4);
        assert!(run.words.contains(says), "{gate}: {}", run.words);
        assert!(run.words.contains("org.example.hostile"), "{gate}: the plugin is not named: {}", run.words);
        assert!(run.results().is_empty(), "{gate}");
        let json = run.json();
        assert!(json["cases"].as_array().unwrap().iter().all(|c| c["status"] == "not-run"), "{gate}: {json}");
        assert_eq!(json["complete"], false);
        self.trace.exists()
    }

    fn read(&self) -> FolderBytes {
        FolderBytes::read("org.example.hostile", self.folder()).unwrap()
    }

    /// Opens the folder in this process.
    fn open(&self, bytes: &FolderBytes, expected: Option<&str>) -> Result<String, (Gate, String)> {
        let private = tempfile::tempdir().unwrap();
        let opened = bytes.open(Path::new("libhostile.so"), &manifest(), expected, private.path());
        opened.map(|library| library.built_by).map_err(|e| match e {
            LibraryError::Refused { gate, ref why, .. } => (gate, why.clone()),
            LibraryError::Io { .. } => panic!("{e}"),
        })
    }
}

#[test]
fn a_sound_plugin_runs_and_its_trace_is_seen() {
    let bait = Bait::new(&[]);
    assert_eq!(bait.run(&[]).ended(0).results().len(), 2);
    // The trace works: its absence elsewhere means something.
    assert!(bait.trace.exists());
}

#[test]
fn another_abi_in_the_section_is_refused_and_no_constructor_runs() {
    for (abi, says) in [("\"2\"", "stage ABI 2"), ("\"0\"", "stage ABI 0"), ("\"two\"", "no ABI version")] {
        let bait = Bait::new(&[&format!("-DSECTION_ABI={abi}")]);
        assert!(!bait.refused(abi, says), "{abi}: a constructor ran");
    }
    assert!(!Bait::new(&["-DNO_SECTION"]).refused("no section", "no Gantry plugin"));
}

#[test]
fn a_wrong_entry_is_refused_in_words() {
    for (flags, says) in [
        (&["-DENTRY_ABI=2"][..], "its entry speaks stage ABI 2"),
        (&["-DENTRY_ABI=0"], "its entry speaks stage ABI 0"),
        (&["-DENTRY_SYMBOL=another_name"], "does not export `gantry_plugin_v1`"),
        (&["-DENTRY_PROCESS=0", "-Wno-unused-function"], "a function of its entry is NULL"),
        (&["-DENTRY_MANIFEST={0,5}"], "is not text"),
        (&["-DENTRY_MANIFEST={\"\\xff\\xfe\",2}"], "is not text"),
        (&["-DENTRY_MANIFEST={\"manifest = 1\",12}"], "is not the plugin.toml beside it"),
    ] {
        // These are seen in the opened library only; its section was right.
        assert!(Bait::new(flags).refused(says, says), "{says}: was refused before the gate that this test means");
    }
}

#[test]
fn a_manifest_that_differs_is_refused_and_no_constructor_runs() {
    let zeros = format!("-DSECTION_SHA256=\"{}\"", "0".repeat(64));
    assert!(!Bait::new(&[&zeros]).refused("section", "another plugin.toml"));
    let bait = Bait::new(&[]);
    let edited = manifest().replace("scope = \"slice\"", "scope = \"volume\"");
    std::fs::write(bait.folder().join("plugin.toml"), edited).unwrap();
    assert!(!bait.refused("edited", "another plugin.toml"));
}

#[test]
fn what_is_no_library_of_this_machine_is_refused_and_no_constructor_runs() {
    let bait = Bait::new(&[]);
    let good = std::fs::read(&bait.library).unwrap();
    let patched = |at: usize, value: u8| {
        let mut bytes = good.clone();
        bytes[at] = value;
        bytes
    };
    for (what, bytes, says) in [
        ("text", b"#!/bin/sh\nexit 0\n".to_vec(), "not an ELF file"),
        ("empty", Vec::new(), "not an ELF file"),
        ("another processor", patched(18, 0x28), "another processor"),
        ("big-endian", patched(5, 2), "big-endian"),
        ("32-bit", patched(4, 1), "64-bit"),
        ("a program", patched(16, 2), "not a shared library"),
        ("half", good[..good.len() / 2].to_vec(), "truncated"),
    ] {
        std::fs::write(&bait.library, bytes).unwrap();
        assert!(!bait.refused(what, says), "{what}: a constructor ran");
    }
    std::fs::remove_file(&bait.library).unwrap();
    let run = bait.run(&[]);
    assert!(run.code == 2 || run.code == 4, "{}: {}", run.code, run.words);
    assert!(run.words.contains("libhostile.so"), "{}", run.words);
}

#[test]
fn a_library_cut_anywhere_is_refused_in_words() {
    let bait = Bait::new(&[]);
    let good = std::fs::read(&bait.library).unwrap();
    let mut reasons = std::collections::BTreeSet::new();
    // Twenty points from the first byte to the last but one, and the last one.
    for k in 0..=20 {
        let cut = if k == 20 { good.len() - 1 } else { good.len() * k / 20 };
        std::fs::write(&bait.library, &good[..cut]).unwrap();
        let (gate, why) = bait.open(&bait.read(), None).expect_err("a truncated library was opened");
        assert!(matches!(gate, Gate::Elf | Gate::Section), "{cut}: {gate:?} {why}");
        reasons.insert(why);
    }
    assert!(!bait.trace.exists(), "a constructor ran");
    println!("{reasons:#?}");
}

#[test]
fn a_damaged_library_is_refused_or_opened_but_never_the_end_of_the_host() {
    // One byte of the headers flipped at a time: what the gates see must be sound, whatever they decide.
    let bait = Bait::new(&[]);
    let good = std::fs::read(&bait.library).unwrap();
    let mut refused = 0;
    for at in (4..64).chain(64..512).step_by(3) {
        let mut bytes = good.clone();
        bytes[at] ^= 0xff;
        std::fs::write(&bait.library, &bytes).unwrap();
        // Only looked at: loading a damaged file is what the digest of plugins.lock is for.
        if bait.read().inspect(Path::new("libhostile.so"), &manifest(), None).is_err() {
            refused += 1;
        }
    }
    assert!(refused > 20, "{refused}");
}

#[test]
fn a_file_swapped_between_hash_and_load_never_runs() {
    let bait = Bait::new(&[]);
    let other = Bait::new(&["-DENTRY_ABI=2"]);
    let bytes = bait.read();
    std::fs::copy(&other.library, &bait.library).unwrap();
    assert_eq!(bait.open(&bytes, Some(&bytes.sha256)), Ok("hostile.c".to_owned()));
    assert!(bait.trace.exists(), "what was hashed did not run");
    assert!(!other.trace.exists(), "what was swapped in ran");
    // Read again, it is another folder.
    let (gate, why) = bait.open(&bait.read(), Some(&bytes.sha256)).unwrap_err();
    assert_eq!(gate, Gate::Digest, "{why}");
    assert!(!other.trace.exists());
}

#[test]
fn a_link_in_a_plugin_folder_is_refused() {
    let bait = Bait::new(&[]);
    std::os::unix::fs::symlink("/etc/hostname", bait.folder().join("data")).unwrap();
    assert!(FolderBytes::read("org.example.hostile", bait.folder()).is_err());
    let run = bait.run(&[]);
    assert!(matches!(run.code, 2..=4), "{}: {}", run.code, run.words);
    assert!(!bait.trace.exists());
}

/// A plugin with a library of its own beside it, found by `$ORIGIN`.
fn with_dependency() -> Bait {
    let scratch = tempfile::tempdir().unwrap();
    let source = scratch.path().join("dependency.c");
    std::fs::write(&source, "int dependency_answer(void);\nint dependency_answer(void) { return 42; }\n").unwrap();
    let library = scratch.path().join("libdependency.so");
    let out = Command::new("cc")
        .args(["-shared", "-fPIC", "-Wl,-soname,libdependency.so", "-o"])
        .arg(&library)
        .arg(&source)
        .output();
    assert!(out.unwrap().status.success());
    let folder = format!("-L{}", scratch.path().display());
    let bait =
        Bait::new(&["-DPRIVATE_DEPENDENCY", &folder, "-Wl,--no-as-needed", "-ldependency", "-Wl,-rpath,$ORIGIN"]);
    std::fs::copy(&library, bait.folder().join("libdependency.so")).unwrap();
    bait
}

#[test]
fn a_private_dependency_loads_and_one_flipped_byte_in_it_is_refused() {
    let bait = with_dependency();
    let site = tempfile::tempdir().unwrap();
    let document = site.path().join("site.toml");
    std::fs::write(&document, "[plugins]\nrequire_lock = true\n").unwrap();
    let site_option = document.to_str().unwrap();
    // Nothing is pinned yet.
    let run = bait.run(&["--site", site_option]).ended(2);
    assert!(run.words.contains("not pinned"), "{}", run.words);
    let lock = Command::new(&stage().gantry)
        .args(["plugins", "lock", "--site", site_option, "--plugins"])
        .arg(bait.plugins.path())
        .env("XDG_CONFIG_HOME", site.path())
        .output()
        .unwrap();
    assert!(lock.status.success(), "{}", words(&lock));
    assert_eq!(bait.run(&["--site", site_option]).ended(0).results().len(), 2);
    std::fs::remove_file(&bait.trace).unwrap();

    let path = bait.folder().join("libdependency.so");
    let good = std::fs::read(&path).unwrap();
    let mut bytes = good.clone();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let run = bait.run(&["--site", site_option]).ended(4);
    assert!(run.words.contains("libdependency.so") && run.words.contains("org.example.hostile"), "{}", run.words);
    assert!(!bait.trace.exists(), "a constructor ran");

    // Without it the loader says what is missing.
    std::fs::remove_file(&path).unwrap();
    let run = bait.run(&[]).ended(4);
    assert!(run.words.contains("libdependency.so"), "{}", run.words);
}
