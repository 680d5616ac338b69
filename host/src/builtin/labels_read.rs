//! `labels-read`: a label map from a NIfTI file or a DICOM segmentation that lies with the series of another node, proved
//! to be on its grid.

use std::collections::BTreeSet;
use std::path::Path;

use gantry_plugin::{Call, Error, Inputs, Label, Opening, Outputs, Result, SliceStage};
use serde::Deserialize;

use super::services::{Source, arriving, ask, copy_slices, refuse};
use crate::engine::beside_series;
use crate::series::nifti::{Limits, NiftiFile};
use crate::series::segmentation::{self, LabelMap};
use crate::series::{Geometry, SeriesRecord};

/// A label file's voxel centres may be this far from the series', millimetres.
const SAME_GRID_MM: f64 = 1e-3;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Params {
    #[expect(dead_code, reason = "becomes the link of input `of`")]
    of: String,
    path: String,
    optional: bool,
    labels: Vec<String>,
    segment: String,
}

struct LabelsRead {
    params: Params,
    /// `[z, y, x]`.
    voxels: Option<Vec<u8>>,
}

impl SliceStage for LabelsRead {
    type Params = Params;

    fn create(params: Params) -> Result<Self> {
        Ok(LabelsRead { params, voxels: None })
    }

    fn begin(&mut self, call: &Call, opening: &mut Opening) -> Result<()> {
        let grid = arriving(opening.inputs().image("of")?.geometry()?);
        let Some(mut labels) = opening.output("labels")? else { return Ok(()) };
        let Source { source, roots, .. } = ask(call, "gantry.source/1", "{}")?;
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
        if !segmentation::is_dicom(&path).map_err(refuse)? {
            self.voxels = Some(self.nifti(&path, &grid)?);
            return Ok(());
        }
        let map = self.segmentation(call, &path, &source, &grid)?;
        let background = Label::from((0, "background", 0));
        let rows = map.table.iter().map(|row| Label {
            value: row.value.into(),
            name: &row.name,
            scheme: &row.scheme,
            code: &row.code,
            rgba: row.rgba,
        });
        labels.set_labels(&std::iter::once(background).chain(rows).collect::<Vec<_>>());
        self.voxels = Some(map.voxels);
        Ok(())
    }

    fn process(&self, _: &Call, _: &Inputs, outputs: &mut Outputs) -> Result<()> {
        let Some(labels) = outputs.optional_labels("labels")? else { return Ok(()) };
        copy_slices(self.voxels.as_deref(), labels)
    }

    fn end(&mut self, _: &Call) -> Result<()> {
        self.voxels = None;
        Ok(())
    }
}

impl LabelsRead {
    fn nifti(&self, path: &Path, grid: &Geometry) -> Result<Vec<u8>> {
        if !self.params.segment.is_empty() {
            let text = "`segment` chooses a segment of a DICOM segmentation, and the file is none";
            return Err(Error::bad_input("labels-segment", text));
        }
        let volume = NiftiFile::open(path, Limits::default())
            .and_then(NiftiFile::labels::<u8>)
            .and_then(|volume| volume.reorient_to(grid, SAME_GRID_MM))
            .map_err(refuse)?;
        if volume.channels != 1 {
            let text = format!("expected one label map, found {} channels", volume.channels);
            return Err(Error::bad_input("labels-channels", text));
        }
        Ok(volume.voxels)
    }

    /// The labels of a segmentation under the names that the pipeline promises, if it does.
    fn segmentation(&self, call: &Call, path: &Path, source: &SeriesRecord, grid: &Geometry) -> Result<LabelMap> {
        let Params { segment, labels, .. } = &self.params;
        let mut map = segmentation::read(path, source, grid, segment, SAME_GRID_MM).map_err(refuse)?;
        if map.renamed > 0 {
            let text =
                format!("{} segments were named after the patient; they are called by their numbers", map.renamed);
            call.warn("labels-renamed", &text);
        }
        match (map.table.as_mut_slice(), labels.as_slice()) {
            (_, []) => {}
            // One segment that was asked for by number or name gets the name that the pipeline has for it.
            ([only], [name]) if !segment.is_empty() => only.name.clone_from(name),
            (found, promised) => {
                let same = found.iter().map(|row| row.name.as_str()).collect::<BTreeSet<_>>()
                    == promised.iter().map(String::as_str).collect();
                if !same {
                    // The names in the file are its own; only the pipeline's are told.
                    let text = format!(
                        "the segmentation has {} segments that are not all called as the pipeline says: {}",
                        found.len(),
                        promised.join(", ")
                    );
                    return Err(Error::bad_input("labels-names", text));
                }
            }
        }
        Ok(map)
    }
}

gantry_plugin::stage!("labels-read", slice, LabelsRead);
