//! A stage is swapped for a third party's by editing the pipeline alone: one written in C99 with the header alone, one
//! built out of tree in Rust. Neither the host nor any other plugin is rebuilt.

mod bench;

use std::path::Path;

use bench::{Run, build_c, cohort, out_of_tree, run, sources};
use gantry_tests::fixture::shared;
use gantry_tests::staging::stage;
use sha2::{Digest, Sha256};

const CHAIN: &str = r#"
format = 1
name = "third-party"
[nodes.ct]
stage  = "dicom-read"
select = { modality = "CT" }
params = { modality = "CT", quantity = "hu" }
[nodes.window]
stage  = "hu-window"
from   = "ct"
params = { hu_min = -150.0, hu_max = 250.5 }
[nodes.hu]
stage = "denormalise"
from  = "window"
[nodes.normalised]
stage = "nifti-write"
from  = "window"
[nodes.restored]
stage = "nifti-write"
from  = "hu"
[nodes.series]
stage = "dicom-write"
from  = "hu"
params = { series_description = "window" }
"#;

/// Digest of every installed file: the program and all staged plugins.
fn installed() -> String {
    let mut hash = Sha256::new();
    let mut folders = vec![stage().plugins.clone()];
    let mut files = vec![stage().gantry.clone()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    files.sort();
    for file in files {
        hash.update(std::fs::read(file).unwrap());
    }
    hex::encode(hash.finalize())
}

/// What must not depend on who made the stage: whole NIfTI files, and the voxels of DICOM files.
fn voxels(run: &Run) -> Vec<(String, Vec<u8>)> {
    run.results()
        .into_iter()
        .map(|(path, bytes)| {
            if !path.ends_with(".dcm") {
                return (path, bytes);
            }
            let object = dicom_object::from_reader(bytes.get(128..).map(|_| &bytes[..]).unwrap()).unwrap();
            let pixels =
                object.element(dicom_dictionary_std::tags::PIXEL_DATA).unwrap().to_bytes().unwrap().into_owned();
            (path, pixels)
        })
        .collect()
}

fn c_plugins() -> tempfile::TempDir {
    let plugins = tempfile::tempdir().unwrap();
    let source = sources().join("c-hu-window");
    let manifest = std::fs::read_to_string(source.join("plugin.toml")).unwrap();
    build_c(&source.join("hu_window.c"), &manifest, plugins.path(), "c-hu-window", &[]);
    plugins
}

fn swapped(chain: &str) -> String {
    let swapped = chain.replace("stage  = \"hu-window\"", "stage  = \"org.example.hu-window\"");
    assert_ne!(swapped, chain);
    swapped
}

fn compare(chain: &str, plugins: &Path, input: &Path, files: usize) {
    let ours = run(chain, &[plugins], input, &[]).ended(0);
    let theirs = run(&swapped(chain), &[plugins], input, &[]).ended(0);
    let (ours, theirs) = (voxels(&ours), voxels(&theirs));
    assert_eq!(ours.len(), files);
    for (a, b) in ours.iter().zip(&theirs) {
        assert_eq!(a.0, b.0);
        assert!(a.1 == b.1, "{} differs", a.0);
    }
    assert_eq!(ours.len(), theirs.len());
}

#[test]
fn a_stage_in_c99_gives_the_bytes_of_the_stage_in_rust() {
    let before = installed();
    // Two NIfTI files a patient, and a DICOM file for each of 15 slices.
    compare(CHAIN, c_plugins().path(), &cohort().0, 6 + 15);
    assert_eq!(installed(), before, "something installed was changed");
}

#[test]
fn a_stage_in_c99_gives_the_bytes_of_the_stage_in_rust_on_a_real_chest() {
    let Some(chest) = shared("data/chest-cta-heart/dicom") else { return };
    let series = CHAIN.find("[nodes.series]").unwrap();
    compare(&CHAIN[..series], c_plugins().path(), &chest, 2);
}

#[test]
fn a_stage_in_c99_refuses_what_the_stage_in_rust_refuses() {
    // Apart for `check`, which reads doubles, and one number for a stage that computes in single precision.
    let chain = swapped(CHAIN).replace("hu_max = 250.5", "hu_max = -149.9999999999");
    let run = run(&chain, &[c_plugins().path()], &cohort().0, &[]).ended(2);
    assert!(run.words.contains("hu_min must be below hu_max"), "{}", run.words);
}

#[test]
fn a_stage_built_out_of_tree_joins_a_chain() {
    let before = installed();
    let plugins = out_of_tree();
    let node = |id: &str, from: &str| {
        format!("[nodes.{id}]\nstage = \"org.example.invert\"\nfrom = \"{from}\"\nparams = {{ centre = 40.0 }}\n")
    };
    let once = CHAIN.replace("from   = \"ct\"", "from   = \"once\"") + &node("once", "ct");
    let twice = CHAIN.replace("from   = \"ct\"", "from   = \"twice\"") + &node("once", "ct") + &node("twice", "once");
    let run = |chain: &str| voxels(&run(chain, &[plugins], &cohort().0, &[]).ended(0));
    let (plain, once, twice) = (run(CHAIN), run(&once), run(&twice));
    assert_eq!(plain.len(), 21);
    assert!(plain == twice, "mirrored twice is not what it was");
    for (a, b) in plain.iter().zip(&once) {
        assert_eq!(a.0, b.0);
        assert!(a.1 != b.1, "{} was not mirrored", a.0);
    }
    assert_eq!(installed(), before, "something installed was changed");
}

#[test]
fn the_out_of_tree_lock_file_has_the_versions_of_the_main_one() {
    let versions = |path: &Path| -> Vec<(String, String)> {
        let lock: toml::Table = toml::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let packages = lock["package"].as_array().unwrap();
        let foreign = packages.iter().filter(|p| p.get("source").is_some());
        foreign.map(|p| (p["name"].as_str().unwrap().into(), p["version"].as_str().unwrap().into())).collect()
    };
    let main = versions(&gantry_tests::staging::workspace().join("Cargo.lock"));
    let theirs = versions(&sources().join("out-of-tree/Cargo.lock"));
    assert!(theirs.len() > 10);
    for package in theirs {
        assert!(main.contains(&package), "{package:?} would have to be fetched");
    }
}
