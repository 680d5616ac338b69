//! `seg-write`: a label map as a DICOM Segmentation of the series whose headers arrive on the edge.

use dicom_dictionary_std::tags;
use dicom_object::InMemDicomObject;
use dicom_transfer_syntax_registry::entries::EXPLICIT_VR_LITTLE_ENDIAN;
use gantry_plugin::{Call, Error, Image, Inputs, Opening, Outputs, Result, VolumeStage};
use serde::Deserialize;

use super::derivation::Derivation;
use super::services::{arriving, refuse};
use crate::series::header;
use crate::series::segmentation::{
    Algorithm, AlgorithmType, Category, Encoding, Segment, SegmentationContext, content_label, write,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Params {
    encoding: String,
    name: String,
    series_description: String,
    series_number: i32,
    content_label: String,
    category: Category,
    algorithm_type: AlgorithmType,
    algorithm_name: String,
    algorithm_version: String,
}

struct SegWrite {
    params: Params,
    context: Option<SegmentationContext>,
}

impl VolumeStage for SegWrite {
    type Params = Params;

    fn create(params: Params) -> Result<Self> {
        content_label(&params.content_label).map_err(|fault| Error::bad_params(fault.text))?;
        Ok(SegWrite { params, context: None })
    }

    fn begin(&mut self, call: &Call, _: &mut Opening) -> Result<()> {
        let known = Derivation::ask(call)?;
        let serial = known.plan().to_owned();
        let params = &self.params;
        self.context = Some(SegmentationContext {
            derivation: known.context(&params.series_description, params.series_number)?,
            encoding: if params.encoding == "labelmap" { Encoding::Labelmap } else { Encoding::Binary },
            category: params.category,
            content_label: params.content_label.clone(),
            algorithm: Algorithm {
                kind: params.algorithm_type,
                name: params.algorithm_name.clone(),
                version: params.algorithm_version.clone(),
            },
            serial,
        });
        Ok(())
    }

    fn process(&mut self, call: &Call, inputs: &Inputs, _: &mut Outputs) -> Result<()> {
        let mut context = self.context.take().ok_or_else(|| Error::internal("not opened"))?;
        let labels = inputs.labels("labels")?;
        let voxels = labels.voxels::<u8>()?;
        if voxels.channels() != 1 {
            return Err(Error::unsupported(format!("a label map of {} channels as a segmentation", voxels.channels())));
        }
        let headers = headers(&inputs.image("image")?)?;
        if self.params.series_number == 0 {
            context.derivation.series_number = series_number(headers.first());
        }
        call.go_on()?;
        let slices: Vec<&[u8]> = (0..voxels.slices()).map(|z| voxels.plane(0, z)).collect();
        let grid = arriving(labels.geometry()?);
        let written = write(&headers, &slices, &grid, &table(&labels), &context).map_err(refuse)?;
        if written.voxels.iter().all(|&n| n == 0) {
            call.warn("nothing-segmented", "no voxel has a label: the segmentation says that nothing is there");
        }
        if !written.referenced {
            let text = "the headers do not name an image a slice: the segmentation names no source images";
            call.warn("source-unreferenced", text);
        }
        call.emit("file", &format!("{}.dcm", self.params.name), &written.bytes)
    }

    fn end(&mut self, _: &Call) -> Result<()> {
        self.context = None;
        Ok(())
    }
}

/// The headers that arrive, parsed.
fn headers(image: &Image) -> Result<Vec<InMemDicomObject>> {
    let arrived = image.headers()?.datasets;
    if arrived.is_empty() {
        let text = "the image has no DICOM headers to derive from (it came from NIfTI, or was made from nothing)";
        return Err(Error::unsupported(text));
    }
    let parse = |(z, dataset): (usize, &&[u8])| {
        InMemDicomObject::read_dataset_with_ts(*dataset, &EXPLICIT_VR_LITTLE_ENDIAN.erased())
            .map_err(|_| Error::bad_input("header", format!("the header of slice {z} cannot be read")))
    };
    arrived.iter().enumerate().map(parse).collect()
}

/// Rows of the label table that a voxel of 8 bits can have.
fn table(labels: &Image) -> Vec<Segment> {
    let rows = labels.label_table().into_iter();
    rows.filter_map(|row| {
        Some(Segment {
            value: u8::try_from(row.value).ok()?,
            name: row.name.to_owned(),
            scheme: row.scheme.to_owned(),
            code: row.code.to_owned(),
            rgba: row.rgba,
        })
    })
    .collect()
}

/// The arriving series' number plus 2000, where that stays a sensible number.
fn series_number(header: Option<&InMemDicomObject>) -> i32 {
    let number = header.and_then(|h| header::integer(h, tags::SERIES_NUMBER));
    number.filter(|n| (0..1_000_000).contains(n)).map_or(2000, |n| n + 2000)
}

gantry_plugin::stage!("seg-write", volume, SegWrite);
