//! `dicom-read`: one DICOM series of the case, slice by slice: voxels in physical units, geometry, headers, padding.

use dicom_object::InMemDicomObject;
use dicom_transfer_syntax_registry::entries::EXPLICIT_VR_LITTLE_ENDIAN;
use gantry_plugin::{Call, Error, Inputs, Opening, Outputs, Result, SliceStage};
use serde::Deserialize;
use serde_json::json;

use super::services::{Source, ask, outgoing, refuse};
use crate::engine::{Padding, PaddingRun};
use crate::series::{DecodedSlice, SeriesRecord, SliceReader};

/// What stands in the place of padding for everybody downstream: air, in Hounsfield units.
const AIR_HU: f32 = -1024.0;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Params {
    #[expect(dead_code, reason = "a promise of the pipeline: checked when the case is put together")]
    modality: String,
    quantity: String,
    #[expect(dead_code, reason = "names the channel in the caps")]
    channel: String,
    #[expect(dead_code, reason = "what the scan may mend")]
    repair: Vec<String>,
    #[expect(dead_code, reason = "faults that are accepted when the case is put together")]
    allow: Vec<String>,
}

struct DicomRead {
    params: Params,
    record: Option<SeriesRecord>,
}

impl SliceStage for DicomRead {
    type Params = Params;

    fn create(params: Params) -> Result<Self> {
        Ok(DicomRead { params, record: None })
    }

    fn begin(&mut self, call: &Call, opening: &mut Opening) -> Result<()> {
        let Source { source, .. } = ask(call, "gantry.source/1", "{}")?;
        let geometry =
            source.geometry.as_ref().ok_or_else(|| Error::bad_input("geometry", "the series has no geometry"))?;
        if let Some(mut image) = opening.output("image")? {
            image.set_geometry(&outgoing(geometry))?;
        }
        self.record = Some(source);
        Ok(())
    }

    fn process(&self, call: &Call, _: &Inputs, outputs: &mut Outputs) -> Result<()> {
        let record = self.record.as_ref().ok_or_else(|| Error::internal("not opened"))?;
        let reader = SliceReader::new(record);
        let image = outputs.image("image")?;
        let z0 = image.z0();
        let mut voxels = image.voxels_mut::<f32>()?;
        for k in 0..voxels.slices() {
            call.go_on()?;
            let slice = reader.read(z0 + k).map_err(refuse)?;
            let plane = voxels.plane_mut(0, k);
            if slice.hu.len() != plane.len() {
                return Err(Error::bad_input(
                    "slice-size",
                    format!("slice {} has another size than the first", z0 + k),
                ));
            }
            plane.copy_from_slice(&slice.hu);
            self.padding(call, &slice, z0 + k, plane)?;
            call.emit("image", "", &dataset(&slice.header)?)?;
            for warning in &slice.warnings {
                call.warn(&warning.code, &warning.text);
            }
        }
        Ok(())
    }

    fn end(&mut self, _: &Call) -> Result<()> {
        self.record = None;
        Ok(())
    }
}

impl DicomRead {
    /// Puts air in the place of padding and tells the host what was there, so that the writer can put it back.
    fn padding(&self, call: &Call, slice: &DecodedSlice, z: usize, plane: &mut [f32]) -> Result<()> {
        let Some(padding) = &slice.padding else { return Ok(()) };
        let mut runs: Vec<PaddingRun> = Vec::new();
        for pixel in padding.runs.iter().flat_map(Clone::clone) {
            // One padding value stands in the header as the file has it, even where it does not fit the stored bits.
            let (low, high) = padding.range;
            let stored = if low == high { low } else { slice.stored[pixel] };
            let physical = slice.hu[pixel];
            match runs.last_mut() {
                Some(run) if run.first + run.count == pixel && run.stored == stored => run.count += 1,
                _ => runs.push(PaddingRun { first: pixel, count: 1, stored, physical }),
            }
        }
        if runs.is_empty() {
            return Ok(());
        }
        let padded = |i: usize| padding.runs.iter().any(|r| r.contains(&i));
        let replacement = match self.params.quantity.as_str() {
            "hu" => AIR_HU,
            _ => plane.iter().enumerate().filter(|(i, _)| !padded(*i)).map(|(_, v)| *v).fold(f32::INFINITY, f32::min),
        };
        let replacement = if replacement.is_finite() { replacement } else { 0.0 };
        for run in &runs {
            plane[run.first..run.first + run.count].fill(replacement);
        }
        let request = json!({ "set": [Padding { z, runs }] }).to_string();
        call.service("gantry.padding/1", &request)?;
        Ok(())
    }
}

/// A header as it travels: Explicit VR Little Endian, without pixels and file meta.
fn dataset(header: &InMemDicomObject) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    header
        .write_dataset_with_ts(&mut bytes, &EXPLICIT_VR_LITTLE_ENDIAN.erased())
        .map_err(|_| Error::bad_input("dicom-encode", "a header cannot be written in its character set"))?;
    Ok(bytes)
}

gantry_plugin::stage!("dicom-read", slice, DicomRead);
