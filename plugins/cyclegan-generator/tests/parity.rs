//! The network against the published program: outputs and activations, weights from every kind of file.

#[allow(dead_code)]
mod fixture;

use candle_core::Tensor;
use cyclegan_generator::architecture;
use cyclegan_generator::network::{Calibration, DucosyGenerator, Sizes};
use fixture::{TOLERANCE, agree, array, engine, folder, max_error, parts, recipe, tensor, uniform, values};
use gantry_neural::{ComputeDevice, NetworkWeights};
use gantry_tests::fixture::Array;
use gantry_weights::StateDict;

fn network(dict: StateDict) -> DucosyGenerator {
    let (weights, sizes) = parts(dict);
    DucosyGenerator::new(&engine(), weights, sizes, &Calibration::new()).unwrap()
}

fn forward(network: &DucosyGenerator, input: Array<f32>) -> Array<f32> {
    let out = network.forward(&tensor(input), &mut |_, _, _| Ok(())).unwrap();
    Array { shape: out.dims().to_vec(), data: values(&out) }
}

#[test]
fn the_recipe_gives_the_published_numbers() {
    let first = uniform("soft/model.1.weight", 4).iter().map(|x| (3.0f64 / 49.0).sqrt() as f32 * x).collect::<Vec<_>>();
    assert_eq!(first, [0.168_042_47, -0.181_318_49, 0.149_348_96, 0.179_401_28]);
    assert_eq!(uniform("x/1x1x64x64", 4), [0.670_569_3, -0.795_033_45, -0.159_258_25, 0.831_352_7]);
    let dict = recipe("soft", 1, 9, true, 64);
    assert_eq!((dict.len(), dict.elements()), (75, 11_440_243));
    assert_eq!(recipe("nocbam", 1, 9, false, 64).len(), 48);
}

#[test]
fn one_block_at_all_sizes_from_every_kind_of_file() {
    let Some(folder) = folder() else { return };
    let files = [
        ("G_c1_b1.safetensors", None),
        ("G_c1_b1.pth", None),
        ("G_c1_b1_module.pth", None),
        ("checkpoint.pth.tar", Some("G_A2B_state_dict")),
    ];
    for (file, part) in files {
        let network = network(StateDict::load(folder.join("model").join(file), part).unwrap());
        for size in ["1x1x64x64", "1x1x128x96", "2x1x48x80", "1x1x66x90", "1x1x32x32"] {
            let out = forward(&network, array(&folder, &format!("model/in_{size}")));
            agree(&format!("{file} {size}"), out, array(&folder, &format!("model/out_c1_b1_{size}")));
        }
    }
}

#[test]
fn three_channels_in_half_precision() {
    let Some(folder) = folder() else { return };
    let network = network(StateDict::load(folder.join("model/G_c3_b1_f16.safetensors"), None).unwrap());
    assert_eq!(network.channels(), 3);
    let out = forward(&network, array(&folder, "model/in_1x3x64x48"));
    agree("c3_b1 f16", out, array(&folder, "model/out_c3_b1_1x3x64x48"));
}

#[test]
fn nine_blocks_with_recipe_weights() {
    let Some(folder) = folder() else { return };
    for (salt, cin, cbam) in
        [("soft", 1, true), ("lung", 1, true), ("nocbam", 1, false), ("soft3", 3, true), ("lung2", 2, true)]
    {
        let network = network(recipe(salt, cin, 9, cbam, 64));
        for size in ["64x64", "128x96"] {
            let out = forward(&network, array(&folder, &format!("model/in_1x{cin}x{size}")));
            let expected = array(&folder, &format!("model/out_recipe_{salt}_b9_1x{cin}x{size}"));
            agree(&format!("recipe {salt} {size}"), out, expected);
        }
    }
}

#[test]
fn every_activation_of_one_block() {
    let Some(folder) = folder() else { return };
    let network = network(StateDict::load(folder.join("model/G_c1_b1.safetensors"), None).unwrap());
    let mut seen = Vec::new();
    let mut keep = |at: usize, what: &'static str, x: &dyn Fn() -> candle_core::Result<Tensor>| {
        seen.push((at, what, x()?));
        Ok(())
    };
    network.forward(&tensor(array(&folder, "model/in_1x1x32x32")), &mut keep).unwrap();
    let find = |at: usize, what: &str| {
        let found = seen.iter().find(|(a, w, _)| (*a, *w) == (at, what));
        values(&found.unwrap_or_else(|| panic!("no activation {at} {what}")).2)
    };
    let relu = |x: Vec<f32>| x.into_iter().map(|x| x.max(0.0)).collect::<Vec<_>>();
    let fixed = |name: &str| array(&folder, &format!("model/acts_c1_b1_32x32/{name}")).data;
    let mut worst = 0f32;
    let mut compare = |name: &str, got: Vec<f32>, expected: Vec<f32>| {
        // Activations before a normalisation are not of order 1: relative to their largest value.
        let scale = expected.iter().fold(1f32, |m, x| m.max(x.abs()));
        worst = worst.max(max_error(name, &got, &expected) / scale);
    };
    for (at, norm) in [(1, 2), (4, 5), (7, 8), (12, 13), (16, 17)] {
        compare(&format!("{at} conv"), find(at, "conv"), fixed(&format!("{at:02}_Conv2d")));
        let expected = relu(fixed(&format!("{norm:02}_InstanceNorm2d")));
        compare(&format!("{norm} norm, ReLU"), find(at + 2, "norm-relu"), expected);
    }
    compare("20 conv", find(20, "conv"), fixed("20_Conv2d"));
    compare("21 tanh", find(21, "tanh"), fixed("21_Tanh"));
    compare("10 branch", find(10, "branch"), fixed("10_block"));
    compare("10 channel gate", find(10, "channel-gate"), fixed("10_ca_gate"));
    compare("10 channel attention", find(10, "channel-attention"), fixed("10_ca_out"));
    compare("10 residual block", find(10, "residual"), fixed("10_ResidualBlockWithCBAM"));
    let attention: Vec<f32> = find(10, "residual").iter().zip(find(9, "norm-relu")).map(|(sum, x)| sum - x).collect();
    compare("10 attention", attention, fixed("10_sa_out"));
    assert!(worst <= TOLERANCE, "{worst:e}");
}

#[test]
fn other_widths_run_and_stay_in_range() {
    for (width, blocks, cin) in [(16, 2, 1), (8, 1, 3), (20, 1, 2)] {
        let network = network(recipe("narrow", cin, blocks, true, width));
        assert_eq!((network.width(), network.channels()), (width, cin));
        let count = cin * 40 * 36;
        let out = forward(&network, Array { shape: vec![1, cin, 40, 36], data: uniform("x/narrow", count) });
        assert_eq!(out.shape, [1, 1, 40, 36]);
        assert!(out.data.iter().all(|x| (-1.0..=1.0).contains(x)));
        let spread = out.data.iter().fold(0f32, |m, x| m.max((x - out.data[0]).abs()));
        assert!(spread > 0.01, "width {width}: the output is flat");
    }
}

#[test]
fn weights_of_another_network_are_refused() {
    let mut dict = recipe("soft", 1, 2, true, 16);
    dict.remove("model.10.block.1.bias").unwrap();
    let error = architecture().unwrap().check(&dict).expect_err("a tensor is missing").to_string();
    assert!(error.contains("model.10.block.1.bias"), "{error}");
    let weights = NetworkWeights::new(recipe("soft", 1, 2, true, 16), ComputeDevice::Cpu).unwrap();
    let sizes = Sizes { blocks: 1, cbam: true };
    let error = DucosyGenerator::new(&engine(), weights, sizes, &Calibration::new());
    let error = error.err().expect("a block is left").to_string();
    assert!(error.contains("model.11") || error.contains("no tensor"), "{error}");
}
