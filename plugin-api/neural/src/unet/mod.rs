//! The networks of nnU-Net v2, `PlainConvUNet` and `ResidualEncoderUNet`, in the blocked layout from the first layer to
//! the last.
//!
//! A stage's result exists only as what reads it wants it: as input of the next stage, as input of the decoder (the same
//! memory where both want the same), and for a residual encoder as what its next block adds to. The skip is not
//! concatenated: the decoder's convolution has two inputs.

mod encoder;
mod layer;
mod memory;
mod plan;

use std::rc::Rc;

use crate::blocked::{Blocked, Cells, Finish, Shape};
use crate::checkpoint::NetworkWeights;
use crate::conv::{Conv, ConvConfig, Kind};
use crate::engine::{Engine, whole_network};
use crate::kernels::LANES;
use candle_core::{Result, Tensor, bail};
use encoder::Encoder;
use layer::{Layer, Layers, Run, Sizes};
pub use plan::{UnetEncoder, UnetPlan};

/// Bytes of the logits that exist at once, roughly: what the caches hold.
const SLAB: usize = 16 << 20;

/// Gets the first plane of a slab, and its logits `[N][classes][planes][H][W]`.
type Sink<'a> = dyn FnMut(usize, &[f32]) -> Result<()> + 'a;

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
            let size = plan.size(skip + 1);
            let sizes = Sizes { inputs: &[low], outputs: high, kernel: stride, stride, size };
            let config = ConvConfig { kind: Kind::Transposed { extra: [0; 3] }, ..ConvConfig::default() };
            let enlarge = layers.conv(&format!("decoder.transpconvs.{at}"), sizes, plan.bias, config)?;
            let kernel = plan.kernels[skip];
            let both = (0..count)
                .map(|conv| {
                    let inputs: &[usize] = if conv == 0 { &[high, high] } else { &[high] };
                    let sizes = Sizes { inputs, outputs: high, kernel, stride: [1; 3], size: plan.size(skip) };
                    layers.layer(&format!("decoder.stages.{at}.convs.{conv}"), sizes, false)
                })
                .collect::<Result<_>>()?;
            decoder.push(Step { enlarge, layers: both });
        }
        let head = Sizes {
            inputs: &[plan.features[0]],
            outputs: plan.classes,
            kernel: [1; 3],
            stride: [1; 3],
            size: plan.size(0),
        };
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
        let out = Shape { channels: self.plan.classes, ..shape };
        out.check()?;
        let (plane, depth) = (shape.size[1] * shape.size[2], shape.size[0]);
        let mut all = vec![0f32; out.pictures * out.channels * out.pixels()];
        self.slabs(planes, shape, &|| Ok(()), &mut |first, slab| {
            let pixels = slab.len() / (out.pictures * out.channels);
            for (to, from) in all.chunks_exact_mut(depth * plane).zip(slab.chunks_exact(pixels)) {
                to[first * plane..first * plane + pixels].copy_from_slice(from);
            }
            Ok(())
        })?;
        Ok((all, out))
    }

    /// The same numbers as [`Unet::logits`] gives, a few planes along depth at a time, in their order: `sink` gets the first
    /// plane and `[N][classes][planes][H][W]`. The logits of the whole patch never exist at once; what is held at most is
    /// the last stage of the decoder.
    ///
    /// `go_on` is asked before every layer and every slab; its error ends the run.
    ///
    /// # Errors
    /// As [`Unet::forward`]; and those of `go_on` and `sink`.
    pub fn slabs(
        &self,
        planes: &[f32],
        shape: Shape,
        go_on: &dyn Fn() -> Result<()>,
        sink: &mut Sink<'_>,
    ) -> Result<()> {
        self.slabs_of(SLAB, planes, shape, go_on, sink)
    }

    /// The same with slabs of about so many bytes.
    fn slabs_of(
        &self,
        slab: usize,
        planes: &[f32],
        shape: Shape,
        go_on: &dyn Fn() -> Result<()>,
        sink: &mut Sink<'_>,
    ) -> Result<()> {
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
        let run = Run { engine, go_on };
        let skips = self.decoder.iter().rev().map(|step| step.layers[0].entry());
        let below = self.decoder[0].enlarge.entry();
        let (mut skips, mut cells) = self.encoder.forward(run, planes, shape, &skips.collect::<Vec<_>>(), below)?;
        for (at, step) in self.decoder.iter().enumerate() {
            let large = run.forward(&step.enlarge, &[&cells])?;
            drop(cells);
            let Some(skip) = skips.pop() else { bail!("U-Net: a skip is missing") };
            let raw = step.join(run, large, skip)?;
            let Some(last) = step.layers.last() else { bail!("U-Net: a stage without convolutions") };
            match self.decoder.get(at + 1) {
                Some(next) => cells = Rc::new(engine.cells(&last.finish(&raw)?, &raw, next.enlarge.entry())?),
                None => return self.head(run, last, &raw, slab, sink),
            }
        }
        bail!("U-Net: no decoder")
    }

    /// Logits of the last stage's raw result, a few planes at a time.
    fn head(&self, run: Run<'_>, last: &Layer, raw: &Blocked, slab: usize, sink: &mut Sink<'_>) -> Result<()> {
        let shape = raw.shape();
        let channels = self.plan.classes.max(shape.channels).next_multiple_of(LANES);
        let plane = shape.pictures * channels * shape.size[1] * shape.size[2] * 4;
        let each = (slab / plane.max(1)).clamp(1, shape.size[0]);
        for first in (0..shape.size[0]).step_by(each) {
            let planes = first..(first + each).min(shape.size[0]);
            let cells = run.engine.cells(&last.finish(raw)?.planes(planes), raw, self.head.entry())?;
            sink(first, &run.forward(&self.head, &[&cells])?.to_planes())?;
        }
        Ok(())
    }
}

impl Step {
    /// Convolves `large` joined with `skip`.
    fn join(&self, run: Run<'_>, large: Blocked, skip: Rc<Cells>) -> Result<Blocked> {
        let Some((first, rest)) = self.layers.split_first() else { bail!("U-Net: a stage without convolutions") };
        let cells = run.engine.cells(&Finish::default(), &large, first.entry())?;
        drop(large);
        let raw = run.forward(&first.conv, &[&cells, &*skip])?;
        drop((cells, skip));
        layer::chain_from(run, first, rest, raw)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ComputeDevice, Isa, Precision};
    use gantry_weights::StateDict;
    use gantry_weights::nnunet::{Encoder, Network};

    /// Weights that make a network of `plan` tell one voxel from another.
    fn weights(plan: &UnetPlan) -> NetworkWeights {
        let network = Network {
            features: plan.features.clone(),
            kernels: plan.kernels.clone(),
            strides: plan.strides.clone(),
            encoder: match &plan.encoder {
                UnetEncoder::Plain { convolutions } => Encoder::Plain { convolutions: convolutions.clone() },
                UnetEncoder::Residual { blocks, stem } => Encoder::Residual { blocks: blocks.clone(), stem: *stem },
            },
            decoder: plan.decoder.clone(),
            bias: plan.bias,
            affine: plan.affine,
            eps: plan.eps,
            slope: plan.slope,
        };
        let mut dict = StateDict::new();
        for tensor in network.expected(plan.channels, plan.classes) {
            let values = gantry_tests::recipe::uniform(&tensor.key, tensor.shape.iter().product());
            dict.insert(tensor.key, gantry_weights::Tensor::from_f32(tensor.shape, &values).unwrap()).unwrap();
        }
        NetworkWeights::new(dict, ComputeDevice::Cpu).unwrap()
    }

    #[test]
    fn slabs_are_the_whole_and_a_known_size_changes_nothing() {
        let plain = UnetPlan::plain(2, 18, &[5, 20, 33], &[[3; 3]; 3], &[[1; 3], [1, 2, 2], [2; 3]]);
        let residual = UnetPlan {
            encoder: UnetEncoder::Residual { blocks: vec![1, 2, 1], stem: 7 },
            decoder: vec![1, 2],
            ..plain.clone()
        };
        let shape = Shape { pictures: 1, channels: 2, size: [10, 12, 20] };
        let input = gantry_tests::recipe::uniform("slabs", 2 * shape.pixels());
        for (plan, precision) in [(&plain, Precision::F32x3), (&residual, Precision::F32), (&plain, Precision::Bf16)] {
            let engine = Engine::new(Isa::best(), precision).unwrap();
            let network = Unet::new(&engine, weights(plan), plan).unwrap();
            let (whole, out) = network.logits(&input, shape).unwrap();
            assert_eq!((out.channels, out.size, whole.len()), (18, shape.size, 18 * shape.pixels()));
            // One plane at a time, three, and all.
            for planes in [1, 3, 10] {
                let mut found = vec![f32::NAN; whole.len()];
                let mut next = 0;
                let bytes = planes * 32 * 12 * 20 * 4;
                let sink = &mut |first: usize, slab: &[f32]| {
                    assert_eq!(first, next);
                    let pixels = slab.len() / 18;
                    next = first + pixels / 240;
                    assert!(next == 10 || pixels == planes * 240);
                    for (class, slab) in slab.chunks_exact(pixels).enumerate() {
                        found[class * 2400 + first * 240..][..pixels].copy_from_slice(slab);
                    }
                    Ok(())
                };
                network.slabs_of(bytes, &input, shape, &|| Ok(()), sink).unwrap();
                assert_eq!(next, 10);
                assert!(found == whole, "{planes} planes");
            }
            let known = UnetPlan { patch: Some(shape.size), ..plan.clone() };
            let network = Unet::new(&engine, weights(plan), &known).unwrap();
            assert!(network.logits(&input, shape).unwrap().0 == whole, "a known size");
        }
        // Where layers are wide, their weights are kept once.
        let engine = Engine::new(Isa::best(), Precision::F32x3).unwrap();
        let bytes =
            |patch| Unet::new(&engine, weights(&plain), &UnetPlan { patch, ..plain.clone() }).unwrap().weight_bytes();
        assert!(engine.tiles() || bytes(Some(shape.size)) < bytes(None));
        let refused = UnetPlan { patch: Some([8, 8, 6]), ..plain.clone() }.check().unwrap_err().to_string();
        assert!(refused.contains("multiples of [2, 4, 4]"), "{refused}");
    }

    #[test]
    fn whoever_is_asked_before_layers_may_end_the_run() {
        let plan = UnetPlan::plain(1, 2, &[4, 6], &[[3; 3]; 2], &[[1; 3], [2; 3]]);
        let engine = Engine::new(Isa::best(), Precision::F32).unwrap();
        let network = Unet::new(&engine, weights(&plan), &plan).unwrap();
        let shape = Shape { pictures: 1, channels: 1, size: [4; 3] };
        let ran_to_end = |most: usize| {
            let asked = std::cell::Cell::new(0);
            let go_on = || {
                asked.set(asked.get() + 1);
                if asked.get() > most { bail!("enough") } else { Ok(()) }
            };
            let ran = network.slabs(&[0.5; 64], shape, &go_on, &mut |_, _| Ok(()));
            if let Err(error) = &ran {
                assert!(asked.get() == most + 1 && error.to_string().contains("enough"));
            }
            ran.is_ok()
        };
        // Three layers of the encoder behind the first, one that enlarges, two of the decoder, the head.
        assert!((0..7).all(|most| !ran_to_end(most)) && ran_to_end(7));
    }
}
