//! Stage `hu-window`: clips Hounsfield units to a window and scales them to [-1, 1].
#![deny(unsafe_code)]

pub mod window;

use gantry_plugin::{Call, Error, Inputs, Map, Outputs, Result, SliceStage, export_plugin};

use window::{Normalisation, Window};

/// Parameters, complete as the host hands them over.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Params {
    hu_min: f64,
    hu_max: f64,
    normalisation: Normalisation,
}

/// The stage.
pub struct HuWindow {
    window: Window,
}

impl SliceStage for HuWindow {
    type Params = Params;

    fn create(params: Params) -> Result<Self> {
        let window = Window::new(params.hu_min, params.hu_max, params.normalisation).map_err(Error::bad_params)?;
        Ok(Self { window })
    }

    fn process(&self, _: &Call, inputs: &Inputs, outputs: &mut Outputs) -> Result<()> {
        let image = inputs.image("image")?;
        let z0 = image.z0();
        let image = image.voxels::<f32>()?;
        let (mut out, maps) = outputs.image("image")?.voxels_and_maps::<f32>()?;
        if out.shape() != image.shape() {
            return Err(Error::internal("the output has another size than the input"));
        }
        if maps.len() != image.channels() * image.slices() {
            return Err(Error::internal("the host made no maps for the way back to HU"));
        }
        for (c, z) in image.planes() {
            self.window.normalise(image.plane(c, z), out.plane_mut(c, z)).map_err(|at| {
                let (row, column) = (at / image.columns(), at % image.columns());
                let text =
                    format!("image: channel {c}, slice {}, row {row}, column {column} is not a finite number", z0 + z);
                Error::bad_input("not-finite", text)
            })?;
        }
        let (scale, offset) = self.window.scale_and_offset_hu();
        maps.fill(Map { scale, offset, lo: f64::from(self.window.lo_hu()), hi: f64::from(self.window.hi_hu()) });
        Ok(())
    }
}

export_plugin! { manifest: "../plugin.toml", stages: { "hu-window" => slice HuWindow } }
