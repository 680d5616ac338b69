//! Stage `anatomical-masks`: lung, mediastinum, bone and lung-vessel masks of chest CT slices.
#![deny(unsafe_code)]

pub mod anatomy;
pub mod hull;
pub mod mask;

use gantry_plugin::{Call, Error, Inputs, Outputs, Result, SliceStage, export_plugin};

use anatomy::{Rules, Wanted};

/// Parameters, complete as the host hands them over.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Params {
    compat: Compat,
    frame_mm: f64,
    minimum_mm2: f64,
}

#[derive(Debug, Clone, Copy, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
enum Compat {
    Corrected,
    Published,
}

/// The stage.
pub struct AnatomicalMasks {
    params: Params,
}

impl AnatomicalMasks {
    /// The rules for pixels of this size.
    fn rules(&self, spacing_mm: [f64; 3]) -> Result<Rules> {
        let Params { compat, frame_mm, minimum_mm2 } = self.params;
        match compat {
            Compat::Published => Ok(Rules::Published),
            Compat::Corrected => {
                let [_, y, x] = spacing_mm;
                // A few micrometres to a few centimetres; anything else is a lost or broken geometry.
                if [y, x].iter().all(|s| (1e-3..=50.0).contains(s)) {
                    Ok(Rules::Corrected { frame_mm, minimum_mm2, spacing_mm: [y, x] })
                } else {
                    let text = format!("image: pixels of {y} x {x} mm cannot be, and sizes depend on them");
                    Err(Error::bad_input("bad-spacing", text))
                }
            }
        }
    }
}

impl SliceStage for AnatomicalMasks {
    type Params = Params;

    fn create(params: Params) -> Result<Self> {
        Ok(Self { params })
    }

    fn process(&self, call: &Call, inputs: &Inputs, outputs: &mut Outputs) -> Result<()> {
        let image = inputs.image("image")?;
        let rules = self.rules(image.geometry()?.spacing_mm())?;
        let voxels = image.voxels::<f32>()?;
        if voxels.channels() != 1 {
            let text = format!("image: {} channels, and masks are made of one", voxels.channels());
            return Err(Error::bad_input("channels", text));
        }
        let mut masks = Vec::with_capacity(4);
        for port in ["lung", "mediastinum", "bone", "lung_vessel"] {
            let labels = outputs.optional_labels(port)?.map(|o| o.voxels_mut::<u8>()).transpose()?;
            if labels.as_ref().is_some_and(|l| l.shape() != voxels.shape()) {
                return Err(Error::internal(format!("output `{port}` has another size than the input")));
            }
            masks.push(labels);
        }
        let wants = |port: usize| masks[port].is_some();
        let wanted = Wanted { lung: wants(0), mediastinum: wants(1), bone: wants(2), lung_vessel: wants(3) };
        if wanted == Wanted::default() {
            return Ok(());
        }
        for z in 0..voxels.slices() {
            call.go_on()?;
            let found =
                anatomy::find(voxels.plane(0, z), voxels.rows(), voxels.columns(), rules, wanted).map_err(|at| {
                    let (slice, row, column) = (image.z0() + z, at / voxels.columns(), at % voxels.columns());
                    let text = format!("image: slice {slice}, row {row}, column {column} is not a finite number");
                    Error::bad_input("not-finite", text)
                })?;
            let found = [found.lung, found.mediastinum, found.bone, found.lung_vessel];
            for (labels, mask) in masks.iter_mut().zip(found) {
                if let (Some(labels), Some(mask)) = (labels, mask) {
                    mask.write_labels(labels.plane_mut(0, z));
                }
            }
        }
        Ok(())
    }
}

export_plugin! { manifest: "../plugin.toml", stages: { "anatomical-masks" => slice AnatomicalMasks } }
