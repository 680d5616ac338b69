//! Imports of the reference models, and of copies of them with one thing wrong.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Parser;
use gantry_tests::fixture::shared;
use gantry_weights::nnunet::{Model, Way};
use serde_json::{Value as Json, json};

use super::super::{WeightsArgs, run};
use super::*;
use crate::diagnostic::Sources;
use crate::registry::CheckpointRef;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    weights: WeightsArgs,
}

fn import(folder: &Path, checkpoints: &Path, more: &[&str]) -> Result<String, WeightsError> {
    let mut line: Vec<OsString> = ["weights", "import"].map(Into::into).to_vec();
    line.push(folder.into());
    line.extend(["--arch", "nnunet-v2", "--checkpoints"].map(Into::into));
    line.push(checkpoints.into());
    line.extend(more.iter().map(Into::into));
    let line = Line::try_parse_from(line).unwrap_or_else(|e| panic!("{e}"));
    run(&line.weights, &[], None)
}

const A: &str = "A_plain_iso15/Dataset901_HeartPlain/nnUNetTrainer__nnUNetPlans__3d_fullres";
const B: &str = "B_resenc_iso15_transp/Dataset902_HeartResEnc/nnUNetTrainer__nnUNetResEncUNetMPlans__3d_fullres";
const C: &str = "C_plain_aniso/Dataset903_HeartAniso/nnUNetTrainerNoMirroring__nnUNetPlans__3d_fullres";

fn fixture(name: &str) -> Option<PathBuf> {
    shared(&format!("fixtures/nnunet/{name}"))
}

/// A copy of a tree that may be changed.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        let target = to.join(entry.file_name());
        match entry.path().is_dir() {
            true => copy(&entry.path(), &target),
            false => std::fs::write(target, std::fs::read(entry.path()).unwrap()).unwrap(),
        }
    }
}

/// Opens, hashes, and reads every part with its weights; the host accepts the card.
fn opened(checkpoints: &Path, name: &str) -> (Checkpoint, Segmentation) {
    let done = Checkpoint::open(checkpoints.join(name)).unwrap();
    assert_eq!(done.verify().unwrap().len(), done.card.files.len());
    CheckpointRef::read(&done.folder, &mut Sources::new()).unwrap();
    let text = |file: &str| String::from_utf8(done.read_file(file).unwrap()).unwrap();
    let segmentation = Segmentation::parse(&text(Segmentation::FILE)).unwrap();
    for part in segmentation.models() {
        let model = Model::of_part(part, &text(&part.file("plans.json")), &text(&part.file("dataset.json"))).unwrap();
        for fold in &part.folds {
            model.weights(done.read_file(&part.weights(*fold)).unwrap()).unwrap();
        }
    }
    (done, segmentation)
}

#[test]
fn a_model_with_its_folds() {
    let Some(folder) = fixture(A) else { return };
    let temp = tempfile::tempdir().unwrap();
    let text = import(&folder, temp.path(), &[]).unwrap();
    assert!(text.contains("Dataset901_HeartPlain: 128 tensors") && text.contains("fold 0, 1"), "{text}");
    assert!(text.contains("may be mirrored along [0, 1, 2]") && text.contains("--licence"), "{text}");
    let (done, segmentation) = opened(temp.path(), "Dataset901_HeartPlain");
    assert_eq!((segmentation.way, segmentation.step, segmentation.spacing_mm), (Way::Nnunet, 0.5, None));
    let part = &segmentation.parts[0];
    assert_eq!((part.folds.as_slice(), part.mirror_axes.as_deref()), (&[0, 1][..], Some(&[0, 1, 2][..])));
    assert_eq!(part.labels, [[1, 1], [2, 2]]);
    assert!(segmentation.label("aorta").is_some_and(|l| l.value == 2 && l.code.is_empty() && l.rgba & 0xff == 0xff));
    let card = &done.card;
    assert_eq!(
        (card.architecture.as_str(), card.nature, card.licence.as_str()),
        ("nnunet-v2", Nature::Derived, "unknown")
    );
    assert_eq!(card.caps["image"]["quantity"].as_str(), Some("hu"));
    assert_eq!(card.caps["image"]["modality"].as_str(), Some("CT"));
    assert_eq!(card.caps["labels"]["labels"].as_array().unwrap().len(), 2);
    assert!(card.trained_with.contains("nnUNetTrainer fold_1 sha256 "), "{}", card.trained_with);
    let files: Vec<&str> = card.files.iter().map(|f| f.path.as_str()).collect();
    let expected = [
        "model/plans.json",
        "model/dataset.json",
        "model/fold_0.safetensors",
        "model/fold_1.safetensors",
        "segmentation.json",
    ];
    assert_eq!(files, expected);

    let again = import(&folder, temp.path(), &[]).unwrap_err();
    assert!(again.to_string().contains("--force") && again.exit_code() == 2, "{again}");
    let more = ["--force", "--folds", "1", "--licence", "CC0", "--summary", "S", "--intended-use", "U"];
    let text = import(&folder, temp.path(), &more).unwrap();
    assert!(!text.contains("note:"), "{text}");
    let (done, segmentation) = opened(temp.path(), "Dataset901_HeartPlain");
    assert_eq!((segmentation.parts[0].folds.as_slice(), done.card.licence.as_str()), (&[1][..], "CC0"));
    assert_eq!((done.card.summary.as_str(), done.card.intended_use.as_str()), ("S", "U"));
}

#[test]
fn residual_transposed_and_anisotropic_models() {
    let (Some(b), Some(c)) = (fixture(B), fixture(C)) else { return };
    let temp = tempfile::tempdir().unwrap();
    // The data set's folder, with one model in it, will do.
    import(b.parent().unwrap(), temp.path(), &["--name", "b", "--folds", "0"]).unwrap();
    let (_, segmentation) = opened(temp.path(), "b");
    assert_eq!(segmentation.parts[0].mirror_axes.as_deref(), Some(&[0, 2][..]));
    let text = import(&c, temp.path(), &["--name", "c", "--nature", "derived", "--modality", "CT"]).unwrap();
    assert!(text.contains("never mirrored"), "{text}");
    assert_eq!(opened(temp.path(), "c").1.parts[0].mirror_axes, None);
}

#[test]
fn totalsegmentators_models() {
    let Some(root) = fixture("totalseg_weights") else { return };
    let temp = tempfile::tempdir().unwrap();
    let text = import(&root, temp.path(), &[]).unwrap();
    assert!(text.starts_with("totalseg-cardiac: ") && text.contains("total-6mm: Dataset298"), "{text}");
    let (done, segmentation) = opened(temp.path(), "totalseg-cardiac");
    assert_eq!((segmentation.way, segmentation.step), (Way::Totalsegmentator, 0.8));
    assert_eq!((segmentation.spacing_mm, segmentation.parts.len(), segmentation.labels.len()), (Some(1.5), 1, 18));
    let cardiac = &segmentation.parts[0];
    assert_eq!((cardiac.folder.as_str(), cardiac.labels[0], cardiac.labels[17]), ("cardiac", [1, 51], [18, 68]));
    let rough = segmentation.rough.as_ref().unwrap();
    assert_eq!((rough.spacing_mm, rough.labels.len(), rough.labels[50]), (Some(6.0), 117, [51, 51]));
    let heart = segmentation.label("heart").unwrap();
    assert_eq!((heart.value, heart.scheme.as_str(), heart.code.as_str()), (51, "SCT", "80891009"));
    assert_eq!(done.card.licence, "unknown");
    assert!(done.card.summary.contains("may be used commercially too; read the licence"), "{}", done.card.summary);
    assert_eq!(done.card.caps["labels"]["labels"].as_array().unwrap()[0].as_str(), Some("heart"));

    import(&root, temp.path(), &["--models", "297", "--name", "fast"]).unwrap();
    let (_, fast) = opened(temp.path(), "fast");
    assert_eq!((fast.spacing_mm, fast.rough, fast.labels.len()), (Some(3.0), None, 117));
    import(&root, temp.path(), &["--models", "297,293", "--name", "robust"]).unwrap();
    assert_eq!(opened(temp.path(), "robust").1.rough.unwrap().spacing_mm, Some(3.0));
    for (more, says, code) in [
        (["--models", "291"], "there is no Dataset291_…", 4),
        (["--models", "300"], "are 291, 292, 293, 294, 295, 297, 298", 2),
        (["--models", "293,297,298"].map(|s| s), "at most one of 297 and 298", 2),
        (["--folds", "3"], "fold_3: no checkpoint_final.pth; there are: fold_0", 4),
    ]
    .map(|(more, says, code)| (more.to_vec(), says, code))
    {
        let error = import(&root, temp.path(), &[&more[..], &["--name", "x"]].concat()).unwrap_err();
        assert!(error.to_string().contains(says), "{error}");
        assert_eq!(error.exit_code(), code, "{error}");
    }
}

#[test]
fn totalsegmentators_models_with_other_names_or_numbers_of_labels() {
    let Some(root) = fixture("totalseg_weights") else { return };
    let temp = tempfile::tempdir().unwrap();
    let part = "Dataset293_TotalSegmentator_part3_cardiac_1559subj/nnUNetTrainerNoMirroring__nnUNetPlans__3d_fullres";
    let mine = temp.path().join("weights");
    copy(&root, &mine);
    let document = mine.join(part).join("dataset.json");
    let text = std::fs::read_to_string(&document).unwrap();
    std::fs::write(&document, text.replace("\"heart\"", "\"ventricle\"")).unwrap();
    let said = import(&mine, temp.path(), &[]).unwrap();
    assert!(said.contains("calls value 1 `ventricle`") && said.contains("table, which counts, `heart`"), "{said}");
    std::fs::write(&document, text.replace("\"aorta\": 2,", "").replace("\"heart\": 1", "\"heart\": [1, 2]")).unwrap();
    let error = import(&mine, temp.path(), &["--name", "x"]).unwrap_err().to_string();
    assert!(error.contains("`regions_class_order` is missing"), "{error}");
    std::fs::write(&document, text.replace("\"heart\": 1", "\"heart\": 19, \"more\": 1")).unwrap();
    let error = import(&mine, temp.path(), &["--name", "x"]).unwrap_err().to_string();
    assert!(error.contains("19 labels; TotalSegmentator's model 293 (cardiac) has 18"), "{error}");
    std::fs::write(&document, text).unwrap();
    let plans = mine.join(part).join("plans.json");
    let mut text: Json = serde_json::from_str(&std::fs::read_to_string(&plans).unwrap()).unwrap();
    text["configurations"]["3d_fullres"]["spacing"] = json!([1.5, 1.5, 1.6]);
    std::fs::write(&plans, text.to_string()).unwrap();
    let error = import(&mine, temp.path(), &["--name", "x"]).unwrap_err().to_string();
    assert!(error.contains("the plans' spacing is [1.5, 1.5, 1.6] mm"), "{error}");
}

#[test]
fn options_that_a_model_answers_itself_are_refused() {
    let Some(folder) = fixture(A) else { return };
    let temp = tempfile::tempdir().unwrap();
    let checkpoints = temp.path().join("checkpoints");
    for more in [
        &["--masks", "a"][..],
        &["--window", "-150", "250"],
        &["--resize", "2", "2"],
        &["--normalisation", "linear"],
        &["--part", "x"],
        &["--nature", "synthetic"],
        &["--modality", "MR"],
        &["--models", "293"],
        &["--name", "../x"],
    ] {
        let error = import(&folder, &checkpoints, more).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{error}");
        assert!(error.to_string().contains(more[0]), "{error}");
    }
    let error = import(&folder.join("plans.json"), &checkpoints, &[]).unwrap_err();
    assert!(error.to_string().contains("takes the model's folder") && error.exit_code() == 2, "{error}");
    let error = import(&folder.join("gone"), &checkpoints, &[]).unwrap_err();
    assert_eq!(error.exit_code(), 2, "{error}");
    for (option, says) in [("--folds", "0"), ("--models", "293"), ("--name", "folder")] {
        let line = ["weights", "import", folder.to_str().unwrap(), "--arch", "ducosy-generator", option, says];
        let line = Line::try_parse_from(line).unwrap();
        let error = run(&line.weights, &[], Some(&checkpoints)).unwrap_err();
        assert!(error.to_string().contains("only with --arch nnunet-v2") && error.exit_code() == 2, "{error}");
    }
    assert!(Line::try_parse_from(["weights", "import", "x", "--arch", "nnunet-v2", "--folds", "0,0"]).is_err());
    assert!(!checkpoints.exists());
}

#[test]
fn folders_that_are_wrong_are_refused_and_leave_nothing() {
    let Some(original) = fixture(A) else { return };
    let temp = tempfile::tempdir().unwrap();
    let checkpoints = temp.path().join("checkpoints");
    let checkpoint = "fold_1/checkpoint_final.pth";
    type Change = Box<dyn Fn(&Path)>;
    let edit = |file: &'static str, pointer: &'static str, value: Json| -> Change {
        Box::new(move |folder| {
            let path = folder.join(file);
            let mut document: Json = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
            *document.pointer_mut(pointer).unwrap() = value.clone();
            std::fs::write(path, document.to_string()).unwrap();
        })
    };
    let remove = |file: &'static str| -> Change { Box::new(move |f| std::fs::remove_file(f.join(file)).unwrap()) };
    let own = "/configurations/3d_fullres";
    let mut many: Json = json!({"background": 0});
    for value in 1..300 {
        many[format!("label{value}")] = json!(value);
    }
    let cases: Vec<(Change, &str)> = vec![
        (remove("plans.json"), "plans.json: that file is missing; a model folder of nnU-Net v2 has plans.json"),
        (remove("dataset.json"), "dataset.json: that file is missing"),
        (
            Box::new(|f| std::fs::rename(f.join("plans.json"), f.join("plans.pkl")).unwrap()),
            "this is a model of nnU-Net version 1",
        ),
        (edit("plans.json", "", json!({"plans_per_stage": {}})), "plans of nnU-Net version 1"),
        (edit("plans.json", "", json!([1])), "an object expected, found [1]"),
        (
            edit("plans.json", &format!("{own}/UNet_class_name").leak()[..], json!("UMambaBot")),
            "network `UMambaBot`; PlainConvUNet or ResidualEncoderUNet expected",
        ),
        (edit("plans.json", "/configurations/3d_fullres/spacing", json!([1, 1])), "a 2-D configuration"),
        (
            edit("plans.json", "/configurations", json!({"2d": {}})),
            "there is no configuration `3d_fullres`; there are: 2d",
        ),
        (
            Box::new(move |f| {
                let bytes = std::fs::read(f.join(checkpoint)).unwrap();
                std::fs::write(f.join(checkpoint), &bytes[..bytes.len() / 2]).unwrap();
            }),
            "fold_1/checkpoint_final.pth: the zip archive is truncated or corrupt",
        ),
        (
            edit("dataset.json", "/labels", json!({"background": 0, "heart": 1, "aorta": 2, "vein": 3})),
            "decoder.seg_layers.2.weight: expected [4, 8, 1, 1, 1], found [3, 8, 1, 1, 1]",
        ),
        (edit("dataset.json", "/channel_names", json!({"0": "CT", "1": "PET"})), "the plans normalise 1 channel"),
        (edit("dataset.json", "/labels", many), "has the value 256 of 299 labels; results hold values up to 255"),
        (
            Box::new(move |f| {
                let other = fixture(C).unwrap().join("fold_0/checkpoint_final.pth");
                std::fs::write(f.join(checkpoint), std::fs::read(other).unwrap()).unwrap();
            }),
            "the folds were not trained alike: trainer of the first is nnUNetTrainer, of this one nnUNetTrainerNoMirroring",
        ),
        (
            Box::new(move |f| {
                // The pickle's text of the same length, so that the archive stays whole but for its sum.
                let mut bytes = std::fs::read(f.join(checkpoint)).unwrap();
                let at = bytes.windows(4).position(|w| w == b"posi").unwrap_or(bytes.len() / 3);
                bytes[at] ^= 1;
                std::fs::write(f.join(checkpoint), bytes).unwrap();
            }),
            "fold_1/checkpoint_final.pth",
        ),
        (
            Box::new(|f| {
                for fold in ["fold_0", "fold_1"] {
                    std::fs::remove_dir_all(f.join(fold)).unwrap();
                }
            }),
            "fold_*: no checkpoint_final.pth; there is no fold with one",
        ),
        (
            Box::new(|f| {
                std::fs::rename(f.join("fold_0"), f.join("fold_all")).unwrap();
                std::fs::remove_dir_all(f.join("fold_1")).unwrap();
            }),
            "--folds all",
        ),
        (
            Box::new(|f| {
                std::fs::remove_dir_all(f).unwrap();
                std::fs::create_dir(f).unwrap();
            }),
            "the folder is empty",
        ),
    ];
    for (i, (change, says)) in cases.iter().enumerate() {
        let folder = temp.path().join(format!("Dataset{i}_x"));
        copy(&original, &folder);
        change(&folder);
        let error = import(&folder, &checkpoints, &["--name", "x"]).expect_err(says);
        assert!(error.to_string().contains(says), "{error}");
        assert_eq!(error.exit_code(), 4, "{error}");
        assert!(!checkpoints.exists(), "{says}");
    }
    // fold_all, asked for.
    let folder = temp.path().join("all");
    copy(&original, &folder);
    std::fs::rename(folder.join("fold_1"), folder.join("fold_all")).unwrap();
    import(&folder, &checkpoints, &["--name", "x", "--folds", "all"]).unwrap();
    let (done, segmentation) = opened(&checkpoints, "x");
    assert_eq!(segmentation.parts[0].folds, [0]);
    assert!(done.card.trained_with.contains("fold_all sha256"), "{}", done.card.trained_with);
}

#[test]
fn what_a_data_set_says_of_its_patients_is_not_copied() {
    let Some(original) = fixture(A) else { return };
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path().join("model");
    copy(&original, &folder);
    let path = folder.join("dataset.json");
    let mut document: Json = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    document["dataset"] = json!({"DOE_JANE_1970": {"images": ["/home/ward3/DOE_JANE.nii.gz"]}});
    std::fs::write(&path, document.to_string()).unwrap();
    import(&folder, temp.path(), &["--name", "x"]).unwrap();
    let (done, _) = opened(temp.path(), "x");
    for file in &done.card.files {
        let content = done.read_file(&file.path).unwrap();
        assert!(!content.windows(4).any(|w| w == b"JANE"), "{}", file.path);
    }
}

fn inspect(checkpoint: &Path, json: bool) -> crate::cli::reply::Reply {
    let what = checkpoint.display().to_string();
    let plugin = concat!(env!("CARGO_MANIFEST_DIR"), "/../plugins").into();
    let places = crate::cli::places::PlacesArgs { plugins: vec![plugin], checkpoints: Vec::new() };
    crate::cli::inspect::run(&crate::cli::inspect::InspectArgs { what, json, redact: false, places })
}

#[test]
fn inspect_shows_models_and_classes() {
    let Some(root) = fixture("totalseg_weights") else { return };
    let temp = tempfile::tempdir().unwrap();
    import(&root, temp.path(), &["--name", "heart"]).unwrap();
    let folder = temp.path().join("heart");
    let reply = inspect(&folder, false);
    assert_eq!(reply.code, 0, "{}", reply.stderr);
    for words in [
        "run as TotalSegmentator runs them, windows 0.8 of a patch apart",
        "total-6mm (looks first)",
        "1.5 x 1.5 x 1.5",
        "48 x 48 x 48",
        "plain, 6-12-16",
        "SCT 80891009",
        "on disk",
    ] {
        assert!(reply.stdout.contains(words), "{words} is missing:\n{}", reply.stdout);
    }
    let found: Json = serde_json::from_str(&inspect(&folder, true).stdout).unwrap();
    let models = found["segmentation"]["models"].as_array().unwrap();
    assert_eq!((models.len(), &models[0]["patch"], &models[1]["rough"]), (2, &json!([48, 48, 48]), &json!(true)));
    assert_eq!(found["segmentation"]["labels"][0]["name"], "heart");
    assert!(found["bytes"].as_u64().unwrap() > 100_000 && found["stages"].is_array());

    std::fs::write(folder.join("cardiac/plans.json"), "{}").unwrap();
    let reply = inspect(&folder, false);
    assert_eq!(reply.code, 4);
    assert!(
        reply.stdout.contains("WRONG") && reply.stdout.contains("not plans of nnU-Net version 2"),
        "{}",
        reply.stdout
    );
}
