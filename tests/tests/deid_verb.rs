//! `gantry deid` as its users meet it: what it says, what it refuses, what its options do. On the built-in phantom.

use std::path::{Path, PathBuf};

use dicom_core::value::DataSetSequence;
use dicom_core::{DataElement, Length, PrimitiveValue, Tag, VR};
use dicom_dictionary_std::tags;
use dicom_object::{DefaultDicomObject, FileMetaTableBuilder, InMemDicomObject, open_file};
use gantry_tests::launch::{Ended, end, gantry, run_json, walk};

struct Bench {
    root: tempfile::TempDir,
}

impl Bench {
    /// A phantom patient below `in`, and a key.
    fn new() -> Bench {
        let bench = Bench { root: tempfile::tempdir().unwrap() };
        let mut phantom = gantry();
        phantom.arg("phantom").arg("-o").arg(bench.path("in"));
        end(phantom.args(["--patients", "1", "--size", "32", "--slices", "4"])).expect(0);
        end(gantry().args(["key", "new"]).arg(bench.path("site.key"))).expect(0);
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn deid(&self, out: &str, more: &[&str]) -> Ended {
        let mut deid = gantry();
        deid.arg("deid").arg("-i").arg(self.path("in")).arg("-o").arg(self.path(out));
        end(deid.arg("--key").arg(self.path("site.key")).args(more))
    }

    /// One file of the input, changed.
    fn change(&self, name: &str, put: impl Fn(&mut DefaultDicomObject)) -> PathBuf {
        let mut files = Vec::new();
        walk(&self.path("in"), &mut |path| files.push(path.to_owned()));
        files.sort();
        let path = files.into_iter().find(|f| f.ends_with(name)).unwrap();
        let mut object = open_file(&path).unwrap();
        put(&mut object);
        object.write_to_file(&path).unwrap();
        path
    }
}

fn results(out: &Path) -> Vec<DefaultDicomObject> {
    let mut found = Vec::new();
    walk(out, &mut |path| found.extend(path.extension().filter(|e| *e == "dcm").map(|_| open_file(path).unwrap())));
    found
}

fn text(object: &DefaultDicomObject, tag: Tag) -> String {
    object.get(tag).and_then(|e| e.to_str().ok()).map(|t| t.trim_end().to_owned()).unwrap_or_default()
}

/// Name of the first file of the first series.
fn first_file(bench: &Bench) -> String {
    let mut names = Vec::new();
    walk(&bench.path("in"), &mut |path| {
        let name = path.file_name().unwrap().to_string_lossy();
        names.extend(path.parent().filter(|p| p.ends_with("POST VUE")).map(|_| format!("POST VUE/{name}")));
    });
    names.sort();
    names.remove(0)
}

#[test]
fn a_study_is_cleaned_and_done_once() {
    let bench = Bench::new();
    let said = bench.deid("out", &[]).expect(0);
    assert!(said.stdout.contains("1 done"), "{said:?}");
    let objects = results(&bench.path("out"));
    assert_eq!(objects.len(), 8);
    let audit = &run_json(&bench.path("out"))["cases"][0]["self_audit"];
    assert!(audit["files"].as_u64().is_some_and(|n| n >= 8), "{audit}");
    for object in &objects {
        assert_eq!(text(object, tags::PATIENT_IDENTITY_REMOVED), "YES");
        assert_eq!(text(object, tags::SYNTHETIC_DATA), "YES");
        assert_eq!(text(object, tags::LONGITUDINAL_TEMPORAL_INFORMATION_MODIFIED), "REMOVED");
        assert_eq!(text(object, tags::PATIENT_NAME), text(object, tags::PATIENT_ID));
    }
    let again = bench.deid("out", &[]).expect(0);
    assert!(again.stdout.contains("0 done, 1 done before"), "{again:?}");
}

#[test]
fn without_a_key_nothing_begins() {
    let bench = Bench::new();
    let mut deid = gantry();
    deid.arg("deid").arg("-i").arg(bench.path("in")).arg("-o").arg(bench.path("out"));
    let said = end(&mut deid).expect(2);
    assert!(said.stderr.contains("gantry key new"), "{said:?}");
    assert!(!bench.path("out").exists());
}

#[test]
fn an_object_that_must_not_pass_costs_its_study_or_itself_and_the_reason_is_told() {
    let bench = Bench::new();
    // A folder whose name stands in what the stage may say is no leak.
    std::fs::rename(bench.path("in/phantom"), bench.path("in/pixels")).unwrap();
    bench.change(&first_file(&bench), |object| {
        object.put(DataElement::new(tags::BURNED_IN_ANNOTATION, VR::CS, PrimitiveValue::from("YES")));
    });
    let said = bench.deid("whole", &[]).expect(1);
    let reason = "#5: the pixels may show who the patient is: BurnedInAnnotation is not NO";
    assert!(said.stderr.contains(reason), "{said:?}");
    let case = &run_json(&bench.path("whole"))["cases"][0];
    assert_eq!((case["status"].as_str(), case["code"].as_str()), (Some("quarantined"), Some("burned-in-annotation")));
    assert!(case["reason"].as_str().unwrap().contains(reason), "{case}");
    assert!(results(&bench.path("whole")).is_empty());

    let said = bench.deid("rest", &["--leave-out"]).expect(0);
    let left_out = "1 instance was left out (1 burned-in-annotation); see run.json";
    assert!(said.stderr.contains(left_out), "{said:?}");
    assert_eq!(results(&bench.path("rest")).len(), 7);
    let warnings = run_json(&bench.path("rest"))["cases"][0]["warnings"].to_string();
    assert!(warnings.contains("burned-in-annotation") && warnings.contains("1 of 8 instances left out"), "{warnings}");
}

#[test]
fn a_dicomdir_is_passed_over_counted_and_leaves_nothing() {
    let bench = Bench::new();
    let text = |tag, vr, value: &str| DataElement::new(tag, vr, PrimitiveValue::from(value));
    let record = InMemDicomObject::from_element_iter([
        text(tags::DIRECTORY_RECORD_TYPE, VR::CS, "PATIENT"),
        text(tags::PATIENT_NAME, VR::PN, "Roesler^Indexed"),
        text(tags::PATIENT_ID, VR::LO, "IDX-4711-0815"),
    ]);
    let records = DataSetSequence::new(vec![record], Length::UNDEFINED);
    let directory = InMemDicomObject::from_element_iter([
        text(tags::FILE_SET_ID, VR::CS, "ROESLERDISC"),
        DataElement::new(tags::DIRECTORY_RECORD_SEQUENCE, VR::SQ, records),
    ]);
    let meta = FileMetaTableBuilder::new()
        .media_storage_sop_class_uid("1.2.840.10008.1.3.10")
        .media_storage_sop_instance_uid("1.2.3.4711")
        .transfer_syntax("1.2.840.10008.1.2.1");
    directory.with_meta(meta).unwrap().write_to_file(bench.path("in/DICOMDIR")).unwrap();

    let said = bench.deid("out", &[]).expect(0);
    assert!(said.stderr.contains("files passed over: 1 dicomdir"), "{said:?}");
    assert_eq!(results(&bench.path("out")).len(), 8);
    let of_it = |bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes).to_lowercase();
        ["roesler", "indexed", "idx-4711"].into_iter().find(|word| text.contains(word))
    };
    assert_eq!(of_it(said.stdout.as_bytes()).or(of_it(said.stderr.as_bytes())), None, "{said:?}");
    walk(&bench.path("out"), &mut |path| {
        let found = of_it(&std::fs::read(path).unwrap()).or(of_it(path.as_os_str().as_encoded_bytes()));
        assert_eq!(found, None, "{}", path.display());
    });
}

#[test]
fn regions_are_blanked_by_rules_and_nothing_else() {
    let bench = Bench::new();
    let path = bench.change(&first_file(&bench), |object| {
        object.put(DataElement::new(tags::BURNED_IN_ANNOTATION, VR::CS, PrimitiveValue::from("YES")));
    });
    let rule = ["--profile", "basic+pixel-data", "--pixel-rule", "modality=CT rows=32 columns=32 blank=4,2,8,3"];
    bench.deid("out", &rule).expect(0);
    let pixels = |o: &DefaultDicomObject| o.element(tags::PIXEL_DATA).unwrap().uint16_slice().unwrap().to_vec();
    let before = pixels(&open_file(path).unwrap());
    let objects = results(&bench.path("out"));
    assert_eq!(objects.len(), 8);
    let blanked: Vec<_> = objects.iter().filter(|o| text(o, tags::BURNED_IN_ANNOTATION) == "NO").collect();
    let inside = |i: usize| (4..12).contains(&(i % 32)) && (2..5).contains(&(i / 32));
    let same = |after: &[u16]| before.iter().zip(after).enumerate().all(|(i, (b, a))| inside(i) || a == b);
    let one = blanked.iter().map(|o| pixels(o)).find(|after| same(after)).expect("the changed slice");
    let black: std::collections::BTreeSet<u16> = (0..one.len()).filter(|&i| inside(i)).map(|i| one[i]).collect();
    assert_eq!(black.len(), 1);
}

#[test]
fn scripts_of_ctp_are_followed_or_refused_by_line() {
    let bench = Bench::new();
    let script = bench.path("site.script");
    std::fs::write(&script, "set.[0018,0060]KVP=@remove()\nset.[0010,0010]PatientName=@empty()\n").unwrap();
    let script = script.to_str().unwrap().to_owned();
    let said = bench.deid("out", &["--script", &script]).expect(0);
    assert!(said.stderr.contains("2 statements"), "{said:?}");
    let objects = results(&bench.path("out"));
    assert!(objects.len() == 8 && objects.iter().all(|o| o.get(tags::KVP).is_none()));

    std::fs::write(&script, "set.[0018,0060]KVP=@remove()\nset.[0010,0010]PatientName=@keep()\n").unwrap();
    let said = bench.deid("kept", &["--script", &script]).expect(2);
    assert!(said.stderr.contains("site.script:2") && said.stderr.contains("--accept-refused"), "{said:?}");
    assert!(!bench.path("kept").exists());
    bench.deid("kept", &["--script", &script, "--accept-refused"]).expect(0);
    let kept = results(&bench.path("kept"));
    assert!(kept.len() == 8 && kept.iter().all(|o| !text(o, tags::PATIENT_NAME).contains("Phantom")));
}

#[test]
fn a_site_says_which_options_are_permitted_and_wrong_ones_are_refused() {
    let bench = Bench::new();
    let site = bench.path("site.toml");
    std::fs::write(&site, "[policy]\npermitted_options = [\"modified-dates\"]\n").unwrap();
    let site = site.to_str().unwrap().to_owned();
    bench.deid("dates", &["--site", &site, "--profile", "basic+modified-dates"]).expect(0);
    let said = bench.deid("uids", &["--site", &site, "--profile", "basic+uids"]).expect(2);
    assert!(said.stderr.contains("option-policy") && !bench.path("uids").exists(), "{said:?}");
    let said = bench.deid("no", &["--profile", "basic+names"]).expect(2);
    assert!(said.stderr.contains("there is no option `names`"), "{said:?}");
    let said = bench.deid("no", &["--profile", "basic+full-dates+modified-dates"]).expect(2);
    assert!(said.stderr.contains("exclude each other") && !bench.path("no").exists(), "{said:?}");
}

#[test]
fn pixels_that_look_like_text_are_told_at_the_end() {
    let bench = Bench::new();
    let said = bench.deid("plain", &[]).expect(0);
    assert!(!said.stderr.contains("look like text"), "{said:?}");
    let said = bench.deid("out", &["--detect-text"]).expect(0);
    let warnings = run_json(&bench.path("out"))["cases"][0]["warnings"].as_array().cloned().unwrap_or_default();
    let seen = warnings.iter().filter(|w| w["code"] == "text-like-pixels").count();
    let words = match seen {
        0 => "seen in no file".to_owned(),
        1 => "seen in 1 file; see run.json".to_owned(),
        n => format!("seen in {n} files; see run.json"),
    };
    assert!(said.stderr.contains(&format!("pixels that look like text were {words}")), "{said:?}");
}

#[test]
fn a_rule_with_a_fault_and_a_missing_script_are_told_in_words() {
    let bench = Bench::new();
    let rule = ["--profile", "basic+pixel-data", "--pixel-rule", "modality=CT blank=1,2,3"];
    let said = bench.deid("out", &rule).expect(2);
    assert!(said.stderr.contains("pixel_rules, number 1") && !said.stderr.contains("withheld"), "{said:?}");
    let script = bench.path("none.script");
    let said = bench.deid("out", &["--script", script.to_str().unwrap()]).expect(2);
    assert!(said.stderr.contains("none.script"), "{said:?}");
}

#[test]
fn results_never_lie_in_an_input_folder() {
    let bench = Bench::new();
    std::os::unix::fs::symlink(bench.path("in"), bench.path("link")).unwrap();
    for out in ["in/out", "in/phantom/deeper/out", "link/out"] {
        let said = bench.deid(out, &[]).expect(2);
        assert!(said.stderr.contains("the output folder lies in input folder 1"), "{said:?}");
        assert!(!bench.path(out).exists(), "{out}");
    }
    bench.deid("in-out", &[]).expect(0);
}
