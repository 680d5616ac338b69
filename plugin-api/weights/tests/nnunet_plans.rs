//! Plans and data sets made by hand: what is inherited, what may be short, and what is refused by name.

use gantry_weights::Error;
use gantry_weights::nnunet::{Configuration, Dataset, Encoder, Labels, Plans, Scheme};
use serde_json::{Value, json};

fn new_form() -> Value {
    json!({
        "plans_name": "P", "dataset_name": "D", "image_reader_writer": "nnunetv2.imageio.NibabelIO",
        "transpose_forward": [0, 1, 2], "transpose_backward": [0, 1, 2], "label_manager": "LabelManager",
        "foreground_intensity_properties_by_modality":
            {"0": {"mean": 1.0, "std": 2.0, "percentile_00_5": -3.0, "percentile_99_5": 4.0}},
        "configurations": {
            "2d": {"spacing": [1.0, 1.0], "patch_size": [64, 64], "preprocessor_name": "DefaultPreprocessor"},
            "parent": {
                "preprocessor_name": "DefaultPreprocessor", "patch_size": [16, 16, 16], "spacing": [3.0, 1.0, 1.0],
                "normalization_schemes": ["CTNormalization", "ZScoreNormalization"], "use_mask_for_norm": [false, true],
                "architecture": {
                    "network_class_name": "somewhere.else.PlainConvUNet",
                    "arch_kwargs": {
                        "n_stages": 3, "features_per_stage": 8, "conv_op": "torch.nn.modules.conv.Conv3d",
                        "kernel_sizes": 3, "strides": [1, 2, [1, 2, 2]], "n_conv_per_stage": 2,
                        "n_conv_per_stage_decoder": [1, 2], "conv_bias": true,
                        "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
                        "norm_op_kwargs": {"eps": 1e-3, "affine": true}, "dropout_op": null,
                        "nonlin": "torch.nn.LeakyReLU", "nonlin_kwargs": {"negative_slope": 0.2}
                    }
                }
            },
            "child": {"inherits_from": "parent", "spacing": [2.0, 1.0, 1.0], "patch_size": 32}
        }
    })
}

fn read(plans: &Value, name: &str) -> Result<Configuration, Error> {
    Plans::parse(&plans.to_string())?.configuration(name)
}

#[test]
fn a_child_overrides_its_parent_and_numbers_stand_for_lists() {
    let run = read(&new_form(), "child").unwrap();
    assert_eq!((run.spacing_mm, run.patch), ([2.0, 1.0, 1.0], [32; 3]));
    assert!(matches!(run.schemes.as_slice(), [Scheme::Ct(ct), Scheme::ZScore { masked: true }] if ct.std == 2.0));
    let network = &run.network;
    assert_eq!((&network.features, &network.decoder), (&vec![8; 3], &vec![1, 2]));
    assert_eq!((&network.kernels, &network.strides), (&vec![[3; 3]; 3], &vec![[1; 3], [2; 3], [1, 2, 2]]));
    assert_eq!(network.encoder, Encoder::Plain { convolutions: vec![2; 3] });
    assert_eq!((network.eps, network.slope, network.multiple()), (1e-3, 0.2, [2, 4, 4]));
    // torch's defaults where the plans do not say.
    let mut plans = new_form();
    let own = &mut plans["configurations"]["parent"]["architecture"]["arch_kwargs"];
    for key in ["conv_bias", "norm_op_kwargs", "nonlin_kwargs"] {
        own.as_object_mut().unwrap().remove(key);
    }
    let network = read(&plans, "parent").unwrap().network;
    assert_eq!((network.bias, network.affine, network.eps, network.slope), (false, false, 1e-5, 0.01));
}

#[test]
fn old_plans_double_their_features_up_to_the_largest() {
    let mut plans = new_form();
    plans["configurations"]["parent"].as_object_mut().unwrap().remove("architecture");
    let own = plans["configurations"]["parent"].as_object_mut().unwrap();
    for (key, value) in [
        ("UNet_class_name", json!("ResidualEncoderUNet")),
        ("UNet_base_num_features", json!(32)),
        ("unet_max_num_features", json!(100)),
        ("n_conv_per_stage_encoder", json!([1, 3, 4])),
        ("n_conv_per_stage_decoder", json!(1)),
        ("pool_op_kernel_sizes", json!([[1, 1, 1], [2, 2, 2], [2, 2, 2]])),
        ("conv_kernel_sizes", json!([[3, 3, 3], [3, 3, 3], [3, 3, 3]])),
    ] {
        own.insert(key.to_owned(), value);
    }
    let network = read(&plans, "child").unwrap().network;
    assert_eq!(network.features, [32, 64, 100]);
    assert_eq!(network.encoder, Encoder::Residual { blocks: vec![1, 3, 4], stem: 32 });
    assert_eq!((network.decoder.as_slice(), network.bias, network.affine), (&[1, 1][..], true, true));
}

#[test]
fn what_is_not_run_is_refused_by_name() {
    let kwargs = "/configurations/parent/architecture/arch_kwargs";
    let own = "/configurations/parent";
    let cases: Vec<(&str, &str, Value, &str)> = vec![
        ("", "configurations", json!(null), "not plans of nnU-Net version 2"),
        ("", "plans_per_stage", json!({}), "plans of nnU-Net version 1"),
        ("", "label_manager", json!("MyManager"), "label manager \"MyManager\"; LabelManager expected"),
        ("", "image_reader_writer", json!("NaturalImage2DIO"), "image reader `NaturalImage2DIO`"),
        ("", "transpose_forward", json!([0, 1, 1]), "0, 1 and 2 in some order"),
        ("", "transpose_backward", json!([1, 2, 0]), "does not undo"),
        (own, "previous_stage", json!("3d_lowres"), "a cascade (`previous_stage` is \"3d_lowres\")"),
        (own, "preprocessor_name", json!("NoResampling"), "preprocessor `NoResampling`; DefaultPreprocessor expected"),
        (own, "preprocessor_name", json!(null), "`preprocessor_name` is missing"),
        (own, "spacing", json!([1.0, 1.0]), "a 2-D configuration"),
        (own, "spacing", json!([1.0, 0.0, 1.0]), "3 numbers above 0 expected"),
        (own, "patch_size", json!([16, 16]), "3 whole numbers from 1 to"),
        (own, "patch_size", json!([16, 16, 18]), "multiples of [2, 4, 4] expected"),
        (own, "normalization_schemes", json!(["Magic", "NoNormalization"]), "normalisation \"Magic\" of channel 0"),
        (own, "normalization_schemes", json!(["NoNormalization", "CTNormalization"]), "`1` is missing"),
        (own, "use_mask_for_norm", json!([true]), "for each of 2 channels"),
        (
            own,
            "resampling_fn_data",
            json!("resample_torch_fornnunet"),
            "`resampling_fn_data` is \"resample_torch_fornnunet\"",
        ),
        (own, "resampling_fn_probabilities", json!("mine"), "resample_data_or_seg_to_shape expected"),
        (own, "resampling_fn_data_kwargs", json!({"order": 2, "order_z": 0, "force_separate_z": null}), "`order` is 2"),
        (own, "resampling_fn_data_kwargs", json!({"order": 3, "order_z": 0}), "`force_separate_z` is missing"),
        (own, "resampling_fn_data_kwargs", json!({"is_seg": true}), "`is_seg` = true"),
        (own, "resampling_fn_probabilities_kwargs", json!({"fast": 1}), "`fast` = 1 is not supported"),
        (own, "inherits_from", json!("child"), "inherit in a circle: parent -> child -> parent"),
        (own, "inherits_from", json!("gone"), "no configuration `gone`, from which `parent` inherits"),
        (
            own,
            "architecture",
            json!({"network_class_name": "a.b.SwinUNETR", "arch_kwargs": {}}),
            "network `a.b.SwinUNETR`",
        ),
        (own, "architecture", json!(null), "neither `architecture` nor `UNet_class_name`"),
        (kwargs, "conv_op", json!("torch.nn.modules.conv.Conv2d"), "2-D networks are not run"),
        (kwargs, "norm_op", json!("torch.nn.BatchNorm3d"), "InstanceNorm3d expected"),
        (kwargs, "norm_op", json!(null), "`norm_op` is missing"),
        (kwargs, "norm_op_kwargs", json!({"track_running_stats": true}), "`track_running_stats` = true"),
        (kwargs, "dropout_op", json!("torch.nn.Dropout3d"), "no dropout expected"),
        (kwargs, "nonlin", json!("torch.nn.ReLU"), "LeakyReLU expected"),
        (kwargs, "nonlin_kwargs", json!({"negative_slope": 2}), "a number from 0 to 1"),
        (kwargs, "nonlin_first", json!(true), "`nonlin_first` is true; false expected"),
        (kwargs, "squeeze_excitation", json!(true), "`squeeze_excitation` is true, which is not supported"),
        (kwargs, "block", json!("BottleneckD"), "BasicBlockD expected"),
        (kwargs, "n_stages", json!(1), "at least 2 expected"),
        (kwargs, "n_stages", json!(1000), "`n_stages`: a whole number from 1 to 16 expected, found 1000"),
        (kwargs, "features_per_stage", json!([8, 8]), "3 whole numbers"),
        (kwargs, "kernel_sizes", json!([[3, 3], [3, 3], [3, 3]]), "a 2-D network"),
        (kwargs, "kernel_sizes", json!([2, 3, 3]), "odd numbers expected"),
        (kwargs, "strides", json!([2, 2, 2]), "the first stage has stride"),
        (kwargs, "n_conv_per_stage_decoder", json!([1, 2, 3]), "2 whole numbers"),
        (kwargs, "n_conv_per_stage", json!(0), "3 whole numbers from 1 to 64 expected, found 0"),
    ];
    for (place, key, value, says) in cases {
        let mut plans = new_form();
        plans.pointer_mut(place).unwrap().as_object_mut().unwrap().insert(key.to_owned(), value.clone());
        let error = read(&plans, "parent").expect_err(says);
        assert!(matches!(error, Error::Unsupported(_) | Error::Malformed(_)), "{error}");
        assert!(error.to_string().contains(says), "{key} = {value}: {error}");
    }
    let error = read(&new_form(), "2d").unwrap_err().to_string();
    assert!(error.contains("configuration `2d`: a 2-D configuration"), "{error}");
    let error = read(&new_form(), "3d_lowres").unwrap_err().to_string();
    assert!(error.contains("no configuration `3d_lowres`; there are: 2d, parent, child"), "{error}");
    for (text, says) in [("", "not valid JSON"), ("[]", "an object expected"), ("{}", "found nothing")] {
        let error = Plans::parse(text).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
}

#[test]
fn data_sets_have_classes_or_regions() {
    let parse = |text: Value| Dataset::parse(&text.to_string());
    let brats = parse(json!({
        "channel_names": {"0": "T1", "1": "T2"}, "regions_class_order": [1, 2, 3],
        "labels": {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": 3, "ignore": 4}
    }))
    .unwrap();
    assert_eq!((brats.heads(), brats.ignore, brats.channels.len()), (3, Some(4), 2));
    assert_eq!(brats.values(), [(1, "whole"), (2, "core"), (3, "enhancing")]);
    let Labels::Regions(regions) = &brats.labels else { panic!() };
    assert_eq!(regions[1].members, [2, 3]);
    let old = parse(json!({"modality": {"0": "CT"}, "labels": {"b": 2, "a": [1], "background": 0}})).unwrap();
    assert_eq!((old.heads(), old.values()), (3, vec![(1, "a"), (2, "b")]));
    for (labels, says) in [
        (json!({"a": 1}), "`background` is missing"),
        (json!({"background": 1, "a": 0}), "`background` is 1; 0 expected"),
        (json!({"background": 0, "a": 2}), "label 1 is missing"),
        (json!({"background": 0, "a": 1, "b": 1}), "`a` and `b` have the same value"),
        (json!({"background": 0, "a": -1}), "a whole number from 0"),
        (json!({"background": 0, "a": 1.5}), "a whole number from 0"),
        (json!({"background": 0, "a": []}), "a whole number from 0"),
        (json!({"background": 0, "a": 1, "ignore": 3}), "`ignore` is 3; it must be the last, 2"),
        (json!({"background": 0}), "no label beside the background"),
        (json!({"0": "background", "1": "a"}), "version 1 of nnU-Net"),
        (json!({"background": 0, "a": [1, 2], "b": 2}), "`regions_class_order` is missing"),
    ] {
        let error = parse(json!({"channel_names": {"0": "CT"}, "labels": labels})).expect_err(says).to_string();
        assert!(error.contains(says), "{error}");
    }
    let order = |order: Value| {
        let labels = json!({"background": 0, "a": [1, 2], "b": 2});
        let text = json!({"channel_names": {"0": "CT"}, "labels": labels, "regions_class_order": order});
        Dataset::parse(&text.to_string()).unwrap_err().to_string()
    };
    assert!(order(json!([1])).contains("one for each of 2 regions"));
    assert!(order(json!([1, 1])).contains("different whole numbers"));
    let gap = json!({"channel_names": {"1": "CT"}, "labels": {"background": 0, "a": 1}});
    assert!(parse(gap).unwrap_err().to_string().contains("`channel_names`: `0` is missing"));
}
