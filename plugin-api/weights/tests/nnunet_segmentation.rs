//! `segmentation.json`: what is written is read again, and what contradicts itself is refused.

use gantry_weights::nnunet::{Model, Segmentation, Way};
use serde_json::{Value, json};

fn example() -> Value {
    json!({
        "format": 1, "way": "totalsegmentator", "step": 0.8, "spacing_mm": 1.5,
        "parts": [
            {"folder": "cardiac", "dataset": "Dataset293_x", "configuration": "3d_fullres", "trainer": "T",
             "mirror_axes": null, "folds": [0], "labels": [[1, 51], [2, 52]]}
        ],
        "rough": {"folder": "total-6mm", "dataset": "Dataset298_x", "configuration": "3d_fullres", "trainer": "T",
                  "mirror_axes": [0, 1, 2], "folds": [0, 3], "labels": [[51, 51], [117, 117]], "spacing_mm": 6.0},
        "labels": [
            {"value": 51, "name": "heart", "scheme": "SCT", "code": "80891009", "meaning": "Heart", "rgba": 0xff00_00ffu32},
            {"value": 52, "name": "aorta", "rgba": 255}
        ]
    })
}

#[test]
fn it_survives_writing_and_reading() {
    let read = Segmentation::parse(&example().to_string()).unwrap();
    assert_eq!((read.way, read.models().count()), (Way::Totalsegmentator, 2));
    assert_eq!(read.label("heart").unwrap().value, 51);
    assert_eq!(read.parts[0].weights(0), "cardiac/fold_0.safetensors");
    assert_eq!(read.parts[0].file("plans.json"), "cardiac/plans.json");
    let text = read.to_json().unwrap();
    assert_eq!(Segmentation::parse(&text).unwrap(), read);
    assert!(text.contains("\"mirror_axes\": null") && !text.contains("\"code\": \"\""), "{text}");
}

#[test]
fn what_contradicts_itself_is_refused() {
    for (place, value, says) in [
        ("/format", json!(2), "this program reads 1"),
        ("/way", json!("mine"), "unknown variant"),
        ("/step", json!(0), "above 0 and up to 1"),
        ("/step", json!(1.5), "above 0 and up to 1"),
        ("/spacing_mm", json!(null), "a length above 0"),
        ("/way", json!("nnunet"), "null expected"),
        ("/parts", json!([]), "`parts` is empty"),
        ("/labels", json!([]), "`labels` is empty"),
        ("/labels/0/value", json!(0), "1 to 255 expected"),
        ("/labels/0/value", json!(256), "1 to 255 expected"),
        ("/labels/0/value", json!(52), "of its own"),
        ("/labels/0/name", json!("aorta"), "of its own"),
        ("/labels/0/code", json!(""), "come together"),
        ("/parts/0/folder", json!("../x"), "a name of its own"),
        ("/parts/0/folder", json!("total-6mm"), "a name of its own"),
        ("/parts/0/mirror_axes", json!([]), "ascending"),
        ("/parts/0/mirror_axes", json!([1, 0]), "ascending"),
        ("/parts/0/mirror_axes", json!([3]), "from 0 to 2"),
        ("/parts/0/folds", json!([]), "at least one"),
        ("/parts/0/folds", json!([0, 0]), "each once"),
        ("/parts/0/labels", json!([]), "`labels` is empty"),
        ("/parts/0/labels", json!([[0, 51]]), "or is the background"),
        ("/parts/0/labels", json!([[1, 51], [1, 52]]), "mapped twice"),
        ("/parts/0/labels", json!([[1, 53]]), "which `labels` does not have"),
        ("/rough/spacing_mm", json!(null), "a length above 0"),
    ] {
        let mut document = example();
        *document.pointer_mut(place).unwrap() = value.clone();
        let error = Segmentation::parse(&document.to_string()).expect_err(says).to_string();
        assert!(error.starts_with("segmentation.json: ") && error.contains(says), "{place} = {value}: {error}");
    }
    let mut document = example();
    document["colour"] = json!(1);
    assert!(Segmentation::parse(&document.to_string()).unwrap_err().to_string().contains("unknown field `colour`"));
    let mut document = example();
    document["parts"][0]["spacing_mm"] = json!(1.5);
    assert!(Segmentation::parse(&document.to_string()).unwrap_err().to_string().contains("only the rough model"));
}

#[test]
fn a_part_maps_labels_that_its_data_set_has() {
    let plans = json!({
        "image_reader_writer": "SimpleITKIO", "transpose_forward": [0, 1, 2], "transpose_backward": [0, 1, 2],
        "configurations": {"3d_fullres": {
            "preprocessor_name": "DefaultPreprocessor", "patch_size": [4, 4, 4], "spacing": [1, 1, 1],
            "normalization_schemes": ["NoNormalization"], "UNet_class_name": "PlainConvUNet",
            "UNet_base_num_features": 2, "unet_max_num_features": 4, "n_conv_per_stage_encoder": [1, 1],
            "n_conv_per_stage_decoder": [1], "pool_op_kernel_sizes": [1, 2], "conv_kernel_sizes": 3
        }}
    });
    let part = &Segmentation::parse(&example().to_string()).unwrap().parts[0];
    let model = |channels: Value, labels: Value| {
        let dataset = json!({"channel_names": channels, "labels": labels}).to_string();
        Model::of_part(part, &plans.to_string(), &dataset).map_err(|e| e.to_string())
    };
    let one = json!({"0": "CT"});
    let read = model(one.clone(), json!({"background": 0, "a": 1, "b": 2})).unwrap();
    assert_eq!((read.configuration.network.features.as_slice(), read.dataset.heads()), (&[2, 4][..], 3));
    assert!(model(one, json!({"background": 0, "a": 1})).unwrap_err().contains("no label 2"));
    let two = json!({"0": "T1", "1": "T2"});
    let error = model(two, json!({"background": 0, "a": 1, "b": 2})).unwrap_err();
    assert!(error.contains("normalise 1 channel, dataset.json names 2"), "{error}");
}
