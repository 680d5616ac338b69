//! The main chain on the real chest CT: `config/pipelines/ducosy.toml` with toy weights and a mask beside the series, every
//! stage a loaded plugin.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use dicom_dictionary_std::tags;
use dicom_object::OpenFileOptions;
use gantry_tests::fixture::shared;
use gantry_tests::launch::{copy_folder, end, every_file, gantry, results, run_json, walk};
use gantry_tests::staging::{stage, workspace};
use gantry_tests::{oracle, own_mask, toys};

const TIME: &str = "2026-01-31T10:15:00Z";

/// A scratch folder with the input, a key and toy checkpoints.
struct Bench {
    root: tempfile::TempDir,
}

impl Bench {
    /// The real CT and its heart mask, copied; `None` where they are absent.
    fn new() -> Option<Bench> {
        let real = shared("data/chest-cta-heart")?;
        let bench = Bench { root: tempfile::tempdir().unwrap() };
        copy_folder(&real.join("dicom"), &bench.path("in/ct"));
        std::fs::copy(real.join("heart.nii.gz"), bench.path("in/heart.nii.gz")).unwrap();
        toys::pair(&bench.path("checkpoints"));
        end(gantry().args(["key", "new"]).arg(bench.path("site.key"))).expect(0);
        Some(bench)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// The chain from `in` to `out`, with the checkpoints of `checkpoints`.
    fn chain(&self, checkpoints: &str, out: &str) -> Command {
        let mut command = gantry();
        command.arg("run").arg(own_mask::ducosy(self.root.path()));
        command.arg("--key").arg(self.path("site.key")).arg("-i").arg(self.path("in")).arg("-o").arg(self.path(out));
        command.args(["--set", "soft.checkpoint=toy-soft", "--set", "lung.checkpoint=toy-lung", "--allow-toy"]);
        command.arg("--checkpoints").arg(self.path(checkpoints));
        command
    }
}

/// SOP and Series Instance UIDs of every DICOM file under a folder, and how many files there are.
fn uids(folder: &Path) -> (BTreeSet<String>, usize) {
    let mut found = BTreeSet::new();
    let mut files = 0;
    walk(folder, &mut |path| {
        let Ok(file) = OpenFileOptions::new().read_until(tags::PIXEL_DATA).open_file(path) else { return };
        files += 1;
        for tag in [tags::SOP_INSTANCE_UID, tags::SERIES_INSTANCE_UID] {
            found.insert(file.element(tag).unwrap().to_str().unwrap().into_owned());
        }
        let meta = file.meta().media_storage_sop_instance_uid().trim_end_matches('\0').to_owned();
        assert!(found.contains(&meta), "the file's head names another instance");
    });
    (found, files)
}

/// The one case of an output folder.
fn case(out: &Path) -> PathBuf {
    let json = run_json(out);
    assert_eq!(json["complete"], true);
    let cases = json["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 1, "{cases:?}");
    assert_eq!(cases[0]["status"], "done", "{}", cases[0]);
    out.join(cases[0]["case"].as_str().unwrap())
}

/// Sets one background voxel of a label file.
fn change_one_voxel(path: &Path) {
    let mut bytes = Vec::new();
    flate2::read::GzDecoder::new(std::fs::File::open(path).unwrap()).read_to_end(&mut bytes).unwrap();
    let number = |at: usize| i16::from_le_bytes([bytes[at], bytes[at + 1]]);
    let offset = f32::from_le_bytes([bytes[108], bytes[109], bytes[110], bytes[111]]) as usize;
    let (width, voxels) = (number(72) as usize / 8, (1..4).map(|i| number(40 + 2 * i) as usize).product::<usize>());
    let of = |bytes: &[u8]| bytes[offset..].chunks_exact(width).filter(|v| v.iter().any(|&b| b != 0)).count();
    let before = of(&bytes);
    let inside = bytes[offset..].chunks_exact(width).position(|v| v.iter().any(|&b| b != 0)).unwrap();
    assert!(inside > 0 && voxels * width <= bytes.len() - offset);
    // Where the mask begins, one voxel earlier, with the same value.
    let at = offset + inside * width;
    let value = bytes[at..at + width].to_vec();
    bytes[at - width..at].copy_from_slice(&value);
    assert_eq!(of(&bytes), before + 1);
    let mut out = flate2::write::GzEncoder::new(std::fs::File::create(path).unwrap(), flate2::Compression::fast());
    out.write_all(&bytes).unwrap();
    out.finish().unwrap();
}

#[test]
fn the_chain_on_the_real_ct() {
    let Some(bench) = Bench::new() else { return };
    let first = end(bench.chain("checkpoints", "out").args(["--run-time", TIME])).expect(0);
    assert!(first.stdout.contains("1 done"), "{}", first.stdout);
    let out = bench.path("out");
    let written = case(&out).join("write");
    let (made, files) = uids(&written);
    assert_eq!((made.len(), files), (113, 112), "112 instances of one series");
    let (source, _) = uids(&bench.path("in/ct"));
    assert!(made.is_disjoint(&source), "every identifier is new");
    assert!(!out.join("private").exists(), "nothing that leads back is kept beside de-identified results");

    // Programs that know nothing of Gantry.
    let [ct, derived, heart] = [bench.path("in/ct"), written, bench.path("in/heart.nii.gz")];
    let [ct, derived, heart] = [&ct, &derived, &heart].map(|p| p.to_str().unwrap());
    oracle::python("verify_derived.py", oracle::DICOM, &[ct, derived, "--synthetic", "--deidentified"]);
    let needs = format!("{}; import SimpleITK", oracle::DICOM);
    oracle::python("verify_chain.py", &needs, &[ct, derived, heart]);

    // The same again: the same bytes.
    end(bench.chain("checkpoints", "again").args(["--run-time", TIME])).expect(0);
    assert_eq!(results(&out), results(&bench.path("again")));
    // At another time: the same identifiers.
    end(bench.chain("checkpoints", "later").args(["--run-time", "2026-02-01T00:00:00Z"])).expect(0);
    assert_eq!(uids(&case(&bench.path("later"))).0, made);
    assert_ne!(results(&out), results(&bench.path("later")), "the time of creation is written");

    // What Gantry made does not become a case, even where it lies among the input.
    copy_folder(&case(&out), &bench.path("in/copied"));
    end(bench.chain("checkpoints", "beside").args(["--run-time", TIME])).expect(0);
    assert_eq!(results(&out), results(&bench.path("beside")));
    std::fs::remove_dir_all(bench.path("in/copied")).unwrap();

    // One weight: none of the identifiers.
    toys::write(&bench.path("changed"), "toy-soft", [-150.0, 250.0], 1, 1e-4);
    toys::write(&bench.path("changed"), "toy-lung", [-1000.0, -150.0], 2, 0.0);
    end(&mut bench.chain("changed", "weight")).expect(0);
    assert!(uids(&case(&bench.path("weight"))).0.is_disjoint(&made), "one changed weight");

    // One voxel of the mask: none of the identifiers.
    change_one_voxel(&bench.path("in/heart.nii.gz"));
    end(&mut bench.chain("checkpoints", "voxel")).expect(0);
    assert!(uids(&case(&bench.path("voxel"))).0.is_disjoint(&made), "one changed voxel of the mask");
}

#[test]
fn the_toys_that_come_with_gantry_run_the_chain() {
    let Some(bench) = Bench::new() else { return };
    let toys = &stage().checkpoints;
    assert!(toys.join("toy-soft/card.toml").is_file(), "the toys are staged");
    let mut command = gantry();
    command.arg("run").arg(own_mask::ducosy(bench.root.path()));
    command.arg("--key").arg(bench.path("site.key")).arg("-i").arg(shared("data/chest-cta-heart/dicom").unwrap());
    command.args(["--set", "soft.checkpoint=toy-soft", "--set", "lung.checkpoint=toy-lung", "--allow-toy"]);
    end(command.arg("-o").arg(bench.path("out"))).expect(0);
    let written = case(&bench.path("out")).join("write");
    assert_eq!(uids(&written).1, 112);
    let real = shared("data/chest-cta-heart").unwrap();
    let [ct, derived, heart] = [real.join("dicom"), written, real.join("heart.nii.gz")];
    let [ct, derived, heart] = [&ct, &derived, &heart].map(|p| p.to_str().unwrap());
    let needs = format!("{}; import SimpleITK", oracle::DICOM);
    oracle::python("verify_chain.py", &needs, &[ct, derived, heart]);
}

#[test]
fn toys_and_missing_weights_are_refused_before_anything_is_touched() {
    let Some(bench) = Bench::new() else { return };
    let before = every_file(&bench.path("in"));
    let pipeline = workspace().join("config/pipelines/ducosy.toml");
    let basic = |out: &str| {
        let mut command = gantry();
        command.arg("run").arg(&pipeline).arg("-i").arg(bench.path("in")).arg("-o").arg(bench.path(out));
        command.arg("--checkpoints").arg(bench.path("checkpoints")).arg("--key").arg(bench.path("site.key"));
        command
    };
    // Product weights that are not installed: the words say how to get them.
    let ended = end(&mut basic("a")).expect(2);
    assert!(ended.stderr.contains("ducosy-soft") && ended.stderr.contains("gantry weights import"), "{}", ended.stderr);
    // Toys on a real scan, unasked.
    let toys = ["--set", "soft.checkpoint=toy-soft", "--set", "lung.checkpoint=toy-lung"];
    let ended = end(basic("b").args(toys)).expect(2);
    assert!(ended.stderr.contains("--allow-toy"), "{}", ended.stderr);
    // A flipped byte in the weights: integrity.
    let weights = bench.path("checkpoints/toy-soft/weights.safetensors");
    let mut bytes = std::fs::read(&weights).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&weights, bytes).unwrap();
    let ended = end(basic("c").args(toys).arg("--allow-toy")).expect(4);
    assert!(ended.stderr.contains("toy-soft"), "{}", ended.stderr);
    assert_eq!(before, every_file(&bench.path("in")));
}
