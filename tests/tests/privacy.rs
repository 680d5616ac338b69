//! No identifier of a patient in anything a de-identifying run leaves or says, whatever becomes of the case.

mod bench;

use std::path::{Path, PathBuf};

use bench::{Patient, build_c, run_among, sources};
use gantry_tests::launch::{Ended, end, gantry, run_json, walk};
use gantry_tests::small_ct::SmallCt;
use gantry_tests::{oracle, own_mask, toys};

/// A word in the folders' names, as a hospital puts them there.
const FOLDER: &str = "Vgr7777_Hnk";

struct Bench {
    root: tempfile::TempDir,
    canaries: Vec<String>,
}

impl Bench {
    /// A small series with planted identifiers; `None` where the real series or the oracles are absent.
    fn new(settings: &[&str]) -> Option<Bench> {
        let root = tempfile::tempdir().unwrap();
        let plain = root.path().join("plain");
        if !(SmallCt { patient: 1, first: 40, slices: 4, size: 48 }.write(&plain)) {
            return None;
        }
        let planted = root.path().join("in").join(FOLDER).join("ct");
        let list = root.path().join("canaries.json");
        std::fs::create_dir_all(planted.parent().unwrap()).unwrap();
        let mut arguments = vec![plain.to_str().unwrap(), planted.to_str().unwrap(), list.to_str().unwrap()];
        arguments.extend(settings);
        oracle::python("plant_series.py", "import pydicom", &arguments)?;
        toys::pair(&root.path().join("checkpoints"));
        end(gantry().args(["key", "new"]).arg(root.path().join("site.key"))).expect(0);
        let mut canaries: Vec<String> = serde_json::from_slice(&std::fs::read(&list).unwrap()).unwrap();
        assert!(canaries.len() > 60, "{}", canaries.len());
        // What the source carried before, and its folder.
        canaries.extend(["SMALL-0001", "Small^Number1", "3680043.8.498.77.1", "Vgr7777"].map(str::to_owned));
        Some(Bench { root, canaries })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// The chain with the chattiest log, from a folder of its own.
    fn run(&self, out: &str) -> Ended {
        let mut command = gantry();
        command.arg("run").arg(own_mask::ducosy(self.root.path()));
        command.arg("--key").arg(self.path("site.key")).arg("-i").arg(self.path("in")).arg("-o").arg(self.path(out));
        command.args(["--set", "soft.checkpoint=toy-soft", "--set", "lung.checkpoint=toy-lung", "--allow-toy"]);
        command.arg("--checkpoints").arg(self.path("checkpoints"));
        command.env("GANTRY_LOG", "trace").env("RUST_BACKTRACE", "full");
        end(&mut command)
    }

    /// Identifiers found in anything that a run left or said.
    fn leaks(&self, out: &Path, ended: &Ended) -> Vec<String> {
        let mut places: Vec<(String, Vec<u8>)> = vec![
            ("stdout".into(), ended.stdout.clone().into_bytes()),
            ("stderr".into(), ended.stderr.clone().into_bytes()),
        ];
        walk(out, &mut |path| {
            let name = path.strip_prefix(out).unwrap().to_string_lossy().into_owned();
            places.push((name.clone(), std::fs::read(path).unwrap()));
            places.push((format!("name of {name}"), name.into_bytes()));
        });
        let mut found = Vec::new();
        for canary in &self.canaries {
            let wide: Vec<u8> = canary.encode_utf16().flat_map(u16::to_le_bytes).collect();
            let forms = [canary.clone().into_bytes(), wide, hex::encode(canary).into_bytes()];
            for (place, bytes) in &places {
                let in_it = |form: &Vec<u8>| bytes.windows(form.len()).any(|w| w.eq_ignore_ascii_case(form));
                if forms.iter().any(in_it) {
                    found.push(format!("{canary} in {place}"));
                }
            }
        }
        found
    }
}

fn status(out: &Path) -> (String, String) {
    let case = &run_json(out)["cases"][0];
    let text = |key: &str| case[key].as_str().unwrap_or_default().to_owned();
    (text("status"), text("code"))
}

#[test]
fn a_finished_case_leaves_none() {
    let Some(bench) = Bench::new(&[]) else { return };
    let ended = bench.run("out").expect(0);
    let out = bench.path("out");
    assert_eq!(status(&out).0, "done");
    // The search itself can find: the input is full of them.
    let input = bench.leaks(&bench.path("in"), &Ended { code: 0, stdout: String::new(), stderr: String::new() });
    assert!(input.len() > 200, "{}", input.len());
    let leaks = bench.leaks(&out, &ended);
    assert!(leaks.is_empty(), "{} identifiers: {leaks:?}", leaks.len());
    println!("{} identifiers searched for, {} planted in the input, 0 left", bench.canaries.len(), input.len());
}

#[test]
fn a_quarantined_case_leaves_none() {
    // A gap in the series.
    let Some(bench) = Bench::new(&[]) else { return };
    std::fs::remove_file(bench.path("in").join(FOLDER).join("ct/002.dcm")).unwrap();
    let ended = bench.run("out").expect(1);
    let out = bench.path("out");
    assert_eq!(status(&out), ("quarantined".into(), "series-gap".into()));
    assert_eq!(bench.leaks(&out, &ended), Vec::<String>::new());
}

#[test]
fn text_burnt_into_the_pixels_is_refused_and_leaves_none() {
    let Some(bench) = Bench::new(&["BurnedInAnnotation=YES"]) else { return };
    let ended = bench.run("out").expect(1);
    let out = bench.path("out");
    assert_eq!(status(&out).0, "quarantined", "{}", ended.stderr);
    assert_eq!(bench.leaks(&out, &ended), Vec::<String>::new());
    let case = run_json(&out)["cases"][0]["case"].as_str().unwrap().to_owned();
    assert!(!out.join(case).exists(), "nothing is written for it");
}

#[test]
fn damaged_files_leave_none() {
    // One slice cut short, one whose pixels are fewer than its header says, one mask of another grid.
    let Some(bench) = Bench::new(&[]) else { return };
    let folder = bench.path("in").join(FOLDER).join("ct");
    let first = folder.join("001.dcm");
    let bytes = std::fs::read(&first).unwrap();
    std::fs::write(&first, &bytes[..bytes.len() - 1000]).unwrap();
    let ended = bench.run("cut").expect(1);
    assert_eq!(bench.leaks(&bench.path("cut"), &ended), Vec::<String>::new());
    std::fs::write(&first, &bytes).unwrap();
    if let Some(mask) = gantry_tests::fixture::shared("data/chest-cta-heart/heart.nii.gz") {
        std::fs::copy(mask, folder.join("../heart.nii.gz")).unwrap();
        let ended = bench.run("grid").expect(1);
        assert_eq!(status(&bench.path("grid")).0, "quarantined", "{}", ended.stderr);
        assert_eq!(bench.leaks(&bench.path("grid"), &ended), Vec::<String>::new());
    }
}

#[test]
fn a_stage_that_sees_headers_is_heard_before_the_first_case_and_withheld_in_one() {
    let folder = tempfile::tempdir().unwrap();
    let (plugins, input) = (folder.path().join("plugins"), folder.path().join("in"));
    std::fs::create_dir(&plugins).unwrap();
    let manifest = std::fs::read_to_string(sources().join("leaky.toml")).unwrap();
    let image = "inputs.image = { caps";
    assert!(manifest.contains(image));
    let manifest = manifest.replace(image, "inputs.image = { view = \"both\", caps");
    build_c(&sources().join("leaky.c"), &manifest, &plugins, "leaky", &[]);
    Patient { name: "first-4711", z_mm: 0.0, slices: 3, seed: 1 }.write(&input);
    let words = "rule 2: no value behind blank=";
    let say = |how: &str| {
        let pipeline = format!(
            "format = 1\nname = \"chain\"\n[nodes.ct]\nstage = \"dicom-read\"\n\
             params = {{ modality = \"CT\", quantity = \"hu\" }}\n[nodes.anonymous]\nstage = \"anonymizer\"\nfrom = \"ct\"\n\
             [nodes.write]\nstage = \"dicom-write\"\nfrom = \"anonymous.series\"\n\
             [nodes.loud]\nstage = \"org.example.leaky\"\nfrom = \"anonymous.series\"\n\
             params = {{ how = \"{how}\", hex = \"{}\" }}\n",
            hex::encode(words)
        );
        run_among(&pipeline, &[&plugins], &input, &[], &[("GANTRY_LOG", "trace")])
    };
    let before = say("refuse-create").ended(2);
    assert!(before.words.contains(words) && !before.words.contains("withheld"), "{}", before.words);
    let within = say("refuse").ended(1);
    assert!(within.words.contains("its words are withheld") && !within.words.contains(words), "{}", within.words);
}
