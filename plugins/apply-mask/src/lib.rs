//! Stage `apply-mask`: puts the voxels of another image, or one value, inside or outside a mask.
#![deny(unsafe_code)]

pub mod masking;

use std::sync::atomic::{AtomicBool, Ordering};

use gantry_plugin::{Call, Error, Inputs, Opening, Outputs, Ports, Result, SliceStage, export_plugin};

use masking::Inside;

/// Parameters, complete as the host hands them over.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Params {
    inside: Inside,
    value: f32,
}

/// The stage.
pub struct ApplyMask {
    params: Params,
    /// Whether this case was already said to have no mask.
    said: AtomicBool,
}

impl SliceStage for ApplyMask {
    type Params = Params;

    fn create(params: Params) -> Result<Self> {
        Ok(Self { params, said: AtomicBool::new(false) })
    }

    fn prepare(&mut self, _: &Call, ports: &Ports) -> Result<()> {
        if self.params.inside == Inside::Source && !ports.connected("source") {
            return Err(Error::bad_params("inside = \"source\" needs an image on port `source`"));
        }
        Ok(())
    }

    fn begin(&mut self, _: &Call, _: &mut Opening) -> Result<()> {
        *self.said.get_mut() = false;
        Ok(())
    }

    fn process(&self, call: &Call, inputs: &Inputs, outputs: &mut Outputs) -> Result<()> {
        let image = inputs.image("image")?.voxels::<f32>()?;
        let mut out = outputs.image("image")?.voxels_mut::<f32>()?;
        if out.shape() != image.shape() {
            return Err(Error::internal("the output has another size than the input"));
        }
        let Some(mask) = inputs.optional_labels("mask")? else {
            if !self.said.swap(true, Ordering::Relaxed) {
                call.info("no mask arrived: the image passes unchanged");
            }
            for (c, z) in image.planes() {
                out.plane_mut(c, z).copy_from_slice(image.plane(c, z));
            }
            return Ok(());
        };
        let mask = mask.voxels::<u8>()?;
        let source = inputs.optional_image("source")?.map(|s| s.voxels::<f32>()).transpose()?;
        if mask.shape()[1..] != image.shape()[1..] || ![1, image.channels()].contains(&mask.channels()) {
            let (found, expected) = (mask.shape(), image.shape());
            let text = format!("mask is {found:?}, and image is {expected:?} (channels, slices, rows, columns)");
            return Err(Error::bad_input("size-mismatch", text));
        }
        if let Some(source) = &source
            && source.shape() != image.shape()
        {
            let (found, expected) = (source.shape(), image.shape());
            let text = format!("source is {found:?}, and image is {expected:?} (channels, slices, rows, columns)");
            return Err(Error::bad_input("size-mismatch", text));
        }
        let Params { inside, value } = self.params;
        for (c, z) in image.planes() {
            let labels = mask.plane(c.min(mask.channels() - 1), z);
            let source = source.as_ref().map(|s| s.plane(c, z));
            masking::apply(image.plane(c, z), labels, source, inside, value, out.plane_mut(c, z))
                .map_err(|why| Error::bad_input("source-missing", why))?;
        }
        Ok(())
    }
}

export_plugin! { manifest: "../plugin.toml", stages: { "apply-mask" => slice ApplyMask } }
