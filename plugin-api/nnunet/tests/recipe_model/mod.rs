//! Models of any shape whose weights are made by a recipe.

use gantry_tests::recipe;
use gantry_weights::nnunet::{Configuration, Dataset, Plans};
use gantry_weights::{StateDict, Tensor, to_safetensors};
use serde_json::json;

/// What a model is like.
pub struct Recipe<'a> {
    pub channels: usize,
    /// `labels` of dataset.json, and `regions_class_order` where there are regions.
    pub labels: serde_json::Value,
    pub regions: Option<Vec<u32>>,
    pub patch: [usize; 3],
    pub spacing_mm: [f64; 3],
    pub transpose: [usize; 3],
    pub features: &'a [usize],
    pub strides: &'a [[usize; 3]],
    pub scheme: &'a str,
    pub folds: usize,
}

/// A model's documents and weights.
pub struct Made {
    pub configuration: Configuration,
    pub dataset: Dataset,
    pub folds: Vec<Vec<u8>>,
}

/// Labels `background` and so many others.
pub fn classes(count: usize) -> serde_json::Value {
    let named = (1..count).map(|value| (format!("structure {value}"), json!(value)));
    std::iter::once(("background".to_owned(), json!(0))).chain(named).collect::<serde_json::Map<_, _>>().into()
}

impl Recipe<'_> {
    pub fn make(&self) -> Made {
        let back = [0, 1, 2].map(|axis| self.transpose.iter().position(|&a| a == axis).expect("a permutation"));
        let stages = self.features.len();
        let channels: serde_json::Map<_, _> = (0..self.channels).map(|at| (at.to_string(), json!("CT"))).collect();
        let mut document = json!({ "channel_names": channels, "labels": self.labels, "file_ending": ".nii.gz" });
        if let Some(order) = &self.regions {
            document["regions_class_order"] = json!(order);
        }
        let foreground = json!({ "mean": 10.5, "std": 33.25, "percentile_00_5": -80.0, "percentile_99_5": 90.0 });
        let foreground: serde_json::Map<_, _> =
            (0..self.channels).map(|at| (at.to_string(), foreground.clone())).collect();
        let plans = json!({
            "dataset_name": "Dataset999_Recipe",
            "plans_name": "nnUNetPlans",
            "image_reader_writer": "SimpleITKIO",
            "transpose_forward": self.transpose,
            "transpose_backward": back,
            "label_manager": "LabelManager",
            "foreground_intensity_properties_per_channel": foreground,
            "configurations": { "3d_fullres": {
                "preprocessor_name": "DefaultPreprocessor",
                "patch_size": self.patch,
                "spacing": self.spacing_mm,
                "normalization_schemes": vec![self.scheme; self.channels],
                "use_mask_for_norm": vec![false; self.channels],
                "architecture": {
                    "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
                    "arch_kwargs": {
                        "n_stages": stages,
                        "features_per_stage": self.features,
                        "conv_op": "torch.nn.modules.conv.Conv3d",
                        "kernel_sizes": vec![[3, 3, 3]; stages],
                        "strides": self.strides,
                        "n_conv_per_stage": vec![2; stages],
                        "n_conv_per_stage_decoder": vec![2; stages - 1],
                        "conv_bias": true,
                        "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
                        "norm_op_kwargs": { "eps": 1e-5, "affine": true },
                        "dropout_op": null,
                        "dropout_op_kwargs": null,
                        "nonlin": "torch.nn.LeakyReLU",
                        "nonlin_kwargs": { "inplace": true }
                    },
                    "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"]
                }
            } }
        });
        let dataset = Dataset::parse(&document.to_string()).expect("a data set");
        let plans = Plans::parse(&plans.to_string()).expect("plans");
        let configuration = plans.configuration("3d_fullres").expect("a configuration");
        let fold = |fold: usize| {
            let mut dict = StateDict::new();
            for tensor in configuration.network.expected(self.channels, dataset.heads()) {
                let fan_in = tensor.shape[1..].iter().product::<usize>().max(1) as f32;
                let gain = if tensor.key.ends_with("norm.weight") { 1.0 } else { 0.0 };
                let values = recipe::uniform(&format!("fold {fold}/{}", tensor.key), tensor.shape.iter().product());
                let values: Vec<f32> = values.into_iter().map(|x| gain + x * (3.0 / fan_in).sqrt().min(0.5)).collect();
                dict.insert(tensor.key, Tensor::from_f32(tensor.shape, &values).expect("a tensor")).expect("a key");
            }
            to_safetensors(&dict).expect("a file")
        };
        let folds = (0..self.folds).map(fold).collect();
        Made { configuration, dataset, folds }
    }
}
