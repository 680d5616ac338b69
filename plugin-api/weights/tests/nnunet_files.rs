//! The models of the reference data: plans, data sets and trainer's checkpoints as nnU-Net wrote them.

mod torch_file;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use gantry_tests::fixture::shared;
use gantry_weights::nnunet::{Dataset, Encoder, Labels, Plans, Reader, Resampling, Scheme, Trained};
use gantry_weights::{DType, Error, WeightFile};
use torch_file::{PickleWriter, f32_bytes, torch_file};

/// The model's folder below `fixtures/nnunet/<model>`, two levels down.
fn model(name: &str) -> Option<PathBuf> {
    let one = |folder: &Path| {
        let mut all: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().flatten().map(|e| e.path()).collect();
        all.retain(|p| p.is_dir() && p.file_name().unwrap().to_str().unwrap().contains(['_', '0']));
        all.sort();
        all.into_iter().find(|p| p.join("plans.json").is_file() || p.to_str().unwrap().contains("/Dataset")).unwrap()
    };
    let top = shared(&format!("fixtures/nnunet/{name}"))?;
    Some(one(&if name.contains("/Dataset") { top } else { one(&top) }))
}

fn read(folder: &Path) -> (Plans, Dataset) {
    let text = |file: &str| std::fs::read_to_string(folder.join(file)).unwrap();
    (Plans::parse(&text("plans.json")).unwrap(), Dataset::parse(&text("dataset.json")).unwrap())
}

#[test]
fn old_and_new_plans_are_read() {
    let Some(a) = model("A_plain_iso15") else { return };
    let (plans, dataset) = read(&a);
    assert_eq!((plans.name(), plans.dataset_name()), ("nnUNetPlans", "Dataset901_HeartPlain"));
    assert_eq!(plans.names().collect::<Vec<_>>(), ["3d_fullres"]);
    let run = plans.configuration("3d_fullres").unwrap();
    assert_eq!((run.spacing_mm, run.patch, run.reader), ([1.5; 3], [48, 64, 64], Reader::SimpleItk));
    assert_eq!((run.data, run.probabilities), (Resampling::DATA, Resampling::PROBABILITIES));
    let [Scheme::Ct(ct)] = run.schemes.as_slice() else { panic!("{:?}", run.schemes) };
    assert_eq!((ct.percentile_00_5, ct.percentile_99_5, ct.mean), (-958.0, 612.0, 48.25726318359375));
    let network = &run.network;
    assert_eq!(network.features, [8, 16, 32, 32]);
    assert_eq!(network.encoder, Encoder::Plain { convolutions: vec![2; 4] });
    assert_eq!((network.bias, network.affine, network.eps, network.slope), (true, true, 1e-5, 0.01));
    assert_eq!(dataset.channels, ["CT"]);
    assert_eq!(dataset.labels, Labels::Classes(["background", "heart", "aorta"].map(str::to_owned).to_vec()));
    assert_eq!((dataset.heads(), dataset.values()), (3, vec![(1, "heart"), (2, "aorta")]));

    let run = read(&model("B_resenc_iso15_transp").unwrap()).0.configuration("3d_fullres").unwrap();
    assert_eq!((run.transpose_forward, run.transpose_backward), ([2, 0, 1], [1, 2, 0]));
    assert_eq!((run.spacing_mm, run.reader.reorients()), ([1.6, 1.5, 1.4], true));
    assert_eq!(run.network.encoder, Encoder::Residual { blocks: vec![1, 2, 2, 3], stem: 8 });
    assert_eq!(run.network.decoder, [1, 1, 1]);

    let run = read(&model("C_plain_aniso").unwrap()).0.configuration("3d_fullres").unwrap();
    assert_eq!((run.network.kernels[0], run.network.strides[1]), ([1, 3, 3], [1, 2, 2]));
}

#[test]
fn checkpoints_hold_exactly_their_networks_tensors() {
    let cases: [(&str, &str, &[usize]); 6] = [
        ("A_plain_iso15", "nnUNetTrainer", &[0, 1, 2]),
        ("B_resenc_iso15_transp", "nnUNetTrainer", &[0, 2]),
        ("C_plain_aniso", "nnUNetTrainerNoMirroring", &[]),
        ("totalseg_weights/Dataset293_TotalSegmentator_part3_cardiac_1559subj", "nnUNetTrainerNoMirroring", &[]),
        (
            "totalseg_weights/Dataset297_TotalSegmentator_total_3mm_1559subj",
            "nnUNetTrainer_4000epochs_NoMirroring",
            &[],
        ),
        (
            "totalseg_weights/Dataset298_TotalSegmentator_total_6mm_1559subj",
            "nnUNetTrainer_4000epochs_NoMirroring",
            &[],
        ),
    ];
    for (name, trainer, mirror) in cases {
        let Some(folder) = model(name) else { return };
        let (plans, dataset) = read(&folder);
        let trained = Trained::open(folder.join("fold_0").join(Trained::FILE)).unwrap();
        assert_eq!((trained.configuration.as_str(), trained.trainer.as_str()), ("3d_fullres", trainer), "{name}");
        assert_eq!((trained.fold.as_str(), trained.mirror_axes.as_slice()), ("0", mirror), "{name}");
        let run = plans.configuration(&trained.configuration).unwrap();
        let heads = trained.weights.keys().filter(|k| k.contains("seg_layers")).count();
        assert_eq!(heads, 2 * (run.network.stages() - 1), "all heads are stored");
        let kept = run.network.select(trained.weights, dataset.channels.len(), dataset.heads()).unwrap();
        assert_eq!(kept.keys().filter(|k| k.contains("seg_layers")).count(), 2);
        assert!(kept.iter().all(|(_, t)| t.dtype() == DType::F32));
        println!("{name}: {} tensors, {} numbers", kept.len(), kept.elements());
    }
}

/// Every name and shape against the list that torch printed, with copies and heads counted out by hand.
#[test]
fn the_expected_tensors_are_those_that_torch_lists() {
    for name in ["A_plain_iso15", "B_resenc_iso15_transp", "C_plain_aniso"] {
        let Some(folder) = model(name) else { return };
        let (plans, dataset) = read(&folder);
        let network = plans.configuration("3d_fullres").unwrap().network;
        let list = std::fs::read_to_string(folder.join("../../state_dict_keys.txt")).unwrap();
        let last = format!("seg_layers.{}.", network.stages() - 2);
        let listed: BTreeSet<String> = list
            .lines()
            .filter(|l| !l.contains("all_modules") && !l.starts_with("decoder.encoder."))
            .filter(|l| !l.contains("seg_layers") || l.contains(&last))
            .map(str::to_owned)
            .collect();
        let expected: BTreeSet<String> = network
            .expected(dataset.channels.len(), dataset.heads())
            .iter()
            .map(|e| {
                let comma = if e.shape.len() == 1 { "," } else { "" };
                format!("{} {}{comma})", e.key, format!("{:?}", e.shape).replace('[', "(").replace(']', ""))
            })
            .collect();
        assert_eq!(expected, listed, "{name}");
        assert!(listed.len() > 40, "{name}: {}", listed.len());
    }
}

#[test]
fn weights_of_another_network_are_refused_tensor_by_tensor() {
    let Some(folder) = model("A_plain_iso15") else { return };
    let (plans, _) = read(&folder);
    let network = plans.configuration("3d_fullres").unwrap().network;
    let weights = || Trained::open(folder.join("fold_1").join(Trained::FILE)).unwrap().weights;
    let error = network.select(weights(), 1, 4).unwrap_err().to_string();
    assert!(error.contains("PlainConvUNet of 4 stages, 1 in, 4 out"), "{error}");
    assert!(error.contains("decoder.seg_layers.2.weight: expected [4, 8, 1, 1, 1], found [3, 8, 1, 1, 1]"), "{error}");
    let error = network.select(weights(), 2, 3).unwrap_err().to_string();
    assert!(error.contains("encoder.stages.0.0.convs.0.conv.weight: expected [8, 2, 3, 3, 3]"), "{error}");
    let mut fewer = weights();
    fewer.remove("decoder.transpconvs.1.bias").unwrap();
    let error = network.select(fewer, 1, 3).unwrap_err().to_string();
    assert!(error.contains("missing (1):\n    decoder.transpconvs.1.bias"), "{error}");
    let mut deeper = network.clone();
    let Encoder::Plain { convolutions } = &mut deeper.encoder else { panic!() };
    convolutions[3] = 1;
    let error = deeper.select(weights(), 1, 3).unwrap_err().to_string();
    assert!(error.contains("unexpected (4):\n    encoder.stages.3.0.convs.1.conv.weight"), "{error}");
}

#[test]
fn a_truncated_checkpoint_is_an_error() {
    let Some(folder) = model("A_plain_iso15") else { return };
    let bytes = std::fs::read(folder.join("fold_1").join(Trained::FILE)).unwrap();
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("checkpoint_final.pth");
    for keep in [bytes.len() - 1, bytes.len() / 2, 4000] {
        std::fs::write(&path, &bytes[..keep]).unwrap();
        let error = Trained::open(&path).unwrap_err();
        assert!(matches!(error.root(), Error::Malformed(_)), "{error}");
        assert!(error.to_string().contains("truncated or corrupt"), "{error}");
    }
}

/// `network_weights` with one convolution and its copy; `mirror` writes what follows `inference_allowed_mirroring_axes`.
fn trainer_file(second: &str, mirror: impl Fn(PickleWriter) -> PickleWriter) -> Vec<u8> {
    let pickle = PickleWriter::new().op(b"}(").text("network_weights").op(b"}(");
    let pickle = pickle.text("module.encoder.stem.convs.0.conv.weight").tensor("FloatStorage", "0", 2, 0, &[2], &[1]);
    let pickle = pickle.text("module.encoder.stem.convs.0.all_modules.0.weight").tensor(
        "FloatStorage",
        second,
        2,
        0,
        &[2],
        &[1],
    );
    let pickle = pickle.op(b"u").text("optimizer_state").op(b"}(").text("state");
    // Its storage is not in the file: it is never asked for.
    let pickle = pickle.tensor("FloatStorage", "9", 1 << 40, 0, &[1 << 40], &[1]).op(b"u");
    let pickle = pickle.text("init_args").op(b"}(").text("configuration").text("3d_fullres").text("device");
    let pickle = pickle.global("torch", "device").op(b"(").text("cuda").op(b"tRu");
    let pickle = mirror(pickle.text("inference_allowed_mirroring_axes")).op(b"u").stop();
    let one = f32_bytes([1.0, 2.0]);
    torch_file(&pickle, &[("0", &one), ("1", &one), ("2", &f32_bytes([1.0, 3.0]))])
}

#[test]
fn copies_are_dropped_and_must_be_equal() {
    let read = |second| Trained::read(&WeightFile::from_bytes(trainer_file(second, |p| p.op(b"N"))).unwrap());
    for second in ["0", "1"] {
        let trained = read(second).unwrap();
        assert_eq!(trained.weights.keys().collect::<Vec<_>>(), ["encoder.stem.convs.0.conv.weight"]);
        assert_eq!((trained.mirror_axes, trained.trainer, trained.fold), (vec![], String::new(), String::new()));
    }
    let error = read("2").unwrap_err().to_string();
    assert!(error.contains("stored twice with different values"), "{error}");
}

#[test]
fn mirroring_axes_are_a_tuple_of_axes() {
    let read = |axes: &[i64]| {
        let axes = axes.to_vec();
        Trained::read(&WeightFile::from_bytes(trainer_file("0", move |p| p.tuple(&axes))).unwrap())
    };
    assert_eq!(read(&[0, 2]).unwrap().mirror_axes, [0, 2]);
    assert!(read(&[]).unwrap().mirror_axes.is_empty());
    for wrong in [&[0, 0][..], &[3], &[-1]] {
        assert!(read(wrong).unwrap_err().to_string().contains("axes from 0 to 2"));
    }
}

#[test]
fn files_that_are_no_trainers_are_told_apart() {
    let read = |bytes| Trained::read(&WeightFile::from_bytes(bytes).unwrap()).unwrap_err();
    let file = |pickle: PickleWriter| torch_file(&pickle.stop(), &[("0", &f32_bytes([1.0]))]);
    let plain =
        PickleWriter::new().op(b"}(").text("conv.weight").tensor("FloatStorage", "0", 1, 0, &[1], &[1]).op(b"u");
    assert!(read(file(plain)).to_string().contains("the file has no `init_args`"));
    let first = PickleWriter::new().op(b"}(").text("state_dict").op(b"}").text("plans").op(b"}u");
    assert!(read(file(first)).to_string().contains("nnU-Net version 1"));
    assert!(read(file(PickleWriter::new().op(b"]"))).to_string().contains("the file holds a list"));
    let evil = PickleWriter::new().global("posix", "system").op(b"(").text("true").op(b"tR");
    assert!(matches!(read(file(evil)), Error::ForbiddenGlobal { .. }));
}
