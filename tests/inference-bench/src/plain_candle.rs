//! The DuCoSy generator out of Candle's own operations: what a straightforward port costs.
//!
//! It gives the same numbers as the engine's (the comparison prints how far they are apart) and is built the obvious way:
//! a border by selecting rows and columns, a norm by mean and variance, an enlarged tensor for each enlargement.

use std::collections::HashMap;

use candle_core::{D, Device, Result, Tensor, bail};
use gantry_weights::StateDict;

/// The network with its weights by their published names.
pub struct PlainGenerator {
    weights: HashMap<String, Tensor>,
    blocks: usize,
    cbam: bool,
}

impl PlainGenerator {
    /// Takes all tensors.
    pub fn new(weights: &StateDict, blocks: usize, cbam: bool) -> Result<Self> {
        let tensor = |value: &gantry_weights::Tensor| Tensor::from_vec(value.to_f32(), value.shape(), &Device::Cpu);
        let weights = weights.iter().map(|(key, value)| Ok((key.to_owned(), tensor(value)?)));
        Ok(Self { weights: weights.collect::<Result<_>>()?, blocks, cbam })
    }

    /// `[N, cin, H, W]` in [-1, 1] to `[N, 1, H, W]`.
    pub fn forward(&self, input: &Tensor) -> Result<Tensor> {
        let mut x = norm(&self.conv(&mirrored(input, 3)?, "model.1", 0, 1)?)?.relu()?;
        for key in ["model.4", "model.7"] {
            x = norm(&self.conv(&x, key, 1, 2)?)?.relu()?;
        }
        for at in 10..10 + self.blocks {
            let y = norm(&self.conv(&mirrored(&x, 1)?, &format!("model.{at}.block.1"), 0, 1)?)?.relu()?;
            let y = norm(&self.conv(&mirrored(&y, 1)?, &format!("model.{at}.block.5"), 0, 1)?)?;
            x = (x + if self.cbam { self.attention(&y, at)? } else { y })?;
        }
        for at in [11, 15] {
            let (_, _, height, width) = x.dims4()?;
            let large = x.upsample_nearest2d(2 * height, 2 * width)?;
            x = norm(&self.conv(&large, &format!("model.{}", at + self.blocks), 1, 1)?)?.relu()?;
        }
        self.conv(&mirrored(&x, 3)?, &format!("model.{}", 19 + self.blocks), 0, 1)?.tanh()
    }

    fn attention(&self, x: &Tensor, at: usize) -> Result<Tensor> {
        let key = |part: &str| format!("model.{at}.cbam.{part}");
        let planes = x.flatten_from(2)?;
        let shared = |pooled: Tensor| {
            let pooled = pooled.unsqueeze(3)?;
            let hidden = self.conv(&pooled, &key("channel_attention.fc.0"), 0, 1)?.relu()?;
            self.conv(&hidden, &key("channel_attention.fc.2"), 0, 1)
        };
        let gate = (shared(planes.mean_keepdim(2)?)? + shared(planes.max_keepdim(2)?)?)?;
        let x = x.broadcast_mul(&sigmoid(&gate)?)?;
        let pooled = Tensor::cat(&[x.mean_keepdim(1)?, x.max_keepdim(1)?], 1)?;
        x.broadcast_mul(&sigmoid(&self.conv(&pooled, &key("spatial_attention.conv"), 3, 1)?)?)
    }

    /// The convolution under `key`, with its bias where it has one.
    fn conv(&self, x: &Tensor, key: &str, padding: usize, stride: usize) -> Result<Tensor> {
        let Some(weight) = self.weights.get(&format!("{key}.weight")) else { bail!("no weights `{key}`") };
        let y = x.conv2d(weight, padding, stride, 1, 1)?;
        match self.weights.get(&format!("{key}.bias")) {
            Some(bias) => y.broadcast_add(&bias.reshape((1, (), 1, 1))?),
            None => Ok(y),
        }
    }
}

/// A border of `width` pixels, mirrored without repeating the edge.
fn mirrored(x: &Tensor, width: usize) -> Result<Tensor> {
    let mut x = x.clone();
    for axis in [2, 3] {
        let last = x.dim(axis)? - 1;
        let place = |at: usize| if at < width { width - at } else { (at - width).min(2 * last + width - at) };
        let places: Vec<u32> = (0..=last + 2 * width).map(|at| place(at) as u32).collect();
        x = x.index_select(&Tensor::new(places, &Device::Cpu)?, axis)?;
    }
    x.contiguous()
}

/// Every plane to mean 0 and variance 1.
fn norm(x: &Tensor) -> Result<Tensor> {
    let planes = x.flatten_from(2)?;
    let centred = planes.broadcast_sub(&planes.mean_keepdim(D::Minus1)?)?;
    let deviation = (centred.sqr()?.mean_keepdim(D::Minus1)? + 1e-5)?.sqrt()?;
    centred.broadcast_div(&deviation)?.reshape(x.shape())
}

/// `1 / (1 + exp(-x))`.
fn sigmoid(x: &Tensor) -> Result<Tensor> {
    (x.neg()?.exp()? + 1.0)?.recip()
}

#[cfg(test)]
mod tests {
    use cyclegan_generator::network::{Calibration, DucosyGenerator, Sizes};
    use gantry_neural::{ComputeDevice, Engine, Isa, NetworkWeights, Precision};
    use gantry_tests::recipe;

    use super::*;

    #[test]
    fn it_is_the_same_network() -> Result<()> {
        for cbam in [true, false] {
            let sizes = [("width", 64), ("cin", 2), ("blocks", 1), ("cbam", i64::from(cbam))];
            let weights = recipe::generator("plain", sizes);
            let input = Tensor::from_vec(recipe::uniform("input", 2 * 24 * 16), (1, 2, 24, 16), &Device::Cpu)?;
            let plain = PlainGenerator::new(&weights, 1, cbam)?.forward(&input)?;
            let tensors = NetworkWeights::new(weights, ComputeDevice::Cpu).expect("weights");
            let engine = Engine::new(Isa::best(), Precision::F32)?;
            let ours = DucosyGenerator::new(&engine, tensors, Sizes { blocks: 1, cbam }, &Calibration::new())?;
            let ours = ours.forward(&input, &mut |_, _, _| Ok(()))?;
            assert_eq!(plain.dims(), ours.dims());
            let worst = (plain - ours)?.abs()?.max_all()?.to_scalar::<f32>()?;
            assert!(worst < 1e-4, "{worst:e}");
        }
        Ok(())
    }
}
