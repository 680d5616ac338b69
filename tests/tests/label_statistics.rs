//! `label-statistics` through the whole program, against the statistics TotalSegmentator 2.18.0 wrote of the same files.

use std::path::Path;

use gantry_tests::fixture::shared;
use gantry_tests::launch::{end, gantry, run_json};
use serde_json::Value as Json;

/// Names for the values 1, 2, …; the values between the ones that matter need a name too.
fn run(scratch: &Path, ct: &Path, labels: &Path, names: &[String]) -> (Json, Json) {
    let input = scratch.join("in/ct");
    std::fs::create_dir_all(&input).unwrap();
    std::fs::copy(ct, input.join("ct.nii.gz")).unwrap();
    std::fs::copy(labels, scratch.join("in/labels.nii.gz")).unwrap();
    let pipeline = scratch.join("statistics.toml");
    let text = format!(
        "format = 1\nname = \"statistics\"\n\
         [nodes.ct]\nstage = \"nifti-read\"\nparams = {{ modality = \"CT\", quantity = \"hu\" }}\n\
         [nodes.labels]\nstage = \"labels-read\"\nparams = {{ of = \"ct\", path = \"../labels.nii.gz\", labels = {names:?} }}\n\
         [nodes.statistics]\nstage = \"label-statistics\"\nfrom = {{ image = \"ct\", labels = \"labels\" }}\n\
         [nodes.table]\nstage = \"json-write\"\nfrom = \"statistics.table\"\nparams = {{ name = \"table\" }}\n\
         [nodes.summary]\nstage = \"json-write\"\nfrom = \"statistics.summary\"\nparams = {{ name = \"summary\" }}\n"
    );
    std::fs::write(&pipeline, text).unwrap();
    let out = scratch.join("out");
    end(gantry().arg("run").arg(&pipeline).arg("-i").arg(&input).arg("-o").arg(&out)).expect(0);
    let case = out.join(run_json(&out)["cases"][0]["case"].as_str().unwrap());
    let read = |path: &str| serde_json::from_slice(&std::fs::read(case.join(path)).unwrap()).unwrap();
    (read("table/table.json"), read("summary/summary.json"))
}

/// A column by name.
fn column<'t>(table: &'t Json, name: &str) -> &'t Vec<Json> {
    let columns = table["columns"].as_array().unwrap();
    columns.iter().find(|c| c["name"] == name).unwrap()["values"].as_array().unwrap()
}

#[test]
fn every_class_of_the_fast_model() {
    let Some(fixtures) = shared("fixtures/nnunet/totalseg_e2e/fast_3mm") else { return };
    let text = std::fs::read_to_string(fixtures.join("statistics.json")).unwrap();
    let expected: Json = serde_json::from_str(&text).unwrap();
    // Its classes stand in the file in the order of their values; a JSON object here does not keep that order.
    let names: Vec<String> =
        text.lines().filter_map(|l| l.strip_prefix("    \"")?.strip_suffix("\": {")).map(str::to_owned).collect();
    assert_eq!((names.len(), names[50].as_str()), (117, "heart"));
    let scratch = tempfile::tempdir().unwrap();
    let ct = fixtures.join("00_change_spacing_order1.nii.gz");
    let (table, summary) = run(scratch.path(), &ct, &fixtures.join("01_task297_out_s01.nii.gz"), &names);
    let mut present = 0;
    for (i, name) in names.iter().enumerate() {
        assert_eq!(column(&table, "name")[i], *name);
        assert_eq!(column(&table, "label")[i], i + 1);
        assert_eq!(column(&table, "volume_mm3")[i], expected[name]["volume"], "{name}");
        let mean = &column(&table, "mean_hu")[i];
        match column(&table, "n_voxels")[i].as_u64().unwrap() {
            0 => assert_eq!((mean, &expected[name]["intensity"]), (&Json::Null, &Json::from(0.0)), "{name}"),
            _ => {
                assert_eq!(*mean, expected[name]["intensity"], "{name}");
                present += 1;
            }
        }
    }
    println!("{present} classes of 117 with voxels: volumes and means equal to the last digit");
    assert!(present > 40, "{present}");
    assert_eq!(summary["found"].as_array().unwrap().len(), present);
    assert_eq!(summary["absent"].as_array().unwrap().len(), 117 - present);
}

#[test]
fn all_numbers_of_heart_and_aorta() {
    let Some(fixtures) = shared("fixtures/nnunet") else { return };
    let folder = fixtures.join("totalseg_e2e/roi_heart_1p5mm");
    let text = std::fs::read_to_string(folder.join("statistics.json")).unwrap();
    let expected: Json = serde_json::from_str(&text).unwrap();
    let mut names: Vec<String> = (1..=52).map(|v| format!("label {v}")).collect();
    names[50] = "heart".to_owned();
    names[51] = "aorta".to_owned();
    let scratch = tempfile::tempdir().unwrap();
    let ct = fixtures.join("inputs/ct_permuted_0000.nii.gz");
    let (table, summary) = run(scratch.path(), &ct, &folder.join("final.nii.gz"), &names);
    for (i, name) in [(50, "heart"), (51, "aorta")] {
        for (ours, theirs) in [
            ("volume_mm3", "volume"),
            ("n_voxels", "n_voxels"),
            ("mean_hu", "intensity"),
            ("std_hu", "intensity_std"),
            ("min_hu", "intensity_min"),
            ("max_hu", "intensity_max"),
        ] {
            let (ours, theirs) = (column(&table, ours)[i].as_f64().unwrap(), &expected[name][theirs]);
            assert_eq!(Some(ours), theirs.as_f64(), "{name}");
        }
        assert_eq!(column(&table, "incomplete")[i], false, "its statistics would be 0 if it were");
    }
    assert_eq!(summary["found"][0]["name"], "heart");
}
