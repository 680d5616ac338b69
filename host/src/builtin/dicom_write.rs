//! `dicom-write`: a derived DICOM series from the headers that arrive on the edge, one file a slice.

use dicom_object::InMemDicomObject;
use dicom_transfer_syntax_registry::entries::EXPLICIT_VR_LITTLE_ENDIAN;
use gantry_plugin::{Call, Error, Inputs, Opening, Outputs, Result, SliceStage};
use serde::Deserialize;

use super::services::{ask, padding, refuse};
use crate::series::derive::{
    self, DerivationCodes, DerivationContext, ModelReference, Nature, Rounding, SlicePixels, derive_instance,
};
use crate::series::uid::UidMaker;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Params {
    series_description: String,
    series_number: i32,
    rounding: String,
}

/// The answer of `gantry.derive/1`.
#[derive(Deserialize)]
struct Derivation {
    pipeline: String,
    plan_digest: String,
    case_digest: String,
    sink: String,
    run_time: jiff::Timestamp,
    nature: String,
    toy: bool,
    models: Vec<Model>,
    stages: Vec<String>,
    deidentified: bool,
    repaired: bool,
    gantry: String,
    uid_secret: Option<String>,
}

#[derive(Deserialize)]
struct Model {
    name: String,
    sha256: String,
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
        let known: Derivation = ask(call, "gantry.derive/1", "{}")?;
        self.context = Some(self.context(known)?);
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

impl DicomWrite {
    fn context(&self, known: Derivation) -> Result<DerivationContext> {
        let secret = match &known.uid_secret {
            None => None,
            Some(text) => {
                let bytes = hex::decode(text).ok().and_then(|b| <[u8; 32]>::try_from(b).ok());
                Some(bytes.ok_or_else(|| Error::service("gantry.derive/1: the secret is not 32 bytes"))?)
            }
        };
        let nature = match known.nature.as_str() {
            "synthetic" => Nature::Synthetic,
            "enhanced" => Nature::Enhanced,
            "derived" => Nature::Derived,
            other => return Err(Error::service(format!("gantry.derive/1: unknown nature `{other}`"))),
        };
        let description = match self.params.series_description.as_str() {
            "" => known.pipeline.clone(),
            given => given.to_owned(),
        };
        let models = known.models.into_iter();
        let software =
            [format!("gantry {}", known.gantry), format!("plan {}", known.plan_digest.get(..16).unwrap_or_default())];
        Ok(DerivationContext {
            uids: UidMaker::new(secret.as_ref(), &known.plan_digest, &known.case_digest, &known.sink),
            run_time: known.run_time,
            series_number: self.params.series_number,
            series_description: description,
            pipeline: known.pipeline,
            nature,
            toy: known.toy,
            models: models.map(|m| ModelReference { name: m.name, version: String::new(), sha256: m.sha256 }).collect(),
            codes: DerivationCodes::default(),
            contrast_removed: false,
            deidentified_by_gantry: known.deidentified,
            software_versions: software
                .into_iter()
                .chain(known.stages.into_iter().map(|s| s.chars().take(64).collect()))
                .collect(),
            lossy_source: false,
            repair: known.repaired,
        })
    }
}

gantry_plugin::stage!("dicom-write", slice, DicomWrite);
