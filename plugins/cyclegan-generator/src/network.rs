//! The generator of DuCoSy-GAN: stem, two strided convolutions, residual blocks with attention, two enlarging
//! convolutions, head. It knows neither stages nor checkpoints on disk.
//!
//! The whole network is one Candle operation: activations stay in the engine's blocked layout from the first layer to the
//! last. Module numbers are those of the published flat sequential (DuCoSy specification, section 1), which the keys of
//! the weights carry.

use std::cell::RefCell;
use std::collections::BTreeMap;

use candle_core::{Device, Result, Tensor};
use gantry_neural::{
    Blocked, Cells, Conv, ConvConfig, Edge, Engine, Entry, Finish, Kind, NetworkWeights, Shape, Statistics, pixel_gate,
    whole_network,
};
use gantry_weights::Hyper;
use rayon::prelude::*;

/// Added to the variance by every instance normalisation.
const EPS: f64 = 1e-5;
/// Channels of the engine's blocks, to which gains are rounded up.
const BLOCK: usize = 16;

/// Sizes of a generator, as read off its weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// Residual blocks; 9 as published.
    pub blocks: usize,
    /// Whether residual blocks have attention.
    pub cbam: bool,
}

impl Sizes {
    /// Those that an architecture read off the weights.
    ///
    /// # Errors
    /// If the architecture is not a generator's.
    pub fn of(hyper: &Hyper) -> gantry_weights::Result<Self> {
        Ok(Self { blocks: hyper.size("blocks")?, cbam: hyper.flag("cbam") })
    }
}

/// For `int8`: the largest absolute value of each convolution's input, by the layer's key (`model.10.block.1`).
pub type Calibration = BTreeMap<String, f32>;

/// What [`DucosyGenerator::forward`] reports while it works: module number, what it is, and the activation as a tensor,
/// which is only made when asked for.
pub type Trace<'a> = dyn FnMut(usize, &'static str, &dyn Fn() -> Result<Tensor>) -> Result<()> + 'a;

/// The network: `[N, cin, H, W]` in [-1, 1] (image, then masks as 0 and 1) to `[N, 1, H', W']` in [-1, 1] with
/// `H' = 4 * ceil(ceil(H / 2) / 2)`, which is H for multiples of 4.
pub struct DucosyGenerator {
    engine: Engine,
    stem: Conv,
    down: [Conv; 2],
    blocks: Vec<ResidualBlock>,
    up: [Conv; 2],
    head: Conv,
}

impl DucosyGenerator {
    /// Takes all tensors out of `weights`.
    ///
    /// # Errors
    /// If a tensor is missing, of another rank, or left over.
    pub fn new(engine: &Engine, mut weights: NetworkWeights, sizes: Sizes, calibration: &Calibration) -> Result<Self> {
        let mut layers = Layers { engine, weights: &mut weights, calibration };
        let plain = ConvConfig { statistics: true, padding: [0, 1, 1], ..ConvConfig::default() };
        // What enters comes out of a ReLU, but for residual blocks after the first and what follows the last.
        let down = ConvConfig { stride: [1, 2, 2], not_negative: true, ..plain };
        let up = ConvConfig { kind: Kind::Enlarged { axes: [false, true, true] }, ..plain };
        let wide = ConvConfig { padding: [0, 3, 3], edge: Edge::Reflect, ..plain };
        let after = 10 + sizes.blocks;
        let network = Self {
            engine: engine.clone(),
            stem: layers.conv("model.1", ConvConfig { first: true, ..wide })?,
            down: [layers.conv("model.4", down)?, layers.conv("model.7", down)?],
            blocks: (10..after).map(|at| ResidualBlock::new(&mut layers, at, sizes.cbam)).collect::<Result<_>>()?,
            up: [
                layers.conv(&format!("model.{}", after + 1), ConvConfig { not_negative: sizes.blocks == 0, ..up })?,
                layers.conv(&format!("model.{}", after + 5), ConvConfig { not_negative: true, ..up })?,
            ],
            head: layers.conv(&format!("model.{}", after + 9), ConvConfig { statistics: false, ..wide })?,
        };
        weights.finish()?;
        Ok(network)
    }

    /// Channels of the input: the image and its masks.
    pub fn channels(&self) -> usize {
        self.stem.channels()
    }

    /// Channels after the stem; 64 as published.
    pub fn width(&self) -> usize {
        self.stem.outputs()
    }

    /// Bytes of the packed weights.
    pub fn weight_bytes(&self) -> usize {
        let blocks = self.blocks.iter().flat_map(|block| [&block.first, &block.second]);
        [&self.stem, &self.head].into_iter().chain(&self.down).chain(&self.up).chain(blocks).map(Conv::bytes).sum()
    }

    /// Gives memory between layers back to the system, until the next slice.
    pub fn release(&self) {
        self.engine.release();
    }

    /// Runs the network. `trace` sees every stage of the work and may end it with an error.
    ///
    /// # Errors
    /// If the picture has other channels or is too small to mirror (each side must be 5 or more), or `trace` says so.
    pub fn forward(&self, input: &Tensor, trace: &mut Trace<'_>) -> Result<Tensor> {
        let trace = RefCell::new(trace);
        whole_network(input, &|planes, shape| {
            self.run(planes, shape, &|at, what, tensor| (trace.borrow_mut())(at, what, tensor))
        })
    }

    /// Largest absolute value of what enters each convolution while `input` goes through, for `int8`. The first and the
    /// last layer are left out: they cost little and their errors are seen most.
    ///
    /// # Errors
    /// As [`DucosyGenerator::forward`].
    pub fn calibrate(&self, input: &Tensor) -> Result<Calibration> {
        let after = 10 + self.blocks.len();
        let mut largest = Calibration::new();
        self.forward(input, &mut |at, what, x| {
            let key = match (at, what) {
                (3, "norm-relu") => "model.4".to_owned(),
                (6, "norm-relu") => "model.7".to_owned(),
                (at, "inner") => format!("model.{at}.block.5"),
                (at, "norm-relu") if at == after + 3 => format!("model.{}", after + 5),
                (9, "norm-relu") | (_, "residual") if at + 1 < after => format!("model.{}.block.1", at + 1),
                (9, "norm-relu") | (_, "residual") => format!("model.{}", after + 1),
                _ => return Ok(()),
            };
            let values = x()?.flatten_all()?.to_vec1::<f32>()?;
            largest.insert(key, values.iter().fold(0f32, |m, x| m.max(x.abs())));
            Ok(())
        })?;
        Ok(largest)
    }

    fn run(&self, planes: &[f32], shape: Shape, trace: &Report<'_>) -> Result<(Vec<f32>, Shape)> {
        let engine = &self.engine;
        let mut x = self.stem.forward_planes(planes, shape)?;
        trace(1, "conv", &|| tensor(&x))?;
        // The last of these is also what the first residual block adds to.
        let mut trunk = None;
        let after = 10 + self.blocks.len();
        let following = self.blocks.first().map_or(self.up[0].entry(), |block| block.first.entry());
        let downs = [(4, self.down[0].entry(), Some(&self.down[0])), (7, self.down[1].entry(), Some(&self.down[1]))];
        let mut cells = None;
        for (at, entry, conv) in downs.into_iter().chain([(10, following, None)]) {
            let norm = instance_norm(&x)?.relu();
            trace(at - 1, "norm-relu", &|| tensor(&engine.blocked(&norm, &x)?))?;
            match conv {
                Some(conv) => {
                    let cells = engine.cells(&norm, &x, entry)?;
                    drop(norm);
                    x = conv.forward(&[&cells])?;
                    trace(at, "conv", &|| tensor(&x))?;
                }
                None => {
                    let (made, kept) = engine.cells_and_blocked(&norm, &x, entry)?;
                    (cells, trunk) = (Some(made), Some(kept));
                }
            }
        }
        let (Some(mut cells), Some(mut trunk)) = (cells, trunk) else { return Err(lost()) };
        for (number, block) in self.blocks.iter().enumerate() {
            let next = self.blocks.get(number + 1).map_or(self.up[0].entry(), |block| block.first.entry());
            let at = 10 + number;
            (cells, trunk) = block.run(engine, &cells, &trunk, next, &|what, tensor| trace(at, what, tensor))?;
            trace(at, "residual", &|| tensor(&trunk))?;
        }
        drop(trunk);
        let ups = [(after + 1, &self.up[0], self.up[1].entry()), (after + 5, &self.up[1], self.head.entry())];
        for (at, conv, entry) in ups {
            let x = conv.forward(&[&cells])?;
            trace(at, "conv", &|| tensor(&x))?;
            let norm = instance_norm(&x)?.relu();
            trace(at + 2, "norm-relu", &|| tensor(&engine.blocked(&norm, &x)?))?;
            cells = engine.cells(&norm, &x, entry)?;
        }
        let x = self.head.forward(&[&cells])?;
        trace(after + 9, "conv", &|| tensor(&x))?;
        let mut out = x.to_planes();
        out.par_iter_mut().with_min_len(4096).for_each(|x| *x = x.tanh());
        let dims = dims(x.shape());
        trace(after + 10, "tanh", &|| Tensor::from_slice(&out, dims, &Device::Cpu))?;
        Ok((out, x.shape()))
    }
}

/// As [`Trace`], for use from several places.
type Report<'a> = dyn Fn(usize, &'static str, &dyn Fn() -> Result<Tensor>) -> Result<()> + 'a;
/// The same within a block, whose number is known.
type ReportBlock<'a> = dyn Fn(&'static str, &dyn Fn() -> Result<Tensor>) -> Result<()> + 'a;

fn dims(shape: Shape) -> (usize, usize, usize, usize) {
    (shape.pictures, shape.channels, shape.size[1], shape.size[2])
}

fn tensor(x: &Blocked) -> Result<Tensor> {
    Tensor::from_vec(x.to_planes(), dims(x.shape()), &Device::Cpu)
}

fn lost() -> candle_core::Error {
    candle_core::Error::Msg("a layer gathered no statistics".to_owned())
}

fn statistics(x: &Blocked) -> Result<&Statistics> {
    x.statistics().ok_or_else(lost)
}

fn instance_norm(x: &Blocked) -> Result<Finish<'static>> {
    Ok(Finish::instance_norm(statistics(x)?, EPS, None))
}

/// What layers are made of.
struct Layers<'a> {
    engine: &'a Engine,
    weights: &'a mut NetworkWeights,
    calibration: &'a Calibration,
}

impl Layers<'_> {
    /// The convolution of `<key>.weight` and `<key>.bias`.
    fn conv(&mut self, key: &str, config: ConvConfig) -> Result<Conv> {
        let weight = self.weights.take(&format!("{key}.weight"))?;
        let bias = self.weights.take(&format!("{key}.bias"))?;
        let config = ConvConfig { activation: self.calibration.get(key).copied(), ..config };
        Conv::new(self.engine, &weight, Some(&bias), &[], config)
    }

    /// A tensor's elements and its first two lengths.
    fn plain(&mut self, key: &str) -> Result<(Vec<f32>, [usize; 2])> {
        let weight = self.weights.take(key)?;
        let (a, b, ..) = weight.dims4()?;
        Ok((weight.flatten_all()?.to_vec1()?, [a, b]))
    }
}

/// `x + attention(branch(x))`, where the branch is two mirrored 3 x 3 convolutions; nothing follows the sum.
struct ResidualBlock {
    first: Conv,
    second: Conv,
    attention: Option<Cbam>,
}

impl ResidualBlock {
    fn new(layers: &mut Layers<'_>, at: usize, cbam: bool) -> Result<Self> {
        let config = ConvConfig { padding: [0, 1, 1], edge: Edge::Reflect, statistics: true, ..ConvConfig::default() };
        Ok(Self {
            first: layers.conv(&format!("model.{at}.block.1"), ConvConfig { not_negative: at == 10, ..config })?,
            second: layers.conv(&format!("model.{at}.block.5"), ConvConfig { not_negative: true, ..config })?,
            attention: cbam.then(|| Cbam::new(layers, at)).transpose()?,
        })
    }

    /// The trunk after this block, and as `next` wants it.
    fn run(
        &self,
        engine: &Engine,
        cells: &Cells,
        trunk: &Blocked,
        next: &Entry,
        trace: &ReportBlock<'_>,
    ) -> Result<(Cells, Blocked)> {
        let inner = self.first.forward(&[cells])?;
        let norm = instance_norm(&inner)?.relu();
        trace("inner", &|| tensor(&engine.blocked(&norm, &inner)?))?;
        let cells = engine.cells(&norm, &inner, self.second.entry())?;
        drop(inner);
        let branch = self.second.forward(&[&cells])?;
        drop(cells);
        let norm = instance_norm(&branch)?;
        trace("branch", &|| tensor(&engine.blocked(&norm, &branch)?))?;
        let Some(attention) = &self.attention else {
            return engine.cells_and_blocked(&norm.adding(trunk), &branch, next);
        };
        let Shape { pictures, channels, size: [_, height, width] } = branch.shape();
        let gains = attention.channel_gate(statistics(&branch)?, pictures, channels)?;
        trace("channel-gate", &|| {
            let gates: Vec<f32> =
                gains.chunks(channels.next_multiple_of(BLOCK)).flat_map(|g| &g[..channels]).copied().collect();
            Tensor::from_vec(gates, (pictures, channels, 1, 1), &Device::Cpu)
        })?;
        let gated = norm.gain(&gains);
        trace("channel-attention", &|| tensor(&engine.blocked(&gated, &branch)?))?;
        let maps = engine.pool_channels(&gated, &branch)?;
        let gate = pixel_gate(&maps, 2, [height, width], &attention.spatial)?;
        engine.cells_and_blocked(&gated.gate(&gate).adding(trunk), &branch, next)
    }
}

/// Attention over channels, then over pixels.
struct Cbam {
    /// `[reduced][C]`.
    squeeze: Vec<f32>,
    /// `[C][reduced]`.
    excite: Vec<f32>,
    reduced: usize,
    /// `[2][k][k]`.
    spatial: Vec<f32>,
}

impl Cbam {
    fn new(layers: &mut Layers<'_>, at: usize) -> Result<Self> {
        let mut take = |key: &str| layers.plain(&format!("model.{at}.cbam.{key}.weight"));
        let (squeeze, [reduced, channels]) = take("channel_attention.fc.0")?;
        let (excite, shape) = take("channel_attention.fc.2")?;
        if shape != [channels, reduced] {
            candle_core::bail!("attention of block {at}: {shape:?} expected [{channels}, {reduced}]")
        }
        let (spatial, _) = take("spatial_attention.conv")?;
        Ok(Self { squeeze, excite, reduced, spatial })
    }

    /// `sigmoid(mlp(mean) + mlp(max))` of the normalised branch, per picture and channel rounded up to blocks.
    ///
    /// After a normalisation without parameters the mean is 0 and the largest value an affine map of the raw one, so
    /// the branch itself need not be read.
    fn channel_gate(&self, raw: &Statistics, pictures: usize, channels: usize) -> Result<Vec<f32>> {
        let rounded = channels.next_multiple_of(BLOCK);
        let mut gates = vec![0f32; pictures * rounded];
        if self.excite.len() != channels * self.reduced {
            candle_core::bail!("attention for {} channels met {channels}", self.excite.len() / self.reduced.max(1))
        }
        for picture in 0..pictures {
            let largest: Vec<f32> = (0..channels)
                .map(|c| {
                    let deviation = (raw.variance(picture, c) + EPS).sqrt();
                    ((f64::from(raw.max(picture, c)) - raw.mean(picture, c)) / deviation) as f32
                })
                .collect();
            // `mlp(0)` is 0: there are no biases.
            let hidden: Vec<f32> = self
                .squeeze
                .chunks_exact(channels)
                .map(|row| row.iter().zip(&largest).map(|(w, x)| w * x).sum::<f32>().max(0.0))
                .collect();
            for (gate, row) in gates[picture * rounded..].iter_mut().zip(self.excite.chunks_exact(self.reduced)) {
                let x = row.iter().zip(&hidden).map(|(w, x)| w * x).sum::<f32>();
                *gate = 1.0 / (1.0 + (-x).exp());
            }
        }
        Ok(gates)
    }
}
