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
    // `--keep` writes what is surely there.
    let keep = ["--set", "heart.optional=false", "--keep", "heart"];
    end(bench.ducosy("out").args(keep)).expect(0);
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
    // The same again: the same bytes.
    let first = results(&bench.path("out"));
    let run_time = run_json(&bench.path("out"))["run_time"].as_str().unwrap().to_owned();
    end(bench.ducosy("again").args(keep).args(["--run-time", &run_time])).expect(0);
    assert_eq!(results(&bench.path("again")), first);
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
    let pipeline = heart_to_nifti(&bench, ", empty = \"allow\"");
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
    let pipeline = heart_to_nifti(&bench, ", empty = \"allow\"");
    // 5 mm slices, a sagittal series, one whose instances run down: they are taken.
    let axial = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0];
    for (name, orientation, step) in [
        ("thick", axial, [0.0, 0.0, 5.0]),
        ("sagittal", [0.0, 1.0, 0.0, 0.0, 0.0, -1.0], [3.0, 0.0, 0.0]),
        ("down", axial, [0.0, 0.0, -2.0]),
    ] {
        let folder = bench.path(name);
        if !(SmallCt { patient: 1, first: 40, slices: 6, size: 40 }.write(&folder)) {
            return;
        }
        place(&folder, orientation, step);
        end(&mut bench.run(&pipeline, name, &format!("out-{name}"))).expect(0);
        done(&bench.path(&format!("out-{name}")));
    }
    // A tilted gantry: slices shifted against their normal.
    let folder = bench.path("tilted");
    SmallCt { patient: 1, first: 40, slices: 6, size: 40 }.write(&folder);
    place(&folder, [1.0, 0.0, 0.0, 0.0, 1.0, 0.0], [0.0, 1.0, 3.0]);
    let ended = end(&mut bench.run(&pipeline, "tilted", "out-tilted")).expect(1);
    assert_eq!(code(&ended, &bench.path("out-tilted")), "gantry-tilt");
    // Even where the reader is told to take it.
    let allowed = std::fs::read_to_string(&pipeline).unwrap().replace("\"hu\"", "\"hu\", allow = [\"gantry-tilt\"]");
    std::fs::write(bench.path("allowed.toml"), allowed).unwrap();
    let ended = end(&mut bench.run(&bench.path("allowed.toml"), "tilted", "out-allowed")).expect(1);
    assert_eq!(code(&ended, &bench.path("out-allowed")), "sheared-grid");
    assert!(ended.stderr.contains("tilted gantry"), "{}", ended.stderr);
    assert!(results(&bench.path("out-tilted")).is_empty());
    // No volume: one slice, and one thinner than a voxel of the model.
    SmallCt { patient: 1, first: 40, slices: 1, size: 40 }.write(&bench.path("one"));
    let ended = end(&mut bench.run(&pipeline, "one", "out-one")).expect(1);
    assert_eq!(code(&ended, &bench.path("out-one")), "one-slice");
    SmallCt { patient: 1, first: 40, slices: 4, size: 40 }.write(&bench.path("thin"));
    place(&bench.path("thin"), axial, [0.0, 0.0, 1.0]);
    let ended = end(&mut bench.run(&pipeline, "thin", "out-thin")).expect(1);
    assert_eq!(code(&ended, &bench.path("out-thin")), "too-thin");
    assert!(ended.stderr.contains("4.0 mm thick"), "{}", ended.stderr);
    // Labels that the model does not know.
    let pipeline = heart_to_nifti(&bench, ", structures = [\"heart\", \"pulmonary_artery\"]");
    let ended = end(&mut bench.run(&pipeline, "one", "out-labels")).expect(2);
    assert!(ended.stderr.contains("pulmonary_artery") && ended.stderr.contains("aorta"), "{}", ended.stderr);
}

#[test]
fn a_case_without_the_heart_is_refused_or_said() {
    let Some(bench) = Bench::new() else { return };
    if !(SmallCt { patient: 1, first: 40, slices: 8, size: 48 }.write(&bench.path("in"))) {
        return;
    }
    // The random model never finds this one.
    let artery = ", structures = [\"iliac_artery_left\"]";
    let ended = end(&mut bench.run(&heart_to_nifti(&bench, artery), "in", "refused")).expect(1);
    assert_eq!(code(&ended, &bench.path("refused")), "no-heart-found");
    assert!(results(&bench.path("refused")).is_empty());
    let allowed = heart_to_nifti(&bench, &format!("{artery}, empty = \"allow\""));
    end(&mut bench.run(&allowed, "in", "allowed")).expect(0);
    let case = &cases(&bench.path("allowed"))[0];
    assert_eq!(case["warnings"][0]["code"], "no-heart-found", "{case}");
}

#[test]
fn the_mask_lies_where_the_heart_is_however_the_pixels_are_stored() {
    let Some(bench) = Bench::new() else { return };
    for (name, rows, columns) in [("as-is", false, false), ("rows", true, false), ("both", true, true)] {
        let folder = bench.path(name);
        if !(SmallCt { patient: 1, first: 30, slices: 40, size: 80 }.write(&folder)) {
            return;
        }
        mirror(&folder, rows, columns);
        // The outlines are drawn on slices that have been turned, too.
        for outline in ["none", "published"] {
            let pipeline = heart_to_nifti(&bench, &format!(", empty = \"allow\", outline = \"{outline}\""));
            end(&mut bench.run(&pipeline, name, &format!("out-{name}-{outline}"))).expect(0);
            let mask = file(&done(&bench.path(&format!("out-{name}-{outline}"))), ".nii.gz");
            let first = file(&done(&bench.path(&format!("out-as-is-{outline}"))), ".nii.gz");
            let [mask, first] = [&mask, &first].map(|path| path.to_str().unwrap());
            oracle::python("same_nifti.py", "import nibabel", &[mask, first]);
            if name == "as-is" && outline == "none" {
                let bytes = std::fs::read(mask).unwrap();
                let mut voxels = Vec::new();
                std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&bytes[..]), &mut voxels).unwrap();
                let inside = voxels[352..].iter().filter(|&&v| v == 1).count();
                assert!(inside > 1000 && inside < voxels.len() - 1000, "{inside} voxels in the mask");
            }
        }
    }
}

/// Stores the same pixels of a series from the other end: rows, and columns.
fn mirror(folder: &Path, rows: bool, columns: bool) {
    change(folder, |object| {
        let number = |tag| object.element(tag).unwrap().to_int::<usize>().unwrap();
        let numbers = |tag| object.element(tag).unwrap().to_multi_float64().unwrap();
        let (high, wide) = (number(tags::ROWS), number(tags::COLUMNS));
        let spacing = numbers(tags::PIXEL_SPACING);
        let (mut orientation, mut position) =
            (numbers(tags::IMAGE_ORIENTATION_PATIENT), numbers(tags::IMAGE_POSITION_PATIENT));
        let pixels = object.element(tags::PIXEL_DATA).unwrap().to_bytes().unwrap().into_owned();
        let mut stored = Vec::with_capacity(pixels.len());
        for y in 0..high {
            for x in 0..wide {
                let y = if rows { high - 1 - y } else { y };
                let x = if columns { wide - 1 - x } else { x };
                stored.extend_from_slice(&pixels[2 * (y * wide + x)..][..2]);
            }
        }
        // Directions along a row and along a column; the first pixel is now the last one there.
        for (mirrored, from, steps, mm) in [(columns, 0, wide - 1, spacing[1]), (rows, 3, high - 1, spacing[0])] {
            for axis in 0..3 {
                if mirrored {
                    position[axis] += orientation[from + axis] * steps as f64 * mm;
                    orientation[from + axis] *= -1.0;
                }
            }
        }
        let text = |values: &[f64]| values.iter().map(f64::to_string).collect::<Vec<_>>().join("\\");
        for (tag, values) in
            [(tags::IMAGE_ORIENTATION_PATIENT, &orientation), (tags::IMAGE_POSITION_PATIENT, &position)]
        {
            object.put(DataElement::new(tag, VR::DS, PrimitiveValue::from(text(values))));
        }
        object.put(DataElement::new(tags::PIXEL_DATA, VR::OW, PrimitiveValue::from(stored)));
    });
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
