//! What an nnU-Net looks like: stages, features, kernels, strides, as its plans say.

use candle_core::{Result, bail};
use gantry_weights::StateDict;
use gantry_weights::nnunet::{Configuration, Dataset, Encoder};

/// How the encoder's stages are built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UnetEncoder {
    /// `PlainConvUNet`: convolutions one after the other, so many per stage.
    Plain {
        /// Convolutions of each stage.
        convolutions: Vec<usize>,
    },
    /// `ResidualEncoderUNet`: a stem, then blocks of two convolutions with a skip around them.
    Residual {
        /// Blocks of each stage.
        blocks: Vec<usize>,
        /// Channels after the stem; the first stage's features unless the plans say otherwise.
        stem: usize,
    },
}

impl UnetEncoder {
    fn counts(&self) -> &[usize] {
        match self {
            Self::Plain { convolutions } => convolutions,
            Self::Residual { blocks, .. } => blocks,
        }
    }
}

/// An nnU-Net (v2) as its plans describe it. Axes are `[depth, height, width]` after the plans' transposition; a
/// two-dimensional network has depth 1 in every kernel and stride, and weights of rank 4.
#[derive(Debug, Clone, PartialEq)]
pub struct UnetPlan {
    /// Channels of the input.
    pub channels: usize,
    /// Channels of the output: classes, or regions.
    pub classes: usize,
    /// Channels of each stage, full resolution first.
    pub features: Vec<usize>,
    /// Kernel of each stage's convolutions; odd.
    pub kernels: Vec<[usize; 3]>,
    /// Stride of each stage's first convolution.
    pub strides: Vec<[usize; 3]>,
    /// How the encoder's stages are built.
    pub encoder: UnetEncoder,
    /// Convolutions of each of the decoder's stages, coarsest first: one stage fewer than the encoder has.
    pub decoder: Vec<usize>,
    /// Whether convolutions have a bias (`conv_bias`); the skips' and the heads' do not depend on it.
    pub bias: bool,
    /// Whether instance normalisation has a factor and an offset per channel (`norm_op_kwargs.affine`).
    pub affine: bool,
    /// Added to the variance by instance normalisation.
    pub eps: f64,
    /// What the leaky ReLU multiplies negative values with.
    pub slope: f32,
    /// The one size that inputs will have, where it is known (`patch_size`): weights then take less memory. Other sizes
    /// still work, perhaps slower.
    pub patch: Option<[usize; 3]>,
}

impl UnetPlan {
    /// A plain network with nnU-Net's constants (bias, affine normalisation with 1e-5, leaky ReLU of 0.01) and two
    /// convolutions in every stage.
    pub fn plain(
        channels: usize,
        classes: usize,
        features: &[usize],
        kernels: &[[usize; 3]],
        strides: &[[usize; 3]],
    ) -> Self {
        Self {
            channels,
            classes,
            features: features.to_vec(),
            kernels: kernels.to_vec(),
            strides: strides.to_vec(),
            encoder: UnetEncoder::Plain { convolutions: vec![2; features.len()] },
            decoder: vec![2; features.len().saturating_sub(1)],
            bias: true,
            affine: true,
            eps: 1e-5,
            slope: 0.01,
            patch: None,
        }
    }

    /// The network of a configuration, with the channels and heads of its data set.
    pub fn of(configuration: &Configuration, dataset: &Dataset) -> Self {
        let network = &configuration.network;
        let encoder = match &network.encoder {
            Encoder::Plain { convolutions } => UnetEncoder::Plain { convolutions: convolutions.clone() },
            Encoder::Residual { blocks, stem } => UnetEncoder::Residual { blocks: blocks.clone(), stem: *stem },
        };
        Self {
            channels: dataset.channels.len(),
            classes: dataset.heads(),
            features: network.features.clone(),
            kernels: network.kernels.clone(),
            strides: network.strides.clone(),
            encoder,
            decoder: network.decoder.clone(),
            bias: network.bias,
            affine: network.affine,
            eps: network.eps,
            slope: network.slope,
            patch: Some(configuration.patch),
        }
    }

    /// Stages of the encoder.
    pub fn stages(&self) -> usize {
        self.features.len()
    }

    /// What every side of an input must be a multiple of, `[depth, height, width]`.
    pub fn multiple(&self) -> [usize; 3] {
        std::array::from_fn(|axis| self.strides.iter().map(|stride| stride[axis]).product())
    }

    /// Size of a stage's result for inputs of the expected size.
    pub(super) fn size(&self, stage: usize) -> Option<[usize; 3]> {
        let strides = &self.strides[..=stage];
        let patch = self.patch.filter(|patch| patch.iter().all(|&side| side > 0))?;
        Some(std::array::from_fn(|axis| strides.iter().fold(patch[axis], |side, stride| side.div_ceil(stride[axis]))))
    }

    /// Checks that the lists fit together.
    ///
    /// # Errors
    /// Naming what does not.
    pub fn check(&self) -> Result<()> {
        let stages = self.stages();
        let counts = self.encoder.counts();
        if stages < 2 {
            bail!("U-Net: at least 2 stages expected, found {stages}")
        }
        for (what, found, expected) in [
            ("kernels", self.kernels.len(), stages),
            ("strides", self.strides.len(), stages),
            ("counts of the encoder", counts.len(), stages),
            ("counts of the decoder", self.decoder.len(), stages - 1),
        ] {
            if found != expected {
                bail!("U-Net of {stages} stages: {expected} {what} expected, found {found}")
            }
        }
        if counts
            .iter()
            .chain(&self.decoder)
            .chain(&self.features)
            .chain([&self.channels, &self.classes])
            .any(|&n| n == 0)
            || matches!(self.encoder, UnetEncoder::Residual { stem: 0, .. })
        {
            bail!("U-Net: a count or a number of channels is zero")
        }
        // An even kernel with nnU-Net's padding would shrink the picture, and the skip would not fit any more.
        if let Some(kernel) = self.kernels.iter().find(|kernel| kernel.iter().any(|k| k % 2 == 0)) {
            bail!("U-Net: odd kernels expected, found {kernel:?}")
        }
        if let Some(stride) = self.strides.iter().find(|stride| stride.contains(&0)) {
            bail!("U-Net: a stride of {stride:?}")
        }
        if self.strides[0] != [1; 3] {
            bail!("U-Net: the first stage keeps the resolution, found stride {:?}", self.strides[0])
        }
        let multiple = self.multiple();
        if let Some(patch) = self.patch
            && (0..3).any(|axis| patch[axis] == 0 || !patch[axis].is_multiple_of(multiple[axis]))
        {
            bail!("U-Net: a patch of multiples of {multiple:?} expected, found {patch:?}")
        }
        Ok(())
    }

    /// The tensors that inference needs, of the `network_weights` of a trainer's checkpoint: without those registered a
    /// second time (`all_modules`, `decoder.encoder.`) and without the heads that only deep supervision uses.
    ///
    /// # Errors
    /// If two tensors would get the same key.
    pub fn published(&self, dict: StateDict) -> gantry_weights::Result<StateDict> {
        let head = format!("decoder.seg_layers.{}.", self.stages().saturating_sub(2));
        let mut kept = StateDict::new();
        for (key, tensor) in dict {
            let mut name = key.as_str();
            while let Some(rest) = name.strip_prefix("module.").or_else(|| name.strip_prefix("_orig_mod.")) {
                name = rest;
            }
            let twice = name.starts_with("decoder.encoder.") || name.contains(".all_modules.");
            let other_head = name.starts_with("decoder.seg_layers.") && !name.starts_with(&head);
            if !twice && !other_head {
                kept.insert(name, tensor)?;
            }
        }
        Ok(kept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> UnetPlan {
        UnetPlan::plain(1, 3, &[8, 16], &[[3; 3]; 2], &[[1; 3], [1, 2, 2]])
    }

    #[test]
    fn lists_of_other_lengths_are_refused() {
        assert!(plan().check().is_ok());
        assert_eq!(plan().multiple(), [1, 2, 2]);
        type Change = fn(&mut UnetPlan);
        let changes: [(&str, Change); 8] = [
            ("2 kernels", |plan| plan.kernels.truncate(1)),
            ("2 strides", |plan| plan.strides.push([2; 3])),
            ("1 counts of the decoder", |plan| plan.decoder.clear()),
            ("counts of the encoder", |plan| plan.encoder = UnetEncoder::Residual { blocks: vec![1], stem: 8 }),
            ("zero", |plan| plan.features[1] = 0),
            ("odd kernels", |plan| plan.kernels[0] = [3, 2, 3]),
            ("keeps the resolution", |plan| plan.strides[0] = [1, 2, 2]),
            ("at least 2 stages", |plan| plan.features.truncate(1)),
        ];
        for (says, change) in changes {
            let mut plan = plan();
            change(&mut plan);
            let error = plan.check().expect_err(says).to_string();
            assert!(error.contains(says), "{error}");
        }
    }

    #[test]
    fn tensors_registered_twice_and_other_heads_are_left_out() -> gantry_weights::Result<()> {
        let mut plan = plan();
        plan.features.push(32);
        let mut dict = StateDict::new();
        for key in [
            "module.encoder.stages.0.0.convs.0.conv.weight",
            "encoder.stages.0.0.convs.0.all_modules.0.weight",
            "decoder.encoder.stages.0.0.convs.0.conv.weight",
            "decoder.seg_layers.0.weight",
            "decoder.seg_layers.1.weight",
        ] {
            dict.insert(key, gantry_weights::Tensor::from_f32(vec![1], &[1.0])?)?;
        }
        let kept = plan.published(dict)?;
        let keys: Vec<&str> = kept.keys().collect();
        assert_eq!(keys, ["encoder.stages.0.0.convs.0.conv.weight", "decoder.seg_layers.1.weight"]);
        Ok(())
    }
}
