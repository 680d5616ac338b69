//! nnU-Net's models through the whole program, against nnU-Net's own predictor: random models that its trainer saved, run on
//! cases made of a real CT. `tests/oracles/run_nnunet.py` says which models and cases.

use std::path::{Path, PathBuf};

use gantry_tests::fixture::shared;
use gantry_tests::launch::{end, gantry, run_json, walk};
use gantry_tests::oracle;
use serde::Deserialize;

/// What the oracle needs.
const NNUNET: &str = "import nnunetv2, nibabel, scipy, torch";

/// One line of the oracle's index.
#[derive(Debug, Deserialize)]
struct Run {
    name: String,
    model: PathBuf,
    channel: String,
    case: String,
    file: PathBuf,
    mirror: bool,
    folds: Option<Vec<u32>>,
    step: f64,
    seconds: f64,
}

/// Takes the model folder in as the checkpoint `name`.
fn import(model: &Path, checkpoints: &Path, name: &str, channel: &str) {
    let mut command = gantry();
    command.args(["weights", "import"]).arg(model).args(["--arch", "nnunet-v2", "--name", name]);
    if channel != "CT" {
        command.args(["--modality", "MR"]);
    }
    end(command.arg("--checkpoints").arg(checkpoints)).expect(0);
}

/// Segments the one image in `input`; the label file.
fn segment(scratch: &Path, input: &Path, run: &Run, checkpoints: &Path, checkpoint: &str) -> PathBuf {
    let source = match run.channel.as_str() {
        "CT" => "modality = \"CT\", quantity = \"hu\"",
        _ => "modality = \"MR\", quantity = \"mr\"",
    };
    let folds = run.folds.clone().unwrap_or_default();
    let text = format!(
        "format = 1\nname = \"nnunet\"\n\
         [nodes.image]\nstage = \"nifti-read\"\nparams = {{ {source} }}\n\
         [nodes.segment]\nstage = \"nnunet-segmenter\"\nfrom = \"image\"\n\
         params = {{ checkpoint = \"{checkpoint}\", folds = {folds:?}, mirror = {}, step = {:?}, precision = \"f32\" }}\n\
         [nodes.write]\nstage = \"nifti-write\"\nfrom = \"segment.labels\"\nparams = {{ name = \"labels\" }}\n",
        run.mirror, run.step
    );
    let pipeline = scratch.join("nnunet.toml");
    std::fs::write(&pipeline, text).unwrap();
    let out = scratch.join("out");
    let mut command = gantry();
    command.arg("run").arg(&pipeline).arg("-i").arg(input).arg("-o").arg(&out).arg("--checkpoints").arg(checkpoints);
    end(&mut command).expect(0);
    assert_eq!(run_json(&out)["complete"], true);
    let mut made = Vec::new();
    walk(&out, &mut |path| {
        if path.ends_with("labels.nii.gz") {
            made.push(path.to_owned());
        }
    });
    assert_eq!(made.len(), 1, "{made:?}");
    made.remove(0)
}

/// Every run of these models equals nnU-Net's, save where nnU-Net itself all but tossed a coin.
fn equals_nnunet(models: &[&str]) {
    let Some(scan) = shared("data/chest-cta-heart/ct_cropped.nii.gz") else { return };
    let scratch = tempfile::tempdir().unwrap();
    let [made, theirs, checkpoints] = ["models", "theirs", "checkpoints"].map(|name| scratch.path().join(name));
    let mut arguments =
        vec![scan.to_str().unwrap(), made.to_str().unwrap(), theirs.to_str().unwrap(), "--make", "--only"];
    arguments.extend(models);
    if oracle::python("run_nnunet.py", NNUNET, &arguments).is_none() {
        return;
    }
    let index = std::fs::read_to_string(theirs.join("index.json")).unwrap();
    let runs: Vec<Run> = serde_json::from_str(&index).unwrap();
    for model in models {
        let run = runs.iter().find(|run| run.model.starts_with(model)).expect("every model has a run");
        import(&made.join(&run.model), &checkpoints, model, &run.channel);
    }
    let mut wrong = Vec::new();
    for run in &runs {
        let room = scratch.path().join(&run.name);
        let input = room.join("in");
        std::fs::create_dir_all(&input).unwrap();
        std::fs::copy(theirs.join(&run.file), input.join(format!("{}.nii.gz", run.case))).unwrap();
        let checkpoint = run.model.iter().next().and_then(|name| name.to_str()).expect("a model's name");
        let started = std::time::Instant::now();
        let labels = segment(&room, &input, run, &checkpoints, checkpoint);
        println!("{}: {:.1} s, nnU-Net {:.1} s", run.name, started.elapsed().as_secs_f64(), run.seconds);
        let reference = theirs.join(format!("{}.nii.gz", run.name));
        let margin = theirs.join(format!("{}-margin.nii.gz", run.name));
        let files = [&reference, &margin, &labels].map(|path| path.to_str().unwrap());
        // All runs are compared before the first difference fails the test.
        let compared = std::panic::catch_unwind(|| oracle::python("compare_nnunet.py", NNUNET, &files));
        if compared.is_err() {
            wrong.push(&run.name);
        }
    }
    assert!(wrong.is_empty(), "labels differ from nnU-Net's: {wrong:?}");
}

/// Plans in the old format; both folds, singly and together; mirrored; cropped to what is not zero; smaller than a patch.
#[test]
fn plain_network_of_old_plans() {
    equals_nnunet(&["plain"]);
}

/// Transposed and permuted axes, oblique grids; slices resampled one by one.
#[test]
fn residual_and_anisotropic_networks() {
    equals_nnunet(&["residual", "anisotropic"]);
}

/// Overlapping regions, inherited configurations, normalisation by the image's own mean.
#[test]
fn regions_inheritance_and_other_normalisation() {
    equals_nnunet(&["regions", "inherits", "zscore"]);
}
