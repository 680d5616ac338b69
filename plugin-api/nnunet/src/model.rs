//! [`Model`]: one configuration of an nnU-Net with its folds, from an image to its labels.

use std::cell::Cell;

use gantry_neural::{ComputeDevice, Engine, NetworkWeights, Unet, UnetPlan};
use gantry_volume::{Orientation, export, importance_map};
use gantry_weights::StateDict;
use gantry_weights::nnunet::{Configuration, Dataset};
use half::f16;
use half::slice::HalfFloatSliceExt;

use crate::decision::Decision;
use crate::error::{Error, Result};
use crate::frame::Frame;
use crate::prediction::{Prediction, mirrored};
use crate::preprocessing::{prepared, resampling};
use crate::watch::Watch;
use crate::windows::Windows;

/// An image as a model takes it.
#[derive(Debug, Clone, Copy)]
pub struct Image<'a> {
    /// `[channels][z][y][x]`, all finite, in the units the model was trained with (Hounsfield units for CT).
    pub voxels: &'a [f32],
    /// Size of a channel, `[z, y, x]`.
    pub size: [usize; 3],
    /// Distance of voxels along z, y, x, mm.
    pub spacing_mm: [f64; 3],
    /// How z, y, x become the axes of the closest RAS+ volume; it matters to models whose reader reorients alone.
    pub orientation: Orientation,
}

/// How a model is run.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Distance of neighbouring windows as a share of the window: nnU-Net's default is 0.5.
    pub step: f64,
    /// Axes of the network's input (0 to 2) along which windows are mirrored as well, in their order; the predictions are
    /// averaged. Empty is not at all.
    pub mirror_axes: Vec<usize>,
    /// Whether logits are interpolated at every voxel on the way back, or not where the neighbours leave no doubt; the
    /// labels are the same.
    pub export: export::Way,
}

impl Default for Settings {
    fn default() -> Self {
        Self { step: 0.5, mirror_axes: Vec::new(), export: export::Way::Fast }
    }
}

/// Logits of an image on the network's grid.
#[derive(Debug, Clone, PartialEq)]
pub struct GridLogits {
    /// `[heads][z][y][x]`, finite.
    pub values: Vec<f16>,
    /// Classes, or regions.
    pub heads: usize,
    /// Where the grid lies on the image.
    pub frame: Frame,
}

impl GridLogits {
    /// As the exports of the volume crate take them.
    ///
    /// # Errors
    /// If there are more heads than labels of 8 bits.
    pub fn view(&self) -> Result<export::Logits<'_>> {
        Ok(export::Logits::new(&self.values, self.heads, self.frame.grid_size)?)
    }
}

/// One configuration of an nnU-Net v2 with the networks of its folds.
///
/// Everything spreads over the caller's rayon pool (see [`gantry_neural::Workers`]), and gives the same labels for any
/// number of threads.
pub struct Model {
    engine: Engine,
    configuration: Configuration,
    channels: usize,
    heads: usize,
    decision: Decision,
    networks: Vec<Unet>,
    /// Weight of each voxel of a window, `[z][y][x]`; half-precision numbers.
    map: Vec<f32>,
}

impl Model {
    /// A model of `folds`, each the bytes of a safetensors file with the network's tensors, in the order in which they are
    /// averaged.
    ///
    /// # Errors
    /// If there is no fold, tensors are not exactly those of the network, or plans and data set ask for something that is
    /// not supported: more than 256 labels, different numbers of channels.
    pub fn new(engine: &Engine, configuration: &Configuration, dataset: &Dataset, folds: &[&[u8]]) -> Result<Self> {
        let (channels, heads) = (dataset.channels.len(), dataset.heads());
        if configuration.schemes.len() != channels {
            let schemes = configuration.schemes.len();
            return Err(Error::Model(format!("plans normalise {schemes} channels, the data set has {channels}")));
        }
        resampling(&configuration.data)?;
        resampling(&configuration.probabilities)?;
        if configuration.probabilities.order != 1 {
            let order = configuration.probabilities.order;
            return Err(Error::Model(format!("plans: probabilities are resampled with order {order}; 1 is supported")));
        }
        let decision = Decision::of(dataset)?;
        let plan = UnetPlan::of(configuration, dataset);
        let mut networks = Vec::with_capacity(folds.len());
        for fold in folds {
            let dict = StateDict::from_bytes(fold.to_vec(), None)?;
            configuration.network.check(&dict, channels, heads)?;
            let weights =
                NetworkWeights::new(dict, ComputeDevice::Cpu).map_err(|error| Error::Model(error.to_string()))?;
            networks.push(Unet::new(engine, weights, &plan)?);
        }
        if networks.is_empty() {
            return Err(Error::Model("at least one fold expected".to_owned()));
        }
        let halves = importance_map(configuration.patch)?;
        let mut map = vec![0f32; halves.len()];
        halves.convert_to_f32_slice(&mut map);
        let (engine, configuration) = (engine.clone(), configuration.clone());
        Ok(Self { engine, configuration, channels, heads, decision, networks, map })
    }

    /// How it is run.
    pub fn configuration(&self) -> &Configuration {
        &self.configuration
    }

    /// Channels of its images.
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// Channels of its output: classes with the background, or regions.
    pub(crate) fn heads(&self) -> usize {
        self.heads
    }

    /// Networks that are averaged.
    pub(crate) fn folds(&self) -> usize {
        self.networks.len()
    }

    /// Most bytes that a network holds while it runs over a window.
    pub(crate) fn activation_bytes(&self, threads: usize) -> usize {
        let bytes = |network: &Unet| network.activation_bytes(self.configuration.patch, threads);
        self.networks.iter().map(bytes).max().unwrap_or(0)
    }

    /// Bytes of the packed weights of all folds.
    pub fn weight_bytes(&self) -> u64 {
        self.networks.iter().map(|network| network.weight_bytes() as u64).sum()
    }

    /// Labels `[z][y][x]` of an image, as nnU-Net's own predictor writes them.
    ///
    /// # Errors
    /// If the image does not have the model's channels or is not finite, a setting means nothing, logits overflow, or
    /// `watch` ends the work.
    pub fn segment(&self, image: &Image<'_>, settings: &Settings, watch: &dyn Watch) -> Result<Vec<u8>> {
        let (input, frame) = prepared(&self.configuration, image)?;
        let crop = frame.bounds.size();
        let labels = if crop == frame.grid_size {
            self.predicted(&frame, settings, watch, |prediction| prediction.labels(&input, &self.decision))?
        } else {
            let logits = GridLogits {
                values: self.predicted(&frame, settings, watch, |prediction| prediction.logits(&input))?,
                heads: self.heads,
                frame: frame.clone(),
            };
            drop(input);
            let separate = frame.separate_axis(self.configuration.probabilities.force_separate_z);
            export::labels(&logits.view()?, crop, separate, self.decision.exported(), settings.export)?
        };
        frame.restored(labels)
    }

    /// Logits of an image on the network's grid, for other ways back than nnU-Net's own.
    ///
    /// # Errors
    /// As [`Self::segment`].
    pub fn logits(&self, image: &Image<'_>, settings: &Settings, watch: &dyn Watch) -> Result<GridLogits> {
        let (input, frame) = prepared(&self.configuration, image)?;
        let values = self.predicted(&frame, settings, watch, |prediction| prediction.logits(&input))?;
        Ok(GridLogits { values, heads: self.heads, frame })
    }

    /// What the network sees of an image, `[channels][z][y][x]`, and where it lies.
    ///
    /// # Errors
    /// As [`Self::segment`].
    pub fn input(&self, image: &Image<'_>) -> Result<(Vec<f32>, Frame)> {
        prepared(&self.configuration, image)
    }

    /// How many runs of a network an image takes that is not cropped: windows, times folds, times mirrored ways.
    ///
    /// # Errors
    /// If there is no such image, or a setting means nothing.
    pub fn runs(&self, size: [usize; 3], spacing_mm: [f64; 3], settings: &Settings) -> Result<usize> {
        let upright = Orientation { axes: [0, 1, 2], flips: [false; 3] };
        let frame = Frame::new(&self.configuration, size, spacing_mm, upright)?;
        let windows = Windows::new(frame.grid_size, self.configuration.patch, settings.step)?;
        Ok(windows.count() * self.networks.len() * mirrored(&settings.mirror_axes)?.len())
    }

    /// Runs the networks over the windows of a frame's grid.
    fn predicted<T>(
        &self,
        frame: &Frame,
        settings: &Settings,
        watch: &dyn Watch,
        work: impl FnOnce(&Prediction<'_>) -> Result<T>,
    ) -> Result<T> {
        let windows = Windows::new(frame.grid_size, self.configuration.patch, settings.step)?;
        let mirrored = mirrored(&settings.mirror_axes)?;
        let result = work(&Prediction {
            networks: &self.networks,
            channels: self.channels,
            heads: self.heads,
            windows: &windows,
            map: &self.map,
            mirrored: &mirrored,
            watch,
            done: Cell::new(0),
        });
        // What comes next needs the memory for other things.
        self.engine.release();
        result
    }
}
