//! Whole U-Nets against nnU-Net's own outputs, and what does not fit.

use candle_core::{Device, Tensor};
use gantry_neural::{
    ComputeDevice, Engine, Isa, NetworkWeights, Precision, Shape, Unet, UnetEncoder, UnetPlan, Workers,
};
use gantry_tests::fixture::{npy, shared};
use gantry_weights::StateDict;
use std::path::{Path, PathBuf};

/// Networks of the fixtures: old plans with plain stages, residual blocks, and kernels and strides that differ by axis.
fn networks() -> [(&'static str, UnetPlan); 3] {
    let isotropic = [[1; 3], [2; 3], [2; 3], [2; 3]];
    let plain = UnetPlan::plain(1, 3, &[8, 16, 32, 32], &[[3; 3]; 4], &isotropic);
    let residual = UnetPlan {
        encoder: UnetEncoder::Residual { blocks: vec![1, 2, 2, 3], stem: 8 },
        decoder: vec![1; 3],
        ..UnetPlan::plain(1, 3, &[8, 16, 24, 32], &[[3; 3]; 4], &isotropic)
    };
    let kernels = [[1, 3, 3], [3; 3], [3; 3], [3; 3]];
    let strides = [[1; 3], [1, 2, 2], [2; 3], [2; 3]];
    let anisotropic = UnetPlan::plain(1, 3, &[6, 12, 24, 24], &kernels, &strides);
    [("A_plain_iso15", plain), ("B_resenc_iso15_transp", residual), ("C_plain_aniso", anisotropic)]
}

/// The trainer's checkpoint below a folder `Dataset…/…/fold_0`.
fn checkpoint(folder: &Path) -> PathBuf {
    let below = |folder: &Path, starts: &str| {
        let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let mut found: Vec<PathBuf> = entries
            .filter(|path| path.is_dir() && path.file_name().unwrap().to_str().unwrap().starts_with(starts))
            .collect();
        assert_eq!(found.len(), 1, "{}", folder.display());
        found.remove(0)
    };
    below(&below(folder, "Dataset"), "nnUNetTrainer").join("fold_0/checkpoint_final.pth")
}

fn weights(folder: &Path, plan: &UnetPlan) -> NetworkWeights {
    let bytes = std::fs::read(checkpoint(folder)).unwrap();
    let dict = StateDict::from_bytes(bytes, Some("network_weights")).unwrap();
    NetworkWeights::new(plan.published(dict).unwrap(), ComputeDevice::Cpu).unwrap()
}

#[test]
fn the_networks_are_those_of_nnunet() {
    let Some(folder) = shared("fixtures/nnunet") else { return };
    for (name, plan) in networks() {
        let folder = folder.join(name);
        let [input, expected] =
            ["in", "out"].map(|end| npy::<f32>(folder.join(format!("network/patch_{end}_f32.npy"))));
        let input = Tensor::from_vec(input.data, input.shape, &Device::Cpu).unwrap();
        for precision in [Precision::F32, Precision::F32x3, Precision::Bf16] {
            for isa in Isa::all() {
                let engine = Engine::new(isa, precision).unwrap();
                let network = Unet::new(&engine, weights(&folder, &plan), &plan).unwrap();
                let run = |threads| Workers::default().run(threads, || network.forward(&input).unwrap()).unwrap();
                let out = run(1);
                assert_eq!(out.dims(), expected.shape);
                let out = out.flatten_all().unwrap().to_vec1::<f32>().unwrap();
                let apart = || out.iter().zip(&expected.data).map(|(a, b)| (a - b).abs());
                let worst = apart().fold(0f32, f32::max);
                let mean = apart().map(f64::from).sum::<f64>() / out.len() as f64;
                println!("{name} {precision} {isa}: largest difference {worst:.1e}, mean {mean:.1e}");
                // Logits have a standard deviation of 2. PyTorch's own are up to 5e-5 from sums in f64.
                let (largest, usual) = match precision {
                    Precision::F32 => (1e-4, 1e-5),
                    Precision::F32x3 => (1.2e-4, 1e-5),
                    Precision::Bf16 | Precision::Int8 => (1.5, 0.1),
                };
                assert!(worst <= largest && mean <= usual, "{worst:e}, mean {mean:e}");
                if isa == Isa::best() {
                    assert_eq!(run(3).flatten_all().unwrap().to_vec1::<f32>().unwrap(), out, "3 threads");
                }
            }
        }
    }
}

#[test]
fn an_infinity_or_a_nan_in_the_input_shows() {
    let Some(folder) = shared("fixtures/nnunet") else { return };
    let (name, plan) = &networks()[0];
    let engine = Engine::new(Isa::best(), Precision::F32x3).unwrap();
    let network = Unet::new(&engine, weights(&folder.join(name), plan), plan).unwrap();
    let shape = Shape { pictures: 1, channels: 1, size: [8, 16, 8] };
    for wrong in [f32::NAN, f32::INFINITY] {
        let mut planes = vec![0.5; shape.pixels()];
        planes[77] = wrong;
        let (out, _) = network.logits(&planes, shape).unwrap();
        assert!(out.iter().all(|x| x.is_nan()), "the norm of the first layer spreads it everywhere");
    }
}

#[test]
fn two_dimensions_are_three_with_a_single_plane() {
    // The same numbers as weights of rank 4 and of rank 5.
    let plan = UnetPlan::plain(2, 3, &[5, 18], &[[1, 3, 3]; 2], &[[1; 3], [1, 2, 2]]);
    let made = |planar: bool| {
        let mut dict = StateDict::new();
        let mut seed = 0;
        let mut add = |key: &str, shape: &[usize]| {
            let shape: Vec<usize> = match (planar, shape) {
                (true, [a, b, _, rest @ ..]) => [&[*a, *b], rest].concat(),
                _ => shape.to_vec(),
            };
            seed += 1;
            let count = shape.iter().product();
            let values = gantry_tests::recipe::uniform(&format!("unet/{seed}"), count);
            dict.insert(key, gantry_weights::Tensor::from_f32(shape, &values).unwrap()).unwrap();
        };
        for (key, outputs, inputs) in [
            ("encoder.stages.0.0.convs.0", 5, 2),
            ("encoder.stages.0.0.convs.1", 5, 5),
            ("encoder.stages.1.0.convs.0", 18, 5),
            ("encoder.stages.1.0.convs.1", 18, 18),
            ("decoder.stages.0.convs.0", 5, 10),
            ("decoder.stages.0.convs.1", 5, 5),
        ] {
            add(&format!("{key}.conv.weight"), &[outputs, inputs, 1, 3, 3]);
            for rest in ["conv.bias", "norm.weight", "norm.bias"] {
                add(&format!("{key}.{rest}"), &[outputs]);
            }
        }
        add("decoder.transpconvs.0.weight", &[18, 5, 1, 2, 2]);
        add("decoder.transpconvs.0.bias", &[5]);
        add("decoder.seg_layers.0.weight", &[3, 5, 1, 1, 1]);
        add("decoder.seg_layers.0.bias", &[3]);
        NetworkWeights::new(dict, ComputeDevice::Cpu).unwrap()
    };
    let input = Tensor::from_vec(gantry_tests::recipe::uniform("unet", 2 * 2 * 12 * 10), (2, 2, 12, 10), &Device::Cpu);
    let input = input.unwrap();
    let engine = Engine::new(Isa::best(), Precision::F32).unwrap();
    let flat = Unet::new(&engine, made(true), &plan).unwrap().forward(&input).unwrap();
    assert_eq!(flat.dims(), [2, 3, 12, 10]);
    let deep = Unet::new(&engine, made(false), &plan).unwrap().forward(&input.unsqueeze(2).unwrap()).unwrap();
    assert_eq!(deep.dims(), [2, 3, 1, 12, 10]);
    let flat: Vec<f32> = flat.flatten_all().unwrap().to_vec1().unwrap();
    assert_eq!(flat, deep.flatten_all().unwrap().to_vec1::<f32>().unwrap());
    assert!(flat.iter().any(|&x| x != flat[0]));
}

#[test]
fn what_does_not_fit_is_refused_by_name() {
    let Some(folder) = shared("fixtures/nnunet") else { return };
    let (name, plan) = &networks()[0];
    let engine = Engine::new(Isa::best(), Precision::F32).unwrap();
    let folder = folder.join(name);
    let refused = |plan: &UnetPlan, says: &str| {
        let error = Unet::new(&engine, weights(&folder, plan), plan).err().expect(says).to_string();
        assert!(error.contains(says), "{error}");
    };
    refused(
        &UnetPlan { classes: 4, ..plan.clone() },
        "`decoder.seg_layers.2.weight` expected [4, 8, 1, 1, 1], found [3, 8",
    );
    refused(&UnetPlan { decoder: vec![1; 3], ..plan.clone() }, "unused, such as `decoder.stages.");
    refused(&UnetPlan { decoder: vec![2, 3, 2], ..plan.clone() }, "no tensor `decoder.stages.1.convs.2.conv.weight`");
    let network = Unet::new(&engine, weights(&folder, plan), plan).unwrap();
    for (channels, size) in [(1, [8, 8, 12]), (2, [8, 8, 8])] {
        let shape = Shape { pictures: 1, channels, size };
        let error = network.logits(&vec![0.0; channels * shape.pixels()], shape).unwrap_err().to_string();
        assert!(error.contains("multiples of [8, 8, 8]"), "{error}");
    }
}
