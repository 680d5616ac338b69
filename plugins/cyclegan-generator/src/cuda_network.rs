//! The generator of DuCoSy-GAN for NVIDIA cards: the layers of [`crate::network`] out of Candle tensors and the picture
//! operations of gantry-neural.
//!
//! It runs on whatever device its tensors are on. On the CPU it is slow and there to be compared with the published
//! program; the library of the feature `cuda` runs it on a card.
//!
//! A convolution that a normalisation follows has its bias left out: the mean takes it away again. Normalisation, attention
//! and the sum of the residual blocks are in f32, whatever the convolutions are in.

use candle_core::{DType, Device, Result, Tensor, bail};
use gantry_neural::cuda::{Frame, PictureConv, PictureOp, apply};
use gantry_neural::{NetworkWeights, Precision};
use gantry_plugin::Error;

use crate::network::{Calibration, Sizes, Trace};

/// Added to the variance by every instance normalisation.
const EPS: f32 = 1e-5;

/// A device and what convolutions compute with there: `f32` and `f32x3` in f32 without TF32, `bf16` in bf16 with sums in
/// f32. There is no int8.
pub struct CudaEngine {
    precision: Precision,
    device: Device,
}

/// What a card's engine calls its instructions.
#[derive(Debug, Clone, Copy)]
pub struct CudaInstructions;

impl CudaInstructions {
    /// For the host's record of what was computed with.
    pub fn name(self) -> &'static str {
        "cuda"
    }
}

impl CudaEngine {
    /// The card the host chose, for a stage's parameters; `auto` is f32.
    ///
    /// # Errors
    /// If a card does not compute in that precision, the instructions are those of a processor, or the card cannot be
    /// opened.
    #[cfg(feature = "cuda")]
    pub fn open(precision: &str, instructions: &str) -> gantry_plugin::Result<Self> {
        let precision = Self::precision_named(precision)?;
        if instructions != "auto" {
            let text = format!("instructions: {instructions} are a processor's; on a CUDA device leave them at auto");
            return Err(Error::bad_params(text));
        }
        let device = gantry_neural::cuda::open_device().map_err(Error::resource)?;
        Ok(Self { precision, device })
    }

    /// On a device that is open: the CPU, to be compared with.
    ///
    /// # Errors
    /// If a card does not compute in that precision.
    pub fn on(device: Device, precision: &str) -> gantry_plugin::Result<Self> {
        Ok(Self { precision: Self::precision_named(precision)?, device })
    }

    fn precision_named(name: &str) -> gantry_plugin::Result<Precision> {
        match name {
            "auto" | "f32" => Ok(Precision::F32),
            "f32x3" => Ok(Precision::F32x3),
            "bf16" => Ok(Precision::Bf16),
            other => {
                let text = format!("precision: on a CUDA device auto, f32, f32x3 or bf16 expected, found {other}");
                Err(Error::bad_params(text))
            }
        }
    }

    /// The precision.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// What it computes with.
    pub fn isa(&self) -> CudaInstructions {
        CudaInstructions
    }

    /// The type of what convolutions read.
    fn dtype(&self) -> DType {
        if self.precision == Precision::Bf16 { DType::BF16 } else { DType::F32 }
    }
}

/// The network: `[N, cin, H, W]` in [-1, 1] (image, then masks as 0 and 1) to `[N, 1, H', W']` in [-1, 1] with
/// `H' = 4 * ceil(ceil(H / 2) / 2)`, which is H for multiples of 4.
pub struct CudaGenerator {
    device: Device,
    dtype: DType,
    weight_bytes: usize,
    stem: Conv,
    down: [Conv; 2],
    blocks: Vec<ResidualBlock>,
    up: [Conv; 2],
    head: Conv,
}

impl CudaGenerator {
    /// Takes all tensors out of `weights` and moves them to the engine's device.
    ///
    /// # Errors
    /// If a tensor is missing, of another rank, or left over; if the device has no room; if there is a calibration, which
    /// is for int8.
    pub fn new(
        engine: &CudaEngine,
        mut weights: NetworkWeights,
        sizes: Sizes,
        calibration: &Calibration,
    ) -> Result<Self> {
        if !calibration.is_empty() {
            bail!("a calibration is for int8, which a card does not compute in")
        }
        let (dtype, device) = (engine.dtype(), engine.device.clone());
        let weight_bytes = weights.bytes() as usize;
        let place = Place { dtype, device: &device };
        let take = &mut weights;
        let after = 10 + sizes.blocks;
        let network = Self {
            stem: Conv::new(take, "model.1", 1, place)?,
            down: [Conv::new(take, "model.4", 2, place)?, Conv::new(take, "model.7", 2, place)?],
            blocks: (10..after).map(|at| ResidualBlock::new(take, at, sizes.cbam, place)).collect::<Result<_>>()?,
            up: [
                Conv::new(take, &format!("model.{}", after + 1), 1, place)?,
                Conv::new(take, &format!("model.{}", after + 5), 1, place)?,
            ],
            head: Conv::new(take, &format!("model.{}", after + 9), 1, place)?,
            device: device.clone(),
            dtype,
            weight_bytes,
        };
        weights.finish()?;
        Ok(network)
    }

    /// Channels of the input: the image and its masks.
    pub fn channels(&self) -> usize {
        self.stem.conv.weight_shape()[1]
    }

    /// Channels after the stem; 64 as published.
    pub fn width(&self) -> usize {
        self.stem.conv.weight_shape()[0]
    }

    /// Bytes of the weights in f32, which is what they take of the host's memory while they are moved.
    pub fn weight_bytes(&self) -> usize {
        self.weight_bytes
    }

    /// Between slices nothing is kept on the host.
    pub fn release(&self) {}

    /// Runs the network on an f32 input of any device; the output is on the CPU. `trace` sees every stage of the work and
    /// may end it with an error.
    ///
    /// # Errors
    /// If the picture has other channels or is too small to mirror (each side must be 5 or more), or `trace` says so.
    pub fn forward(&self, input: &Tensor, trace: &mut Trace<'_>) -> Result<Tensor> {
        let mut walk = Walk { trace, dtype: self.dtype };
        let walk = &mut walk;
        let input = input.to_device(&self.device)?;
        let x = walk.framed(&input, Frame::mirrored(3))?;
        let x = walk.convolved(1, &self.stem, &x)?;
        let x = walk.normal_relu(3, &x, Frame::zeros(1), self.dtype)?;
        let x = walk.convolved(4, &self.down[0], &x)?;
        let x = walk.normal_relu(6, &x, Frame::zeros(1), self.dtype)?;
        let x = walk.convolved(7, &self.down[1], &x)?;
        let mut x = walk.normal_relu(9, &x, Frame::default(), DType::F32)?;
        for (at, block) in (10..).zip(&self.blocks) {
            x = block.forward(&x, at, walk)?;
            walk.show(at, "residual", &x)?;
        }
        let after = 10 + self.blocks.len();
        let enlarged = Frame::zeros(1).enlarged();
        let x = walk.framed(&x, enlarged)?;
        let x = walk.convolved(after + 1, &self.up[0], &x)?;
        let x = walk.normal_relu(after + 3, &x, enlarged, self.dtype)?;
        let x = walk.convolved(after + 5, &self.up[1], &x)?;
        let x = walk.normal_relu(after + 7, &x, Frame::mirrored(3), self.dtype)?;
        let x = self.head.with_bias(&self.head.conv.forward(&x)?)?;
        walk.show(after + 9, "conv", &x)?;
        let x = x.tanh()?.to_device(&Device::Cpu)?;
        walk.show(after + 10, "tanh", &x)?;
        Ok(x)
    }
}

/// One way through the network: who watches, and the type of what convolutions read.
struct Walk<'a, 't> {
    trace: &'a mut Trace<'t>,
    dtype: DType,
}

impl Walk<'_, '_> {
    fn show(&mut self, at: usize, what: &'static str, x: &Tensor) -> Result<()> {
        (self.trace)(at, what, &|| x.to_device(&Device::Cpu))
    }

    /// As the next convolution reads it.
    fn framed(&self, x: &Tensor, frame: Frame) -> Result<Tensor> {
        apply(PictureOp::Place { frame, relu: false, dtype: self.dtype }, &[x])
    }

    /// A convolution without its bias, which is only added for who watches.
    fn convolved(&mut self, at: usize, conv: &Conv, x: &Tensor) -> Result<Tensor> {
        let out = conv.conv.forward(x)?;
        (self.trace)(at, "conv", &|| conv.with_bias(&out)?.to_device(&Device::Cpu))?;
        Ok(out)
    }

    /// Normalised, cut at 0, and framed for what follows.
    fn normal_relu(&mut self, at: usize, x: &Tensor, frame: Frame, dtype: DType) -> Result<Tensor> {
        let statistics = apply(PictureOp::Statistics { eps: EPS }, &[x])?;
        let place = |frame, dtype| apply(PictureOp::Place { frame, relu: true, dtype }, &[x, &statistics]);
        (self.trace)(at, "norm-relu", &|| place(Frame::default(), DType::F32)?.to_device(&Device::Cpu))?;
        place(frame, dtype)
    }
}

/// Where weights go, and as what.
#[derive(Clone, Copy)]
struct Place<'a> {
    dtype: DType,
    device: &'a Device,
}

/// A convolution and its bias, `[1, C, 1, 1]` f32.
struct Conv {
    conv: PictureConv,
    bias: Tensor,
}

impl Conv {
    fn new(weights: &mut NetworkWeights, key: &str, stride: usize, place: Place<'_>) -> Result<Self> {
        let weight = weights.take(&format!("{key}.weight"))?;
        let bias = weights.take(&format!("{key}.bias"))?;
        let bias = bias.reshape((1, weight.dim(0)?, 1, 1))?.to_device(place.device)?;
        Ok(Self { conv: PictureConv::new(&weight, stride, place.dtype, place.device)?, bias })
    }

    /// `x` plus the bias, in f32.
    fn with_bias(&self, x: &Tensor) -> Result<Tensor> {
        x.to_dtype(DType::F32)?.broadcast_add(&self.bias)
    }
}

/// `x + attention(branch(x))`, where the branch is two mirrored 3 x 3 convolutions; nothing follows the sum. `x` is f32.
struct ResidualBlock {
    first: Conv,
    second: Conv,
    attention: Option<Cbam>,
}

impl ResidualBlock {
    fn new(weights: &mut NetworkWeights, at: usize, cbam: bool, place: Place<'_>) -> Result<Self> {
        Ok(Self {
            first: Conv::new(weights, &format!("model.{at}.block.1"), 1, place)?,
            second: Conv::new(weights, &format!("model.{at}.block.5"), 1, place)?,
            attention: cbam.then(|| Cbam::new(weights, at, place)).transpose()?,
        })
    }

    fn forward(&self, x: &Tensor, at: usize, walk: &mut Walk<'_, '_>) -> Result<Tensor> {
        let dtype = walk.dtype;
        let normal = |x: &Tensor, relu, frame, dtype| {
            let statistics = apply(PictureOp::Statistics { eps: EPS }, &[x])?;
            apply(PictureOp::Place { frame, relu, dtype }, &[x, &statistics])
        };
        let branch = self.first.conv.forward(&walk.framed(x, Frame::mirrored(1))?)?;
        let branch = normal(&branch, true, Frame::mirrored(1), dtype)?;
        let branch = normal(&self.second.conv.forward(&branch)?, false, Frame::default(), DType::F32)?;
        walk.show(at, "branch", &branch)?;
        match &self.attention {
            Some(attention) => attention.add_to(x, &branch, at, walk),
            None => apply(PictureOp::Add, &[x, &branch]),
        }
    }
}

/// Attention over channels, then over pixels, in f32.
struct Cbam {
    squeeze: Tensor,
    excite: Tensor,
    spatial: Tensor,
}

impl Cbam {
    fn new(weights: &mut NetworkWeights, at: usize, place: Place<'_>) -> Result<Self> {
        let mut take = |key: &str| weights.take(&format!("model.{at}.cbam.{key}.weight"));
        Ok(Self {
            // As matrices: 1 x 1 convolutions over one pixel.
            squeeze: take("channel_attention.fc.0")?.flatten_from(1)?.to_device(place.device)?,
            excite: take("channel_attention.fc.2")?.flatten_from(1)?.to_device(place.device)?,
            spatial: take("spatial_attention.conv")?.to_device(place.device)?,
        })
    }

    /// `x + attention(branch)`.
    fn add_to(&self, x: &Tensor, branch: &Tensor, at: usize, walk: &mut Walk<'_, '_>) -> Result<Tensor> {
        let pooled = apply(PictureOp::PoolPlanes, &[branch])?;
        let gate = apply(PictureOp::ChannelGate, &[&pooled, &self.squeeze, &self.excite])?;
        walk.show(at, "channel-gate", &gate)?;
        let branch = apply(PictureOp::GatePlanes, &[branch, &gate])?;
        walk.show(at, "channel-attention", &branch)?;
        let pooled = apply(PictureOp::PoolChannels, &[&branch])?;
        let gate = apply(PictureOp::SpatialGate, &[&pooled, &self.spatial])?;
        apply(PictureOp::AddGated, &[x, &branch, &gate])
    }
}
