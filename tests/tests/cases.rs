//! What becomes a case, what is quarantined and why, and that healthy neighbours do not feel it.

use std::path::{Path, PathBuf};
use std::process::Command;

use gantry_tests::fixture::shared;
use gantry_tests::launch::{copy_folder, end, gantry, results, run_json};
use gantry_tests::small_ct::SmallCt;

/// `dicom-read` -> `dicom-write`, with more parameters of the source.
fn pipeline(folder: &Path, source: &str) -> PathBuf {
    let path = folder.join("copy.toml");
    let text = format!(
        "format = 1\nname = \"copy\"\n[nodes.ct]\nstage = \"dicom-read\"\n\
         params = {{ modality = \"CT\", quantity = \"hu\"{source} }}\n\
         [nodes.write]\nstage = \"dicom-write\"\nfrom = \"ct\"\n"
    );
    std::fs::write(&path, text).unwrap();
    path
}

fn run(pipeline: &Path, input: &Path, out: &Path) -> Command {
    let mut command = gantry();
    command.arg("run").arg(pipeline).arg("-i").arg(input).arg("-o").arg(out);
    command.args(["--run-time", "2026-01-31T10:15:00Z"]);
    command
}

/// Code and reason of every case that was not done.
fn troubles(out: &Path) -> Vec<(String, String, String)> {
    let text = |v: &serde_json::Value| v.as_str().unwrap_or_default().to_owned();
    let json = run_json(out);
    let cases = json["cases"].as_array().unwrap();
    let bad = cases.iter().filter(|c| c["status"] != "done");
    let mut all: Vec<_> = bad.map(|c| (text(&c["code"]), text(&c["status"]), text(&c["reason"]))).collect();
    all.sort();
    all
}

#[test]
fn a_series_without_identifiers_is_refused_naming_the_remedy_and_handled_with_it() {
    let Some(input) = shared("data/siemens-abdomen-j2k") else { return };
    let scratch = tempfile::tempdir().unwrap();
    let out = scratch.path().join("out");
    let ended = end(&mut run(&pipeline(scratch.path(), ""), &input, &out)).expect(1);
    assert!(ended.stderr.contains("repair = [\"uids\"]"), "{}", ended.stderr);
    let found = troubles(&out);
    assert_eq!(found.len(), 1, "never merged, never split: {found:?}");
    assert_eq!((found[0].0.as_str(), found[0].1.as_str()), ("missing-uids", "quarantined"));
    assert!(results(&out).is_empty(), "nothing is written for it");

    let mended = scratch.path().join("mended");
    end(&mut run(&pipeline(scratch.path(), ", repair = [\"uids\"]"), &input, &mended)).expect(0);
    assert_eq!(results(&mended).keys().filter(|n| n.ends_with(".dcm")).count(), 20);
}

#[test]
fn odd_series_are_quarantined_each_for_its_reason_and_the_neighbour_is_untouched() {
    let Some(odd) = shared("data/odd-series/dicom2nifti_ct_series") else { return };
    let scratch = tempfile::tempdir().unwrap();
    let input = scratch.path().join("in");
    assert!(SmallCt { patient: 1, first: 40, slices: 5, size: 32 }.write(&input.join("healthy")));
    let copy = pipeline(scratch.path(), "");
    // The same key, so that cases have the same names in both.
    let key = scratch.path().join("site.key");
    end(gantry().args(["key", "new"]).arg(&key)).expect(0);
    end(run(&copy, &input, &scratch.path().join("alone")).arg("--key").arg(&key)).expect(0);
    copy_folder(&odd, &input.join("odd"));
    let out = scratch.path().join("out");
    end(run(&copy, &input, &out).arg("--key").arg(&key)).expect(1);
    let found = troubles(&out);
    let codes: Vec<&str> = found.iter().map(|t| t.0.as_str()).collect();
    assert_eq!(codes, ["gantry-tilt", "not-a-volume", "series-gap"], "{found:?}");
    assert!(found.iter().all(|t| t.1 == "quarantined"), "{found:?}");
    assert!(found[0].2.contains("14.00 degrees"), "{found:?}");
    assert!(found[2].2.contains("gap of 10.0 mm after slice 2"), "{found:?}");
    let alone = results(&scratch.path().join("alone"));
    assert!(!alone.is_empty());
    assert_eq!(results(&out), alone, "the healthy neighbour's bytes");
}

#[test]
fn damaged_and_single_files_each_get_their_word() {
    let Some(odd) = shared("data/odd-series/pydicom") else { return };
    let scratch = tempfile::tempdir().unwrap();
    let out = scratch.path().join("out");
    let ended = end(run(&pipeline(scratch.path(), ""), &odd, &out).args(["--progress", "json"])).expect(1);
    let found = troubles(&out);
    assert!(found.iter().any(|t| t.0 == "truncated" && t.2.contains("claims 8192 bytes")), "{found:?}");
    let passed_over = ended.stderr.lines().find(|l| l.contains("passed over")).unwrap();
    for code in ["not-an-image", "not-dicom", "not-a-volume-class", "truncated"] {
        assert!(passed_over.contains(code), "{passed_over}");
    }
}

#[test]
fn a_source_that_matches_several_says_so_with_the_candidates() {
    let scratch = tempfile::tempdir().unwrap();
    let input = scratch.path().join("in");
    if !(SmallCt { patient: 1, first: 40, slices: 3, size: 32 }.write(&input.join("a"))) {
        return;
    }
    // Another series of the same study.
    assert!(SmallCt { patient: 1, first: 60, slices: 3, size: 16 }.write(&input.join("b")));
    for path in std::fs::read_dir(input.join("b")).unwrap().flatten().map(|e| e.path()) {
        let mut object = dicom_object::open_file(&path).unwrap();
        for (tag, value) in [
            (dicom_dictionary_std::tags::SERIES_INSTANCE_UID, "1.2.3.99".to_owned()),
            (
                dicom_dictionary_std::tags::SOP_INSTANCE_UID,
                format!("1.2.3.99.{}", path.file_stem().unwrap().to_string_lossy().parse::<u32>().unwrap()),
            ),
        ] {
            object.put(dicom_core::DataElement::new(
                tag,
                dicom_core::VR::UI,
                dicom_core::PrimitiveValue::from(value.as_str()),
            ));
        }
        object.write_to_file(&path).unwrap();
    }
    let out = scratch.path().join("out");
    end(&mut run(&pipeline(scratch.path(), ""), &input, &out)).expect(1);
    let found = troubles(&out);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].0, "source-several");
    assert!(found[0].2.contains("narrow `select`") && found[0].2.contains("3 slices"), "{found:?}");
}

#[test]
fn nothing_to_do_is_an_error_of_usage() {
    let scratch = tempfile::tempdir().unwrap();
    let input = scratch.path().join("in");
    std::fs::create_dir_all(&input).unwrap();
    std::fs::write(input.join("README.txt"), "no image").unwrap();
    let copy = pipeline(scratch.path(), "");
    let out = scratch.path().join("out");
    let ended = end(&mut run(&copy, &input, &out)).expect(2);
    assert!(ended.stderr.contains("no case found"), "{}", ended.stderr);
    // A label file alone is no case of a pipeline that reads DICOM.
    if let Some(real) = shared("data/chest-cta-heart/heart.nii.gz") {
        std::fs::copy(real, input.join("heart.nii.gz")).unwrap();
        let ended = end(&mut run(&copy, &input, &out)).expect(2);
        assert!(ended.stderr.contains("no case found"), "{}", ended.stderr);
    }
    // Output and input in one.
    let ended = end(&mut run(&copy, &input, &input)).expect(2);
    assert!(ended.stderr.contains("output folder"), "{}", ended.stderr);
    assert_eq!(std::fs::read_dir(&input).unwrap().flatten().filter(|e| e.path().is_dir()).count(), 0);
    end(&mut run(&copy, &scratch.path().join("absent"), &out)).expect(2);
}
