//! Stage `template`: multiplies Hounsfield units by a factor. The smallest plugin; copy the folder to begin your own.
#![deny(unsafe_code)]

use gantry_plugin::{Call, Inputs, Outputs, Result, SliceStage, export_plugin};

/// The stage, which here is no more than its parameters. They come complete and within their ranges.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Template {
    factor: f32,
}

impl SliceStage for Template {
    type Params = Self;

    fn create(params: Self) -> Result<Self> {
        Ok(params)
    }

    fn process(&self, _: &Call, inputs: &Inputs, outputs: &mut Outputs) -> Result<()> {
        let image = inputs.image("image")?.voxels::<f32>()?;
        let mut out = outputs.image("image")?.voxels_mut::<f32>()?;
        for (c, z) in image.planes() {
            scale(image.plane(c, z), self.factor, out.plane_mut(c, z));
        }
        Ok(())
    }
}

fn scale(from_hu: &[f32], factor: f32, to_hu: &mut [f32]) {
    to_hu.iter_mut().zip(from_hu).for_each(|(to, from)| *to = from * factor);
}

export_plugin! { manifest: "../plugin.toml", stages: { "template" => slice Template } }

#[test]
fn every_voxel_is_multiplied() {
    let mut out = [f32::NAN; 3];
    scale(&[-1000.0, 0.0, 40.5], -2.0, &mut out);
    assert_eq!(out, [2000.0, 0.0, -81.0]);
}
