//! The network of `bench_torch.py`'s case `unet` on the engine: a plain U-Net in three dimensions as nnU-Net plans it.
//!
//! Two 3 x 3 x 3 convolutions a stage, each followed by instance norm with gain and shift and a leaky ReLU; halved by
//! stride, doubled by transposed convolutions whose kernel is their stride.

use gantry_neural::{ComputeDevice, Engine, NetworkWeights, Precision, Unet, UnetPlan};
use gantry_tests::recipe;
use gantry_weights::StateDict;

/// The network of weights named as `bench_torch.py` names them; `features` are the channels of the stages.
pub fn network(engine: &Engine, weights: StateDict, classes: usize, features: &[usize]) -> Result<Unet, String> {
    let mut renamed = StateDict::new();
    for (key, tensor) in weights {
        renamed.insert(published(&key, features.len()), tensor).map_err(|error| error.to_string())?;
    }
    let mut strides = vec![[2; 3]; features.len()];
    strides[0] = [1; 3];
    let plan = UnetPlan::plain(1, classes, features, &vec![[3; 3]; features.len()], &strides);
    let weights = NetworkWeights::new(renamed, ComputeDevice::Cpu).map_err(|error| error.to_string())?;
    Unet::new(engine, weights, &plan).map_err(|error| error.to_string())
}

/// nnU-Net's key of one of `bench_torch.py`'s, whose stages are lists of convolution, norm and activation, twice.
fn published(key: &str, stages: usize) -> String {
    let parts: Vec<&str> = key.split('.').collect();
    let layer = |at: &str| at.parse::<usize>().map_or((0, "?"), |at| (at / 3, ["conv", "norm", "?"][at % 3]));
    match parts[..] {
        ["down", stage, at, tensor] => {
            let (number, part) = layer(at);
            format!("encoder.stages.{stage}.0.convs.{number}.{part}.{tensor}")
        }
        ["up", step, at, tensor] => {
            let (number, part) = layer(at);
            format!("decoder.stages.{step}.convs.{number}.{part}.{tensor}")
        }
        ["enlarge", step, tensor] => format!("decoder.transpconvs.{step}.{tensor}"),
        ["head", tensor] => format!("decoder.seg_layers.{}.{tensor}", stages - 2),
        _ => key.to_owned(),
    }
}

/// Precisions that differ for this network: it has no calibration, so `int8` would be `bf16`.
pub fn takes(precision: Precision) -> bool {
    precision != Precision::Int8
}

/// Makes a convolution's tensors from its name, first axes and kernel of its weight, outputs, and inputs of each sum.
type MakeConv<'a> = dyn FnMut(&str, [usize; 3], usize, usize) -> gantry_weights::Result<()> + 'a;

/// Weights made by the recipe, by the names that `bench_torch.py` gives them.
pub fn weights(channels: usize, classes: usize, features: &[usize]) -> gantry_weights::Result<StateDict> {
    let mut dict = StateDict::new();
    let mut tensor = |key: String, shape: &[usize], scale: f32, offset: f32| {
        let values = recipe::uniform(&format!("unet/{key}"), shape.iter().product());
        let values: Vec<f32> = values.into_iter().map(|x| offset + scale * x).collect();
        dict.insert(key, gantry_weights::Tensor::from_f32(shape.to_vec(), &values)?)
    };
    let mut conv = |key: &str, shape: [usize; 3], outputs: usize, fan_in: usize| {
        let scale = (3.0 / fan_in as f32).sqrt();
        let [first, second, kernel] = shape;
        tensor(format!("{key}.weight"), &[first, second, kernel, kernel, kernel], scale, 0.0)?;
        tensor(format!("{key}.bias"), &[outputs], 0.1, 0.0)
    };
    let mut norms = Vec::new();
    let mut stage = |conv: &mut MakeConv<'_>, key: &str, before: usize, width: usize| {
        for (at, inputs) in [before, width].into_iter().enumerate() {
            conv(&format!("{key}.{}", 3 * at), [width, inputs, 3], width, 27 * inputs)?;
            norms.push((format!("{key}.{}", 3 * at + 1), width));
        }
        Ok::<_, gantry_weights::Error>(())
    };
    for (at, &width) in features.iter().enumerate() {
        let before = if at == 0 { channels } else { features[at - 1] };
        stage(&mut conv, &format!("down.{at}"), before, width)?;
    }
    for (step, pair) in features.windows(2).rev().enumerate() {
        conv(&format!("enlarge.{step}"), [pair[1], pair[0], 2], pair[0], pair[1])?;
        stage(&mut conv, &format!("up.{step}"), 2 * pair[0], pair[0])?;
    }
    conv("head", [classes, features[0], 1], classes, features[0])?;
    for (key, width) in norms {
        tensor(format!("{key}.weight"), &[width], 0.3, 1.0)?;
        tensor(format!("{key}.bias"), &[width], 0.2, 0.0)?;
    }
    Ok(dict)
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Result, Tensor};
    use gantry_neural::Isa;

    use super::*;

    const EPS: f64 = 1e-5;
    /// What negative values are multiplied with.
    const SLOPE: f64 = 0.01;

    /// Channels of one volume, in f64.
    #[derive(Clone)]
    struct Volume {
        channels: Vec<Vec<f64>>,
        size: [usize; 3],
    }

    fn values(dict: &StateDict, key: &str) -> Vec<f64> {
        dict.get(key).expect("the tensor").to_f32().into_iter().map(f64::from).collect()
    }

    fn places(size: [usize; 3]) -> impl Iterator<Item = [usize; 3]> {
        (0..size.iter().product()).map(move |at| [at / (size[1] * size[2]), at / size[2] % size[1], at % size[2]])
    }

    fn conv(dict: &StateDict, key: &str, x: &Volume, kernel: usize, stride: usize) -> Volume {
        let (weight, bias) = (values(dict, &format!("{key}.weight")), values(dict, &format!("{key}.bias")));
        let size = x.size.map(|n| n.div_ceil(stride));
        let taps = kernel.pow(3);
        let sum = |output: usize, to: [usize; 3]| {
            let mut sum = bias[output];
            for (input, plane) in x.channels.iter().enumerate() {
                for (tap, from) in places([kernel; 3]).enumerate() {
                    let at: [usize; 3] = std::array::from_fn(|i| to[i] * stride + from[i]);
                    if (0..3).all(|i| (kernel / 2..x.size[i] + kernel / 2).contains(&at[i])) {
                        let [z, y, x_at] = at.map(|at| at - kernel / 2);
                        let factor = weight[(output * x.channels.len() + input) * taps + tap];
                        sum += factor * plane[(z * x.size[1] + y) * x.size[2] + x_at];
                    }
                }
            }
            sum
        };
        let channels = (0..bias.len()).map(|output| places(size).map(|to| sum(output, to)).collect()).collect();
        Volume { channels, size }
    }

    fn norm(dict: &StateDict, key: &str, mut x: Volume) -> Volume {
        let (gain, shift) = (values(dict, &format!("{key}.weight")), values(dict, &format!("{key}.bias")));
        for (channel, plane) in x.channels.iter_mut().enumerate() {
            let count = plane.len() as f64;
            let mean = plane.iter().sum::<f64>() / count;
            let variance = plane.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / count;
            for v in plane.iter_mut() {
                *v = (*v - mean) / (variance + EPS).sqrt() * gain[channel] + shift[channel];
                *v = if *v < 0.0 { *v * SLOPE } else { *v };
            }
        }
        x
    }

    fn stage(dict: &StateDict, key: &str, x: &Volume, stride: usize) -> Volume {
        let x = norm(dict, &format!("{key}.1"), conv(dict, &format!("{key}.0"), x, 3, stride));
        norm(dict, &format!("{key}.4"), conv(dict, &format!("{key}.3"), &x, 3, 1))
    }

    fn enlarged(dict: &StateDict, key: &str, x: &Volume) -> Volume {
        let (weight, bias) = (values(dict, &format!("{key}.weight")), values(dict, &format!("{key}.bias")));
        let size = x.size.map(|n| 2 * n);
        let sum = |output: usize, to: [usize; 3]| {
            let [z, y, column] = to.map(|at| at / 2);
            let tap = (to[0] % 2 * 2 + to[1] % 2) * 2 + to[2] % 2;
            let from = (z * x.size[1] + y) * x.size[2] + column;
            let product =
                |(input, plane): (usize, &Vec<f64>)| weight[(input * bias.len() + output) * 8 + tap] * plane[from];
            bias[output] + x.channels.iter().enumerate().map(product).sum::<f64>()
        };
        let channels = (0..bias.len()).map(|output| places(size).map(|to| sum(output, to)).collect()).collect();
        Volume { channels, size }
    }

    #[test]
    fn it_is_the_network_by_its_definition() -> Result<()> {
        let (features, size) = ([5, 9, 17], [4, 8, 12]);
        let dict = weights(1, 3, &features).expect("weights");
        let input = recipe::uniform("unet/input", size.iter().product());
        let planes: Vec<f64> = input.iter().map(|&v| f64::from(v)).collect();

        let first = stage(&dict, "down.0", &Volume { channels: vec![planes], size }, 1);
        let second = stage(&dict, "down.1", &first, 2);
        let mut x = stage(&dict, "down.2", &second, 2);
        for (step, skip) in [second, first].into_iter().enumerate() {
            x = enlarged(&dict, &format!("enlarge.{step}"), &x);
            x.channels.extend(skip.channels);
            x = stage(&dict, &format!("up.{step}"), &x, 1);
        }
        let expected = conv(&dict, "head", &x, 1, 1).channels.concat();

        let tensor = Tensor::from_vec(input, (1, 1, size[0], size[1], size[2]), &Device::Cpu)?;
        for isa in Isa::all() {
            for (precision, most) in [(Precision::F32, 1e-4), (Precision::F32x3, 1e-3), (Precision::Bf16, 0.2)] {
                let network = network(&Engine::new(isa, precision)?, dict.clone(), 3, &features).expect("a network");
                let out = network.forward(&tensor)?;
                assert_eq!(out.dims(), [1, 3, size[0], size[1], size[2]]);
                let found = out.flatten_all()?.to_vec1::<f32>()?;
                let worst = found.iter().zip(&expected).map(|(a, b)| (f64::from(*a) - b).abs()).fold(0.0, f64::max);
                assert!(worst < most, "{isa} {precision}: {worst:e}");
            }
        }
        Ok(())
    }
}
