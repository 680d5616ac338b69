//! `dicom-write`: a derived DICOM series from the headers that arrive on the edge, one file a slice.

use dicom_object::InMemDicomObject;
use dicom_transfer_syntax_registry::entries::EXPLICIT_VR_LITTLE_ENDIAN;
use gantry_plugin::{Call, Error, Inputs, Opening, Outputs, Result, SliceStage};
use serde::Deserialize;

use super::derivation::Derivation;
use super::services::{padding, refuse};
use crate::series::derive::{self, DerivationContext, Rounding, SlicePixels, derive_instance};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Params {
    series_description: String,
    series_number: i32,
    rounding: String,
}

struct DicomWrite {
    params: Params,
    context: Option<DerivationContext>,
}

impl SliceStage for DicomWrite {
    type Params = Params;

    fn create(params: Params) -> Result<Self> {
        Ok(DicomWrite { params, context: None })
    }

    fn begin(&mut self, call: &Call, _: &mut Opening) -> Result<()> {
        let known = Derivation::ask(call)?;
        self.context = Some(known.context(&self.params.series_description, self.params.series_number)?);
        Ok(())
    }

    fn process(&self, call: &Call, inputs: &Inputs, _: &mut Outputs) -> Result<()> {
        let context = self.context.as_ref().ok_or_else(|| Error::internal("not opened"))?;
        let image = inputs.image("image")?;
        let voxels = image.voxels::<f32>()?;
        if voxels.channels() != 1 {
            return Err(Error::unsupported(format!("an image of {} channels as DICOM", voxels.channels())));
        }
        let headers = image.headers()?;
        if headers.datasets.len() != voxels.slices() {
            let text = "the image has no DICOM headers to derive from (it came from NIfTI, or was made from nothing)";
            return Err(Error::unsupported(text));
        }
        for (k, dataset) in headers.datasets.iter().enumerate() {
            call.go_on()?;
            let z = image.z0() + k;
            let header = InMemDicomObject::read_dataset_with_ts(*dataset, &EXPLICIT_VR_LITTLE_ENDIAN.erased())
                .map_err(|_| Error::bad_input("header", format!("the header of slice {z} cannot be read")))?;
            let padding: Vec<derive::PaddingRun> = padding(call, z)?
                .iter()
                .map(|r| derive::PaddingRun { start: r.first, len: r.count, stored: r.stored })
                .collect();
            let rounding = if self.params.rounding == "truncate" { Rounding::Truncate } else { Rounding::Nearest };
            let slice = SlicePixels { index: z, values: voxels.plane(0, k), padding: &padding, rounding, frame: None };
            let mut context = context.clone();
            if self.params.series_number == 0 {
                context.series_number = derived_series_number(&header);
            }
            let derived = derive_instance(&header, &context, &slice).map_err(refuse)?;
            if derived.clamped > 0 {
                let text = format!(
                    "slice {z}: {} voxels lay outside what the bits of a pixel hold and were clamped",
                    derived.clamped
                );
                call.warn("clamped", &text);
            }
            call.emit("file", &format!("{:04}.dcm", z + 1), &derived.to_bytes().map_err(refuse)?)?;
        }
        Ok(())
    }

    fn end(&mut self, _: &Call) -> Result<()> {
        self.context = None;
        Ok(())
    }
}

/// The arriving series' number plus 1000, where that stays a sensible number.
fn derived_series_number(header: &InMemDicomObject) -> i32 {
    let number = header.get(dicom_dictionary_std::tags::SERIES_NUMBER).and_then(|e| e.to_int::<i32>().ok());
    number.filter(|n| (0..1_000_000).contains(n)).map_or(1000, |n| n + 1000)
}

gantry_plugin::stage!("dicom-write", slice, DicomWrite);
