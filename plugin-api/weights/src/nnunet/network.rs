//! [`Network`]: the U-Net of a configuration, and the tensors it must have.

use crate::architecture::Expected;
use crate::check::compare;
use crate::error::{Error, Result};
use crate::state::StateDict;

/// How the encoder's stages are built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Encoder {
    /// `PlainConvUNet`: convolutions one after the other.
    Plain {
        /// Convolutions of each stage.
        convolutions: Vec<usize>,
    },
    /// `ResidualEncoderUNet`: a stem, then blocks of two convolutions with a skip around them.
    Residual {
        /// Blocks of each stage.
        blocks: Vec<usize>,
        /// Channels after the stem.
        stem: usize,
    },
}

impl Encoder {
    /// The class that builds it.
    pub fn class(&self) -> &'static str {
        match self {
            Self::Plain { .. } => "PlainConvUNet",
            Self::Residual { .. } => "ResidualEncoderUNet",
        }
    }
}

/// A U-Net of nnU-Net v2, without the sizes that the data set decides (channels of the input, heads). Axes are
/// `[z, y, x]` after the plans' transposition. Each convolution is followed by instance normalisation and a leaky ReLU.
#[derive(Debug, Clone, PartialEq)]
pub struct Network {
    /// Channels of each stage, full resolution first; at least 2 stages.
    pub features: Vec<usize>,
    /// Kernel of each stage's convolutions; odd.
    pub kernels: Vec<[usize; 3]>,
    /// Stride of each stage's first convolution; 1 in the first stage.
    pub strides: Vec<[usize; 3]>,
    /// How the encoder's stages are built.
    pub encoder: Encoder,
    /// Convolutions of each of the decoder's stages, coarsest first: one stage fewer than the encoder has.
    pub decoder: Vec<usize>,
    /// Whether convolutions have a bias; the skips' and the heads' do not depend on it.
    pub bias: bool,
    /// Whether instance normalisation has a factor and an offset per channel.
    pub affine: bool,
    /// Added to the variance by instance normalisation.
    pub eps: f64,
    /// What the leaky ReLU multiplies negative values with.
    pub slope: f32,
}

impl Network {
    /// Stages of the encoder.
    pub fn stages(&self) -> usize {
        self.features.len()
    }

    /// What every side of an input must be a multiple of, `[z, y, x]`.
    pub fn multiple(&self) -> [usize; 3] {
        std::array::from_fn(|axis| self.strides.iter().map(|stride| stride[axis]).product())
    }

    /// The tensors that inference needs, for so many channels of the input and heads, in the network's order: canonical
    /// names, and of the heads the one of full resolution.
    pub fn expected(&self, channels: usize, heads: usize) -> Vec<Expected> {
        let mut all = Tensors { affine: self.affine, found: Vec::new() };
        let stages = || self.features.iter().zip(&self.kernels).zip(&self.strides).enumerate();
        match &self.encoder {
            Encoder::Plain { convolutions } => {
                let mut cin = channels;
                for ((s, ((&cout, &kernel), _)), &count) in stages().zip(convolutions) {
                    for j in 0..count {
                        all.block(&format!("encoder.stages.{s}.0.convs.{j}"), cin, cout, kernel, self.bias);
                        cin = cout;
                    }
                }
            }
            Encoder::Residual { blocks, stem } => {
                if let Some(&kernel) = self.kernels.first() {
                    all.block("encoder.stem.convs.0", channels, *stem, kernel, self.bias);
                }
                let mut cin = *stem;
                for ((s, ((&cout, &kernel), &stride)), &count) in stages().zip(blocks) {
                    for b in 0..count {
                        let block = format!("encoder.stages.{s}.blocks.{b}");
                        all.block(&format!("{block}.conv1"), cin, cout, kernel, self.bias);
                        all.block(&format!("{block}.conv2"), cout, cout, kernel, self.bias);
                        if cin != cout {
                            // A pooling layer, where the block has a stride, stands before the convolution.
                            let place = usize::from(b == 0 && stride != [1; 3]);
                            all.block(&format!("{block}.skip.{place}"), cin, cout, [1; 3], false);
                        }
                        cin = cout;
                    }
                }
            }
        }
        for (d, &count) in self.decoder.iter().enumerate() {
            let Some(i) = self.stages().checked_sub(d + 2) else { break };
            let (Some(&below), Some(&cout)) = (self.features.get(i + 1), self.features.get(i)) else { break };
            let (Some(&up), Some(&kernel)) = (self.strides.get(i + 1), self.kernels.get(i)) else { break };
            all.convolution(&format!("decoder.transpconvs.{d}"), below, cout, up, self.bias);
            for j in 0..count {
                let cin = if j == 0 { 2 * cout } else { cout };
                all.block(&format!("decoder.stages.{d}.convs.{j}"), cin, cout, kernel, self.bias);
            }
        }
        let first = self.features.first().copied().unwrap_or_default();
        all.convolution(&self.head(), heads, first, [1; 3], true);
        all.found
    }

    /// Takes from a trainer's weights what inference needs, after proving that they are exactly this network's: every
    /// tensor, no other, every shape, no NaN or infinity. Heads that only training uses are left out.
    ///
    /// # Errors
    /// [`Error::Mismatch`] with all differences.
    pub fn select(&self, weights: StateDict, channels: usize, heads: usize) -> Result<StateDict> {
        let head = format!("{}.", self.head());
        let mut kept = StateDict::new();
        for (key, tensor) in weights {
            if !key.starts_with("decoder.seg_layers.") || key.starts_with(&head) {
                kept.insert(key, tensor)?;
            }
        }
        self.check(&kept, channels, heads)?;
        Ok(kept)
    }

    /// Demands exactly the tensors of [`Self::expected`].
    ///
    /// # Errors
    /// [`Error::Mismatch`] with all differences.
    pub fn check(&self, weights: &StateDict, channels: usize, heads: usize) -> Result<()> {
        let name = format!("{} of {} stages, {channels} in, {heads} out", self.encoder.class(), self.stages());
        let mismatch = compare(&name, &self.expected(channels, heads), weights);
        if mismatch.is_empty() { Ok(()) } else { Err(Error::Mismatch(Box::new(mismatch))) }
    }

    /// The layer whose output is the network's.
    fn head(&self) -> String {
        format!("decoder.seg_layers.{}", self.stages().saturating_sub(2))
    }
}

/// A list of tensors in the making.
struct Tensors {
    affine: bool,
    found: Vec<Expected>,
}

impl Tensors {
    fn push(&mut self, key: String, shape: Vec<usize>) {
        self.found.push(Expected { key, shape, integer: false });
    }

    /// A convolution with weights `[a, b, z, y, x]`: for a plain one, `a` comes out and `b` goes in; for a transposed one
    /// the other way round. Its bias has one number for what comes out.
    fn convolution(&mut self, layer: &str, a: usize, b: usize, kernel: [usize; 3], bias: bool) {
        let [z, y, x] = kernel;
        self.push(format!("{layer}.weight"), vec![a, b, z, y, x]);
        if bias {
            let out = if layer.starts_with("decoder.transpconvs.") { b } else { a };
            self.push(format!("{layer}.bias"), vec![out]);
        }
    }

    /// A convolution and its normalisation.
    fn block(&mut self, block: &str, cin: usize, cout: usize, kernel: [usize; 3], bias: bool) {
        self.convolution(&format!("{block}.conv"), cout, cin, kernel, bias);
        if self.affine {
            self.push(format!("{block}.norm.weight"), vec![cout]);
            self.push(format!("{block}.norm.bias"), vec![cout]);
        }
    }
}
