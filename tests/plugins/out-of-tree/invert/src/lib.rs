use gantry_plugin::{Call, Inputs, Outputs, Result, SliceStage, export_plugin};

#[derive(serde::Deserialize)]
struct Invert {
    centre: f32,
}

impl SliceStage for Invert {
    type Params = Invert;
    fn create(params: Invert) -> Result<Self> {
        Ok(params)
    }
    fn process(&self, _: &Call, inputs: &Inputs, outputs: &mut Outputs) -> Result<()> {
        let image = inputs.image("image")?.voxels::<f32>()?;
        let mut out = outputs.image("image")?.voxels_mut::<f32>()?;
        for (c, z) in image.planes() {
            for (to, from) in out.plane_mut(c, z).iter_mut().zip(image.plane(c, z)) {
                *to = 2.0 * self.centre - from;
            }
        }
        Ok(())
    }
}
export_plugin! { manifest: "../plugin.toml", stages: { "org.example.invert" => slice Invert } }
