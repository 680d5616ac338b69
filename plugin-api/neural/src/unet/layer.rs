//! The layers of a U-Net: convolution, instance normalisation, leaky ReLU, with their weights by the published keys.

use super::plan::UnetPlan;
use crate::blocked::{Blocked, Cells, Entry, Finish};
use crate::checkpoint::NetworkWeights;
use crate::conv::{Conv, ConvConfig, Kind};
use crate::engine::Engine;
use candle_core::{Result, Tensor, bail};

/// Takes tensors and demands their shape.
pub(super) struct Layers<'a> {
    pub engine: &'a Engine,
    pub weights: &'a mut NetworkWeights,
    pub plan: &'a UnetPlan,
}

/// A convolution's sizes.
#[derive(Clone, Copy)]
pub(super) struct Sizes<'a> {
    /// Channels of each input.
    pub inputs: &'a [usize],
    pub outputs: usize,
    pub kernel: [usize; 3],
    pub stride: [usize; 3],
    /// Of the input's picture, where it is known.
    pub size: Option<[usize; 3]>,
}

/// What running layers needs.
#[derive(Clone, Copy)]
pub(super) struct Run<'a> {
    pub engine: &'a Engine,
    /// Asked before every convolution; an error ends the run.
    pub go_on: &'a dyn Fn() -> Result<()>,
}

impl Run<'_> {
    /// `conv` of `inputs`.
    pub fn forward(&self, conv: &Conv, inputs: &[&Cells]) -> Result<Blocked> {
        (self.go_on)()?;
        conv.forward(inputs)
    }
}

impl Layers<'_> {
    /// `<key>.weight` and, where `bias` says so, `<key>.bias`.
    pub fn conv(&mut self, key: &str, sizes: Sizes<'_>, bias: bool, config: ConvConfig) -> Result<Conv> {
        let weight = self.weights.take(&format!("{key}.weight"))?;
        let channels = sizes.inputs.iter().sum::<usize>();
        let [a, b] = match config.kind {
            Kind::Transposed { .. } => [channels, sizes.outputs],
            _ => [sizes.outputs, channels],
        };
        let [depth, height, width] = sizes.kernel;
        let planar = depth == 1 && weight.dims() == [a, b, height, width];
        if !planar && weight.dims() != [a, b, depth, height, width] {
            bail!("weights: `{key}.weight` expected [{a}, {b}, {depth}, {height}, {width}], found {:?}", weight.dims())
        }
        let bias = if bias { Some(self.vector(&format!("{key}.bias"), sizes.outputs)?) } else { None };
        let config = ConvConfig { stride: sizes.stride, expected: sizes.size, ..config };
        Conv::new(self.engine, &weight, bias.as_ref(), sizes.inputs, config)
    }

    /// Convolution `<key>.conv` with normalisation `<key>.norm` after it; the border is half the kernel, of zeros.
    pub fn layer(&mut self, key: &str, sizes: Sizes<'_>, first: bool) -> Result<Layer> {
        self.normalised(key, sizes, self.plan.bias, first)
    }

    /// The same with or without a bias.
    pub fn normalised(&mut self, key: &str, sizes: Sizes<'_>, bias: bool, first: bool) -> Result<Layer> {
        let padding = sizes.kernel.map(|k| (k - 1) / 2);
        let config = ConvConfig { padding, statistics: true, first, ..ConvConfig::default() };
        let conv = self.conv(&format!("{key}.conv"), sizes, bias, config)?;
        let gamma_beta = match self.plan.affine {
            true => Some((self.plain(&format!("{key}.norm.weight"), sizes.outputs)?, {
                self.plain(&format!("{key}.norm.bias"), sizes.outputs)?
            })),
            false => None,
        };
        Ok(Layer { conv, gamma_beta, eps: self.plan.eps, slope: self.plan.slope })
    }

    fn vector(&mut self, key: &str, length: usize) -> Result<Tensor> {
        let tensor = self.weights.take(key)?;
        if tensor.dims() != [length] {
            bail!("weights: `{key}` expected [{length}], found {:?}", tensor.dims())
        }
        Ok(tensor)
    }

    fn plain(&mut self, key: &str, length: usize) -> Result<Vec<f32>> {
        self.vector(key, length)?.to_vec1()
    }
}

/// A convolution, and the normalisation and activation that are applied where its result is read.
pub(super) struct Layer {
    pub conv: Conv,
    gamma_beta: Option<(Vec<f32>, Vec<f32>)>,
    eps: f64,
    slope: f32,
}

impl Layer {
    /// What the convolution takes.
    pub fn entry(&self) -> &Entry {
        self.conv.entry()
    }

    /// Normalisation of what the convolution gave, without the activation.
    pub fn norm(&self, raw: &Blocked) -> Result<Finish<'static>> {
        let Some(statistics) = raw.statistics() else { bail!("U-Net: a layer gathered no statistics") };
        let gamma_beta = self.gamma_beta.as_ref().map(|(gamma, beta)| (&gamma[..], &beta[..]));
        Ok(Finish::instance_norm(statistics, self.eps, gamma_beta))
    }

    /// Normalisation and activation.
    pub fn finish(&self, raw: &Blocked) -> Result<Finish<'static>> {
        Ok(self.norm(raw)?.leaky_relu(self.slope))
    }
}

/// Runs `rest` one after the other behind `before`, whose convolution gave `raw`; the last one's result is left as it is.
pub(super) fn chain_from(run: Run<'_>, before: &Layer, rest: &[Layer], mut raw: Blocked) -> Result<Blocked> {
    let mut before = before;
    for layer in rest {
        let cells = run.engine.cells(&before.finish(&raw)?, &raw, layer.entry())?;
        drop(raw);
        raw = run.forward(&layer.conv, &[&cells])?;
        before = layer;
    }
    Ok(raw)
}
