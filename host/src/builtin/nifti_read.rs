//! `nifti-read`: one NIfTI image of the case, in LPS millimetres, on the grid as it is stored.

use gantry_plugin::{Call, Error, Inputs, Opening, Outputs, Result, SliceStage};
use serde::Deserialize;

use super::services::{Source, ask, copy_slices, outgoing, refuse};
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
        copy_slices(self.volume.as_ref().map(|v| v.voxels.as_slice()), outputs.image("image")?)
    }

    fn end(&mut self, _: &Call) -> Result<()> {
        self.volume = None;
        Ok(())
    }
}

gantry_plugin::stage!("nifti-read", slice, NiftiRead);
