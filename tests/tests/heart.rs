//! The heart mask through the whole program, with TotalSegmentator's models of random weights: in the main chain, alone, over a
//! cohort, and on series that have no right answer.

use std::path::{Path, PathBuf};
use std::process::Command;

use dicom_core::{DataElement, PrimitiveValue, VR};
use dicom_dictionary_std::tags;
use dicom_object::OpenFileOptions;
use gantry_tests::fixture::shared;
use gantry_tests::launch::{Ended, copy_folder, end, gantry, results, run_json, walk};
use gantry_tests::small_ct::{SmallCt, cohort};
use gantry_tests::staging::workspace;
use gantry_tests::{oracle, toys};
use serde_json::Value as Json;

/// A scratch folder with checkpoints.
struct Bench {
    root: tempfile::TempDir,
}

impl Bench {
    /// With the random cardiac model and the rough one imported as `totalseg-heart`; `None` where they are absent.
    fn new() -> Option<Bench> {
        let weights = shared("fixtures/nnunet/totalseg_weights")?;
        let bench = Bench { root: tempfile::tempdir().unwrap() };
        let mut import = gantry();
        import.args(["weights", "import"]).arg(weights).args(["--arch", "nnunet-v2", "--models", "293,298"]);
        end(import.args(["--name", "totalseg-heart", "--checkpoints"]).arg(bench.path("checkpoints"))).expect(0);
        Some(bench)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn run(&self, pipeline: &Path, input: &str, out: &str) -> Command {
        let mut command = gantry();
        command.arg("run").arg(pipeline).arg("-i").arg(self.path(input)).arg("-o").arg(self.path(out));
        command.arg("--checkpoints").arg(self.path("checkpoints"));
        command
    }

    /// The main chain with toys.
    fn ducosy(&self, out: &str) -> Command {
        if !self.path("site.key").exists() {
            toys::pair(&self.path("checkpoints"));
            end(gantry().args(["key", "new"]).arg(self.path("site.key"))).expect(0);
        }
        let mut command = self.run(&workspace().join("config/pipelines/ducosy.toml"), "in", out);
        command.arg("--key").arg(self.path("site.key"));
        command.args(["--set", "soft.checkpoint=toy-soft", "--set", "lung.checkpoint=toy-lung", "--allow-toy"]);
        command
    }
}

/// Cases of a run.
fn cases(out: &Path) -> Vec<Json> {
    let json = run_json(out);
    assert_eq!(json["complete"], true);
    json["cases"].as_array().unwrap().clone()
}

/// The folder of a run's one case, which is done.
fn done(out: &Path) -> PathBuf {
    let cases = cases(out);
    assert_eq!(cases.len(), 1);
    assert_eq!(cases[0]["status"], "done", "{}", cases[0]);
    out.join(cases[0]["case"].as_str().unwrap())
}

/// The one file below a folder whose name ends so.
fn file(folder: &Path, ending: &str) -> PathBuf {
    let mut found = Vec::new();
    walk(folder, &mut |path| {
        if path.to_string_lossy().ends_with(ending) {
            found.push(path.to_owned());
        }
    });
    assert_eq!(found.len(), 1, "{ending} below {}: {found:?}", folder.display());
    found.remove(0)
}

#[test]
fn inside_the_heart_the_main_chain_keeps_the_original() {
    let (Some(bench), Some(ct)) = (Bench::new(), shared("data/chest-cta-heart/dicom")) else { return };
    copy_folder(&ct, &bench.path("in/ct"));
    end(bench.ducosy("out").args(["--keep", "heart"])).expect(0);
    let case = done(&bench.path("out"));
    let mask = file(&case, "heart.nii.gz");
    // Programs that know nothing of Gantry: source inside the mask, labels and geometry as they must be.
    let [ct, derived] = [bench.path("in/ct"), case.join("write")];
    let [ct, derived, mask] = [&ct, &derived, &mask].map(|path| path.to_str().unwrap());
    let needs = format!("{}; import SimpleITK", oracle::DICOM);
    oracle::python("verify_chain.py", &needs, &[ct, derived, mask]);
    oracle::python("verify_derived.py", oracle::DICOM, &[ct, derived, "--synthetic", "--deidentified"]);
    // What the plan expected was enough.
    let case = &cases(&bench.path("out"))[0];
    let [expected, measured] = ["expected_peak_bytes", "peak_rss_bytes"].map(|key| case[key].as_u64().unwrap());
    assert!(measured > 0 && measured <= expected, "{measured} bytes held, {expected} expected");
    // One changed weight of the heart's model: other identifiers. (The same models: the same bytes.)
    let first = results(&bench.path("out"));
    end(&mut bench.ducosy("again").args(["--keep", "heart", "--run-time", &run_time(&bench.path("out"))])).expect(0);
    assert_eq!(results(&bench.path("again")), first);
}

fn run_time(out: &Path) -> String {
    run_json(out)["run_time"].as_str().unwrap().to_owned()
}

#[test]
fn without_its_model_the_chain_says_what_is_missing_and_masks_nothing() {
    let Some(bench) = Bench::new() else { return };
    if !(SmallCt { patient: 1, first: 40, slices: 4, size: 64 }.write(&bench.path("in"))) {
        return;
    }
    std::fs::remove_dir_all(bench.path("checkpoints/totalseg-heart")).unwrap();
    let ended = end(&mut bench.ducosy("out")).expect(0);
    for said in ["totalseg-heart", "369 MB", "licence", "gantry weights import", "--models 293,298"] {
        assert!(ended.stderr.contains(said), "`{said}` is missing in\n{}", ended.stderr);
    }
    done(&bench.path("out"));
    let case = &cases(&bench.path("out"))[0];
    let warned = case["warnings"].as_array().unwrap().iter().any(|w| w["code"] == "no-heart-model");
    assert!(warned && case["nodes"]["heart"]["skipped"].is_string(), "{case}");
    // Where the mask must be, its absence is an error that says the same.
    let ended = end(bench.ducosy("must").args(["--set", "heart.optional=false"])).expect(2);
    assert!(ended.stderr.contains("gantry weights import") && ended.stderr.contains("369 MB"), "{}", ended.stderr);
    assert!(!bench.path("must").exists());
}

#[test]
fn the_heart_alone_as_segmentation_labels_and_table() {
    let (Some(bench), Some(ct)) = (Bench::new(), shared("data/chest-cta-heart/dicom")) else { return };
    copy_folder(&ct, &bench.path("in/ct"));
    end(&mut bench.run(&workspace().join("config/pipelines/heart.toml"), "in", "out")).expect(0);
    let case = done(&bench.path("out"));
    let table: Json = serde_json::from_slice(&std::fs::read(file(&case, "statistics.json")).unwrap()).unwrap();
    assert_eq!(table["schema"], "gantry.label-statistics/1");
    let [seg, labels] = [file(&case, ".dcm"), file(&case, "labels.nii.gz")];
    let [seg, labels] = [&seg, &labels].map(|path| path.to_str().unwrap());
    oracle::python("same_segmentation.py", "import highdicom, nibabel", &[seg, labels]);
}

#[test]
fn a_cohort_of_five_loads_its_models_once() {
    let Some(bench) = Bench::new() else { return };
    if !cohort(&bench.path("in"), 5, 6, 48) {
        return;
    }
    let pipeline = heart_to_nifti(&bench, "");
    let mut command = bench.run(&pipeline, "in", "out");
    let ended = end(command.env("GANTRY_LOG", "info")).expect(0);
    assert!(ended.stdout.contains("5 done"), "{}", ended.stdout);
    assert_eq!(ended.stderr.matches("models loaded").count(), 1, "{}", ended.stderr);
}

/// `dicom-read` -> `heart-mask` -> `nifti-write`.
fn heart_to_nifti(bench: &Bench, params: &str) -> PathBuf {
    let path = bench.path("heart.toml");
    let text = format!(
        "format = 1\nname = \"heart\"\n[nodes.ct]\nstage = \"dicom-read\"\nparams = {{ modality = \"CT\", quantity = \"hu\" }}\n\
         [nodes.heart]\nstage = \"heart-mask\"\nfrom = \"ct\"\nparams = {{ checkpoint = \"totalseg-heart\"{params} }}\n\
         [nodes.write]\nstage = \"nifti-write\"\nfrom = \"heart\"\n"
    );
    std::fs::write(&path, text).unwrap();
    path
}

/// Changes every slice of a series.
fn change(folder: &Path, change: impl Fn(&mut dicom_object::DefaultDicomObject)) {
    walk(folder, &mut |path| {
        let mut object = OpenFileOptions::new().open_file(path).unwrap();
        change(&mut object);
        object.write_to_file(path).unwrap();
    });
}

fn code(ended: &Ended, out: &Path) -> String {
    let cases = cases(out);
    assert_eq!(cases[0]["status"], "quarantined", "{}\n{}", cases[0], ended.stderr);
    cases[0]["code"].as_str().unwrap().to_owned()
}

#[test]
fn odd_series_get_a_right_answer_or_a_clear_word() {
    let Some(bench) = Bench::new() else { return };
    let pipeline = heart_to_nifti(&bench, "");
    // One slice; 5 mm slices; a sagittal series: right answers.
    for (name, slices, setting) in [
        ("one", 1, None),
        ("thick", 6, Some(("thick", [1.0, 0.0, 0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 5.0]))),
        ("sagittal", 6, Some(("sagittal", [0.0, 1.0, 0.0, 0.0, 0.0, -1.0], [3.0, 0.0, 0.0]))),
        ("down", 6, Some(("down", [1.0, 0.0, 0.0, 0.0, 1.0, 0.0], [0.0, 0.0, -2.0]))),
    ] {
        let folder = bench.path(name);
        if !(SmallCt { patient: 1, first: 40, slices, size: 40 }.write(&folder)) {
            return;
        }
        if let Some((_, orientation, step)) = setting {
            place(&folder, orientation, step);
        }
        end(&mut bench.run(&pipeline, name, &format!("out-{name}"))).expect(0);
        done(&bench.path(&format!("out-{name}")));
    }
    // A tilted gantry: slices shifted against their normal.
    let folder = bench.path("tilted");
    SmallCt { patient: 1, first: 40, slices: 6, size: 40 }.write(&folder);
    place(&folder, [1.0, 0.0, 0.0, 0.0, 1.0, 0.0], [0.0, 1.0, 3.0]);
    let ended = end(&mut bench.run(&pipeline, "tilted", "out-tilted")).expect(1);
    assert_eq!(code(&ended, &bench.path("out-tilted")), "sheared-grid");
    assert!(ended.stderr.contains("tilted gantry"), "{}", ended.stderr);
    assert!(results(&bench.path("out-tilted")).is_empty());
    // Labels that the model does not know.
    let pipeline = heart_to_nifti(&bench, ", structures = [\"heart\", \"pulmonary_artery\"]");
    let ended = end(&mut bench.run(&pipeline, "one", "out-labels")).expect(2);
    assert!(ended.stderr.contains("pulmonary_artery") && ended.stderr.contains("aorta"), "{}", ended.stderr);
}

/// Gives a series another orientation (row and column directions) and, by instance, positions `step` mm apart.
fn place(folder: &Path, orientation: [f64; 6], step: [f64; 3]) {
    let text = |values: &[f64]| values.iter().map(f64::to_string).collect::<Vec<_>>().join("\\");
    change(folder, |object| {
        let uid = object.element(tags::SOP_INSTANCE_UID).unwrap().to_str().unwrap().into_owned();
        let number: f64 = uid.trim_end_matches('\0').rsplit('.').next().unwrap().parse().unwrap();
        let put = |object: &mut dicom_object::DefaultDicomObject, tag, values: &[f64]| {
            object.put(DataElement::new(tag, VR::DS, PrimitiveValue::from(text(values))));
        };
        put(object, tags::IMAGE_ORIENTATION_PATIENT, &orientation);
        put(object, tags::IMAGE_POSITION_PATIENT, &step.map(|s| s * number));
        put(object, tags::SLICE_THICKNESS, &[3.0]);
    });
}
