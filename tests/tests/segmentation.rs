//! Masks through the whole program: a heart written as DICOM segmentation and as NIfTI, judged by highdicom, nibabel and
//! dciodvfy, after an anonymiser, of a synthetic image, and read back.

use std::path::{Path, PathBuf};

use gantry_tests::fixture::shared;
use gantry_tests::launch::{end, gantry, run_json, walk};
use gantry_tests::{oracle, toys};

const CT: &str = "format = 1\nname = \"heart\"\n[nodes.ct]\nstage = \"dicom-read\"\n\
                  params = { modality = \"CT\", quantity = \"hu\" }\n";
const HEART: &str = "[nodes.heart]\nstage = \"labels-read\"\n\
                     params = { of = \"ct\", path = \"../heart.nii.gz\", labels = [\"heart\"] }\n";

struct Bench {
    scratch: tempfile::TempDir,
    input: PathBuf,
    truth: PathBuf,
}

impl Bench {
    fn new() -> Option<Bench> {
        let folder = shared("data/chest-cta-heart")?;
        let scratch = tempfile::tempdir().unwrap();
        Some(Bench { scratch, input: folder.join("dicom"), truth: folder.join("heart.nii.gz") })
    }

    /// Runs a pipeline and gives the folder of its one case.
    fn run(&self, name: &str, text: &str, more: &[&str]) -> PathBuf {
        let pipeline = self.scratch.path().join(format!("{name}.toml"));
        std::fs::write(&pipeline, text).unwrap();
        let out = self.scratch.path().join(name);
        end(gantry().arg("run").arg(&pipeline).arg("-i").arg(&self.input).arg("-o").arg(&out).args(more)).expect(0);
        out.join(run_json(&out)["cases"][0]["case"].as_str().unwrap())
    }

    fn verify(&self, file: &Path, more: &[&str]) {
        let mut arguments = vec![self.input.to_str().unwrap(), file.to_str().unwrap(), "--nifti"];
        arguments.push(self.truth.to_str().unwrap());
        arguments.extend(more);
        oracle::python("verify_segmentation.py", oracle::SEGMENTATION, &arguments);
    }
}

fn seg(node: &str, image: &str, params: &str) -> String {
    format!(
        "[nodes.{node}]\nstage = \"seg-write\"\nfrom = {{ labels = \"heart\", image = \"{image}\" }}\nparams = {{ {params} }}\n"
    )
}

#[test]
fn a_heart_in_both_encodings_and_as_nifti() {
    let Some(bench) = Bench::new() else { return };
    let nifti = "[nodes.nifti]\nstage = \"nifti-write\"\nfrom = \"heart\"\nparams = { name = \"heart\" }\n";
    let text = format!(
        "{CT}{HEART}{}{}{nifti}",
        seg("bits", "ct", "name = \"heart\""),
        seg("bytes", "ct", "name = \"heart\", encoding = \"labelmap\", content_label = \"HEART\"")
    );
    let case = bench.run("both", &text, &[]);
    for node in ["bits", "bytes"] {
        bench.verify(&case.join(node).join("heart.dcm"), &[]);
    }
    // The NIfTI file that we wrote is as good a truth for the segmentation as the one that we read: in world space they
    // agree voxel by voxel.
    let ours = case.join("nifti/heart.nii.gz");
    let bits = case.join("bits/heart.dcm");
    let arguments = [bench.input.to_str().unwrap(), bits.to_str().unwrap(), "--nifti", ours.to_str().unwrap()];
    oracle::python("verify_segmentation.py", oracle::SEGMENTATION, &arguments);
    let arguments = [ours.to_str().unwrap(), bench.truth.to_str().unwrap()];
    oracle::python("same_nifti.py", "import nibabel, numpy", &arguments);
}

#[test]
fn after_an_anonymiser_nothing_of_the_source_is_left() {
    let Some(bench) = Bench::new() else { return };
    let key = bench.scratch.path().join("site.key");
    end(gantry().args(["key", "new"]).arg(&key)).expect(0);
    let anonymous = "[nodes.anonymous]\nstage = \"anonymizer\"\nfrom = \"ct\"\n";
    for encoding in ["binary", "labelmap"] {
        let params = format!("name = \"heart\", encoding = \"{encoding}\"");
        let text = format!("{CT}{HEART}{anonymous}{}", seg("write", "anonymous", &params));
        let case = bench.run(encoding, &text, &["--key", key.to_str().unwrap()]);
        bench.verify(&case.join("write/heart.dcm"), &["--deidentified"]);
    }
}

/// Written, laid beside the series, and read again: the same labels under the same name; and the words of a refusal.
#[test]
fn what_is_written_is_read() {
    let Some(mut bench) = Bench::new() else { return };
    let params = "name = \"heart\", encoding = \"labelmap\"";
    let case = bench.run("written", &format!("{CT}{HEART}{}", seg("write", "ct", params)), &[]);
    let input = bench.scratch.path().join("in/series");
    gantry_tests::launch::copy_folder(&bench.input, &input);
    std::fs::copy(case.join("write/heart.dcm"), bench.scratch.path().join("in/seg.dcm")).unwrap();
    bench.input = input;
    let again = |params: &str| {
        format!(
            "{CT}[nodes.heart]\nstage = \"labels-read\"\nparams = {{ of = \"ct\", path = \"../seg.dcm\", {params} }}\n\
             [nodes.nifti]\nstage = \"nifti-write\"\nfrom = \"heart\"\nparams = {{ name = \"heart\" }}\n"
        )
    };
    for (name, params) in
        [("all", "labels = [\"heart\"]"), ("one", "segment = \"1\", labels = [\"mask\"]"), ("own", "")]
    {
        let case = bench.run(name, &again(params), &[]);
        let ours = case.join("nifti/heart.nii.gz");
        let arguments = [ours.to_str().unwrap(), bench.truth.to_str().unwrap()];
        oracle::python("same_nifti.py", "import nibabel, numpy", &arguments);
    }
    let pipeline = bench.scratch.path().join("wrong.toml");
    std::fs::write(&pipeline, again("labels = [\"liver\"]")).unwrap();
    let out = bench.scratch.path().join("wrong");
    let ended = end(gantry().arg("run").arg(&pipeline).arg("-i").arg(&bench.input).arg("-o").arg(&out));
    assert_ne!(ended.code, 0);
    let case = &run_json(&out)["cases"][0];
    assert_eq!((case["status"].as_str(), case["code"].as_str()), (Some("quarantined"), Some("labels-names")), "{case}");
}

/// The mask of an image that was never measured says so.
#[test]
fn a_mask_of_a_synthetic_image_is_marked() {
    let Some(bench) = Bench::new() else { return };
    let checkpoints = bench.scratch.path().join("checkpoints");
    toys::pair(&checkpoints);
    let soft = "[nodes.window]\nstage = \"hu-window\"\nfrom = \"ct\"\nparams = { hu_min = -150.0, hu_max = 250.0 }\n\
                [nodes.soft]\nstage = \"cyclegan-generator\"\nfrom = \"window\"\nparams = { checkpoint = \"toy-soft\" }\n\
                [nodes.hu]\nstage = \"denormalise\"\nfrom = \"soft\"\n";
    let text = format!("{CT}{HEART}{soft}{}", seg("write", "hu", "name = \"heart\""));
    let case = bench.run("synthetic", &text, &["--checkpoints", checkpoints.to_str().unwrap(), "--allow-toy"]);
    bench.verify(&case.join("write/heart.dcm"), &["--synthetic"]);
    let mut files = 0;
    walk(&case, &mut |_| files += 1);
    assert_eq!(files, 1);
}
