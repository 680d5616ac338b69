//! From a NIfTI file to nnU-Net's network input, and from its logits to labels on the file's grid: the three models.

use gantry_volume::export::{Decision, Logits, Way, labels, resample_class};
use gantry_volume::{
    Bounds, Normalisation, Orientation, Resampling, bounds_of_nonzero, new_size, permute, resample, separate_axis,
};
use serde_json::Value as Json;

use crate::files::{fixtures, nifti, npy, npy_f16, same, same_f32};

fn three<T: Copy>(value: &Json, convert: impl Fn(&Json) -> Option<T>) -> [T; 3] {
    let values: Vec<T> = value.as_array().unwrap().iter().map(|v| convert(v).unwrap()).collect();
    [values[0], values[1], values[2]]
}

fn index(value: &Json) -> Option<usize> {
    value.as_u64().map(|n| n as usize)
}

/// One case of one model.
struct Case {
    model: &'static str,
    dataset: &'static str,
    case: &'static str,
    reorient: bool,
    runs: &'static [&'static str],
}

const CASES: [Case; 4] = [
    Case {
        model: "A_plain_iso15",
        dataset: "Dataset901_HeartPlain/nnUNetTrainer__nnUNetPlans__3d_fullres",
        case: "ct_iso15",
        reorient: false,
        runs: &["nomirror", "mirror"],
    },
    Case {
        model: "A_plain_iso15",
        dataset: "Dataset901_HeartPlain/nnUNetTrainer__nnUNetPlans__3d_fullres",
        case: "ct_sp19_zeroborder",
        reorient: false,
        runs: &["nomirror"],
    },
    Case {
        model: "B_resenc_iso15_transp",
        dataset: "Dataset902_HeartResEnc/nnUNetTrainer__nnUNetResEncUNetMPlans__3d_fullres",
        case: "ct_permuted",
        reorient: true,
        runs: &["nomirror", "mirror"],
    },
    Case { model: "C_plain_aniso", dataset: "", case: "ct_aniso_z5", reorient: false, runs: &["nomirror"] },
];

/// The folder with plans.json.
fn plans(model: &std::path::Path, dataset: &str) -> Json {
    let folder = if dataset.is_empty() {
        let one = |path: &std::path::Path, begin: &str| {
            let mut entries = std::fs::read_dir(path).unwrap().map(|e| e.unwrap().path());
            entries.find(|p| p.file_name().unwrap().to_str().unwrap().starts_with(begin)).unwrap()
        };
        one(&one(model, "Dataset"), "nnUNetTrainer")
    } else {
        model.join(dataset)
    };
    serde_json::from_slice(&std::fs::read(folder.join("plans.json")).unwrap()).unwrap()
}

#[test]
fn network_input_and_labels() {
    let Some(root) = fixtures("") else { return };
    let mut resampled = 0;
    for Case { model, dataset, case, reorient, runs } in &CASES {
        let folder = root.join(model).join(case);
        let plans = plans(&root.join(model), dataset);
        let configuration = &plans["configurations"]["3d_fullres"];
        let (forward, backward) =
            (three(&plans["transpose_forward"], index), three(&plans["transpose_backward"], index));
        let intensities =
            ["foreground_intensity_properties_per_channel", "foreground_intensity_properties_by_modality"];
        let intensities = intensities.into_iter().find_map(|k| plans.get(k)).unwrap();
        let of = |key: &str| intensities["0"][key].as_f64().unwrap();
        let ct = Normalisation::Ct {
            low: of("percentile_00_5"),
            high: of("percentile_99_5"),
            mean: of("mean"),
            deviation: of("std"),
        };

        let file = nifti(root.join("inputs").join(format!("{case}_0000.nii.gz")));
        let image: Vec<f32> = file.values.iter().map(|&v| v as f32).collect();
        let orientation = Orientation::of(&file.affine).unwrap();
        let (image, size, spacing) = if *reorient {
            let (image, size) = orientation.apply(&image, file.size).unwrap();
            (image, size, orientation.reorder(file.spacing_mm))
        } else {
            (image, file.size, file.spacing_mm)
        };
        let (image, full) = permute(&image, size, forward, [false; 3]).unwrap();
        let spacing = forward.map(|a| spacing[a]);
        let bounds = bounds_of_nonzero(&image, full).unwrap();
        let mut image = bounds.cut(&image, full).unwrap();
        let cropped = bounds.size();
        ct.apply(&mut image, None).unwrap();
        let target = three(&configuration["spacing"], Json::as_f64);
        let to = new_size(cropped, spacing, target).unwrap();
        let theirs = npy::<f32>(folder.join("preprocessed_f32.npy"));
        assert_eq!(theirs.shape, [1, to[0], to[1], to[2]], "{case}");
        let ours = resample(&image, cropped, to, spacing, target, Resampling::IMAGE).unwrap();
        same_f32(&format!("{model} {case} preprocessed"), &ours, &theirs.data);

        let properties: Json = serde_json::from_slice(&std::fs::read(folder.join("properties.json")).unwrap()).unwrap();
        let sides = properties["bbox_used_for_cropping"].as_array().unwrap();
        let theirs: Vec<_> = sides.iter().map(|side| (index(&side[0]).unwrap(), index(&side[1]).unwrap())).collect();
        assert_eq!(theirs, std::iter::zip(bounds.low, bounds.high).collect::<Vec<_>>());

        for run in *runs {
            let (shape, values) = npy_f16(folder.join(format!("logits_{run}_f16.npy")));
            assert_eq!(shape[1..], to);
            let logits = Logits::new(&values, shape[0], to).unwrap();
            let separate = separate_axis(target, spacing, None);
            assert_eq!(separate.is_some(), *case == "ct_aniso_z5");
            let file_of_resampled = folder.join(format!("logits_{run}_resampled_f16.npy"));
            if file_of_resampled.exists() {
                let (shape, theirs) = npy_f16(&file_of_resampled);
                assert_eq!(shape[1..], cropped);
                let ours: Vec<u16> = (0..shape[0])
                    .flat_map(|class| resample_class(&logits, class, cropped, separate).unwrap())
                    .map(|v| v.to_bits())
                    .collect();
                let theirs: Vec<u16> = theirs.into_iter().map(|v| v.to_bits()).collect();
                same(&format!("{model} {case} {run} resampled logits"), &ours, &theirs);
                resampled += 1;
            }
            let theirs = nifti(folder.join(format!("seg_{run}.nii.gz")));
            for way in [Way::Exact, Way::Fast] {
                let part = labels(&logits, cropped, separate, Decision::Greatest, way).unwrap();
                let mut whole = vec![0; full.iter().product()];
                let crop = Bounds { low: bounds.low, high: bounds.high };
                crop.paste(&part, &mut whole, full).unwrap();
                let (whole, size) = permute(&whole, full, backward, [false; 3]).unwrap();
                let (whole, size) = if *reorient { orientation.undo(&whole, size).unwrap() } else { (whole, size) };
                assert_eq!(size, theirs.size);
                same(&format!("{model} {case} {run} labels, {way:?}"), &whole, &theirs.labels());
            }
        }
    }
    assert_eq!(resampled, 2);
}
