//! Stage `difference-map`: adds a predicted difference to an image.
#![deny(unsafe_code)]

pub mod difference;

use gantry_plugin::{Call, Error, Inputs, Outputs, Result, SliceStage, export_plugin};

use difference::Rule;

/// Parameters, complete as the host hands them over.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Params {
    threshold_hu: f32,
    maximum_hu: f32,
    compat: Compat,
}

#[derive(Debug, Clone, Copy, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
enum Compat {
    Corrected,
    Published,
}

/// The stage.
pub struct DifferenceMap {
    rule: Rule,
}

impl SliceStage for DifferenceMap {
    type Params = Params;

    fn create(Params { threshold_hu, maximum_hu, compat }: Params) -> Result<Self> {
        match compat {
            Compat::Published => Ok(Self { rule: Rule::Published { threshold_hu } }),
            Compat::Corrected if maximum_hu >= threshold_hu => {
                Ok(Self { rule: Rule::Corrected { threshold_hu, maximum_hu } })
            }
            Compat::Corrected => Err(Error::bad_params(format!(
                "maximum_hu is {maximum_hu}, which must not be below threshold_hu, {threshold_hu}"
            ))),
        }
    }

    fn process(&self, _: &Call, inputs: &Inputs, outputs: &mut Outputs) -> Result<()> {
        let image = inputs.image("image")?;
        let z0 = image.z0();
        let image = image.voxels::<f32>()?;
        let difference = inputs.image("difference")?.voxels::<f32>()?;
        let mut out = outputs.image("image")?.voxels_mut::<f32>()?;
        if difference.shape() != image.shape() {
            let (found, expected) = (difference.shape(), image.shape());
            let text = format!("difference is {found:?}, and image is {expected:?} (channels, slices, rows, columns)");
            return Err(Error::bad_input("size-mismatch", text));
        }
        if out.shape() != image.shape() {
            return Err(Error::internal("the output has another size than the input"));
        }
        for (c, z) in image.planes() {
            let (plane, by) = (image.plane(c, z), difference.plane(c, z));
            difference::add(plane, by, self.rule, out.plane_mut(c, z)).map_err(|at| {
                let port = if plane[at].is_finite() { "difference" } else { "image" };
                let (slice, row, column) = (z0 + z, at / image.columns(), at % image.columns());
                let text =
                    format!("{port}: channel {c}, slice {slice}, row {row}, column {column} is not a finite number");
                Error::bad_input("not-finite", text)
            })?;
        }
        Ok(())
    }
}

export_plugin! { manifest: "../plugin.toml", stages: { "difference-map" => slice DifferenceMap } }
