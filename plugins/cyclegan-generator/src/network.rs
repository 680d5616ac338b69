//! The generator of DuCoSy-GAN: stem, two strided convolutions, residual blocks with attention, two enlarging
//! convolutions, head. Pure Candle and gantry-neural; it knows neither stages nor checkpoints on disk.
//!
//! Module numbers are those of the published flat sequential (DuCoSy specification, section 1), which the keys of the
//! weights carry.

use candle_core::{Result, Tensor};
use gantry_neural::{
    Activation, Conv2d, Conv2dConfig, NetworkWeights, Padding, add, add_gated, gate_planes, instance_norm,
    pool_channels, pool_planes,
};

/// Added to the variance by every instance normalisation.
const EPS: f64 = 1e-5;

/// Sizes of a generator, as read off its weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// Residual blocks; 9 as published.
    pub blocks: usize,
    /// Whether residual blocks have attention.
    pub cbam: bool,
}

/// What [`DucosyGenerator::forward`] reports while it works: module number, what it is, and the tensor.
pub type Trace<'a> = dyn FnMut(usize, &'static str, &Tensor) -> Result<()> + 'a;

/// The network: `[N, cin, H, W]` in [-1, 1] (image, then masks as 0 and 1) to `[N, 1, H', W']` in [-1, 1] with
/// `H' = 4 * ceil(ceil(H / 2) / 2)`, which is H for multiples of 4.
pub struct DucosyGenerator {
    stem: Conv2d,
    down: [Conv2d; 2],
    blocks: Vec<ResidualBlock>,
    up: [Conv2d; 2],
    head: Conv2d,
}

impl DucosyGenerator {
    /// Takes all tensors out of `weights`.
    ///
    /// # Errors
    /// If a tensor is missing, of another rank, or left over.
    pub fn new(mut weights: NetworkWeights, sizes: Sizes) -> Result<Self> {
        let take = &mut weights;
        let step = |stride, upsample| Conv2dConfig { padding: Padding::Zero(1), stride, upsample };
        let border = |width| Conv2dConfig { padding: Padding::Reflect(width), ..Conv2dConfig::default() };
        let after = 10 + sizes.blocks;
        let network = Self {
            stem: conv(take, "model.1", border(3))?,
            down: [conv(take, "model.4", step(2, false))?, conv(take, "model.7", step(2, false))?],
            blocks: (10..after).map(|at| ResidualBlock::new(take, at, sizes.cbam)).collect::<Result<_>>()?,
            up: [
                conv(take, &format!("model.{}", after + 1), step(1, true))?,
                conv(take, &format!("model.{}", after + 5), step(1, true))?,
            ],
            head: conv(take, &format!("model.{}", after + 9), border(3))?,
        };
        weights.finish()?;
        Ok(network)
    }

    /// Channels of the input: the image and its masks.
    pub fn channels(&self) -> usize {
        self.stem.weight_shape()[1]
    }

    /// Channels after the stem; 64 as published.
    pub fn width(&self) -> usize {
        self.stem.weight_shape()[0]
    }

    /// Runs the network. `trace` sees every stage of the work and may end it with an error.
    ///
    /// # Errors
    /// If the picture has other channels or is too small to mirror (each side must be 5 or more), or `trace` says so.
    pub fn forward(&self, input: &Tensor, trace: &mut Trace<'_>) -> Result<Tensor> {
        let mut x = traced(trace, 1, "conv", self.stem.forward(input)?)?;
        x = traced(trace, 3, "norm-relu", instance_norm(&x, EPS, Activation::Relu)?)?;
        for (at, conv) in [4, 7].into_iter().zip(&self.down) {
            x = traced(trace, at, "conv", conv.forward(&x)?)?;
            x = traced(trace, at + 2, "norm-relu", instance_norm(&x, EPS, Activation::Relu)?)?;
        }
        for (at, block) in (10..).zip(&self.blocks) {
            x = block.forward(&x, at, trace)?;
            x = traced(trace, at, "residual", x)?;
        }
        let after = 10 + self.blocks.len();
        for (at, conv) in [after + 1, after + 5].into_iter().zip(&self.up) {
            x = traced(trace, at, "conv", conv.forward(&x)?)?;
            x = traced(trace, at + 2, "norm-relu", instance_norm(&x, EPS, Activation::Relu)?)?;
        }
        x = traced(trace, after + 9, "conv", self.head.forward(&x)?)?;
        traced(trace, after + 10, "tanh", x.tanh()?)
    }
}

fn traced(trace: &mut Trace<'_>, at: usize, what: &'static str, x: Tensor) -> Result<Tensor> {
    trace(at, what, &x)?;
    Ok(x)
}

/// The convolution of `<key>.weight` and `<key>.bias`.
fn conv(weights: &mut NetworkWeights, key: &str, config: Conv2dConfig) -> Result<Conv2d> {
    let weight = weights.take(&format!("{key}.weight"))?;
    let bias = weights.take(&format!("{key}.bias"))?;
    Conv2d::new(&weight, Some(&bias), config)
}

/// `x + attention(branch(x))`, where the branch is two mirrored 3 x 3 convolutions; nothing follows the sum.
struct ResidualBlock {
    first: Conv2d,
    second: Conv2d,
    attention: Option<Cbam>,
}

impl ResidualBlock {
    fn new(weights: &mut NetworkWeights, at: usize, cbam: bool) -> Result<Self> {
        let config = Conv2dConfig { padding: Padding::Reflect(1), ..Conv2dConfig::default() };
        Ok(Self {
            first: conv(weights, &format!("model.{at}.block.1"), config)?,
            second: conv(weights, &format!("model.{at}.block.5"), config)?,
            attention: cbam.then(|| Cbam::new(weights, at)).transpose()?,
        })
    }

    fn forward(&self, x: &Tensor, at: usize, trace: &mut Trace<'_>) -> Result<Tensor> {
        let branch = instance_norm(&self.first.forward(x)?, EPS, Activation::Relu)?;
        let branch = instance_norm(&self.second.forward(&branch)?, EPS, Activation::None)?;
        let branch = traced(trace, at, "branch", branch)?;
        match &self.attention {
            Some(attention) => attention.add_to(x, &branch, at, trace),
            None => add(x, &branch),
        }
    }
}

/// Attention over channels, then over pixels.
struct Cbam {
    squeeze: Conv2d,
    excite: Conv2d,
    spatial: Conv2d,
}

impl Cbam {
    fn new(weights: &mut NetworkWeights, at: usize) -> Result<Self> {
        let mut conv = |key: &str, padding| {
            let weight = weights.take(&format!("model.{at}.cbam.{key}.weight"))?;
            Conv2d::new(&weight, None, Conv2dConfig { padding: Padding::Zero(padding), ..Conv2dConfig::default() })
        };
        Ok(Self {
            squeeze: conv("channel_attention.fc.0", 0)?,
            excite: conv("channel_attention.fc.2", 0)?,
            spatial: conv("spatial_attention.conv", 3)?,
        })
    }

    /// `x + attention(branch)`.
    fn add_to(&self, x: &Tensor, branch: &Tensor, at: usize, trace: &mut Trace<'_>) -> Result<Tensor> {
        let gate = traced(trace, at, "channel-gate", self.channel_gate(branch)?)?;
        let branch = traced(trace, at, "channel-attention", gate_planes(branch, &gate)?)?;
        let gate = sigmoid(&self.spatial.forward(&pool_channels(&branch)?)?)?;
        add_gated(x, &branch, &gate)
    }

    /// `sigmoid(mlp(mean) + mlp(max))`, one number per plane: `[N, C, 1, 1]`. Mean and maximum share the two layers, so
    /// they go through them as two pixels of one picture.
    fn channel_gate(&self, branch: &Tensor) -> Result<Tensor> {
        let pooled = pool_planes(branch)?.transpose(1, 2)?.contiguous()?; // [N, C, 2, 1]
        let both = self.excite.forward(&self.squeeze.forward(&pooled)?.relu()?)?;
        sigmoid(&(both.narrow(2, 0, 1)? + both.narrow(2, 1, 1)?)?)
    }
}

/// `1 / (1 + exp(-x))`.
fn sigmoid(x: &Tensor) -> Result<Tensor> {
    (x.neg()?.exp()? + 1.0)?.recip()
}
