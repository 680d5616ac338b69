//! `nifti-read`: one NIfTI image of the case, in LPS millimetres, on the grid as it is stored.

use gantry_plugin::{Call, Error, Inputs, Opening, Outputs, Result, SliceStage};
use serde::Deserialize;

use super::services::{Source, ask, outgoing, refuse};
use crate::series::nifti::{Limits, NiftiFile, NiftiVolume};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Params {
    #[expect(dead_code, reason = "a promise of the pipeline: the file does not say")]
    modality: String,
    #[expect(dead_code, reason = "a promise of the pipeline: the file does not say")]
    quantity: String,
    #[expect(dead_code, reason = "names the channel in the caps")]
    channel: String,
}

struct NiftiRead {
    volume: Option<NiftiVolume<f32>>,
}

impl SliceStage for NiftiRead {
    type Params = Params;

    fn create(_: Params) -> Result<Self> {
        Ok(NiftiRead { volume: None })
    }

    fn begin(&mut self, call: &Call, opening: &mut Opening) -> Result<()> {
        let Source { source, .. } = ask(call, "gantry.source/1", "{}")?;
        let file = source.instances.first().ok_or_else(|| Error::bad_input("nifti-open", "the case has no file"))?;
        let volume = NiftiFile::open(&file.path, Limits::default()).and_then(NiftiFile::image).map_err(refuse)?;
        if volume.channels != 1 {
            let text = format!("expected one image, found {} channels or time points", volume.channels);
            return Err(Error::bad_input("nifti-channels", text));
        }
        if let Some(mut image) = opening.output("image")? {
            image.set_geometry(&outgoing(&volume.geometry))?;
        }
        self.volume = Some(volume);
        Ok(())
    }

    fn process(&self, _: &Call, _: &Inputs, outputs: &mut Outputs) -> Result<()> {
        let volume = self.volume.as_ref().ok_or_else(|| Error::internal("not opened"))?;
        let image = outputs.image("image")?;
        let z0 = image.z0();
        let mut voxels = image.voxels_mut::<f32>()?;
        for k in 0..voxels.slices() {
            let plane = voxels.plane_mut(0, k);
            let from = (z0 + k) * plane.len();
            let source = volume
                .voxels
                .get(from..from + plane.len())
                .ok_or_else(|| Error::internal("a slice outside the file"))?;
            plane.copy_from_slice(source);
        }
        Ok(())
    }

    fn end(&mut self, _: &Call) -> Result<()> {
        self.volume = None;
        Ok(())
    }
}

gantry_plugin::stage!("nifti-read", slice, NiftiRead);
