//! Stage `denormalise`: leads a normalised image back to physical units by its own map.
#![deny(unsafe_code)]

pub mod inverse;

use gantry_plugin::{Call, Error, Inputs, Map, Outputs, Result, SliceStage, export_plugin};

use inverse::{Inverse, Normalisation, StoredGrid};

/// Parameters, complete as the host hands them over.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Params {
    normalisation: Normalisation,
    compat: Compat,
    stored_slope: f64,
    stored_intercept: f64,
}

#[derive(Debug, Clone, Copy, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
enum Compat {
    Corrected,
    Published,
}

/// The stage.
pub struct Denormalise {
    normalisation: Normalisation,
    /// In published mode: the integers that results are truncated to.
    stored: Option<StoredGrid>,
}

impl SliceStage for Denormalise {
    type Params = Params;

    fn create(params: Params) -> Result<Self> {
        let stored = match params.compat {
            Compat::Corrected => None,
            Compat::Published => {
                Some(StoredGrid::new(params.stored_slope, params.stored_intercept).map_err(Error::bad_params)?)
            }
        };
        Ok(Self { normalisation: params.normalisation, stored })
    }

    fn process(&self, _: &Call, inputs: &Inputs, outputs: &mut Outputs) -> Result<()> {
        let image = inputs.image("image")?;
        let voxels = image.voxels::<f32>()?;
        let (mut out, maps) = outputs.image("image")?.voxels_and_maps::<f32>()?;
        if out.shape() != voxels.shape() {
            return Err(Error::internal("the output has another size than the input"));
        }
        if maps.len() != voxels.channels() * voxels.slices() {
            return Err(Error::internal("the host made no maps for the output"));
        }
        for ((c, z), out_map) in voxels.planes().zip(maps) {
            let slice = image.z0() + z;
            let Some(map) = image.map(c, z) else {
                let text = format!("image: channel {c}, slice {slice} carries no map back to physical units");
                return Err(Error::bad_input("map-missing", text));
            };
            let inverse = Inverse::new(map.scale, map.offset, map.lo, map.hi, self.normalisation)
                .map_err(|why| Error::bad_input("map-unusable", format!("image: channel {c}, slice {slice}: {why}")))?;
            let plane = out.plane_mut(c, z);
            inverse.apply(voxels.plane(c, z), plane).map_err(|at| {
                let (row, column) = (at / voxels.columns(), at % voxels.columns());
                let text =
                    format!("image: channel {c}, slice {slice}, row {row}, column {column} is not a finite number");
                Error::bad_input("not-finite", text)
            })?;
            if let Some(stored) = &self.stored {
                stored.truncate(plane);
            }
            // Values are physical from here on; the range they are true for stays known.
            *out_map = Map { scale: 1.0, offset: 0.0, lo: map.lo, hi: map.hi };
        }
        Ok(())
    }
}

export_plugin! { manifest: "../plugin.toml", stages: { "denormalise" => slice Denormalise } }
