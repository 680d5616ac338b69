//! Instances of every class on their way through a chain that does not look at their pixels.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use dicom_core::{DataElement, PrimitiveValue, VR};
use dicom_dictionary_std::{tags, uids};
use dicom_object::{DefaultDicomObject, InMemDicomObject, open_file};
use dicom_transfer_syntax_registry::entries;
use gantry_tests::launch::{end, gantry, run_json, walk};

const PASS: &str = "format = 1\nname = \"pass\"\n[nodes.instances]\nstage = \"instance-read\"\n\
                    [nodes.dicom]\nstage = \"instance-write\"\nfrom = \"instances\"\n";

struct Bench {
    root: tempfile::TempDir,
}

impl Bench {
    /// A phantom patient below `in`.
    fn new() -> Bench {
        let bench = Bench { root: tempfile::tempdir().unwrap() };
        let mut phantom = gantry();
        phantom.arg("phantom").arg("-o").arg(bench.path("in"));
        end(phantom.args(["--patients", "1", "--size", "32", "--slices", "8"])).expect(0);
        std::fs::write(bench.path("pass.toml"), PASS).unwrap();
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn run(&self, out: &str, code: i32) -> serde_json::Value {
        let mut run = gantry();
        run.arg("run").arg(self.path("pass.toml")).arg("-i").arg(self.path("in")).arg("-o").arg(self.path(out));
        end(&mut run).expect(code);
        run_json(&self.path(out))
    }
}

/// Every DICOM object below a folder, by SOP Instance UID.
fn objects(folder: &Path) -> BTreeMap<String, DefaultDicomObject> {
    let mut found = BTreeMap::new();
    walk(folder, &mut |path| {
        let Ok(object) = open_file(path) else { return };
        let uid = object.element(tags::SOP_INSTANCE_UID).unwrap().to_str().unwrap().into_owned();
        assert!(found.insert(uid, object).is_none());
    });
    found
}

fn data_set(object: &InMemDicomObject) -> Vec<u8> {
    let mut bytes = Vec::new();
    object.write_dataset_with_ts(&mut bytes, &entries::EXPLICIT_VR_LITTLE_ENDIAN.erased()).unwrap();
    bytes
}

#[test]
fn every_element_and_pixel_passes_unchanged() {
    let bench = Bench::new();
    // One series in another encoding.
    walk(&bench.path("in/phantom/patient-001/POST STD"), &mut |path| {
        let mut object = open_file(path).unwrap();
        object.update_meta(|meta| meta.set_transfer_syntax(&entries::IMPLICIT_VR_LITTLE_ENDIAN));
        object.write_to_file(path).unwrap();
    });
    let report = bench.run("out", 0);
    let cases = report["cases"].as_array().unwrap();
    assert_eq!((cases.len(), cases[0]["status"].as_str()), (1, Some("done")));
    let (sources, results) = (objects(&bench.path("in")), objects(&bench.path("out")));
    assert_eq!((sources.len(), results.len()), (16, 16));
    let mut implicit = 0;
    for (uid, source) in &sources {
        let result = &results[uid];
        implicit += usize::from(source.meta().transfer_syntax() == uids::IMPLICIT_VR_LITTLE_ENDIAN);
        assert_eq!(result.meta().transfer_syntax(), uids::EXPLICIT_VR_LITTLE_ENDIAN);
        assert_eq!(result.meta().media_storage_sop_instance_uid(), uid);
        assert_eq!(data_set(result), data_set(source));
    }
    assert_eq!(implicit, 8);
}

#[test]
fn names_come_from_the_series_not_from_the_files() {
    let bench = Bench::new();
    let folder = bench.path("in/phantom/patient-001/POST VUE");
    for (i, entry) in std::fs::read_dir(&folder).unwrap().enumerate() {
        std::fs::rename(entry.unwrap().path(), folder.join(format!("Doe-John-{i}"))).unwrap();
    }
    bench.run("out", 0);
    let mut names = Vec::new();
    walk(&bench.path("out"), &mut |path| names.push(path.file_name().unwrap().to_string_lossy().into_owned()));
    names.retain(|n| n.ends_with(".dcm"));
    names.sort();
    assert_eq!(names.len(), 16);
    assert_eq!((names[0].as_str(), names[15].as_str()), ("CT-001-00001.dcm", "CT-002-00008.dcm"));
}

#[test]
fn damaged_and_contradicting_instances_are_refused_by_name_and_nothing_of_them_is_written() {
    let bench = Bench::new();
    let vue = bench.path("in/phantom/patient-001/POST VUE");
    let mut files = Vec::new();
    walk(&vue, &mut |path| files.push(path.to_owned()));
    files.sort();
    let whole = std::fs::read(&files[0]).unwrap();
    // Cut within its header, so that nobody can tell whose it is; twice.
    std::fs::write(vue.join("short"), &whole[..700]).unwrap();
    std::fs::write(vue.join("short again"), &whole[..700]).unwrap();
    std::fs::write(vue.join("copy"), &whole).unwrap();
    std::fs::write(vue.join("notes.txt"), "not an image").unwrap();
    let report = bench.run("out", 1);
    let cases = report["cases"].as_array().unwrap();
    let code = |status: &str| {
        cases.iter().filter(|c| c["status"] == status).map(|c| c["code"].as_str().unwrap_or("")).collect::<Vec<_>>()
    };
    assert_eq!((code("done"), code("quarantined")), (vec![""], vec!["truncated"]));
    assert_eq!(objects(&bench.path("out")).len(), 16);

    // Cut within its pixels: its study is not whole any more.
    std::fs::write(&files[1], &std::fs::read(&files[1]).unwrap()[..whole.len() - 100]).unwrap();
    let report = bench.run("cut", 1);
    assert!(report["cases"].as_array().unwrap().iter().all(|c| c["code"] == "truncated"), "{report}");
    assert_eq!(objects(&bench.path("cut")).len(), 0);
    std::fs::remove_file(&files[1]).unwrap();

    // Another content under an identifier that is taken: the study is refused as a whole.
    let mut other = open_file(&files[0]).unwrap();
    other.put(DataElement::new(tags::KVP, VR::DS, PrimitiveValue::from("99")));
    other.write_to_file(vue.join("other")).unwrap();
    let report = bench.run("again", 1);
    let codes: Vec<_> = report["cases"].as_array().unwrap().iter().filter_map(|c| c["code"].as_str()).collect();
    assert!(codes.contains(&"same-instance-uid"), "{codes:?}");
    assert_eq!(objects(&bench.path("again")).len(), 0);
}

#[test]
fn sources_of_series_and_of_instances_do_not_mix_and_instances_are_not_selected() {
    let bench = Bench::new();
    let check = |text: &str| {
        std::fs::write(bench.path("mixed.toml"), text).unwrap();
        end(gantry().arg("check").arg(bench.path("mixed.toml"))).expect(2).stderr
    };
    let mixed = format!(
        "{PASS}[nodes.ct]\nstage = \"dicom-read\"\nparams = {{ modality = \"CT\", quantity = \"hu\" }}\n\
         [nodes.copy]\nstage = \"dicom-write\"\nfrom = \"ct\"\n"
    );
    let said = check(&mixed);
    assert!(said.contains("case-origin") && said.contains("mixed.toml:9"), "{said}");
    let said = check(&PASS.replace("\"instance-read\"\n", "\"instance-read\"\nselect = { modality = \"CT\" }\n"));
    assert!(said.contains("select-misplaced") && said.contains("mixed.toml:5"), "{said}");
}
