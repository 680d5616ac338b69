//! A stage with a bug: it panics where a voxel is 3000 HU.

use gantry_plugin::{Call, Inputs, Outputs, Result, SliceStage, export_plugin};

#[derive(serde::Deserialize)]
struct Panics {}

impl SliceStage for Panics {
    type Params = Panics;
    fn create(params: Panics) -> Result<Self> {
        Ok(params)
    }
    fn process(&self, _: &Call, inputs: &Inputs, outputs: &mut Outputs) -> Result<()> {
        let image = inputs.image("image")?.voxels::<f32>()?;
        let mut out = outputs.image("image")?.voxels_mut::<f32>()?;
        for (c, z) in image.planes() {
            assert!(image.plane(c, z)[0] != 3000.0, "the author did not think of this");
            out.plane_mut(c, z).copy_from_slice(image.plane(c, z));
        }
        Ok(())
    }
}
export_plugin! { manifest: "../plugin.toml", stages: { "org.example.panics" => slice Panics } }
