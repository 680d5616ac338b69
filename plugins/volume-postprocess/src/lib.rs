//! Stage `volume-postprocess`: smooths a volume along z, re-estimates it by a method, sharpens it in the plane.
#![deny(unsafe_code)]

pub mod along_z;
pub mod chain;
pub mod domain;
pub mod gaussian;
pub mod parallel;

use gantry_plugin::{Call, Error, Inputs, Outputs, Result, VolumeStage, export_plugin};

use chain::{Chain, Method, Sharpen, Volume};
use domain::{Compat, Stored};

/// Parameters, complete as the host hands them over.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Params {
    method: MethodName,
    smooth_z_sigma: f64,
    sigma_z: f64,
    sigma_xy: f64,
    sharpen: bool,
    amount: f64,
    radius_px: f64,
    protect_above_hu: f64,
    compat: Compat,
    stored_slope: f64,
    stored_intercept: f64,
}

#[derive(Debug, Clone, Copy, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
enum MethodName {
    Gaussian,
    Gaussian3d,
    Adaptive,
    Median,
    Interpolation,
    Kalman,
}

/// The stage.
pub struct VolumePostprocess {
    chain: Chain,
    /// In published mode: the stored values to work on.
    stored: Option<Stored>,
}

impl VolumeStage for VolumePostprocess {
    type Params = Params;

    fn create(params: Params) -> Result<Self> {
        let Params { sigma_z, sigma_xy, .. } = params;
        let method = match params.method {
            MethodName::Gaussian => Method::Gaussian { sigma_z },
            MethodName::Gaussian3d => Method::Gaussian3d { sigma_z, sigma_xy },
            MethodName::Adaptive => Method::Adaptive,
            MethodName::Median => Method::Median,
            MethodName::Interpolation => Method::Interpolation,
            MethodName::Kalman => Method::Kalman,
        };
        let stored = match params.compat {
            Compat::Corrected => None,
            Compat::Published => {
                Some(Stored::new(params.stored_slope, params.stored_intercept).map_err(Error::bad_params)?)
            }
        };
        let sharpen = params.sharpen.then_some(Sharpen { amount: params.amount, radius_px: params.radius_px });
        let protect_above = params.protect_above_hu;
        Ok(Self { chain: Chain { smooth_z_sigma: params.smooth_z_sigma, method, sharpen, protect_above }, stored })
    }

    fn process(&mut self, call: &Call, inputs: &Inputs, outputs: &mut Outputs) -> Result<()> {
        let image = inputs.image("image")?.voxels::<f32>()?;
        let inside = inputs.optional_labels("inside")?.map(|labels| labels.voxels::<u8>()).transpose()?;
        let mut out = outputs.image("image")?.voxels_mut::<f32>()?;
        let [channels, slices, rows, columns] = image.shape();
        if out.shape() != image.shape() {
            return Err(Error::internal("the output has another size than the input"));
        }
        if let Some(inside) = &inside
            && (inside.shape()[1..] != image.shape()[1..] || ![1, channels].contains(&inside.channels()))
        {
            let (found, expected) = (inside.shape(), image.shape());
            return Err(Error::bad_input("size-mismatch", format!("`inside` is {found:?}, and image is {expected:?}")));
        }
        if slices > 0 && slices < self.chain.method.least_slices() {
            let needed = self.chain.method.least_slices();
            return Err(Error::bad_input(
                "too-few-slices",
                format!("method interpolation needs at least {needed} slices, and image has {slices}"),
            ));
        }
        for (c, z) in image.planes() {
            if let Some(at) = image.plane(c, z).iter().position(|v| !v.is_finite()) {
                let (row, column) = (at / columns, at % columns);
                return Err(Error::bad_input(
                    "not-finite",
                    format!("image: channel {c}, slice {z}, row {row}, column {column} is not a finite number"),
                ));
            }
        }

        let threads = call.threads();
        let converted = if self.stored.is_some() { slices * rows * columns * 4 } else { 0 };
        let bytes = (self.chain.bytes([slices, rows, columns], threads) + converted) as i64;
        call.reserve(bytes)?;
        let mut planes = out.planes_mut().into_iter();
        let mut outcome = Ok(());
        for c in 0..channels {
            let input: Vec<&[f32]> = (0..slices).map(|z| image.plane(c, z)).collect();
            let of_channel: Vec<&mut [f32]> = planes.by_ref().take(slices).collect();
            let watch = |done: usize, total: usize| {
                call.progress((c * total + done) as u64, (channels * total) as u64);
                !call.cancelled()
            };
            outcome = match self.stored {
                None => {
                    let volume = Volume { planes: input.clone(), columns };
                    self.chain.run(&volume, of_channel, threads, &watch, |z, results, out: &mut [f32]| {
                        let inside = inside.as_ref().map(|i| i.plane(c.min(i.channels() - 1), z));
                        domain::keep_inside(results, input[z], inside, out);
                    })
                }
                Some(stored) => {
                    let mut values = Vec::with_capacity(slices * rows * columns);
                    input.iter().for_each(|plane| stored.from_hu(plane, &mut values));
                    let planes = values.chunks_exact((rows * columns).max(1)).collect();
                    let volume = Volume { planes, columns };
                    self.chain.run(&volume, of_channel, threads, &watch, |_, results, out: &mut [f32]| {
                        stored.truncated_to_hu(results, out);
                    })
                }
            };
            if outcome.is_err() {
                break;
            }
        }
        call.reserve(-bytes)?;
        if outcome.is_ok() {
            let steps = (3 * channels * slices) as u64;
            call.progress(steps, steps);
        }
        outcome.map_err(|parallel::Stopped| Error::Cancelled)
    }
}

export_plugin! { manifest: "../plugin.toml", stages: { "volume-postprocess" => volume VolumePostprocess } }
