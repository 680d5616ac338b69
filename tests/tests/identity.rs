//! Names of cases, keys, and what leads back to a patient.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use dicom_dictionary_std::tags;
use dicom_object::OpenFileOptions;
use gantry_tests::launch::{end, gantry, results, run_json, walk};
use gantry_tests::small_ct;

struct Bench {
    root: tempfile::TempDir,
}

impl Bench {
    fn new() -> Option<Bench> {
        let bench = Bench { root: tempfile::tempdir().unwrap() };
        if !small_ct::cohort(&bench.path("in"), 2, 3, 32) {
            return None;
        }
        for key in ["a.key", "b.key"] {
            end(gantry().args(["key", "new"]).arg(bench.path(key))).expect(0);
        }
        Some(bench)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn run(&self, more: &str, between: &str, out: &str) -> Command {
        let from = if between.is_empty() { "ct" } else { "anonymous" };
        let text = format!(
            "format = 1\nname = \"copy\"\n{more}\n[nodes.ct]\nstage = \"dicom-read\"\n\
             params = {{ modality = \"CT\", quantity = \"hu\" }}\n{between}\n\
             [nodes.write]\nstage = \"dicom-write\"\nfrom = \"{from}\"\n"
        );
        let pipeline = self.path(&format!("{out}.toml"));
        std::fs::write(&pipeline, text).unwrap();
        let mut command = gantry();
        command.arg("run").arg(pipeline).arg("-i").arg(self.path("in")).arg("-o").arg(self.path(out));
        command.args(["--run-time", "2026-01-31T10:15:00Z"]);
        command
    }
}

const ANONYMOUS: &str = "[nodes.anonymous]\nstage = \"anonymizer\"\nfrom = \"ct\"\n";

/// Every identifier of every object under a folder.
fn identifiers(folder: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    walk(folder, &mut |path| {
        let Ok(file) = OpenFileOptions::new().read_until(tags::PIXEL_DATA).open_file(path) else { return };
        for tag in [
            tags::SOP_INSTANCE_UID,
            tags::SERIES_INSTANCE_UID,
            tags::STUDY_INSTANCE_UID,
            tags::FRAME_OF_REFERENCE_UID,
            tags::PATIENT_ID,
        ] {
            found.insert(file.element(tag).unwrap().to_str().unwrap().into_owned());
        }
    });
    assert!(found.len() > 8, "{found:?}");
    found
}

fn cases(out: &Path) -> Vec<String> {
    let json = run_json(out);
    json["cases"].as_array().unwrap().iter().map(|c| c["case"].as_str().unwrap().to_owned()).collect()
}

fn mode(path: &Path) -> u32 {
    path.metadata().unwrap().permissions().mode() & 0o777
}

#[test]
fn one_key_gives_the_same_pseudonyms_and_another_gives_none_of_them() {
    let Some(bench) = Bench::new() else { return };
    for (key, out) in [("a.key", "first"), ("a.key", "second"), ("b.key", "other")] {
        end(bench.run("", ANONYMOUS, out).arg("--key").arg(bench.path(key))).expect(0);
    }
    assert_eq!(results(&bench.path("first")), results(&bench.path("second")));
    let [first, other] = ["first", "other"].map(|out| identifiers(&bench.path(out)));
    assert!(first.is_disjoint(&other), "another key: nothing in common");
    assert!(first.is_disjoint(&identifiers(&bench.path("in"))), "nothing of the source");
    assert_ne!(cases(&bench.path("first")), cases(&bench.path("other")));
    assert!(!bench.path("first").join("private").exists());
    assert_eq!(mode(&bench.path("a.key")), 0o600);
}

#[test]
fn without_a_key_nothing_is_de_identified() {
    let Some(bench) = Bench::new() else { return };
    let ended = end(&mut bench.run("", ANONYMOUS, "out")).expect(2);
    assert!(ended.stderr.contains("gantry key new"), "{}", ended.stderr);
    assert!(!bench.path("out").exists(), "nothing was touched");
}

#[test]
fn what_leads_back_to_a_patient_is_for_the_site_alone() {
    let Some(bench) = Bench::new() else { return };
    end(&mut bench.run("", "", "out")).expect(0);
    let out = bench.path("out");
    assert_eq!(mode(&out.join("private")), 0o700);
    assert_eq!(mode(&out.join("private/index.jsonl")), 0o600);
    assert_eq!(mode(&out.join("journal.jsonl")), 0o600);
    let names = cases(&out);
    assert!(names.iter().all(|n| n.starts_with("c-") && n.len() == 18), "{names:?}");
    // A run again in the same folder uses the key it made.
    end(&mut bench.run("", "", "out")).expect(0);
    assert_eq!(cases(&out), names);
    for name in ["run.json", "journal.jsonl"] {
        let text = std::fs::read_to_string(out.join(name)).unwrap();
        assert!(!text.contains("SMALL-000") && !text.contains("Small^"), "{name} names a patient");
    }
}

#[test]
fn folders_name_cases_where_the_pipeline_says_so() {
    let Some(bench) = Bench::new() else { return };
    std::fs::rename(bench.path("in/p1"), bench.path("in/..öne two")).unwrap();
    end(&mut bench.run("[output]\ncase_name = \"folder\"", "", "out")).expect(0);
    let names: BTreeSet<String> = cases(&bench.path("out")).into_iter().collect();
    assert!(names.contains("p2"), "{names:?}");
    assert_eq!(names.len(), 2);
    let safe = |n: &String| !n.starts_with('.') && n.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    assert!(names.iter().all(safe), "{names:?}");
}
