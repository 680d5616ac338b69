//! `labels-read`: a label map from a NIfTI file that lies with the series of another node, proved to be on its grid.

use gantry_plugin::{Call, Error, Inputs, Opening, Outputs, Result, SliceStage};
use serde::Deserialize;

use super::services::{Source, arriving, ask, copy_slices, refuse};
use crate::engine::beside_series;
use crate::series::nifti::{Limits, NiftiFile, NiftiVolume};

/// A label file's voxel centres may be this far from the series', millimetres.
const SAME_GRID_MM: f64 = 1e-3;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Params {
    #[expect(dead_code, reason = "becomes the link of input `of`")]
    of: String,
    path: String,
    optional: bool,
    #[expect(dead_code, reason = "names the labels in the caps")]
    labels: Vec<String>,
}

struct LabelsRead {
    params: Params,
    volume: Option<NiftiVolume<u8>>,
}

impl SliceStage for LabelsRead {
    type Params = Params;

    fn create(params: Params) -> Result<Self> {
        Ok(LabelsRead { params, volume: None })
    }

    fn begin(&mut self, call: &Call, opening: &mut Opening) -> Result<()> {
        let grid = arriving(opening.inputs().image("of")?.geometry()?);
        let Some(mut labels) = opening.output("labels")? else { return Ok(()) };
        let Source { source, roots } = ask(call, "gantry.source/1", "{}")?;
        let path = beside_series(&source, &self.params.path, &roots)
            .map_err(|failure| Error::bad_input(&failure.code, failure.text))?;
        if !path.exists() {
            if self.params.optional {
                call.warn("labels-absent", "this case has no label file; it goes on without");
                labels.absent();
                return Ok(());
            }
            return Err(Error::bad_input("labels-missing", "this case has no label file"));
        }
        let volume = NiftiFile::open(&path, Limits::default())
            .and_then(NiftiFile::labels::<u8>)
            .and_then(|volume| volume.reorient_to(&grid, SAME_GRID_MM))
            .map_err(refuse)?;
        if volume.channels != 1 {
            let text = format!("expected one label map, found {} channels", volume.channels);
            return Err(Error::bad_input("labels-channels", text));
        }
        self.volume = Some(volume);
        Ok(())
    }

    fn process(&self, _: &Call, _: &Inputs, outputs: &mut Outputs) -> Result<()> {
        let Some(labels) = outputs.optional_labels("labels")? else { return Ok(()) };
        copy_slices(self.volume.as_ref(), labels)
    }

    fn end(&mut self, _: &Call) -> Result<()> {
        self.volume = None;
        Ok(())
    }
}

gantry_plugin::stage!("labels-read", slice, LabelsRead);
