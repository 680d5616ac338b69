//! The network for cards, run on the CPU: against the published program in f32, and what bf16 convolutions change.

#[allow(dead_code)]
mod fixture;

use candle_core::{Device, Result, Tensor};
use cyclegan_generator::cuda_network::{CudaEngine, CudaGenerator};
use cyclegan_generator::network::Calibration;
use fixture::{TOLERANCE, agree, array, folder, max_error, parts, recipe, tensor, uniform, values};
use gantry_tests::fixture::Array;
use gantry_weights::StateDict;

fn network(dict: StateDict, precision: &str) -> CudaGenerator {
    let (weights, sizes) = parts(dict);
    let engine = CudaEngine::on(Device::Cpu, precision).unwrap();
    CudaGenerator::new(&engine, weights, sizes, &Calibration::new()).unwrap()
}

fn forward(network: &CudaGenerator, input: Array<f32>) -> Array<f32> {
    let out = network.forward(&tensor(input), &mut |_, _, _| Ok(())).unwrap();
    Array { shape: out.dims().to_vec(), data: values(&out) }
}

#[test]
fn one_block_at_all_sizes() {
    let Some(folder) = folder() else { return };
    let dict = || StateDict::load(folder.join("model/G_c1_b1.safetensors"), None).unwrap();
    let network = network(dict(), "f32");
    for size in ["1x1x64x64", "1x1x128x96", "2x1x48x80", "1x1x66x90", "1x1x32x32"] {
        let out = forward(&network, array(&folder, &format!("model/in_{size}")));
        agree(size, out, array(&folder, &format!("model/out_c1_b1_{size}")));
    }
}

#[test]
fn nine_blocks_with_recipe_weights() {
    let Some(folder) = folder() else { return };
    for (salt, cin, cbam) in [("soft", 1, true), ("nocbam", 1, false), ("soft3", 3, true)] {
        let network = network(recipe(salt, cin, 9, cbam, 64), "f32");
        assert_eq!((network.channels(), network.width()), (cin, 64));
        let out = forward(&network, array(&folder, &format!("model/in_1x{cin}x64x64")));
        agree(&format!("recipe {salt}"), out, array(&folder, &format!("model/out_recipe_{salt}_b9_1x{cin}x64x64")));
    }
}

/// What bf16 convolutions cost in accuracy: nine blocks, norms, attention and sums in f32.
#[test]
fn bf16_convolutions_stay_near() {
    let Some(folder) = folder() else { return };
    let expected = array(&folder, "model/out_recipe_soft_b9_1x1x64x64").data;
    let out = forward(&network(recipe("soft", 1, 9, true, 64), "bf16"), array(&folder, "model/in_1x1x64x64")).data;
    let worst = max_error("recipe soft, bf16", &out, &expected);
    let mean = out.iter().zip(&expected).map(|(a, b)| f64::from((a - b).abs())).sum::<f64>() / out.len() as f64;
    println!("recipe soft, bf16: mean abs error {mean:.1e}");
    assert!(worst > 1e-5, "nothing was rounded");
    assert!(worst < 0.1 && mean < 0.01, "{worst} {mean}");
}

#[test]
fn every_activation_of_one_block() {
    let Some(folder) = folder() else { return };
    let network = network(StateDict::load(folder.join("model/G_c1_b1.safetensors"), None).unwrap(), "f32");
    let mut seen = Vec::new();
    let mut keep = |at: usize, what: &'static str, x: &dyn Fn() -> Result<Tensor>| {
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
        let scale = expected.iter().fold(1f32, |m, x| m.max(x.abs()));
        worst = worst.max(max_error(name, &got, &expected) / scale);
    };
    for (at, norm) in [(1, 2), (4, 5), (7, 8), (12, 13), (16, 17)] {
        compare(&format!("{at} conv"), find(at, "conv"), fixed(&format!("{at:02}_Conv2d")));
        compare(
            &format!("{norm} norm, ReLU"),
            find(at + 2, "norm-relu"),
            relu(fixed(&format!("{norm:02}_InstanceNorm2d"))),
        );
    }
    compare("20 conv", find(20, "conv"), fixed("20_Conv2d"));
    compare("21 tanh", find(21, "tanh"), fixed("21_Tanh"));
    compare("10 branch", find(10, "branch"), fixed("10_block"));
    compare("10 channel gate", find(10, "channel-gate"), fixed("10_ca_gate"));
    compare("10 channel attention", find(10, "channel-attention"), fixed("10_ca_out"));
    compare("10 residual block", find(10, "residual"), fixed("10_ResidualBlockWithCBAM"));
    assert!(worst <= TOLERANCE, "{worst:e}");
}

#[test]
fn who_is_asked_between_layers_can_end_the_work() {
    let network = network(recipe("narrow", 2, 1, true, 16), "f32");
    let input = Tensor::from_vec(uniform("x/stop", 2 * 40 * 36), (1, 2, 40, 36), &Device::Cpu).unwrap();
    let mut asked = 0;
    let mut stop = |_: usize, _: &'static str, _: &dyn Fn() -> Result<Tensor>| {
        asked += 1;
        if asked == 3 { Err(candle_core::Error::Msg("enough".into())) } else { Ok(()) }
    };
    let error = network.forward(&input, &mut stop).expect_err("it was stopped");
    assert!(error.to_string().contains("enough") && asked == 3, "{error}");
}

#[test]
fn a_card_computes_in_f32_or_bf16() {
    for precision in ["auto", "f32", "f32x3", "bf16"] {
        let engine = CudaEngine::on(Device::Cpu, precision).unwrap();
        // A host refuses a stage that computes in another arithmetic than it was asked for.
        assert!(precision == "auto" || engine.precision().name() == precision);
    }
    assert!(CudaEngine::on(Device::Cpu, "int8").err().expect("no int8").to_string().contains("found int8"));
}
