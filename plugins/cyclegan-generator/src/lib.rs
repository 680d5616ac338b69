//! The stage `cyclegan-generator`: slices through the DuCoSy generator, image and named masks in, image in [-1, 1] out.
//!
//! Slices are independent: a result depends neither on the batch nor on the number of threads. The maps back to physical
//! units follow the input (`like`), so the window travels with the image.
#![deny(unsafe_code)]

pub mod cuda_network;
pub mod network;
pub mod slice_size;

use gantry_neural::{ComputeDevice, NetworkCheckpoint, Precision, Workers};
use gantry_plugin::{Call, Error, Inputs, Opening, Outputs, Ports, Result, SliceStage, export_plugin};
use gantry_weights::Architecture;
use network::{Calibration, Sizes};
use slice_size::{SMALLEST, SliceSize};

// A library is for one device; the feature says for which.
#[cfg(feature = "cuda")]
use cuda_network::{CudaEngine as Engine, CudaGenerator as DucosyGenerator};
#[cfg(not(feature = "cuda"))]
use gantry_neural::Engine;
#[cfg(not(feature = "cuda"))]
use network::DucosyGenerator;

/// Parameters, complete and validated by the host.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// The checkpoint's name; the host hands over its files.
    #[serde(rename = "checkpoint")]
    _checkpoint: String,
    /// Arithmetic of the network: `auto`, `f32`, `f32x3`, `bf16` or `int8`.
    precision: String,
    /// Instructions of its kernels: `auto`, `amx`, `avx512`, `avx2` or `portable`.
    instructions: String,
}

impl Params {
    /// What the network computes with on this machine.
    ///
    /// # Errors
    /// If the machine lacks the instructions asked for, or the card.
    #[cfg(feature = "cuda")]
    fn engine(&self) -> Result<Engine> {
        Engine::open(&self.precision, &self.instructions)
    }

    /// What the network computes with on this machine.
    ///
    /// # Errors
    /// If the machine lacks the instructions asked for.
    #[cfg(not(feature = "cuda"))]
    fn engine(&self) -> Result<Engine> {
        let isa = gantry_neural::Isa::chosen(&self.instructions)?;
        let precision = Precision::named(&self.precision)
            .ok_or_else(|| Error::bad_params(format!("`{}` is no precision", self.precision)))?;
        Engine::new(isa, precision).map_err(|error| Error::bad_params(error.to_string()))
    }
}

/// The sizes and keys of the network, as data.
///
/// # Errors
/// If the embedded document is malformed.
pub fn architecture() -> Result<Architecture> {
    Architecture::parse(include_str!("../arch/ducosy-generator.toml"), "arch/ducosy-generator.toml")
        .map_err(|error| Error::internal(error.to_string()))
}

/// A generator with what its card says about its input.
pub struct Generator {
    network: DucosyGenerator,
    masks: Vec<String>,
    size: SliceSize,
}

impl Generator {
    /// Builds the network of a checkpoint, computed by `engine`.
    ///
    /// # Errors
    /// If its weights are not those of the network, its card contradicts them, or the engine computes in int8 and the
    /// card does not permit it.
    pub fn new(checkpoint: NetworkCheckpoint, engine: &Engine) -> Result<Self> {
        let bad = |error: &dyn std::fmt::Display| Error::bad_weights(error.to_string());
        let masks = checkpoint.masks()?;
        let size = match checkpoint.card.run.resize[..] {
            [] => SliceSize::Native,
            [rows, columns] if rows.min(columns) >= SMALLEST => SliceSize::Resized([rows, columns]),
            ref other => {
                return Err(Error::bad_weights(format!(
                    "card: `run.resize` expected [] or [rows, columns] of {SMALLEST} or more, found {other:?}"
                )));
            }
        };
        let sizes = Sizes::of(&checkpoint.hyper).map_err(|error| bad(&error))?;
        let calibration = match (engine.precision(), checkpoint.card.run.int8) {
            (Precision::Int8, Some(settings)) => settings.activations,
            (Precision::Int8, None) => return Err(Error::bad_params("card: without `[run.int8]` there is no int8")),
            _ => Calibration::new(),
        };
        let network =
            DucosyGenerator::new(engine, checkpoint.weights, sizes, &calibration).map_err(|error| bad(&error))?;
        Ok(Self { network, masks, size })
    }

    /// Names of the masks that follow the image, in channel order.
    pub fn masks(&self) -> &[String] {
        &self.masks
    }

    /// One slice of `size` `[rows, columns]`: image in [-1, 1], masks of 0 and not 0, to an image in [-1, 1].
    ///
    /// `go_on` is asked between layers and may end the work.
    ///
    /// # Errors
    /// If the slice is too small or not finite, the masks are too few or too many, or the result is not finite.
    pub fn slice(
        &self,
        image: &[f32],
        masks: &[&[u8]],
        size: [usize; 2],
        go_on: &dyn Fn() -> Result<()>,
    ) -> Result<Vec<f32>> {
        let [rows, columns] = size;
        if rows.min(columns) < SMALLEST {
            let text =
                format!("image: a slice of at least {SMALLEST} x {SMALLEST} px expected, found {rows} x {columns}");
            return Err(Error::bad_input("slice-too-small", text));
        }
        if masks.len() + 1 != self.network.channels() {
            let text = format!("masks: {} expected, {} arrived", self.network.channels() - 1, masks.len());
            return Err(Error::internal(text));
        }
        if image.iter().any(|x| !x.is_finite()) {
            return Err(Error::bad_input("not-finite", "image: holds NaN or infinity"));
        }
        let mut stopped = None;
        let network = |error: candle_core::Error| Error::internal(format!("network: {error}"));
        let input = self.size.enter(image, masks, size).map_err(network)?;
        let output = self.network.forward(&input, &mut |_, _, _| {
            go_on().map_err(|reason| {
                stopped = Some(reason);
                candle_core::Error::Msg("stopped".to_owned())
            })
        });
        if let Some(reason) = stopped {
            return Err(reason);
        }
        let output = self.size.leave(&output.map_err(network)?, size).map_err(network)?;
        match output.iter().filter(|x| !x.is_finite()).count() {
            0 => Ok(output),
            bad => {
                Err(Error::internal(format!("network: {bad} of {} output pixels are NaN or infinite", output.len())))
            }
        }
    }

    /// What `int8` needs to know of the layers, measured on one slice as [`Generator::slice`] takes it.
    ///
    /// # Errors
    /// If the slice does not fit the network.
    #[cfg(not(feature = "cuda"))]
    pub fn calibrate(&self, image: &[f32], masks: &[&[u8]], size: [usize; 2]) -> Result<Calibration> {
        let slice = self.size.enter(image, masks, size);
        let measured = slice.and_then(|slice| self.network.calibrate(&slice));
        measured.map_err(|error| Error::internal(format!("network: {error}")))
    }

    /// Bytes the network holds besides its input and output while it works on a slice of `size`: packed weights, and
    /// what lies between the layers. The widest layers, at full size, hold about seven blocks of 64 channels of f32 at
    /// a time; memory that narrower layers used stays for the next slice.
    fn bytes(&self, [rows, columns]: [usize; 2]) -> u64 {
        let [rows, columns] = match self.size {
            SliceSize::Native => [rows, columns],
            SliceSize::Resized(target) => target,
        };
        // 8 px are the rounding up and the borders.
        let plane = (rows as u64 + 8) * (columns as u64 + 8) * 4;
        self.network.weight_bytes() as u64 + 7 * plane * self.network.width().next_multiple_of(16) as u64
    }
}

/// The stage.
struct CycleganGenerator {
    params: Params,
    generator: Option<Generator>,
    workers: Workers,
}

impl SliceStage for CycleganGenerator {
    type Params = Params;

    fn create(params: Params) -> Result<Self> {
        Ok(Self { params, generator: None, workers: Workers::default() })
    }

    fn prepare(&mut self, call: &Call, _: &Ports) -> Result<()> {
        let checkpoint = NetworkCheckpoint::load(call, "checkpoint", &architecture()?, ComputeDevice::Cpu)?;
        let engine = self.params.engine()?;
        self.generator = Some(Generator::new(checkpoint, &engine)?);
        call.kernels(engine.precision().name(), engine.isa().name())
    }

    fn begin(&mut self, _: &Call, opening: &mut Opening) -> Result<()> {
        let generator = self.generator.as_ref().ok_or_else(not_prepared)?;
        let [_, _, rows, columns] = opening.inputs().image("image")?.shape();
        // Slices go through one at a time: a larger batch needs no more memory.
        let needs = opening.needs();
        needs.host_bytes = generator.bytes([rows, columns]);
        needs.host_bytes_per_slice = 0;
        Ok(())
    }

    fn end(&mut self, _: &Call) -> Result<()> {
        if let Some(generator) = &self.generator {
            generator.network.release();
        }
        Ok(())
    }

    fn process(&self, call: &Call, inputs: &Inputs, outputs: &mut Outputs) -> Result<()> {
        let generator = self.generator.as_ref().ok_or_else(not_prepared)?;
        let image = inputs.image("image")?.voxels::<f32>()?;
        if image.channels() != 1 {
            let text = format!("image: 1 channel expected, found {}", image.channels());
            return Err(Error::bad_input("channels", text));
        }
        let named = inputs.label_maps("masks")?;
        let found: Vec<&str> = named.iter().map(|mask| mask.name()).collect();
        if found != generator.masks {
            let text = format!("masks: expected {:?}, found {found:?}", generator.masks);
            return Err(Error::internal(text));
        }
        let masks = named.iter().map(|mask| mask.voxels::<u8>()).collect::<Result<Vec<_>>>()?;
        if let Some(mask) = masks.iter().find(|mask| mask.shape() != image.shape()) {
            let text = format!("masks: shape {:?} expected, found {:?}", image.shape(), mask.shape());
            return Err(Error::internal(text));
        }
        let mut out = outputs.image("image")?.voxels_mut::<f32>()?;
        if out.shape() != image.shape() {
            let text = format!("output: shape {:?} expected, found {:?}", image.shape(), out.shape());
            return Err(Error::internal(text));
        }
        let size = [image.rows(), image.columns()];
        let work = || -> Result<()> {
            for z in 0..image.slices() {
                call.go_on()?;
                let masks: Vec<&[u8]> = masks.iter().map(|mask| mask.plane(0, z)).collect();
                let slice = generator.slice(image.plane(0, z), &masks, size, &|| call.go_on())?;
                out.plane_mut(0, z).copy_from_slice(&slice);
                call.progress(z as u64 + 1, image.slices() as u64);
            }
            Ok(())
        };
        self.workers.run(call.threads(), work).map_err(|error| Error::resource(format!("threads: {error}")))?
    }
}

fn not_prepared() -> Error {
    Error::internal("the host did not call prepare")
}

export_plugin! { manifest: "../plugin.toml", stages: { "cyclegan-generator" => slice CycleganGenerator } }
