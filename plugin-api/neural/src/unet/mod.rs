//! The networks of nnU-Net v2, `PlainConvUNet` and `ResidualEncoderUNet`, in the blocked layout from the first layer to
//! the last.
//!
//! A stage's result exists only as what reads it wants it: as input of the next stage, as input of the decoder (the same
//! memory where both want the same), and for a residual encoder as what its next block adds to. The skip is not
//! concatenated: the decoder's convolution has two inputs.

mod encoder;
mod layer;
mod plan;

use std::rc::Rc;

use crate::blocked::{Blocked, Cells, Finish, Shape};
use crate::checkpoint::NetworkWeights;
use crate::conv::{Conv, ConvConfig, Kind};
use crate::engine::{Engine, whole_network};
use candle_core::{Result, Tensor, bail};
use encoder::Encoder;
use layer::{Layer, Layers, Sizes};
pub use plan::{UnetEncoder, UnetPlan};

/// An nnU-Net: planes `[N, C, (D,) H, W]` to logits of the same size.
pub struct Unet {
    engine: Engine,
    plan: UnetPlan,
    encoder: Encoder,
    decoder: Vec<Step>,
    head: Conv,
}

/// A stage of the decoder: enlarge what is below, join it with the skip, convolve.
struct Step {
    enlarge: Conv,
    layers: Vec<Layer>,
}

impl Unet {
    /// Takes all tensors out of `weights`; see [`UnetPlan::published`] for those of a trainer's checkpoint.
    ///
    /// # Errors
    /// If the plan does not fit together, or a tensor is missing, of another shape, or left over.
    pub fn new(engine: &Engine, mut weights: NetworkWeights, plan: &UnetPlan) -> Result<Self> {
        plan.check()?;
        let mut layers = Layers { engine, weights: &mut weights, plan };
        let encoder = Encoder::new(&mut layers)?;
        let mut decoder = Vec::with_capacity(plan.decoder.len());
        for (at, &count) in plan.decoder.iter().enumerate() {
            // The stage of the encoder whose result is joined.
            let skip = plan.stages() - 2 - at;
            let (low, high) = (plan.features[skip + 1], plan.features[skip]);
            let stride = plan.strides[skip + 1];
            let sizes = Sizes { inputs: &[low], outputs: high, kernel: stride, stride };
            let config = ConvConfig { kind: Kind::Transposed { extra: [0; 3] }, ..ConvConfig::default() };
            let enlarge = layers.conv(&format!("decoder.transpconvs.{at}"), sizes, plan.bias, config)?;
            let kernel = plan.kernels[skip];
            let both = (0..count)
                .map(|conv| {
                    let inputs: &[usize] = if conv == 0 { &[high, high] } else { &[high] };
                    let sizes = Sizes { inputs, outputs: high, kernel, stride: [1; 3] };
                    layers.layer(&format!("decoder.stages.{at}.convs.{conv}"), sizes, false)
                })
                .collect::<Result<_>>()?;
            decoder.push(Step { enlarge, layers: both });
        }
        let head = Sizes { inputs: &[plan.features[0]], outputs: plan.classes, kernel: [1; 3], stride: [1; 3] };
        let key = format!("decoder.seg_layers.{}", plan.stages() - 2);
        let head = layers.conv(&key, head, true, ConvConfig::default())?;
        weights.finish()?;
        Ok(Self { engine: engine.clone(), plan: plan.clone(), encoder, decoder, head })
    }

    /// What it was made of.
    pub fn plan(&self) -> &UnetPlan {
        &self.plan
    }

    /// Bytes of the packed weights.
    pub fn weight_bytes(&self) -> usize {
        let steps = self
            .decoder
            .iter()
            .map(|step| step.enlarge.bytes() + step.layers.iter().map(|layer| layer.conv.bytes()).sum::<usize>());
        self.encoder.bytes() + steps.sum::<usize>() + self.head.bytes()
    }

    /// Logits of a patch, `[N, C, (D,) H, W]` to `[N, classes, (D,) H, W]`, as one Candle operation.
    ///
    /// # Errors
    /// If the tensor is not f32 of rank 4 or 5 on the CPU with the plan's channels, or a side is not a multiple of
    /// [`UnetPlan::multiple`].
    pub fn forward(&self, input: &Tensor) -> Result<Tensor> {
        whole_network(input, &|planes, shape| self.logits(planes, shape))
    }

    /// Logits of planes `[N][C][D][H][W]`.
    ///
    /// # Errors
    /// As [`Unet::forward`].
    pub fn logits(&self, planes: &[f32], shape: Shape) -> Result<(Vec<f32>, Shape)> {
        let multiple = self.plan.multiple();
        if shape.channels != self.plan.channels || (0..3).any(|axis| !shape.size[axis].is_multiple_of(multiple[axis])) {
            bail!(
                "U-Net: {} channels and sides that are multiples of {multiple:?} expected, found {} channels of {:?}",
                self.plan.channels,
                shape.channels,
                shape.size
            )
        }
        let engine = &self.engine;
        let skips = self.decoder.iter().rev().map(|step| step.layers[0].entry());
        let below = self.decoder[0].enlarge.entry();
        let (mut skips, mut cells) = self.encoder.forward(engine, planes, shape, &skips.collect::<Vec<_>>(), below)?;
        for (at, step) in self.decoder.iter().enumerate() {
            let large = step.enlarge.forward(&[&cells])?;
            drop(cells);
            let Some(skip) = skips.pop() else { bail!("U-Net: a skip is missing") };
            let raw = step.join(engine, large, skip)?;
            let next = self.decoder.get(at + 1).map_or(self.head.entry(), |next| next.enlarge.entry());
            let Some(last) = step.layers.last() else { bail!("U-Net: a stage without convolutions") };
            cells = Rc::new(engine.cells(&last.finish(&raw)?, &raw, next)?);
        }
        let out = self.head.forward(&[&cells])?;
        drop(cells);
        Ok((out.to_planes(), out.shape()))
    }
}

impl Step {
    /// Convolves `large` joined with `skip`.
    fn join(&self, engine: &Engine, large: Blocked, skip: Rc<Cells>) -> Result<Blocked> {
        let Some((first, rest)) = self.layers.split_first() else { bail!("U-Net: a stage without convolutions") };
        let cells = engine.cells(&Finish::default(), &large, first.entry())?;
        drop(large);
        let raw = first.conv.forward(&[&cells, &*skip])?;
        drop((cells, skip));
        layer::chain_from(engine, first, rest, raw)
    }
}
